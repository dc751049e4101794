//! A disk that fails in the ways disks fail, on demand: a file system of one file (FUSE), served by the test itself.
//!
//! ```text
//!   daemon --- pread, pwrite, fdatasync, fallocate ---> the kernel ---> /dev/fuse ---> serve: [Faults?] ---> Content
//!                                                                                                     now | stable
//! ```
//!
//! What was written and not flushed since is in the disk's cache, as on a real one: a power cut ([`FaultyDisk::lose_power`])
//! keeps a random part of it, torn at a sector. Needs root, and no package.

mod content;
mod fuse;
mod serve;

use crate::random::Random;
use content::Content;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which operations a fault meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operations {
    /// Reads.
    Reads,
    /// Writes and zeroing.
    Writes,
    /// Flushes.
    Flushes,
    /// All of them.
    All,
}

/// What the disk does beside its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    /// These operations fail with this error; so many of them, then no more.
    pub failing: Option<(Operations, Errno, u32)>,
    /// Each operation takes this long.
    pub delay: Duration,
    /// No operation ends.
    pub hung: bool,
    /// Flushes are answered and not done.
    pub lies: bool,
}

impl Faults {
    /// None.
    pub const NONE: Faults = Faults { failing: None, delay: Duration::ZERO, hung: false, lies: false };
}

/// The disk, mounted on a file. Dropped, it is gone; its daemon must have ended before.
pub struct FaultyDisk {
    path: PathBuf,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// The faults have changed.
    changed: Condvar,
}

struct State {
    content: Content,
    faults: Faults,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyDisk({})", self.path.display())
    }
}

impl FaultyDisk {
    /// A disk of zeroes in place of this file, of the file's size.
    pub fn mount(path: &Path) -> FaultyDisk {
        let bytes = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).len();
        let state = State { content: Content::new(bytes), faults: Faults::NONE };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let device = Arc::new(fuse::mount(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        let serve = |_| {
            let (device, shared) = (device.clone(), shared.clone());
            std::thread::spawn(move || serve::serve(&device, &shared))
        };
        // Several, so that one operation that waits doesn't keep the others waiting.
        let threads = (0..16).map(serve).collect();
        FaultyDisk { path: path.to_owned(), shared, threads }
    }

    /// From now on these faults and no others.
    pub fn set(&self, faults: Faults) {
        self.shared.state().faults = faults;
        self.shared.changed.notify_all();
    }

    /// How many operations the failing ones still are.
    pub fn failures_left(&self) -> u32 {
        self.shared.state().faults.failing.map_or(0, |(_, _, left)| left)
    }

    /// The power fails: of what wasn't flushed a random part is lost. Returns the number of sectors lost. The daemon must
    /// have been killed before.
    pub fn lose_power(&self, random: &mut Random) -> u64 {
        self.shared.state().content.lose_power(random)
    }

    /// Reads what is there now, without any fault.
    pub fn read(&self, at: u64, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.shared.state().content.read(at, buffer.len()).expect("within the disk"));
    }

    /// Bytes in those blocks of 4 KiB, of the first `length` bytes, in which the two disks differ; and the first such.
    pub fn differing_bytes(&self, other: &FaultyDisk, length: u64) -> (u64, Option<u64>) {
        assert!(!Arc::ptr_eq(&self.shared, &other.shared), "a disk compared with itself");
        let (one, other) = (self.shared.state(), other.shared.state());
        one.content.differing_bytes(&other.content, length)
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.set(Faults::NONE);
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        // The threads end with the mount, which may live on in another namespace for a moment.
        drop(std::mem::take(&mut self.threads));
    }
}
