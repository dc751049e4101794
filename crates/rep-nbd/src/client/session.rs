//! Requests out, replies in: simple ones and structured ones, in any order, cut anywhere.
//!
//! Invariants
//! 1. A read succeeds only with every byte of its range brought exactly once.
//! 2. Every completion names a request in flight, once.

use super::{Completion, Outcome, ProtocolError, RequestFailure, Welcome};
use crate::block_status::Allocation;
use crate::error::NbdError;
use crate::fields::{Fields, take_up_to};
use crate::limits::{BLOCK_STATUS_DESCRIPTORS_MAX, STRING_LENGTH_MAX};
use crate::protocol::{
    CHUNK_HEADER_LENGTH, SIMPLE_REPLY_LENGTH, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, allocation, chunk,
};
use crate::request::{Command, Request};
use rep_types::ByteRange;
use std::collections::HashMap;

/// The longest chunk without data that is taken, in bytes.
const SMALL_CHUNK_LENGTH_MAX: u32 = 16 * (BLOCK_STATUS_DESCRIPTORS_MAX as u32 + STRING_LENGTH_MAX as u32);

#[derive(Debug)]
struct InFlight {
    command: Command,
    range: ByteRange,
    data: Vec<u8>,
    /// What of `data` has come, as ranges in order; neighbours are joined.
    come: Vec<(u32, u32)>,
    extents: Option<Vec<(u32, Allocation)>>,
    failure: Option<RequestFailure>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Head,
    /// Data into a request's buffer.
    Data {
        cookie: u64,
        at: u32,
        left: u32,
        done: bool,
    },
    /// The offset before the data of a data chunk.
    DataOffset {
        cookie: u64,
        length: u32,
        done: bool,
    },
    /// The payload of a chunk without data.
    Small {
        cookie: u64,
        kind: u16,
        length: u32,
        done: bool,
    },
}

/// The requests in flight on one connection.
#[derive(Debug)]
pub struct ClientSession {
    structured: bool,
    allocation_context: Option<u32>,
    in_flight: HashMap<u64, InFlight>,
    next_cookie: u64,
    stage: Stage,
    kept: Vec<u8>,
}

impl ClientSession {
    /// A session on a connection whose handshake is done.
    pub fn new(welcome: &Welcome) -> Self {
        ClientSession {
            structured: welcome.structured,
            allocation_context: welcome.allocation_context,
            in_flight: HashMap::new(),
            next_cookie: 1,
            stage: Stage::Head,
            kept: Vec::new(),
        }
    }

    /// How many requests wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether this request still waits for its answer.
    pub fn is_in_flight(&self, cookie: u64) -> bool {
        self.in_flight.contains_key(&cookie)
    }

    /// Appends a request to `out` and returns its cookie. A write's payload, `range.length` bytes, must follow.
    pub fn request(&mut self, command: Command, range: ByteRange, out: &mut Vec<u8>) -> u64 {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        out.extend_from_slice(&Request { cookie, command, range }.encode());
        let waiting = InFlight { command, range, data: Vec::new(), come: Vec::new(), extents: None, failure: None };
        self.in_flight.insert(cookie, waiting);
        cookie
    }

    /// Takes bytes off the front of `input` up to the end of a request's answer. `None`: all input is taken, and no
    /// request was answered in full.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Completion>, ProtocolError> {
        loop {
            let ended = match self.stage {
                Stage::Head => {
                    if !self.gather(input, 4) || !self.gather_head(input)? {
                        return Ok(None);
                    }
                    self.head()?
                }
                Stage::DataOffset { cookie, length, done } => {
                    if !self.gather(input, 8) {
                        return Ok(None);
                    }
                    self.data_offset(cookie, length, done)?;
                    None
                }
                Stage::Data { cookie, at, left, done } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    self.data(cookie, at, left, done, input)?
                }
                Stage::Small { cookie, kind, length, done } => {
                    if !self.gather(input, length as usize) {
                        return Ok(None);
                    }
                    self.small(cookie, kind, done)?
                }
            };
            if let Some(cookie) = ended {
                return self.complete(cookie).map(Some);
            }
        }
    }

    fn gather(&mut self, input: &mut &[u8], length: usize) -> bool {
        let missing = length.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(take_up_to(input, missing));
        self.kept.len() >= length
    }

    /// Gathers a head; its magic number tells how long it is.
    fn gather_head(&mut self, input: &mut &[u8]) -> Result<bool, ProtocolError> {
        let length = match Fields(&self.kept).u32().unwrap_or_default() {
            SIMPLE_REPLY_MAGIC => SIMPLE_REPLY_LENGTH,
            STRUCTURED_REPLY_MAGIC if self.structured => CHUNK_HEADER_LENGTH,
            magic => return Err(ProtocolError::BadMagic(u64::from(magic))),
        };
        Ok(self.gather(input, length))
    }

    fn waiting(&mut self, cookie: u64) -> Result<&mut InFlight, ProtocolError> {
        self.in_flight.get_mut(&cookie).ok_or(ProtocolError::UnknownCookie(cookie))
    }

    /// A whole head. Returns the request that is answered by it alone.
    fn head(&mut self) -> Result<Option<u64>, ProtocolError> {
        let kept = std::mem::take(&mut self.kept);
        let mut fields = Fields(&kept);
        let ended = if fields.u32() == Some(SIMPLE_REPLY_MAGIC) {
            self.simple(fields.u32().unwrap_or_default(), fields.u64().unwrap_or_default())
        } else {
            let (flags, kind) = (fields.u16().unwrap_or_default(), fields.u16().unwrap_or_default());
            let (cookie, length) = (fields.u64().unwrap_or_default(), fields.u32().unwrap_or_default());
            self.chunk(flags & chunk::FLAG_DONE != 0, kind, cookie, length)
        };
        self.kept = kept;
        self.kept.clear();
        ended
    }

    fn simple(&mut self, number: u32, cookie: u64) -> Result<Option<u64>, ProtocolError> {
        let structured = self.structured;
        let waiting = self.waiting(cookie)?;
        if number != 0 {
            waiting.fail(number, &[], None);
            return Ok(Some(cookie));
        }
        match waiting.command {
            Command::BlockStatus { .. } => Err(ProtocolError::WrongReply),
            Command::Read { .. } if structured => Err(ProtocolError::WrongReply),
            Command::Read { .. } => {
                let left = waiting.range.length;
                waiting.expect_data(0, left)?;
                self.stage = Stage::Data { cookie, at: 0, left, done: true };
                Ok(None)
            }
            _ => Ok(Some(cookie)),
        }
    }

    fn chunk(&mut self, done: bool, kind: u16, cookie: u64, length: u32) -> Result<Option<u64>, ProtocolError> {
        let waiting = self.waiting(cookie)?;
        let reads = matches!(waiting.command, Command::Read { .. });
        match kind {
            chunk::NONE if length == 0 && done => Ok(Some(cookie)),
            chunk::NONE => Err(ProtocolError::Malformed),
            chunk::OFFSET_DATA | chunk::OFFSET_HOLE if !reads => Err(ProtocolError::WrongReply),
            chunk::OFFSET_DATA if length < 9 => Err(ProtocolError::Malformed),
            chunk::OFFSET_DATA => {
                self.stage = Stage::DataOffset { cookie, length: length - 8, done };
                Ok(None)
            }
            _ if length > SMALL_CHUNK_LENGTH_MAX => Err(ProtocolError::TooLong(length)),
            _ => {
                self.stage = Stage::Small { cookie, kind, length, done };
                Ok(None)
            }
        }
    }

    fn data_offset(&mut self, cookie: u64, length: u32, done: bool) -> Result<(), ProtocolError> {
        let offset = Fields(&self.kept).u64().unwrap_or_default();
        self.kept.clear();
        let waiting = self.waiting(cookie)?;
        let at = waiting.position(offset)?;
        waiting.expect_data(at, length)?;
        self.stage = Stage::Data { cookie, at, left: length, done };
        Ok(())
    }

    fn data(
        &mut self,
        cookie: u64,
        at: u32,
        left: u32,
        done: bool,
        input: &mut &[u8],
    ) -> Result<Option<u64>, ProtocolError> {
        let bytes = take_up_to(input, left as usize);
        let taken = bytes.len() as u32;
        let room = self.waiting(cookie)?.data.get_mut(at as usize..at as usize + bytes.len());
        room.ok_or(ProtocolError::StrayData)?.copy_from_slice(bytes);
        if taken < left {
            self.stage = Stage::Data { cookie, at: at + taken, left: left - taken, done };
            return Ok(None);
        }
        self.stage = Stage::Head;
        Ok(done.then_some(cookie))
    }

    fn small(&mut self, cookie: u64, kind: u16, done: bool) -> Result<Option<u64>, ProtocolError> {
        let kept = std::mem::take(&mut self.kept);
        let context = self.allocation_context;
        let waiting = self.waiting(cookie)?;
        match kind {
            chunk::OFFSET_HOLE => waiting.hole(&kept)?,
            chunk::BLOCK_STATUS => waiting.descriptors(&kept, context)?,
            _ if kind & chunk::ERROR_BIT != 0 => waiting.error_chunk(&kept, kind)?,
            _ => return Err(ProtocolError::Malformed),
        }
        self.stage = Stage::Head;
        Ok(done.then_some(cookie))
    }

    fn complete(&mut self, cookie: u64) -> Result<Completion, ProtocolError> {
        let ended = self.in_flight.remove(&cookie).ok_or(ProtocolError::UnknownCookie(cookie))?;
        let result = match ended.failure {
            Some(failure) => Err(failure),
            None => Ok(ended.outcome()?),
        };
        Ok(Completion { cookie, result })
    }
}

impl InFlight {
    fn fail(&mut self, number: u32, message: &[u8], offset: Option<u64>) {
        if self.failure.is_none() {
            let message = String::from_utf8_lossy(message).into_owned();
            self.failure = Some(RequestFailure { error: NbdError::from_number(number), message, offset });
        }
    }

    /// Where an offset of the export lies in the read's buffer.
    fn position(&self, offset: u64) -> Result<u32, ProtocolError> {
        let at = offset.checked_sub(self.range.offset).ok_or(ProtocolError::StrayData)?;
        u32::try_from(at).map_err(|_| ProtocolError::StrayData)
    }

    /// Notes that these bytes come now: inside the request, and none of them a second time.
    fn expect_data(&mut self, at: u32, length: u32) -> Result<(), ProtocolError> {
        let end = at.checked_add(length).filter(|end| *end <= self.range.length).ok_or(ProtocolError::StrayData)?;
        let index = self.come.partition_point(|(from, _)| *from < at);
        let overlaps_before = index > 0 && self.come[index - 1].1 > at;
        let overlaps_behind = self.come.get(index).is_some_and(|(from, _)| *from < end);
        if overlaps_before || overlaps_behind || length == 0 {
            return Err(ProtocolError::StrayData);
        }
        if self.data.is_empty() {
            self.data = vec![0; self.range.length as usize];
        }
        let joins_before = index > 0 && self.come[index - 1].1 == at;
        let joins_behind = self.come.get(index).is_some_and(|(from, _)| *from == end);
        match (joins_before, joins_behind) {
            (true, true) => self.come[index - 1].1 = self.come.remove(index).1,
            (true, false) => self.come[index - 1].1 = end,
            (false, true) => self.come[index].0 = at,
            (false, false) => self.come.insert(index, (at, end)),
        }
        Ok(())
    }

    fn hole(&mut self, payload: &[u8]) -> Result<(), ProtocolError> {
        let mut fields = Fields(payload);
        let (Some(offset), Some(length), true) = (fields.u64(), fields.u32(), fields.is_empty()) else {
            return Err(ProtocolError::Malformed);
        };
        if !matches!(self.command, Command::Read { .. }) {
            return Err(ProtocolError::WrongReply);
        }
        let at = self.position(offset)?;
        self.expect_data(at, length)
    }

    fn error_chunk(&mut self, payload: &[u8], kind: u16) -> Result<(), ProtocolError> {
        let mut fields = Fields(payload);
        let (Some(number), Some(length)) = (fields.u32(), fields.u16()) else {
            return Err(ProtocolError::Malformed);
        };
        let message = fields.bytes(usize::from(length)).ok_or(ProtocolError::Malformed)?;
        let offset =
            if kind == chunk::ERROR_OFFSET { Some(fields.u64().ok_or(ProtocolError::Malformed)?) } else { None };
        self.fail(number, message, offset);
        Ok(())
    }

    fn descriptors(&mut self, payload: &[u8], context: Option<u32>) -> Result<(), ProtocolError> {
        let mut fields = Fields(payload);
        let id = fields.u32().ok_or(ProtocolError::Malformed)?;
        let asked = matches!(self.command, Command::BlockStatus { .. });
        if !asked || Some(id) != context || self.extents.is_some() {
            return Err(ProtocolError::WrongReply);
        }
        let mut extents = Vec::with_capacity(fields.len() / 8);
        while !fields.is_empty() {
            let (Some(length @ 1..), Some(flags)) = (fields.u32(), fields.u32()) else {
                return Err(ProtocolError::Malformed);
            };
            extents.push((length, what_is(flags)));
        }
        if extents.is_empty() {
            return Err(ProtocolError::Malformed);
        }
        self.extents = Some(extents);
        Ok(())
    }

    fn outcome(self) -> Result<Outcome, ProtocolError> {
        match self.command {
            Command::Read { .. } if self.come != [(0, self.range.length)] => Err(ProtocolError::MissingData),
            Command::Read { .. } => Ok(Outcome::Data(self.data)),
            Command::BlockStatus { .. } => self.extents.map(Outcome::Extents).ok_or(ProtocolError::WrongReply),
            _ => Ok(Outcome::Done),
        }
    }
}

/// Unallocated without reading as zeroes says nothing of the contents, so it counts as data.
fn what_is(flags: u32) -> Allocation {
    match (flags & allocation::ZERO != 0, flags & allocation::HOLE != 0) {
        (true, true) => Allocation::Hole,
        (true, false) => Allocation::Zero,
        (false, _) => Allocation::Data,
    }
}
