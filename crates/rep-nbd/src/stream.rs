//! A long read without structured replies: one head, then all the data in order, from pieces that come in any order.
//!
//! ```text
//!   pieces answered:   2      0        1       3 fails
//!   sent:              -    head,0    1,2      hang up
//! ```
//! Nothing is kept that could leave, so a read of 64 MiB holds no more buffers than are under way. The price is the
//! protocol's: a piece that fails behind the head can't be told, so the connection ends. Structured replies have chunks
//! for that ([`crate::PendingReply`]), and for one that must not be cut they have a shorter limit
//! ([`crate::limits::UNFRAGMENTED_LENGTH_MAX`]).
//!
//! Invariants
//! 1. Bytes leave in order of offset, each once, the head first.
//! 2. Every buffer handed in comes out once: to be sent, or to be let go.
//! 3. An error answer is given only while nothing has left, and only with the last piece; after that the client may use
//!    the cookie again.

use crate::error::NbdError;
use crate::reply::Frame;
use crate::request::{Command, Request};
use rep_types::{ByteRange, IoError};

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;

/// What to do, in this order, now that a piece is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamStep<B> {
    /// Send the frame.
    Frame(Frame),
    /// Send this buffer.
    Data(B),
    /// Let this buffer go.
    Release(B),
    /// End the connection: what was promised can't be sent.
    HangUp,
}

/// A client's read in the engine's hands; `B` is whatever holds a piece's data.
#[derive(Debug)]
pub struct StreamedReply<B> {
    cookie: u64,
    range: ByteRange,
    /// The next byte to leave.
    next: u64,
    /// Pieces that came early.
    early: Vec<(ByteRange, B)>,
    failure: Option<IoError>,
    pieces_left: u32,
}

impl<B> StreamedReply<B> {
    /// The reply to a request that is to be answered this way; `None` for all others.
    pub fn new(request: &Request, structured: bool) -> Option<Self> {
        let pieces_left = request.pieces().len() as u32;
        let streamed = matches!(request.command, Command::Read { .. }) && !structured && pieces_left > 1;
        let (cookie, range) = (request.cookie, request.range);
        streamed.then(|| StreamedReply {
            cookie,
            range,
            next: range.offset,
            early: Vec::new(),
            failure: None,
            pieces_left,
        })
    }

    /// Whether every piece is answered.
    pub fn has_ended(&self) -> bool {
        self.pieces_left == 0
    }

    /// A piece is answered; its buffer holds the data, if `result` is good.
    ///
    /// # Panics
    /// When more pieces are answered than there were.
    pub fn piece_done(
        &mut self,
        piece: ByteRange,
        result: Result<(), IoError>,
        buffer: B,
        mut step: impl FnMut(StreamStep<B>),
    ) {
        self.pieces_left = self.pieces_left.checked_sub(1).expect("every piece is answered once");
        let had_failed = self.failure.is_some();
        self.failure = self.failure.or(result.err());
        let Some(error) = self.failure else {
            self.early.push((piece, buffer));
            return self.send_in_order(step);
        };
        step(StreamStep::Release(buffer));
        self.let_go(|buffer| step(StreamStep::Release(buffer)));
        match (self.next > self.range.offset, self.pieces_left) {
            (true, _) if !had_failed => step(StreamStep::HangUp),
            (false, 0) => {
                step(StreamStep::Frame(Frame::Simple { cookie: self.cookie, result: Err(NbdError::from(error)) }));
            }
            _ => {}
        }
    }

    /// The client has gone, or the reply has failed: hands out every buffer that is kept.
    pub fn let_go(&mut self, release: impl FnMut(B)) {
        self.early.drain(..).map(|(_, buffer)| buffer).for_each(release);
    }

    fn send_in_order(&mut self, mut step: impl FnMut(StreamStep<B>)) {
        while let Some(index) = self.early.iter().position(|(piece, _)| piece.offset == self.next) {
            let (piece, buffer) = self.early.swap_remove(index);
            if self.next == self.range.offset {
                step(StreamStep::Frame(Frame::Simple { cookie: self.cookie, result: Ok(()) }));
            }
            self.next = piece.end();
            step(StreamStep::Data(buffer));
        }
    }
}
