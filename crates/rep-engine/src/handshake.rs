//! The handshake: both nodes tell how they see themselves, both decide, both compare (R17).
//!
//! ```text
//!  ├── View ──────►│      sent when nothing is being recorded and nothing of an earlier session is on its way
//!  │◄────── View ──┤
//!  ├── Decision ──►│      decide_sync, the same pure function on both
//!  │◄── Decision ──┤      must be the mirror image, else refused
//! ```
//!
//! Generations stand still meanwhile: a write that needs a new one waits, and whatever else would change the view
//! ends the connection, so that the handshake starts over. A handshake may run again on a standing connection (a
//! new round), when an operator's command gives a reason to decide anew; replication goes on meanwhile.

use crate::action::{Action, Notice, Why};
use crate::event::Timestamp;
use crate::resync::compares;
use crate::sync_decision::{SyncSide, decide_sync, unsettled};
use crate::volume::PeerTold;
use crate::{Engine, limits};
use rep_meta::PrimaryMark;
use rep_types::planted;
use rep_types::{
    ConnectionState, DiskState, GenerationId, Generations, LinkCause, Role, SplitBrainPolicies, SyncDecision,
    SyncRefusal, SyncRule, SyncVerdict, VolumeNumber,
};
use rep_wire::{ControlMessage, NodeView, OperatorWord, VolumeView, features};

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub deadline: Timestamp,
    mine: Option<NodeView>,
    peer: Option<NodeView>,
    my_decisions: Option<Vec<(VolumeNumber, SyncDecision)>>,
    peer_decisions: Option<Vec<(VolumeNumber, SyncDecision)>>,
    /// The operator knows that our view waits.
    wait_told: bool,
}

impl Handshake {
    /// Nothing is told yet.
    pub fn new(deadline: Timestamp) -> Self {
        Handshake { deadline, mine: None, peer: None, my_decisions: None, peer_decisions: None, wait_told: false }
    }

    /// Ours and the peer's, once both have been told.
    pub fn views(&self) -> Option<(&NodeView, &NodeView)> {
        self.mine.as_ref().zip(self.peer.as_ref())
    }
}

impl Engine {
    pub(crate) fn handshake_under_way(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.handshake.is_some())
    }

    /// Begins a round on the standing connection. One that is under way is left to end.
    ///
    /// Its view may have to wait for a resync, which can take hours: it waits a moment, for one that is about to end.
    pub(crate) fn begin_handshake(&mut self) {
        let resyncs = self.volumes.iter().any(|volume| volume.resync.is_some());
        let briefly = resyncs && self.may_begin_anew();
        let most = if briefly { limits::HANDSHAKE_RESYNC_WAIT_MAX } else { limits::HANDSHAKE_DURATION_MAX };
        let deadline = self.now.after(most);
        (0..self.volumes.len()).for_each(|index| self.stop_verify(index, Why::Handshake));
        if let Some(link) = self.link.as_mut().filter(|link| link.handshake.is_none()) {
            link.round += 1;
            link.handshake = Some(Handshake::new(deadline));
        }
    }

    /// Whether a handshake may begin anew on another connection: save where a Primary of an older version would have this node fenced
    /// for that (decision 18).
    fn may_begin_anew(&self) -> bool {
        !self.is_beside_fencing_primary() || self.agreed_on(features::BEGIN_ANEW)
    }

    /// It begins anew on another connection. Where it may not, that Primary closes the connection itself once it has heard our view, and
    /// what keeps the view back ends some time.
    pub(crate) fn handshake_takes_too_long(&mut self) {
        if self.may_begin_anew() {
            return self.drop_link(LinkCause::Restart);
        }
        let deadline = self.now.after(limits::HANDSHAKE_DURATION_MAX);
        let Some(handshake) = self.link.as_mut().and_then(|link| link.handshake.as_mut()) else { return };
        handshake.deadline = deadline;
        if handshake.mine.is_none() && !std::mem::replace(&mut handshake.wait_told, true) {
            self.notice(Notice::HandshakeWaits);
        }
    }

    /// Something our view speaks of has changed: what was decided or is being decided no longer holds.
    pub(crate) fn restart_handshake_if_under_way(&mut self) {
        if self.view_is_told() {
            self.drop_link(LinkCause::Restart);
        }
    }

    /// Whether a handshake is under way in which we have told our view.
    pub(crate) fn view_is_told(&self) -> bool {
        let handshake = self.link.as_ref().and_then(|link| link.handshake.as_ref());
        handshake.is_some_and(|handshake| handshake.mine.is_some())
    }

    /// The generations of our disks as told in a handshake under way.
    pub(crate) fn generations_told(&self) -> impl Iterator<Item = (VolumeNumber, Generations)> {
        let handshake = self.link.as_ref().and_then(|link| link.handshake.as_ref());
        let mine = handshake.and_then(|handshake| handshake.mine.as_ref());
        let told = mine.into_iter().flat_map(|view| view.volumes.iter());
        told.filter(|volume| volume.disk != DiskState::Diskless).map(|volume| (volume.volume, volume.generations))
    }

    pub(crate) fn peer_view(&mut self, round: u32, view: NodeView) {
        let Some(link) = &mut self.link else { return };
        if link.handshake.is_none() && round == link.round + 1 {
            self.begin_handshake();
        }
        let Some(link) = &mut self.link else { return };
        match &mut link.handshake {
            Some(handshake) if round == link.round && handshake.peer.is_none() => handshake.peer = Some(view),
            _ => self.drop_link(LinkCause::Protocol),
        }
    }

    pub(crate) fn peer_decision(&mut self, round: u32, decisions: Vec<(VolumeNumber, SyncDecision)>) {
        let Some(link) = &mut self.link else { return };
        match &mut link.handshake {
            Some(handshake) if round == link.round => handshake.peer_decisions = Some(decisions),
            _ => self.drop_link(LinkCause::Protocol),
        }
    }

    /// Whether the peer has told, in a handshake under way, of a disk it has meanwhile. What it sends from then on it writes
    /// there as well: no generation is due for it, and none may begin now (R17).
    pub(crate) fn peer_brings_disk(&self, number: VolumeNumber) -> bool {
        let handshake = self.link.as_ref().and_then(|link| link.handshake.as_ref());
        let view = handshake.and_then(|handshake| handshake.peer.as_ref());
        let brings = |volume: &VolumeView| volume.volume == number && volume.disk.takes_writes();
        view.is_some_and(|view| view.volumes.iter().any(brings))
    }

    pub(crate) fn progress_handshake(&mut self) -> bool {
        let Some(handshake) = self.link.as_ref().and_then(|link| link.handshake.as_ref()) else { return false };
        if handshake.mine.is_none() {
            return self.view_may_be_told() && self.tell_view();
        }
        if handshake.my_decisions.is_none() {
            return handshake.peer.is_some() && self.decide();
        }
        handshake.peer_decisions.is_some() && self.conclude()
    }

    /// Our view must hold still from when it is told: nothing may be half-way.
    fn view_may_be_told(&self) -> bool {
        self.recording == 0
            && !self.transition_holds_view()
            && (self.connection == ConnectionState::Connected || self.peer_requests_landed())
            && self.resync_writes_landed()
            && self.volumes.iter().all(|volume| {
                volume.attaching.is_none()
                    && volume.resync.is_none()
                    && volume.adopting.is_none()
                    && !volume.growth.is_recording()
                    && volume
                        .local
                        .as_ref()
                        .is_none_or(|local| local.superblock_settled() && local.relocation.is_none())
            })
    }

    fn tell_view(&mut self) -> bool {
        let view = self.view();
        for (volume, told) in self.volumes.iter_mut().zip(&view.volumes) {
            volume.growth.viewed_bytes = told.agreed_bytes;
        }
        let deadline = self.now.after(limits::HANDSHAKE_DURATION_MAX);
        let Some(link) = &mut self.link else { return false };
        let round = link.round;
        if let Some(handshake) = &mut link.handshake {
            handshake.mine = Some(view.clone());
            handshake.deadline = deadline;
        }
        self.send(ControlMessage::View { round, view }, None);
        true
    }

    fn view(&self) -> NodeView {
        let features = self.link.as_ref().map_or(0, |link| link.features);
        let offered = self.offers_devices();
        let volumes = self.volumes.iter().map(|volume| {
            let superblock = volume.local.as_ref().map(|local| local.superblock());
            let apart = superblock.filter(|superblock| !superblock.generations.bitmap.is_none());
            let divergence = apart.map(|superblock| superblock.divergence).unwrap_or_default();
            VolumeView {
                volume: volume.number,
                available_bytes: superblock.map_or(0, |superblock| superblock.available_bytes),
                agreed_bytes: superblock.map_or(0, |superblock| superblock.agreed_bytes),
                logical_block_bytes: volume.told_block_bytes(offered, features) | volume.told_of_cache(features),
                disk: volume.disk,
                generations: superblock.map_or(seen_by_clients(self.role, volume), |superblock| superblock.generations),
                crashed_primary: superblock.is_some_and(|superblock| superblock.primary == PrimaryMark::Crashed),
                prior_end: volume.prior_end,
                last_primary: superblock.is_some_and(|superblock| superblock.last_primary),
                out_of_sync_blocks: volume.out_of_sync_blocks(),
                word: volume.word_for(features),
                diverged_as_primary: divergence.as_primary,
                diverged_since_unix_ms: divergence.since_unix_ms,
            }
        });
        let plan = self.is_planning();
        // Two nodes known to have gone apart are joined by the operator's word alone: a role that changes while he
        // looks at them must not set a policy off.
        let asked = self.connection != ConnectionState::SplitBrain;
        NodeView {
            role: self.role,
            sorts_first: self.config.sorts_first,
            plan,
            policies: if asked { self.config.split_brain } else { SplitBrainPolicies::default() },
            volumes: volumes.collect(),
        }
    }

    fn decide(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let round = link.round;
        let Some(handshake) = &mut link.handshake else { return false };
        let (Some(mine), Some(peer)) = (&handshake.mine, &handshake.peer) else { return false };
        let mut decisions = Vec::with_capacity(mine.volumes.len());
        let mut left = Vec::with_capacity(mine.volumes.len());
        for view in &mine.volumes {
            let other = peer.volumes.iter().find(|other| other.volume == view.volume);
            let (decision, why) = match other {
                Some(other) => {
                    let (own, other) = (side(mine, view), side(peer, other));
                    let decision = decide_sync(own, other);
                    (decision, unsettled(decision, own, other))
                }
                None => (without_counterpart(mine.role, peer.role), None),
            };
            decisions.push((view.volume, decision));
            left.push((view.volume, why));
        }
        let plans = mine.plan || peer.plan;
        let joins = !plans && refused(&decisions, serving(mine, peer)).is_none();
        if joins {
            if !self.fence_forgets() {
                return false;
            }
            self.absent_disks_forget();
            self.note_caches_lost(&decisions);
        }
        let told_decisions = self.told_of_blocks(decisions.clone());
        let Some(handshake) = self.link.as_mut().and_then(|link| link.handshake.as_mut()) else { return false };
        let Some(peer) = &handshake.peer else { return false };
        handshake.my_decisions = Some(told_decisions.clone());
        let told: Vec<_> = peer.volumes.iter().map(PeerTold::from).collect();
        let peer_role = peer.role;
        let compared = handshake.mine.as_ref().map(|mine| comparisons(mine, peer, &decisions)).unwrap_or_default();
        self.peer_met = Some(peer_role);
        if !plans {
            self.note_decisions(&decisions, compared);
            let asked = self.connection != ConnectionState::SplitBrain;
            self.note_unsettled(&left, asked);
        }
        for told in told {
            if let Some(index) = self.volume_index(told.volume) {
                self.volumes[index].peer_told = Some(told);
            }
        }
        self.send(ControlMessage::Decision { round, decisions: told_decisions }, None);
        true
    }

    /// A plan decides nothing, so that only what was meant leaves a trace.
    fn note_decisions(&mut self, decisions: &[(VolumeNumber, SyncDecision)], compared: Vec<(VolumeNumber, bool)>) {
        for (volume, decision) in decisions {
            if let Some(index) = self.volume_index(*volume) {
                self.volumes[index].last_decision = Some(*decision);
            }
        }
        for (number, compares) in compared {
            if let Some(index) = self.volume_index(number) {
                self.volumes[index].compares = compares;
            }
        }
    }

    /// Both have decided: compare and apply.
    fn conclude(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(handshake) = link.handshake.take() else { return false };
        let (Some(mine), Some(peer)) = (handshake.mine, handshake.peer) else { return false };
        let (Some(my), Some(theirs)) = (handshake.my_decisions, handshake.peer_decisions) else { return false };
        if let Some(mismatch) = self.first_mismatch(&my, &theirs) {
            self.notice(mismatch);
            self.refuse(ConnectionState::StandAlone);
        } else if mine.plan {
            self.plan_concluded(&my, &mine, &peer);
        } else if peer.plan {
            // The planner parts; we go on waiting for a connection.
        } else if let Some(refused) = refused(&my, serving(&mine, &peer)) {
            let behind =
                |decision: &SyncDecision| decision.verdict == SyncVerdict::Refuse(SyncRefusal::WouldOverwritePrimary);
            if my.iter().any(|(_, decision)| behind(decision)) {
                self.notice(Notice::PrimaryIsBehind);
            }
            match refused {
                Refused::Apart(state) => self.refuse(state),
                Refused::ForNow => self.drop_link(LinkCause::Refused),
            }
        } else {
            self.accept(&my, &peer);
        }
        if !mine.plan && !peer.plan {
            self.forget_words();
        }
        self.open_gate();
        true
    }

    /// What the operator said of a split brain holds for one handshake (I-G4); a plan decides nothing and uses nothing up.
    fn forget_words(&mut self) {
        for volume in &mut self.volumes {
            volume.word = OperatorWord::None;
        }
    }

    fn first_mismatch(
        &self,
        mine: &[(VolumeNumber, SyncDecision)],
        peer: &[(VolumeNumber, SyncDecision)],
    ) -> Option<Notice> {
        mine.iter().find_map(|(volume, mine)| {
            let theirs = peer.iter().find(|(other, _)| other == volume).map(|(_, decision)| *decision);
            let theirs = theirs.unwrap_or(mine.mirrored());
            let mirrors = theirs.mirrored() == *mine;
            (!mirrors).then_some(Notice::DecisionMismatch { volume: *volume, mine: *mine, peer: theirs })
        })
    }

    /// Stays apart: no retrying until the operator says so.
    ///
    /// Nodes in split brain go on meeting: each hears how the other stands, and of a word said there.
    pub(crate) fn refuse(&mut self, state: ConnectionState) {
        self.stay_apart(state);
        self.drop_link(LinkCause::Refused);
    }

    fn stay_apart(&mut self, state: ConnectionState) {
        let before = self.connection;
        self.set_connection(state, Why::Handshake);
        if state != ConnectionState::SplitBrain {
            self.out.push(Action::WantLink { wanted: false });
        }
        // Nodes in split brain meet again and again: what they find is told once.
        if before != state {
            self.tell_refusals();
            self.tell_split_brain();
        }
    }

    fn tell_refusals(&mut self) {
        for index in 0..self.volumes.len() {
            let (volume, decision) = (self.volumes[index].number, self.volumes[index].last_decision);
            if let Some(decision) = decision.filter(|decision| matches!(decision.verdict, SyncVerdict::Refuse(_))) {
                self.notice(Notice::Refused { volume, decision });
            }
        }
    }

    /// The connection went before both had compared. If our own decision was to stay apart, that stands: both nodes
    /// must come to see a split brain even if the last message is lost. If it was that the peer has gone on from our data,
    /// these are old, whatever our metadata say of the peer (R31): so they are for a target that joined and never began.
    pub(crate) fn handshake_lost(&mut self, handshake: Option<Handshake>) {
        let Some(handshake) = handshake else { return };
        if handshake.peer.is_some() && handshake.my_decisions.is_none() && !planted!("promoted-beside-handshake") {
            self.promotion_is_forsaken();
        }
        let serves = handshake.views().is_some_and(|(mine, peer)| serving(mine, peer));
        let planning = handshake.mine.is_some_and(|view| view.plan) || handshake.peer.is_some_and(|view| view.plan);
        let Some(decisions) = handshake.my_decisions.filter(|_| !planning) else { return };
        match refused(&decisions, serves) {
            Some(Refused::Apart(state)) => self.stay_apart(state),
            Some(Refused::ForNow) => {}
            None => self.note_newer_data_there(&decisions),
        }
    }

    fn note_newer_data_there(&mut self, decisions: &[(VolumeNumber, SyncDecision)]) {
        for (number, decision) in decisions {
            let newer = matches!(decision.rule, SyncRule::BitmapPeer | SyncRule::HistoryPeer);
            let target = matches!(decision.verdict, SyncVerdict::Target(_));
            if let Some(index) = self.volume_index(*number).filter(|_| newer && target) {
                self.mark_outdated(index, Why::Handshake);
            }
        }
    }
}

fn side<'a>(node: &NodeView, view: &'a VolumeView) -> SyncSide<'a> {
    SyncSide { role: node.role, sorts_first: node.sorts_first, policies: node.policies, view }
}

/// Which volumes' resyncs compare before they copy.
pub(crate) fn comparisons(
    mine: &NodeView,
    peer: &NodeView,
    decisions: &[(VolumeNumber, SyncDecision)],
) -> Vec<(VolumeNumber, bool)> {
    let view = |node: &NodeView, number| node.volumes.iter().position(|view| view.volume == number);
    let compared = |(number, decision): &(VolumeNumber, SyncDecision)| {
        let both = view(mine, *number).zip(view(peer, *number));
        let compared = |(own, other): (usize, usize)| {
            compares(*decision, side(mine, &mine.volumes[own]), side(peer, &peer.volumes[other]))
        };
        (*number, both.is_some_and(compared))
    };
    decisions.iter().map(compared).collect()
}

/// Whether one side's data are given up by this.
pub(crate) fn settles_split_brain(decision: SyncDecision) -> bool {
    matches!(decision.rule, SyncRule::SplitBrainBitmap | SyncRule::SplitBrainHistory)
}

/// What stands for the generations of a volume without a disk: what a Primary's clients have seen.
fn seen_by_clients(role: Role, volume: &crate::volume::Volume) -> Generations {
    let current = if role == Role::Primary { volume.exposed } else { GenerationId::NONE };
    Generations { current, ..Generations::JUST_CREATED }
}

/// A volume only one of the nodes has.
fn without_counterpart(mine: Role, peer: Role) -> SyncDecision {
    let both_primary = mine == Role::Primary && peer == Role::Primary;
    let verdict = if both_primary { SyncVerdict::Refuse(SyncRefusal::BothPrimary) } else { SyncVerdict::Nothing };
    SyncDecision { rule: SyncRule::NoDisk, verdict }
}

/// What comes of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    /// Both stay apart, in this state.
    Apart(ConnectionState),
    /// It ends by itself, so both go on meeting until then: a Primary lost its disk, and its clients have seen newer data
    /// than the peer holds, until the disk is back; or a device was left behind by a daemon that ended under it, and the
    /// next one is yet to take it over.
    ForNow,
}

/// Whether either has clients.
fn serving(mine: &NodeView, peer: &NodeView) -> bool {
    mine.role == Role::Primary || peer.role == Role::Primary
}

/// What the decisions refuse, if they do; what is refused for good counts most.
fn refused(decisions: &[(VolumeNumber, SyncDecision)], serving: bool) -> Option<Refused> {
    let of = |decision: &SyncDecision| match decision.verdict {
        SyncVerdict::Refuse(SyncRefusal::UnrelatedData) if decision.rule == SyncRule::NoDisk => Some(Refused::ForNow),
        SyncVerdict::Refuse(SyncRefusal::PeerBlocksTooLarge | SyncRefusal::BlocksTooLarge) if !serving => {
            Some(Refused::ForNow)
        }
        SyncVerdict::Refuse(refusal) => Some(Refused::Apart(refused_state(refusal))),
        _ => None,
    };
    let all = || decisions.iter().filter_map(|(_, decision)| of(decision));
    all().find(|refused| *refused != Refused::ForNow).or_else(|| all().next())
}

fn refused_state(refusal: SyncRefusal) -> ConnectionState {
    match refusal {
        SyncRefusal::SplitBrain => ConnectionState::SplitBrain,
        SyncRefusal::UnrelatedData => ConnectionState::UnrelatedData,
        _ => ConnectionState::StandAlone,
    }
}
