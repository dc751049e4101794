//! Frames: a message and its payload on an open connection.
//!
//! ```text
//! | header, 48 | body | payload |      header: CRC over itself; lengths are believed only after that
//! ```
//!
//! Neither side of this touches payload bytes: the writer makes header and body, and the shell sends the payload
//! right behind them from where it lies; the reader says how many payload bytes follow and which CRC they must have,
//! and the shell receives them where they are to stay.
//!
//! A frame counts only when all of it arrived whole, in sequence and for this session (I-F5, I-G10). After any error
//! the connection is of no more use: there is no way to find the next frame.

use crate::control;
use crate::hot;
use crate::kind::FrameKind;
use crate::layout::{FRAME_MAGIC, FrameHeader};
use crate::legal::{self, BodyError};
use crate::limits::{BODY_LENGTH_MAX, HEADER_LENGTH, PAYLOAD_LENGTH_MAX};
use crate::message::Message;
use crate::payload_sum::PayloadSum;
use bytes::BufMut;
use rep_types::planted;
use std::mem::offset_of;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of the header its own CRC covers.
const HEADER_CHECKED: usize = offset_of!(FrameHeader, header_crc);

/// What is wrong with a received frame. Drops the link; nothing of the frame was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// It doesn't begin like a frame.
    #[error("no frame where one should begin")]
    NotAFrame,
    /// The header's CRC is wrong.
    #[error("a damaged frame header")]
    HeaderDamaged,
    /// Another version than agreed.
    #[error("a frame of protocol version {0}")]
    WrongVersion(u16),
    /// A kind nobody knows.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// A flag nobody knows, or a reserved field that isn't 0.
    #[error("a frame with unknown flags")]
    UnknownFlags,
    /// The body is longer than any.
    #[error("a frame body of {0} bytes")]
    BodyTooLong(u32),
    /// The payload is longer than any.
    #[error("a frame payload of {0} bytes")]
    PayloadTooLong(u32),
    /// A frame of another connection (I-G10).
    #[error("a frame of another session")]
    WrongSession,
    /// A frame was lost, repeated or reordered.
    #[error("frame {found} where {expected} was due")]
    OutOfSequence {
        /// The number that was due.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The body's CRC is wrong.
    #[error("a damaged frame body")]
    BodyDamaged,
    /// The payload's sum or length is wrong.
    #[error("a damaged frame payload")]
    PayloadDamaged,
    /// The body says something illegal.
    #[error("{0}")]
    Body(#[from] BodyError),
}

/// A payload still to be received, right after the frame's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadExpected {
    /// Its length in bytes; 1 to `PAYLOAD_LENGTH_MAX`.
    pub length: u32,
    /// Its sum.
    pub sum: u64,
    /// How it is summed.
    pub by: PayloadSum,
}

impl PayloadExpected {
    /// Checks the whole payload. Until then the frame's message must not be applied.
    pub fn verify(self, payload: &[u8]) -> Result<(), FrameError> {
        let whole = payload.len() as u64 == u64::from(self.length) && self.by.of(payload) == self.sum;
        if whole || planted!("payload-crc-unchecked") { Ok(()) } else { Err(FrameError::PayloadDamaged) }
    }
}

/// Makes the frames of one direction of a connection.
#[derive(Clone, Debug)]
pub struct FrameWriter {
    version: u16,
    session: u64,
    sums: PayloadSum,
    next_sequence: u64,
}

impl FrameWriter {
    /// Frames of that version, for a receiver that named that session; sequence numbers begin at 1.
    pub fn new(version: u16, session: u64, sums: PayloadSum) -> Self {
        FrameWriter { version, session, sums, next_sequence: 1 }
    }

    /// How payloads are to be summed.
    pub fn sums(&self) -> PayloadSum {
        self.sums
    }

    /// Appends the header and body of `message` to `out` and returns their length. `payload_sum` is, by [`Self::sums`],
    /// that of the payload the caller sends right behind; it is ignored for a message without one. Hot
    /// messages don't allocate (beyond what `out` grows by). On an error nothing was appended and the writer is as it was.
    pub fn encode(&mut self, message: &Message, payload_sum: u64, out: &mut impl BufMut) -> Result<usize, BodyError> {
        legal::check(message)?;
        match (hot::encode(message), message) {
            (Some(body), _) => Ok(self.put(body.kind, body.bytes(), message.payload_length(), payload_sum, out)),
            (None, Message::Control(control)) => {
                let body = control::encode(control)?;
                Ok(self.put(FrameKind::Control, &body, 0, 0, out))
            }
            (None, _) => unreachable!("every message but a control message is hot"),
        }
    }

    fn put(
        &mut self,
        kind: FrameKind,
        body: &[u8],
        payload_length: u32,
        payload_sum: u64,
        out: &mut impl BufMut,
    ) -> usize {
        let sum = if payload_length > 0 { payload_sum } else { 0 };
        let mut header = FrameHeader {
            magic: FRAME_MAGIC,
            version: self.version.into(),
            kind: kind as u8,
            flags: 0,
            body_length: (body.len() as u32).into(),
            payload_length: payload_length.into(),
            session: self.session.into(),
            sequence: self.next_sequence.into(),
            payload_sum: (sum as u32).into(),
            body_crc: crc32fast::hash(body).into(),
            payload_sum_high: ((sum >> 32) as u32).into(),
            header_crc: 0.into(),
        };
        header.header_crc = crc32fast::hash(&header.as_bytes()[..HEADER_CHECKED]).into();
        self.next_sequence += 1;
        out.put_slice(header.as_bytes());
        out.put_slice(body);
        HEADER_LENGTH + body.len()
    }
}

/// A frame found at the front of received bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The message; not to be applied before its payload, if any, has been verified.
    pub message: Message,
    /// Bytes of header and body; the payload begins right after.
    pub consumed: usize,
    /// The payload that follows.
    pub payload: Option<PayloadExpected>,
}

/// What [`FrameReader::parse`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// Header and body aren't all there: to be asked again with at least so many bytes from the same start. Never more
    /// than `FRAME_WITHOUT_PAYLOAD_LENGTH_MAX`.
    Incomplete {
        /// Bytes needed, those given included.
        needed: usize,
    },
    /// A frame.
    Frame(Frame),
}

/// Takes the frames of one direction of a connection out of received bytes.
#[derive(Clone, Debug)]
pub struct FrameReader {
    version: u16,
    session: u64,
    sums: PayloadSum,
    next_sequence: u64,
}

impl FrameReader {
    /// Expects frames of that version for this session number, the one this node named.
    pub fn new(version: u16, session: u64, sums: PayloadSum) -> Self {
        FrameReader { version, session, sums, next_sequence: 1 }
    }

    /// Looks for a frame at the front of `bytes`, without copying: many small frames are taken out of one buffer by
    /// asking again behind `consumed` (and the payload). The sequence moves on only when a frame is returned.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Parsed, FrameError> {
        let Ok((header, rest)) = FrameHeader::ref_from_prefix(bytes) else {
            // Whatever isn't ours is told at once, not after a wait for more of it.
            let magic = bytes.len().min(FRAME_MAGIC.len());
            let ours = bytes[..magic] == FRAME_MAGIC[..magic];
            return if ours { Ok(Parsed::Incomplete { needed: HEADER_LENGTH }) } else { Err(FrameError::NotAFrame) };
        };
        let kind = self.check_header(header, &bytes[..HEADER_CHECKED])?;
        let body_length = header.body_length.get() as usize;
        let Some(body) = rest.get(..body_length) else {
            return Ok(Parsed::Incomplete { needed: HEADER_LENGTH + body_length });
        };
        let frame = decode_frame(kind, header, body, self.sums)?;
        self.next_sequence += 1;
        Ok(Parsed::Frame(frame))
    }

    fn check_header(&self, header: &FrameHeader, checked: &[u8]) -> Result<FrameKind, FrameError> {
        if header.magic != FRAME_MAGIC {
            return Err(FrameError::NotAFrame);
        }
        if header.header_crc.get() != crc32fast::hash(checked) {
            return Err(FrameError::HeaderDamaged);
        }
        if header.version.get() != self.version {
            return Err(FrameError::WrongVersion(header.version.get()));
        }
        if header.session.get() != self.session {
            return Err(FrameError::WrongSession);
        }
        let (expected, found) = (self.next_sequence, header.sequence.get());
        if found != expected && !planted!("sequence-unchecked") {
            return Err(FrameError::OutOfSequence { expected, found });
        }
        if header.flags != 0 || self.sums == PayloadSum::Crc32 && header.payload_sum_high.get() != 0 {
            return Err(FrameError::UnknownFlags);
        }
        check_lengths(header)?;
        FrameKind::from_number(header.kind).ok_or(FrameError::UnknownKind(header.kind))
    }
}

fn check_lengths(header: &FrameHeader) -> Result<(), FrameError> {
    let (body, payload) = (header.body_length.get(), header.payload_length.get());
    if body as usize > BODY_LENGTH_MAX {
        return Err(FrameError::BodyTooLong(body));
    }
    if payload > PAYLOAD_LENGTH_MAX {
        return Err(FrameError::PayloadTooLong(payload));
    }
    Ok(())
}

fn decode_frame(kind: FrameKind, header: &FrameHeader, body: &[u8], by: PayloadSum) -> Result<Frame, FrameError> {
    if header.body_crc.get() != crc32fast::hash(body) && !planted!("body-crc-unchecked") {
        return Err(FrameError::BodyDamaged);
    }
    let message = match kind {
        FrameKind::Control => Message::from(control::decode(body)?),
        _ => hot::decode(kind, body)?,
    };
    legal::check(&message)?;
    let sum = u64::from(header.payload_sum.get()) | u64::from(header.payload_sum_high.get()) << 32;
    let expected = PayloadExpected { length: header.payload_length.get(), sum, by };
    if message.payload_length() != expected.length || (expected.length == 0 && expected.sum != 0) {
        return Err(BodyError::PayloadMismatch.into());
    }
    let payload = (expected.length > 0).then_some(expected);
    Ok(Frame { message, consumed: HEADER_LENGTH + body.len(), payload })
}
