//! The attached disk's metadata in memory: superblock, bitmap, activity log, and what of them is durable.
//!
//! Changes are asked for here and get a ticket; `metadata` writes them, and whoever asked polls its ticket. The
//! superblock follows "copy, edit, persist": `superblock` is what is wanted, and nobody acts on a change before its
//! ticket says that it is durable.
//!
//! Invariants:
//! - M1 at most one superblock copy, one bitmap write and one log transaction are under way;
//! - M2 copy B of the superblock is written only when copy A of the same content is durable.

use crate::activity_log::ActivityLog;
use crate::bitmap_runs::RunsError;
use crate::bitmap_store::BitmapStore;
use crate::dirty_bitmap::DirtyBitmap;
use crate::relocation::Relocation;
use crate::verify::VerifyRecord;
use rep_meta::{BootId, Layout, Loaded, MetaBlock, Superblock};
use rep_types::planted;
use rep_types::{BLOCK_SIZE, BlockIndex, BlockRange, Room};

/// Names a change of the superblock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SuperblockTicket(u64);

/// Names a state of the whole bitmap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BitmapTicket(u64);

/// Names an emptying of the activity log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LogResetTicket(u64);

/// Why the bitmap is being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BitmapJob {
    /// Everything that changed, for this ticket.
    Whole(u64),
    /// The pages of extents a log transaction evicts.
    Evicted,
    /// All of it, to another place.
    Moving,
}

/// How far a log transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogJob {
    /// Its evicted extents' pages have to be written first (R9).
    AwaitsPages,
    /// It, or a reset of the log, is being written: this many blocks aren't durable yet.
    Writing { pending: u32, reset: bool },
    /// All of it is being written to another place: this many blocks aren't durable yet.
    Moving { pending: u32 },
}

/// A superblock write under way.
#[derive(Clone, Debug)]
pub(crate) struct SuperblockWrite {
    pub change: u64,
    pub content: Superblock,
    /// Where and what the second copy is, until the first is durable (M2).
    pub second: Option<(u64, MetaBlock)>,
}

/// The attached disk.
#[derive(Debug)]
pub(crate) struct LocalDisk {
    pub layout: Layout,
    superblock: Superblock,
    pub superblock_changes: u64,
    pub superblock_written: u64,
    pub superblock_write: Option<SuperblockWrite>,
    /// The newest content both copies have, and the layout it is for.
    superblock_on_disk: Superblock,
    layout_on_disk: Layout,
    /// The metadata are being made to fit a larger disk.
    pub relocation: Option<Relocation>,
    /// Bytes of the disk when it was last measured.
    pub device_bytes: u64,
    /// Bytes of the metadata device then.
    pub metadata_device_bytes: u64,
    /// What there is room for: follows from the layout and these two, and is asked for at every event.
    room: Room,
    pub(super) bitmap: DirtyBitmap,
    pub store: BitmapStore,
    pub bitmap_job: Option<BitmapJob>,
    /// Blocks of the current step that aren't durable yet.
    pub bitmap_pending: u32,
    pub bitmap_asked: u64,
    pub bitmap_written: u64,
    pub log: ActivityLog,
    pub log_job: Option<LogJob>,
    pub evicted: Vec<rep_types::ExtentIndex>,
    pub reset_asked: u64,
    pub reset_done: u64,
    /// What a verify that this node led knows of this disk.
    pub verified: VerifyRecord,
}

impl LocalDisk {
    /// A disk just attached. `attachment` is larger than that of any before it: a ticket of an earlier one is for a disk
    /// that is gone and doesn't keep anybody waiting.
    pub fn new(loaded: &Loaded, size_bytes: u64, attachment: u32) -> Self {
        let first = u64::from(attachment) << 32;
        LocalDisk {
            layout: loaded.layout,
            superblock: loaded.superblock.clone(),
            superblock_changes: first,
            superblock_written: first,
            superblock_write: None,
            superblock_on_disk: loaded.superblock.clone(),
            layout_on_disk: loaded.layout,
            relocation: None,
            device_bytes: loaded.device_bytes,
            metadata_device_bytes: loaded.metadata_device_bytes,
            room: rep_meta::room(&loaded.layout, loaded.device_bytes, loaded.metadata_device_bytes),
            bitmap: DirtyBitmap::from_loaded(&loaded.bitmap, size_bytes.div_ceil(BLOCK_SIZE)),
            store: BitmapStore::from_loaded(&loaded.bitmap, &loaded.layout),
            bitmap_job: None,
            bitmap_pending: 0,
            bitmap_asked: first,
            bitmap_written: first,
            log: ActivityLog::from_loaded(&loaded.log, &loaded.layout),
            log_job: None,
            evicted: Vec::new(),
            reset_asked: first,
            reset_done: first,
            verified: VerifyRecord::new(size_bytes.div_ceil(BLOCK_SIZE)),
        }
    }

    /// The superblock as it is wanted.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Changes the superblock; the ticket tells when that is durable. A change that changes nothing costs no write.
    pub fn update_superblock(&mut self, edit: impl FnOnce(&mut Superblock)) -> SuperblockTicket {
        let before = self.superblock.clone();
        edit(&mut self.superblock);
        if self.superblock != before {
            self.superblock_changes += 1;
            self.superblock.update_count += 1;
        }
        SuperblockTicket(self.superblock_changes)
    }

    pub fn superblock_durable(&self, ticket: SuperblockTicket) -> bool {
        self.superblock_written >= ticket.0 || planted!("superblock-durable-early")
    }

    /// Whether every change of the superblock is durable.
    pub fn superblock_settled(&self) -> bool {
        self.superblock_written == self.superblock_changes
    }

    /// Whether all metadata that are wanted are durable, or wait for clients' requests alone.
    pub fn is_at_rest(&self) -> bool {
        self.superblock_settled()
            && self.relocation.is_none()
            && self.bitmap_asked == self.bitmap_written
            && self.log_job != Some(LogJob::AwaitsPages)
            && self.reset_asked == self.reset_done
    }

    /// Both copies have been written.
    pub fn superblock_write_done(&mut self) {
        if let Some(write) = self.superblock_write.take() {
            self.superblock_written = write.change;
            self.superblock_on_disk = write.content;
            self.layout_on_disk = self.layout;
        }
    }

    /// A last word for the metadata of a disk whose flush failed: what is durable, and that its cache can't be relied on.
    /// Goes to the copy that isn't being written.
    pub fn encode_cache_lost(&self) -> (u64, MetaBlock) {
        // Metadata on their way to another place are there as soon as one copy of the superblock is.
        let moving = self.superblock_write.as_ref().filter(|_| self.layout != self.layout_on_disk);
        let (content, layout) = match moving {
            Some(write) => (&write.content, &self.layout),
            None => (&self.superblock_on_disk, &self.layout_on_disk),
        };
        let mut content = content.clone();
        content.attached_boot = BootId::CACHE_LOST;
        content.update_count = self.superblock.update_count + 1;
        let [first, second] = content.encode_copies(layout);
        let writing_first = self.superblock_write.as_ref().is_some_and(|write| write.second.is_some());
        if writing_first { second } else { first }
    }

    pub fn bitmap(&self) -> &DirtyBitmap {
        &self.bitmap
    }

    pub fn mark_out_of_sync(&mut self, blocks: BlockRange) {
        self.bitmap.set(blocks);
    }

    pub fn mark_all_out_of_sync(&mut self) {
        self.bitmap.set_all();
    }

    pub fn clear_out_of_sync(&mut self, blocks: BlockRange) {
        self.bitmap.clear(blocks);
        self.verified.note_cleared(blocks);
    }

    /// Both sides were told to hold their data for equal: only for data that never was anything else.
    pub fn clear_all_out_of_sync(&mut self) {
        self.bitmap.clear_all();
        self.verified.note_all_cleared();
    }

    pub fn unite(&mut self, other: &DirtyBitmap) {
        self.bitmap.union(other);
    }

    pub fn unite_runs(&mut self, from: BlockIndex, next: Option<BlockIndex>, runs: &[u8]) -> Result<u64, RunsError> {
        self.bitmap.apply_runs(from, next, runs)
    }

    /// Asks that the bitmap as it is now becomes durable.
    pub fn flush_bitmap(&mut self) -> BitmapTicket {
        // A write under way may have taken pages before the newest changes; the one after it has them all.
        self.bitmap_asked += 1;
        BitmapTicket(self.bitmap_asked)
    }

    pub fn bitmap_durable(&self, ticket: BitmapTicket) -> bool {
        self.bitmap_written >= ticket.0 || planted!("bitmap-durable-early")
    }

    /// Asks that the activity log be emptied. Nothing may be referenced until that is done.
    pub fn reset_log(&mut self) -> LogResetTicket {
        self.reset_asked += 1;
        LogResetTicket(self.reset_asked)
    }

    pub fn log_is_reset(&self, ticket: LogResetTicket) -> bool {
        self.reset_done >= ticket.0
    }

    /// What the disk has room for, as it was last measured.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Disk and metadata device have been measured.
    pub fn measured(&mut self, device_bytes: u64, metadata_device_bytes: u64) {
        (self.device_bytes, self.metadata_device_bytes) = (device_bytes, metadata_device_bytes);
        self.room = rep_meta::room(&self.layout, device_bytes, metadata_device_bytes);
    }

    /// From here on the metadata lie by this layout.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
        self.room = rep_meta::room(&layout, self.device_bytes, self.metadata_device_bytes);
    }

    pub fn set_size(&mut self, size_bytes: u64) {
        let blocks = size_bytes.div_ceil(BLOCK_SIZE);
        if blocks != self.bitmap.volume_blocks() {
            self.bitmap.resize(blocks);
            self.verified.resize(blocks);
        }
    }
}
