//! Ranges of bytes and of blocks.

use crate::units::{BLOCK_SIZE, BlockIndex, EXTENT_SIZE, ExtentIndex, SECTOR_SIZE};
use serde::{Deserialize, Serialize};

/// A range of bytes on a volume. In the engine both ends lie on sectors and the range isn't empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u32,
}

impl ByteRange {
    /// A range from `offset`, `length` bytes long.
    pub const fn new(offset: u64, length: u32) -> Self {
        ByteRange { offset, length }
    }

    /// The byte after the last.
    pub fn end(self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// Whether the two share a byte.
    pub fn overlaps(self, other: ByteRange) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    /// Whether the range is not empty, on sector boundaries, and inside a volume of `size_bytes`.
    pub fn is_legal(self, size_bytes: u64) -> bool {
        self.length > 0
            && self.offset.is_multiple_of(SECTOR_SIZE)
            && u64::from(self.length).is_multiple_of(SECTOR_SIZE)
            && self.offset.checked_add(u64::from(self.length)).is_some_and(|end| end <= size_bytes)
    }

    /// Whether it is whole logical blocks of so many bytes, a power of two.
    pub fn is_whole(self, block_bytes: u32) -> bool {
        let within = u64::from(block_bytes.max(1)) - 1;
        (self.offset | u64::from(self.length)) & within == 0
    }

    /// Every block the range touches, also in part.
    pub fn blocks_touched(self) -> BlockRange {
        let first = self.offset / BLOCK_SIZE;
        let end = self.end().div_ceil(BLOCK_SIZE);
        BlockRange { first: BlockIndex(first), count: end - first }
    }

    /// The blocks the range covers from end to end (R23: only these may be cleared by a client's write). A volume's
    /// last, shorter block counts as covered when the range reaches the volume's end.
    pub fn blocks_covered(self, volume_size_bytes: u64) -> BlockRange {
        let first = self.offset.div_ceil(BLOCK_SIZE);
        let end = if self.end() >= volume_size_bytes {
            volume_size_bytes.div_ceil(BLOCK_SIZE)
        } else {
            self.end() / BLOCK_SIZE
        };
        BlockRange { first: BlockIndex(first), count: end.saturating_sub(first) }
    }

    /// The first and the last extent touched.
    pub fn extents(self) -> std::ops::RangeInclusive<u32> {
        let first = self.offset / EXTENT_SIZE;
        let last = (self.end().max(self.offset + 1) - 1) / EXTENT_SIZE;
        first as u32..=last as u32
    }

    /// The extents touched, as indices.
    pub fn extent_indices(self) -> impl Iterator<Item = ExtentIndex> {
        self.extents().map(ExtentIndex)
    }
}

/// A run of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BlockRange {
    /// First block.
    pub first: BlockIndex,
    /// Number of blocks; may be 0.
    pub count: u64,
}

impl BlockRange {
    /// A run of `count` blocks from `first`.
    pub const fn new(first: u64, count: u64) -> Self {
        BlockRange { first: BlockIndex(first), count }
    }

    /// The block after the last.
    pub fn end(self) -> u64 {
        self.first.0 + self.count
    }

    /// Whether it holds no block.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The bytes of these blocks, cut at the volume's end. `None` when nothing is left or it doesn't fit a range.
    pub fn bytes(self, volume_size_bytes: u64) -> Option<ByteRange> {
        let offset = self.first.0.checked_mul(BLOCK_SIZE)?;
        let end = self.end().checked_mul(BLOCK_SIZE)?.min(volume_size_bytes);
        let length = u32::try_from(end.checked_sub(offset)?).ok()?;
        (length > 0).then_some(ByteRange { offset, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_touched_and_covered_differ_at_the_edges() {
        let range = ByteRange::new(512, 8192);
        assert_eq!(range.blocks_touched(), BlockRange::new(0, 3));
        assert_eq!(range.blocks_covered(1 << 20), BlockRange::new(1, 1));
        assert_eq!(ByteRange::new(512, 512).blocks_covered(1 << 20).count, 0);
    }

    #[test]
    fn a_short_last_block_is_covered_when_the_range_reaches_the_end() {
        let size = 2 * BLOCK_SIZE + 512;
        assert_eq!(ByteRange::new(2 * BLOCK_SIZE, 512).blocks_covered(size), BlockRange::new(2, 1));
        assert_eq!(BlockRange::new(2, 1).bytes(size), Some(ByteRange::new(2 * BLOCK_SIZE, 512)));
    }

    #[test]
    fn illegal_ranges_are_told() {
        assert!(!ByteRange::new(0, 0).is_legal(4096));
        assert!(!ByteRange::new(1, 512).is_legal(4096));
        assert!(!ByteRange::new(3584, 1024).is_legal(4096));
        assert!(!ByteRange::new(u64::MAX - 511, 1024).is_legal(u64::MAX));
        assert!(ByteRange::new(3584, 512).is_legal(4096));
    }
}
