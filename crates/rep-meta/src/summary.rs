//! The summary: two bits a bitmap page. Attaching reads it, then only the pages it calls Mixed.
//!
//! Eight sealed sectors a block, 1920 pages (225 GiB) each; page `p` of a sector is bits `2 × (p % 4)` and up of content
//! byte `p / 4`. A page not called Mixed is never read, and its bytes on disk mean nothing. A sector that doesn't open
//! stands for 1920 pages all set.
//!
//! Invariant: a page is durable before the summary first calls it Mixed.

use crate::sealed::{BLOCK_CONTENT, DeviceTag, Expected, Kind, SECTOR_CONTENT, Seal, open_block, seal_block};
use crate::{META_BLOCK_SIZE, MetaBlock};

/// Pages one summary block speaks of.
pub const PAGES_PER_SUMMARY_BLOCK: u32 = (BLOCK_CONTENT * 4) as u32;

/// Pages one sector of it speaks of.
pub(crate) const PAGES_PER_SUMMARY_SECTOR: u32 = (SECTOR_CONTENT * 4) as u32;

/// What the summary says of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PageState {
    /// No block out-of-sync.
    #[default]
    Clean,
    /// Read the page.
    Mixed,
    /// Every block out-of-sync.
    AllSet,
}

impl PageState {
    fn to_bits(self) -> u8 {
        match self {
            PageState::Clean => 0,
            PageState::Mixed => 1,
            PageState::AllSet => 2,
        }
    }

    /// The unused pattern is taken for the safe side.
    fn from_bits(bits: u8) -> PageState {
        match bits & 3 {
            0 => PageState::Clean,
            1 => PageState::Mixed,
            _ => PageState::AllSet,
        }
    }
}

/// A summary block: block `index` of the summary, the states of its pages in order. Missing ones count as Clean.
pub fn encode_summary_block(
    tag: DeviceTag,
    index: u32,
    sequence: u64,
    states: impl IntoIterator<Item = PageState>,
) -> MetaBlock {
    let mut content = [0; BLOCK_CONTENT];
    for (page, state) in states.into_iter().take(PAGES_PER_SUMMARY_BLOCK as usize).enumerate() {
        content[page / 4] |= state.to_bits() << (page % 4 * 2);
    }
    seal_block(Seal { kind: Kind::Summary, tag, block: index, sequence }, &content)
}

/// What a summary block says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DecodedSummary {
    /// The pages' states; the second says whether the sector was damaged (the state is AllSet then).
    pub(crate) states: Vec<(PageState, bool)>,
    pub(crate) highest_sequence: u64,
}

/// Decodes a summary block that speaks of `pages` pages; what stands behind them means nothing.
pub(crate) fn decode_summary_block(
    tag: DeviceTag,
    index: u32,
    pages: usize,
    block: &[u8; META_BLOCK_SIZE],
) -> DecodedSummary {
    let mut decoded = DecodedSummary { states: Vec::with_capacity(pages), highest_sequence: 0 };
    for sector in open_block(block, Expected { kind: Kind::Summary, tag, block: index }) {
        let pages = (pages - decoded.states.len()).min(PAGES_PER_SUMMARY_SECTOR as usize);
        let Some(sector) = sector else {
            decoded.states.extend(std::iter::repeat_n((PageState::AllSet, true), pages));
            continue;
        };
        decoded.highest_sequence = decoded.highest_sequence.max(sector.sequence);
        let states = sector.content.iter().flat_map(|byte| (0..4).map(move |page| byte >> (page * 2)));
        decoded.states.extend(states.take(pages).map(|bits| (PageState::from_bits(bits), false)));
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: DeviceTag = DeviceTag(99);

    /// As many states as fit a block, told by a seed: drawing each by itself would take the time of the test.
    fn states(seed: u64) -> Vec<PageState> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            [PageState::Clean, PageState::Mixed, PageState::AllSet][(state >> 33) as usize % 3]
        };
        (0..PAGES_PER_SUMMARY_BLOCK).map(|_| next()).collect()
    }

    #[test]
    fn pages_left_out_are_clean() {
        let block = encode_summary_block(TAG, 0, 1, [PageState::AllSet]);
        let decoded = decode_summary_block(TAG, 0, PAGES_PER_SUMMARY_BLOCK as usize, &block.0);
        assert_eq!(decoded.states.len(), PAGES_PER_SUMMARY_BLOCK as usize);
        assert_eq!(decoded.states[0], (PageState::AllSet, false));
        assert!(decoded.states[1..].iter().all(|state| *state == (PageState::Clean, false)));
    }

    proptest! {
        #[test]
        fn states_come_back_and_damage_sets_whole_sectors(
            seed in any::<u64>(),
            hit in proptest::option::of(0..META_BLOCK_SIZE),
        ) {
            let states = states(seed);
            let mut block = encode_summary_block(TAG, 2, 7, states.iter().copied());
            if let Some(hit) = hit {
                block.0[hit] ^= 1;
            }
            let decoded = decode_summary_block(TAG, 2, PAGES_PER_SUMMARY_BLOCK as usize, &block.0);
            for (page, state) in states.iter().enumerate() {
                let rotten = hit.is_some_and(|hit| hit / 512 == page / PAGES_PER_SUMMARY_SECTOR as usize);
                let expected = if rotten { (PageState::AllSet, true) } else { (*state, false) };
                prop_assert_eq!(decoded.states[page], expected);
            }
        }
    }
}
