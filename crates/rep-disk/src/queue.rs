//! What the kernel tells of a block device's queue in files. A partition's queue is its disk's.

use nix::libc::dev_t;
use nix::sys::stat::{major, minor};
use std::path::{Path, PathBuf};

/// Whether a block device gives space back. The kernel punches a hole into one by having it write zeroes, which it may do by
/// giving the space back: so it must be able to do both.
pub(crate) fn discards(device: dev_t) -> bool {
    let limit = |name| read(&folder(device), name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    limit("discard_max_bytes") > 0 && limit("write_zeroes_max_bytes") > 0
}

/// Whether a block device has a volatile cache: one that can't be asked about has.
pub(crate) fn has_volatile_cache(device: dev_t) -> bool {
    may_cache(&folder(device))
}

fn may_cache(folder: &Path) -> bool {
    read(folder, "write_cache").is_none_or(|text| text != "write through")
}

fn folder(device: dev_t) -> PathBuf {
    format!("/sys/dev/block/{}:{}", major(device), minor(device)).into()
}

fn read(folder: &Path, name: &str) -> Option<String> {
    let queues = [folder.join("queue"), folder.join("../queue")];
    let text = queues.iter().find_map(|queue| std::fs::read_to_string(queue.join(name)).ok())?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_that_says_so_has_no_volatile_cache() {
        let sda = tempfile::tempdir().expect("a folder");
        let partition = sda.path().join("sda1");
        std::fs::create_dir_all(sda.path().join("queue")).expect("a queue");
        std::fs::create_dir(&partition).expect("a partition");
        assert!(may_cache(sda.path()) && may_cache(&partition), "nothing is told");
        for (text, caches) in [("write back\n", true), ("write through\n", false), ("something new\n", true)] {
            std::fs::write(sda.path().join("queue/write_cache"), text).expect("written");
            assert_eq!((may_cache(sda.path()), may_cache(&partition)), (caches, caches), "{text}");
        }
    }
}
