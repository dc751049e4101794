//! Errors of the backing device.

use nix::errno::Errno;
use rep_types::IoError;
use std::io;

/// Why a disk can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing at the path.
    #[error("there is no such disk")]
    Missing,
    /// Neither a file nor a block device.
    #[error("it is neither a block device nor a file")]
    WrongKind,
    /// Another program holds it.
    #[error("it is in use by another program")]
    InUse,
    /// It is mounted.
    #[error("it is mounted")]
    Mounted,
    /// It has no room.
    #[error("it is too small: {size_bytes} bytes, at least {needed_bytes} are needed")]
    TooSmall {
        /// What it has.
        size_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// It takes nothing smaller than so many bytes; metadata and resync work on 4 KiB.
    #[error("its logical blocks have {0} bytes; disks with more than 4096 can't be used")]
    BlocksTooLarge(u32),
    /// This user may not open it.
    #[error("permission denied")]
    Permission,
    /// It is read-only.
    #[error("it is read-only")]
    ReadOnly,
    /// Something else.
    #[error("{0}")]
    System(io::Error),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENXIO | Errno::ENODEV | Errno::ENOTDIR => Self::Missing,
            Errno::EACCES | Errno::EPERM => Self::Permission,
            Errno::EROFS => Self::ReadOnly,
            Errno::EISDIR => Self::WrongKind,
            Errno::EBUSY | Errno::EWOULDBLOCK => Self::InUse,
            other => Self::System(other.into()),
        }
    }
}

/// What a failed operation means to the engine. `EINVAL` of a disk is no fault of the client's request, which was
/// checked before it came here.
pub fn io_error_of(errno: i32) -> IoError {
    match Errno::from_raw(errno) {
        Errno::ENOSPC | Errno::EDQUOT => IoError::NoSpace,
        _ => IoError::Io,
    }
}
