//! Losing a replica: the peer, the peer's disk, or our own disk.
//!
//! - The peer's copy is lost (R13): what is under way to it or not flushed there is marked out-of-sync, a new
//!   generation is begun, and nothing is answered until that is durable. Losing it never clears a bit (R16).
//! - Our disk is lost (R32): it is detached at once, its operations count as failed, and a Primary goes on through a
//!   peer that is UpToDate, which makes the generation in our stead (R15).

use crate::Engine;
use crate::action::{Action, Notice, Why};
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Stage};
use crate::resync::Resync;
use crate::slab::Key;
use crate::volume::{LogWaiter, Recording, Volume};
use rep_types::planted;
use rep_types::{DiskState, GenerationId, IoError, LinkCause, ReplicationState, Role, VolumeNumber};
use rep_wire::ControlMessage;

impl Engine {
    /// The peer's copy of a volume no longer follows. The states have been set by the caller.
    pub(crate) fn replica_lost(&mut self, index: usize) {
        let keys = self.operations_of(index);
        let volume = &mut self.volumes[index];
        volume.in_sync.clear_all();
        let mut lacking = volume.mark_unflushed() || volume.parted_unequal;
        for key in &keys {
            let Some(op) = self.ops.get_mut(*key) else { continue };
            if may_be_lacked(op) {
                op.peer = Leg::Failed;
                if !planted!("open-writes-forgotten") {
                    self.volumes[index].mark_out_of_sync(op.range.blocks_touched());
                }
                lacking = true;
            }
        }
        if lacking && self.loss_is_recorded(index) && !planted!("loss-without-generation") {
            self.begin_lost_generation(index);
        }
        if !self.volumes[index].is_good() {
            self.last_data_gone(index);
        }
        if volume_waits_for_peer(&self.volumes[index]) {
            // The peer was to record the loss of our disk and is gone itself.
            self.end_recording(index);
        }
        for key in keys {
            self.peer_side_lost(key);
        }
    }

    /// No good copy is in reach any more, and an answer that is held is none yet, also one held for another volume's loss. Nor
    /// is one that waits for a flush.
    fn last_data_gone(&mut self, index: usize) {
        self.unflushed_without_data(index);
        let for_this = self.fence_held || self.volumes[index].recording.is_some();
        if for_this || !planted!("held-for-another-answered") {
            self.fail_held(index);
        }
    }

    /// Whether a generation begins when the peer's copy, lost now, lacks something.
    fn loss_is_recorded(&self, index: usize) -> bool {
        let volume = &self.volumes[index];
        let good = volume.is_good();
        good && self.role == Role::Primary && volume.generation_due()
    }

    /// Our disk has become good after the peer's copy was lost: what is under way will be answered from ours alone, and what was
    /// answered before may be on ours alone. That is recorded now, as it would have been had ours been good then (R13).
    pub(crate) fn record_loss_of_before(&mut self, index: usize) {
        let volume = &self.volumes[index];
        let alone = !volume.mirrors(self.is_connected());
        if alone && volume.out_of_sync_blocks() > 0 && self.loss_is_recorded(index) {
            self.begin_lost_generation(index);
        }
    }

    /// Promoted without the peer's disk: where that one may hold something else, what clients are shown from now on is what counts, also
    /// if they write nothing, and a generation says so (decision 43). What was under way when a Primary was lost may differ; what is
    /// marked does; and a peer that is known not to go on loses nothing by it.
    pub(crate) fn record_showing_alone(&mut self) {
        let connected = self.is_connected();
        for index in 0..self.volumes.len() {
            let volume = &self.volumes[index];
            let alone = !volume.mirrors(connected);
            let known_safe = volume.local.as_ref().is_some_and(|local| local.superblock().peer_outdated);
            let may_differ = volume.parted_unequal || known_safe || volume.out_of_sync_blocks() > 0;
            if alone && may_differ && self.loss_is_recorded(index) {
                self.restart_handshake_if_under_way();
                self.begin_lost_generation(index);
            }
        }
    }

    /// Whether the peer's copy, lost now, may lack something, or hold something else.
    fn peer_may_lack(&self, index: usize) -> bool {
        let lacked = |op: &Operation| op.volume == index && may_be_lacked(op);
        let volume = &self.volumes[index];
        volume.has_unflushed() || volume.parted_unequal || self.ops.iter().any(|(_, op)| lacked(op))
    }

    /// Ends or restarts an operation whose peer side is gone.
    fn peer_side_lost(&mut self, key: Key) {
        let Some(op) = self.ops.get_mut(key) else { return };
        match op.kind {
            OperationKind::Read if op.peer == Leg::Open => {
                (op.peer, op.stage) = (Leg::Unused, Stage::Waiting);
                self.runnable.push_back(key);
            }
            OperationKind::Write { .. } | OperationKind::Zero { .. } => self.end_write_if_closed(key),
            _ => {}
        }
    }

    fn operations_of(&self, index: usize) -> Vec<Key> {
        self.ops.iter().filter(|(_, op)| op.volume == index).map(|(key, _)| key).collect()
    }

    /// The peer's disk of this volume no longer takes writes, the link stands.
    ///
    /// Unless a generation has to begin in the middle of a handshake in which the old one was told (R17): the disk may be
    /// back before the peer decides, and would pass for as good as ours. That is as if the link had been lost: nobody is
    /// answered before the next handshake knows.
    pub(crate) fn peer_disk_lost(&mut self, index: usize, state: DiskState) {
        let of_primary = self.peer_may_be_primary();
        self.volumes[index].parts(of_primary);
        let told = self.view_is_told() && !planted!("generation-in-handshake");
        if told && self.loss_is_recorded(index) && self.peer_may_lack(index) {
            return self.drop_link(LinkCause::Restart);
        }
        self.set_peer_disk(index, state, Why::Peer);
        self.stop_resync(index, Why::Peer);
        if self.volumes[index].replication.is_resync() {
            self.set_replication(index, ReplicationState::Established, Why::Peer);
        }
        self.replica_lost(index);
    }

    /// A flush failed on the peer: a failed flush is final (R32). Which of its disks it was the peer has told before it
    /// answered; the others did flush. One that tells nothing breaks the protocol, and nothing it has counts.
    pub(crate) fn peer_flush_failed(&mut self) {
        if self.volumes.iter().all(|volume| volume.peer_disk.takes_writes()) {
            self.drop_link(LinkCause::Protocol);
        }
    }

    /// Our disk of this volume, or its metadata, failed.
    pub(crate) fn local_disk_failed(&mut self, index: usize, why: Why) {
        if self.volumes[index].local.is_none() {
            return;
        }
        self.let_go(index, true, why);
    }

    /// Lets go of a disk: whatever hung on it is settled.
    pub(crate) fn let_go_of_disk(&mut self, index: usize, why: Why) {
        self.let_go(index, false, why);
    }

    /// `failed`: operators hear first that it did.
    fn let_go(&mut self, index: usize, failed: bool, why: Why) {
        let (primary, connected) = (self.role == Role::Primary, self.is_connected());
        // Clients could be served from it; or the peer hasn't been compared with what it bore.
        let (served, came) = (self.volumes[index].is_good(), self.volumes[index].unmet_data());
        if failed {
            self.set_disk(index, DiskState::Failed, why);
        }
        let volume = &mut self.volumes[index];
        let number = volume.number;
        // A disk that came back to a Primary and goes again before it was good changes nothing of what clients have seen.
        if served || !primary || !volume.exposed.is_real() {
            volume.exposed =
                volume.local.as_ref().map_or(GenerationId::NONE, |local| local.superblock().generations.current);
        }
        if let Some(local) = volume.local.as_ref().filter(|_| served) {
            let ahead = !(connected && volume.peer_disk == DiskState::UpToDate);
            volume.let_go_good = ahead.then(|| local.superblock().generations);
        } else {
            // One that was just coming, or waited for its peer, never came to be good here.
            volume.let_go_good = came.or(volume.let_go_good);
        }
        if served && primary {
            let goes_on = connected && volume.peer_may_become_good();
            volume.served_last = if goes_on { GenerationId::NONE } else { volume.exposed };
        }
        volume.local = None;
        volume.attachment += 1;
        let flushes = std::mem::take(&mut volume.flushes);
        volume.in_sync.clear_all();
        volume.unflushed.clear_all();
        volume.adopting = None;
        volume.settling = None;
        volume.growth.forget_disk();
        volume.detaching = false;
        let attaching = volume.attaching.take();
        let waiters: Vec<LogWaiter> = volume.log_waiters.drain(..).collect();
        self.out.push(Action::CloseDisk { volume: number });
        self.set_disk(index, DiskState::Diskless, why);
        self.stop_resync(index, why);
        if self.volumes[index].replication.is_resync() {
            self.set_replication(index, ReplicationState::Established, why);
        }
        if let Some(id) = attaching.and_then(|attaching| attaching.id) {
            self.finish_command(id, Err(crate::CommandError::DiskFailed));
        }
        self.hand_over_to_peer(index, number);
        self.fail_local_legs(index);
        for waiter in waiters {
            self.rerun_log_waiter(waiter);
        }
        for purpose in flushes {
            self.flush_lost(index, purpose);
        }
        self.restart_handshake_if_under_way();
    }

    /// Tells the peer; a Primary with an UpToDate peer waits for the peer's generation before it answers anybody.
    fn hand_over_to_peer(&mut self, index: usize, number: VolumeNumber) {
        let carried = self.is_connected() && self.volumes[index].peer_disk == DiskState::UpToDate;
        if self.role == Role::Primary && carried {
            if !planted!("lost-disk-not-recorded") {
                self.begin_recording(index, Recording::Peer);
            }
            self.volumes[index].served_last = GenerationId::NONE;
            self.send(ControlMessage::DiskLost { volume: number }, None);
        } else {
            self.last_data_gone(index);
            if self.volumes[index].recording.is_some() {
                // A generation that was being written can't become durable any more, and what it was for is lost.
                self.end_recording(index);
            }
            if self.is_connected() {
                self.send_state();
            }
        }
    }

    /// The peer's disk has become UpToDate, as a resync's target does that was told our generations before our disk
    /// failed: a Primary without a disk waits here, too, until the peer has recorded it (R15).
    pub(crate) fn peer_disk_became_good(&mut self, index: usize) {
        let volume = &self.volumes[index];
        if self.role == Role::Primary && volume.local.is_none() && volume.peer_disk == DiskState::UpToDate {
            let number = volume.number;
            self.hand_over_to_peer(index, number);
        }
    }

    /// A flush that will never end well.
    pub(crate) fn flush_lost(&mut self, index: usize, purpose: IoPurpose) {
        match purpose {
            IoPurpose::EpochFlush => self.epoch_flushed_locally(index, Err(IoError::Io)),
            IoPurpose::PeerFlush { session, id } => self.peer_flushed_locally(index, session, id, Err(IoError::Io)),
            _ => {}
        }
    }

    /// Everything under way on the lost disk has failed there.
    fn fail_local_legs(&mut self, index: usize) {
        for key in self.operations_of(index) {
            let Some(op) = self.ops.get_mut(key) else { continue };
            op.holds_log = false;
            if op.local == Leg::Done && op.peer == Leg::Open && op.kind.is_client_write() {
                // It was done on a disk that no longer counts.
                op.local = Leg::Failed;
            }
            if op.local != Leg::Open {
                continue;
            }
            op.local = Leg::Failed;
            match op.kind {
                OperationKind::Read => {
                    (op.local, op.stage) = (Leg::Unused, Stage::Waiting);
                    self.runnable.push_back(key);
                }
                OperationKind::Write { .. } | OperationKind::Zero { .. } => self.end_write_if_closed(key),
                OperationKind::ResyncSource { .. }
                | OperationKind::ResyncTarget { .. }
                | OperationKind::ResyncCompare { .. }
                | OperationKind::ResyncCompareFor { .. }
                | OperationKind::VerifyLead { .. }
                | OperationKind::VerifyFollow { .. } => self.end_operation(key, Err(IoError::Io)),
            }
        }
        let requests = self.peer_requests.iter().filter(|(_, request)| request.volume == index);
        let keys: Vec<Key> = requests.filter(|(_, request)| request.submitted).map(|(key, _)| key).collect();
        for key in keys {
            if let Some(request) = self.peer_requests.get_mut(key) {
                request.holds_log = false;
            }
            self.end_peer_request(key, Err(IoError::Io), None);
        }
    }

    pub(crate) fn rerun_log_waiter(&mut self, waiter: LogWaiter) {
        match waiter {
            LogWaiter::Operation(key) => self.runnable.push_back(key),
            LogWaiter::PeerRequest(key) => self.start_peer_write(key),
        }
    }

    // ---- the peer's side of a Primary's lost disk ----

    /// The peer is Primary and its disk is gone: from now on ours is the only copy.
    pub(crate) fn peer_lost_its_disk(&mut self, volume: VolumeNumber) {
        let Some(index) = self.volume_index(volume) else { return };
        self.peer_disk_lost(index, DiskState::Diskless);
        let volume = &mut self.volumes[index];
        volume.owes_disk_lost_answer = true;
        let good = volume.is_good();
        if good && volume.generation_due() {
            if self.view_is_told() {
                // The generation comes first, and during a handshake none may begin (R17): as if the word had been lost.
                return self.drop_link(LinkCause::Restart);
            }
            self.begin_generation(index);
        }
        self.answer_disk_lost(index);
    }

    /// A Primary came back that has lost its disk meanwhile, or a node without one was promoted. What its clients see and flush from
    /// now on is here alone, and that disk, should it come back, must not pass for as good as ours.
    pub(crate) fn carry_for_diskless_primary(&mut self, index: usize) {
        let volume = &self.volumes[index];
        // One that is being let go of is told as gone, and the peer may have gone on without it.
        let good = volume.is_good() && !volume.detaching;
        if !good || volume.peer_disk != DiskState::Diskless || !volume.generation_due() {
            return;
        }
        if self.view_is_told() {
            // During a handshake no generation may begin (R17).
            return self.drop_link(LinkCause::Restart);
        }
        self.begin_generation(index);
    }

    /// Answers once our generation is durable.
    pub(crate) fn answer_disk_lost(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        if !volume.owes_disk_lost_answer || volume.recording.is_some() {
            return false;
        }
        volume.owes_disk_lost_answer = false;
        let carries_on = volume.is_good();
        self.tell_generation(index, carries_on);
        true
    }

    /// Tells a Primary without a disk which generation our disk carries on with.
    fn tell_generation(&mut self, index: usize, carries_on: bool) {
        let volume = &self.volumes[index];
        let generations = volume.local.as_ref().map(|local| local.superblock().generations);
        let generation = generations.map_or(GenerationId::NONE, |generations| generations.current);
        let volume = volume.number;
        self.send(ControlMessage::DiskLostNoted { volume, carries_on, generation }, None);
    }

    /// Our generation has changed while the Primary has no disk of its own.
    pub(crate) fn tell_new_generation(&mut self, index: usize) {
        let volume = &self.volumes[index];
        let diskless_primary = self.peer_role == Some(Role::Primary) && volume.peer_disk == DiskState::Diskless;
        if diskless_primary && !volume.owes_disk_lost_answer {
            self.tell_generation(index, volume.disk == DiskState::UpToDate);
        }
    }

    /// The peer has recorded that our disk is gone.
    pub(crate) fn disk_lost_noted(&mut self, volume: VolumeNumber, carries_on: bool, generation: GenerationId) {
        let Some(index) = self.volume_index(volume) else { return };
        self.volumes[index].exposed = generation;
        if !volume_waits_for_peer(&self.volumes[index]) {
            return;
        }
        if !carries_on {
            self.fail_held(index);
            self.set_peer_disk(index, DiskState::Failed, Why::Peer);
        }
        self.end_recording(index);
    }

    /// What a damaged piece of metadata means was decided at attach; operators hear of it.
    pub(crate) fn report_damage(&mut self, index: usize) {
        let volume = self.volumes[index].number;
        self.notice(Notice::MetadataDamaged { volume });
    }
}

impl Volume {
    /// Whether the peer's disk may be good without our having heard of it: it goes on from what it holds as soon as it hears that a Primary's
    /// is gone.
    fn peer_may_become_good(&self) -> bool {
        self.peer_disk == DiskState::Consistent || self.resync.as_ref().is_some_and(Resync::has_told_generations)
    }
}

/// Whether the peer, lost now, may lack this. What it answered while our own leg is open has not been flushed there either,
/// unless it was written through. A FUA write that waits for its flush is in the set of unflushed blocks already.
fn may_be_lacked(op: &Operation) -> bool {
    let volatile = op.peer == Leg::Done && op.local == Leg::Open && !op.written_through;
    op.kind.is_client_write() && (op.peer == Leg::Open || volatile)
}

fn volume_waits_for_peer(volume: &crate::volume::Volume) -> bool {
    volume.recording == Some(Recording::Peer)
}
