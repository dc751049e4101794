//! A peer that wants to be Primary is answered (R29). It must not be served an older copy for it: a node that is attaching a disk answers when
//! it has told of that, and one that knows of newer data on a disk that isn't there says no (decision 40).

use crate::Engine;
use crate::operator::Step;
use crate::role::PromotionStage;
use crate::volume::Volume;
use rep_types::{Role, planted};
use rep_wire::ControlMessage;
use std::time::Duration;

/// How long a promotion the peer was granted may take before it is taken for given up.
const GRANT_LASTS: Duration = Duration::from_secs(30);

/// How long a peer that wants to be Primary waits for a disk that is being attached here, before it is answered without.
const ATTACH_AWAITED: Duration = Duration::from_secs(10);

impl Engine {
    /// The peer wants to be Primary.
    pub(crate) fn promotion_asked(&mut self) {
        if self.may_grant_promotion() && self.owes_view() {
            // The peer can't know yet whether it is behind: our view goes first.
            let until = self.now.after(ATTACH_AWAITED);
            self.promotion_asked_until.get_or_insert(until);
        } else {
            self.answer_promotion();
        }
    }

    fn may_grant_promotion(&self) -> bool {
        let step = self.transition.as_ref().and_then(|transition| transition.steps.front());
        let wants_itself = matches!(step, Some(Step::Promote(_)));
        let recording = matches!(step, Some(Step::Promote(PromotionStage::Recording { .. })));
        self.role == Role::Secondary && !recording && !(wants_itself && self.config.sorts_first)
    }

    /// Whether a disk is being attached here, or has come and the view that tells of it hasn't gone yet: it waits for what is under way
    /// on other volumes.
    fn owes_view(&self) -> bool {
        let attaching = self.volumes.iter().any(|volume| volume.attaching.is_some());
        (attaching || self.handshake_under_way() && !self.view_is_told()) && !planted!("granted-while-attaching")
    }

    fn answer_promotion(&mut self) {
        self.promotion_asked_until = None;
        let granted = self.may_grant_promotion() && !self.knows_of_newer_data();
        if granted {
            self.promotion_granted_until = Some(self.now.after(GRANT_LASTS));
        }
        self.send(ControlMessage::PromoteReply { granted }, None);
    }

    /// Whether a disk is ahead of the peer's that the peer can't know of: it isn't there, or it is and our view hasn't said so.
    fn knows_of_newer_data(&self) -> bool {
        let untold = self.owes_view();
        let ahead = |volume: &Volume| {
            volume.had_newer_than_peer() || untold && volume.is_ahead_of_peer(volume.unsettled_data())
        };
        self.volumes.iter().any(ahead) && !planted!("granted-while-attaching")
    }

    /// A peer that waits to be Primary is answered once the disks that were being attached have come, or haven't for too long.
    pub(crate) fn progress_grant(&mut self) -> bool {
        let answers = self.promotion_asked_until.is_some_and(|until| until <= self.now || !self.owes_view());
        if answers {
            self.answer_promotion();
        }
        answers
    }
}
