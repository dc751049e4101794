//! What a disk counts as when it comes, and when it is found equal to the peer's.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, Notice, Why};
use rep_meta::{BootId, DataState};
use rep_types::{ConnectionState, DiskState, IoError, LinkCause, Refusal, ReplicationState, VolumeNumber};
use rep_wire::{ControlMessage, Message};
use std::time::Duration;

const VOLUME: VolumeNumber = VolumeNumber(0);

/// beta found its data equal to alpha's and writes that down, on a slow disk; meanwhile the operator gives its data up.
/// The late word that they are good must not make them UpToDate. Found by seed 37896.
#[test]
fn data_given_up_while_found_good_stay_given_up() {
    let mut pair = being_found_good();
    pair.command(1, Command::Invalidate { volume: VOLUME });
    pair.run();
    pair.hold_wire(0);
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Inconsistent);
    assert_eq!(pair.superblock(1, 0).data, DataState::Inconsistent);
    pair.let_wire_go(0);
    assert!(pair.is_in_sync(), "filled from alpha");
}

/// The same with the word that they are outdated: whoever goes on at alpha relies on it (R31).
#[test]
fn data_outdated_while_found_good_stay_outdated() {
    let mut pair = being_found_good();
    pair.cut();
    let outdate = pair.command(1, Command::Outdate { volume: VOLUME });
    pair.run();
    assert_eq!(pair.outcome(1, outdate), None, "not durable yet");
    pair.let_go(1, Kind::Meta, 0);
    assert!(pair.outcome(1, outdate).is_some());
    assert_eq!(pair.volume(1, 0).disk, DiskState::Outdated);
    assert_eq!(pair.superblock(1, 0).data, DataState::Outdated);
}

/// Connected, equal, and beta's superblock on its way.
fn being_found_good() -> Pair {
    let mut pair = Pair::in_sync(1);
    pair.reboot(1);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Consistent);
    pair.hold(1, Kind::Meta, 0);
    pair.connect();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Consistent);
    pair
}

/// alpha's disk knows that beta left Outdated, and has marks. It comes back while beta is there: what it counts as is for
/// the handshake to say (R28). Found by seed 59972.
#[test]
fn a_disk_that_comes_under_a_connection_waits_for_the_handshake() {
    let mut pair = Pair::with_primary(1);
    pair.command(1, Command::Disconnect { force: false });
    pair.run();
    let write = pair.write(0, 0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert!(pair.superblock(0, 0).peer_outdated);
    pair.command(0, Command::Demote);
    pair.run();
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.command(1, Command::Connect { discard_my_data: false });
    pair.run();
    pair.connect();
    pair.hold_wire(1);
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent);
    pair.let_wire_go(1);
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha  Primary, beta has left  ✂  beta   never hears that alpha takes it for Outdated
/// alpha  loses its disk ═══════════ beta   carries alpha's clients, in a generation of its own
/// alpha  gets its disk back      ✂  beta   has what was answered since
/// ```
/// What alpha's disk says of beta is past. With it for UpToDate alpha's clients would go back in time, and the two apart.
/// Found by seed 60122.
#[test]
fn a_disk_that_was_away_while_the_peer_went_on_is_not_good_for_what_it_says_of_the_peer() {
    for heard in [true, false] {
        let mut pair = Pair::with_primary(1);
        pair.hold_wire(0);
        pair.command(1, Command::Disconnect { force: false });
        pair.run();
        pair.cut();
        pair.let_wire_go(0);
        assert_eq!(pair.volume(1, 0).disk, DiskState::UpToDate, "beta hasn't heard");
        assert!(pair.superblock(0, 0).peer_outdated);
        pair.hold(0, Kind::Data, 0);
        let lost = pair.read(0, 0, 1);
        pair.run();
        pair.fail_held(0, Kind::Data, 0);
        assert_eq!(pair.answer(0, lost), Some(Err(IoError::Io)));
        pair.command(1, Command::Connect { discard_my_data: false });
        pair.run();
        if heard {
            pair.connect();
            let write = pair.write(0, 0, 2);
            pair.run();
            assert_eq!(pair.answer(0, write), Some(Ok(())), "beta carries");
        } else {
            pair.connect_half(1);
        }
        pair.cut();
        pair.attach(0, 0);
        pair.run();
        assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent, "beta went on; heard of it: {heard}");
        assert!(!pair.superblock(0, 0).peer_outdated);
        pair.connect();
        assert!(pair.is_in_sync(), "filled from beta");
    }
}

/// alpha became Primary without its disk, and gets it back, as good as beta's. What its clients write while both nodes are
/// deciding goes to both disks: beta isn't the only one any more and begins no generation (R17). Found by seed 13035.
#[test]
fn a_write_during_the_handshake_for_a_disk_that_came_back_is_on_both() {
    let mut pair = Pair::in_sync(1);
    pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.hold_wire(1);
    pair.attach(0, 0);
    pair.run();
    let write = pair.write(0, 0, 5);
    pair.run();
    pair.let_wire_go(1);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert!(pair.is_in_sync());
}

/// beta lost power before its disk was taken for equal to alpha's. Later, as Primary, only its daemon dies, while alpha loses
/// power and what it hadn't flushed. The old loss of power is settled: beta is the one that has all that was answered, and
/// is the source. Found by seed 3728.
#[test]
fn a_loss_of_power_before_the_first_generation_is_settled_by_it() {
    let mut pair = Pair::just_created(1);
    pair.reboot(1);
    pair.connect();
    pair.take_for_equal();
    pair.command(1, Command::Promote { force: false });
    pair.run();
    let write = pair.write(1, 0, 5);
    pair.run();
    assert_eq!(pair.answer(1, write), Some(Ok(())));
    pair.kill(1);
    pair.reboot(0);
    pair.hold(1, Kind::Data, 0);
    pair.connect();
    assert_eq!(pair.volume(1, 0).replication, ReplicationState::SyncSource);
    pair.let_go(1, Kind::Data, 0);
    assert!(pair.is_in_sync());
}

/// alpha works on beta's disk alone; a write waits there for the activity log while alpha gets its disk back. What that
/// lacks is decided at once, and the waiting write is part of it. Found by seed 51254.
#[test]
fn a_write_that_waits_for_the_log_counts_when_the_peer_brings_its_disk() {
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.hold(1, Kind::Meta, 0);
    let write = pair.write(0, 0, 5);
    pair.run();
    assert_eq!(pair.held(1, Kind::Meta, 0), 1, "the log's transaction");
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), None);
    assert!(!pair.is_in_sync(), "alpha's disk lacks the write");
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert!(pair.is_in_sync());
}

/// beta lets its disk go and brings it back while a write of alpha is on its way, which alpha marks when it hears of the
/// first. The write must not reach the disk: the resync of its block, which alpha doesn't keep apart from it any more, could
/// land before it. Found by seed 61580.
#[test]
fn a_disk_just_attached_takes_no_write_meant_for_the_one_before() {
    let mut pair = Pair::with_primary(1);
    pair.hold_wire(0);
    let write = pair.write(0, 0, 5);
    pair.run();
    pair.command(1, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
    assert_eq!(pair.answer(0, write), Some(Ok(())), "marked, and answered");
    pair.attach(1, 0);
    pair.run();
    pair.hold(1, Kind::Data, 0);
    pair.deliver_one(0);
    assert_eq!(pair.held(1, Kind::Data, 0), 0, "the write reached the disk");
    pair.let_go(1, Kind::Data, 0);
    pair.let_wire_go(0);
    assert!(pair.is_in_sync());
}

/// A disk that came to a daemon which ends would be left as if it had crashed: it isn't taken.
#[test]
fn a_daemon_that_ends_takes_no_disk() {
    let mut pair = Pair::in_sync(2);
    pair.command(1, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.hold(1, Kind::Flush, 1);
    let end = pair.command(1, Command::Shutdown);
    pair.run();
    assert_eq!(pair.outcome(1, end), None);
    let attach = pair.try_attach(1, 0);
    pair.run();
    assert_eq!(pair.outcome(1, attach), Some(Err(CommandError::Refused(Refusal::Busy))));
    pair.let_go(1, Kind::Flush, 1);
    assert_eq!(pair.outcome(1, end), Some(Ok(CommandOutcome::Done)));
    assert_eq!([0, 1].map(|volume| pair.volume(1, volume).disk), [DiskState::Diskless; 2]);
}

/// One that is just coming is waited for, and let go of as cleanly as the others, which don't wait for it. Found by seed 1009339.
#[test]
fn a_disk_that_is_coming_as_the_daemon_ends_is_left_cleanly() {
    let (mut pair, end) = ending_while_a_disk_comes();
    assert_eq!(pair.outcome(1, end), None, "what came would be left as if it had crashed");
    assert_eq!(pair.superblock(1, 1).attached_boot, BootId::NONE, "volume 1 waits for volume 0's disk");
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!(pair.outcome(1, end), Some(Ok(CommandOutcome::Done)));
    assert_eq!([0, 1].map(|volume| pair.volume(1, volume).disk), [DiskState::Diskless; 2]);
    assert_eq!(pair.superblock(1, 0).attached_boot, BootId::NONE);
}

/// One that never comes is given up with the operator's patience.
#[test]
fn a_disk_that_never_comes_keeps_no_daemon_from_its_end() {
    let (mut pair, end) = ending_while_a_disk_comes();
    pair.abandon(1, end);
    assert_eq!(pair.outcome(1, end), Some(Err(CommandError::TimedOut)));
    assert_eq!([0, 1].map(|volume| pair.volume(1, volume).disk), [DiskState::Diskless; 2]);
}

/// Beta's daemon is told to end while its disk of volume 0 is being attached.
fn ending_while_a_disk_comes() -> (Pair, u64) {
    let mut pair = Pair::in_sync(2);
    pair.command(1, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.hold(1, Kind::Meta, 0);
    pair.attach(1, 0);
    pair.run();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Attaching);
    let end = pair.command(1, Command::Shutdown);
    pair.run();
    (pair, end)
}

/// Two volumes, alpha Primary: beta's disk of the one has come, beside a resync of the other.
fn beside_a_resync() -> Pair {
    let mut pair = Pair::with_primary(2);
    pair.cut();
    pair.write(0, 0, 1);
    pair.write(0, 1, 1);
    pair.a_disk_comes_beside_a_resync();
    assert_eq!(pair.volume(0, 0).peer_disk, DiskState::Diskless, "alpha has heard of no disk");
    pair
}

/// ```text
/// alpha  ── a resync of another volume, hours long ──►  beta   a disk has come
///                          ✂                                   a second later
/// ```
/// Both begin anew, the disk is met, and the resync goes on where it was.
#[test]
fn a_disk_that_comes_waits_a_second_for_a_resync() {
    let mut pair = beside_a_resync();
    (0..3).for_each(|_| pair.pass_time(Duration::from_secs(1)));
    assert_eq!(pair.snapshot(0).connection, ConnectionState::Connecting);
    pair.let_go(1, Kind::Data, 1);
    pair.connect();
    assert!(pair.is_in_sync());
}

/// The same with a resync that ends within that second; alpha's view takes longer: nothing is closed.
#[test]
fn a_disk_that_comes_at_a_resyncs_end_is_met_on_the_same_connection() {
    let mut pair = beside_a_resync();
    pair.pass_time(Duration::from_millis(600));
    pair.hold_wire(0);
    pair.let_go(1, Kind::Data, 1);
    let view = |message: &mut Message| matches!(message, Message::Control(message) if matches!(**message, ControlMessage::View { .. }));
    while !pair.on_wire(0).next().is_some_and(view) {
        assert!(pair.deliver_one(0), "alpha tells its view when the resync has ended");
        pair.run();
    }
    (0..2).for_each(|_| pair.pass_time(Duration::from_secs(1)));
    pair.let_wire_go(0);
    assert!(pair.is_in_sync());
    let closed = |notice: &Notice| {
        matches!(
            notice,
            Notice::Connection { to: ConnectionState::Connecting, why: Why::LinkLost(LinkCause::Restart), .. }
        )
    };
    assert!(!(0..2).any(|node| pair.notices(node).iter().any(closed)));
}
