//! Resync: making two disks equal, by copying only what may differ.
//!
//! ```text
//!     target                                source
//!        │◄──────── bitmaps travel ─────────►│   both pull the other's; the union counts (R19); I/O goes on (R20)
//!        │                                   │   source: bitmap generation durable, disk flushed
//!        │◄─────────── ResyncStart ──────────┤
//!  (a split brain's victim: archived)        │
//!  durably Inconsistent (R21)                │
//!        ├─────────── ResyncReady ──────────►│   from here on client writes are mirrored
//!   lock ├─────────── ResyncRequest ────────►│ lock, read
//!  write │◄── ResyncData / Runs / Zeroes ────┤
//!        ├─────────── ResyncAck ────────────►│ unlock
//!        │          … flush: bits clear … (R24)
//!        ├─────────── ResyncFinish ─────────►│   its bits are 0 as well, else OutOfSync tells which
//!        │◄────────── ResyncGenerations ─────┤
//!  durably UpToDate (R25)                    │
//!        ├─────────── ResyncFinished ───────►│
//! ```
//!
//! Zeroes are told, not copied, also those within a range (`zero_runs`).
//!
//! Where the bits cover far more than what differs, the target compares by digests before it pulls (`compare`).
//!
//! The range of a request is locked in the tables of both nodes from before it is asked for until it is written, so
//! that no client write slips in between on either side (R22).
//!
//! Invariants:
//! - S1 the target writes nothing before it is durably Inconsistent (I-B5);
//! - S2 bits clear only when the target's disk has been flushed past the copy (I-B2);
//! - S3 whatever ends a resync early, the bits that are left say what is missing (I-B6). Those on disk lag behind by a
//!   second and an epoch at most: neither node's crash makes it begin anew.

mod archive;
mod compare;
mod exchange;
mod pacing;
mod permission;
mod source;
mod target;
mod zero_runs;

use crate::action::{Action, Why};
use crate::event::Timestamp;
use crate::local_disk::{BitmapTicket, SuperblockTicket};
use crate::operation::{Leg, Operation, OperationKind, Stage as OperationStage};
use crate::slab::Key;
use crate::snapshot::{ComparedSnapshot, ResyncSnapshot};
use crate::volume::Volume;
use crate::{Engine, limits};
pub(crate) use archive::Archiving;
pub(crate) use compare::{Comparison, compares};
pub(crate) use pacing::Pacing;
pub use pacing::PacingSnapshot;
use rep_meta::DataState;
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, BlockIndex, ByteRange, ConnectionState, DiskState, GenerationId, IoError, ReplicationState, Role,
};
use rep_wire::{PriorEnd, TransferId};
pub(crate) use source::Kept;
use std::collections::VecDeque;
use std::time::Duration;

/// How far a resync is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Source: bitmaps travel, the bitmap generation is being made durable.
    SourceExchange,
    /// Source: the target was told to start.
    SourceAwaitsReady,
    /// Source: the target pulls.
    SourceRunning,
    /// Source: the target was told our generations.
    SourceAwaitsFinished,
    /// Target: bitmaps travel, or the source's word to start is awaited.
    TargetExchange,
    /// Target: the before-resync-target handler is asked.
    TargetAsks,
    /// Target, a split brain's victim: what will be overwritten is being saved.
    TargetArchives(Archiving),
    /// Target, a split brain's victim: saved; other volumes aren't yet.
    TargetArchived,
    /// Target: the united bitmap is being made durable.
    TargetPersistsBitmap(BitmapTicket),
    /// Target: being Inconsistent is being made durable.
    TargetPersistsInconsistent(SuperblockTicket),
    /// Target: pulling.
    TargetRunning,
    /// Target: done; the source was asked for its generations.
    TargetAwaitsGenerations,
}

/// A resync under way.
#[derive(Debug)]
pub(crate) struct Resync {
    pub stage: Stage,
    /// Tells resyncs apart.
    pub serial: u64,
    /// Whether the peer's bitmap has arrived whole (or isn't needed).
    pub pulled: bool,
    /// Target: the source's bitmap generation, once told.
    pub start_generation: Option<GenerationId>,
    /// Target: the disk's state before.
    pub disk_before: DiskState,
    /// Source: whether everything it had when it began is stable.
    pub flushed: bool,
    /// Source: requests being served.
    pub serving: Vec<(TransferId, Key)>,
    /// Source: requests that wait for their turn, for the clients' sake.
    pub kept: VecDeque<Kept>,
    /// Source: the target said that it is done.
    pub finish_asked: bool,
    /// Source: that the target may bear our generation is being made durable, before it is told (R14).
    pub finish_noted: Option<SuperblockTicket>,
    /// Target: where to look for the next run.
    pub cursor: BlockIndex,
    /// Target: requests under way.
    pub requests: usize,
    /// One side's data are given up in a split brain.
    pub settles_split_brain: bool,
    /// Target: bytes archived.
    pub archived_bytes: u64,
    /// Target: no new request before this (rate limit, or a refusal).
    pub not_before: Timestamp,
    /// Target: the source refused the last request.
    pub refused: bool,
    pub started: Timestamp,
    pub total_blocks: u64,
    pub copied_bytes: u64,
    pub comparison: Comparison,
    /// When its progress was last on its way to the disk.
    pub saved: Timestamp,
    window: (Timestamp, u64),
    rate_bytes_per_s: u64,
}

impl Resync {
    pub fn new(stage: Stage, serial: u64, pulled: bool, disk_before: DiskState, now: Timestamp) -> Self {
        Resync {
            stage,
            serial,
            pulled,
            start_generation: None,
            disk_before,
            flushed: false,
            serving: Vec::new(),
            kept: VecDeque::new(),
            finish_asked: false,
            finish_noted: None,
            cursor: BlockIndex(0),
            requests: 0,
            settles_split_brain: false,
            archived_bytes: 0,
            not_before: now,
            refused: false,
            started: now,
            total_blocks: 0,
            copied_bytes: 0,
            comparison: Comparison::default(),
            saved: now,
            window: (now, 0),
            rate_bytes_per_s: 0,
        }
    }

    pub fn is_source(&self) -> bool {
        use Stage::*;
        matches!(self.stage, SourceExchange | SourceAwaitsReady | SourceRunning | SourceAwaitsFinished)
    }

    /// Whether the target is durably Inconsistent, as far as this side knows: from here on its old data are gone.
    pub fn has_begun(&self) -> bool {
        self.peer_takes_writes() && self.target_takes_writes()
    }

    /// Whether the peer's disk takes client writes: a target only from when it is durably Inconsistent.
    pub fn peer_takes_writes(&self) -> bool {
        !matches!(self.stage, Stage::SourceExchange | Stage::SourceAwaitsReady)
    }

    /// Whether our own disk takes client writes (S1).
    pub fn target_takes_writes(&self) -> bool {
        use Stage::*;
        !matches!(
            self.stage,
            TargetExchange
                | TargetAsks
                | TargetArchives(_)
                | TargetArchived
                | TargetPersistsBitmap(_)
                | TargetPersistsInconsistent(_)
        )
    }

    pub fn is_running_target(&self) -> bool {
        matches!(self.stage, Stage::TargetRunning | Stage::TargetAwaitsGenerations)
    }

    /// Source: the target takes its data for good as soon as it has written that down.
    pub fn has_told_generations(&self) -> bool {
        self.stage == Stage::SourceAwaitsFinished
    }

    /// Books copied bytes and keeps the rate of the last seconds.
    pub fn note_copied(&mut self, bytes: u64, now: Timestamp) {
        self.refused = false;
        self.copied_bytes += bytes;
        self.note_rate(bytes, now);
    }

    fn note_rate(&mut self, bytes: u64, now: Timestamp) {
        self.window.1 += bytes;
        let span = now.since(self.window.0);
        if span.as_millis() >= 1000 {
            self.rate_bytes_per_s = self.window.1 * 1000 / (span.as_millis() as u64);
            self.window = (now, 0);
        }
    }
}

impl Volume {
    /// Whether the operator of either node wants no block copied for now.
    pub(crate) fn resync_is_paused(&self) -> bool {
        self.resync_paused_here || self.resync_paused_there
    }

    /// A client's write reached both disks: blocks it covers whole and that were out-of-sync are equal now (R23).
    pub(crate) fn note_covered(&mut self, range: ByteRange) {
        let running = self.resync.as_ref().is_some_and(|resync| {
            matches!(resync.stage, Stage::SourceRunning | Stage::SourceAwaitsFinished) || resync.is_running_target()
        });
        let covered = match planted!("partial-write-clears-bit") {
            true => range.blocks_touched(),
            false => range.blocks_covered(self.size_bytes),
        };
        let marked = |volume: &Volume| volume.local.as_ref().is_some_and(|local| local.bitmap().any_set(covered));
        if running && !covered.is_empty() && marked(self) {
            self.in_sync.current.set(covered);
        }
    }

    /// Bits have cleared: now and then that is made durable, so that a crash doesn't make the resync begin anew.
    pub(crate) fn save_resync_progress(&mut self, now: Timestamp) {
        let (Some(resync), Some(local)) = (&mut self.resync, &mut self.local) else { return };
        if now.since(resync.saved) >= limits::RESYNC_SAVE_INTERVAL {
            resync.saved = now;
            local.flush_bitmap();
        }
    }

    /// How much has been archived, while that is under way.
    pub(crate) fn archived_bytes(&self) -> Option<u64> {
        let resync = self.resync.as_ref()?;
        matches!(resync.stage, Stage::TargetArchives(_) | Stage::TargetArchived).then_some(resync.archived_bytes)
    }

    pub(crate) fn resync_snapshot(&self, now: Timestamp) -> Option<ResyncSnapshot> {
        let resync = self.resync.as_ref()?;
        let left = self.out_of_sync_blocks().saturating_sub(self.in_sync.count());
        let total = resync.total_blocks.max(left);
        let age = now.since(resync.started).as_millis().max(1) as u64;
        let rate = if resync.rate_bytes_per_s > 0 { resync.rate_bytes_per_s } else { resync.copied_bytes * 1000 / age };
        Some(ResyncSnapshot {
            total_bytes: total * BLOCK_SIZE,
            done_bytes: (total - left) * BLOCK_SIZE,
            copied_bytes: resync.copied_bytes,
            compared: resync.comparing().then_some(ComparedSnapshot {
                compared_bytes: resync.comparison.compared_bytes,
                equal_bytes: resync.comparison.equal_bytes,
            }),
            started: resync.started,
            rate_bytes_per_s: rate,
        })
    }
}

impl Engine {
    pub(crate) fn progress_resync(&mut self, index: usize) -> bool {
        let adopted = self.progress_adoption(index);
        let stage = match &self.volumes[index].resync {
            Some(resync) => resync.stage,
            None => return adopted,
        };
        adopted
            | match stage {
                Stage::SourceExchange
                | Stage::SourceAwaitsReady
                | Stage::SourceAwaitsFinished
                | Stage::SourceRunning => self.progress_source(index, stage),
                _ => self.progress_target(index, stage),
            }
    }

    /// Data that has become UpToDate durably counts as such.
    pub(crate) fn progress_adoption(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let durable = |ticket| volume.local.as_ref().is_none_or(|local| local.superblock_durable(ticket));
        if volume.settling.is_some_and(durable) {
            (volume.settling, volume.prior_end, volume.cache_lost) = (None, PriorEnd::LinkLoss, false);
        }
        let Some(_) = volume.adopting.filter(|ticket| durable(*ticket)) else { return false };
        volume.adopting = None;
        if volume.local.is_none() {
            return true;
        }
        let finished = volume.resync.take();
        let why = if finished.is_some() { Why::ResyncDone } else { Why::Handshake };
        self.set_disk(index, DiskState::UpToDate, why);
        self.record_loss_of_before(index);
        if let Some(resync) = finished {
            self.resync_target_finished(index, &resync);
        }
        if self.is_connected() {
            self.send_state();
        } else if self.connection == ConnectionState::Disconnecting {
            self.leave_outdated();
        }
        true
    }

    /// Ends a resync early. The bits that are left say what is missing (S3).
    pub(crate) fn stop_resync(&mut self, index: usize, why: Why) {
        self.stop_verify(index, why);
        let volume = &mut self.volumes[index];
        // The adoption of the source's generations may already be on its way to the disk; then it goes on without
        // the connection, and `progress_adoption` sees that no resync is left.
        let Some(resync) = volume.resync.take() else { return };
        if matches!(resync.stage, Stage::TargetArchives(_)) {
            let volume = volume.number;
            self.out.push(Action::DropArchive { volume });
        }
        let volume = &mut self.volumes[index];
        volume.in_sync.clear_all();
        let keys: Vec<Key> = self
            .ops
            .iter()
            .filter(|(_, op)| op.volume == index && is_resync(op.kind))
            // A resync's write on its way to the disk keeps its lock until it has landed.
            .filter(|(_, op)| !(matches!(op.kind, OperationKind::ResyncTarget { .. }) && op.local == Leg::Open))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.end_operation(key, Err(IoError::Io));
        }
        self.restore_target_state(index, &resync, why);
    }

    /// A target that never became durably Inconsistent has its old data, whole, and knows that newer exists. A split
    /// brain isn't settled by a resync that never began: both sides are as before, and the operator's word is wanted
    /// again, since the bitmaps, which may have been united, no longer tell a policy who wrote how much.
    fn restore_target_state(&mut self, index: usize, resync: &Resync, why: Why) {
        use Stage::*;
        let apart = self.link.is_none();
        if resync.settles_split_brain && !resync.has_begun() && apart && self.connection == ConnectionState::Connecting
        {
            self.set_connection(ConnectionState::SplitBrain, why);
        }
        let untouched = matches!(
            resync.stage,
            TargetExchange | TargetAsks | TargetArchives(_) | TargetArchived | TargetPersistsBitmap(_)
        );
        let Some(local) = self.volumes[index].local.as_mut().filter(|_| untouched) else { return };
        if resync.settles_split_brain && apart {
            // Its clients would have seen the winner's data, and now its own (decision 42).
            debug_assert!(self.role == Role::Secondary, "a victim of a split brain has clients");
            self.set_disk(index, resync.disk_before, why);
        } else if resync.disk_before.is_consistent() {
            local.update_superblock(|superblock| superblock.data = DataState::Outdated);
            self.set_disk(index, DiskState::Outdated, why);
        }
    }

    /// Whether no resync that has ended early still has a write on its way to the disk: a write the peer mirrors next
    /// may be for the same blocks.
    pub(crate) fn resync_writes_landed(&self) -> bool {
        let landing = |op: &Operation| matches!(op.kind, OperationKind::ResyncTarget { .. }) && op.local == Leg::Open;
        !self.ops.iter().any(|(_, op)| landing(op))
    }

    pub(crate) fn show_resync(&mut self, index: usize, why: Why) {
        let volume = &self.volumes[index];
        let Some(resync) = &volume.resync else { return };
        let paused = volume.resync_is_paused();
        let state = match (resync.is_source(), paused) {
            (true, false) => ReplicationState::SyncSource,
            (true, true) => ReplicationState::PausedSyncS,
            (false, false) => ReplicationState::SyncTarget,
            (false, true) => ReplicationState::PausedSyncT,
        };
        self.set_replication(index, state, why);
    }

    /// How long a range a target may ask for, in blocks, and how many it keeps under way.
    pub(crate) fn resync_share(&self) -> (u64, usize) {
        match self.config.pace {
            Some(pace) if self.role == Role::Primary || self.peer_role == Some(Role::Primary) => {
                (pace.range_blocks_max, limits::RESYNC_SHORT_REQUESTS_MAX)
            }
            _ => (limits::RESYNC_BLOCKS_MAX, limits::RESYNC_REQUESTS_MAX),
        }
    }

    /// Ranges of resyncs that are being moved.
    fn resync_under_way(&self) -> usize {
        self.volumes
            .iter()
            .filter_map(|volume| volume.resync.as_ref())
            .map(|resync| resync.serving.len() + resync.requests)
            .sum()
    }

    /// When our clients let the resync move something; `None`: when what is under way has ended.
    fn paced_until(&self) -> Option<Timestamp> {
        match self.role {
            Role::Primary => self.pacing.until(self.resync_under_way()),
            Role::Secondary => Some(Timestamp(0)),
        }
    }

    /// Whether our clients let the resync move something now.
    pub(crate) fn clients_let_resync_move(&mut self) -> bool {
        let (now, under_way) = (self.now, self.resync_under_way());
        let is_client = |op: &Operation| op.kind == OperationKind::Read || op.kind.is_client_write();
        let ops = &self.ops;
        let waiting = || {
            let under_way = |op: &Operation| is_client(op) && op.stage == OperationStage::UnderWay;
            ops.iter().filter(|(_, op)| under_way(op)).map(|(_, op)| now.since(op.arrived)).max()
        };
        self.role != Role::Primary || self.pacing.may_move(now, under_way, waiting)
    }

    pub(crate) fn resync_moves(&mut self, bytes: u64) {
        if self.role == Role::Primary {
            self.pacing.note_moved(bytes, self.now);
        }
    }

    /// How long a request is kept for the clients' sake at most: half of what the peer takes for a stalled disk (P4).
    pub(super) fn keep_max(&self) -> Duration {
        self.config.timeout * self.config.ko_count / 2
    }

    /// When a resync has something to do that no event will bring.
    pub(crate) fn resync_timeout(&self) -> Option<Timestamp> {
        let waits =
            |volume: &&Volume| volume.resync.as_ref().is_some_and(|resync| resync.stage == Stage::TargetRunning);
        let paced = self.paced_until();
        let most = self.resync_share().1;
        let asks = self.volumes.iter().filter(waits).filter_map(|volume| {
            let resync = volume.resync.as_ref()?;
            let not_before = resync.not_before.max(paced?);
            (not_before > self.now && resync.requests < most).then_some(not_before)
        });
        let kept = self.volumes.iter().filter_map(|volume| volume.resync.as_ref()?.kept.front());
        let due = |kept: &Kept| kept.since.after(self.keep_max());
        let serves = kept.filter(|_| !planted!("paced-request-forgotten")).map(|kept| {
            let turn = paced.map_or(due(kept), |paced| paced.min(due(kept)));
            turn.max(Timestamp(self.now.0 + 1))
        });
        asks.chain(serves).min()
    }

    /// P4, and the pacer's own.
    pub(crate) fn assert_pacing_invariants(&self) {
        self.pacing.assert_invariants();
        let kept = self.volumes.iter().filter_map(|volume| volume.resync.as_ref()?.kept.front());
        for kept in kept {
            let age = self.now.since(kept.since);
            assert!(age < self.keep_max(), "P4: a range asked for {age:?} ago is still kept back");
            let looked_at = self.next_timeout();
            let turn = self.paced_until().unwrap_or(kept.since.after(self.keep_max())).max(Timestamp(self.now.0 + 1));
            assert!(looked_at.is_some_and(|at| at <= turn), "P4: a range is kept until {turn:?}, and no timer says so");
        }
    }
}

fn is_resync(kind: OperationKind) -> bool {
    matches!(kind, OperationKind::ResyncSource { .. } | OperationKind::ResyncTarget { .. }) || kind.is_comparison()
}
