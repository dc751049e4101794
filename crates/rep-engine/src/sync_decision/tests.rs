//! The table row by row, then every pair of small states.

mod exhaustive;
mod rows;
mod split_brain;

use super::*;
use rep_types::{GENERATION_HISTORY_LENGTH, Generations, VolumeNumber};
use rep_wire::OperatorWord;

/// A node in a test.
#[derive(Clone, Debug)]
struct Node {
    role: Role,
    sorts_first: bool,
    policies: SplitBrainPolicies,
    view: VolumeView,
}

/// A Secondary, UpToDate, that lost the link; generations by number (0 none, 1 just created).
fn node(current: u64, bitmap: u64, history: &[u64]) -> Node {
    let mut generations =
        Generations { current: GenerationId(current), bitmap: GenerationId(bitmap), ..Generations::JUST_CREATED };
    generations.history = [GenerationId::NONE; GENERATION_HISTORY_LENGTH];
    for (slot, id) in generations.history.iter_mut().zip(history) {
        *slot = GenerationId(*id);
    }
    let view = VolumeView {
        volume: VolumeNumber(0),
        available_bytes: 1 << 30,
        agreed_bytes: 1 << 30,
        logical_block_bytes: 512,
        disk: DiskState::UpToDate,
        generations,
        crashed_primary: false,
        prior_end: PriorEnd::LinkLoss,
        last_primary: false,
        out_of_sync_blocks: 0,
        word: OperatorWord::None,
        diverged_as_primary: false,
        diverged_since_unix_ms: 0,
    };
    Node { role: Role::Secondary, sorts_first: false, policies: SplitBrainPolicies::default(), view }
}

impl Node {
    fn with(mut self, edit: impl FnOnce(&mut Node)) -> Node {
        edit(&mut self);
        self
    }

    fn disk(self, disk: DiskState) -> Node {
        self.with(|n| n.view.disk = disk)
    }

    fn bits(self) -> Node {
        self.with(|n| n.view.out_of_sync_blocks = 3)
    }

    fn primary(self) -> Node {
        self.with(|n| (n.role, n.view.last_primary) = (Role::Primary, true))
    }

    fn last_primary(self) -> Node {
        self.with(|n| n.view.last_primary = true)
    }

    fn first(self) -> Node {
        self.with(|n| n.sorts_first = true)
    }

    fn ended(self, end: PriorEnd) -> Node {
        self.with(|n| n.view.prior_end = end)
    }

    /// Crashed as Primary, in this way.
    fn crashed(self, end: PriorEnd) -> Node {
        self.last_primary().ended(end).with(|n| n.view.crashed_primary = true)
    }

    fn discards(self) -> Node {
        self.with(|n| n.view.word = OperatorWord::DiscardMine)
    }

    fn side(&self) -> SyncSide<'_> {
        SyncSide { role: self.role, sorts_first: self.sorts_first, policies: self.policies, view: &self.view }
    }
}

/// Decides on both nodes, checks that they mirror, and returns the first's decision.
fn decide(mine: &Node, peer: &Node) -> SyncDecision {
    let here = decide_sync(mine.side(), peer.side());
    let there = decide_sync(peer.side(), mine.side());
    assert_eq!(here.mirrored(), there, "{mine:?}\n{peer:?}");
    here
}

#[track_caller]
fn expect(mine: &Node, peer: &Node, rule: SyncRule, verdict: SyncVerdict) {
    assert_eq!(decide(mine, peer), SyncDecision { rule, verdict });
}
