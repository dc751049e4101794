//! The backing device: opening and locking it, and its operations, for the ring or at once.
//!
//! - [`Disk`]: an open disk or file, locked against everybody else, direct wherever it can be (R37).
//! - [`Operation`]: a write, read, zeroing or flush that goes on by itself until it is whole or has failed.
//! - [`BlockingStorage`]: the same disk for those who read and write metadata at attach and may wait.
//! - [`DiskReader`]: a second handle on an open disk, for a thread that may wait.
//! - [`ReadOnlyDisk`]: a disk looked at, whoever has it.
//! - [`allocation`]: what a sparse file has allocated.
//!
//! No replication decision is made here. Architecture invariant: an operation ends well only when every byte of it was
//! taken; a flush that failed is never tried again (I-D6).

mod aligned;
pub mod allocation;
mod digest;
mod error;
mod in_use;
mod open;
mod operation;
mod queue;
mod read_only;
mod reader;
mod storage;
mod zero;

pub use digest::block_digests;
pub use error::{OpenError, io_error_of};
pub use open::{Disk, DiskFacts, boot_id};
pub use operation::{Buffer, Kind, Operation, Progress};
pub use read_only::ReadOnlyDisk;
pub use reader::DiskReader;
pub use storage::BlockingStorage;
pub use zero::is_all_zero;
