//! What the kernel tells of its nbd devices in files, and the two settings it takes there.

use crate::backend::Backend;
use rep_types::SECTOR_SIZE;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of all block devices.
pub struct Sysfs(PathBuf);

impl Sysfs {
    /// The kernel's.
    pub fn new() -> Self {
        Sysfs("/sys/block".into())
    }

    fn file(&self, index: u32, name: &str) -> PathBuf {
        self.0.join(format!("nbd{index}")).join(name)
    }

    fn read(&self, index: u32, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.file(index, name)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// Whether there is a device of this number, bound or not.
    pub fn exists(&self, index: u32) -> bool {
        self.file(index, "").exists()
    }

    /// Whether a device is bound for this backend.
    pub fn is_of(&self, index: u32, backend: &Backend) -> bool {
        // An unbound device has no such file.
        self.read(index, "backend").is_some_and(|text| text == backend.as_str())
    }

    /// The devices that are bound for a backend. Those that were disconnected are among them for as
    /// long as somebody has them open.
    pub fn all_of(&self, backend: &Backend) -> Vec<u32> {
        let mut numbers = self.numbers();
        numbers.sort_unstable();
        numbers.retain(|index| self.is_of(*index, backend));
        numbers
    }

    fn numbers(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("nbd")?.parse().ok()).collect()
    }

    /// The lowest number no device has: those that were made when the module was loaded are everybody's.
    pub fn free_number(&self) -> u32 {
        let taken = self.numbers();
        (0..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX)
    }

    /// A device's size in bytes.
    pub fn size_bytes(&self, index: u32) -> u64 {
        self.read(index, "size").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0).saturating_mul(SECTOR_SIZE)
    }

    /// Bytes of a logical block of a device.
    pub fn block_bytes(&self, index: u32) -> u32 {
        self.read(index, "queue/logical_block_size").and_then(|text| text.parse().ok()).unwrap_or(SECTOR_SIZE as u32)
    }

    /// Whether the kernel sends a device flushes. One that can't be asked about gets none.
    pub fn flushes(&self, index: u32) -> bool {
        self.read(index, "queue/write_cache").is_some_and(|text| text == "write back")
    }

    /// How often the kernel looks after each request in flight. Nothing is written where it does so already: the kernel would
    /// hold all requests for it.
    pub fn set_look(&self, index: u32, pause: Duration) -> io::Result<()> {
        let now = self.read(index, "queue/io_timeout").and_then(|text| text.parse::<u128>().ok());
        // The kernel counts in ticks of up to ten milliseconds.
        let is_set = now.is_some_and(|now| now.abs_diff(pause.as_millis()) < 10);
        if is_set { Ok(()) } else { write(&self.file(index, "queue/io_timeout"), pause.as_millis()) }
    }

    /// The longest read or write, if it is longer now.
    pub fn limit_io(&self, index: u32, bytes: u32) -> io::Result<()> {
        let kib = u128::from(bytes >> 10);
        let now = self.read(index, "queue/max_sectors_kb").and_then(|text| text.parse::<u128>().ok());
        if now.is_some_and(|now| now <= kib) { Ok(()) } else { write(&self.file(index, "queue/max_sectors_kb"), kib) }
    }
}

fn write(file: &Path, number: u128) -> io::Result<()> {
    // Not `fs::write`: that would make a file where there is none.
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).open(file)?;
    io::Write::write_all(&mut file, format!("{number}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(devices: &[(u32, &[(&str, &str)])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (index, files) in devices {
            let device = folder.path().join(format!("nbd{index}"));
            std::fs::create_dir_all(device.join("queue")).expect("a device");
            for (name, text) in *files {
                std::fs::write(device.join(name), text).expect("a file");
            }
        }
        std::fs::create_dir(folder.path().join("nbdx")).expect("something else");
        folder
    }

    #[test]
    fn a_device_is_known_by_its_backend_and_by_nothing_less() {
        let ours = Backend::new("vz", "alpha", 1);
        let folder = folder(&[
            (0, &[("size", "0\n")]),
            (1, &[("backend", "\n")]),
            (2, &[("backend", "repd/alpha/vz/10\n")]),
            (17, &[("backend", "repd/alpha/vz/1\n"), ("queue/write_cache", "write through\n")]),
            (
                16,
                &[
                    ("backend", "repd/alpha/vz/1\n"),
                    ("size", "2048\n"),
                    ("queue/logical_block_size", "4096\n"),
                    ("queue/write_cache", "write back\n"),
                ],
            ),
        ]);
        let sysfs = Sysfs(folder.path().to_owned());
        assert_eq!(sysfs.all_of(&ours), [16, 17]);
        assert!(sysfs.all_of(&Backend::new("vz", "beta", 1)).is_empty());
        assert_eq!(sysfs.size_bytes(16), 1 << 20);
        assert_eq!(
            (sysfs.block_bytes(16), sysfs.block_bytes(17)),
            (4096, 512),
            "what isn't told is the least there is"
        );
        assert_eq!([0, 16, 17].map(|index| sysfs.flushes(index)), [false, true, false], "what isn't told is no flush");
        assert!(sysfs.exists(1) && !sysfs.exists(3));
        assert_eq!(sysfs.free_number(), 3);
    }

    #[test]
    fn requests_are_limited_and_never_made_longer() {
        let folder = folder(&[(3, &[("queue/max_sectors_kb", "128\n"), ("queue/io_timeout", "30000\n")])]);
        let sysfs = Sysfs(folder.path().to_owned());
        let read = |name: &str| std::fs::read_to_string(folder.path().join("nbd3").join(name)).expect("a file");
        sysfs.limit_io(3, 1 << 20).expect("nothing to do");
        assert_eq!(read("queue/max_sectors_kb"), "128\n");
        sysfs.limit_io(3, 64 << 10).expect("set");
        assert!(read("queue/max_sectors_kb").starts_with("64\n"));
        sysfs.set_look(3, Duration::from_secs(3)).expect("set");
        assert!(read("queue/io_timeout").starts_with("3000"));
        sysfs.set_look(3, Duration::from_millis(3004)).expect("nothing to do");
        assert!(read("queue/io_timeout").starts_with("3000"));
        sysfs.set_look(4, Duration::from_secs(3)).expect_err("there is none");
    }
}
