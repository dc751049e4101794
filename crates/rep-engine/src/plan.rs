//! What a connection would do, asked of the peer and not done: `connect --plan`.

use crate::Engine;
use crate::action::{Action, Why};
use crate::command::{CommandOutcome, PlannedSync};
use crate::handshake::comparisons;
use crate::operator::{Answer, Step, refused};
use rep_types::{BLOCK_SIZE, CommandId, ConnectionState, LinkCause, Refusal, SyncDecision, VolumeNumber};
use rep_wire::{NodeView, OperatorWord};

impl Engine {
    pub(crate) fn is_planning(&self) -> bool {
        let step = self.transition.as_ref().and_then(|transition| transition.steps.front());
        matches!(step, Some(Step::Plan { .. }))
    }

    pub(crate) fn plan_command(&mut self, id: CommandId, discard_my_data: bool) -> Option<Answer> {
        let before = self.connection;
        match before {
            ConnectionState::Connected => return Some(Ok(CommandOutcome::Plan(self.plan_from_last_decisions()))),
            ConnectionState::Disconnecting => return refused(Refusal::Busy),
            ConnectionState::Connecting if self.handshake_under_way() => return refused(Refusal::HandshakeUnderWay),
            _ => {
                // A meeting under way, as nodes in split brain have, is none of a plan's.
                self.restart_handshake_if_under_way();
                self.go_connecting();
            }
        }
        let word_before = self.volumes.first().map_or(OperatorWord::None, |volume| volume.word);
        if discard_my_data {
            self.set_word(OperatorWord::DiscardMine);
        }
        self.begin_transition(id, [Step::Plan { before, word_before }])
    }

    pub(crate) fn plan_from_last_decisions(&self) -> Vec<PlannedSync> {
        let planned = |volume: &crate::volume::Volume| {
            let decision = volume.last_decision?;
            let bytes = volume.out_of_sync_blocks() * BLOCK_SIZE;
            let peer_blocks = volume.peer_told.map_or(0, |told| told.out_of_sync_blocks);
            let (local_dirty_bytes, peer_dirty_bytes) = (bytes, peer_blocks * BLOCK_SIZE);
            let number = volume.number;
            let compares = volume.compares;
            Some(PlannedSync {
                volume: number,
                decision,
                bytes_at_most: bytes,
                local_dirty_bytes,
                peer_dirty_bytes,
                compares,
            })
        };
        self.volumes.iter().filter_map(planned).collect()
    }

    /// Both have told their decision and nothing was done.
    pub(crate) fn plan_concluded(
        &mut self,
        decisions: &[(VolumeNumber, SyncDecision)],
        mine: &NodeView,
        peer: &NodeView,
    ) {
        let blocks = |view: &NodeView, number: VolumeNumber| {
            let found = view.volumes.iter().find(|volume| volume.volume == number);
            found
                .map_or((0, 0), |volume| (volume.out_of_sync_blocks.saturating_mul(BLOCK_SIZE), volume.available_bytes))
        };
        let compared = comparisons(mine, peer, decisions);
        let plan = decisions.iter().map(|(volume, decision)| {
            use rep_types::{ByBitmapOrFull::Full, SyncVerdict::*};
            let (local_dirty_bytes, size) = blocks(mine, *volume);
            let (peer_dirty_bytes, peer_size) = blocks(peer, *volume);
            let bytes_at_most = match decision.verdict {
                Source(Full) | Target(Full) => size.min(peer_size),
                Source(_) | Target(_) => local_dirty_bytes.saturating_add(peer_dirty_bytes),
                Nothing | Refuse(_) => 0,
            };
            let compares = compared.iter().any(|(number, compares)| number == volume && *compares);
            PlannedSync {
                volume: *volume,
                decision: *decision,
                bytes_at_most,
                local_dirty_bytes,
                peer_dirty_bytes,
                compares,
            }
        });
        let plan = plan.collect();
        let Some(transition) = &mut self.transition else { return };
        transition.outcome = CommandOutcome::Plan(plan);
        if let Some(Step::Plan { before, word_before }) = transition.steps.pop_front() {
            self.set_word(word_before);
            self.restore_connection(before);
        }
    }

    pub(crate) fn end_plan(&mut self, before: ConnectionState, word_before: OperatorWord) {
        self.transition = None;
        self.set_word(word_before);
        self.restore_connection(before);
    }

    pub(crate) fn restore_connection(&mut self, before: ConnectionState) {
        self.set_connection(before, Why::Command);
        if !matches!(before, ConnectionState::Connecting | ConnectionState::SplitBrain) {
            self.out.push(Action::WantLink { wanted: false });
        }
        self.drop_link(LinkCause::Operator);
    }
}
