//! Verifies: every block is compared, also by one that was interrupted.

use crate::pair::{DEVICE_BYTES, Kind, Pair};
use rep_engine::{Command, Notice, Side, VerifyRun, VerifyState, Why};
use rep_types::{DiskState, ReplicationState, VolumeNumber};

fn verify(pair: &mut Pair, node: usize) {
    pair.command(node, Command::Verify { volume: VolumeNumber(0), repair_from: None });
    pair.run();
}

fn done_bytes(pair: &Pair, node: usize) -> u64 {
    pair.volume(node, 0).verify.expect("a verify runs").done_bytes
}

/// Eight ranges are under way; all but the first have been compared when the operator stops the verify. Asked for again, it
/// begins with the one that is missing: it used to count how many were under way, not which.
#[test]
fn a_verify_goes_on_with_the_first_range_not_compared() {
    let mut pair = Pair::in_sync(1);
    pair.hold(0, Kind::Data, 0);
    verify(&mut pair, 0);
    let begun = pair.held(0, Kind::Data, 0);
    assert!(begun > 1, "{begun} ranges under way");
    (1..begun).for_each(|_| pair.let_newest_go(0, Kind::Data, 0));
    assert_eq!(done_bytes(&pair, 0), 0, "the first is still being read");
    pair.command(0, Command::StopVerify { volume: VolumeNumber(0) });
    pair.run();
    verify(&mut pair, 0);
    assert_eq!(done_bytes(&pair, 0), 0, "the first has still to be compared");
}

/// ```text
/// alpha  was Primary last; its disk is to be repaired from beta's
/// beta   leads the verify, and finds a difference; the link goes with its word to alpha
/// ```
/// The handshake that follows would have copied from the last Primary, alpha: the other way.
#[test]
fn a_repair_goes_the_way_it_was_asked_for_also_over_a_lost_link() {
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::Demote);
    pair.run();
    pair.change_block(0, 3);
    pair.hold(0, Kind::Data, 0);
    pair.command(1, Command::Verify { volume: VolumeNumber(0), repair_from: Some(Side::Local) });
    pair.run();
    pair.hold_wire(1);
    pair.let_go(0, Kind::Data, 0);
    pair.cut();
    pair.let_wire_go(1);
    assert_eq!((pair.volume(0, 0).out_of_sync_bytes, pair.volume(1, 0).out_of_sync_bytes), (0, 4096));
    pair.hold(1, Kind::Data, 0);
    pair.connect();
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncTarget);
    pair.let_go(1, Kind::Data, 0);
    assert!(pair.is_in_sync());
}

fn run_of(pair: &Pair, node: usize) -> VerifyRun {
    pair.volume(node, 0).verify_run.expect("there was a verify")
}

/// A verify of node 0 has compared the first of its ranges, and has found that block 3 differs; the others are being read.
fn interrupted_behind_a_difference(pair: &mut Pair) -> u64 {
    pair.change_block(0, 3);
    pair.hold(0, Kind::Data, 0);
    verify(pair, 0);
    let begun = pair.held(0, Kind::Data, 0);
    (1..begun).for_each(|_| pair.let_newest_go(0, Kind::Data, 0));
    pair.let_newest_go(0, Kind::Data, 0);
    let done = done_bytes(pair, 0);
    assert!(done > 0, "the first ranges have been compared");
    done
}

/// Nobody compares any more: that used to be all there was to see of a verify, whether it came to its end or was stopped at its
/// first block.
#[test]
fn how_a_verify_ended_is_told() {
    let mut pair = Pair::in_sync(1);
    assert_eq!(pair.volume(0, 0).verify_run, None, "there was none");
    verify(&mut pair, 0);
    let first = run_of(&pair, 0);
    assert_eq!((first.state, first.compared_bytes, first.different_bytes), (VerifyState::Completed, DEVICE_BYTES, 0));
    assert_eq!(pair.volume(1, 0).verify_run, None, "this node led none");

    let done = interrupted_behind_a_difference(&mut pair);
    let running = run_of(&pair, 0);
    assert_eq!((running.state, running.compared_bytes), (VerifyState::Running, done));
    assert_ne!(running.run, first.run, "another run has another name");
    pair.command(0, Command::StopVerify { volume: VolumeNumber(0) });
    pair.run();
    let stopped = run_of(&pair, 0);
    assert_eq!((stopped.run, stopped.state), (running.run, VerifyState::Stopped(Why::Command)));
    assert_eq!((stopped.compared_bytes, stopped.marked_bytes), (done, 4096));

    pair.let_go(0, Kind::Data, 0);
    verify(&mut pair, 0);
    let ended = run_of(&pair, 0);
    assert_eq!((ended.run, ended.state, ended.resumed_at_bytes), (running.run, VerifyState::Completed, done));
    assert_eq!((ended.different_bytes, ended.marked_bytes), (4096, 4096));
}

/// ```text
/// alpha  leads a verify that has found a difference; the link is lost
/// alpha, beta  meet again: the handshake has what was found copied; the verify goes on
/// ```
/// What it found before counts as found, and no longer as marked: it used to be called marked.
#[test]
fn what_a_handshake_has_mended_is_not_called_marked() {
    let mut pair = Pair::with_primary(1);
    let done = interrupted_behind_a_difference(&mut pair);
    pair.cut();
    let stopped = run_of(&pair, 0);
    assert_eq!((stopped.compared_bytes, stopped.marked_bytes), (done, 4096));
    assert!(matches!(stopped.state, VerifyState::Stopped(Why::LinkLost(_))), "{:?}", stopped.state);
    pair.let_go(0, Kind::Data, 0);
    pair.connect();
    assert!(pair.is_in_sync());
    verify(&mut pair, 0);
    let ended = run_of(&pair, 0);
    assert_eq!((ended.run, ended.state, ended.resumed_at_bytes), (stopped.run, VerifyState::Completed, done));
    assert_eq!((ended.different_bytes, ended.marked_bytes), (4096, 0));
    let finished = pair.notices(0).iter().rev().find(|notice| matches!(notice, Notice::VerifyFinished { .. }));
    let told = Notice::VerifyFinished { volume: VolumeNumber(0), different_bytes: 4096, marked_bytes: 0 };
    assert_eq!(finished, Some(&told));
}

/// The disk that was compared is let go of, in the middle of a verify; what comes in its place hasn't been compared.
#[test]
fn a_verify_begins_anew_with_another_disk() {
    let mut pair = Pair::in_sync(1);
    interrupted_behind_a_difference(&mut pair);
    pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    assert_eq!(pair.volume(0, 0).verify_run, None, "the disk is gone, and what was known of it");
    pair.attach(0, 0);
    pair.run();
    assert!(pair.is_in_sync());
    verify(&mut pair, 0);
    let ended = run_of(&pair, 0);
    assert_eq!((ended.state, ended.resumed_at_bytes), (VerifyState::Completed, 0));
}

/// The same with the peer's disk, let go of while they are connected...
#[test]
fn a_verify_begins_anew_with_another_disk_of_the_peer() {
    let mut pair = Pair::in_sync(1);
    interrupted_behind_a_difference(&mut pair);
    pair.command(1, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.let_go(0, Kind::Data, 0);
    let stopped = run_of(&pair, 0);
    assert!(matches!(stopped.state, VerifyState::Stopped(_)), "{:?}", stopped.state);
    assert_eq!((stopped.compared_bytes, stopped.marked_bytes), (0, 0));
    pair.attach(1, 0);
    pair.run();
    assert!(pair.is_in_sync());
    verify(&mut pair, 0);
    let ended = run_of(&pair, 0);
    assert_eq!((ended.state, ended.resumed_at_bytes), (VerifyState::Completed, 0));
    assert_ne!(ended.run, stopped.run, "whoever waits for the one that was stopped isn't told of this one");
}

/// ...and replaced while nobody saw it: it is filled whole, and none of it has been compared.
#[test]
fn a_verify_begins_anew_when_the_peer_was_installed_anew() {
    let mut pair = Pair::with_primary(1);
    let done = interrupted_behind_a_difference(&mut pair);
    pair.cut();
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(run_of(&pair, 0).compared_bytes, done);
    pair.reinstall(1);
    pair.connect();
    assert!(pair.is_in_sync());
    verify(&mut pair, 0);
    let ended = run_of(&pair, 0);
    assert_eq!((ended.state, ended.resumed_at_bytes), (VerifyState::Completed, 0));
}

/// The node that doesn't lead sees how far it is, too, and who has it halted.
#[test]
fn both_nodes_see_how_far_a_verify_is() {
    let mut pair = Pair::in_sync(1);
    pair.hold(0, Kind::Data, 0);
    verify(&mut pair, 0);
    let begun = pair.held(0, Kind::Data, 0);
    let seen = |pair: &Pair, node| pair.volume(node, 0).verify.expect("a verify runs");
    assert_eq!((seen(&pair, 0).done_bytes, seen(&pair, 1).done_bytes), (0, 0));
    pair.command(1, Command::PauseSync { volume: VolumeNumber(0), paused: true });
    pair.run();
    (0..begun).for_each(|_| pair.let_newest_go(0, Kind::Data, 0));
    let halted = seen(&pair, 0);
    assert!(halted.done_bytes > 0 && halted.done_bytes < DEVICE_BYTES, "{halted:?}");
    assert_eq!(seen(&pair, 1).done_bytes, halted.done_bytes);
    assert_eq!((halted.halted_by, seen(&pair, 1).halted_by), (Some(Side::Peer), Some(Side::Local)));
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(seen(&pair, 0).done_bytes, halted.done_bytes, "halted");
    pair.command(1, Command::PauseSync { volume: VolumeNumber(0), paused: false });
    pair.run();
    assert_eq!((pair.volume(0, 0).verify, pair.volume(1, 0).verify), (None, None));
    assert_eq!(run_of(&pair, 0).state, VerifyState::Completed);
}
