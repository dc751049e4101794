//! The dirty bitmap's pages: one bit a block of 4 KiB, 30720 blocks (30 extents, 120 MiB) a page.
//!
//! Eight sealed sectors, 3840 bits each; bit `i` of a page is bit `i % 8` of content byte `i / 8`, so that the content
//! is 480 little-endian words. No extent straddles a page. A page means something only while the summary calls it
//! Mixed. A torn page needs no care: each sector is valid by itself, and whatever was newly set is covered by a hot
//! extent until the whole write is durable. A sector that doesn't open stands for 3840 blocks out-of-sync.

use crate::sealed::{BLOCK_CONTENT, DeviceTag, Expected, Kind, SECTOR_CONTENT, SECTORS, Seal, open_block, seal_block};
use crate::{META_BLOCK_SIZE, MetaBlock};
use rep_types::planted;

/// Blocks a page stands for.
pub const PAGE_BLOCKS: u64 = (BLOCK_CONTENT * 8) as u64;
/// Extents a page stands for.
pub const PAGE_EXTENTS: u32 = (PAGE_BLOCKS * rep_types::BLOCK_SIZE / rep_types::EXTENT_SIZE) as u32;
/// 64-bit words of a page's bits.
pub const PAGE_WORDS: usize = BLOCK_CONTENT / 8;

/// Words of a sector's bits.
const SECTOR_WORDS: usize = SECTOR_CONTENT / 8;

const _: () = assert!(PAGE_BLOCKS * rep_types::BLOCK_SIZE == PAGE_EXTENTS as u64 * rep_types::EXTENT_SIZE);

/// A page's bits: bit `i` is bit `i % 64` of word `i / 64`.
pub type PageBits = [u64; PAGE_WORDS];

/// A page of the bitmap as `load` found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadedPage {
    /// No block out-of-sync.
    Clean,
    /// Every block out-of-sync.
    AllSet,
    /// These.
    Mixed(Box<PageBits>),
}

/// The bitmap as `load` found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedBitmap {
    /// Seals the pages to be written.
    pub tag: DeviceTag,
    /// The highest sequence seen on summary and pages.
    pub highest_sequence: u64,
    /// One a page.
    pub pages: Vec<LoadedPage>,
    /// Pages in whose place on disk something was damaged, ascending: they were taken for more out-of-sync than they
    /// may be, and what is on disk isn't to be relied on until they are written again.
    pub damaged_pages: Vec<u32>,
}

/// A page as a block.
pub fn encode_page(tag: DeviceTag, page: u32, sequence: u64, bits: &PageBits) -> MetaBlock {
    let mut content = [0; BLOCK_CONTENT];
    let (chunks, _) = content.as_chunks_mut::<8>();
    for (bytes, word) in chunks.iter_mut().zip(bits) {
        *bytes = word.to_le_bytes();
    }
    seal_block(Seal { kind: Kind::Bitmap, tag, block: page, sequence }, &content)
}

/// What was read of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DecodedPage {
    pub(crate) bits: Box<PageBits>,
    pub(crate) damaged: bool,
    pub(crate) highest_sequence: u64,
}

/// Decodes a page; the blocks of a damaged sector are set.
pub(crate) fn decode_page(tag: DeviceTag, page: u32, block: &[u8; META_BLOCK_SIZE]) -> DecodedPage {
    let mut decoded = DecodedPage { bits: Box::new([u64::MAX; PAGE_WORDS]), damaged: false, highest_sequence: 0 };
    let opened: [_; SECTORS] = open_block(block, Expected { kind: Kind::Bitmap, tag, block: page });
    for (sector, words) in opened.iter().zip(decoded.bits.chunks_exact_mut(SECTOR_WORDS)) {
        let Some(sector) = sector else {
            decoded.damaged = true;
            if planted!("bitmap-damage-ignored") {
                words.fill(0);
            }
            continue;
        };
        decoded.highest_sequence = decoded.highest_sequence.max(sector.sequence);
        let (bytes, _) = sector.content.as_chunks::<8>();
        for (word, bytes) in words.iter_mut().zip(bytes) {
            *word = u64::from_le_bytes(*bytes);
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: DeviceTag = DeviceTag(0x1234);

    #[test]
    fn block_zero_is_the_lowest_bit_of_the_first_content_byte() {
        let mut bits = [0; PAGE_WORDS];
        bits[0] = 1;
        bits[PAGE_WORDS - 1] = 1 << 63;
        let block = encode_page(TAG, 0, 1, &bits);
        assert_eq!(block.0[32], 1);
        assert_eq!(block.0[META_BLOCK_SIZE - 1], 0x80);
    }

    proptest! {
        #[test]
        fn pages_come_back_and_damage_sets_whole_sectors(
            words in proptest::collection::vec(any::<u64>(), PAGE_WORDS),
            page in 0..1000u32,
            hit in proptest::option::of(0..META_BLOCK_SIZE),
        ) {
            let bits: PageBits = words.try_into().expect("the length asked for");
            let mut block = encode_page(TAG, page, 5, &bits);
            if let Some(hit) = hit {
                block.0[hit] ^= 0x40;
            }
            let decoded = decode_page(TAG, page, &block.0);
            prop_assert_eq!(decoded.damaged, hit.is_some());
            for (index, word) in bits.iter().enumerate() {
                let rotten = hit.is_some_and(|hit| hit / 512 == index / SECTOR_WORDS);
                prop_assert_eq!(decoded.bits[index], if rotten { u64::MAX } else { *word });
            }
        }
    }
}
