//! A disk on its way out takes nothing any more, whatever else is told meanwhile.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, Notice};
use rep_meta::BootId;
use rep_types::{ConnectionState, DiskState, Refusal, ReplicationState, VolumeNumber};

const VOLUME: VolumeNumber = VolumeNumber(0);

/// beta detaches its second disk, and its first one fails before that has ended: the word on the first must not say of
/// the second that it is there again. Found by seed 14418.
#[test]
fn a_disk_being_detached_is_never_told_as_being_there() {
    let mut pair = Pair::with_primary(2);
    pair.hold(1, Kind::Meta, 1);
    pair.command(1, Command::Detach { volume: VolumeNumber(1), force: false });
    pair.run();
    assert_eq!(pair.volume(0, 1).peer_disk, DiskState::Diskless);
    pair.hold(1, Kind::Data, 0);
    pair.write(0, 0, 0);
    pair.run();
    pair.fail_held(1, Kind::Data, 0);
    assert_eq!(pair.volume(0, 0).peer_disk, DiskState::Diskless);
    assert_eq!(pair.volume(0, 1).peer_disk, DiskState::Diskless, "told as being there again");
    let lone = pair.write(0, 1, 0);
    pair.run();
    assert_eq!(pair.answer(0, lone), Some(Ok(())));
    pair.let_go(1, Kind::Meta, 1);
    (0..2).for_each(|volume| pair.attach(1, volume));
    pair.run();
    assert!(pair.is_in_sync());
}

/// A verify compares what both disks get, and this one gets nothing any more: every write since would be found to differ
/// (I-B9). Found by seed 6490.
#[test]
fn a_disk_being_detached_is_not_verified() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Meta, 0);
    pair.command(1, Command::Detach { volume: VOLUME, force: false });
    let verify = pair.command(1, Command::Verify { volume: VOLUME, repair_from: None });
    assert_eq!(pair.outcome(1, verify), Some(Err(CommandError::Refused(Refusal::Diskless))));
    pair.run();
    assert_eq!(pair.volume(1, 0).replication, ReplicationState::Established);
}

/// The same asked by the peer, which hasn't heard of the detach yet.
#[test]
fn a_disk_being_detached_is_not_verified_for_the_peer() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Meta, 0);
    pair.hold_wire(1);
    pair.command(1, Command::Detach { volume: VOLUME, force: false });
    pair.command(0, Command::Verify { volume: VOLUME, repair_from: None });
    pair.write(0, 0, 0);
    pair.run();
    assert_eq!(pair.volume(1, 0).replication, ReplicationState::Established, "follows with a disk it lets go of");
    pair.let_wire_go(1);
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::Established);
    let finished = |notice: &Notice| matches!(notice, Notice::VerifyFinished { .. });
    assert!(!pair.notices(0).iter().any(finished), "a verify that compared nothing has no result");
}

/// A clean end says that nothing of the disk is in its cache only: a node that loses its power afterwards would pass for
/// one that lost nothing, and fill a Primary that only lost its daemon. Found by seed 56196.
#[test]
fn a_clean_end_is_recorded_after_a_flush() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Flush, 0);
    let detach = pair.command(1, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    assert_eq!(pair.outcome(1, detach), None);
    assert_ne!(pair.superblock(1, 0).attached_boot, BootId::NONE, "recorded as clean before the flush");
    pair.let_go(1, Kind::Flush, 0);
    assert!(pair.outcome(1, detach).is_some());
    assert_eq!(pair.superblock(1, 0).attached_boot, BootId::NONE);
}

/// A flush that fails leaves no clean end behind (I-D6).
#[test]
fn a_detach_whose_flush_fails_is_no_clean_end() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Flush, 0);
    pair.command(1, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.fail_held(1, Kind::Flush, 0);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
    assert_eq!(pair.superblock(1, 0).attached_boot, BootId::CACHE_LOST);
}

/// alpha, Primary, gets its disk back and lets go of it again before beta's word to start the resync has come. That word
/// met alpha's own on its way and breaks no rule: the connection stands, and alpha's clients go on through beta.
/// Found by a busy operator.
#[test]
fn a_word_to_start_for_a_disk_just_let_go_of_is_no_breach() {
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.hold(1, Kind::Flush, 0);
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncTarget);
    pair.hold_wire(1);
    pair.let_go(1, Kind::Flush, 0);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    pair.let_wire_go(1);
    assert_eq!(pair.snapshot(0).connection, ConnectionState::Connected);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}
