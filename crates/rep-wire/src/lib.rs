//! The peer protocol: messages as values, frames as bytes, and the proof that opens a connection.
//!
//! `docs/PROTOCOL.md` is the specification; a test compares it with this code.

mod message;
mod view;

pub use message::{ControlMessage, Message, TransferId};
pub use view::{NodeView, PriorEnd, VolumeView};
