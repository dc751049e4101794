//! Several volumes: which one is resynced when.

use crate::pair::{Kind, Pair};
use rep_engine::Command;
use rep_types::{ReplicationState, VolumeNumber};

/// Two volumes of which beta lacks a block each; connected, alpha's reads of the first are held.
fn both_to_be_filled() -> Pair {
    let mut pair = Pair::with_primary(2);
    pair.cut();
    for volume in 0..2 {
        pair.write(0, volume, 5);
    }
    pair.run();
    pair.hold(0, Kind::Data, 0);
    pair
}

fn out_of_sync(pair: &Pair, volume: usize) -> u64 {
    pair.volume(1, volume).out_of_sync_bytes
}

/// While the first is being copied nothing of the second is asked for, though its disks are idle.
#[test]
fn the_second_waits_for_the_first() {
    let mut pair = both_to_be_filled();
    pair.connect();
    assert_eq!(pair.held(0, Kind::Data, 0), 1, "the first volume's block is being read");
    assert!(out_of_sync(&pair, 1) > 0, "the second waits");
    pair.let_go(0, Kind::Data, 0);
    assert!(pair.is_in_sync());
}

/// A pause of the first is none of the second. It was said on the source, before there was a connection: the target has
/// to hear of it on the new one.
#[test]
fn a_paused_one_keeps_nobody_waiting() {
    let mut pair = both_to_be_filled();
    pair.command(0, Command::PauseSync { volume: VolumeNumber(0), paused: true });
    pair.connect();
    for (node, state) in [(0, ReplicationState::PausedSyncS), (1, ReplicationState::PausedSyncT)] {
        assert_eq!(pair.volume(node, 0).replication, state);
    }
    assert_eq!(pair.held(0, Kind::Data, 0), 0, "nothing of the first is asked for");
    assert!(out_of_sync(&pair, 0) > 0);
    assert_eq!(out_of_sync(&pair, 1), 0, "the second is done");
    pair.command(0, Command::PauseSync { volume: VolumeNumber(0), paused: false });
    pair.let_go(0, Kind::Data, 0);
    assert!(pair.is_in_sync());
}

/// The first's source loses its disk under way: the second goes on.
#[test]
fn a_failed_one_keeps_nobody_waiting() {
    let mut pair = both_to_be_filled();
    pair.connect();
    assert!(out_of_sync(&pair, 1) > 0, "the second waits");
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!(out_of_sync(&pair, 1), 0, "the second is done");
    assert!(out_of_sync(&pair, 0) > 0);
}

/// The second is ready to be copied first, since its disk was faster to write that down: it waits all the same.
#[test]
fn a_later_one_that_is_ready_earlier_waits_too() {
    let mut pair = both_to_be_filled();
    pair.hold(1, Kind::Meta, 0);
    pair.connect();
    assert!(out_of_sync(&pair, 1) > 0, "the second waits");
    pair.let_go(0, Kind::Data, 0);
    pair.let_go(1, Kind::Meta, 0);
    assert!(pair.is_in_sync());
}
