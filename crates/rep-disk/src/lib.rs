//! rep-disk (being written)

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
    /// This user may not open it.
    #[error("permission denied")]
    Permission,
    /// It is read-only.
    #[error("it is read-only")]
    ReadOnly,
    /// Something else.
    #[error("{0}")]
    System(std::io::Error),
}
