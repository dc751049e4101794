//! Who has a block device of this kernel open. The driver doesn't tell its server, so the kernel's tables are asked: mounts,
//! swap, devices stacked on it, and the open files of every process.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc::dev_t;
use nix::sys::stat::{Mode, major, minor, stat};
use rep_control::api::VolumeStatus;
use std::fs;
use std::path::{Path, PathBuf};

/// The first user of a device that is found, in words; `None`: nobody has it open. May wait, since the device is
/// opened for a moment.
pub fn holder(device: &Path) -> Option<String> {
    user(device).or_else(|| exclusively_held(device))
}

/// The same, as far as tables show it; the device isn't touched.
fn user(device: &Path) -> Option<String> {
    let number = stat(device).ok()?.st_rdev;
    mounted(number, &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
        .or_else(|| swap(device))
        .or_else(|| stacked(number))
        .or_else(|| process(number))
}

/// Marks the volumes whose block devices somebody has open. Opening one to find out would get in the way of a mount.
pub async fn mark_open(volumes: &mut [VolumeStatus]) {
    for volume in volumes.iter_mut().filter(|volume| volume.device.starts_with("/dev/")) {
        let device = PathBuf::from(&volume.device);
        let found = tokio::task::spawn_blocking(move || user(&device).is_some()).await;
        volume.open |= found.unwrap_or(false);
    }
}

/// The mount point of a device, from the mount table's text.
fn mounted(number: dev_t, table: &str) -> Option<String> {
    let number = format!("{}:{}", major(number), minor(number));
    let line = table.lines().find(|line| line.split(' ').nth(2) == Some(&number))?;
    // The kernel writes blanks in names as octal numbers; good enough to be recognised.
    Some(format!("it is mounted at {}", line.split(' ').nth(4).unwrap_or("?")))
}

fn swap(device: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let device = device.to_str()?;
    table.lines().any(|line| line.split_whitespace().next() == Some(device)).then(|| "it is used as swap".into())
}

/// Devices made of it: device mapper, RAID.
fn stacked(number: dev_t) -> Option<String> {
    let folder = format!("/sys/dev/block/{}:{}/holders", major(number), minor(number));
    let first = fs::read_dir(folder).ok()?.flatten().next()?;
    Some(format!("{} stands on it", first.file_name().to_string_lossy()))
}

fn process(number: dev_t) -> Option<String> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.filter(|pid| *pid != own).find(|pid| has_open(*pid, number))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("the process {pid} ({}) has it open", name.trim_end()))
}

fn has_open(pid: u32, number: dev_t) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files
        // Only names below /dev can be block devices: the others need not be looked at more closely.
        .filter(|file| fs::read_link(file.path()).is_ok_and(|to| to.starts_with("/dev/")))
        .any(|file| stat(&file.path()).is_ok_and(|facts| facts.st_rdev == number))
}

/// What no table shows: a mount in another name space, a loop device.
fn exclusively_held(device: &Path) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let refused = matches!(open(device, flags, Mode::empty()), Err(Errno::EBUSY));
    refused.then(|| "something in the kernel has it open: a loop device, or a mount in another name space".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::makedev;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_mount_is_named() {
        let table =
            "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n30 22 259:7 / /vz rw,noatime shared:1 - xfs /dev/ublkb0 rw\n";
        assert_eq!(mounted(makedev(259, 7), table).as_deref(), Some("it is mounted at /vz"));
        assert_eq!(mounted(makedev(259, 8), table), None);
    }

    #[test]
    fn a_process_that_has_a_device_open_is_found_and_this_one_is_not_counted() {
        let null = stat("/dev/null").expect("the device").st_rdev;
        let child = std::process::Command::new("sleep").arg("60").stdin(std::process::Stdio::null()).spawn();
        let mut child = child.expect("sleep");
        let found = has_open(child.id(), null);
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert!(found);
        let file = fs::File::open("/dev/zero").expect("a device");
        assert!(file.as_raw_fd() >= 0 && !has_open(child.id(), stat("/dev/zero").expect("a device").st_rdev));
    }
}
