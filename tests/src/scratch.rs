//! A folder for one scenario, gone when it ends well and kept when it fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the folder lies on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// A real file system, where direct I/O works as on a disk.
    #[default]
    Disk,
    /// Memory: fast, and direct I/O may be missing.
    Tmpfs,
}

/// The folder.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A new, empty folder. Its path is short, because socket paths have a limit of 107 bytes.
    pub fn new(place: Place) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = match place {
            Place::Disk => "/var/tmp",
            Place::Tmpfs => "/dev/shm",
        };
        loop {
            let name = format!("rep-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = Path::new(parent).join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Scratch { path, keep: false },
                // Kept by a run that failed and had the same process id.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep || std::env::var_os("REP_TESTS_KEEP").is_some() {
            eprintln!("kept: {}", self.path.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a sparse file of this size.
pub fn sparse_file(path: &Path, bytes: u64) {
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(path);
    file.and_then(|file| file.set_len(bytes)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
