//! The kernel's NBD client: binding `/dev/nbdN` to a socket that this process serves.
//!
//! ```text
//!   generic netlink ◄── Driver: connect, reconfigure, disconnect     (netlink.rs: bytes, pure)
//!   /sys/block/nbdN ◄── sysfs: whose it is, its size, how soon it resends
//!   /dev/nbdN           what users mount
//!        └── socket pair ──► the data path, a client like any other
//! ```
//! What it is: the driver's messages, and the orders of steps that make, take over and remove a device ([`attach`],
//! [`find`], [`detach`]). What it isn't: it serves no request; the other end of the socket is the data path's.
//!
//! Architecture invariants: a device is always made so that it outlives its server: with its connection dead, requests wait
//! until another process brings a new one ([`limits::DEAD_CONNECTION_PATIENCE`]), and what was in flight is sent again (R35). It
//! has exactly one connection: see docs/decisions/0017.

pub mod limits;

mod backend;
mod driver;
mod error;
mod lifecycle;
mod netlink;
mod sysfs;

pub use backend::Backend;
pub use driver::Driver;
pub use error::NbdkError;
pub use lifecycle::{Attached, DeviceOptions, Origin, attach, detach, find, give_up, grow, left_device, settle};
