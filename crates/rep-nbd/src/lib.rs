//! The NBD port: the protocol as pure functions of bytes, server and client side.
//!
//! ```text
//!   bytes in -> Negotiation --Negotiated--> Transmission -> Request, Write + Payload, Reject, Disconnect
//!                    |                                              |
//!                bytes out                         PendingReply <- pieces answered by the engine
//!                                                       |
//!                                                  Frame (+ the data, from the slots) -> bytes out
//! ```
//!
//! What it is: fixed newstyle negotiation, structured and simple replies, every command an NBD client may send, and
//! the right error for every one it may not (I-F7). What it isn't: it has no socket, no thread, no clock and no
//! buffers for user data; how long a client may dawdle and how many requests may be in flight is the shell's to say.
//!
//! A request's way through: the shell receives into one buffer, calls [`Transmission::next`] until it says
//! `NeedMore`, and so gets a batch of requests out of one system call. A large write's payload needn't go through
//! that buffer: [`Transmission::payload_remaining`] says how much of it is still to come, and the shell may receive
//! that right into the write's slots. A request longer than the engine takes is cut by [`Request::pieces`] and put
//! together again by [`PendingReply`], or by [`StreamedReply`] where a reply has no chunks.
//!
//! Architecture invariant: bytes from a client never make this crate panic, and never make it allocate more than
//! [`limits`] says.

pub mod blocking_client;
pub mod client;
pub mod fuzz;
pub mod limits;
pub mod protocol;

mod block_status;
mod error;
mod export;
mod fields;
mod negotiation;
mod pending;
mod reply;
mod request;
mod stream;
#[cfg(test)]
mod testing;
mod transmission;

pub use block_status::{Allocation, BlockStatusReply};
pub use error::{NbdError, NegotiationError, RequestFault, TransmissionError};
pub use export::{Export, ExportCatalog, ExportError, ExportFeatures, ExportId, FastZero};
pub use negotiation::{Negotiated, Negotiation, NegotiationStep, TlsPolicy};
pub use pending::{PendingReply, PieceAnswer};
pub use reply::{FRAME_LENGTH_MAX, Frame, FrameBytes};
pub use request::{Command, Pieces, Request};
pub use stream::{StreamStep, StreamedReply};
pub use transmission::{Parsed, Transmission};
