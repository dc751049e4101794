//! The runtime directory: one daemon a directory, and the control socket in it.

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The longest path a socket can have, in bytes.
const SOCKET_PATH_LENGTH_MAX: usize = 107;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory can't be used.
    #[error("the runtime directory {} can't be used: {source}; name another with --runtime-dir DIR", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("another repd{pid} runs with the runtime directory {}; name another with --runtime-dir DIR", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other's process, as far as known.
        pid: String,
    },
    /// The control socket can't be made.
    #[error("the control socket {} can't be made: {source}; name another directory with --runtime-dir DIR", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ring can't be made.
    #[error("io_uring can't be used: {0}; it needs Linux 5.15 or later and kernel.io_uring_disabled=0")]
    Ring(io::Error),
    /// Signals can't be caught.
    #[error("signals can't be caught: {0}")]
    Signals(io::Error),
}

/// A directory this daemon holds. Kept for the daemon's life: the lock ends with it.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl RuntimeDir {
    /// Makes the directory if it isn't there, and locks it.
    pub fn lock(path: &Path) -> Result<Self, StartError> {
        let unusable = |source| StartError::Directory { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let file = path.join("repd.lock");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).map_err(unusable)?;
        let mut earlier = String::new();
        let _ = (&mut file).take(16).read_to_string(&mut earlier);
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::Error::EWOULDBLOCK => StartError::Locked { path: path.to_owned(), pid: pid_words(&earlier) },
            errno => unusable(errno.into()),
        })?;
        lock.set_len(0).map_err(unusable)?;
        io::Seek::rewind(&mut *lock).map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        Ok(RuntimeDir { path: path.to_owned(), _lock: lock })
    }

    /// Binds the control socket, for this user alone. What an earlier daemon left behind is removed: the lock says
    /// that it is gone.
    pub fn bind_control_socket(&self) -> Result<UnixListener, StartError> {
        let path = self.path.join(rep_control::CONTROL_SOCKET_NAME);
        let unusable = |source| StartError::Socket { path: path.clone(), source };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
            _ => {}
        }
        if path.as_os_str().len() > SOCKET_PATH_LENGTH_MAX {
            let words = format!("its path is longer than {SOCKET_PATH_LENGTH_MAX} bytes");
            return Err(unusable(io::Error::new(io::ErrorKind::InvalidFilename, words)));
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(&path);
        umask(before);
        let listener = listener.map_err(unusable)?;
        listener.set_nonblocking(true).map_err(unusable)?;
        Ok(listener)
    }
}

fn pid_words(text: &str) -> String {
    match text.trim().parse::<u32>() {
        Ok(pid) => format!(" (process {pid})"),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_daemon_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let held = RuntimeDir::lock(&path).unwrap();
        let error = RuntimeDir::lock(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        RuntimeDir::lock(&path).unwrap();
    }

    #[test]
    fn the_socket_is_private_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let held = RuntimeDir::lock(dir.path()).unwrap();
        drop(held.bind_control_socket().unwrap());
        let _listener = held.bind_control_socket().unwrap();
        let mode = std::fs::metadata(dir.path().join("control.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
