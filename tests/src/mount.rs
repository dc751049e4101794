//! A file system on an export without a kernel block driver: `nbdfuse` shows the export as a file, a loop device makes
//! that a disk.
//!
//! When the server of an export ends, `nbdfuse` aborts and the mount is lost: that is its nature, not the daemon's.

use crate::process::Running;
use crate::tools::{run, server};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

/// An export as a loop device.
#[derive(Debug)]
pub struct LoopDevice {
    device: String,
    folder: PathBuf,
    fuse: Option<Running>,
}

impl LoopDevice {
    /// Makes the loop device; `scratch` gets a folder for the file.
    #[track_caller]
    pub fn new(uri: &str, scratch: &Path) -> LoopDevice {
        let folder = scratch.join("nbdfuse");
        std::fs::create_dir_all(&folder).expect("a folder for nbdfuse");
        let file = folder.join("nbd");
        let mut command = server("nbdfuse");
        command.arg(&folder).arg(uri);
        let fuse = Running::start(command, "nbdfuse", &scratch.join("nbdfuse.log"));
        let mut made = LoopDevice { device: String::new(), folder, fuse: Some(fuse) };
        crate::wait::until_true("nbdfuse shows its file", PATIENCE, || file.exists());
        let attach = ["--direct-io=on".as_ref(), "-f".as_ref(), "--show".as_ref(), file.as_os_str()];
        made.device = run("losetup", attach, PATIENCE).ok().trim().to_owned();
        made
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.device
    }

    /// Makes a file system on it and mounts it.
    #[track_caller]
    pub fn format_and_mount(&self, kind: &str, scratch: &Path) -> Mount {
        let force = if kind == "xfs" { "-f" } else { "-F" };
        run(&format!("mkfs.{kind}"), ["-q", force, &self.device], PATIENCE).ok();
        self.mount(kind, scratch)
    }

    /// Mounts what is on it.
    #[track_caller]
    pub fn mount(&self, kind: &str, scratch: &Path) -> Mount {
        let point = scratch.join("vz");
        std::fs::create_dir_all(&point).expect("a mount point");
        run("mount", ["-t".as_ref(), kind.as_ref(), self.device.as_ref(), point.as_os_str()], PATIENCE).ok();
        Mount { point, mounted: true }
    }

    /// Panics unless the file system on it is clean.
    #[track_caller]
    pub fn check(&self, kind: &str) {
        match kind {
            "xfs" => run("xfs_repair", ["-n", &self.device], PATIENCE).ok(),
            _ => run("e2fsck", ["-f", "-n", &self.device], PATIENCE).ok(),
        };
    }

    /// Lets the export go.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if !self.device.is_empty() {
            let _ = run("losetup", ["-d", &self.device], PATIENCE);
            let gone = || run("losetup", [&self.device], PATIENCE).code != 0;
            let _ = (0..50).find(|_| {
                gone() || {
                    std::thread::sleep(Duration::from_millis(100));
                    false
                }
            });
        }
        let _ = run("fusermount3", ["-u".as_ref(), self.folder.as_os_str()], PATIENCE);
        if let Some(mut fuse) = self.fuse.take() {
            let _ = (0..50).find(|_| {
                !fuse.is_running() || {
                    std::thread::sleep(Duration::from_millis(100));
                    false
                }
            });
        }
        let _ = run("umount", ["-l".as_ref(), self.folder.as_os_str()], PATIENCE);
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
    mounted: bool,
}

impl Mount {
    /// Where.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Unmounts it; panics if that fails.
    #[track_caller]
    pub fn unmount(mut self) {
        self.mounted = false;
        run("umount", [&self.point], PATIENCE).ok();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            let _ = run("umount", ["-l".as_ref(), self.point.as_os_str()], PATIENCE);
        }
    }
}
