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
        LoopDisk { device: run("losetup", arguments, PATIENCE).ok().trim().into() }
    }

    /// From now on it can't give space back.
    #[track_caller]
    pub fn refuse_discards(&self) {
        let name = self.device.file_name().expect("a device's name").to_string_lossy();
        std::fs::write(format!("/sys/block/{name}/queue/discard_max_bytes"), "0").expect("a setting of the kernel's");
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
