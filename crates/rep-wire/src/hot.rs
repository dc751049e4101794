//! Bodies of the hot messages: fixed layouts, no allocation in either direction.

use crate::kind::FrameKind;
use crate::layout::{AnswerBody, IdBody, RangeBody, RunsBody};
use crate::legal::BodyError;
use crate::limits::HOT_BODY_LENGTH_MAX;
use crate::message::{Message, TransferId};
use rep_types::{ByteRange, IoError, VolumeNumber, ZeroBlocks, ZeroMode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A hot body on the stack.
pub(crate) struct HotBody {
    pub(crate) kind: FrameKind,
    bytes: [u8; HOT_BODY_LENGTH_MAX],
    length: usize,
}

impl HotBody {
    fn new(kind: FrameKind, body: &(impl IntoBytes + Immutable)) -> Self {
        let mut bytes = [0; HOT_BODY_LENGTH_MAX];
        let body = body.as_bytes();
        bytes[..body.len()].copy_from_slice(body);
        HotBody { kind, bytes, length: body.len() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The body of a hot message; `None` for a control message.
pub(crate) fn encode(message: &Message) -> Option<HotBody> {
    let body = match *message {
        Message::Write { id, volume, range, durable } => range_body(FrameKind::Write, id, volume, range, 0, durable),
        Message::Zero { id, volume, range, mode, durable } => {
            range_body(FrameKind::Zero, id, volume, range, zero_mode_number(mode), durable)
        }
        Message::Read { id, volume, range } => range_body(FrameKind::Read, id, volume, range, 0, false),
        Message::ResyncRequest { id, volume, range } => {
            range_body(FrameKind::ResyncRequest, id, volume, range, 0, false)
        }
        Message::ForwardWrite { id, volume, range, fua } => {
            range_body(FrameKind::ForwardWrite, id, volume, range, 0, fua)
        }
        Message::ForwardZero { id, volume, range, mode, fua } => {
            range_body(FrameKind::ForwardZero, id, volume, range, zero_mode_number(mode), fua)
        }
        Message::ForwardRead { id, volume, range } => range_body(FrameKind::ForwardRead, id, volume, range, 0, false),
        Message::ForwardFlush { id, volume } => {
            range_body(FrameKind::ForwardFlush, id, volume, ByteRange::new(0, 0), 0, false)
        }
        Message::ForwardAck { id, result } => answer_body(FrameKind::ForwardAck, id, 0, result),
        Message::ForwardData { id, length, result } => answer_body(FrameKind::ForwardData, id, length, result),
        Message::WriteAck { id, result } => answer_body(FrameKind::WriteAck, id, 0, result),
        Message::FlushAck { id, result } => answer_body(FrameKind::FlushAck, id, 0, result),
        Message::ReadReply { id, length, result } => answer_body(FrameKind::ReadReply, id, length, result),
        Message::ResyncData { id, length } => answer_body(FrameKind::ResyncData, id, length, Ok(())),
        Message::ResyncRuns { id, length, zeroes } => runs_body(id, length, zeroes),
        Message::ResyncAck { id, result } => answer_body(FrameKind::ResyncAck, id, 0, result),
        Message::Flush { id } => id_body(FrameKind::Flush, id),
        Message::ResyncZeroes { id } => id_body(FrameKind::ResyncZeroes, id),
        Message::ResyncRefused { id } => id_body(FrameKind::ResyncRefused, id),
        Message::Ping { id } => id_body(FrameKind::Ping, id),
        Message::Pong { id } => id_body(FrameKind::Pong, id),
        Message::Control(_) => return None,
    };
    Some(body)
}

fn range_body(
    kind: FrameKind,
    id: TransferId,
    volume: VolumeNumber,
    range: ByteRange,
    mode: u8,
    durable: bool,
) -> HotBody {
    let body = RangeBody {
        id: id.0.into(),
        offset: range.offset.into(),
        length: range.length.into(),
        volume: volume.0.into(),
        mode,
        durable: durable.into(),
    };
    HotBody::new(kind, &body)
}

fn answer_body(kind: FrameKind, id: TransferId, length: u32, result: Result<(), IoError>) -> HotBody {
    let result = result.map_or_else(io_error_number, |()| 0);
    HotBody::new(kind, &AnswerBody { id: id.0.into(), length: length.into(), result, reserved: [0; 3] })
}

fn runs_body(id: TransferId, length: u32, zeroes: ZeroBlocks) -> HotBody {
    let body = RunsBody { id: id.0.into(), length: length.into(), reserved: [0; 4], zeroes: zeroes.to_bytes() };
    HotBody::new(FrameKind::ResyncRuns, &body)
}

fn id_body(kind: FrameKind, id: TransferId) -> HotBody {
    HotBody::new(kind, &IdBody { id: id.0.into() })
}

/// Decodes the body of a hot message. What it says is checked by `legal::check` afterwards.
pub(crate) fn decode(kind: FrameKind, body: &[u8]) -> Result<Message, BodyError> {
    match kind {
        FrameKind::Write
        | FrameKind::Zero
        | FrameKind::Read
        | FrameKind::ResyncRequest
        | FrameKind::ForwardWrite
        | FrameKind::ForwardZero
        | FrameKind::ForwardRead
        | FrameKind::ForwardFlush => decode_range(kind, read(body)?),
        FrameKind::WriteAck
        | FrameKind::FlushAck
        | FrameKind::ReadReply
        | FrameKind::ResyncData
        | FrameKind::ResyncAck
        | FrameKind::ForwardAck
        | FrameKind::ForwardData => decode_answer(kind, read(body)?),
        FrameKind::Flush | FrameKind::ResyncZeroes | FrameKind::ResyncRefused | FrameKind::Ping | FrameKind::Pong => {
            decode_id(kind, read(body)?)
        }
        FrameKind::ResyncRuns => decode_runs(read(body)?),
        FrameKind::Control => Err(BodyError::UnknownCode),
    }
}

fn read<T: FromBytes + KnownLayout + Immutable + Unaligned + Copy>(body: &[u8]) -> Result<T, BodyError> {
    T::read_from_bytes(body).map_err(|_| BodyError::WrongLength)
}

fn decode_range(kind: FrameKind, body: RangeBody) -> Result<Message, BodyError> {
    let id = TransferId(body.id.get());
    let volume = VolumeNumber(body.volume.get());
    let range = ByteRange::new(body.offset.get(), body.length.get());
    let durable = match body.durable {
        0 => false,
        1 => true,
        _ => return Err(BodyError::UnknownCode),
    };
    match (kind, body.mode, durable) {
        (FrameKind::Zero, mode, _) => {
            let mode = zero_mode(mode).ok_or(BodyError::UnknownCode)?;
            Ok(Message::Zero { id, volume, range, mode, durable })
        }
        (FrameKind::ForwardZero, mode, _) => {
            let mode = zero_mode(mode).ok_or(BodyError::UnknownCode)?;
            Ok(Message::ForwardZero { id, volume, range, mode, fua: durable })
        }
        (FrameKind::ForwardWrite, 0, _) => Ok(Message::ForwardWrite { id, volume, range, fua: durable }),
        (FrameKind::ForwardRead, 0, false) => Ok(Message::ForwardRead { id, volume, range }),
        (FrameKind::ForwardFlush, 0, false) if range == ByteRange::new(0, 0) => {
            Ok(Message::ForwardFlush { id, volume })
        }
        (FrameKind::Write, 0, _) => Ok(Message::Write { id, volume, range, durable }),
        (FrameKind::Read, 0, false) => Ok(Message::Read { id, volume, range }),
        (FrameKind::ResyncRequest, 0, false) => Ok(Message::ResyncRequest { id, volume, range }),
        _ => Err(BodyError::ReservedNotZero),
    }
}

fn decode_answer(kind: FrameKind, body: AnswerBody) -> Result<Message, BodyError> {
    let id = TransferId(body.id.get());
    let length = body.length.get();
    let result = io_result(body.result).ok_or(BodyError::UnknownCode)?;
    if body.reserved != [0; 3] {
        return Err(BodyError::ReservedNotZero);
    }
    match (kind, length, result) {
        (FrameKind::ReadReply, _, _) => Ok(Message::ReadReply { id, length, result }),
        (FrameKind::ResyncData, _, Ok(())) => Ok(Message::ResyncData { id, length }),
        (FrameKind::WriteAck, 0, _) => Ok(Message::WriteAck { id, result }),
        (FrameKind::FlushAck, 0, _) => Ok(Message::FlushAck { id, result }),
        (FrameKind::ResyncAck, 0, _) => Ok(Message::ResyncAck { id, result }),
        (FrameKind::ForwardAck, 0, _) => Ok(Message::ForwardAck { id, result }),
        (FrameKind::ForwardData, _, _) => Ok(Message::ForwardData { id, length, result }),
        _ => Err(BodyError::ReservedNotZero),
    }
}

fn decode_runs(body: RunsBody) -> Result<Message, BodyError> {
    if body.reserved != [0; 4] {
        return Err(BodyError::ReservedNotZero);
    }
    let (id, length) = (TransferId(body.id.get()), body.length.get());
    Ok(Message::ResyncRuns { id, length, zeroes: ZeroBlocks::from_bytes(body.zeroes) })
}

fn decode_id(kind: FrameKind, body: IdBody) -> Result<Message, BodyError> {
    let id = TransferId(body.id.get());
    match kind {
        FrameKind::Flush => Ok(Message::Flush { id }),
        FrameKind::ResyncZeroes => Ok(Message::ResyncZeroes { id }),
        FrameKind::ResyncRefused => Ok(Message::ResyncRefused { id }),
        FrameKind::Ping => Ok(Message::Ping { id }),
        FrameKind::Pong => Ok(Message::Pong { id }),
        _ => Err(BodyError::UnknownCode),
    }
}

/// An error's number on the wire.
pub(crate) fn io_error_number(error: IoError) -> u8 {
    match error {
        IoError::Io => 1,
        IoError::NoSpace => 2,
        IoError::Invalid => 3,
        IoError::NotPrimary => 4,
        IoError::Unsupported => 5,
    }
}

fn io_result(number: u8) -> Option<Result<(), IoError>> {
    Some(match number {
        0 => Ok(()),
        1 => Err(IoError::Io),
        2 => Err(IoError::NoSpace),
        3 => Err(IoError::Invalid),
        4 => Err(IoError::NotPrimary),
        5 => Err(IoError::Unsupported),
        _ => return None,
    })
}

/// A zero mode's number on the wire.
pub(crate) fn zero_mode_number(mode: ZeroMode) -> u8 {
    match mode {
        ZeroMode::Discard => 1,
        ZeroMode::ZeroMayUnmap => 2,
        ZeroMode::ZeroNoUnmap => 3,
    }
}

fn zero_mode(number: u8) -> Option<ZeroMode> {
    Some(match number {
        1 => ZeroMode::Discard,
        2 => ZeroMode::ZeroMayUnmap,
        3 => ZeroMode::ZeroNoUnmap,
        _ => return None,
    })
}
