//! The ublk port: a block device of the kernel whose requests this process answers.
//!
//! ```text
//!   /dev/ublk-control ◄── Control: add, start, stop, recover…        (blocking, on a ring of its own)
//!   /dev/ublkcN       ◄── Device:  fetch and commit, as entries for the data path's ring
//!                         IoDescriptor ──Request::parse──► Request    (pure)
//!   /dev/ublkbN           what users mount
//! ```
//! What it is: the driver's layouts and numbers ([`abi`]), its commands ([`Control`]), a device's requests and their data
//! ([`Device`], [`Request`]), and the orders of steps that make, take over and remove a device ([`lifecycle`]). What it isn't:
//! it has no thread and no queue of requests; those are the data path's.
//!
//! A request's data is copied between the request's pages and the data path's own buffers by `pread` and `pwrite` on the
//! character device (`UBLK_F_USER_COPY`), once the buffer is known: a write's bytes are taken exactly once (R8).
//!
//! Architecture invariants: a device is always made so that it outlives its server (`USER_RECOVERY` with `REISSUE`, R35):
//! requests in flight come again, they never fail because a daemon died. What a descriptor asks for is checked before
//! anything is done about it.

pub mod abi;
pub mod lifecycle;
pub mod limits;

mod control;
mod device;
mod error;
mod features;
mod fingerprint;
mod parameters;
mod request;

pub use control::Control;
pub use device::{Device, Tag};
pub use error::UblkError;
pub use features::Features;
pub use fingerprint::Fingerprint;
pub use parameters::DeviceLimits;
pub use request::{Operation, Request, RequestFault, errno_of};
