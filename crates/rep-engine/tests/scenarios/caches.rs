//! Disks without a volatile cache, and clients who are told that there is none (decision 38).

use crate::pair::{Kind, Pair};
use crate::write_through::{begun, done, flush};
use rep_engine::{Command, CommandOutcome};
use rep_types::{LeftDevice, Role, VolumeNumber};

/// A pair in sync, whose disks say whether they have a volatile cache.
fn pair_of(volatile: [bool; 2]) -> Pair {
    let mut pair = Pair::just_created(1);
    (0..2).for_each(|node| pair.set_cache(node, volatile[node]));
    (0..2).for_each(|node| pair.reinstall(node));
    pair.connect();
    pair.take_for_equal();
    pair
}

/// Whether a node's device is offered as one with a volatile cache, and is said to be in status.
fn offered_volatile(pair: &Pair, node: usize) -> bool {
    let offered = pair.offered(node).expect("offered").volatile_cache;
    assert_eq!(pair.volume(node, 0).volatile_cache, Some(offered));
    offered
}

/// Writes a block on node 0; whether the peer is asked to write it through.
fn is_through(pair: &mut Pair, block: u64) -> bool {
    let (write, through) = begun(pair, block, false);
    done(pair, write);
    through
}

/// Alpha's device is offered without a cache, then beta comes back with a disk that has one.
fn promised_beside_a_cache() -> Pair {
    let mut pair = pair_of([false, false]);
    pair.promote(0);
    assert!(!offered_volatile(&pair, 0));
    pair.set_cache(1, true);
    pair.kill(1);
    pair.connect();
    pair
}

fn leave(pair: &mut Pair, node: usize, volatile_cache: bool) {
    pair.leave_device(node, Some(LeftDevice { block_bytes: 512, volatile_cache }));
}

#[test]
fn no_cache_is_told_of_where_neither_disk_has_one() {
    for volatile in [[false, false], [false, true], [true, false], [true, true]] {
        let mut pair = pair_of(volatile);
        assert_eq!(pair.volume(0, 0).volatile_cache, None, "nothing is offered");
        pair.promote(0);
        assert_eq!(offered_volatile(&pair, 0), volatile.contains(&true), "{volatile:?}");
        assert_eq!(is_through(&mut pair, 3), !volatile.contains(&true), "{volatile:?}");
    }
}

/// Its disk may have one.
#[test]
fn a_cache_is_told_of_while_the_peer_isnt_there_or_doesnt_tell() {
    let mut pair = pair_of([false, false]);
    pair.cut();
    pair.promote(0);
    assert!(offered_volatile(&pair, 0));
    let mut pair = Pair::just_created(1);
    pair.without_features();
    (0..2).for_each(|node| pair.set_cache(node, false));
    (0..2).for_each(|node| pair.reinstall(node));
    pair.connect();
    pair.take_for_equal();
    pair.promote(0);
    assert!(offered_volatile(&pair, 0));
    assert!(!is_through(&mut pair, 3));
}

/// No flush reaches a disk, for there is nothing to be flushed.
#[test]
fn a_flush_finds_nothing_where_neither_disk_has_a_cache() {
    let mut pair = pair_of([false, false]);
    pair.cut();
    pair.promote(0);
    pair.connect();
    assert!(offered_volatile(&pair, 0), "it stays as it was offered");
    // Of what a resync did.
    flush(&mut pair);
    (0..2).for_each(|node| pair.hold(node, Kind::Flush, 0));
    for block in 3..9 {
        assert!(is_through(&mut pair, block));
    }
    flush(&mut pair);
}

/// ```text
/// alpha  Primary, "no cache"  ── link ──  beta   its disk has none
///                                         beta   comes back with another, which has one
///        writes ────── write through ──►
/// ```
#[test]
fn what_clients_were_told_holds_for_a_disk_that_comes_later() {
    let mut pair = promised_beside_a_cache();
    assert!(is_through(&mut pair, 3));
    // Of what a resync did.
    flush(&mut pair);
    // Alone as well.
    pair.cut();
    pair.hold(0, Kind::Flush, 0);
    let write = pair.write(0, 0, 4);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    // There is nothing to be flushed.
    flush(&mut pair);
    assert!(!offered_volatile(&pair, 0));
}

/// The next time it is Primary clients are told anew.
#[test]
fn a_promise_ends_with_the_device() {
    let mut pair = promised_beside_a_cache();
    pair.command(0, Command::Demote);
    pair.run();
    assert_eq!(pair.offered(0), None);
    pair.promote(0);
    assert!(offered_volatile(&pair, 0));
    assert!(!is_through(&mut pair, 3));
}

/// Whoever has it open sends no flushes, whatever the disks are.
#[test]
fn a_device_that_was_left_behind_without_a_cache_is_taken_over_so() {
    for told in [false, true] {
        let mut pair = pair_of([true, true]);
        pair.promote(0);
        leave(&mut pair, 0, told);
        pair.kill(0);
        pair.connect();
        pair.promote(0);
        assert_eq!(offered_volatile(&pair, 0), told);
        assert_eq!(is_through(&mut pair, 3), !told);
        // The device that is offered next is another.
        pair.command(0, Command::Demote);
        pair.run();
        pair.promote(0);
        assert!(offered_volatile(&pair, 0));
    }
}

/// Its clients were told of none, those of the new Primary of one: theirs are forwarded as FUA.
#[test]
fn what_is_forwarded_for_clients_who_know_of_no_cache_is_written_through() {
    let mut pair = promised_beside_a_cache();
    let handover = pair.command(0, Command::Handover);
    pair.run();
    assert_eq!(pair.outcome(0, handover), Some(Ok(CommandOutcome::Done)));
    assert!(offered_volatile(&pair, 1));
    assert!(is_through(&mut pair, 3));
    // Back again: the same device.
    let back = pair.command(1, Command::Handover);
    pair.run();
    assert_eq!(pair.outcome(1, back), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    assert!(!offered_volatile(&pair, 0));
    assert!(is_through(&mut pair, 4));
}

/// Stable before what it follows it must not be, not even by chance (R5): of two volumes one has a cache, on one node.
#[test]
fn nothing_is_written_through_beside_a_flush_that_has_something_to_do() {
    let mut pair = Pair::just_created(2);
    for node in 0..2 {
        pair.set_cache(node, false);
        pair.reinstall(node);
    }
    pair.connect();
    pair.take_for_equal();
    pair.command(1, Command::Detach { volume: VolumeNumber(1), force: false });
    pair.run();
    pair.set_cache(1, true);
    pair.attach(1, 1);
    pair.run();
    pair.promote(0);
    assert!(offered_volatile(&pair, 0), "the other volume has one");
    flush(&mut pair);
    assert!(is_through(&mut pair, 4));
    let cached = pair.write(0, 1, 5);
    pair.run();
    assert_eq!(pair.answer(0, cached), Some(Ok(())));
    assert!(is_through(&mut pair, 4), "of the same epoch");
    pair.hold(1, Kind::Flush, 1);
    let flush = pair.flush(0, 1);
    pair.run();
    assert_eq!(pair.answer(0, flush), None);
    assert!(!is_through(&mut pair, 6));
    pair.let_go(1, Kind::Flush, 1);
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
}

/// ```text
/// alpha  Primary, "no cache"  ✂  beta     a write fails, and with it the disk, which is attached again: what landed of that write
///                                         may be in a cache, whatever the disk says, and a client has read it
///        FUA write ────── is answered when the disk has flushed
/// ```
/// It covers all that completed before it (R4). Found by seed 1103256.
#[test]
fn a_fua_write_covers_what_landed_of_one_that_failed() {
    let mut pair = pair_of([false, false]);
    pair.promote(0);
    assert!(!offered_volatile(&pair, 0));
    pair.cut();
    pair.fail_write(0, 0, 5);
    pair.attach(0, 0);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    let write = pair.write_fua(0, 9);
    pair.run();
    assert_eq!((pair.answer(0, write), pair.held(0, Kind::Flush, 0)), (None, 1));
    pair.let_go(0, Kind::Flush, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold(0, Kind::Flush, 0);
    let next = pair.write_fua(0, 9);
    pair.run();
    assert_eq!(pair.answer(0, next), Some(Ok(())), "once is enough");
}
