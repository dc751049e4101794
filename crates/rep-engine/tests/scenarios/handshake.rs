//! Who fills whom, where the way to the handshake made the difference. The table itself is tested in `sync_decision`.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, Side};
use rep_meta::DataState;
use rep_types::{ConnectionState, DiskState, FenceAnswer, Fencing, GenerationId, Refusal, SyncVerdict, VolumeNumber};

const VOLUME: VolumeNumber = VolumeNumber(0);

/// ```text
/// alpha  Primary, wrote, its daemon is killed; then detached cleanly and attached again
/// beta   loses its power, and with it what was in its cache
/// ```
/// alpha has lost nothing: the clean end doesn't hide that its crash was the daemon's only. Found by seed 90560.
#[test]
fn a_clean_end_after_a_crash_of_the_daemon_lost_nothing() {
    let mut pair = Pair::with_primary(1);
    let write = pair.write(0, 0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.kill(0);
    pair.reboot(1);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.attach(0, 0);
    pair.run();
    pair.connect();
    let decision = pair.volume(0, 0).last_decision.expect("a handshake");
    assert!(matches!(decision.verdict, SyncVerdict::Source(_)), "alpha is filled from a disk that lost writes");
    assert!(pair.is_in_sync());
}

/// The source of a resync flushes what it is going to hand out. Where that fails it has lost writes the target may have,
/// so it must not have started a generation that makes its data pass for newer. Found by seed 66315.
#[test]
fn a_source_that_cannot_flush_starts_no_generation() {
    let mut pair = Pair::with_primary(1);
    pair.write(0, 0, 0);
    pair.run();
    pair.kill(0);
    let before = pair.superblock(1, 0).generations.current;
    pair.hold(1, Kind::Flush, 0);
    pair.connect();
    let decision = pair.volume(1, 0).last_decision.expect("a handshake");
    assert!(matches!(decision.verdict, SyncVerdict::Source(_)), "beta survived");
    pair.fail_held(1, Kind::Flush, 0);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
    assert_eq!(pair.superblock(1, 0).generations.current, before);
}

/// ```text
/// alpha Primary  x  beta      alone, alpha goes on: its data are newer
/// alpha no disk  x  beta      then its disk fails, the link comes back: beta's data are older than what clients have seen
/// alpha Primary === beta      its disk is attached again: both meet by themselves, beta is filled
/// ```
/// The two were called unrelated, for good, with the advice to give up the data of one. Found by the torture, seed 300.
#[test]
fn a_primary_that_gets_its_disk_back_is_met_again() {
    let mut pair = Pair::with_primary(1);
    pair.cut();
    let write = pair.write(0, 0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold(0, Kind::Flush, 0);
    pair.flush(0, 0);
    pair.run();
    pair.fail_held(0, Kind::Flush, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    pair.connect();
    for node in 0..2 {
        assert_eq!(pair.snapshot(node).connection, ConnectionState::Connecting, "node {node}");
    }
    pair.attach(0, 0);
    pair.run();
    pair.connect();
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha  Primary, source; has told beta its generations; then its disk fails
/// beta   target, takes them over: UpToDate, and says so
/// ```
/// From then on beta's is the only copy, with a generation that alpha's disk bears, too: alpha answers nothing before beta
/// has recorded that it goes on alone (R15). Found by seed 19448.
#[test]
fn a_source_that_loses_its_disk_at_the_end_of_a_resync_waits_for_the_peers_generation() {
    let mut pair = Pair::with_primary(1);
    pair.fill_without_a_last_word();
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    pair.hold_wire(0);
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    pair.let_wire_go(1);
    assert_eq!(pair.volume(0, 0).peer_disk, DiskState::UpToDate);
    assert_eq!(pair.answer(0, write), None, "answered while alpha's disk still passes for current");
    pair.let_wire_go(0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    let generations = [0, 1].map(|node| pair.superblock(node, 0).generations.current);
    assert_ne!(generations[0], generations[1]);
}

/// Nodes in split brain meet now and then. An operator's word that comes in the middle of a meeting isn't refused for what that
/// meeting, which knows nothing of it, finds.
#[test]
fn a_word_in_the_middle_of_a_meeting_counts_at_the_next() {
    let mut pair = Pair::with_primary(1);
    for node in 0..2 {
        pair.command(node, Command::Disconnect { force: true });
        pair.run();
    }
    pair.command(1, Command::Promote { force: true });
    pair.run();
    for node in 0..2 {
        pair.write(node, 0, node as u64);
        pair.run();
    }
    pair.command(1, Command::Demote);
    pair.run();
    for node in 0..2 {
        pair.command(node, Command::Connect { discard_my_data: false });
    }
    pair.connect();
    assert_eq!(pair.snapshot(1).connection, ConnectionState::SplitBrain);
    (0..2).for_each(|node| pair.hold_wire(node));
    pair.connect();
    let word = pair.command(1, Command::ResolveSplitBrain { keep: Side::Peer });
    (0..2).for_each(|node| pair.let_wire_go(node));
    assert_eq!(pair.outcome(1, word), None, "the next meeting tells");
    pair.connect();
    assert_eq!(pair.outcome(1, word), Some(Ok(CommandOutcome::Done)));
    assert!(pair.is_in_sync());
}

/// beta had told its view when it heard that alpha's disk had gone: the generation it began then was in no view, and
/// alpha's disk, which had come back, passed for as good as beta's (R17). Found by seed 15783.
#[test]
fn a_lost_disk_told_of_in_the_middle_of_a_handshake_counts_at_the_next() {
    let mut pair = Pair::with_primary(2);
    pair.command(1, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.hold_wire(0);
    pair.command(0, Command::Detach { volume: VolumeNumber(1), force: false });
    let write = pair.write(0, 1, 0);
    pair.run();
    pair.attach(0, 1);
    pair.attach(1, 0);
    pair.run();
    pair.let_wire_go(0);
    if pair.snapshot(0).connection != ConnectionState::Connected {
        pair.connect();
    }
    assert!(pair.answer(0, write).is_some());
    let [ours, theirs] = [0, 1].map(|node| pair.superblock(node, 1).generations.current);
    assert_eq!(ours, theirs, "taken for equal by a view of before the generation");
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha  UpToDate: beta left it, Outdated      beta  forced Primary, wrote
/// alpha  View ◄────────────────────────► View  beta
///        target: beta's data are newer    ✂    beta  has joined, alpha hears nothing of it
/// ```
/// alpha has heard enough to know that its data are old, and isn't promoted when beta has been fenced (R29, R31). Found by
/// seed 56954.
#[test]
fn who_has_seen_that_the_peer_went_on_is_outdated_though_it_never_joined() {
    let mut pair = gone_on_by_force();
    pair.connect_half(1);
    assert_eq!(pair.snapshot(1).connection, ConnectionState::Connected);
    pair.cut();
    assert_eq!((pair.volume(0, 0).disk, pair.superblock(0, 0).data), (DiskState::Outdated, DataState::Outdated));
    let promotion = pair.command(0, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(0, promotion), Some(Err(CommandError::Refused(Refusal::NoUpToDateDisk))));
    pair.connect();
    assert!(pair.is_in_sync(), "filled from beta");
}

/// Who only looked what a connection would do is as before.
#[test]
fn a_plan_outdates_nobody() {
    let mut pair = gone_on_by_force();
    pair.command(0, Command::Disconnect { force: false });
    let plan = pair.command(0, Command::Plan { discard_my_data: false });
    pair.run();
    pair.connect_half(1);
    pair.cut();
    assert_eq!((pair.outcome(0, plan), pair.volume(0, 0).disk), (None, DiskState::UpToDate));
}

/// beta left alpha, which knows it to be Outdated and went no further; then beta was forced Primary and wrote.
fn gone_on_by_force() -> Pair {
    let mut pair = Pair::fenced(1, Fencing::ResourceAndStonith);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.command(1, Command::Disconnect { force: false });
    pair.run();
    pair.command(0, Command::Demote);
    pair.run();
    assert!(pair.superblock(0, 0).peer_outdated);
    pair.command(1, Command::Promote { force: true });
    pair.run();
    pair.fence_answers(1, FenceAnswer::PeerUnreachable);
    let write = pair.write(1, 0, 1);
    pair.run();
    assert_eq!(pair.answer(1, write), Some(Ok(())));
    pair.command(1, Command::Connect { discard_my_data: false });
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate);
    pair
}

/// ```text
/// alpha  Primary; its disk of volume 0 is back: it has told its view, of a volume 1 that is the same on both
/// beta   the disk of volume 1 goes with a write on its way to it, and is back before alpha's view arrives
/// ```
/// alpha began a generation for the write, answered it, and then both decided by the view of before: volume 1 passed for equal
/// with the write on one disk only (R17). Found by seed 60495.
#[test]
fn a_peers_disk_lost_in_the_middle_of_a_handshake_counts_at_the_next() {
    let mut pair = Pair::with_primary(2);
    pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    (0..2).for_each(|node| pair.hold_wire(node));
    pair.command(1, Command::Detach { volume: VolumeNumber(1), force: false });
    let write = pair.write(0, 1, 0);
    pair.run();
    pair.attach(0, 0);
    pair.run();
    pair.let_wire_go(1);
    let apart = pair.snapshot(0).connection != ConnectionState::Connected;
    assert!(apart || pair.answer(0, write).is_none(), "answered while beta goes by a view of before the generation");
    pair.attach(1, 1);
    pair.run();
    pair.let_wire_go(0);
    assert_fills_peer(pair, write);
}

/// The same where beta's disk refuses the write instead: its negative answer meets a view that was told.
#[test]
fn a_negative_answer_in_the_middle_of_a_handshake_counts_at_the_next() {
    let mut pair = Pair::with_primary(2);
    pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.hold(1, Kind::Data, 1);
    let write = pair.write(0, 1, 0);
    pair.run();
    pair.hold_wire(0);
    pair.attach(0, 0);
    pair.run();
    pair.fail_held(1, Kind::Data, 1);
    pair.attach(1, 1);
    pair.run();
    pair.let_wire_go(0);
    assert_fills_peer(pair, write);
}

/// alpha has answered that write to volume 1, and the handshake that counts makes it beta's source.
fn assert_fills_peer(mut pair: Pair, write: u64) {
    if pair.snapshot(0).connection != ConnectionState::Connected {
        pair.connect();
    }
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    let decision = pair.volume(0, 1).last_decision.expect("a handshake");
    assert!(matches!(decision.verdict, SyncVerdict::Source(_)), "taken for equal by a view of before the generation");
    assert!(pair.is_in_sync());
}

fn busy_and_nothing_begun(pair: &mut Pair, node: usize, taken: u64) {
    assert_eq!(pair.outcome(node, taken), Some(Err(CommandError::Refused(Refusal::PeerBusy))));
    let begun = [0, 1].map(|node| pair.superblock(node, 0).generations.current);
    assert_eq!(begun, [GenerationId::JUST_CREATED; 2]);
}

fn taken_for_equal(pair: &mut Pair) {
    let taken = pair.new_generation(0, 0);
    pair.run();
    assert_eq!(pair.outcome(0, taken), Some(Ok(CommandOutcome::Done)));
    let [ours, theirs] = [0, 1].map(|node| pair.superblock(node, 0).generations.current);
    assert_eq!(ours, theirs);
    assert_eq!([0, 1].map(|node| pair.volume(node, 0).disk), [DiskState::UpToDate; 2]);
}

/// The operator takes new disks for equal on alpha, while beta has told its view: of a volume 0 without a generation, by which both
/// decide (R17). Beta can't begin one, and alpha, which has waited for it, hasn't either.
#[test]
fn a_generation_for_both_asked_for_in_the_middle_of_a_handshake_is_refused() {
    let mut pair = Pair::just_created(2);
    pair.command(1, Command::Detach { volume: VolumeNumber(1), force: false });
    pair.run();
    pair.hold_wire(1);
    pair.attach(1, 1);
    pair.run();
    let taken = pair.new_generation(0, 0);
    pair.run();
    pair.let_wire_go(1);
    busy_and_nothing_begun(&mut pair, 0, taken);
    taken_for_equal(&mut pair);
}

/// ```text
/// alpha                       beta
///                             resync --full of volume 1, which waits
/// new-generation  ───────►    busy: says so
/// ```
/// Without an answer alpha waited for ever, with a generation that beta lacked, and took no other command (seed 793096).
#[test]
fn a_generation_for_both_is_refused_by_a_peer_that_waits_for_something() {
    let mut pair = Pair::just_created(2);
    pair.new_generation(0, 1);
    pair.run();
    pair.hold_wire(1);
    let waits = pair.command(1, Command::ResyncFull { volume: VolumeNumber(1), from: Some(Side::Local) });
    pair.run();
    assert_eq!(pair.outcome(1, waits), None);
    let taken = pair.new_generation(0, 0);
    pair.run();
    pair.let_wire_go(1);
    busy_and_nothing_begun(&mut pair, 0, taken);
    pair.abandon(1, waits);
    pair.run();
    taken_for_equal(&mut pair);
}

/// Both operators at once: neither node follows the other, neither has begun anything, and either may try again.
#[test]
fn of_two_generations_for_both_at_once_neither_begins() {
    let mut pair = Pair::just_created(1);
    let taken = [0, 1].map(|node| pair.new_generation(node, 0));
    pair.run();
    for (node, taken) in taken.into_iter().enumerate() {
        busy_and_nothing_begun(&mut pair, node, taken);
    }
    taken_for_equal(&mut pair);
}
