//! The source's part of a resync.

use super::{Resync, Stage};
use crate::action::{Action, Notice, ReadInto, Why};
use crate::event::{DiskSuccess, Timestamp};
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Requester, Stage as OperationStage};
use crate::slab::Key;
use crate::volume::settle_crash;
use crate::{Engine, generation, limits};
use rep_types::planted;
use rep_types::{
    BlockIndex, ByteRange, DigestKey, DiskState, IoError, LinkCause, REQUEST_LENGTH_MAX, ReplicationState, VolumeNumber,
};
use rep_wire::{ControlMessage, Message, TransferId};

/// Runs told to a target that missed them, at a time.
const OUT_OF_SYNC_RUNS_MAX: usize = 256;

/// What the target asked for, while it waits for its turn.
#[derive(Debug)]
pub(crate) struct Kept {
    pub id: TransferId,
    pub range: ByteRange,
    /// When it was asked for.
    pub since: Timestamp,
    /// It is to be compared with these, by this key.
    pub compare: Option<(DigestKey, Vec<u8>)>,
}

impl Engine {
    /// The handshake made this node the source.
    pub(crate) fn begin_resync_source(&mut self, index: usize, full: bool, settles_split_brain: bool) {
        let serial = self.next_serial();
        let made = self.generations.make();
        let now = self.now;
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else { return };
        if full || planted!("resync-of-everything") {
            local.mark_all_out_of_sync();
        }
        let generations = local.superblock().generations;
        // A bitmap generation that can be told apart lets an interrupted resync go on by its bitmap.
        let fresh_bitmap_generation = !generations.bitmap.is_none() && !generations.bitmap.is_real();
        // The resync that this bitmap generation was for has ended there: what the peer will lack from now on it lacks
        // of the generation both have (R14). Else one that isn't told yet would pass for as good.
        let ended_there = volume.peer_disk.is_consistent()
            && volume.peer_told.is_some_and(|peer| peer.generations.current == generations.current);
        let settles = ended_there && generations.bitmap.is_real();
        let boot = volume.boot;
        let ticket = local.update_superblock(|superblock| {
            superblock.make_consistent();
            superblock.peer_outdated = false;
            superblock.finish_told = false;
            settle_crash(superblock, boot);
            if fresh_bitmap_generation {
                superblock.generations.bitmap = made;
            }
            if settles {
                generation::settle(&mut superblock.generations);
            }
        });
        volume.settling = Some(ticket);
        if volume.disk != DiskState::UpToDate {
            self.set_disk(index, DiskState::UpToDate, Why::Handshake);
        }
        let volume = &mut self.volumes[index];
        let resync = Resync::new(Stage::SourceExchange, serial, full, volume.disk, now);
        volume.resync = Some(Resync { settles_split_brain, ..resync });
        self.show_resync(index, Why::Handshake);
        self.flush_disk(index, IoPurpose::SourceFlush { serial });
        if !full {
            self.pull_bitmap(index, BlockIndex(0));
        }
    }

    pub(crate) fn progress_source(&mut self, index: usize, stage: Stage) -> bool {
        match stage {
            Stage::SourceExchange => self.source_begins_generation(index) || self.source_may_start(index),
            Stage::SourceRunning => {
                let released = self.release_kept(index);
                self.source_flushes(index);
                self.source_may_finish(index) || released
            }
            _ => self.release_kept(index),
        }
    }

    fn source_may_start(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let (Some(resync), Some(local)) = (&mut volume.resync, &volume.local) else { return false };
        let bitmap_generation = local.superblock().generations.bitmap;
        if !resync.pulled || !resync.flushed || !local.superblock_settled() || !bitmap_generation.is_real() {
            return false;
        }
        resync.stage = Stage::SourceAwaitsReady;
        let volume = volume.number;
        self.send(ControlMessage::ResyncStart { volume, bitmap_generation }, None);
        true
    }

    /// What the target copies and then calls equal must not vanish from this disk's cache afterwards (I-B2).
    pub(crate) fn source_flushed(&mut self, index: usize, serial: u64) {
        let volume = &mut self.volumes[index];
        let Some(resync) = volume.resync.as_mut().filter(|resync| resync.serial == serial) else { return };
        resync.flushed = true;
        // Not before: a generation on a disk that turns out to have lost its cache would pass for newer than the
        // target's good data.
        let none = volume.local.as_ref().is_some_and(|local| local.superblock().generations.bitmap.is_none());
        if none && !self.fences() {
            self.begin_generation(index);
        }
    }

    /// With fencing the source's generation begins only when the target is known to have joined, by its bitmap: one
    /// that hasn't may be promoted, and this generation would then look like a split brain (F2).
    fn source_begins_generation(&mut self, index: usize) -> bool {
        let volume = &self.volumes[index];
        let ready = volume.resync.as_ref().is_some_and(|resync| resync.pulled && resync.flushed);
        let none = volume.local.as_ref().is_some_and(|local| local.superblock().generations.bitmap.is_none());
        let due = self.fences() && ready && none && volume.recording.is_none();
        if due {
            self.begin_generation(index);
        }
        due
    }

    /// The target is durably Inconsistent: from now on writes are mirrored to it.
    pub(crate) fn resync_ready(&mut self, number: VolumeNumber) {
        let Some(index) = self.volume_index(number) else { return };
        let (now, volume) = (self.now, &mut self.volumes[index]);
        let left = volume.out_of_sync_blocks();
        let Some(resync) = volume.resync.as_mut().filter(|resync| resync.stage == Stage::SourceAwaitsReady) else {
            return;
        };
        (resync.stage, resync.total_blocks, resync.started) = (Stage::SourceRunning, left, now);
        self.set_peer_disk(index, DiskState::Inconsistent, Why::Peer);
    }

    pub(super) fn serves_resync(&self, index: usize) -> bool {
        let resync = self.volumes[index].resync.as_ref();
        resync.is_some_and(|resync| matches!(resync.stage, Stage::SourceRunning | Stage::SourceAwaitsFinished))
    }

    /// The target asks for a range.
    pub(crate) fn resync_requested(&mut self, id: TransferId, number: VolumeNumber, range: ByteRange) {
        let Some(index) = self.volume_index(number).filter(|index| self.serves_resync(*index)) else {
            return self.send(Message::ResyncRefused { id }, None);
        };
        let legal = self.volumes[index].may_be_asked_for(range) && range.length <= REQUEST_LENGTH_MAX;
        let serving = self.volumes[index].resync.as_ref().map_or(0, Resync::open_requests);
        if !legal || serving >= limits::RESYNC_REQUESTS_ACCEPTED_MAX {
            return self.drop_link(LinkCause::Protocol);
        }
        self.keep_request(index, Kept { id, range, since: self.now, compare: None });
    }

    /// A request gets its turn at the end of this event, or when our clients let it.
    pub(super) fn keep_request(&mut self, index: usize, kept: Kept) {
        if let Some(resync) = &mut self.volumes[index].resync {
            resync.kept.push_back(kept);
        }
    }

    /// Serves what may have its turn. Nothing of it was locked before.
    fn release_kept(&mut self, index: usize) -> bool {
        let mut released = false;
        while let Some(since) = self.volumes[index].resync.as_ref().and_then(|resync| Some(resync.kept.front()?.since))
        {
            // Kept for too long its asker would take our disk for stalled, and drop the link.
            if !self.clients_let_resync_move() && since.after(self.keep_max()) > self.now {
                break;
            }
            let kept = self.volumes[index].resync.as_mut().and_then(|resync| resync.kept.pop_front());
            let Some(Kept { id, range, compare, .. }) = kept else { break };
            self.resync_moves(u64::from(range.length));
            let kind = match compare {
                None => OperationKind::ResyncSource { transfer: id },
                Some(_) => OperationKind::ResyncCompareFor { transfer: id },
            };
            let key = self.insert_operation(Requester::Nobody, index, range, None, kind);
            if let Some(resync) = &mut self.volumes[index].resync {
                resync.serving.push((id, key));
                resync.comparison.note_asked(key, compare);
            }
            released = true;
        }
        released
    }

    /// The range is locked: read it.
    pub(crate) fn resync_source_locked(&mut self, key: Key, op: Operation, _transfer: TransferId) {
        let volume = self.volumes[op.volume].number;
        let now = self.now;
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.stage, op.started) = (Leg::Open, OperationStage::UnderWay, now);
        }
        let io = self.new_io(op.volume, IoPurpose::ResyncRead(key));
        self.out.push(Action::ReadDisk { io, volume, range: op.range, into: ReadInto::NewPayload });
    }

    /// The range has been read: send it.
    pub(crate) fn resync_read_done(&mut self, key: Key, success: DiskSuccess) {
        let Some(op) = self.ops.get_mut(key) else { return self.release(success.payload) };
        let OperationKind::ResyncSource { transfer: id } = op.kind else { return self.release(success.payload) };
        (op.local, op.peer) = (Leg::Done, Leg::Open);
        let (length, index) = (op.range.length, op.volume);
        match success.payload {
            Some(payload) => {
                let sent = self.send_range(id, length, payload, success.zeroes);
                self.volumes[index].counters.sent_bytes += u64::from(sent);
            }
            None => self.send(Message::ResyncZeroes { id }, None),
        }
        self.release(success.payload);
        if planted!("source-unlocks-early") {
            self.resync_acknowledged(id, Ok(()));
        }
    }

    /// The range could not be read, and the disk is kept: it stays out-of-sync, the target asks again later.
    pub(crate) fn resync_read_failed(&mut self, key: Key) {
        let Some(op) = self.ops.get(key).copied() else { return };
        let OperationKind::ResyncSource { transfer: id } = op.kind else { return };
        if let Some(resync) = &mut self.volumes[op.volume].resync {
            resync.serving.retain(|(_, served)| *served != key);
        }
        self.send(Message::ResyncRefused { id }, None);
        self.end_operation(key, Err(IoError::Io));
    }

    /// The target has written a range, or could not.
    pub(crate) fn resync_acknowledged(&mut self, id: TransferId, result: Result<(), IoError>) {
        let now = self.now;
        for index in 0..self.volumes.len() {
            let Some(resync) = &mut self.volumes[index].resync else { continue };
            let Some(position) = resync.serving.iter().position(|(transfer, _)| *transfer == id) else { continue };
            let (_, key) = resync.serving.swap_remove(position);
            let Some(range) = self.ops.get(key).map(|op| op.range) else { continue };
            if result.is_ok() {
                let volume = &mut self.volumes[index];
                volume.in_sync.current.set(range.blocks_touched());
                if planted!("bit-cleared-on-ack") {
                    volume.clear_in_sync(now, |sets| &mut sets.current);
                }
                volume.counters.resynced_bytes += u64::from(range.length);
                if let Some(resync) = &mut volume.resync {
                    resync.note_copied(u64::from(range.length), now);
                }
                self.epochs.touch(now);
            }
            self.end_operation(key, result);
            return;
        }
    }

    /// The target is done, as far as it knows.
    pub(crate) fn resync_finish_asked(&mut self, number: VolumeNumber) {
        let Some(index) = self.volume_index(number) else { return };
        if let Some(resync) = self.volumes[index].resync.as_mut().filter(|resync| resync.stage == Stage::SourceRunning)
        {
            resync.finish_asked = true;
        }
    }

    /// Closes an epoch when enough waits for it.
    pub(crate) fn source_flushes(&mut self, index: usize) {
        if self.volumes[index].in_sync.current.count() > limits::RESYNC_UNFLUSHED_BLOCKS_MAX {
            self.request_epoch_close();
        }
    }

    fn source_may_finish(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let (Some(resync), Some(local)) = (&mut volume.resync, &mut volume.local) else { return false };
        if !resync.finish_asked || resync.open_requests() > 0 {
            return false;
        }
        let number = volume.number;
        if local.bitmap().is_empty() || planted!("finish-with-bits") {
            let Some(noted) = resync.finish_noted else {
                resync.finish_noted = Some(local.update_superblock(|superblock| superblock.finish_told = true));
                return true;
            };
            if !local.superblock_durable(noted) {
                return false;
            }
            (resync.stage, resync.finish_asked) = (Stage::SourceAwaitsFinished, false);
            let generations = local.superblock().generations;
            let history = generations.history.iter().copied().filter(|id| id.is_real()).collect();
            let message = ControlMessage::ResyncGenerations { volume: number, current: generations.current, history };
            self.send(message, None);
            return true;
        }
        if !volume.in_sync.current.is_empty() {
            // Once: closing the epoch moves the set on.
            self.request_epoch_close();
            return false;
        }
        if volume.in_sync.count() > 0 {
            return false;
        }
        // The target doesn't know of these: tell it, it goes on and asks again.
        resync.finish_asked = false;
        let mut from = BlockIndex(0);
        for _ in 0..OUT_OF_SYNC_RUNS_MAX {
            let run = self.volumes[index].local.as_ref().and_then(|local| local.bitmap().next_run(from, u64::MAX));
            let Some(run) = run else { break };
            from = BlockIndex(run.end());
            self.send(ControlMessage::OutOfSync { volume: number, first: run.first, count: run.count }, None);
        }
        true
    }

    /// The target has taken over our generations, durably (R25).
    pub(crate) fn resync_finished(&mut self, number: VolumeNumber) {
        let Some(index) = self.volume_index(number) else { return };
        let volume = &mut self.volumes[index];
        if volume.resync.as_ref().is_none_or(|resync| resync.stage != Stage::SourceAwaitsFinished) {
            return;
        }
        let Some(resync) = volume.resync.take() else { return };
        if let Some(local) = &mut volume.local {
            local.update_superblock(|superblock| {
                generation::settle(&mut superblock.generations);
                superblock.finish_told = false;
            });
            local.flush_bitmap();
            if let Some(told) = &mut volume.peer_told {
                told.generations = local.superblock().generations;
            }
        }
        self.set_peer_disk(index, DiskState::UpToDate, Why::ResyncDone);
        self.set_replication(index, ReplicationState::Established, Why::ResyncDone);
        self.notice(Notice::ResyncFinished {
            volume: number,
            copied_bytes: resync.copied_bytes,
            equal_bytes: resync.comparison.equal_bytes,
        });
    }
}
