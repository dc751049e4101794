//! The target's part of a resync: it pulls.

use super::{Comparison, Resync, Stage};
use crate::action::{Action, Notice, Why};
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Requester, Stage as OperationStage};
use crate::slab::Key;
use crate::volume::settle_crash;
use crate::{Engine, limits};
use rep_meta::DataState;
use rep_types::planted;
use rep_types::{
    BlockIndex, BlockRange, ByteRange, DiskState, GENERATION_HISTORY_LENGTH, GenerationId, IoError, LinkCause,
    PayloadId, ReplicationState, VolumeNumber, ZeroMode,
};
use rep_wire::{ControlMessage, Message, TransferId};
use std::time::Duration;

/// How long a target waits after a refused request.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

impl Engine {
    /// The handshake made this node the target. From this moment its data counts as Inconsistent; on disk it does
    /// before the first byte is written (S1).
    pub(crate) fn begin_resync_target(&mut self, index: usize, full: bool, settles_split_brain: bool) {
        let (serial, now) = (self.next_serial(), self.now);
        let compares = self.target_compares(index);
        let volume = &mut self.volumes[index];
        let before = volume.disk;
        let Some(local) = &mut volume.local else { return };
        if full {
            local.mark_all_out_of_sync();
        }
        volume.in_sync.clear_all();
        let resync = Resync::new(Stage::TargetExchange, serial, full, before, now);
        let comparison = Comparison::new(compares);
        volume.resync = Some(Resync { settles_split_brain, comparison, ..resync });
        self.set_disk(index, DiskState::Inconsistent, Why::Handshake);
        self.show_resync(index, Why::Handshake);
        if !full {
            self.pull_bitmap(index, BlockIndex(0));
        }
    }

    /// The source's word to start.
    pub(crate) fn resync_start(&mut self, number: VolumeNumber, bitmap_generation: GenerationId) {
        let Some(index) = self.volume_index(number) else { return };
        // Our disk may have gone while this word was on its way; ours about that will end the source's part.
        let Some(resync) = &mut self.volumes[index].resync else { return };
        match resync.stage {
            Stage::TargetExchange if bitmap_generation.is_real() => resync.start_generation = Some(bitmap_generation),
            _ => self.drop_link(LinkCause::Protocol),
        }
    }

    pub(crate) fn progress_target(&mut self, index: usize, stage: Stage) -> bool {
        match stage {
            Stage::TargetExchange => self.target_exchanged(index),
            Stage::TargetArchives(archiving) => self.archive_blocks(index, archiving),
            Stage::TargetArchived => self.all_are_archived() && self.target_persists_bitmap(index),
            Stage::TargetPersistsBitmap(ticket) => {
                let local = self.volumes[index].local.as_ref();
                local.is_some_and(|local| local.bitmap_durable(ticket)) && self.target_persists_inconsistent(index)
            }
            Stage::TargetPersistsInconsistent(ticket) => {
                let local = self.volumes[index].local.as_ref();
                local.is_some_and(|local| local.superblock_durable(ticket)) && self.target_is_ready(index)
            }
            Stage::TargetRunning => self.pull_blocks(index),
            _ => false,
        }
    }

    fn target_exchanged(&mut self, index: usize) -> bool {
        let Some(resync) = &self.volumes[index].resync else { return false };
        if !resync.pulled || resync.start_generation.is_none() {
            return false;
        }
        if self.config.asks_before_resync && !planted!("resync-unasked") {
            return self.ask_before_resync(index);
        }
        self.target_goes_on(index)
    }

    /// Bitmaps are united, and nobody minds: what is about to be overwritten is saved, if it is to be.
    pub(super) fn target_goes_on(&mut self, index: usize) -> bool {
        let Some(resync) = &self.volumes[index].resync else { return false };
        match self.config.archive.filter(|_| resync.settles_split_brain && !planted!("victim-not-archived")) {
            Some(scope) => self.begin_archive(index, scope),
            None => self.target_persists_bitmap(index),
        }
    }

    fn target_persists_bitmap(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let (Some(resync), Some(local)) = (&mut volume.resync, &mut volume.local) else { return false };
        resync.stage = Stage::TargetPersistsBitmap(local.flush_bitmap());
        true
    }

    fn target_persists_inconsistent(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let (Some(resync), Some(local)) = (&mut volume.resync, &mut volume.local) else { return false };
        let Some(generation) = resync.start_generation else { return false };
        let boot = volume.boot;
        let ticket = local.update_superblock(|superblock| {
            if !planted!("target-not-inconsistent") {
                superblock.data = DataState::Inconsistent;
            }
            superblock.peer_outdated = false;
            superblock.generations.current = generation;
            superblock.generations.bitmap = GenerationId::NONE;
            superblock.finish_told = false;
            settle_crash(superblock, boot);
        });
        volume.settling = Some(ticket);
        resync.stage = Stage::TargetPersistsInconsistent(ticket);
        true
    }

    fn target_is_ready(&mut self, index: usize) -> bool {
        let now = self.now;
        let volume = &mut self.volumes[index];
        let (number, left) = (volume.number, volume.out_of_sync_blocks());
        if let Some(resync) = &mut volume.resync {
            (resync.stage, resync.total_blocks, resync.started) = (Stage::TargetRunning, left, now);
        }
        self.send(ControlMessage::ResyncReady { volume: number }, None);
        self.send_state();
        true
    }

    /// Asks for as much as may be under way; at the end of a pass waits for the flush, looks again, or finishes.
    fn pull_blocks(&mut self, index: usize) -> bool {
        let mut moved = false;
        while self.may_request(index) {
            match self.next_range(index) {
                Some((range, compare)) => self.request_range(index, range, compare),
                None => return self.end_of_pass(index) || moved,
            }
            moved = true;
        }
        if self.volumes[index].in_sync.current.count() > limits::RESYNC_UNFLUSHED_BLOCKS_MAX {
            self.request_epoch_close();
        }
        moved
    }

    fn may_request(&mut self, index: usize) -> bool {
        let volume = &self.volumes[index];
        let most = self.resync_share().1;
        let free = |resync: &Resync| resync.requests < most && resync.not_before <= self.now;
        let may = !volume.resync_is_paused() && volume.resync.as_ref().is_some_and(free) && !self.waits_its_turn(index);
        may && self.clients_let_resync_move()
    }

    /// One volume after the other, by their numbers: so the first is whole soonest, the disks needn't seek between them,
    /// and the rate is the resource's. A volume that can't go on (paused, or its source refuses) keeps nobody waiting.
    fn waits_its_turn(&self, index: usize) -> bool {
        use Stage::*;
        let about_to_pull = |stage| {
            matches!(
                stage,
                TargetExchange | TargetAsks | TargetPersistsBitmap(_) | TargetPersistsInconsistent(_) | TargetRunning
            )
        };
        let goes_on = |resync: &Resync| about_to_pull(resync.stage) && !resync.refused;
        let earlier = self.volumes[..index].iter().filter(|volume| !volume.resync_is_paused());
        earlier.filter_map(|volume| volume.resync.as_ref()).any(goes_on)
    }

    /// The next range to pull, or to compare first: what was found to differ, then the next run that is out-of-sync and
    /// not yet done, up to where such ranges begin on the disk: what is aligned there, as the holes of a thin disk, isn't
    /// cut in two. Moves the cursor past it.
    fn next_range(&mut self, index: usize) -> Option<(ByteRange, bool)> {
        let most = self.resync_share().0;
        let volume = &mut self.volumes[index];
        let size = volume.size_bytes;
        if let Some(run) = volume.next_different() {
            return run.bytes(size).map(|range| (range, false));
        }
        let (resync, local) = (volume.resync.as_mut()?, volume.local.as_ref()?);
        // Else a run looked for in vain would count as one that was pulled unasked.
        local.bitmap().next_run(resync.cursor, 1)?;
        let compare = resync.comparison.is_next();
        let blocks_max = if compare { limits::RESYNC_COMPARE_BLOCKS_MAX.min(most) } else { most };
        loop {
            let run = local.bitmap().next_run(resync.cursor, blocks_max)?;
            let count = run.count.min(blocks_max - run.first.0 % blocks_max);
            let mut fresh = BlockRange { first: run.first, count: 0 };
            while fresh.count < count {
                let block = BlockRange::new(fresh.end(), 1);
                if volume.in_sync.contains_any(block) {
                    break;
                }
                fresh.count += 1;
            }
            if fresh.count > 0 {
                resync.cursor = BlockIndex(fresh.end());
                return fresh.bytes(size).map(|range| (range, compare));
            }
            resync.cursor = BlockIndex(run.first.0 + 1);
        }
    }

    fn request_range(&mut self, index: usize, range: ByteRange, compare: bool) {
        let rate = self.config.resync_rate_max;
        let now = self.now;
        self.resync_moves(u64::from(range.length));
        let Some(resync) = &mut self.volumes[index].resync else { return };
        resync.requests += 1;
        if let Some(nanoseconds) = u64::from(range.length).saturating_mul(1_000_000_000).checked_div(rate) {
            let span = Duration::from_nanos(nanoseconds);
            resync.not_before = resync.not_before.max(now).after(span);
        }
        let serial = resync.serial;
        let kind = match compare {
            true => OperationKind::ResyncCompare { serial },
            false => OperationKind::ResyncTarget { serial },
        };
        self.insert_operation(Requester::Nobody, index, range, None, kind);
    }

    /// The range is locked: ask for it.
    pub(crate) fn resync_target_locked(&mut self, key: Key, op: Operation) {
        let now = self.now;
        if let Some(op) = self.ops.get_mut(key) {
            (op.peer, op.stage, op.started) = (Leg::Open, OperationStage::UnderWay, now);
        }
        let volume = self.volumes[op.volume].number;
        self.send(Message::ResyncRequest { id: TransferId(key.0), volume, range: op.range }, None);
    }

    pub(super) fn awaited(&mut self, id: TransferId) -> Option<(Key, Operation)> {
        let key = Key(id.0);
        let op = self.ops.get_mut(key)?;
        let ours = matches!(op.kind, OperationKind::ResyncTarget { .. });
        let awaited = ours && op.peer == Leg::Open;
        if awaited {
            op.peer = Leg::Done;
        }
        awaited.then_some((key, *op))
    }

    pub(crate) fn resync_data(&mut self, id: TransferId, length: u32, payload: Option<PayloadId>) {
        let Some((key, op)) = self.awaited(id) else { return self.release(payload) };
        let Some(payload) = payload.filter(|_| length == op.range.length) else {
            self.release(payload);
            return self.drop_link(LinkCause::Protocol);
        };
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.payload, op.landing) = (Leg::Open, Some(payload), 1);
        }
        let volume = &mut self.volumes[op.volume];
        volume.counters.received_bytes += u64::from(length);
        let number = volume.number;
        let io = self.new_io(op.volume, IoPurpose::ResyncWrite(key));
        let durable = self.config.stable;
        self.out.push(Action::WriteDisk { io, volume: number, range: op.range, payload, payload_offset: 0, durable });
    }

    pub(crate) fn resync_zeroes(&mut self, id: TransferId) {
        let Some((key, op)) = self.awaited(id) else { return };
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.landing) = (Leg::Open, 1);
        }
        let volume = self.volumes[op.volume].number;
        let io = self.new_io(op.volume, IoPurpose::ResyncWrite(key));
        let (mode, durable) = (ZeroMode::ZeroMayUnmap, self.config.stable);
        self.out.push(Action::ZeroDisk { io, volume, range: op.range, mode, durable });
    }

    /// The source could not give a range: it stays out-of-sync, and is asked for again after a while.
    pub(crate) fn resync_refused(&mut self, id: TransferId) {
        let key = Key(id.0);
        let asked = |op: &&Operation| op.kind.is_comparison() && op.peer == Leg::Open;
        let asked = self.ops.get(key).filter(asked).map(|op| (key, *op));
        let Some((key, op)) = asked.or_else(|| self.awaited(id)) else { return };
        let later = self.now.after(REFUSED_PAUSE);
        if let Some(resync) = &mut self.volumes[op.volume].resync {
            resync.requests = resync.requests.saturating_sub(1);
            resync.not_before = resync.not_before.max(later);
            resync.refused = true;
        }
        self.end_operation(key, Err(IoError::Io));
    }

    /// A resync's write has landed. One whose resync has ended only gives its lock back.
    pub(crate) fn resync_write_done(&mut self, key: Key) {
        if !self.resync_request_landed(key) {
            return;
        }
        let Some(op) = self.ops.get(key).copied() else { return };
        let OperationKind::ResyncTarget { serial } = op.kind else { return };
        let now = self.now;
        let volume = &mut self.volumes[op.volume];
        if let Some(resync) = volume.resync.as_mut().filter(|resync| resync.serial == serial) {
            resync.requests = resync.requests.saturating_sub(1);
            resync.note_copied(u64::from(op.range.length), now);
            volume.counters.resynced_bytes += u64::from(op.range.length);
            volume.in_sync.current.set(op.range.blocks_touched());
            if planted!("bit-cleared-on-ack") {
                volume.clear_in_sync(now, |sets| &mut sets.current);
            }
            self.epochs.touch(now);
            self.send(Message::ResyncAck { id: TransferId(key.0), result: Ok(()) }, None);
        }
        self.end_operation(key, Ok(()));
    }

    /// Nothing more to ask for in this pass.
    fn end_of_pass(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let (Some(resync), Some(local)) = (&mut volume.resync, &volume.local) else { return false };
        if resync.requests > 0 {
            return false;
        }
        let number = volume.number;
        if local.bitmap().is_empty() || planted!("finish-with-bits") {
            resync.stage = Stage::TargetAwaitsGenerations;
            self.send(ControlMessage::ResyncFinish { volume: number }, None);
            return true;
        }
        if volume.in_sync.count() > 0 {
            if !volume.in_sync.current.is_empty() {
                self.request_epoch_close();
            }
            return false;
        }
        let anything_before = resync.cursor.0 > 0;
        resync.cursor = BlockIndex(0);
        anything_before
    }

    /// More blocks turned out to differ. While blocks are being pulled the end of the pass will find them; going back
    /// now would ask again for what is under way.
    pub(crate) fn resync_target_goes_on(&mut self, index: usize) {
        let volume = &mut self.volumes[index];
        if let Some(resync) = &mut volume.resync
            && resync.stage == Stage::TargetAwaitsGenerations
            && volume.adopting.is_none()
        {
            (resync.stage, resync.cursor) = (Stage::TargetRunning, BlockIndex(0));
        }
    }

    /// The source's generations: make them ours (R25).
    pub(crate) fn resync_generations(&mut self, number: VolumeNumber, current: GenerationId, history: &[GenerationId]) {
        // Who has said that it leaves a Primary counts as Outdated from then on, and stays what it was.
        let Some(index) = self.volume_index(number).filter(|_| self.is_connected()) else { return };
        let volume = &mut self.volumes[index];
        let awaits = |resync: &Resync| resync.stage == Stage::TargetAwaitsGenerations;
        if !volume.resync.as_ref().is_some_and(awaits) || volume.adopting.is_some() || !current.is_real() {
            return;
        }
        let Some(local) = &mut volume.local else { return };
        let ticket = local.update_superblock(|superblock| {
            let generations = &mut superblock.generations;
            for id in history.iter().take(GENERATION_HISTORY_LENGTH).rev() {
                generations.remember(*id);
            }
            generations.remember(generations.current);
            if !planted!("target-keeps-generation") {
                generations.current = current;
            }
            generations.bitmap = GenerationId::NONE;
            superblock.make_consistent();
        });
        local.flush_bitmap();
        volume.adopting = Some(ticket);
    }

    /// This disk is UpToDate, durably.
    pub(crate) fn resync_target_finished(&mut self, index: usize, resync: &Resync) {
        let number = self.volumes[index].number;
        self.send(ControlMessage::ResyncFinished { volume: number }, None);
        self.set_replication(index, ReplicationState::Established, Why::ResyncDone);
        let (copied_bytes, equal_bytes) = (resync.copied_bytes, resync.comparison.equal_bytes);
        self.notice(Notice::ResyncFinished { volume: number, copied_bytes, equal_bytes });
    }
}
