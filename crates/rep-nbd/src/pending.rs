//! One client request that was cut into pieces: counts the answers and says what to send, and when.
//!
//! | reply | a good piece | the last piece |
//! |---|---|---|
//! | structured read | its chunk leaves at once | its chunk ends the reply, or an error chunk does |
//! | simple read, or unfragmented | its buffer is kept | one frame, then all buffers in order; or the error alone |
//! | anything else | – | the answer |
//!
//! Invariants
//! 1. A reply has exactly one last frame, and it leaves when the last piece is answered, not earlier: until then the
//!    client may not use the cookie again.
//! 2. One failed piece fails the request (I-R4); data chunks that had left don't count for the client then.

use crate::error::NbdError;
use crate::reply::Frame;
use crate::request::{Command, Request};
use rep_types::{ByteRange, IoError};

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;

/// What to do now that a piece is answered. "The buffer" is a read's; it may go where nothing else is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceAnswer {
    /// Nothing; the buffer may go.
    Wait,
    /// Nothing; keep the buffer until the request ends.
    Keep,
    /// Send the frame, then this piece's buffer. The reply goes on.
    Chunk(Frame),
    /// Send the frame, then this piece's buffer, then the other frame. The reply ends.
    ChunkAndEnd(Frame, Frame),
    /// Send the frame, then this piece's buffer. The reply ends.
    LastChunk(Frame),
    /// Send the frame, then the buffers of all pieces in order of offset. The reply ends.
    Joined(Frame),
    /// Send the frame; every kept buffer may go. The reply ends.
    End(Frame),
}

impl PieceAnswer {
    /// Whether the reply ends with it.
    pub fn ends(&self) -> bool {
        !matches!(self, Self::Wait | Self::Keep | Self::Chunk(_))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// A chunk for each piece.
    Chunks,
    /// One data chunk.
    OneChunk,
    /// A simple reply with data.
    SimpleData,
    /// No data.
    Status,
}

/// A client request in the engine's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingReply {
    cookie: u64,
    range: ByteRange,
    shape: Shape,
    structured: bool,
    fast_zero: bool,
    pieces_left: u32,
    failure: Option<(NbdError, u64)>,
}

impl PendingReply {
    /// The request, to be answered in as many pieces as [`Request::pieces`] makes.
    pub fn new(request: &Request, structured: bool) -> Self {
        let shape = match request.command {
            Command::Read { unfragmented: false } if structured => Shape::Chunks,
            Command::Read { .. } if structured => Shape::OneChunk,
            Command::Read { .. } => Shape::SimpleData,
            _ => Shape::Status,
        };
        PendingReply {
            cookie: request.cookie,
            range: request.range,
            shape,
            structured,
            fast_zero: matches!(request.command, Command::WriteZeroes { fast: true, .. }),
            pieces_left: request.pieces().len() as u32,
            failure: None,
        }
    }

    /// The client's name for the request.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The whole range asked for.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// How many pieces are still to be answered.
    pub fn pieces_left(&self) -> u32 {
        self.pieces_left
    }

    /// Whether a piece has failed: pieces not yet submitted may be answered by the shell with the same error.
    pub fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// A piece is answered.
    ///
    /// # Panics
    /// When more pieces are answered than there were.
    pub fn piece_done(&mut self, piece: ByteRange, result: Result<(), IoError>) -> PieceAnswer {
        self.pieces_left = self.pieces_left.checked_sub(1).expect("every piece is answered once");
        if let Err(error) = result {
            self.fail(piece, error);
        }
        let chunk = (self.shape == Shape::Chunks && result.is_ok()).then_some(piece);
        match (self.pieces_left > 0, chunk) {
            (true, Some(piece)) => PieceAnswer::Chunk(self.data(piece, false)),
            (true, None) if self.keeps() => PieceAnswer::Keep,
            (true, None) => PieceAnswer::Wait,
            (false, Some(piece)) => match self.failure {
                None => PieceAnswer::LastChunk(self.data(piece, true)),
                Some(_) => PieceAnswer::ChunkAndEnd(self.data(piece, false), self.end()),
            },
            (false, None) if self.keeps() => self.join(),
            (false, None) => PieceAnswer::End(self.end()),
        }
    }

    fn keeps(&self) -> bool {
        matches!(self.shape, Shape::OneChunk | Shape::SimpleData) && self.failure.is_none()
    }

    fn data(&self, piece: ByteRange, done: bool) -> Frame {
        Frame::Data { cookie: self.cookie, offset: piece.offset, length: piece.length, done }
    }

    fn join(&self) -> PieceAnswer {
        PieceAnswer::Joined(match self.shape {
            Shape::SimpleData => Frame::Simple { cookie: self.cookie, result: Ok(()) },
            _ => self.data(self.range, true),
        })
    }

    /// Remembers the failure with the lowest offset. `ENOTSUP` has a meaning of its own in the protocol and is kept
    /// for fast zeroes.
    fn fail(&mut self, piece: ByteRange, error: IoError) {
        let error = match NbdError::from(error) {
            NbdError::NotSupported if !self.fast_zero => NbdError::Invalid,
            error => error,
        };
        if self.failure.is_none_or(|(_, offset)| piece.offset < offset) {
            self.failure = Some((error, piece.offset));
        }
    }

    /// The frame that ends a reply without data.
    fn end(&self) -> Frame {
        let cookie = self.cookie;
        match self.failure {
            None => Frame::Simple { cookie, result: Ok(()) },
            Some((error, _)) if !self.structured => Frame::Simple { cookie, result: Err(error) },
            Some((error, offset)) if self.shape != Shape::Status => {
                Frame::ErrorAt { cookie, error, offset, message: words(error) }
            }
            Some((error, _)) => Frame::Error { cookie, error, message: words(error) },
        }
    }
}

fn words(error: NbdError) -> &'static str {
    match error {
        NbdError::Io => "the disks failed the request",
        NbdError::NoSpace => "the disk is full",
        NbdError::Shutdown => "the device is no longer exported by this node",
        NbdError::NotSupported => "the disk can't do this fast",
        NbdError::Invalid | NbdError::NotPermitted | NbdError::NoMemory | NbdError::Overflow => "the request failed",
    }
}
