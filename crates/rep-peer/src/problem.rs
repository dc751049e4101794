//! Why there is no connection, in words for the operator.

use rep_wire::{FrameError, OpeningError};
use std::io;
use std::net::SocketAddr;

/// Why the last attempt came to nothing, or the last connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkProblem {
    /// The peer can't be reached.
    #[error("the peer can't be reached at {address}: {error}")]
    Dial {
        /// The peer's address.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// This node can't listen.
    #[error("can't listen at {address}: {error}")]
    Listen {
        /// This node's address.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// The opening failed.
    #[error("{0}")]
    Opening(#[from] OpeningError),
    /// The opening took too long.
    #[error("what is at the other end did not introduce itself in time")]
    OpeningTooSlow,
    /// A damaged or illegal frame.
    #[error("the peer broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// The connection ended.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Failed(io::Error),
}
