//! A file as a block device with logical blocks of a given size: what a disk with 4 KiB sectors (4Kn) is to the daemon.

use crate::tools::run;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// The device. Dropped, it goes; the file stays.
#[derive(Debug)]
pub struct LoopDisk {
    device: PathBuf,
}

impl LoopDisk {
    /// Makes it of a file. Needs root.
    #[track_caller]
    pub fn new(file: &Path, block_bytes: u32) -> LoopDisk {
        let blocks = block_bytes.to_string();
        let options = ["--direct-io=on", "-b", &blocks, "-f", "--show"].map(OsStr::new);
        let arguments = options.into_iter().chain([file.as_os_str()]);
        let disk = LoopDisk { device: run("losetup", arguments, PATIENCE).ok().trim().into() };
        // The kernel keeps the setting when the device is let go of: of one that was another's before it is his.
        let all = std::fs::read_to_string(disk.setting("discard_max_hw_bytes")).expect("a setting of the kernel's");
        disk.limit_discards(all.trim());
        disk
    }

    fn setting(&self, name: &str) -> PathBuf {
        let device = self.device.file_name().expect("a device's name").to_string_lossy();
        format!("/sys/block/{device}/queue/{name}").into()
    }

    #[track_caller]
    fn limit_discards(&self, bytes: &str) {
        std::fs::write(self.setting("discard_max_bytes"), bytes).expect("a setting of the kernel's");
    }

    /// From now on it can't give space back.
    #[track_caller]
    pub fn refuse_discards(&self) {
        self.limit_discards("0");
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // The kernel lets go of it when the last who has it open does.
        let _ = run("losetup", [OsStr::new("-d"), self.device.as_os_str()], PATIENCE);
    }
}
