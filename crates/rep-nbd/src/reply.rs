//! Replies as values, and their bytes. A frame is everything of a reply but a read's data, which the shell sends
//! right behind it from wherever it lies.

use crate::error::NbdError;
use crate::limits::ERROR_MESSAGE_LENGTH_MAX;
use crate::protocol::{CHUNK_HEADER_LENGTH, SIMPLE_REPLY_LENGTH, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk};

/// The longest a frame can be, in bytes.
pub const FRAME_LENGTH_MAX: usize = CHUNK_HEADER_LENGTH + 4 + 2 + ERROR_MESSAGE_LENGTH_MAX + 8;

/// A frame of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A simple reply. Without error and in answer to a read, the data follows.
    Simple {
        /// The request's cookie.
        cookie: u64,
        /// How it went.
        result: Result<(), NbdError>,
    },
    /// The head of a data chunk; `length` bytes of data follow.
    Data {
        /// The request's cookie.
        cookie: u64,
        /// Where the data belongs.
        offset: u64,
        /// Bytes of data.
        length: u32,
        /// Whether the reply ends with it.
        done: bool,
    },
    /// A chunk that stands for zeroes.
    Hole {
        /// The request's cookie.
        cookie: u64,
        /// Where the zeroes begin.
        offset: u64,
        /// How many; not 0.
        length: u32,
        /// Whether the reply ends with it.
        done: bool,
    },
    /// A chunk without content that ends a structured reply.
    Done {
        /// The request's cookie.
        cookie: u64,
    },
    /// An error chunk; ends the reply.
    Error {
        /// The request's cookie.
        cookie: u64,
        /// What.
        error: NbdError,
        /// In words; cut at [`ERROR_MESSAGE_LENGTH_MAX`].
        message: &'static str,
    },
    /// An error chunk with the place it happened at; ends the reply.
    ErrorAt {
        /// The request's cookie.
        cookie: u64,
        /// What.
        error: NbdError,
        /// Where.
        offset: u64,
        /// In words; cut at [`ERROR_MESSAGE_LENGTH_MAX`].
        message: &'static str,
    },
}

/// The bytes of a frame, on the stack.
#[derive(Clone, Copy)]
pub struct FrameBytes {
    bytes: [u8; FRAME_LENGTH_MAX],
    length: usize,
}

/// Where a frame's bytes go.
trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_chunk(&mut self, kind: u16, done: bool, cookie: u64, length: usize) {
        let flags = if done { chunk::FLAG_DONE } else { 0 };
        self.put(&chunk_header(kind, flags, cookie, length as u32));
    }

    fn put_error(&mut self, error: NbdError, message: &[u8]) {
        self.put(&error.number().to_be_bytes());
        self.put(&(message.len() as u16).to_be_bytes());
        self.put(message);
    }
}

impl Sink for FrameBytes {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl AsRef<[u8]> for FrameBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

pub(crate) fn chunk_header(kind: u16, flags: u16, cookie: u64, length: u32) -> [u8; CHUNK_HEADER_LENGTH] {
    let mut head = [0; CHUNK_HEADER_LENGTH];
    head[0..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    head[4..6].copy_from_slice(&flags.to_be_bytes());
    head[6..8].copy_from_slice(&kind.to_be_bytes());
    head[8..16].copy_from_slice(&cookie.to_be_bytes());
    head[16..20].copy_from_slice(&length.to_be_bytes());
    head
}

fn cut(message: &str) -> &[u8] {
    let mut end = message.len().min(ERROR_MESSAGE_LENGTH_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message.as_bytes()[..end]
}

impl Frame {
    /// The frame's bytes, on the stack.
    pub fn encode(&self) -> FrameBytes {
        let mut out = FrameBytes { bytes: [0; FRAME_LENGTH_MAX], length: 0 };
        self.write(&mut out);
        out
    }

    /// Appends the frame's bytes.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    fn write(&self, out: &mut impl Sink) {
        match *self {
            Frame::Simple { cookie, result } => {
                let mut reply = [0; SIMPLE_REPLY_LENGTH];
                reply[0..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
                reply[4..8].copy_from_slice(&result.err().map_or(0, NbdError::number).to_be_bytes());
                reply[8..16].copy_from_slice(&cookie.to_be_bytes());
                out.put(&reply);
            }
            Frame::Data { cookie, offset, length, done } => {
                out.put_chunk(chunk::OFFSET_DATA, done, cookie, 8 + length as usize);
                out.put(&offset.to_be_bytes());
            }
            Frame::Hole { cookie, offset, length, done } => {
                out.put_chunk(chunk::OFFSET_HOLE, done, cookie, 12);
                out.put(&offset.to_be_bytes());
                out.put(&length.to_be_bytes());
            }
            Frame::Done { cookie } => out.put_chunk(chunk::NONE, true, cookie, 0),
            Frame::Error { cookie, error, message } => {
                let message = cut(message);
                out.put_chunk(chunk::ERROR, true, cookie, 6 + message.len());
                out.put_error(error, message);
            }
            Frame::ErrorAt { cookie, error, offset, message } => {
                let message = cut(message);
                out.put_chunk(chunk::ERROR_OFFSET, true, cookie, 14 + message.len());
                out.put_error(error, message);
                out.put(&offset.to_be_bytes());
            }
        }
    }

    /// How many bytes of data follow the frame on the stream; for a simple reply to a read the request tells.
    pub fn data_length(&self) -> u32 {
        match self {
            Frame::Data { length, .. } => *length,
            _ => 0,
        }
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
