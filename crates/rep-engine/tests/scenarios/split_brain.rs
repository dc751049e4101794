//! What is known of a split brain, and why it was left to the operator.

use crate::pair::{Kind, Pair};
use rep_engine::{
    ApartSide, Command, CommandError, CommandOutcome, FenceSnapshot, Notice, Side, SplitBrainFacts, Unsettled,
};
use rep_types::{
    AfterZeroPrimaries, BLOCK_SIZE, ConnectionState, DiskState, FenceAnswer, Fencing, Refusal, ReplicationState, Role,
    SyncRule, SyncVerdict, VolumeNumber,
};

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

/// ```text
/// alpha Primary    ── link ──    beta Secondary
/// alpha Primary       ✂          beta Primary      promoted without force, as after a failure of alpha; both write
/// alpha Primary                  beta Secondary    demoted again
/// alpha SplitBrain ── link ──    beta SplitBrain   its disk is UpToDate, and alpha may be Primary at any moment
/// ```
/// `roles` they meet in.
fn met_apart(roles: [Role; 2]) -> Pair {
    let mut pair = Pair::with_primary(1);
    pair.cut();
    pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.snapshot(1).role, Role::Primary, "nobody knows yet of what alpha writes");
    for (node, role) in roles.into_iter().enumerate() {
        pair.write(node, 0, node as u64);
        pair.run();
        if role == Role::Secondary {
            pair.command(node, Command::Demote);
            pair.run();
        }
    }
    pair.connect();
    for node in 0..2 {
        let seen = pair.snapshot(node);
        assert_eq!((seen.connection, seen.role), (ConnectionState::SplitBrain, roles[node]));
        assert_eq!(pair.volume(node, 0).disk, DiskState::UpToDate);
        assert_eq!(seen.apart_from, Some(roles[1 - node]));
    }
    pair
}

fn promote(pair: &mut Pair, node: usize, force: bool) -> Option<Result<CommandOutcome, CommandError>> {
    let promotion = pair.command(node, Command::Promote { force });
    pair.run();
    pair.outcome(node, promotion)
}

const REFUSED: Option<Result<CommandOutcome, CommandError>> = Some(Err(CommandError::Refused(Refusal::SplitBrain)));

/// Whatever the peer was when they met last, it may be Primary now: they have no connection to ask through. What status
/// tells and what a promotion is told are the same.
#[test]
fn nobody_in_split_brain_is_promoted_without_force() {
    use Role::{Primary, Secondary};
    for roles in [[Primary, Secondary], [Secondary, Secondary]] {
        let mut pair = met_apart(roles);
        assert_eq!(pair.snapshot(1).promotion_refused, Some(Refusal::SplitBrain), "{roles:?}");
        assert_eq!(promote(&mut pair, 1, false), REFUSED, "{roles:?}");
        assert_eq!(promote(&mut pair, 1, true), Some(Ok(CommandOutcome::Done)), "{roles:?}");
        assert_eq!(pair.snapshot(1).promotion_refused, None, "a Primary is what it is");
        // Demoted again, it is refused again.
        pair.command(1, Command::Demote);
        pair.run();
        assert_eq!(promote(&mut pair, 1, false), REFUSED, "{roles:?}");
    }
}

/// Who leaves the peer in a split brain, looks for it anew, or meets it in vain, has settled nothing.
#[test]
fn a_split_brain_is_not_left_by_disconnecting() {
    let mut pair = met_apart([Role::Primary, Role::Secondary]);
    for state in [ConnectionState::StandAlone, ConnectionState::Connecting] {
        let command = match state {
            ConnectionState::StandAlone => Command::Disconnect { force: false },
            _ => Command::Connect { discard_my_data: false },
        };
        pair.command(1, command);
        pair.run();
        assert_eq!(pair.snapshot(1).connection, state);
        assert_eq!(pair.snapshot(1).promotion_refused, Some(Refusal::SplitBrain), "{state:?}");
        assert_eq!(promote(&mut pair, 1, false), REFUSED, "{state:?}");
    }
    // Settled, and joined: it is as any other.
    pair.command(0, Command::ResolveSplitBrain { keep: Side::Local });
    pair.connect();
    assert!(pair.is_in_sync());
    pair.command(0, Command::Demote);
    pair.run();
    assert_eq!(pair.snapshot(1).promotion_refused, None);
    assert_eq!(promote(&mut pair, 1, false), Some(Ok(CommandOutcome::Done)));
}

/// Who is Primary stays it, in whatever role the other is.
#[test]
fn a_primary_in_split_brain_goes_on() {
    let mut pair = met_apart([Role::Primary, Role::Primary]);
    for node in 0..2 {
        assert_eq!(pair.snapshot(node).promotion_refused, None);
        let write = pair.write(node, 0, 7);
        pair.run();
        assert_eq!(pair.answer(node, write), Some(Ok(())));
    }
}

/// alpha's metadata say that beta, which had left it, can't go on. It did all the same, by force. Once both have met, that says
/// nothing any more: after a restart alpha's disk is Consistent, and alpha as safe to promote as any node that doesn't know
/// (R28, R30). As long as it is Primary it is kept: alpha's clients go on over a restart of its daemon (R35).
#[test]
fn what_was_known_of_the_peer_does_not_outlive_a_split_brain() {
    for demoted_before in [true, false] {
        let mut pair = Pair::with_primary(1);
        pair.command(1, Command::Disconnect { force: false });
        pair.run();
        assert!(pair.superblock(0, 0).peer_outdated);
        pair.command(1, Command::Promote { force: true });
        pair.run();
        for node in 0..2 {
            pair.write(node, 0, node as u64);
            pair.run();
        }
        if demoted_before {
            pair.command(0, Command::Demote);
            pair.run();
        }
        pair.command(1, Command::Connect { discard_my_data: false });
        pair.connect();
        assert_eq!(pair.snapshot(0).connection, ConnectionState::SplitBrain);
        if !demoted_before {
            assert!(pair.superblock(0, 0).peer_outdated, "its clients go on");
            pair.command(0, Command::Demote);
            pair.run();
        }
        assert!(!pair.superblock(0, 0).peer_outdated, "demoted before: {demoted_before}");
        pair.kill(0);
        pair.run();
        assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent);
        let refused = Some(Err(CommandError::Refused(Refusal::NoUpToDateDisk)));
        assert_eq!(promote(&mut pair, 0, false), refused, "it hasn't met anybody yet");
    }
}

/// With fencing: alpha's handler had said that beta can't go on. It did, by force; what the handler said is void, and a forced
/// promotion asks it anew, as without a split brain.
#[test]
fn a_fence_does_not_outlive_a_split_brain() {
    let mut pair = Pair::fenced(1, Fencing::ResourceOnly);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.cut();
    pair.write(0, 0, 0);
    pair.fence_answers(0, FenceAnswer::PeerFenced);
    pair.command(1, Command::Promote { force: true });
    pair.fence_answers(1, FenceAnswer::PeerUnreachable);
    assert_eq!(pair.snapshot(1).role, Role::Primary);
    pair.write(1, 0, 1);
    pair.command(0, Command::Demote);
    pair.run();
    assert_eq!(pair.snapshot(0).fence, Some(FenceSnapshot::Settled));
    pair.connect();
    assert_eq!(pair.snapshot(0).connection, ConnectionState::SplitBrain);
    assert_eq!(pair.snapshot(0).fence, None);
    assert_eq!(promote(&mut pair, 0, false), REFUSED);
    assert_eq!(pair.fence_asked(0), None, "nobody is taken down for a promotion that is refused");
    pair.command(0, Command::Promote { force: true });
    pair.run();
    assert!(pair.fence_asked(0).is_some());
}

/// Nodes in split brain are in the midst of a meeting, in which alpha has found the split brain once more, when the operator
/// gives his word there. That meeting's end is no answer to it.
///
/// ```text
/// alpha SplitBrain ── View ──── beta SplitBrain
/// alpha decides    ── Decision ──►
/// alpha Connecting    ✂                            resolve --keep
/// alpha            ── View ──── beta               the one that knows of the word
/// ```
#[test]
fn a_meeting_under_way_is_no_answer_to_the_operators_word() {
    for keep in [Side::Local, Side::Peer] {
        let mut pair = met_apart([Role::Secondary; 2]);
        pair.hold_decision_of(1);
        let resolved = pair.command(0, Command::ResolveSplitBrain { keep });
        pair.let_wire_go(1);
        assert_eq!(pair.outcome(0, resolved), None, "it waits for a meeting that knows of it");
        pair.connect();
        assert_eq!(pair.outcome(0, resolved), Some(Ok(CommandOutcome::Done)));
        assert!(pair.is_in_sync());
    }
}

/// Nor does it undo a disconnect.
#[test]
fn a_meeting_under_way_is_left() {
    let mut pair = met_apart([Role::Secondary; 2]);
    pair.hold_decision_of(1);
    let left = pair.command(0, Command::Disconnect { force: false });
    pair.let_wire_go(1);
    assert_eq!(pair.outcome(0, left), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.snapshot(0).connection, ConnectionState::StandAlone);
}

/// Nor is it what a plan asks for.
#[test]
fn a_meeting_under_way_is_no_plan() {
    let mut pair = met_apart([Role::Secondary; 2]);
    pair.hold_decision_of(1);
    let planned = pair.command(0, Command::Plan { discard_my_data: true });
    pair.let_wire_go(1);
    assert_eq!(pair.outcome(0, planned), None);
    pair.connect();
    let Some(Ok(CommandOutcome::Plan(plan))) = pair.outcome(0, planned) else { panic!("a plan") };
    assert!(matches!(plan[0].decision.verdict, SyncVerdict::Target(_)), "{plan:?}");
}

/// Alpha's data stay, as was said on this node; its flush hangs, and beta's resync can't begin.
fn settling(said_on: usize, keep: Side) -> Pair {
    let mut pair = met_apart([Role::Secondary; 2]);
    pair.hold(0, Kind::Flush, 0);
    pair.command(said_on, Command::ResolveSplitBrain { keep });
    pair.run();
    pair.connect();
    pair
}

/// Nothing of the victim's data has been overwritten when the link goes again, and so it has them back. Its clients would have seen
/// the winner's by then, and written on top of them: until its resync has begun it isn't promoted, by force or not.
#[test]
fn a_victim_is_not_promoted_before_its_resync_has_begun() {
    let mut pair = settling(0, Side::Local);
    assert_eq!(pair.volume(1, 0).replication, ReplicationState::SyncTarget);
    for force in [false, true] {
        let refused = Some(Err(CommandError::Refused(Refusal::StillSettling)));
        assert_eq!(promote(&mut pair, 1, force), refused);
    }
    assert_eq!(pair.snapshot(1).promotion_refused, Some(Refusal::StillSettling));
    pair.let_go(0, Kind::Flush, 0);
    assert!(pair.is_in_sync());
    assert_eq!(promote(&mut pair, 1, false), Some(Ok(CommandOutcome::Done)));
}

/// The winner shows its own data, whatever becomes of the settlement.
#[test]
fn a_winner_is_promoted_at_once() {
    let mut pair = settling(1, Side::Peer);
    assert_eq!(promote(&mut pair, 0, false), Some(Ok(CommandOutcome::Done)));
    pair.cut();
    let seen = pair.snapshot(0);
    assert_eq!((seen.role, seen.connection), (Role::Primary, ConnectionState::SplitBrain));
    assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate);
}
