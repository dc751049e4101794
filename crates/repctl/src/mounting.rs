//! Mounting a volume and unmounting it, by the means the machine has for that: a mount unit of systemd's, a line in
//! `/etc/fstab`, or the device as it is.

use crate::cli::Options;
use crate::commands::wait;
use crate::systemd;
use crate::target::Target;
use nix::sys::stat::{major, minor, stat};
use rep_control::api::{ApiError, ErrorKind};
use rep_control::device_link;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A volume and the place it is mounted at.
pub struct Mounting<'a> {
    /// The resource, and the volume if it isn't the first.
    pub target: &'a Target,
    /// Where.
    pub path: &'a Path,
    /// The daemon, and how long a program may take.
    pub options: &'a Options,
}

/// What the kernel has mounted at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mounted {
    /// Its device's number.
    number: String,
    /// What it was mounted from.
    source: String,
}

impl Mounting<'_> {
    /// Whether this volume is mounted there. Refused when something else is.
    pub fn is_mounted(&self) -> Result<bool, ApiError> {
        let Some(mounted) = mounted_at(self.path)? else { return Ok(false) };
        let Some(device) = self.device()? else {
            // Through an NBD client of the operator's own: nothing tells whose it is.
            return Ok(true);
        };
        if mounted.is_of(&device) {
            return Ok(true);
        }
        let message = format!("{} has {} mounted, not {}", self.path.display(), mounted.source, device.display());
        let error = ApiError::new(ErrorKind::Refused, "MountedOtherwise", message);
        Err(error.with_hint(format!("unmount that, or name the place where {} is mounted", self.target.resource)))
    }

    /// Mounts it, unless it is mounted.
    pub fn mount(&self) -> Result<(), ApiError> {
        if self.is_mounted()? {
            return Ok(());
        }
        let words = match (systemd::mount_unit(self.path), is_in_fstab(self.path), self.device()?) {
            (Some(unit), ..) => vec!["systemctl".into(), "start".into(), unit.into()],
            (None, true, _) => vec!["mount".into(), self.path.as_os_str().to_owned()],
            (None, false, Some(device)) => vec!["mount".into(), device.into(), self.path.as_os_str().to_owned()],
            (None, false, None) => {
                let message = format!("there is no block device of {} to be mounted", self.target);
                let hint = format!("set device = \"ublk\" or \"nbd\", or put {} into /etc/fstab", self.path.display());
                return Err(ApiError::failed("MountFailed", message).with_hint(hint));
            }
        };
        self.run("MountFailed", &words)?;
        if self.is_mounted()? {
            return Ok(());
        }
        Err(ApiError::failed("MountFailed", format!("{} isn't mounted, though nothing failed", self.path.display())))
    }

    /// Unmounts it, unless it isn't mounted.
    pub fn unmount(&self) -> Result<(), ApiError> {
        if !self.is_mounted()? {
            return Ok(());
        }
        let words = match systemd::mount_unit(self.path).filter(|unit| systemd::is_active(unit)) {
            Some(unit) => vec!["systemctl".into(), "stop".into(), unit.into()],
            None => vec!["umount".into(), self.path.as_os_str().to_owned()],
        };
        let busy = format!("'fuser -vm {}' shows who uses it", self.path.display());
        self.run("UnmountFailed", &words).map_err(|error| error.with_hint(busy))?;
        match mounted_at(self.path)? {
            None => Ok(()),
            Some(other) => Err(ApiError::failed(
                "UnmountFailed",
                format!("{} is mounted at {} below it", other.source, self.path.display()),
            )),
        }
    }

    fn run(&self, reason: &str, words: &[std::ffi::OsString]) -> Result<(), ApiError> {
        systemd::carry_out(reason, words, self.options.timeout).map(drop)
    }

    /// The block device, if it is one: under the name that stays where there is one.
    fn device(&self) -> Result<Option<PathBuf>, ApiError> {
        let status = wait::look(&self.target.resource, self.options, Instant::now() + self.options.timeout)?;
        let wanted = |number: u16| self.target.volume.is_none_or(|volume| volume == number);
        let Some(volume) = status.volumes.iter().find(|volume| wanted(volume.number)) else { return Ok(None) };
        let device = Path::new(&volume.device);
        if !device.starts_with("/dev") {
            return Ok(None);
        }
        let name = device_link(&self.target.resource, volume.number);
        let same = fs::canonicalize(&name).is_ok_and(|to| to == device);
        Ok(Some(if same { name } else { device.to_owned() }))
    }
}

impl Mounted {
    fn is_of(&self, device: &Path) -> bool {
        let number = stat(device).map(|facts| format!("{}:{}", major(facts.st_rdev), minor(facts.st_rdev)));
        // Some file systems have a number of their own.
        let source = || fs::canonicalize(&self.source).ok() == fs::canonicalize(device).ok();
        number.is_ok_and(|number| number == self.number) || (self.source.starts_with('/') && source())
    }
}

fn mounted_at(path: &Path) -> Result<Option<Mounted>, ApiError> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| ApiError::failed("NoMountTable", format!("/proc/self/mountinfo: {error}")))?;
    Ok(find_mounted(path, &table))
}

/// The uppermost mount at a path, from the kernel's table.
fn find_mounted(path: &Path, table: &str) -> Option<Mounted> {
    let at = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(&unescaped(point)) == path);
    let line = table.lines().rfind(at)?;
    let number = line.split(' ').nth(2)?.to_owned();
    let source = line.split_once(" - ")?.1.split(' ').nth(1)?;
    Some(Mounted { number, source: unescaped(source) })
}

/// Blanks and the like stand as octal numbers in the kernel's table and in `/etc/fstab`.
fn unescaped(word: &str) -> String {
    let mut text = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let octal = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => (text.push(byte), rest = &more[3..]),
            None => (text.push(*first), rest = more),
        };
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn is_in_fstab(path: &Path) -> bool {
    let table = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let lines = table.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().nth(1)).any(|point| Path::new(&unescaped(point)) == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_mount_of_a_place_is_found() {
        let table = "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
                     30 22 259:7 / /vz rw,noatime shared:1 - xfs /dev/ublkb0 rw\n\
                     31 30 0:44 / /vz rw - btrfs /dev/a\\040b rw\n\
                     32 22 8:1 / /a\\040place rw - ext4 /dev/sda1 rw\n";
        let found = |path: &str| find_mounted(Path::new(path), table).map(|mounted| (mounted.number, mounted.source));
        assert_eq!(found("/vz"), Some(("0:44".into(), "/dev/a b".into())));
        assert_eq!(found("/a place"), Some(("8:1".into(), "/dev/sda1".into())));
        assert_eq!(found("/v"), None);
    }

    #[test]
    fn a_device_is_known_by_its_number_or_its_name() {
        let null = stat("/dev/null").unwrap().st_rdev;
        let number = format!("{}:{}", major(null), minor(null));
        assert!(Mounted { number, source: "none".into() }.is_of(Path::new("/dev/null")));
        let other = |source: &str| Mounted { number: "0:99".into(), source: source.into() };
        assert!(other("/dev/null").is_of(Path::new("/dev/null")));
        assert!(!other("/dev/zero").is_of(Path::new("/dev/null")) && !other("none").is_of(Path::new("none")));
    }

    #[test]
    fn blanks_in_names() {
        assert_eq!(unescaped("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescaped("/a\\04"), "/a\\04");
    }
}
