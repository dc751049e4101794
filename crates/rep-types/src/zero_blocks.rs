//! Which blocks of a range are zeroes: one bit a block, for a range as long as a request may be.
//!
//! A fixed size, so that it is copied and not allocated, and so that no number of runs is too many.

use crate::range::ByteRange;
use crate::units::{BLOCK_SIZE, REQUEST_LENGTH_MAX};

/// Blocks in the longest range.
const BLOCKS_MAX: u32 = REQUEST_LENGTH_MAX / BLOCK_SIZE as u32;
const WORDS: usize = BLOCKS_MAX as usize / 64;

/// The blocks of a range that are zeroes, counted from the range's first byte. The last block of a range may be shorter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ZeroBlocks([u64; WORDS]);

/// A stretch of a range, all of whose blocks are zeroes or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZeroRun {
    /// Whether it is zeroes.
    pub zero: bool,
    /// Where it is.
    pub range: ByteRange,
}

impl ZeroBlocks {
    /// Bytes of its code.
    pub const LENGTH: usize = BLOCKS_MAX as usize / 8;
    /// No block is zeroes.
    pub const NONE: ZeroBlocks = ZeroBlocks([0; WORDS]);

    /// Those blocks of `bytes`, at most [`REQUEST_LENGTH_MAX`] of them, for which `is_zero` says so.
    pub fn of(bytes: &[u8], mut is_zero: impl FnMut(&[u8]) -> bool) -> Self {
        let mut zeroes = Self::NONE;
        let blocks = bytes.chunks(BLOCK_SIZE as usize).take(BLOCKS_MAX as usize).zip(0..);
        blocks.filter(|(block, _)| is_zero(block)).for_each(|(_, index)| zeroes.set(index));
        zeroes
    }

    /// From its code: bit `i % 8` of byte `i / 8` is block `i`.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let mut zeroes = Self::NONE;
        for (word, code) in zeroes.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*code);
        }
        zeroes
    }

    /// Its code.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        for (code, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *code = word.to_le_bytes();
        }
        bytes
    }

    /// Adds a block below 256.
    pub fn set(&mut self, index: u32) {
        self.0[index as usize / 64] |= 1 << (index % 64);
    }

    /// Whether this block is zeroes.
    pub fn contains(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Whether no block is zeroes.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Whether it speaks of no block beyond so many bytes.
    pub fn is_within(&self, length: u32) -> bool {
        (blocks_of(length)..BLOCKS_MAX).all(|index| !self.contains(index))
    }

    /// Whether every block of so many bytes is zeroes.
    pub fn covers(&self, length: u32) -> bool {
        length > 0 && (0..blocks_of(length)).all(|index| self.contains(index))
    }

    /// Of so many bytes, those that aren't in blocks of zeroes.
    pub fn data_length(&self, length: u32) -> u32 {
        self.runs(ByteRange::new(0, length)).filter(|run| !run.zero).map(|run| run.range.length).sum()
    }

    /// The range's runs, zeroes and others in turn.
    pub fn runs(self, range: ByteRange) -> ZeroRuns {
        ZeroRuns { zeroes: self, range, next: 0 }
    }

    /// Without the runs of zeroes that are shorter than so many blocks, within so many bytes.
    #[must_use]
    pub fn without_short_runs(self, length: u32, blocks_min: u32) -> Self {
        let mut long = Self::NONE;
        let runs = self.runs(ByteRange::new(0, length)).filter(|run| run.zero);
        for ZeroRun { range, .. } in runs.filter(|run| blocks_of(run.range.length) >= blocks_min) {
            let first = (range.offset / BLOCK_SIZE) as u32;
            (first..first + blocks_of(range.length)).for_each(|index| long.set(index));
        }
        long
    }
}

/// Blocks in so many bytes, the last perhaps shorter; no more than a request has.
fn blocks_of(length: u32) -> u32 {
    length.div_ceil(BLOCK_SIZE as u32).min(BLOCKS_MAX)
}

/// See [`ZeroBlocks::runs`].
#[derive(Clone, Debug)]
pub struct ZeroRuns {
    zeroes: ZeroBlocks,
    range: ByteRange,
    next: u32,
}

impl Iterator for ZeroRuns {
    type Item = ZeroRun;

    fn next(&mut self) -> Option<ZeroRun> {
        let (first, blocks) = (self.next, blocks_of(self.range.length));
        if first >= blocks {
            return None;
        }
        let zero = self.zeroes.contains(first);
        let end = (first..blocks).find(|index| self.zeroes.contains(*index) != zero).unwrap_or(blocks);
        self.next = end;
        let start = first * BLOCK_SIZE as u32;
        let length = if end == blocks { self.range.length - start } else { (end - first) * BLOCK_SIZE as u32 };
        Some(ZeroRun { zero, range: ByteRange::new(self.range.offset + u64::from(start), length) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(blocks: impl IntoIterator<Item = u32>) -> ZeroBlocks {
        let mut zeroes = ZeroBlocks::NONE;
        blocks.into_iter().for_each(|index| zeroes.set(index));
        zeroes
    }

    fn runs(zeroes: ZeroBlocks, range: ByteRange) -> Vec<(bool, u64, u32)> {
        zeroes.runs(range).map(|run| (run.zero, run.range.offset, run.range.length)).collect()
    }

    #[test]
    fn runs_alternate_and_make_up_the_range() {
        let zeroes = with([0, 1, 4]);
        let range = ByteRange::new(1 << 30, 5 * 4096 + 512);
        let first = 1 << 30;
        let expected = [
            (true, first, 8192),
            (false, first + 8192, 8192),
            (true, first + 16384, 4096),
            (false, first + 20480, 512),
        ];
        assert_eq!(runs(zeroes, range), expected);
        assert_eq!(zeroes.data_length(range.length), 8192 + 512);
    }

    #[test]
    fn a_short_last_block_is_a_block() {
        let length = 2 * 4096 + 512;
        assert_eq!(runs(with([2]), ByteRange::new(0, length)), [(false, 0, 8192), (true, 8192, 512)]);
        assert!(with([0, 1, 2]).covers(length) && !with([0, 1]).covers(length));
        assert!(with([2]).is_within(length) && !with([3]).is_within(length));
    }

    #[test]
    fn the_longest_range_has_a_bit_for_each_block() {
        let all = with(0..256);
        assert!(all.covers(REQUEST_LENGTH_MAX) && all.is_within(REQUEST_LENGTH_MAX));
        assert_eq!(all.data_length(REQUEST_LENGTH_MAX), 0);
        assert_eq!(with((0..256).step_by(2)).runs(ByteRange::new(0, REQUEST_LENGTH_MAX)).count(), 256);
        assert_eq!(ZeroBlocks::NONE.data_length(REQUEST_LENGTH_MAX), REQUEST_LENGTH_MAX);
        assert!(!ZeroBlocks::NONE.covers(0));
    }

    #[test]
    fn short_runs_are_left_out_wherever_they_are() {
        let zeroes = with([0, 1, 2, 10, 11, 12, 13, 254, 255]);
        assert_eq!(zeroes.without_short_runs(REQUEST_LENGTH_MAX, 4), with(10..14));
        assert_eq!(zeroes.without_short_runs(REQUEST_LENGTH_MAX, 3), with([0, 1, 2, 10, 11, 12, 13]));
        assert_eq!(zeroes.without_short_runs(13 * 4096, 4), ZeroBlocks::NONE);
    }

    #[test]
    fn its_code_has_the_first_block_in_the_lowest_bit() {
        let zeroes = with([0, 9, 64, 255]);
        let bytes = zeroes.to_bytes();
        assert_eq!((bytes[0], bytes[1], bytes[8], bytes[31]), (1, 2, 1, 0x80));
        assert_eq!(ZeroBlocks::from_bytes(bytes), zeroes);
    }

    #[test]
    fn blocks_are_told_by_what_they_hold() {
        let mut bytes = vec![0u8; 3 * 4096 + 512];
        bytes[4096] = 1;
        bytes[3 * 4096 + 511] = 1;
        assert_eq!(ZeroBlocks::of(&bytes, |block| block.iter().all(|byte| *byte == 0)), with([0, 2]));
    }
}
