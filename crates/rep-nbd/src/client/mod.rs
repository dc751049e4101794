//! The client's side, as pure as the server's: for tests, for `repctl demo` and for tools that keep a ledger.
//!
//! [`ClientHandshake`] gets into transmission, [`ClientSession`] makes requests and puts replies together. Neither
//! has a socket; [`crate::blocking_client`] puts them on any stream. It trusts a server no more than the server trusts
//! a client: what doesn't fit the protocol or the request is a [`ProtocolError`], never a panic, never wrong data.

mod handshake;
mod session;

#[cfg(test)]
mod tests;

use crate::block_status::Allocation;
use crate::error::NbdError;
use crate::protocol::transmission_flag;

pub use handshake::{ClientHandshake, HandshakeStep};
pub use session::ClientSession;

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// The export's name; empty: the default.
    pub export: String,
    /// Ask for structured replies.
    pub structured: bool,
    /// Ask for `base:allocation`; needs structured replies.
    pub block_status: bool,
}

impl ClientOptions {
    /// Everything a server may offer, of the export with this name.
    pub fn new(export: impl Into<String>) -> Self {
        ClientOptions { export: export.into(), structured: true, block_status: true }
    }
}

/// What the server said of the export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Transmission flags, see [`crate::protocol::transmission_flag`].
    pub flags: u16,
    /// Minimum, preferred and maximum block size in bytes; the protocol's safe ones if the server named none.
    pub block_sizes: [u32; 3],
    /// Structured replies were agreed on.
    pub structured: bool,
    /// The number of `base:allocation`, if it was agreed on.
    pub allocation_context: Option<u32>,
}

impl Welcome {
    /// Whether every one of these transmission flags is set.
    pub fn offers(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Whether a flush is needed before an answered write is stable.
    pub fn has_volatile_cache(&self) -> bool {
        self.offers(transmission_flag::SEND_FLUSH)
    }
}

/// A request the server refused or failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{error}{}{message}", if message.is_empty() { "" } else { ": " })]
pub struct RequestFailure {
    /// The error.
    pub error: NbdError,
    /// The server's words; may be empty.
    pub message: String,
    /// Where it happened, if the server said so.
    pub offset: Option<u64>,
}

/// What a successful request brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing but success.
    Done,
    /// A read's data, exactly as long as asked for.
    Data(Vec<u8>),
    /// Stretches from the request's offset on: length in bytes, and what it is.
    Extents(Vec<(u32, Allocation)>),
}

/// A request that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The request's cookie.
    pub cookie: u64,
    /// How it ended.
    pub result: Result<Outcome, RequestFailure>,
}

/// What a server did that the protocol doesn't allow. The connection is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The greeting isn't an NBD server's, or of a style older than fixed newstyle.
    #[error("this is no NBD server of the fixed newstyle")]
    BadGreeting,
    /// A reply doesn't start with a magic number that is possible here.
    #[error("a reply starts with {0:#x} instead of a magic number")]
    BadMagic(u64),
    /// A reply to an option that wasn't asked.
    #[error("a reply to option {0} came unasked")]
    UnexpectedOptionReply(u32),
    /// A part that doesn't parse, or makes no sense where it came.
    #[error("a reply is malformed")]
    Malformed,
    /// A reply that is longer than anything sensible.
    #[error("a reply of {0} bytes is too long")]
    TooLong(u32),
    /// A reply to a request that isn't in flight.
    #[error("a reply to an unknown request ({0:#x})")]
    UnknownCookie(u64),
    /// Data outside the range asked for, or the same data twice.
    #[error("a reply holds data that was not asked for or came before")]
    StrayData,
    /// A successful read that didn't bring all data.
    #[error("a successful read brought too little data")]
    MissingData,
    /// Success of a command that must bring something, without it.
    #[error("the reply does not fit the command")]
    WrongReply,
}

/// Why getting into transmission failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The server broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The server refused the export.
    #[error("the server refused the export ({reply:#x}){}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// The kind of refusal, see [`crate::protocol::option_reply`].
        reply: u32,
        /// The server's words; may be empty.
        message: String,
    },
}
