//! `device-name`: which volume a block device of the kernel is, for the rule of udev's. It asks the links that the daemon
//! made and nobody else, so that it neither waits nor depends on a daemon that is just being replaced.

use crate::Failure;
use crate::cli::DeviceNameArguments;
use crate::output::print;
use rep_control::api::ApiError;
use rep_control::{DEVICE_LINKS, device_link};
use rep_types::ResourceName;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// Prints udev's properties of the device; nothing where it is no volume's. Fails only where that can't be told: udev then keeps
/// what it knew.
pub fn run(arguments: &DeviceNameArguments) -> Result<(), Failure> {
    let found = find(Path::new(DEVICE_LINKS), &arguments.device).map_err(|error| {
        ApiError::failed("Unreadable", format!("{DEVICE_LINKS}: {error}")).with_hint("see who may read it")
    })?;
    found.map_or(Ok(()), |(resource, volume)| print(&properties(&resource, volume)))
}

fn properties(resource: &ResourceName, volume: u16) -> String {
    let alias = device_link(resource.as_str(), volume);
    format!("REPD_RESOURCE={resource}\nREPD_VOLUME={volume}\nSYSTEMD_ALIAS={}\n", alias.display())
}

/// The volume whose link leads to a device.
fn find(links: &Path, device: &str) -> io::Result<Option<(ResourceName, u16)>> {
    for resource in entries(links)? {
        let Some(name) = resource.file_name().to_str().and_then(|name| ResourceName::new(name).ok()) else { continue };
        for volume in entries(&resource.path())? {
            // One that is just being made has another name.
            let Some(number) = volume.file_name().to_str().and_then(|number| number.parse().ok()) else { continue };
            let target = unless_gone(std::fs::read_link(volume.path()))?;
            if target.is_some_and(|target| target.file_name() == Some(OsStr::new(device))) {
                return Ok(Some((name, number)));
            }
        }
    }
    Ok(None)
}

/// What a folder holds; one that isn't there holds nothing.
fn entries(folder: &Path) -> io::Result<Vec<std::fs::DirEntry>> {
    unless_gone(std::fs::read_dir(folder))?.into_iter().flatten().collect()
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_device_is_named_by_the_link_that_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let links = folder.path().join("by-res");
        assert_eq!(find(&links, "ublkb0").unwrap(), None, "no daemon ever ran");
        std::fs::create_dir_all(links.join("vz")).unwrap();
        std::fs::create_dir_all(links.join("other")).unwrap();
        symlink("../../../ublkb3", links.join("vz/1")).unwrap();
        symlink("../../../ublkb4", links.join("vz/2.new")).unwrap();
        symlink("../../../nbd16", links.join("other/0")).unwrap();
        let named = |device| find(&links, device).unwrap().map(|(resource, volume)| (resource.to_string(), volume));
        assert_eq!(named("ublkb3"), Some(("vz".to_owned(), 1)));
        assert_eq!(named("nbd16"), Some(("other".to_owned(), 0)));
        // Neither a longer number, nor a partition, nor a link that isn't in its place yet.
        for none in ["ublkb", "ublkb33", "nbd1", "ublkb3p1", "ublkb4"] {
            assert_eq!(named(none), None, "{none}");
        }
    }

    #[test]
    fn where_it_cant_be_told_it_fails_and_doesnt_say_no() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("vz")).unwrap();
        std::fs::write(folder.path().join("vz/0"), "no link").unwrap();
        find(folder.path(), "ublkb3").unwrap_err();
    }

    #[test]
    fn systemd_knows_it_by_the_name_that_stays() {
        let told = properties(&ResourceName::new("vz").unwrap(), 0);
        assert_eq!(told, "REPD_RESOURCE=vz\nREPD_VOLUME=0\nSYSTEMD_ALIAS=/dev/repd/by-res/vz/0\n");
    }
}
