//! Writing metadata: superblock, bitmap, activity log, each at its own pace.
//!
//! The one order between them is R9: the bitmap pages of extents a log transaction evicts are durable before the
//! transaction is written, and the transaction before any write to its new extents.

use crate::Engine;
use crate::action::{Action, Why};
use crate::bitmap_store::WriteScope;
use crate::local_disk::{BitmapJob, LocalDisk, LogJob, SuperblockWrite};
use crate::operation::{IoPurpose, MetaPurpose};
use crate::slab::Key;
use crate::volume::LogWaiter;
use rep_meta::MetaBlock;
use rep_types::planted;
use rep_types::{IoError, IoId};

impl Engine {
    pub(crate) fn write_meta(&mut self, index: usize, purpose: MetaPurpose, offset: u64, block: MetaBlock) {
        let io = self.new_io(index, IoPurpose::Meta(purpose));
        self.out.push(Action::WriteMeta { io, volume: self.volumes[index].number, offset, block });
    }

    /// Starts what is wanted and not under way.
    pub(crate) fn drive_metadata(&mut self, index: usize) {
        if self.volumes[index].local.is_none() {
            return;
        }
        self.drive_superblock(index);
        self.drive_bitmap(index);
        self.drive_log_reset(index);
    }

    fn drive_superblock(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        if local.superblock_write.is_some() || local.superblock_settled() {
            return;
        }
        if local.relocation.is_some_and(|relocation| !relocation.lets_superblock()) {
            return;
        }
        let [(offset, block), second] = local.superblock().encode_copies(&local.layout);
        local.superblock_write = Some(SuperblockWrite {
            change: local.superblock_changes,
            content: local.superblock().clone(),
            second: Some(second),
        });
        self.write_meta(index, MetaPurpose::Superblock, offset, block);
    }

    fn superblock_copy_written(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        let Some(write) = &mut local.superblock_write else { return };
        if let Some((offset, block)) = write.second.take().filter(|_| !planted!("superblock-one-copy")) {
            return self.write_meta(index, MetaPurpose::Superblock, offset, block);
        }
        local.superblock_write_done();
    }

    /// A flush has failed: the metadata are told so, if they can still be written. Nobody waits for that; this life of
    /// the daemon remembers it anyway.
    pub(crate) fn note_cache_lost(&mut self, index: usize) {
        let volume = &mut self.volumes[index];
        volume.cache_lost = true;
        let Some((offset, block)) = volume.local.as_ref().map(|local| local.encode_cache_lost()) else { return };
        self.write_meta(index, MetaPurpose::Superblock, offset, block);
    }

    fn drive_bitmap(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        if local.bitmap_job.is_some() {
            return;
        }
        if local.log_job == Some(LogJob::AwaitsPages) {
            local.bitmap_job = Some(BitmapJob::Evicted);
            self.begin_bitmap_write(index);
        } else if local.relocation.is_none() && local.bitmap_asked > local.bitmap_written {
            local.bitmap_job = Some(BitmapJob::Whole(local.bitmap_asked));
            self.begin_bitmap_write(index);
        }
    }

    fn begin_bitmap_write(&mut self, index: usize) {
        let mut blocks = Vec::new();
        let Some(local) = &mut self.volumes[index].local else { return };
        let LocalDisk { store, bitmap, evicted, bitmap_job, .. } = local;
        let scope = match bitmap_job {
            Some(BitmapJob::Evicted) => WriteScope::Extents(evicted),
            _ => WriteScope::All,
        };
        let more = store.begin_write(bitmap, scope, &mut blocks);
        self.write_bitmap_step(index, more, blocks);
    }

    fn write_bitmap_step(&mut self, index: usize, more: bool, blocks: Vec<(u64, MetaBlock)>) {
        let Some(local) = &mut self.volumes[index].local else { return };
        local.bitmap_pending = blocks.len() as u32;
        for (offset, block) in blocks {
            self.write_meta(index, MetaPurpose::Bitmap, offset, block);
        }
        if !more {
            self.bitmap_job_done(index);
        }
    }

    fn bitmap_block_written(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        local.bitmap_pending -= 1;
        if local.bitmap_pending > 0 {
            return;
        }
        let mut blocks = Vec::new();
        let LocalDisk { store, bitmap, .. } = local;
        let more = store.write_done(bitmap, &mut blocks);
        self.write_bitmap_step(index, more, blocks);
    }

    fn bitmap_job_done(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        match local.bitmap_job.take() {
            Some(BitmapJob::Whole(asked)) => local.bitmap_written = asked,
            Some(BitmapJob::Evicted) => self.write_log_transaction(index),
            Some(BitmapJob::Moving) | None => {}
        }
    }

    // ---- activity log ----

    /// Begins a log transaction if extents are wanted and none is under way; asks for a flush if that is what stands
    /// in the way of a free slot.
    pub(crate) fn kick_log(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        if local.log_job.is_some() || local.reset_asked > local.reset_done || local.relocation.is_some() {
            return;
        }
        if local.log.wants_transaction() {
            let LocalDisk { log, evicted, .. } = local;
            let Some(losers) = log.begin_transaction() else { return };
            evicted.clear();
            evicted.extend_from_slice(losers);
            self.continue_log_transaction(index);
        } else if local.log.wants_settling() {
            self.request_epoch_close();
        }
    }

    /// Takes idle extents out of the log, so that a crash has less to copy.
    pub(crate) fn cool_log(&mut self, index: usize, extents_max: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        if local.log_job.is_some() || local.reset_asked > local.reset_done || local.relocation.is_some() {
            return;
        }
        let LocalDisk { log, evicted, .. } = local;
        if let Some(losers) = log.begin_cooling(extents_max) {
            evicted.clear();
            evicted.extend_from_slice(losers);
            self.continue_log_transaction(index);
        }
        if let Some(local) = &mut self.volumes[index].local {
            local.log.mark_idle();
        }
    }

    fn continue_log_transaction(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        let waits = local.evicted.iter().any(|extent| local.store.extent_needs_write(&local.bitmap, *extent));
        if waits && !planted!("evict-before-bitmap") {
            local.log_job = Some(LogJob::AwaitsPages);
            self.drive_bitmap(index);
        } else {
            self.write_log_transaction(index);
        }
    }

    fn write_log_transaction(&mut self, index: usize) {
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else { return };
        let (offset, block) = local.log.encode_transaction();
        local.log_job = Some(LogJob::Writing { pending: 1, reset: false });
        volume.counters.log_transactions += 1;
        self.write_meta(index, MetaPurpose::Log, offset, block);
    }

    fn drive_log_reset(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        if local.reset_asked == local.reset_done || local.log_job.is_some() || local.relocation.is_some() {
            return;
        }
        let mut blocks = Vec::new();
        local.log.forget_wanted();
        local.log.begin_reset(&mut blocks);
        local.log_job = Some(LogJob::Writing { pending: blocks.len() as u32, reset: true });
        for (offset, block) in blocks {
            self.write_meta(index, MetaPurpose::Log, offset, block);
        }
    }

    fn log_block_written(&mut self, index: usize) {
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else { return };
        if let Some(LogJob::Moving { pending }) = &mut local.log_job {
            *pending -= 1;
            if *pending == 0 {
                local.log_job = None;
            }
            return;
        }
        let Some(LogJob::Writing { pending, reset }) = &mut local.log_job else { return };
        *pending -= 1;
        if *pending > 0 {
            return;
        }
        if *reset {
            local.reset_done = local.reset_asked;
        }
        local.log_job = None;
        local.log.commit_transaction();
        // They try again at once and in order, before the next transaction begins: else that one could take away what
        // the oldest of them has just got.
        let waiters: Vec<LogWaiter> = volume.log_waiters.drain(..).collect();
        for waiter in waiters {
            match waiter {
                LogWaiter::Operation(key) => self.start_operation(key),
                LogWaiter::PeerRequest(key) => self.start_peer_write(key),
            }
        }
        self.kick_log(index);
    }

    pub(crate) fn meta_done(&mut self, io: IoId, result: Result<(), IoError>) {
        let Some(io) = self.ios.remove(Key(io.0)) else { return };
        if io.attachment != self.volumes[io.volume].attachment || self.volumes[io.volume].local.is_none() {
            return;
        }
        if result.is_err() && !planted!("failed-meta-ignored") {
            // Metadata that can't be written is a disk that can't be used (I-F1).
            return self.local_disk_failed(io.volume, Why::MetadataError);
        }
        match io.purpose {
            IoPurpose::Meta(MetaPurpose::Superblock) => self.superblock_copy_written(io.volume),
            IoPurpose::Meta(MetaPurpose::Bitmap) => self.bitmap_block_written(io.volume),
            IoPurpose::Meta(MetaPurpose::Log) => self.log_block_written(io.volume),
            IoPurpose::Meta(MetaPurpose::Wipe) => self.former_block_wiped(io.volume),
            _ => {}
        }
    }
}
