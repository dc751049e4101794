//! The daemon's library: a resource's data thread, and how the control thread speaks with it.
//!
//! Two kinds of threads: one control thread with a runtime (`control`), which takes commands and answers status, and
//! one data thread a resource ([`data`](resource::spawn)), which owns a ring, the disks, the sockets and the engine.
//! They speak by message ([`resource::ControlRequest`]); the control thread never waits on a data thread without a
//! deadline.

mod data;
pub mod memory;
pub mod resource;
mod scheduling;
mod shortage;
mod waking;
