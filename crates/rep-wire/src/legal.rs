//! What a message may say: the same checks before it is sent and after it arrived.

use crate::limits::{BLOCK_COUNT_MAX, FORWARD_WINDOW, OFFSET_MAX, PAYLOAD_LENGTH_MAX, RUNS_LENGTH_MAX, VOLUMES_MAX};
use crate::message::{ControlMessage, Message};
use crate::runs::{RunsError, decode_runs};
use rep_types::{
    BLOCK_SIZE, BlockIndex, ByteRange, DIGEST_LENGTH, GENERATION_HISTORY_LENGTH, IoError, REQUEST_LENGTH_MAX,
    SECTOR_SIZE, VolumeNumber, ZERO_LENGTH_MAX, ZeroBlocks,
};

/// Blocks in the longest range whose digests are asked for.
const BLOCKS_MAX: usize = REQUEST_LENGTH_MAX as usize / BLOCK_SIZE as usize;

/// What is wrong with a frame's body, or with a message that was to become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// The body isn't as long as its kind says.
    #[error("the body has the wrong length")]
    WrongLength,
    /// A reserved byte isn't 0.
    #[error("a reserved byte isn't zero")]
    ReservedNotZero,
    /// A number stands for nothing.
    #[error("an unknown code")]
    UnknownCode,
    /// The range is empty, too long, not on sectors, or beyond any volume's end.
    #[error("an illegal range")]
    IllegalRange,
    /// The header's payload length isn't what the message says.
    #[error("the payload has the wrong length")]
    PayloadMismatch,
    /// The control message can't be decoded.
    #[error("a malformed control message")]
    Malformed,
    /// The control message is too long.
    #[error("a control message that is too long")]
    TooLong,
    /// A list is too long or not in order.
    #[error("a list that is too long or not in order")]
    IllegalList,
    /// Blocks are named as zeroes that the range doesn't have, or none of it is, or all.
    #[error("zeroes that don't fit their range")]
    IllegalRuns,
    /// A block number is out of bounds.
    #[error("an illegal block number")]
    IllegalBlock,
    /// The bitmap's run lengths are wrong.
    #[error("illegal bitmap runs: {0}")]
    Runs(#[from] RunsError),
}

/// Checks everything a message says that doesn't need a volume's size to be judged.
pub(crate) fn check(message: &Message) -> Result<(), BodyError> {
    match message {
        Message::Write { range, .. }
        | Message::Read { range, .. }
        | Message::ResyncRequest { range, .. }
        | Message::ForwardWrite { range, .. }
        | Message::ForwardRead { range, .. } => check_range(*range, PAYLOAD_LENGTH_MAX),
        Message::Zero { range, .. } | Message::ForwardZero { range, .. } => check_range(*range, ZERO_LENGTH_MAX),
        Message::ReadReply { length, result, .. } | Message::ForwardData { length, result, .. } => {
            check_payload(*length, *result)
        }
        Message::ResyncData { length, .. } => check_payload(*length, Ok(())),
        Message::ResyncRuns { length, zeroes, .. } => {
            check_payload(*length, Ok(())).and_then(|()| check_runs(*length, zeroes))
        }
        Message::Control(control) => check_control(control),
        _ => Ok(()),
    }
}

fn check_range(range: ByteRange, length_max: u32) -> Result<(), BodyError> {
    if range.length <= length_max && range.is_legal(OFFSET_MAX) { Ok(()) } else { Err(BodyError::IllegalRange) }
}

/// A success carries whole sectors, an error nothing.
fn check_payload(length: u32, result: Result<(), IoError>) -> Result<(), BodyError> {
    let legal = match result {
        Ok(()) => length > 0 && length <= PAYLOAD_LENGTH_MAX && u64::from(length).is_multiple_of(SECTOR_SIZE),
        Err(_) => length == 0,
    };
    if legal { Ok(()) } else { Err(BodyError::IllegalRange) }
}

/// What is all zeroes, or has none, is told by another message.
fn check_runs(length: u32, zeroes: &ZeroBlocks) -> Result<(), BodyError> {
    let mixed = !zeroes.is_empty() && !zeroes.covers(length);
    if mixed && zeroes.is_within(length) { Ok(()) } else { Err(BodyError::IllegalRuns) }
}

fn check_control(message: &ControlMessage) -> Result<(), BodyError> {
    match message {
        ControlMessage::View { view, .. } => check_volumes(view.volumes.iter().map(|volume| volume.volume)),
        ControlMessage::Decision { decisions, .. } => check_volumes(decisions.iter().map(|(volume, _)| *volume)),
        ControlMessage::State { disks, .. } => check_volumes(disks.iter().map(|(volume, _)| *volume)),
        ControlMessage::BitmapRequest { from, .. } => check_block(*from),
        ControlMessage::BitmapPart { from, next, runs, .. } => check_bitmap_part(*from, *next, runs),
        ControlMessage::OutOfSync { first, count, .. } => {
            let end = first.0.checked_add(*count).ok_or(BodyError::IllegalBlock)?;
            check_block(BlockIndex(end))
        }
        ControlMessage::DigestRequest { range, .. } => check_range(*range, REQUEST_LENGTH_MAX),
        ControlMessage::Digests { digests, .. } => check_digests(digests),
        ControlMessage::ResyncCompare { range, digests, .. } => {
            check_range(*range, REQUEST_LENGTH_MAX).and_then(|()| check_digests(digests))
        }
        ControlMessage::DigestDone { different, .. } | ControlMessage::ResyncCompared { different, .. } => {
            let inside = different.last().is_none_or(|last| usize::from(*last) < BLOCKS_MAX);
            if inside && different.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(BodyError::IllegalList) }
        }
        ControlMessage::ForwardDone { results, .. } if results.len() as u64 > FORWARD_WINDOW => {
            Err(BodyError::IllegalList)
        }
        ControlMessage::ResyncGenerations { history, .. } if history.len() > GENERATION_HISTORY_LENGTH => {
            Err(BodyError::IllegalList)
        }
        _ => Ok(()),
    }
}

fn check_digests(digests: &[u8]) -> Result<(), BodyError> {
    let legal = digests.len().is_multiple_of(DIGEST_LENGTH) && digests.len() <= BLOCKS_MAX * DIGEST_LENGTH;
    if legal { Ok(()) } else { Err(BodyError::IllegalList) }
}

fn check_volumes(numbers: impl ExactSizeIterator<Item = VolumeNumber>) -> Result<(), BodyError> {
    if numbers.len() <= VOLUMES_MAX && numbers.is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(BodyError::IllegalList)
    }
}

fn check_block(block: BlockIndex) -> Result<(), BodyError> {
    if block.0 <= BLOCK_COUNT_MAX { Ok(()) } else { Err(BodyError::IllegalBlock) }
}

fn check_bitmap_part(from: BlockIndex, next: Option<BlockIndex>, runs: &[u8]) -> Result<(), BodyError> {
    let end = next.unwrap_or(BlockIndex(BLOCK_COUNT_MAX));
    check_block(from)?;
    check_block(end)?;
    if end < from || next == Some(from) {
        return Err(BodyError::IllegalBlock);
    }
    if runs.len() > RUNS_LENGTH_MAX {
        return Err(BodyError::IllegalList);
    }
    decode_runs(from, end, runs).try_for_each(|run| run.map(drop))?;
    Ok(())
}
