//! Why a ring can't be had.

use std::io;

/// Why a ring could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel has no io_uring, or it is switched off here.
    #[error("the kernel refuses io_uring (kernel.io_uring_disabled, or a seccomp filter): {0}")]
    Refused(io::Error),
    /// The kernel is too old.
    #[error("the kernel's io_uring lacks operations that are needed; Linux 6.1 or newer has them")]
    TooOld,
    /// Something else.
    #[error("{0}")]
    System(io::Error),
}
