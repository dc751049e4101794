//! Becoming Primary, and ceasing to be it.
//!
//! Promote (R29): UpToDate data in reach, no Primary peer, no handshake under way, no split brain. A connected peer is asked first, so
//! that two nodes that promote at the same moment don't both succeed; when both ask, the one whose name sorts first
//! wins. It is asked even when it was Primary by its last word, with a ping: one that is gone is found out within
//! `ping-timeout`, not at the next regular ping, since this is what takes over from a dead node. The Primary mark is durable before the device is offered (I-D8).
//! A disk that the peer attaches meanwhile may hold newer data: it is heard of before the promotion ends (decision 40).
//!
//! Demote: only when the device isn't open, and no request waits for the fence or the operator. Requests under way end, everything is flushed on both disks, the bitmap
//! is durable and the log empty before the mark goes: a node demoted cleanly has nothing to recover.

use crate::Engine;
use crate::action::{Action, Why};
use crate::command::{CommandError, CommandOutcome};
use crate::generation;
use crate::local_disk::{BitmapTicket, LogResetTicket, SuperblockTicket};
use crate::operator::{Answer, Progress, Step, refused};
use crate::volume::Volume;
use rep_meta::{DataState, Divergence, PrimaryMark, Superblock};
use rep_types::planted;
use rep_types::{CommandId, DiskState, EpochNumber, GenerationId, Refusal, ReplicationState, Role};
use rep_wire::ControlMessage;

/// How far a promotion is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PromotionStage {
    /// A connected peer is asked.
    Ask { force: bool, asked: bool, put_off: bool, granted: Option<bool> },
    /// The peer is gone, and it is being made sure that it can't go on.
    Fence { force: bool, asked: bool },
    /// What an earlier session asked of the disks is landing, losses are being recorded.
    Landing { force: bool },
    /// The Primary mark is being made durable. `forsaken`: meanwhile a peer that had begun to tell of its data has gone.
    Recording { force: bool, forsaken: bool, tickets: Vec<(usize, SuperblockTicket)> },
}

impl PromotionStage {
    /// The first.
    pub(crate) fn ask(force: bool) -> PromotionStage {
        PromotionStage::Ask { force, asked: false, put_off: false, granted: None }
    }
}

/// How far a demotion is; each stage holds the tickets of all volumes with a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum DemotionStage {
    Begin,
    Bitmap(Vec<(usize, BitmapTicket)>),
    Log(Vec<(usize, LogResetTicket)>),
    Superblock(Vec<(usize, SuperblockTicket)>),
}

impl Engine {
    /// Why a promotion would be refused now (R29).
    pub(crate) fn promotion_refusal(&self, force: bool) -> Option<Refusal> {
        if self.peer_role == Some(Role::Primary) || self.promotion_granted_until.is_some_and(|until| until > self.now) {
            return Some(Refusal::PeerIsPrimary);
        }
        // Before the next: nodes in split brain meet all the time, and that isn't what stands in the way.
        if let Some(refusal) = self.apart_refusal(force) {
            return Some(refusal);
        }
        if self.handshake_under_way() {
            return Some(Refusal::HandshakeUnderWay);
        }
        if self.may_still_keep_its_data() {
            return Some(Refusal::StillSettling);
        }
        let connected = self.is_connected();
        let knows_better = connected && self.volumes.iter().any(Volume::had_newer_than_peer);
        if knows_better && !force && !planted!("promoted-beside-own-newer") {
            return Some(Refusal::LetNewerGo);
        }
        for volume in &self.volumes {
            let good_here = volume.is_good();
            let good_there = connected && volume.peer_disk == DiskState::UpToDate;
            if good_here || good_there || planted!("promote-inconsistent") {
                continue;
            }
            let usable = volume.local.is_some() && volume.disk.takes_writes() && volume.attaching.is_none();
            if !(force && usable) {
                return Some(Refusal::NoUpToDateDisk);
            }
        }
        None
    }

    pub(crate) fn promote(&mut self, id: CommandId, force: bool) -> Option<Answer> {
        if self.role == Role::Primary {
            return Some(Ok(CommandOutcome::Done));
        }
        match self.promotion_refusal(force) {
            // It may have died since it said so: it is asked, and who doesn't answer is no obstacle for long.
            // Not so one that was granted its own promotion: two that ask in turn would keep each other's grants alive.
            Some(Refusal::PeerIsPrimary) if self.is_connected() && self.peer_role == Some(Role::Primary) => {}
            Some(refusal) => return refused(refusal),
            None => {}
        }
        let stage = PromotionStage::ask(force);
        self.begin_transition(id, [Step::Promote(stage)])
    }

    pub(crate) fn poll_promotion(&mut self, stage: PromotionStage) -> Progress {
        let next = match stage {
            PromotionStage::Ask { force, asked, put_off, granted } => {
                return self.poll_promotion_asks(force, asked, put_off, granted);
            }
            PromotionStage::Fence { force, asked } => return self.poll_promotion_fence(force, asked),
            PromotionStage::Landing { force } if self.promotion_needs_fence() => {
                PromotionStage::Fence { force, asked: false }
            }
            PromotionStage::Landing { force } => {
                let settled = self.peer_requests_landed() && self.recording == 0 && self.peer_remembers_sizes();
                if !(settled && self.peer_is_heard()) {
                    return Progress::Waits;
                }
                if let Some(refusal) = self.promotion_refusal(force) {
                    return Progress::Failed(CommandError::Refused(refusal));
                }
                self.record_promotion(force)
            }
            PromotionStage::Recording { force, forsaken, tickets } => {
                let durable = |(index, ticket): &(usize, SuperblockTicket)| {
                    self.volumes[*index].local.as_ref().is_none_or(|local| local.superblock_durable(*ticket))
                };
                if !tickets.iter().all(durable) {
                    return Progress::Waits;
                }
                if forsaken && !force {
                    self.unmark_primary(&tickets);
                    return Progress::Failed(CommandError::PeerLost);
                }
                return self.promoted(force, &tickets);
            }
        };
        Progress::Moved(Step::Promote(next))
    }

    fn poll_promotion_asks(&mut self, force: bool, asked: bool, put_off: bool, granted: Option<bool>) -> Progress {
        if self.is_connected() {
            match (asked, granted) {
                (false, _) => {
                    self.send(ControlMessage::PromoteRequest, None);
                    self.ping();
                    let asked = PromotionStage::Ask { force, asked: true, put_off, granted };
                    return Progress::Moved(Step::Promote(asked));
                }
                (true, None) => return Progress::Waits,
                (true, Some(false)) if self.peer_wants_the_role() => {
                    return Progress::Failed(CommandError::Refused(Refusal::PeerIsPrimary));
                }
                // By force the operator says whose data count.
                (true, Some(false)) if !force => {
                    return Progress::Failed(CommandError::Refused(Refusal::PeerLetNewerGo));
                }
                (true, Some(_)) => {}
            }
        } else if put_off && !force {
            // It lives, and its disk was just coming: this node isn't the one to say that its own data are the newest.
            return Progress::Failed(CommandError::PeerLost);
        }
        Progress::Moved(Step::Promote(PromotionStage::Landing { force }))
    }

    /// Whether the peer has the role or is about to: it says no to whoever asks, else only for what it knows of its own data.
    fn peer_wants_the_role(&self) -> bool {
        let asks = self.promotion_granted_until.is_some() || self.promotion_asked_until.is_some();
        self.peer_role != Some(Role::Secondary) || asks
    }

    /// The peer leaves, without having heard that it was asked for the role. It lives; and where it has no disk as far as we know, one may be
    /// coming, which is why it would have put off its answer.
    pub(crate) fn promotion_meets_leave(&mut self) {
        let disk_comes = self.volumes.iter().any(|volume| !volume.peer_disk.takes_writes());
        if disk_comes {
            self.peer_puts_answer_off();
        }
    }

    /// The peer lives. It answers who wants to be Primary before a ping that comes later, unless a disk is being attached there.
    pub(crate) fn peer_puts_answer_off(&mut self) {
        let step = self.transition.as_mut().and_then(|transition| transition.steps.front_mut());
        if let Some(Step::Promote(PromotionStage::Ask { asked: true, put_off, granted: None, .. })) = step {
            *put_off = true;
        }
    }

    pub(crate) fn promotion_answered(&mut self, answer: bool) {
        let step = self.transition.as_mut().and_then(|transition| transition.steps.front_mut());
        if let Some(Step::Promote(PromotionStage::Ask { granted, .. })) = step {
            *granted = Some(answer);
        }
    }

    /// Whether a disk of the peer's that has come since we asked for the role has been heard of to the end: what it holds may be
    /// newer, and then the peer says in its next word that it is good.
    fn peer_is_heard(&self) -> bool {
        let fills_us = |volume: &Volume| volume.replication.is_target() && volume.peer_disk == DiskState::Consistent;
        !self.handshake_under_way() && !self.volumes.iter().any(fills_us) || planted!("promoted-beside-handshake")
    }

    /// The connection went with the peer's view heard and nothing decided: it lives, and may be ahead. Who was to be Primary beside it isn't
    /// without it.
    pub(crate) fn promotion_is_forsaken(&mut self) {
        let step = self.transition.as_mut().and_then(|transition| transition.steps.front_mut());
        match step {
            Some(Step::Promote(PromotionStage::Recording { forsaken, .. })) => *forsaken = true,
            Some(Step::Promote(PromotionStage::Landing { force: false })) => {
                self.end_transition(Some(CommandError::PeerLost));
            }
            _ => {}
        }
    }

    fn record_promotion(&mut self, force: bool) -> PromotionStage {
        self.take_up_remembered_size();
        let mut tickets = Vec::new();
        let divergence = Divergence { as_primary: false, ..self.divergence() };
        for index in 0..self.volumes.len() {
            let id = self.generations.make();
            let volume = &mut self.volumes[index];
            let (size, blocks) = (volume.size_bytes, volume.block_bytes);
            let good = volume.disk == DiskState::UpToDate;
            let reachable = volume.peer_disk == DiskState::UpToDate;
            let Some(local) = &mut volume.local else { continue };
            let ticket = local.update_superblock(|superblock| {
                if !planted!("not-marked-primary") {
                    superblock.primary = PrimaryMark::Primary;
                }
                superblock.last_primary = true;
                // A new disk that is to be filled from the peer is no measure of the volume: they agree when they meet (R34).
                if superblock.agreed_bytes == 0 && (good || force) {
                    superblock.agreed_bytes = size;
                }
                superblock.agreed_block_bytes = superblock.agreed_block_bytes.max(blocks);
                if force && !good && !reachable {
                    if superblock.generations.bitmap.is_none() {
                        superblock.divergence = divergence;
                    }
                    take_for_good(superblock, id);
                }
            });
            tickets.push((index, ticket));
        }
        PromotionStage::Recording { force, forsaken: false, tickets }
    }

    fn promoted(&mut self, force: bool, tickets: &[(usize, SuperblockTicket)]) -> Progress {
        if self.promotion_needs_fence() {
            // The peer went while the mark was being written: nobody has made sure yet that it can't go on.
            self.unmark_primary(tickets);
            return Progress::Moved(Step::Promote(PromotionStage::Fence { force, asked: false }));
        }
        let is_met = self.handshake_under_way() && !force && !planted!("promoted-beside-handshake");
        if is_met || !self.peer_remembers_sizes() {
            // A disk of the peer's came while the mark was being written: who is ahead is decided first, with us not Primary (R29),
            // and what it remembers of the size is recorded there (GR-3).
            self.unmark_primary(tickets);
            return Progress::Moved(Step::Promote(PromotionStage::Landing { force }));
        }
        self.demoting = false;
        self.promotion_granted_until = None;
        self.epochs.touch(self.now);
        let mut decide_anew = false;
        // Of all volumes: one without a disk of its own, which has no ticket, needs the peer's.
        for index in 0..self.volumes.len() {
            let volume = &self.volumes[index];
            let good = volume.disk == DiskState::UpToDate || volume.peer_disk == DiskState::UpToDate;
            let accepted = good || planted!("promote-inconsistent");
            let taken = volume.local.as_ref().is_none_or(|local| local.superblock().data == DataState::Consistent);
            if force && !good && !taken {
                // The peer's good data went while the mark was being written: only now is this disk's data to be taken
                // for the newest, and that is recorded first (I-G5).
                self.unmark_primary(tickets);
                return Progress::Moved(Step::Promote(PromotionStage::Landing { force }));
            }
            if volume.peer_disk != DiskState::UpToDate && (volume.local.is_none() || !(force || accepted)) {
                // What was good was lost meanwhile.
                self.unmark_primary(tickets);
                return Progress::Failed(CommandError::DiskFailed);
            }
            if force && !good {
                self.set_disk(index, DiskState::UpToDate, Why::Command);
                decide_anew = true;
            }
            decide_anew |= force && self.volumes[index].is_ahead_of_equal_peer();
        }
        self.promoted_alone = !self.is_connected();
        self.set_role(Role::Primary, Why::Command);
        self.promise_stable();
        let volatile_cache = !self.answers_stable();
        for volume in &mut self.volumes {
            (volume.offered_bytes, volume.left) = (Some(volume.size_bytes), None);
            volume.let_go_good = None; // By force it was said that the peer's data count.
            let offer = volume.offer(volume.size_bytes, volatile_cache);
            self.out.push(Action::Export { volume: volume.number, offer: Some(offer) });
        }
        self.take_back_forwards();
        self.record_showing_alone();
        if self.is_connected() {
            self.send_state();
            if decide_anew {
                self.begin_handshake();
            }
        }
        Progress::Done
    }

    /// A disk came while a role was being recorded on the others: it is recorded anew, on all of them.
    pub(crate) fn role_change_meets_new_disk(&mut self) {
        let step = self.transition.as_mut().and_then(|transition| transition.steps.front_mut());
        match step {
            Some(Step::Promote(stage)) => {
                let PromotionStage::Recording { force, tickets, .. } = stage else { return };
                let (force, tickets) = (*force, std::mem::take(tickets));
                *stage = PromotionStage::Landing { force };
                self.unmark_primary(&tickets);
            }
            Some(Step::Demote(stage)) => *stage = DemotionStage::Begin,
            _ => {}
        }
    }

    /// A promotion comes to nothing: nothing was written for a client.
    fn unmark_primary(&mut self, tickets: &[(usize, SuperblockTicket)]) {
        for (index, _) in tickets {
            if let Some(local) = &mut self.volumes[*index].local {
                local.update_superblock(|superblock| superblock.primary = PrimaryMark::None);
            }
        }
    }

    // ---- demotion ----

    pub(crate) fn demote(&mut self, id: CommandId) -> Option<Answer> {
        if self.role == Role::Secondary {
            return Some(self.close_forwarding());
        }
        if self.peer_forwards() {
            return refused(Refusal::PeerDeviceIsOpen);
        }
        if self.volumes.iter().any(|volume| volume.openers > 0) {
            return refused(Refusal::DeviceIsOpen);
        }
        // What waits for the peer to be fenced, or for the operator, may wait for ever.
        if (self.fence_held || self.suspended) && !(self.held.is_empty() && self.gated.is_empty()) {
            return refused(Refusal::IoSuspended);
        }
        if self.volumes.iter().any(|volume| volume.starved.waits()) {
            return refused(Refusal::IoSuspended);
        }
        if self.handshake_under_way() {
            return refused(Refusal::HandshakeUnderWay);
        }
        let steps = self.give_role_up();
        self.begin_transition(id, steps)
    }

    /// Takes no more client requests; by these steps the role ends.
    pub(crate) fn give_role_up(&mut self) -> [Step; 2] {
        self.demoting = true;
        // Nobody is left to answer them later.
        self.let_starved_fail();
        for volume in &mut self.volumes {
            volume.offered_bytes = None;
            self.out.push(Action::Export { volume: volume.number, offer: None });
        }
        [Step::Drain, Step::Demote(DemotionStage::Begin)]
    }

    pub(crate) fn poll_drain(&mut self) -> Progress {
        let clients = self
            .ops
            .iter()
            .any(|(_, op)| op.kind.is_client_write() || op.kind == crate::operation::OperationKind::Read);
        if clients || !self.held.is_empty() || self.recording > 0 { Progress::Waits } else { Progress::Done }
    }

    /// Waits for what had completed when all was drained, and for nothing later: a resync or a verify goes on meanwhile, and what
    /// they complete is never all stable before their end.
    pub(crate) fn poll_settle(&self, until: EpochNumber) -> Progress {
        if self.epochs.is_settled(until) { Progress::Done } else { Progress::Waits }
    }

    pub(crate) fn poll_demotion(&mut self, stage: DemotionStage) -> Progress {
        let next = match stage {
            DemotionStage::Begin => {
                let idle = self.volumes.iter().all(|volume| {
                    volume.recording.is_none() && volume.local.as_ref().is_none_or(|local| local.log_job.is_none())
                });
                if !idle {
                    return Progress::Waits;
                }
                DemotionStage::Bitmap(self.each_disk(|local| local.flush_bitmap()))
            }
            DemotionStage::Bitmap(tickets) => {
                if !self.on_each_disk(&tickets, |local, ticket| local.bitmap_durable(*ticket)) {
                    return Progress::Waits;
                }
                DemotionStage::Log(self.each_disk(|local| local.reset_log()))
            }
            DemotionStage::Log(tickets) => {
                if !self.on_each_disk(&tickets, |local, ticket| local.log_is_reset(*ticket)) {
                    return Progress::Waits;
                }
                // Who hands its role over is the last Primary no more from here on: the peer may be it as soon as it is told.
                let hands_over = self.is_handing_over();
                let apart = self.apart;
                let unmark = move |superblock: &mut Superblock| {
                    superblock.primary = PrimaryMark::None;
                    superblock.last_primary &= !hands_over;
                    // As for a Secondary that finds a split brain: nothing is to be known of the peer any more.
                    superblock.peer_outdated &= !apart;
                };
                DemotionStage::Superblock(self.each_disk(|local| local.update_superblock(unmark)))
            }
            DemotionStage::Superblock(tickets) => {
                if !self.on_each_disk(&tickets, |local, ticket| local.superblock_durable(*ticket)) {
                    return Progress::Waits;
                }
                self.demoting = false;
                self.set_role(Role::Secondary, Why::Command);
                self.fence_demoted();
                if self.is_connected() {
                    self.send_state();
                }
                return Progress::Done;
            }
        };
        Progress::Moved(Step::Demote(next))
    }

    fn each_disk<T>(&mut self, mut ask: impl FnMut(&mut crate::local_disk::LocalDisk) -> T) -> Vec<(usize, T)> {
        let disks = self.volumes.iter_mut().enumerate();
        disks.filter_map(|(index, volume)| volume.local.as_mut().map(|local| (index, ask(local)))).collect()
    }

    /// Whether it is so on every disk; one that is gone no longer matters.
    fn on_each_disk<T>(&self, tickets: &[(usize, T)], so: impl Fn(&crate::local_disk::LocalDisk, &T) -> bool) -> bool {
        tickets.iter().all(|(index, ticket)| self.volumes[*index].local.as_ref().is_none_or(|local| so(local, ticket)))
    }
}

impl Volume {
    /// Whether this disk passes for equal to the peer's and has a generation of its own all the same: it was being taken for
    /// the newest when a handshake found the two equal.
    fn is_ahead_of_equal_peer(&self) -> bool {
        let ahead = self.local.as_ref().is_some_and(|local| !local.superblock().generations.bitmap.is_none());
        ahead
            && self.replication == ReplicationState::Established
            && self.resync.is_none()
            && self.peer_disk.takes_writes()
    }
}

/// Data that is taken for the newest from now on, on the operator's word: a generation of its own (I-G5).
pub(crate) fn take_for_good(superblock: &mut Superblock, id: GenerationId) {
    superblock.make_consistent();
    generation::advance(&mut superblock.generations, id);
}
