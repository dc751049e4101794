//! rep-ring (being written)

/// Why a ring could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel has no io_uring, or it is switched off here.
    #[error("the kernel refuses io_uring (kernel.io_uring_disabled, or a seccomp filter): {0}")]
    Refused(std::io::Error),
    /// The kernel is too old.
    #[error("the kernel's io_uring lacks an operation that is needed; Linux 6.1 or newer is")]
    TooOld,
    /// Something else.
    #[error("{0}")]
    System(std::io::Error),
}
