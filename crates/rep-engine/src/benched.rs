//! What the micro-benches do with the tables behind every request; the tables themselves stay private.
//!
//! Each type holds a table as it is in the middle of its work, and a step leaves it like that: a million steps cost a
//! million times as much as one. What a step is worth is looked at while it runs, so that nobody measures a table that
//! stopped doing anything.

use crate::activity_log::ActivityLog;
use crate::dirty_bitmap::DirtyBitmap;
use crate::overlap::OverlapTable;
use crate::slab::Key;
use rep_meta::{DeviceTag, Layout, LayoutOptions, META_BLOCK_SIZE, MetaBlock, Placement};
use rep_types::{BLOCK_SIZE, BlockIndex, BlockRange, ByteRange, EXTENT_SIZE, EpochNumber};
use std::collections::VecDeque;

/// Blocks of the bitmap's volume (16 GiB).
const VOLUME_BLOCKS: u64 = 1 << 22;
/// Steps from block to block: odd, so that every block of the volume comes once before one comes again.
const BLOCK_STRIDE: u64 = 40_503;
/// Every so manieth block is out-of-sync throughout.
const MARKED_EVERY: u64 = 4096;

/// The dirty bitmap of a volume that is out-of-sync here and there.
#[derive(Debug)]
pub struct Bitmap {
    bitmap: DirtyBitmap,
    block: u64,
}

impl Default for Bitmap {
    fn default() -> Self {
        let mut bitmap = DirtyBitmap::new(VOLUME_BLOCKS);
        (0..VOLUME_BLOCKS).step_by(MARKED_EVERY as usize).for_each(|block| {
            bitmap.set(BlockRange::new(block, 1));
        });
        Bitmap { bitmap, block: 0 }
    }
}

impl Bitmap {
    /// Runs of out-of-sync blocks in it.
    pub const RUNS: u64 = VOLUME_BLOCKS / MARKED_EVERY;

    /// Marks a block that isn't marked, somewhere else each time, and clears it.
    pub fn mark_and_clear(&mut self) {
        self.block = (self.block + BLOCK_STRIDE) % VOLUME_BLOCKS;
        let block = BlockRange::new(self.block | 1, 1);
        assert_eq!((self.bitmap.set(block), self.bitmap.clear(block)), (1, 1), "a clear block was marked and cleared");
    }

    /// Visits every run, as a resync does.
    pub fn visit_runs(&self) {
        let (mut from, mut runs) = (BlockIndex(0), 0);
        while let Some(run) = self.bitmap.next_run(from, u64::MAX) {
            (from, runs) = (BlockIndex(run.end()), runs + 1);
        }
        assert_eq!(runs, Self::RUNS, "every run was visited");
    }
}

/// Slots of the activity log...
const LOG_SLOTS: u32 = 64;
/// ...and extents of its volume: one that comes round again has lost its slot.
const LOG_EXTENTS: u64 = 256;

/// The activity log of a volume whose clients move about.
#[derive(Debug)]
pub struct Log {
    log: ActivityLog,
    extent: u64,
    epoch: EpochNumber,
}

impl Default for Log {
    fn default() -> Self {
        let options = LayoutOptions { log_slots: Some(LOG_SLOTS) };
        let layout = Layout::with_options(LOG_EXTENTS * EXTENT_SIZE, Placement::External, options);
        let layout = layout.expect("a legal size");
        // A ring of nothing, as after damage: the reset below writes it all.
        let ring: Vec<Option<&[u8; META_BLOCK_SIZE]>> = vec![None; layout.log_blocks as usize];
        let mut log = ActivityLog::from_loaded(&rep_meta::recover(&layout, DeviceTag(5), ring), &layout);
        log.begin_reset(&mut Vec::new());
        log.commit_transaction();
        let mut log = Log { log, extent: 0, epoch: EpochNumber(0) };
        (0..LOG_SLOTS).for_each(|_| drop(log.miss()));
        log
    }
}

impl Log {
    fn range(&self) -> ByteRange {
        ByteRange::new(self.extent * EXTENT_SIZE + BLOCK_SIZE, BLOCK_SIZE as u32)
    }

    /// A write to a hot extent, from its beginning to its end.
    pub fn hit(&mut self) {
        let range = self.range();
        assert!(self.log.acquire(range), "the extent is hot");
        self.log.release(range, self.epoch);
    }

    /// A write to a cold extent: another one loses its slot, the log's block is made, and goes to the disk (it is given
    /// back); then as a hit. The epoch settles, so that the extent may lose its slot in turn.
    pub fn miss(&mut self) -> MetaBlock {
        self.extent = (self.extent + 1) % LOG_EXTENTS;
        self.epoch = self.epoch.next();
        assert!(!self.log.acquire(self.range()), "the extent is cold");
        assert!(self.log.begin_transaction().is_some(), "an idle extent gives its slot up");
        let (_, block) = self.log.encode_transaction();
        self.log.commit_transaction();
        self.hit();
        self.log.settle(self.epoch);
        block
    }
}

/// Operations that stand in the table throughout.
const DEPTH: u64 = 32;

/// The table of a volume with 32 writes under way.
#[derive(Debug)]
pub struct Overlaps {
    table: OverlapTable,
    under_way: VecDeque<(Key, ByteRange)>,
    next: u64,
    unblocked: Vec<Key>,
}

impl Default for Overlaps {
    fn default() -> Self {
        let (table, under_way) = (OverlapTable::new(), VecDeque::with_capacity(DEPTH as usize + 2));
        let mut overlaps = Overlaps { table, under_way, next: 0, unblocked: Vec::with_capacity(DEPTH as usize) };
        (0..DEPTH).for_each(|_| overlaps.begin());
        overlaps
    }
}

impl Overlaps {
    fn begin(&mut self) {
        self.next += 1;
        let block = self.next * BLOCK_STRIDE % VOLUME_BLOCKS;
        let (key, range) = (Key(self.next), ByteRange::new(block * BLOCK_SIZE, BLOCK_SIZE as u32));
        assert_eq!(self.table.insert(key, range, true), 0, "nothing stands in its way");
        self.under_way.push_back((key, range));
    }

    fn end(&mut self, unblocked: usize) {
        self.unblocked.clear();
        let (key, range) = self.under_way.pop_front().expect("there are always some");
        self.table.remove(key, range, &mut self.unblocked);
        assert_eq!(self.unblocked.len(), unblocked, "whoever waited for it, and nobody else, gets on");
    }

    /// The oldest write ends, a new one begins: nobody waits.
    pub fn turn(&mut self) {
        self.end(0);
        self.begin();
    }

    /// The same, while another write waits for the oldest and gets on when that ends.
    pub fn turn_with_conflict(&mut self) {
        let (_, range) = *self.under_way.front().expect("there are always some");
        self.next += 1;
        let waiting = Key(self.next);
        assert_eq!(self.table.insert(waiting, range, true), 1, "the oldest stands in its way");
        self.end(1);
        self.unblocked.clear();
        self.table.remove(waiting, range, &mut self.unblocked);
        self.begin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_leaves_everything_as_it_was() {
        let (mut bitmap, mut log, mut overlaps) = (Bitmap::default(), Log::default(), Overlaps::default());
        for _ in 0..2 * LOG_EXTENTS {
            bitmap.mark_and_clear();
            bitmap.bitmap.assert_invariants();
            drop(log.miss());
            log.hit();
            log.log.assert_invariants();
            overlaps.turn();
            overlaps.turn_with_conflict();
            overlaps.table.assert_invariants();
        }
        bitmap.visit_runs();
        assert_eq!(bitmap.bitmap.count(), Bitmap::RUNS);
        assert_eq!((log.log.hot_count(), log.log.capacity()), (LOG_SLOTS, LOG_SLOTS));
        assert_eq!(overlaps.table.len() as u64, DEPTH);
    }
}
