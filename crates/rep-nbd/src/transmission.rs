//! The transmission phase, server side: bytes become requests.
//!
//! It isn't a queue and answers nothing: the shell submits what comes out, builds replies with [`crate::PendingReply`]
//! and stops receiving while it has enough in hand. There is no allocation anywhere.
//!
//! ```text
//!            +--> [Header] --DISC-----------------> Over
//!            |        |  \--bad magic-------------> Over
//!            |        |
//!            +--------+-- legal, no payload: Request
//!            |        +-- legal write: Write -> [Payload] -> Payload ... (the last has remaining 0)
//!            |        +-- illegal: Reject
//!            +--------+-- illegal write: [Drain] until its payload is through, then Reject
//! ```
//!
//! Invariants
//! 1. `NeedMore` is only said when all input was taken; a request cut anywhere is put together inside.
//! 2. An illegal request never ends the connection (I-F7), and its answer leaves after its payload has come in:
//!    clients don't expect an answer to what they are still sending.
//! 3. A request that comes out lies within the export, on minimum blocks, and isn't longer than allowed.

use crate::error::{RequestFault, TransmissionError};
use crate::export::{Export, FastZero};
use crate::fields::{Fields, take_up_to};
use crate::limits::{PAYLOAD_LENGTH_MAX, UNFRAGMENTED_LENGTH_MAX};
use crate::negotiation::Negotiated;
use crate::protocol::{REQUEST_LENGTH, REQUEST_MAGIC, command, command_flag as flag};
use crate::reply::Frame;
use crate::request::{Command, Request};
use rep_types::ByteRange;

#[cfg(test)]
#[path = "transmission_tests.rs"]
mod tests;

/// What came out of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// All input is taken; receive more.
    NeedMore,
    /// A request without payload.
    Request(Request),
    /// A write; its payload follows as `Payload`, or is received elsewhere (see [`Transmission::payload_received`]).
    Write(Request),
    /// The next bytes of the last write's payload.
    Payload {
        /// The bytes.
        bytes: &'a [u8],
        /// How many follow; 0: the write is whole.
        remaining: u32,
    },
    /// An illegal request: send the frame. The connection goes on.
    Reject {
        /// What was wrong.
        fault: RequestFault,
        /// The answer.
        frame: Frame,
    },
    /// The client leaves: finish what is in flight, then hang up. Nothing more is taken.
    Disconnect,
    /// The stream can't be understood any more: hang up. Nothing more is taken.
    Broken(TransmissionError),
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Header,
    Payload { remaining: u32 },
    Drain { remaining: u32, fault: RequestFault, frame: Frame },
    Over(Option<TransmissionError>),
}

/// The request stream of one connection.
#[derive(Debug)]
pub struct Transmission {
    size_bytes: u64,
    block_mask: u64,
    read_only: bool,
    trim: bool,
    fast_zero: FastZero,
    structured: bool,
    block_status: bool,
    stopping: bool,
    stage: Stage,
    head: [u8; REQUEST_LENGTH],
    head_length: usize,
}

struct RawRequest {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    length: u32,
}

impl Transmission {
    /// The stream that begins where the negotiation ended.
    pub fn new(export: &Export, negotiated: &Negotiated) -> Self {
        Transmission {
            size_bytes: export.size_bytes(),
            block_mask: u64::from(export.min_block_bytes()) - 1,
            read_only: export.features.read_only,
            trim: export.features.trim,
            fast_zero: export.features.fast_zero,
            structured: negotiated.structured,
            block_status: negotiated.block_status,
            stopping: false,
            stage: Stage::Header,
            head: [0; REQUEST_LENGTH],
            head_length: 0,
        }
    }

    /// Whether structured replies were negotiated.
    pub fn structured(&self) -> bool {
        self.structured
    }

    /// From here on every request is refused with `ESHUTDOWN`: the node was demoted, or stops. A write whose payload
    /// is coming in stays the shell's to answer.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// The volume grew or shrank. Clients learn sizes only when they connect; bounds are checked against this one.
    pub fn resize(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
    }

    /// Whether the stream has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    /// How many bytes of a legal write's payload are still to come. The shell may receive that many right into the
    /// write's slots and say so with [`Transmission::payload_received`].
    pub fn payload_remaining(&self) -> u32 {
        match self.stage {
            Stage::Payload { remaining } => remaining,
            _ => 0,
        }
    }

    /// How many bytes of an illegal write's payload are still to be thrown away. The shell may throw them away itself
    /// and say so with [`Transmission::payload_received`].
    pub fn drain_remaining(&self) -> u32 {
        match self.stage {
            Stage::Drain { remaining, .. } => remaining,
            _ => 0,
        }
    }

    /// The shell takes the rest of a write's payload off the stream itself; returns how many bytes that are. The next
    /// byte this parser gets must be the one behind them.
    pub fn take_over_payload(&mut self) -> u32 {
        let remaining = self.payload_remaining();
        self.payload_received(remaining);
        remaining
    }

    /// `length` bytes of payload were received past this parser; returns how many of the payload follow.
    ///
    /// # Panics
    /// When that is more than was to come: the shell would have swallowed the next request.
    pub fn payload_received(&mut self, length: u32) -> u32 {
        let (Stage::Payload { remaining } | Stage::Drain { remaining, .. }) = &mut self.stage else {
            assert_eq!(length, 0, "no payload is due");
            return 0;
        };
        *remaining = remaining.checked_sub(length).expect("more payload was received than is due");
        let left = *remaining;
        if let Stage::Payload { remaining: 0 } = self.stage {
            self.stage = Stage::Header;
        }
        left
    }

    /// Takes one thing off the front of the input.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Parsed<'a> {
        match self.stage {
            Stage::Header => self.header(input),
            Stage::Payload { remaining } => self.payload(remaining, input),
            Stage::Drain { remaining, fault, frame } => self.drain(remaining, fault, frame, input),
            Stage::Over(None) => Parsed::Disconnect,
            Stage::Over(Some(error)) => Parsed::Broken(error),
        }
    }

    fn payload<'a>(&mut self, remaining: u32, input: &mut &'a [u8]) -> Parsed<'a> {
        if input.is_empty() {
            return Parsed::NeedMore;
        }
        let bytes = take_up_to(input, remaining as usize);
        let remaining = self.payload_received(bytes.len() as u32);
        Parsed::Payload { bytes, remaining }
    }

    fn drain<'a>(&mut self, remaining: u32, fault: RequestFault, frame: Frame, input: &mut &'a [u8]) -> Parsed<'a> {
        let taken = take_up_to(input, remaining as usize).len() as u32;
        if taken < remaining {
            self.stage = Stage::Drain { remaining: remaining - taken, fault, frame };
            return Parsed::NeedMore;
        }
        self.stage = Stage::Header;
        Parsed::Reject { fault, frame }
    }

    fn header<'a>(&mut self, input: &mut &'a [u8]) -> Parsed<'a> {
        if self.head_length == 0
            && let Some((head, rest)) = input.split_first_chunk::<REQUEST_LENGTH>()
        {
            *input = rest;
            return self.request(head, input);
        }
        let bytes = take_up_to(input, REQUEST_LENGTH - self.head_length);
        self.head[self.head_length..self.head_length + bytes.len()].copy_from_slice(bytes);
        self.head_length += bytes.len();
        if self.head_length < REQUEST_LENGTH {
            return Parsed::NeedMore;
        }
        self.head_length = 0;
        let head = self.head;
        self.request(&head, input)
    }

    fn request<'a>(&mut self, head: &[u8; REQUEST_LENGTH], input: &mut &'a [u8]) -> Parsed<'a> {
        let raw = match RawRequest::parse(head) {
            Ok(raw) => raw,
            Err(error) => {
                self.stage = Stage::Over(Some(error));
                return Parsed::Broken(error);
            }
        };
        if raw.command == command::DISC {
            self.stage = Stage::Over(None);
            return Parsed::Disconnect;
        }
        match self.judge(&raw) {
            Ok(command) => {
                let range = ByteRange::new(raw.offset, raw.length);
                let request = Request { cookie: raw.cookie, command, range };
                if let Command::Write { .. } = command {
                    self.stage = Stage::Payload { remaining: raw.length };
                    return Parsed::Write(request);
                }
                Parsed::Request(request)
            }
            Err(fault) => self.reject(&raw, fault, input),
        }
    }

    fn reject<'a>(&mut self, raw: &RawRequest, fault: RequestFault, input: &mut &'a [u8]) -> Parsed<'a> {
        let (cookie, error) = (raw.cookie, fault.error());
        let frame = if self.structured {
            Frame::Error { cookie, error, message: fault.message() }
        } else {
            Frame::Simple { cookie, result: Err(error) }
        };
        if raw.command == command::WRITE && raw.length > 0 {
            return self.drain(raw.length, fault, frame, input);
        }
        Parsed::Reject { fault, frame }
    }

    /// Whether a request is legal; the order of the checks decides which of several faults is told.
    fn judge(&self, raw: &RawRequest) -> Result<Command, RequestFault> {
        let command = raw.command()?;
        if self.stopping {
            return Err(RequestFault::Stopping);
        }
        self.judge_flags(raw)?;
        if command == Command::Flush {
            let reserved = raw.offset == 0 && raw.length == 0;
            return if reserved { Ok(command) } else { Err(RequestFault::ReservedNotZero) };
        }
        self.judge_offer(command)?;
        self.judge_range(raw, command)?;
        Ok(command)
    }

    /// FUA is legal on every command, the others only where they mean something.
    fn judge_flags(&self, raw: &RawRequest) -> Result<(), RequestFault> {
        let own = match raw.command {
            command::READ if self.structured => flag::DF,
            command::WRITE_ZEROES if self.fast_zero != FastZero::NotOffered => flag::NO_HOLE | flag::FAST_ZERO,
            command::WRITE_ZEROES => flag::NO_HOLE,
            command::BLOCK_STATUS => flag::REQ_ONE,
            _ => 0,
        };
        if raw.flags & !(flag::FUA | own) == 0 { Ok(()) } else { Err(RequestFault::BadFlags) }
    }

    fn judge_offer(&self, command: Command) -> Result<(), RequestFault> {
        match command {
            Command::Trim { .. } if !self.trim => Err(RequestFault::NotOffered),
            Command::BlockStatus { .. } if !self.block_status => Err(RequestFault::NoContext),
            Command::Write { .. } | Command::Trim { .. } | Command::WriteZeroes { .. } if self.read_only => {
                Err(RequestFault::ReadOnly)
            }
            _ => Ok(()),
        }
    }

    fn judge_range(&self, raw: &RawRequest, command: Command) -> Result<(), RequestFault> {
        let length = u64::from(raw.length);
        if length == 0 {
            return Err(RequestFault::ZeroLength);
        }
        if raw.offset.checked_add(length).is_none_or(|end| end > self.size_bytes) {
            let writes = matches!(command, Command::Write { .. } | Command::WriteZeroes { .. });
            return Err(if writes { RequestFault::WriteBeyondEnd } else { RequestFault::BeyondEnd });
        }
        if (raw.offset | length) & self.block_mask != 0 {
            return Err(RequestFault::Unaligned);
        }
        match command {
            Command::Read { unfragmented: true } if raw.length > UNFRAGMENTED_LENGTH_MAX => {
                Err(RequestFault::TooLongUnfragmented)
            }
            Command::Read { .. } | Command::Write { .. } if raw.length > PAYLOAD_LENGTH_MAX => {
                Err(RequestFault::TooLong)
            }
            Command::WriteZeroes { fast: true, .. } if self.fast_zero != FastZero::Done => Err(RequestFault::NotFast),
            _ => Ok(()),
        }
    }
}

impl RawRequest {
    fn parse(head: &[u8; REQUEST_LENGTH]) -> Result<Self, TransmissionError> {
        let mut fields = Fields(head);
        let magic = fields.u32().unwrap_or(0);
        if magic != REQUEST_MAGIC {
            return Err(TransmissionError::BadMagic(magic));
        }
        Ok(RawRequest {
            flags: fields.u16().unwrap_or(0),
            command: fields.u16().unwrap_or(0),
            cookie: fields.u64().unwrap_or(0),
            offset: fields.u64().unwrap_or(0),
            length: fields.u32().unwrap_or(0),
        })
    }

    fn command(&self) -> Result<Command, RequestFault> {
        let has = |bit: u16| self.flags & bit != 0;
        let fua = has(flag::FUA);
        Ok(match self.command {
            command::READ => Command::Read { unfragmented: has(flag::DF) },
            command::WRITE => Command::Write { fua },
            command::FLUSH => Command::Flush,
            command::TRIM => Command::Trim { fua },
            command::CACHE => Command::Cache,
            command::WRITE_ZEROES => {
                Command::WriteZeroes { no_hole: has(flag::NO_HOLE), fast: has(flag::FAST_ZERO), fua }
            }
            command::BLOCK_STATUS => Command::BlockStatus { one: has(flag::REQ_ONE) },
            _ => return Err(RequestFault::UnknownCommand),
        })
    }
}
