//! Block status: what the file system says of the backing device becomes descriptors of `base:allocation`.

use crate::limits::BLOCK_STATUS_DESCRIPTORS_MAX;
use crate::protocol::{BASE_ALLOCATION_ID, allocation, chunk};
use crate::reply::chunk_header;
use crate::request::{Command, Request};

#[cfg(test)]
#[path = "block_status_tests.rs"]
mod tests;

/// What is known of a stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocation {
    /// Allocated, contents unknown. Always a safe answer.
    Data,
    /// Allocated, reads as zeroes.
    Zero,
    /// Not allocated, reads as zeroes.
    Hole,
}

impl Allocation {
    fn flags(self) -> u32 {
        match self {
            Self::Data => 0,
            Self::Zero => allocation::ZERO,
            Self::Hole => allocation::HOLE | allocation::ZERO,
        }
    }
}

/// Builds the reply to one block-status request.
///
/// Stretches are pushed in order; they may begin before the request's range and end behind it, and needn't lie on
/// blocks: what isn't a whole minimum block of zeroes counts as data, and so do gaps between stretches.
#[derive(Debug)]
pub struct BlockStatusReply {
    cookie: u64,
    at: u64,
    end: u64,
    block_mask: u64,
    most: usize,
    descriptors: Vec<(u32, Allocation)>,
}

impl BlockStatusReply {
    /// The reply to a block-status request; `min_block_bytes` is the export's.
    pub fn new(request: &Request, min_block_bytes: u32) -> Self {
        let one = matches!(request.command, Command::BlockStatus { one: true });
        BlockStatusReply {
            cookie: request.cookie,
            at: request.range.offset,
            end: request.range.end(),
            block_mask: u64::from(min_block_bytes) - 1,
            most: if one { 1 } else { BLOCK_STATUS_DESCRIPTORS_MAX },
            descriptors: Vec::new(),
        }
    }

    /// Where the next stretch is wanted from; `None` when the reply holds all it may.
    pub fn wanted(&self) -> Option<u64> {
        (self.at < self.end).then_some(self.at)
    }

    /// Adds a stretch. Returns whether more may be added.
    pub fn push(&mut self, offset: u64, length: u64, what: Allocation) -> bool {
        let end = offset.saturating_add(length).min(self.end);
        if what == Allocation::Data {
            self.extend_to(self.rounded_up(end), Allocation::Data);
            return self.wanted().is_some();
        }
        let (first, last) = (self.rounded_up(offset.max(self.at)), end & !self.block_mask);
        if first < last {
            self.extend_to(first, Allocation::Data);
            self.extend_to(last, what);
        }
        self.wanted().is_some()
    }

    fn rounded_up(&self, offset: u64) -> u64 {
        offset.checked_add(self.block_mask).map_or(self.end, |up| (up & !self.block_mask).min(self.end))
    }

    fn extend_to(&mut self, end: u64, what: Allocation) {
        let Some(length) = end.min(self.end).checked_sub(self.at).filter(|length| *length > 0) else { return };
        let length = length as u32; // no longer than the request, whose length is 32 bits
        let full = self.descriptors.len() == self.most;
        match self.descriptors.last_mut() {
            Some((last, same)) if *same == what => *last += length,
            _ if full => {
                self.end = self.at; // nothing more is wanted
                return;
            }
            _ => self.descriptors.push((length, what)),
        }
        self.at += u64::from(length);
    }

    /// Appends the whole reply. What no stretch told of counts as data if nothing at all was told, and is left out
    /// otherwise: the client asks again from there.
    pub fn append_to(mut self, out: &mut Vec<u8>) {
        if self.descriptors.is_empty() {
            self.extend_to(self.end, Allocation::Data);
        }
        let length = 4 + 8 * self.descriptors.len() as u32;
        out.extend_from_slice(&chunk_header(chunk::BLOCK_STATUS, chunk::FLAG_DONE, self.cookie, length));
        out.extend_from_slice(&BASE_ALLOCATION_ID.to_be_bytes());
        for (length, what) in &self.descriptors {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&what.flags().to_be_bytes());
        }
    }
}
