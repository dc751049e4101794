//! Who else uses a disk: mounts and loop devices, where the kernel's own refusal doesn't say or doesn't come.

use nix::sys::stat::{major, minor};
use std::fs;
use std::path::Path;

/// Whether a block device of this number is mounted, as this process's mount table tells.
pub(crate) fn is_mounted(device: u64) -> bool {
    let number = format!("{}:{}", major(device), minor(device));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().any(|line| line.split(' ').nth(2) == Some(&number))
}

/// Whether a loop device stands on this file: its user wouldn't notice our lock.
pub(crate) fn is_behind_loop_device(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.filter(|device| device.file_name().as_encoded_bytes().starts_with(b"loop")).any(|device| {
        let backing = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        Path::new(backing.trim_end_matches('\n')) == path
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::fs::MetadataExt;

    #[test]
    fn the_root_file_system_is_mounted() {
        let root = fs::metadata("/").expect("the root directory");
        assert!(is_mounted(root.st_dev()));
        assert!(!is_mounted(u64::MAX));
    }
}
