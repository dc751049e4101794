//! Handing the Primary role over to the peer while the device is open here.
//!
//! ```text
//!  Ask ── agreed ──► requests wait ──► Drain ──► Settle ──► Demote ──► Give ──► the peer is Primary: requests are forwarded
//!   │ refused          │ the peer goes, or the operator waits no longer   │ it can't, or was never told
//!   ▼                  ▼                                                  ▼
//!  as before          as before: what waited goes on                     Promote: this node is Primary again
//! ```
//!
//! - H1 the peer is told to be Primary only once this node's not being it is durable: at no moment could both be;
//! - H2 this node takes the role back by itself only if the peer was never told, or says on the connection on which it was that it isn't
//!   Primary. Told, and gone, nobody knows: then the operator decides, and requests wait;
//! - H3 a peer that was told, and has been gone since, may have been Primary, gone on alone, and died. It is told again, or the role taken back,
//!   only where its disks are as good as ours: then what it wrote is here, too. One that comes back without its disk may have had
//!   the only copy.

use crate::Engine;
use crate::command::CommandError;
use crate::operator::{Answer, Progress, Step, refused};
use crate::role::{DemotionStage, PromotionStage};
use crate::volume::Volume;
use rep_types::planted;
use rep_types::{CommandId, DiskState, EpochNumber, Refusal, Role, SessionId};
use rep_wire::{ControlMessage, HandoverRefusal, HandoverStep, features};

/// How far a handover is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandoverStage {
    /// The peer is asked.
    Ask { asked: bool, agreed: bool },
    /// New requests wait; those under way end.
    Drain,
    /// Both disks are flushed: what had completed by the end of this epoch is stable.
    Settle(EpochNumber),
    /// This node is Secondary; the peer is told, on this connection, and becomes Primary.
    Give { told: Option<Told> },
}

/// When the peer was told to be Primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    /// On which connection, last.
    session: SessionId,
    /// On an earlier one, too (H3).
    before: bool,
}

impl Engine {
    pub(crate) fn handover(&mut self, id: CommandId) -> Option<Answer> {
        if let Some(refusal) = self.handover_refusal() {
            return refused(refusal);
        }
        let ask = HandoverStage::Ask { asked: false, agreed: false };
        let give = HandoverStage::Give { told: None };
        self.begin_transition(id, [Step::Handover(ask), Step::Demote(DemotionStage::Begin), Step::Handover(give)])
    }

    /// Why the role can't be handed over now.
    fn handover_refusal(&self) -> Option<Refusal> {
        if self.role != Role::Primary {
            return Some(Refusal::NotPrimary);
        }
        if !self.is_connected() {
            return Some(Refusal::NotConnected);
        }
        if self.handshake_under_way() {
            return Some(Refusal::HandshakeUnderWay);
        }
        if !self.agreed_on(features::HANDOVER) {
            return Some(Refusal::PeerTooOld);
        }
        if self.volumes.iter().any(|volume| volume.peer_disk != DiskState::UpToDate) {
            return Some(Refusal::PeerNotUpToDate);
        }
        let starves = self.volumes.iter().any(|volume| volume.starved.waits());
        (self.io_waits() || starves).then_some(Refusal::IoSuspended)
    }

    /// Whether the device's requests wait for a handover to end.
    pub(crate) fn is_handing_over(&self) -> bool {
        let steps = self.transition.as_ref().map(|transition| &transition.steps);
        steps.is_some_and(|steps| steps.iter().any(|step| matches!(step, Step::Handover(_))))
    }

    /// Whether this node is becoming Primary, or handing that over.
    pub(crate) fn is_changing_role(&self) -> bool {
        let steps = self.transition.as_ref().map(|transition| &transition.steps);
        steps.is_some_and(|steps| steps.iter().any(|step| matches!(step, Step::Handover(_) | Step::Promote(_))))
    }

    pub(crate) fn poll_handover(&mut self, stage: HandoverStage) -> Progress {
        match stage {
            HandoverStage::Ask { .. } | HandoverStage::Drain | HandoverStage::Settle(_) if !self.is_connected() => {
                self.keep_role(CommandError::PeerLost)
            }
            HandoverStage::Ask { asked: false, agreed } => {
                self.send(ControlMessage::Handover { step: HandoverStep::Ask }, None);
                self.ping();
                Progress::Moved(Step::Handover(HandoverStage::Ask { asked: true, agreed }))
            }
            HandoverStage::Ask { agreed: false, .. } => Progress::Waits,
            HandoverStage::Ask { .. } => {
                self.begin_forwarding();
                Progress::Moved(Step::Handover(HandoverStage::Drain))
            }
            HandoverStage::Drain | HandoverStage::Settle(_)
                if self.volumes.iter().any(|volume| volume.peer_disk != DiskState::UpToDate) =>
            {
                self.keep_role(CommandError::Refused(Refusal::PeerNotUpToDate))
            }
            HandoverStage::Drain => match self.poll_drain() {
                Progress::Waits if !planted!("handed-over-undrained") => Progress::Waits,
                _ => Progress::Moved(Step::Handover(HandoverStage::Settle(self.close_what_completed()))),
            },
            HandoverStage::Settle(until) => match self.poll_settle(until) {
                // A view that was told says that this node is Primary.
                Progress::Done if self.handshake_under_way() => Progress::Waits,
                Progress::Done if self.owes_a_word() => {
                    // Its clients are to be told here, where that is known.
                    self.keep_role(CommandError::DiskFailed)
                }
                progress => progress,
            },
            HandoverStage::Give { told } => self.poll_give(told),
        }
    }

    /// Whether clients that live on are to be told of a loss that only this node knows of (N2).
    fn owes_a_word(&self) -> bool {
        let forwards = self.peer_forwards();
        let owes = |volume: &Volume| volume.starved.owes_here() || forwards && volume.starved.owes_there();
        self.volumes.iter().any(owes)
    }

    /// Nothing has been given away yet: what waited goes on here.
    fn keep_role(&mut self, error: CommandError) -> Progress {
        self.take_back_forwards();
        if self.is_connected() {
            self.send(ControlMessage::Handover { step: HandoverStep::Cancel }, None);
        }
        Progress::Failed(error)
    }

    fn poll_give(&mut self, told: Option<Told>) -> Progress {
        let session = self.link.as_ref().map(|link| link.session);
        let abandoned = self.transition.as_ref().is_some_and(|transition| transition.abandoned);
        if self.role == Role::Primary || (self.is_connected() && self.peer_role == Some(Role::Primary)) {
            return Progress::Done;
        }
        let here = session.filter(|_| self.is_connected() && !self.handshake_under_way());
        if let Some(session) = here
            && told.is_none_or(|told| told.session != session && self.peer_has_what_we_have())
        {
            self.send(ControlMessage::Handover { step: HandoverStep::Go }, None);
            self.ping();
            let told = Some(Told { session, before: told.is_some() });
            return Progress::Moved(Step::Handover(HandoverStage::Give { told }));
        }
        if (told.is_none() || planted!("role-taken-back")) && self.link.is_none() {
            return self.take_role_back(CommandError::PeerLost);
        }
        if told.is_some() && abandoned { Progress::Done } else { Progress::Waits }
    }

    /// Whether whatever the peer may have written as Primary is here, too (H3).
    fn peer_has_what_we_have(&self) -> bool {
        let as_good = |volume: &Volume| volume.is_good() && volume.peer_disk == DiskState::UpToDate;
        self.volumes.iter().all(as_good) || planted!("told-again-unseen")
    }

    /// The peer isn't Primary and won't be: this node is, again (H2).
    fn take_role_back(&mut self, error: CommandError) -> Progress {
        self.promotion_granted_until = None;
        if let Some(transition) = &mut self.transition {
            transition.failure = Some(error);
        }
        Progress::Moved(Step::Promote(PromotionStage::ask(false)))
    }

    fn take_role_back_unasked(&mut self) {
        let nobody = self.role == Role::Secondary && self.peer_role == Some(Role::Secondary);
        if nobody && self.transition.is_none() && self.peer_has_what_we_have() {
            self.promotion_granted_until = None;
            self.begin_transition(CommandId(0), [Step::Promote(PromotionStage::ask(false))]);
            self.nobody_waits();
        }
    }

    /// The operator waits no longer. Says whether the transition ends here.
    pub(crate) fn handover_abandoned(&mut self, stage: HandoverStage) -> bool {
        match stage {
            HandoverStage::Give { told: None } => false,
            // Whether the peer has become Primary will show; until then nothing else need wait for this.
            HandoverStage::Give { .. } => true,
            HandoverStage::Ask { .. } | HandoverStage::Drain | HandoverStage::Settle(_) => {
                self.keep_role(CommandError::TimedOut);
                true
            }
        }
    }

    // ---- the peer's side ----

    /// The peer, a Primary, hands its role over.
    pub(crate) fn handover_asked(&mut self, step: HandoverStep) {
        match step {
            HandoverStep::Ask => {
                let refused = self.takeover_refusal();
                if let (None, Some(forwarding)) = (refused, &mut self.forwarding) {
                    // What was sent is answered before the role comes; what isn't need not be sent any more.
                    forwarding.paused = true;
                    self.tell_suspension();
                }
                self.send(ControlMessage::HandoverAnswer { refused }, None);
            }
            HandoverStep::Go if self.role == Role::Primary => self.send_state(),
            HandoverStep::Go => self.take_over_role(),
            HandoverStep::Cancel => {
                self.forwarding_goes_on();
                self.tell_suspension();
            }
        }
    }

    fn takeover_refusal(&self) -> Option<HandoverRefusal> {
        if self.role == Role::Primary {
            Some(HandoverRefusal::IsPrimary)
        } else if self.transition.is_some() {
            Some(HandoverRefusal::Busy)
        } else if self.handshake_under_way() {
            Some(HandoverRefusal::HandshakeUnderWay)
        } else if !self.volumes.iter().all(Volume::is_good) {
            Some(HandoverRefusal::NoUpToDateDisk)
        } else {
            None
        }
    }

    fn take_over_role(&mut self) {
        let front = self.transition.as_ref().and_then(|transition| transition.steps.front());
        match front {
            None if self.transition.is_none() => {
                self.begin_transition(CommandId(0), [Step::Promote(PromotionStage::ask(false))]);
                self.nobody_waits();
            }
            // A promotion under way is as good.
            Some(Step::Promote(_)) => {}
            _ => {
                let refused = Some(HandoverRefusal::Busy);
                return self.send(ControlMessage::HandoverAnswer { refused }, None);
            }
        }
        if let Some(transition) = &mut self.transition {
            transition.for_peer = true;
        }
    }

    /// The peer was to be Primary, and could not.
    pub(crate) fn takeover_failed(&mut self) {
        if self.is_connected() {
            let refused = Some(HandoverRefusal::Failed);
            self.send(ControlMessage::HandoverAnswer { refused }, None);
        }
    }

    /// The peer's answer: to whether it could be Primary, or that it can't be.
    pub(crate) fn handover_answered(&mut self, refused: Option<HandoverRefusal>) {
        let has_all = self.peer_has_what_we_have();
        let front = self.transition.as_mut().and_then(|transition| transition.steps.front_mut());
        match (front, refused) {
            (Some(Step::Handover(HandoverStage::Ask { asked: true, agreed })), None) => *agreed = true,
            (Some(Step::Handover(HandoverStage::Ask { .. })), Some(refusal)) => {
                self.end_transition(Some(CommandError::Refused(of_the_peer(refusal))));
            }
            (Some(Step::Handover(HandoverStage::Give { told: Some(told) })), Some(refusal))
                if told.before && !has_all =>
            {
                self.end_transition(Some(CommandError::Refused(of_the_peer(refusal))));
            }
            (Some(Step::Handover(HandoverStage::Give { told: Some(_) })), Some(refusal)) => {
                if let Progress::Moved(step) = self.take_role_back(CommandError::Refused(of_the_peer(refusal)))
                    && let Some(front) = self.transition.as_mut().and_then(|transition| transition.steps.front_mut())
                {
                    *front = step;
                }
            }
            // The operator waits no longer.
            (None, Some(_)) if self.forwarding.is_some() => self.take_role_back_unasked(),
            _ => {}
        }
    }
}

fn of_the_peer(refusal: HandoverRefusal) -> Refusal {
    match refusal {
        HandoverRefusal::NoUpToDateDisk => Refusal::PeerNotUpToDate,
        HandoverRefusal::Busy => Refusal::PeerBusy,
        HandoverRefusal::HandshakeUnderWay => Refusal::HandshakeUnderWay,
        HandoverRefusal::IsPrimary => Refusal::PeerIsPrimary,
        HandoverRefusal::Failed => Refusal::PeerNotPromoted,
    }
}
