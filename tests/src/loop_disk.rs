//! A file as a block device with logical blocks of a given size: what a disk with 4 KiB sectors (4Kn) is to the daemon.

use crate::tools::run;
use crate::{Cluster, ClusterOptions};
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod ioctl {
    /// Of `linux/loop.h`.
    const LOOP_CTL_REMOVE: i32 = 0x4C81;
    nix::ioctl_write_int_bad!(
        /// Removes the device of that number, if nobody has it open.
        loop_ctl_remove,
        LOOP_CTL_REMOVE
    );
}

const PATIENCE: Duration = Duration::from_secs(60);
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

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
        for _ in 0..TRIES {
            let disk = LoopDisk { device: run("losetup", arguments.clone(), PATIENCE).ok().trim().into() };
            // The kernel remembers what a device was to be like, whoever has it next, and takes nothing else.
            let discards = disk.setting("discard_max_bytes") == disk.setting("discard_max_hw_bytes");
            if discards && disk.setting("write_cache").trim() == "write back" {
                return disk;
            }
            disk.forget();
        }
        panic!("{TRIES} times a loop device that isn't as it is made");
    }

    /// A prepared cluster on block devices with such logical blocks: alpha's, beta's.
    pub fn under_a_cluster(block_bytes: [u32; 2]) -> (Cluster, [LoopDisk; 2]) {
        let mut cluster = Cluster::prepare(&ClusterOptions::default());
        let disks = [0, 1].map(|node| {
            let disk = LoopDisk::new(&[&cluster.alpha, &cluster.beta][node].disk(), block_bytes[node]);
            cluster.config.nodes[node].volumes[0].disk = disk.path().to_owned();
            disk
        });
        cluster.write_config();
        (cluster, disks)
    }

    /// Has the kernel make the device anew when it is needed next.
    #[track_caller]
    fn forget(self) {
        let number = self.name().strip_prefix("loop").and_then(|number| number.parse().ok()).expect("a number");
        drop(self);
        let control = std::fs::File::open("/dev/loop-control").expect("the driver of loop devices");
        // SAFETY: it takes a number, and reads and writes nothing of ours.
        if let Err(error) = unsafe { ioctl::loop_ctl_remove(control.as_raw_fd(), number) } {
            // Who has it open lets go of it soon, or somebody else has it now.
            eprintln!("loop device {number} isn't removed: {error}");
            std::thread::sleep(PAUSE);
        }
    }

    fn name(&self) -> &str {
        self.device.file_name().and_then(OsStr::to_str).expect("a device's name")
    }

    fn setting_file(&self, name: &str) -> String {
        format!("/sys/block/{}/queue/{name}", self.name())
    }

    #[track_caller]
    fn setting(&self, name: &str) -> String {
        std::fs::read_to_string(self.setting_file(name)).expect("a setting of the kernel's")
    }

    /// From now on it can't give space back.
    #[track_caller]
    pub fn refuse_discards(&self) {
        std::fs::write(self.setting_file("discard_max_bytes"), "0").expect("a setting of the kernel's");
    }

    /// From now on the kernel takes it for one without a volatile cache, or no more.
    #[track_caller]
    pub fn set_cache(&self, volatile: bool) {
        let word = if volatile { "write back" } else { "write through" };
        std::fs::write(self.setting_file("write_cache"), word).expect("a setting of the kernel's");
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
