//! Reading the activity log back: which extents were hot when the node went down (R11).
//!
//! The newest whole transaction stands at some position `p`; it and the blocks before it, linked by `previous`, hold
//! the whole slot table within `log_blocks - 1` blocks or since the last reset. What can't be followed that far is
//! damage, and the caller takes every block for out-of-sync.
//!
//! The block at `p + 1` was perhaps being written at the crash. Nothing is ever written under a transaction that
//! isn't durable, so it may be ignored, but only if it can't have been: each try at a block bears a sequence of its
//! own, larger than any before. A block that holds a valid sector of an older try than its newest, or one older than
//! the newest whole transaction, was never completed. Any other block that doesn't open might be a completed
//! transaction that rotted: damage.

use crate::META_BLOCK_SIZE;
use crate::layout::Layout;
use crate::log_block::{SLOT_FREE, Transaction};
use crate::sealed::{BLOCK_CONTENT, DeviceTag, Expected, Kind, SECTOR_CONTENT, open_block};
use rep_types::ExtentIndex;
use rep_types::planted;

/// What the activity log said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveredLog {
    /// Seals the transactions to be written.
    pub tag: DeviceTag,
    /// The extents that were hot, ascending, each once. Empty when `damaged`.
    pub hot: Vec<ExtentIndex>,
    /// The log couldn't be read back: any extent may have been hot; every block counts as out-of-sync.
    pub damaged: bool,
    /// The sequence of the newest whole transaction, 0 if none.
    pub newest_sequence: u64,
    /// Its position in the ring.
    pub newest_position: u32,
    /// No transaction tried so far has a larger sequence.
    pub highest_sequence: u64,
}

/// Where a sequence goes on after damage: past anything that unreadable blocks may hold.
const DAMAGE_SEQUENCE_STEP: u64 = 1 << 20;

/// A block of the ring.
enum RingBlock {
    /// Every sector is of this transaction.
    Whole(Box<Transaction>),
    /// Something else. Sequences of the sectors that are valid, if any: lowest and highest.
    Broken(Option<(u64, u64)>),
}

/// Recovers the log from the ring's blocks, one a position, in order; `None` where a block couldn't be read.
pub fn recover<'a>(
    layout: &Layout,
    tag: DeviceTag,
    blocks: impl IntoIterator<Item = Option<&'a [u8; META_BLOCK_SIZE]>>,
) -> RecoveredLog {
    let open = |(position, block): (u32, Option<&[u8; META_BLOCK_SIZE]>)| match block {
        Some(block) => open_ring_block(layout, tag, position, block),
        None => RingBlock::Broken(None),
    };
    let ring: Vec<RingBlock> = (0..layout.log_blocks).zip(blocks).map(open).collect();
    let highest = ring.iter().filter_map(RingBlock::highest_sequence).max().unwrap_or(0);
    let newest = (0u32..).zip(&ring).filter_map(|(position, block)| Some((block.whole()?.sequence, position))).max();
    let (newest_sequence, newest_position) = newest.unwrap_or((0, 0));
    let read_to = (newest_position + ring.len() as u32 - u32::from(planted!("log-loses-newest"))) % ring.len() as u32;
    let hot = newest.and_then(|(sequence, position)| {
        let next = ring.get((position as usize + 1) % ring.len())?;
        if !next.never_completed(sequence) {
            return None;
        }
        hot_extents(layout, &ring, read_to)
    });
    let step = if hot.is_some() { 0 } else { DAMAGE_SEQUENCE_STEP };
    RecoveredLog {
        tag,
        damaged: hot.is_none() && !planted!("log-damage-ignored"),
        hot: hot.unwrap_or_default(),
        newest_sequence,
        newest_position,
        highest_sequence: highest.saturating_add(step),
    }
}

impl RingBlock {
    fn whole(&self) -> Option<&Transaction> {
        match self {
            RingBlock::Whole(transaction) => Some(transaction),
            RingBlock::Broken(_) => None,
        }
    }

    fn highest_sequence(&self) -> Option<u64> {
        match self {
            RingBlock::Whole(transaction) => Some(transaction.sequence),
            RingBlock::Broken(sequences) => sequences.map(|(_, highest)| highest),
        }
    }

    /// Whether this block can't have held a whole transaction newer than `newest`.
    fn never_completed(&self, newest: u64) -> bool {
        match self {
            RingBlock::Whole(transaction) => transaction.sequence <= newest,
            RingBlock::Broken(Some((lowest, highest))) => lowest < highest || *lowest < newest,
            RingBlock::Broken(None) => false,
        }
    }
}

fn open_ring_block(layout: &Layout, tag: DeviceTag, position: u32, block: &[u8; META_BLOCK_SIZE]) -> RingBlock {
    let sectors = open_block(block, Expected { kind: Kind::Log, tag, block: position });
    let sequences = sectors.iter().flatten().map(|sector| sector.sequence);
    let range = sequences.clone().min().zip(sequences.max());
    let mut content = [0; BLOCK_CONTENT];
    for (to, sector) in content.chunks_exact_mut(SECTOR_CONTENT).zip(&sectors) {
        match sector {
            Some(sector) => to.copy_from_slice(sector.content),
            None => return RingBlock::Broken(range),
        }
    }
    match range {
        Some((lowest, highest)) if lowest == highest => {
            match Transaction::decode(highest, &content, layout.log_slots, layout.extents()) {
                Some(transaction) => RingBlock::Whole(Box::new(transaction)),
                None => RingBlock::Broken(range),
            }
        }
        _ => RingBlock::Broken(range),
    }
}

/// Follows the ring back from its newest block until the whole slot table is known, then replays it forwards.
fn hot_extents(layout: &Layout, ring: &[RingBlock], newest: u32) -> Option<Vec<ExtentIndex>> {
    let chain = chain_back(ring, newest)?;
    let mut slots = vec![SLOT_FREE; layout.log_slots as usize];
    for transaction in chain.iter().rev() {
        if transaction.reset {
            slots.fill(SLOT_FREE);
        }
        for (slot, extent) in transaction.window() {
            *slots.get_mut(slot as usize)? = extent;
        }
        for update in &transaction.updates {
            *slots.get_mut(update.slot as usize)? = update.extent.map_or(SLOT_FREE, |extent| extent.0);
        }
    }
    let mut hot: Vec<ExtentIndex> = slots.into_iter().filter(|extent| *extent != SLOT_FREE).map(ExtentIndex).collect();
    hot.sort_unstable();
    hot.dedup();
    Some(hot)
}

/// The transactions from the newest back to a reset, or as many as are needed without one.
fn chain_back(ring: &[RingBlock], newest: u32) -> Option<Vec<&Transaction>> {
    let mut chain: Vec<&Transaction> = Vec::with_capacity(ring.len());
    let mut position = newest as usize;
    while chain.len() + 1 < ring.len() {
        let transaction = ring.get(position)?.whole()?;
        let linked = chain
            .last()
            .is_none_or(|newer| newer.previous == transaction.sequence && transaction.sequence < newer.sequence);
        if !linked {
            return None;
        }
        chain.push(transaction);
        if transaction.reset {
            break;
        }
        position = (position + ring.len() - 1) % ring.len();
    }
    Some(chain)
}
