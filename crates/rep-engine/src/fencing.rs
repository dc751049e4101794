//! Fencing: knowing that an absent peer can't go on, before this node does (R29).
//!
//! ```text
//!                     ┌──────────────── the link stood, or the handshake is about to join ────────────────┐
//!                     ▼                                                                                   │
//!  start ──► Apart ── Together ──link lost──► Apart ──Primary, or to be promoted──► Asked ──safe──► Recording ──► Settled
//!                        └── restarted by us ► Due ──still apart──┘                  ▲  └─ not ──► Failed ──┐
//!                                                                                    └─── in a while ──────┘
//!                              Asked, Failed ── the operator's word (resume-io, primary --force) ──► Waived
//! ```
//!
//! Who can't go on: a peer whose disk is Outdated or Inconsistent, or whose node was taken down. It isn't promoted
//! without force before it has met this node, so that is what the metadata remember (`peer_outdated`). An unreachable
//! peer may be alive, and a Primary is: neither is safe.
//!
//! Invariants:
//! - F1 with `resource-and-stonith` a Primary apart from its peer, or not yet followed by it, starts no write and answers none well before it
//!   knows, durably, that the peer can't go on (I-G6), nor a read or a flush while any disk of its own is good. One without good
//!   data asks nobody and holds nothing back: it can start no write, what it held becomes no success (`Engine::fail_held`), and
//!   the blocks it may read by itself (R27) are current until the peer goes on, which fences it first (I-G7);
//! - F2 the generation that losing the peer is worth begins when that is known: were it made before, and this node
//!   the one that is fenced, nothing but a loser's generation would be left, and a split brain seen that isn't one;
//! - F3 what is known of the peer is forgotten, durably, before it is told a decision by which it could become good
//!   again: from then on it may have gone on, whether or not we hear of it;
//! - F4 an answer counts only for the question asked last, and only until the peer is met;
//! - F5 a connection that an engine closes to begin anew, on either node, has nobody fenced, unless no other comes soon.

use crate::Engine;
use crate::action::{Action, Notice};
use crate::command::CommandError;
use crate::event::Timestamp;
use crate::local_disk::SuperblockTicket;
use crate::operator::{Progress, Step};
use crate::resync::Stage;
use crate::role::PromotionStage;
use crate::snapshot::FenceSnapshot;
use crate::volume::Volume;
use crate::{FenceId, limits};
use rep_types::planted;
use rep_types::{ConnectionState, DiskState, FenceAnswer, Fencing, GenerationId, LinkCause, Refusal, Role};
use rep_wire::features;

/// What is known of whether the peer can go on without us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fence {
    /// It follows us, or is about to.
    Together,
    /// Nothing, and nobody was asked.
    Apart,
    /// We left it ourselves to meet it again at once: it isn't fenced for that unless it stays away.
    Due { at: Timestamp },
    /// The handler runs.
    Asked { id: FenceId },
    /// It can't go on; that is being made durable.
    Recording { tickets: Vec<(usize, SuperblockTicket)> },
    /// It can't go on.
    Settled,
    /// The handler could not make sure; while clients wait it is asked again.
    Failed { why: FenceAnswer, again: Option<Timestamp> },
    /// Nothing, but the operator takes it upon himself.
    Waived,
}

impl Fence {
    /// Whether this node may go on as far as the peer is concerned.
    fn allows(&self) -> bool {
        matches!(self, Fence::Together | Fence::Settled | Fence::Waived)
    }
}

impl Engine {
    /// Whether this resource is fenced at all.
    pub(crate) fn fences(&self) -> bool {
        self.config.fencing != Fencing::DontCare
    }

    /// Whether clients wait because the peer is gone and may go on (F1).
    pub(crate) fn fence_holds(&self) -> bool {
        self.config.fencing == Fencing::ResourceAndStonith
            && self.role == Role::Primary
            && !(self.fence.allows() && self.peer_follows())
            && self.volumes.iter().any(Volume::is_good)
            && !planted!("stonith-does-not-suspend")
    }

    /// Whether a peer we have joined can't be promoted without us: it gets every write, or its data aren't good. We join
    /// before we know that it has: one that calls itself UpToDate and is to be a target may not have heard of it yet.
    fn peer_follows(&self) -> bool {
        let follows = |volume: &Volume| volume.peer_disk != DiskState::UpToDate || volume.mirrors(true);
        // While it is being left nothing reaches it, and it hasn't noted yet that it is.
        let leaving = self.connection == ConnectionState::Disconnecting;
        !leaving && (!self.is_connected() || self.volumes.iter().filter(|volume| volume.is_good()).all(follows))
    }

    /// Whether a promotion without the peer must wait until that is fenced.
    pub(crate) fn promotion_needs_fence(&self) -> bool {
        let alone = !self.is_connected();
        alone && self.fences() && !self.fence.allows() && !planted!("promotes-without-fence")
    }

    /// Why a promotion would have to ask the fence-peer handler first.
    pub(crate) fn fence_refusal(&self) -> Option<Refusal> {
        let unknown = self.promotion_needs_fence() && !self.knows_peer_safe();
        unknown.then_some(Refusal::PeerNotFenced)
    }

    /// What operators are shown.
    pub(crate) fn fence_snapshot(&self) -> Option<FenceSnapshot> {
        match &self.fence {
            Fence::Together | Fence::Apart => None,
            Fence::Due { .. } | Fence::Asked { .. } | Fence::Recording { .. } => Some(FenceSnapshot::Asked),
            Fence::Settled => Some(FenceSnapshot::Settled),
            Fence::Failed { why, .. } => Some(FenceSnapshot::Failed(*why)),
            Fence::Waived => Some(FenceSnapshot::Waived),
        }
    }

    /// Whether the metadata say that the peer can't go on.
    fn knows_peer_safe(&self) -> bool {
        let good = || self.volumes.iter().filter(|volume| volume.is_good()).filter_map(|volume| volume.local.as_ref());
        good().next().is_some() && good().all(|local| local.superblock().peer_outdated)
    }

    fn find_out(&mut self) {
        self.fence = if self.knows_peer_safe() { self.recording_safety() } else { self.asked() };
    }

    fn asked(&mut self) -> Fence {
        let id = FenceId(self.next_serial());
        self.out.push(Action::FencePeer { id });
        Fence::Asked { id }
    }

    /// Notes on every good disk that the peer can't go on.
    fn recording_safety(&mut self) -> Fence {
        let mut tickets = Vec::new();
        for (index, volume) in self.volumes.iter_mut().enumerate().filter(|(_, volume)| volume.is_good()) {
            if let Some(local) = &mut volume.local {
                tickets.push((index, local.update_superblock(|superblock| superblock.peer_outdated = true)));
            }
        }
        Fence::Recording { tickets }
    }

    /// The fence-peer handler has ended (F4).
    pub(crate) fn fence_answered(&mut self, id: FenceId, answer: FenceAnswer) {
        let asked_last = self.fence == Fence::Asked { id };
        if !(asked_last || planted!("late-fence-answer-counts") && self.fences()) {
            return;
        }
        // What is said every few seconds is told once.
        if self.fence_said.replace(answer) != Some(answer) {
            self.notice(Notice::FenceAnswered { answer });
        }
        if answer.is_safe() {
            self.unfence_due = true;
            self.fence = self.recording_safety();
        } else {
            let again = self.fence_holds().then(|| self.now.after(limits::FENCE_RETRY_INTERVAL));
            self.fence = Fence::Failed { why: answer, again };
        }
    }

    /// The operator takes it upon himself that the peer doesn't go on.
    pub(crate) fn waive_fence(&mut self) {
        if self.fence_holds() {
            self.fence = Fence::Waived;
        }
    }

    // ---- meeting and losing the peer ----

    /// Whether the peer would have this node fenced for the connection's end.
    pub(crate) fn is_beside_fencing_primary(&self) -> bool {
        let beside_primary = self.role == Role::Secondary && self.peer_role == Some(Role::Primary);
        beside_primary && self.is_connected() && self.fences()
    }

    /// Whether it is told that this node closes the connection to begin anew, whatever is known of its role: it may be Primary since, or
    /// not have met us yet.
    pub(crate) fn says_begin_anew(&self) -> bool {
        self.role == Role::Secondary
            && self.fences()
            && self.agreed_on(features::BEGIN_ANEW)
            && !planted!("begins-anew-without-a-word")
    }

    /// The connection is gone; the volumes are still as they were with it.
    pub(crate) fn fence_loses_peer(&mut self, cause: LinkCause) {
        if !self.fences() {
            return;
        }
        if self.connection == ConnectionState::Disconnecting {
            self.leave_outdated();
        }
        let ours = matches!(cause, LinkCause::Restart | LinkCause::Replaced) && self.role == Role::Primary;
        match self.fence {
            Fence::Together => {
                self.note_unfinished_target();
                self.fence = if ours { Fence::Due { at: self.now.after(limits::FENCE_GRACE) } } else { Fence::Apart };
            }
            Fence::Due { .. } if !ours => self.fence = Fence::Apart,
            _ => {}
        }
    }

    /// A target in the middle of a resync is Inconsistent, durably: it can't go on. Unless it is Primary, or may have become it, for it
    /// was granted that: its clients may be there still, and two are never Primary with nobody's having made sure.
    fn note_unfinished_target(&mut self) {
        if self.peer_may_be_primary() {
            return;
        }
        for volume in self.volumes.iter_mut().filter(|volume| volume.is_good()) {
            let target = volume.resync.as_ref().is_some_and(|resync| resync.stage == Stage::SourceRunning);
            if let Some(local) = volume.local.as_mut().filter(|_| target) {
                local.update_superblock(|superblock| superblock.peer_outdated = true);
            }
        }
    }

    /// The peer is about to be told a decision that may join us: forgets what was known of it (F3). Says whether that
    /// is durable.
    pub(crate) fn fence_forgets(&mut self) -> bool {
        if !self.fences() || planted!("fence-knowledge-kept") {
            return true;
        }
        for index in 0..self.volumes.len() {
            let local = self.volumes[index].local.as_mut();
            if let Some(local) = local.filter(|local| local.superblock().peer_outdated) {
                local.update_superblock(|superblock| superblock.peer_outdated = false);
                self.unfence_due = true;
                self.drive_metadata(index);
            }
        }
        let disks = self.volumes.iter().filter_map(|volume| volume.local.as_ref());
        let durable = disks.into_iter().all(|local| local.superblock_settled());
        if durable {
            self.fence_meets();
        }
        durable
    }

    /// The peer is about to be told that it joins us. With its disk a Primary that has none here goes on, whether or not we
    /// hear that it has joined: a disk that comes back is neither what clients saw last any more, nor does what it says
    /// of the peer hold (F3, R28).
    pub(crate) fn absent_disks_forget(&mut self) {
        let handshake = self.link.as_ref().and_then(|link| link.handshake.as_ref());
        let Some((_, peer)) = handshake.and_then(|handshake| handshake.views()) else { return };
        let may_go_on = |disk: DiskState| matches!(disk, DiskState::UpToDate | DiskState::Consistent);
        for volume in self.volumes.iter_mut().filter(|volume| volume.local.is_none()) {
            if peer.volumes.iter().any(|theirs| theirs.volume == volume.number && may_go_on(theirs.disk)) {
                (volume.joined_without_disk, volume.served_last) = (true, GenerationId::NONE);
            }
        }
    }

    /// The decision goes out.
    fn fence_meets(&mut self) {
        let holds = self.fence_holds();
        match self.fence {
            Fence::Settled | Fence::Waived => self.fence = Fence::Together,
            Fence::Asked { .. } | Fence::Recording { .. } if holds => {
                self.fence = Fence::Due { at: self.now.after(limits::FENCE_GRACE) };
            }
            Fence::Asked { .. } | Fence::Recording { .. } => self.fence = Fence::Together,
            _ => {}
        }
    }

    /// Both have joined.
    pub(crate) fn fence_joined(&mut self) {
        self.fence = Fence::Together;
        self.fence_said = None;
    }

    /// What was known of the peer turned out to be wrong.
    pub(crate) fn fence_unsettles(&mut self) {
        if matches!(self.fence, Fence::Settled | Fence::Waived) {
            self.fence = Fence::Apart;
        }
    }

    /// This node is Secondary from now on.
    pub(crate) fn fence_demoted(&mut self) {
        if matches!(self.fence, Fence::Waived | Fence::Failed { .. } | Fence::Due { .. }) {
            self.fence = Fence::Apart;
        }
        if self.apart {
            self.fence_unsettles();
        }
        if self.fence_held {
            // What waited for the peer was never promised, and now nobody is left to promise it.
            (0..self.volumes.len()).for_each(|index| self.fail_held(index));
        }
        for volume in &mut self.volumes {
            (volume.owes_generation, volume.served_last) = (false, GenerationId::NONE);
        }
    }

    // ---- a promotion without the peer ----

    pub(crate) fn poll_promotion_fence(&mut self, force: bool, asked: bool) -> Progress {
        if self.is_connected() {
            return Progress::Moved(Step::Promote(PromotionStage::ask(force)));
        }
        if self.handshake_under_way() {
            return Progress::Waits;
        }
        match &self.fence {
            Fence::Settled | Fence::Waived => {}
            Fence::Asked { .. } | Fence::Recording { .. } => return Progress::Waits,
            Fence::Failed { .. } if asked && force => self.fence = Fence::Waived,
            Fence::Failed { why: FenceAnswer::PeerPrimary, .. } if asked => {
                return Progress::Failed(CommandError::Refused(Refusal::PeerIsPrimary));
            }
            Fence::Failed { .. } if asked => {
                return Progress::Failed(CommandError::Refused(Refusal::PeerNotFenced));
            }
            _ => {
                self.find_out();
                return Progress::Moved(Step::Promote(PromotionStage::Fence { force, asked: true }));
            }
        }
        Progress::Moved(Step::Promote(PromotionStage::Landing { force }))
    }

    // ---- what goes on by itself ----

    pub(crate) fn progress_fence(&mut self) -> bool {
        if !self.fences() {
            return false;
        }
        let moved = match &self.fence {
            Fence::Apart if self.role == Role::Primary && self.volumes.iter().any(Volume::is_good) => {
                self.find_out();
                true
            }
            Fence::Recording { tickets } => {
                let durable = |(index, ticket): &(usize, SuperblockTicket)| {
                    self.volumes[*index].local.as_ref().is_none_or(|local| local.superblock_durable(*ticket))
                };
                let durable = tickets.iter().all(durable);
                if durable {
                    self.fence = Fence::Settled;
                }
                durable
            }
            _ => false,
        };
        moved | self.follow_fence() | self.unfence()
    }

    /// Whether clients are to be held back. Generations stand still during a handshake (R17): who waited for the fence, and
    /// then for a generation that is owed, waits for the handshake's end.
    pub(crate) fn fence_keeps(&self) -> bool {
        let owed = self.fence_held && self.volumes.iter().any(|volume| volume.owes_generation);
        self.fence_holds() || owed && self.handshake_under_way()
    }

    /// Holds clients back, or lets them go on.
    fn follow_fence(&mut self) -> bool {
        let holds = self.fence_keeps();
        if std::mem::replace(&mut self.fence_held, holds) == holds {
            return false;
        }
        if !holds {
            self.pay_generations();
        }
        self.tell_suspension();
        self.release_held();
        self.open_gate();
        true
    }

    /// Begins a generation because the peer was lost: at once, or when it is known not to go on (F2).
    pub(crate) fn begin_lost_generation(&mut self, index: usize) {
        if self.fence_holds() && !planted!("generation-before-fence") {
            self.volumes[index].owes_generation = true;
        } else {
            self.begin_generation(index);
        }
    }

    /// Begins the generations that losing the peer was worth (F2), unless it follows again.
    fn pay_generations(&mut self) {
        let connected = self.is_connected();
        for index in 0..self.volumes.len() {
            let volume = &mut self.volumes[index];
            let owed = std::mem::take(&mut volume.owes_generation);
            if owed && volume.is_good() && volume.generation_due() && !volume.mirrors(connected) {
                self.begin_generation(index);
            }
        }
    }

    /// A peer that was fenced follows again, with the same data: whatever the handler did to keep it out may go.
    fn unfence(&mut self) -> bool {
        let equal = |volume: &Volume| {
            volume.disk == DiskState::UpToDate && volume.peer_disk == DiskState::UpToDate && volume.resync.is_none()
        };
        let rejoined = self.unfence_due
            && self.fence == Fence::Together
            && self.is_connected()
            && !self.handshake_under_way()
            && self.volumes.iter().all(equal);
        if rejoined {
            self.unfence_due = false;
            self.notice(Notice::PeerRejoined);
        }
        rejoined
    }

    pub(crate) fn fence_timeout(&self) -> Option<Timestamp> {
        match self.fence {
            Fence::Due { at } => Some(at),
            Fence::Failed { again, .. } => again,
            _ => None,
        }
    }

    pub(crate) fn check_fence(&mut self) {
        if self.fence_timeout().is_none_or(|due| due > self.now) {
            return;
        }
        let later = self.now.after(limits::FENCE_GRACE);
        // Who is being met isn't fenced: either it follows in a moment, or the link goes.
        let meets = self.link.is_some();
        match &mut self.fence {
            Fence::Due { at } if meets => *at = later,
            Fence::Failed { again, .. } if meets => *again = Some(later),
            _ => self.fence = Fence::Apart,
        }
    }
}

impl Volume {
    /// Whether this node's disk has good data.
    pub(crate) fn is_good(&self) -> bool {
        self.local.is_some() && self.disk == DiskState::UpToDate
    }
}
