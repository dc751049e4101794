//! The ring and what goes with it: a thin layer over `io_uring` for a completion loop of one thread.
//!
//! - [`Ring`]: entries in, completions out, one system call a turn.
//! - [`Slab`]: operations and connections in flight; a [`Key`] is a completion's `user_data`, checked by generation.
//! - [`Pool`]: aligned buffers for user data, bounded, counted by use, in zones that can't starve each other.
//! - [`Incoming`], [`Outgoing`]: the two halves of a stream socket; many messages a receive, one gathered send a turn.
//!
//! Nothing here knows what the bytes mean. Architecture invariant: memory handed to the kernel is owned by one of these
//! types, is never moved or freed while an operation uses it, and is let go only when its completion was seen.

mod error;
mod incoming;
mod listener;
mod outgoing;
mod pool;
mod ring;
mod slab;

pub use error::RingError;
pub use incoming::{Incoming, Received};
pub use listener::Listener;
pub use outgoing::Outgoing;
pub use pool::{Pool, PoolUse, SlotId, Zone, ZoneBytes};
pub use ring::{Completion, Ring, Submit};
pub use slab::{Key, Slab};

pub use io_uring::squeue::{Entry, Flags as EntryFlags};
pub use io_uring::{opcode, types};
