//! The stable name of a device: `/dev/repd/by-res/RESOURCE/VOLUME`, a link to whatever number the kernel gave.

use rep_types::{ResourceName, VolumeNumber};
use std::io;
use std::path::{Path, PathBuf};

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
