//! The link to the peer: sockets, retries, authentication, frames. Bytes and system calls, no replication decisions.
//!
//! ```text
//!           want ──► dial, retry with growing pauses ─┐                      ┌─► LinkUp, Message…, LinkDown
//!                                                      ├─► opening ─► frames ─┤
//!           want ──► listen ──────────────────────────┘   (5 s at most)      └─◄ send, close
//! ```
//! The node whose name sorts first dials, the other listens, so that connections never cross. A new authenticated
//! connection takes an old one's place; its session number is larger (I-G10).
//!
//! Received frames are taken out of one large buffer, many a receive; a large payload goes straight into its slot.
//! While no slot is free nothing is received: the sender waits, which is the back-pressure. Frames to be sent are
//! gathered during a turn and leave together, payloads from where they lie.
//!
//! Architecture invariants: before the proof a peer gets at most `OPENING_LENGTH_MAX` bytes and five seconds, and only a
//! few such connections at a time; a frame is delivered only when whole, checked, in sequence (I-F5); what was received
//! before an end is delivered before the end is told.

mod backoff;
mod connection;
pub mod limits;
mod port;
mod problem;
mod socket;
mod sums;

pub use port::{PeerEvent, PeerOperation, PeerOptions, PeerPort};
pub use problem::LinkProblem;
