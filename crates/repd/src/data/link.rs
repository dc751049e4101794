//! The stable name of a device: `/dev/repd/by-res/RESOURCE/VOLUME`, a link to whatever number the kernel gave.
//!
//! The link is this daemon's alone, so that it holds without udev, and no rule can put it back or take it away. udev is told of it
//! by an event: its rule (tools/packaging/udev) then has systemd know the device by that name, too.

use rep_types::{ResourceName, VolumeNumber};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tracing::info;

/// Where the kernel takes an order to tell of a device anew.
const BLOCK_DEVICES: &str = "/sys/block";

/// The link of a volume.
pub(super) fn path(resource: &ResourceName, volume: VolumeNumber) -> PathBuf {
    rep_control::device_link(resource.as_str(), volume.0)
}

fn target(device: &str) -> PathBuf {
    // Relative, so that it holds wherever `/dev` is seen from.
    Path::new("../../..").join(device)
}

/// Makes the link to a device (`ublkb3`), in one step: at no moment is there none where there was one before.
pub(super) fn make(link: &Path, device: &str) -> io::Result<()> {
    if let Some(directory) = link.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let new = link.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target(device), &new)?;
    std::fs::rename(&new, link)
}

/// Has the kernel tell udev of a device whose link was made. Whoever doesn't wait for systemd's unit of the device needs none of
/// it; so it may fail.
pub(super) fn announce(device: &str) {
    if let Err(error) = announce_in(Path::new(BLOCK_DEVICES), device) {
        info!("systemd may not learn the name of /dev/{device}: {BLOCK_DEVICES}/{device}/uevent: {error}");
    }
}

fn announce_in(devices: &Path, device: &str) -> io::Result<()> {
    // Not `fs::write`: that would make a file where there is none.
    let mut file = std::fs::OpenOptions::new().write(true).open(devices.join(device).join("uevent"))?;
    file.write_all(b"change")
}

/// Removes the link, if it is still this device's.
pub(super) fn remove(link: &Path, device: &str) {
    if std::fs::read_link(link).is_ok_and(|to| to == target(device)) {
        // Somebody may have been faster; an empty directory does no harm.
        let _ = std::fs::remove_file(link);
        let _ = link.parent().map(std::fs::remove_dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_asked_for_where_the_device_is() {
        let devices = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(devices.path().join("ublkb3")).expect("a device");
        let uevent = devices.path().join("ublkb3/uevent");
        std::fs::write(&uevent, "").expect("its file");
        announce_in(devices.path(), "ublkb3").expect("the event");
        assert_eq!(std::fs::read(&uevent).expect("what was asked"), b"change");
        announce_in(devices.path(), "ublkb4").expect_err("there is none");
        assert!(!devices.path().join("ublkb4").exists());
    }

    #[test]
    fn a_link_is_replaced_and_only_its_own_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("vz").join("0");
        make(&link, "ublkb3").expect("the link");
        make(&link, "nbd16").expect("the link anew");
        assert_eq!(std::fs::read_link(&link).expect("a link"), Path::new("../../../nbd16"));
        remove(&link, "ublkb3");
        assert!(link.is_symlink());
        remove(&link, "nbd16");
        assert!(!link.is_symlink() && !directory.path().join("vz").exists());
        let name = ResourceName::new("vz").expect("a name");
        assert_eq!(path(&name, VolumeNumber(1)), Path::new("/dev/repd/by-res/vz/1"));
    }
}
