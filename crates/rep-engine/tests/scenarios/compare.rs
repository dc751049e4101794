//! A resync that compares before it copies: when it does, and what it must not take for equal. On this bench every block
//! is as every other, so what is compared is found equal.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, Notice, Side};
use rep_types::{BLOCK_SIZE, EXTENT_SIZE, VolumeNumber};

const VOLUME: VolumeNumber = VolumeNumber(0);

/// What the last resync on this node copied, and what it found equal.
fn resynced(pair: &Pair, node: usize) -> (u64, u64) {
    let finished = |notice: &Notice| match notice {
        Notice::ResyncFinished { copied_bytes, equal_bytes, .. } => Some((*copied_bytes, *equal_bytes)),
        _ => None,
    };
    pair.node(node).notices.iter().rev().find_map(finished).expect("a resync has finished")
}

/// alpha, Primary, was killed with one extent hot; both nodes are up again, and not connected.
fn after_a_crash() -> Pair {
    let mut pair = Pair::with_primary(1);
    pair.write(0, 0, 5);
    pair.run();
    pair.kill(0);
    pair
}

fn after_a_crash_and_a_failover() -> Pair {
    let mut pair = after_a_crash();
    pair.command(1, Command::Promote { force: false });
    pair.run();
    pair
}

#[test]
fn after_a_primary_s_crash_only_what_differs_is_copied() {
    let mut pair = after_a_crash();
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 0), (0, EXTENT_SIZE));
    assert_eq!(resynced(&pair, 1), (0, EXTENT_SIZE));
}

#[test]
fn and_after_a_failover_too() {
    let mut pair = after_a_crash_and_a_failover();
    pair.write(1, 0, 4000);
    pair.run();
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 0), (0, EXTENT_SIZE + BLOCK_SIZE));
}

/// A Primary lives through the loss of its disk, and doesn't count as crashed; yet what was hot is marked as after a crash.
#[test]
fn a_disk_that_a_primary_lost_is_compared_when_it_is_back() {
    let mut pair = Pair::with_primary(1);
    pair.write(0, 0, 5);
    pair.run();
    pair.fail_write(0, 0, 6);
    pair.write(0, 0, 2000);
    pair.run();
    pair.attach(0, 0);
    pair.run();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 0), (0, EXTENT_SIZE + BLOCK_SIZE));
}

/// The same disk served alone before the peer came: it is the source.
#[test]
fn or_is_compared_with_a_peer_that_comes_after_it() {
    let mut pair = Pair::with_primary(1);
    pair.write(0, 0, 5);
    pair.run();
    pair.cut();
    pair.fail_write(0, 0, 6);
    pair.attach(0, 0);
    pair.run();
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 1), (0, EXTENT_SIZE));
}

/// What a failed flush has lost may be shown by the disk all the same, and no later flush makes it stable: it is written anew, also where the
/// target's daemon dies in the middle. Found by seeds 339, 6853 and 8280.
#[test]
fn a_disk_that_failed_a_flush_is_written_anew() {
    let mut pair = Pair::with_primary(1);
    pair.write(0, 0, 5);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    pair.flush(0, 0);
    pair.run();
    pair.fail_held(0, Kind::Flush, 0);
    pair.hold(1, Kind::Data, 0);
    pair.attach(0, 0);
    pair.run();
    assert!(pair.held(1, Kind::Data, 0) > 0, "it is being filled");
    pair.kill(0);
    pair.let_go(1, Kind::Data, 0);
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 0), (EXTENT_SIZE, 0));
}

/// The bits are exact: asking would be in vain.
#[test]
fn what_was_written_while_apart_is_copied_unasked() {
    let mut pair = Pair::with_primary(1);
    pair.cut();
    pair.write(0, 0, 5);
    pair.run();
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 1), (BLOCK_SIZE, 0));
}

#[test]
fn a_peer_of_an_older_version_is_not_asked() {
    let mut pair = after_a_crash();
    pair.without_features();
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 0), (EXTENT_SIZE, 0));
}

/// `resync --full` copies every block: the operator may not trust what the disk gives back.
#[test]
fn the_operator_s_full_resync_asks_nothing() {
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::ResyncFull { volume: VOLUME, from: Some(Side::Local) });
    pair.run();
    assert!(pair.is_in_sync());
    assert_eq!(resynced(&pair, 1), (4 * EXTENT_SIZE, 0));
}

/// A client's write doesn't come between the two sides' reads: it waits until the source has compared.
#[test]
fn a_write_waits_for_the_comparison() {
    let mut pair = after_a_crash_and_a_failover();
    pair.hold(1, Kind::Data, 0);
    pair.connect();
    let reads = pair.held(1, Kind::Data, 0);
    assert!(reads > 0, "the source reads what it was asked about");
    let write = pair.write(1, 0, 5);
    pair.run();
    assert_eq!(pair.held(1, Kind::Data, 0), reads, "the write waits");
    pair.let_go(1, Kind::Data, 0);
    assert_eq!(pair.answer(1, write), Some(Ok(())));
    assert!(pair.is_in_sync());
}

/// What was asked and not answered when the link went may differ, on both nodes.
#[test]
fn a_question_without_an_answer_proves_nothing() {
    let mut pair = after_a_crash();
    pair.hold(1, Kind::Data, 0);
    pair.connect();
    assert!(pair.held(1, Kind::Data, 0) > 0, "asked");
    pair.cut();
    pair.let_go(1, Kind::Data, 0);
    for node in 0..2 {
        assert_eq!(pair.volume(node, 0).out_of_sync_bytes, EXTENT_SIZE, "node {node}");
    }
    pair.connect();
    assert!(pair.is_in_sync());
}

/// Equal on the target's disk isn't stable there: the bits clear with its flush.
#[test]
fn what_is_equal_counts_when_both_disks_are_flushed() {
    let mut pair = after_a_crash();
    pair.hold(0, Kind::Flush, 0);
    pair.connect();
    for node in 0..2 {
        assert_eq!(pair.volume(node, 0).out_of_sync_bytes, EXTENT_SIZE, "node {node}");
    }
    pair.let_go(0, Kind::Flush, 0);
    assert!(pair.is_in_sync());
}
