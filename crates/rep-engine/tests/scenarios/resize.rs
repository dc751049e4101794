//! Growing: one step agreed by both, whatever comes between its halves.

use crate::pair::{DEVICE_BYTES, Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, Notice};
use rep_types::{Refusal, VolumeNumber};

const RESIZE: Command = Command::Resize { volume: VolumeNumber(0), assume_clean: false };

fn sizes(pair: &mut Pair) -> [u64; 2] {
    [0, 1].map(|node| pair.volume(node, 0).size_bytes)
}

fn remembered(pair: &mut Pair) -> [u64; 2] {
    [0, 1].map(|node| pair.superblock(node, 0).agreed_bytes)
}

fn with_grown_disks() -> Pair {
    let mut pair = Pair::with_primary(1);
    (0..2).for_each(|node| pair.grow_disks(node));
    pair
}

fn assert_grown(pair: &mut Pair) {
    assert!(pair.is_in_sync());
    assert_eq!((sizes(pair), remembered(pair)), ([2 * DEVICE_BYTES; 2], [2 * DEVICE_BYTES; 2]));
    let offered = |notice: &Notice| matches!(notice, Notice::Grown { to_bytes, .. } if *to_bytes == 2 * DEVICE_BYTES);
    assert!(pair.notices(0).iter().any(offered), "the Primary's clients have it");
    let copied = pair.volume(1, 0).counters.resynced_bytes;
    assert!(copied >= DEVICE_BYTES, "the new area was copied: {copied}");
}

#[test]
fn both_disks_grew_and_the_volume_follows_on_either_nodes_word() {
    for node in 0..2 {
        let mut pair = with_grown_disks();
        let resize = pair.command(node, RESIZE);
        pair.run();
        assert_eq!(pair.outcome(node, resize), Some(Ok(CommandOutcome::Done)));
        assert_grown(&mut pair);
    }
}

#[test]
fn the_disk_that_has_not_grown_is_named() {
    let refusals =
        [(vec![], Refusal::DisksNotGrown), (vec![0], Refusal::PeerDiskNotGrown), (vec![1], Refusal::DiskNotGrown)];
    for (grown, refusal) in refusals {
        let mut pair = Pair::with_primary(1);
        grown.iter().for_each(|node| pair.grow_disks(*node));
        let resize = pair.command(0, RESIZE);
        pair.run();
        assert_eq!(pair.outcome(0, resize), Some(Err(CommandError::Refused(refusal))));
        assert_eq!((sizes(&mut pair), remembered(&mut pair)), ([DEVICE_BYTES; 2], [DEVICE_BYTES; 2]));
    }
}

/// beta, the follower, remembers the size, and the connection goes before the leader hears of it.
fn remembered_by_the_follower() -> Pair {
    let mut pair = with_grown_disks();
    (0..2).for_each(|node| pair.hold_wire(node));
    let resize = pair.command(0, RESIZE);
    while remembered(&mut pair)[1] == DEVICE_BYTES {
        let moved = pair.deliver_one(1) | pair.deliver_one(0);
        pair.run();
        assert!(moved, "it came to nothing");
    }
    assert_eq!(remembered(&mut pair), [DEVICE_BYTES, 2 * DEVICE_BYTES]);
    pair.cut();
    assert_eq!(pair.outcome(0, resize), Some(Err(CommandError::PeerLost)));
    assert_eq!(pair.volume(0, 0).size_bytes, DEVICE_BYTES, "not before both remember it");
    (0..2).for_each(|node| pair.let_wire_go(node));
    pair
}

/// At the next handshake the leader takes the size over, and its clients get it then.
#[test]
fn the_leader_learns_at_the_next_handshake_what_the_follower_did() {
    let mut pair = remembered_by_the_follower();
    pair.connect();
    assert_grown(&mut pair);
}

/// The leader was Primary, and its daemon restarts: it takes the size over at the next handshake, on a slow disk, and beta is promoted
/// meanwhile. beta's clients get the size when alpha remembers it, too: were beta to go then, alpha's device would be smaller. Found by
/// seed 1071580.
#[test]
fn who_is_promoted_offers_no_size_that_the_peer_is_only_about_to_remember() {
    let mut pair = remembered_by_the_follower();
    pair.kill(0);
    pair.hold(0, Kind::Meta, 0);
    pair.connect();
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!((pair.outcome(1, promotion), pair.offered(1)), (None, None));
    assert_eq!(remembered(&mut pair), [DEVICE_BYTES, 2 * DEVICE_BYTES]);
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.offered(1).map(|offer| offer.size_bytes), Some(2 * DEVICE_BYTES));
    assert_eq!(remembered(&mut pair), [2 * DEVICE_BYTES; 2]);
}

/// Both nodes' operators at once: both mark and remember, neither has anything to take over, and they meet all the same.
/// Found by seed 241.
#[test]
fn both_operators_may_say_so_at_once() {
    let mut pair = with_grown_disks();
    (0..2).for_each(|node| pair.hold_wire(node));
    let commands = [0, 1].map(|node| pair.command(node, RESIZE));
    (0..2).for_each(|node| pair.let_wire_go(node));
    pair.run();
    for (node, command) in commands.into_iter().enumerate() {
        assert_eq!(pair.outcome(node, command), Some(Ok(CommandOutcome::Done)), "node {node}");
    }
    assert_grown(&mut pair);
}

/// The leader's disk fails while its metadata are being made to fit: nobody remembers anything, and it can be said again.
#[test]
fn a_disk_that_fails_in_the_middle_leaves_the_old_size() {
    let mut pair = with_grown_disks();
    pair.hold(0, Kind::Meta, 0);
    let resize = pair.command(0, RESIZE);
    pair.run();
    pair.fail_held(0, Kind::Meta, 0);
    assert_eq!(pair.outcome(0, resize), Some(Err(CommandError::DiskFailed)));
    assert_eq!(remembered(&mut pair), [DEVICE_BYTES; 2]);
    pair.attach(0, 0);
    pair.run();
    let again = pair.command(0, RESIZE);
    pair.run();
    assert_eq!(pair.outcome(0, again), Some(Ok(CommandOutcome::Done)));
    assert!(pair.is_in_sync());
    assert_eq!(remembered(&mut pair), [2 * DEVICE_BYTES; 2]);
}
