//! What is known of a split brain, and why it was left to the operator.

use crate::pair::Pair;
use rep_engine::{ApartSide, Command, Notice, SplitBrainFacts, Unsettled};
use rep_types::{AfterZeroPrimaries, BLOCK_SIZE, ConnectionState, SyncRule, SyncVerdict, VolumeNumber};

/// Both went on apart: alpha, the Primary, wrote one block, beta, promoted by force, two. Both are Secondary again, and want
/// to meet.
fn apart(policies: [AfterZeroPrimaries; 2]) -> Pair {
    let mut pair = Pair::with_primary(1);
    for node in 0..2 {
        pair.command(node, Command::Disconnect { force: true });
        pair.run();
    }
    pair.command(1, Command::Promote { force: true });
    pair.run();
    for (node, block) in [(0, 0), (1, 1), (1, 2)] {
        pair.write(node, 0, block);
        pair.run();
    }
    for (node, policy) in policies.into_iter().enumerate() {
        pair.command(node, Command::Shutdown);
        pair.run();
        pair.configure(node, |options| options.split_brain.after_0_primaries = policy);
        pair.kill(node);
        pair.run();
        pair.command(node, Command::Connect { discard_my_data: false });
    }
    pair.run();
    pair
}

fn told(pair: &Pair, node: usize) -> Vec<SplitBrainFacts> {
    let facts = |notice: &Notice| match notice {
        Notice::SplitBrain { volume: VolumeNumber(0), facts } => Some(*facts),
        _ => None,
    };
    pair.notices(node).iter().filter_map(facts).collect()
}

/// Both tell the same of both, at once and once, however often they meet afterwards.
#[test]
fn both_know_the_same_of_both() {
    let mut pair = apart([AfterZeroPrimaries::Disconnect; 2]);
    pair.connect();
    pair.connect();
    let [alphas, betas] = [0, 1].map(|node| pair.volume(node, 0).split_brain.expect("a split brain"));
    let generation = |node: usize| pair.volume(node, 0).generations.expect("a disk").current;
    let side = |node: usize, was_primary: bool, blocks: u64, since_unix_ms: u64| ApartSide {
        since_unix_ms,
        was_primary,
        dirty_bytes: blocks * BLOCK_SIZE,
        generation: generation(node),
    };
    assert_eq!(alphas.rule, SyncRule::SplitBrainBitmap);
    assert_eq!(alphas.mine, side(0, true, 1, alphas.mine.since_unix_ms));
    assert_eq!(alphas.peer, side(1, false, 2, alphas.peer.since_unix_ms));
    assert_eq!(betas, SplitBrainFacts { mine: alphas.peer, peer: alphas.mine, ..alphas });
    assert_eq!(alphas.unsettled, Unsettled::NoPolicy);
    assert_eq!([told(&pair, 0), told(&pair, 1)], [vec![alphas], vec![betas]], "told once, when it was found");
}

/// That the nodes' policies differ is what the operator has to know, and what the later meetings, which ask no policy, must
/// not hide.
#[test]
fn policies_that_differ_are_told_and_stay_told() {
    let mut pair = apart([AfterZeroPrimaries::DiscardLeastChanges, AfterZeroPrimaries::DiscardZeroChanges]);
    for _ in 0..2 {
        pair.connect();
        for node in 0..2 {
            assert_eq!(pair.snapshot(node).connection, ConnectionState::SplitBrain);
            let facts = pair.volume(node, 0).split_brain.expect("a split brain");
            assert_eq!(facts.unsettled, Unsettled::PoliciesDiffer, "node {node}");
        }
    }
}

/// The same policy on both settles it: nothing is left to be told.
#[test]
fn what_a_policy_settles_is_no_split_brain_any_more() {
    let mut pair = apart([AfterZeroPrimaries::DiscardLeastChanges; 2]);
    pair.connect();
    assert!(pair.is_in_sync());
    for node in 0..2 {
        assert_eq!(pair.volume(node, 0).split_brain, None);
        assert_eq!(told(&pair, node), []);
    }
}

/// Who only asks what a connection would do is told as before what was decided last, not what would be.
#[test]
fn a_plan_is_no_decision() {
    let mut pair = apart([AfterZeroPrimaries::DiscardLeastChanges; 2]);
    pair.connect();
    let before = [0, 1].map(|node| pair.volume(node, 0).last_decision);
    assert!(before[0].is_some_and(|decision| matches!(decision.verdict, SyncVerdict::Target(_))));
    for node in 0..2 {
        pair.command(node, Command::Disconnect { force: true });
        pair.run();
    }
    pair.command(1, Command::Connect { discard_my_data: false });
    pair.command(0, Command::Plan { discard_my_data: false });
    pair.run();
    pair.connect();
    assert_eq!([0, 1].map(|node| pair.volume(node, 0).last_decision), before);
}
