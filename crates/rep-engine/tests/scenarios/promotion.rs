//! Promotions and demotions, and what may happen while they are being recorded.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, Notice};
use rep_meta::{DataState, PrimaryMark};
use rep_types::{DiskState, Refusal, Role, VolumeNumber};
use std::time::Duration;

const VOLUME: VolumeNumber = VolumeNumber(0);

/// ```text
/// alpha  UpToDate      ── link ──   beta  Inconsistent, a paused resync's target
///                                         primary --force: its mark is being written; alpha's data are in reach,
///                                         so its own need no generation
///                      ──  ✂   ──         … and now alpha's data are gone
/// ```
/// The data taken for good by force get a generation of their own, and are recorded as Consistent, before any client
/// sees them (I-G5). Found by seed 12358.
#[test]
fn a_forced_promotion_whose_good_peer_goes_takes_its_own_data_for_good_first() {
    let mut pair = Pair::in_sync(1);
    pair.command(1, Command::PauseSync { volume: VOLUME, paused: true });
    pair.command(1, Command::Invalidate { volume: VOLUME });
    pair.run();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Inconsistent);
    let before = pair.superblock(1, 0).generations;
    pair.hold(1, Kind::Meta, 0);
    pair.command(1, Command::Promote { force: true });
    pair.run();
    assert_eq!(pair.snapshot(1).role, Role::Secondary, "the mark isn't on disk yet");
    pair.cut();
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!(pair.snapshot(1).role, Role::Primary);
    assert_eq!(pair.volume(1, 0).disk, DiskState::UpToDate);
    let after = pair.superblock(1, 0);
    assert_eq!(after.data, DataState::Consistent);
    assert_ne!(after.generations.current, before.current, "no generation was started");
}

/// Two volumes. While the mark is being written on the second one's slow disk, the first one's disk fails and is
/// attached again: it must not serve a Primary without the mark (I-D8). Found by seed 19930.
#[test]
fn a_disk_that_comes_while_a_promotion_is_recorded_is_marked_as_well() {
    let mut pair = Pair::in_sync(2);
    pair.cut();
    pair.hold(1, Kind::Meta, 0);
    pair.hold(1, Kind::Meta, 1);
    let promotion = pair.command(1, Command::Promote { force: true });
    pair.run();
    pair.fail_held(1, Kind::Meta, 0);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
    pair.attach(1, 0);
    pair.run();
    pair.let_go(1, Kind::Meta, 1);
    // It may be refused, since a disk went; what matters is that role and marks agree.
    assert!(pair.outcome(1, promotion).is_some());
    let is_primary = pair.snapshot(1).role == Role::Primary;
    for volume in 0..pair.volumes() {
        let marked = pair.superblock(1, volume).primary == PrimaryMark::Primary;
        assert_eq!(marked, is_primary, "volume {volume}");
    }
}

/// Two volumes. A demotion waits for the second one's slow disk while the first one's fails and is attached again: what
/// was asked of the first disk is nobody's concern any more, and the new one is unmarked like the other.
#[test]
fn a_disk_that_comes_while_a_demotion_is_recorded_is_unmarked_as_well() {
    let mut pair = Pair::with_primary(2);
    let write = pair.write(0, 0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold(0, Kind::Meta, 0);
    pair.hold(0, Kind::Meta, 1);
    let demotion = pair.command(0, Command::Demote);
    pair.run();
    pair.fail_held(0, Kind::Meta, 0);
    pair.attach(0, 0);
    pair.run();
    pair.let_go(0, Kind::Meta, 1);
    assert!(pair.outcome(0, demotion).is_some(), "the demotion waits for a disk that is gone");
    assert_eq!(pair.snapshot(0).role, Role::Secondary);
    for volume in 0..pair.volumes() {
        assert_eq!(pair.superblock(0, volume).primary, PrimaryMark::None, "volume {volume}");
    }
}

/// Beta hasn't been told what alpha wrote alone. Alpha's disk, with all of that, is let go of; the two are connected.
fn older_beside_a_detached_disk() -> Pair {
    let mut pair = older_and_a_detached_disk();
    pair.connect();
    assert_eq!([pair.volume(0, 0).disk, pair.volume(1, 0).disk], [DiskState::Diskless, DiskState::UpToDate]);
    pair
}

/// The same, but alpha's daemon has ended since, and knows nothing of its disk.
fn older_beside_a_forgotten_disk() -> Pair {
    let mut pair = older_and_a_detached_disk();
    pair.kill_without_disks(0);
    pair.command(0, Command::Connect { discard_my_data: false });
    pair.connect();
    assert_eq!([pair.volume(0, 0).disk, pair.volume(1, 0).disk], [DiskState::Diskless, DiskState::UpToDate]);
    pair
}

fn older_and_a_detached_disk() -> Pair {
    let mut pair = Pair::with_primary(1);
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.command(0, Command::Demote);
    pair.run();
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair
}

/// Clients are served what alpha wrote, once who is ahead has been found out.
fn assert_primary_of_the_newer_data(pair: &Pair, promotion: u64) {
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
    assert!(!pair.notices(1).contains(&Notice::PrimaryIsBehind));
    assert_eq!(pair.snapshot(1).role, Role::Primary);
    assert!(pair.is_in_sync());
    assert_eq!(pair.copied(1), 4096, "what alpha wrote alone, and nothing else, is copied");
}

/// ```text
/// alpha  its disk, which is ahead, comes   ── link ──   beta  UpToDate as far as it knows
///                                                             primary: its mark is being written
/// ```
/// Who is ahead is decided before beta is Primary, or its clients would see what has been overwritten (R29). Found by seed 626126.
#[test]
fn a_disk_of_the_peer_that_comes_while_a_promotion_is_recorded_is_heard_first() {
    let mut pair = older_beside_a_forgotten_disk();
    pair.hold(1, Kind::Meta, 0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promotion), None, "the mark isn't on disk yet");
    pair.attach(0, 0);
    pair.run();
    pair.let_go(1, Kind::Meta, 0);
    pair.run();
    assert_primary_of_the_newer_data(&pair, promotion);
}

/// The same, but alpha's disk is on its way when beta asks: alpha answers when it has come.
#[test]
fn a_disk_that_is_on_its_way_is_heard_before_the_peer_is_promoted() {
    let mut pair = older_beside_a_detached_disk();
    pair.hold(0, Kind::Meta, 0);
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Attaching);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promotion), None, "alpha says nothing before it knows its disk");
    pair.let_go(0, Kind::Meta, 0);
    pair.run();
    assert_primary_of_the_newer_data(&pair, promotion);
}

/// The same, but the link goes before alpha's disk has come. Alpha isn't dead, and may be ahead: beta isn't promoted alone on what it was
/// asked for beside alpha. Asked again, it goes by what it has.
#[test]
fn a_promotion_beside_a_disk_that_is_on_its_way_ends_with_the_link() {
    let mut pair = older_beside_a_detached_disk();
    pair.hold(0, Kind::Meta, 0);
    pair.attach(0, 0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.cut();
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::PeerLost)));
    assert_eq!(pair.snapshot(1).role, Role::Secondary);
    let again = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, again), Some(Ok(CommandOutcome::Done)));
}

/// The same, but alpha leaves before the question has reached it: who says so lives. Where all its disks are there it has told what they
/// hold, and beta is promoted without it. Found by seed 1005023.
#[test]
fn a_promotion_beside_a_disk_that_is_on_its_way_ends_with_the_peers_leave() {
    let mut pair = older_beside_a_detached_disk();
    pair.hold(0, Kind::Meta, 0);
    pair.attach(0, 0);
    let promotion = promoted_across_a_leave(&mut pair);
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::PeerLost)));
    assert_eq!(pair.snapshot(1).role, Role::Secondary);

    let mut pair = Pair::in_sync(1);
    let promotion = promoted_across_a_leave(&mut pair);
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
}

/// Beta asks alpha, which has left by the time it hears of it.
fn promoted_across_a_leave(pair: &mut Pair) -> u64 {
    pair.hold_wire(0);
    pair.hold_wire(1);
    let leave = pair.command(0, Command::Disconnect { force: false });
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.let_wire_go(0);
    pair.let_wire_go(1);
    assert_eq!(pair.outcome(0, leave), Some(Ok(CommandOutcome::Done)));
    promotion
}

/// The same, but alpha's disk comes and goes with the link while beta's mark is being written.
#[test]
fn a_promotion_that_has_heard_of_the_peers_disk_ends_with_the_link() {
    let mut pair = older_beside_a_forgotten_disk();
    pair.hold(1, Kind::Meta, 0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.attach(0, 0);
    pair.run();
    pair.cut();
    pair.let_go(1, Kind::Meta, 0);
    pair.run();
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::PeerLost)));
    assert_eq!(pair.snapshot(1).role, Role::Secondary);
    assert_eq!(pair.superblock(1, 0).primary, PrimaryMark::None);
}

/// Alpha knows what it wrote on the disk that it has let go of: it says no, until that disk is back, or the operator says whose data
/// count. So it does for a disk that hangs while it is attached, however long. Found by seed 917195.
#[test]
fn nobody_is_promoted_beside_a_node_that_knows_of_newer_data() {
    let mut pair = older_beside_a_detached_disk();
    let promote = |pair: &mut Pair, force: bool| {
        let promotion = pair.command(1, Command::Promote { force });
        pair.run();
        promotion
    };
    let refused = Some(Err(CommandError::Refused(Refusal::PeerLetNewerGo)));
    let promotion = promote(&mut pair, false);
    assert_eq!(pair.outcome(1, promotion), refused);

    pair.hold(0, Kind::Meta, 0);
    pair.attach(0, 0);
    let promotion = promote(&mut pair, false);
    assert_eq!(pair.outcome(1, promotion), None, "the disk may come");
    pair.pass_time(Duration::from_secs(11));
    assert_eq!(pair.outcome(1, promotion), refused);

    pair.fail_held(0, Kind::Meta, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    let promotion = promote(&mut pair, false);
    assert_eq!(pair.outcome(1, promotion), refused);

    let promotion = promote(&mut pair, true);
    pair.pass_time(Duration::from_secs(11));
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.snapshot(1).role, Role::Primary);
}

/// Alpha itself is to be Primary, with beta's older disk in reach: it knows better, also while its own is being attached, and when that
/// has failed. Then the operator says that beta's data count, and it is past. Found by seed 1242603.
#[test]
fn who_knows_of_newer_data_of_its_own_isnt_promoted_on_the_peers() {
    let mut pair = older_beside_a_detached_disk();
    let promote = |pair: &mut Pair, force: bool| {
        let promotion = pair.command(0, Command::Promote { force });
        pair.run();
        pair.outcome(0, promotion)
    };
    let refused = Some(Err(CommandError::Refused(Refusal::LetNewerGo)));
    assert_eq!(promote(&mut pair, false), refused);
    assert_eq!(pair.snapshot(0).promotion_refused, Some(Refusal::LetNewerGo));
    pair.hold(0, Kind::Meta, 0);
    pair.attach(0, 0);
    assert_eq!(promote(&mut pair, false), refused);
    pair.fail_held(0, Kind::Meta, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    assert_eq!(promote(&mut pair, false), refused);

    let done = Some(Ok(CommandOutcome::Done));
    assert_eq!(promote(&mut pair, true), done);
    pair.command(0, Command::Demote);
    pair.run();
    assert_eq!(promote(&mut pair, false), done);
}

/// The same with a daemon that has begun anew, and knows of the disk by the attach that failed, or by one that it has let go of before
/// it met its peer (seed 3791).
#[test]
fn a_disk_that_was_never_good_here_is_known_to_be_ahead() {
    for comes in [false, true] {
        let mut pair = Pair::with_primary(1);
        pair.cut();
        pair.write(0, 0, 1);
        pair.run();
        pair.kill_without_disks(0);
        if comes {
            pair.attach(0, 0);
            pair.run();
            assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent);
            pair.command(0, Command::Detach { volume: VOLUME, force: false });
            pair.run();
        } else {
            pair.hold(0, Kind::Meta, 0);
            pair.attach(0, 0);
            pair.fail_held(0, Kind::Meta, 0);
        }
        assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
        pair.command(0, Command::Connect { discard_my_data: false });
        pair.connect();
        let promotion = pair.command(0, Command::Promote { force: false });
        pair.run();
        assert_eq!(pair.outcome(0, promotion), Some(Err(CommandError::Refused(Refusal::LetNewerGo))), "comes: {comes}");
    }
}

/// Alpha has filled beta, so beta holds what alpha does, whatever it told when they met: its disk is let go of, and beta promoted.
#[test]
fn who_has_been_filled_is_promoted_beside_its_source_without_a_disk() {
    for attaches in [false, true] {
        let mut pair = Pair::with_primary(1);
        pair.cut();
        pair.write(0, 0, 1);
        pair.run();
        pair.connect();
        assert!(pair.is_in_sync());
        pair.command(0, Command::Demote);
        pair.run();
        pair.command(0, Command::Detach { volume: VOLUME, force: false });
        pair.run();
        if attaches {
            pair.hold(0, Kind::Meta, 0);
            pair.attach(0, 0);
        }
        let promotion = pair.command(1, Command::Promote { force: false });
        pair.run();
        pair.pass_time(Duration::from_secs(11));
        assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)), "attaches: {attaches}");
    }
}

/// It has been said that the peer's data count, and the disk with the others never came back: that is past.
#[test]
fn newer_data_that_were_given_up_stand_in_nobodys_way() {
    let mut pair = older_beside_a_detached_disk();
    for (command, node) in
        [(Command::Promote { force: true }, 1), (Command::Demote, 1), (Command::Promote { force: false }, 1)]
    {
        let command = pair.command(node, command);
        pair.run();
        assert_eq!(pair.outcome(node, command), Some(Ok(CommandOutcome::Done)));
    }
}

/// Two volumes, connected: alpha's disk of the one, which is ahead, has come, but its view waits for a resync of the other.
fn ahead_beside_a_resync() -> Pair {
    let mut pair = Pair::with_primary(2);
    pair.cut();
    let writes = [pair.write(0, 0, 1), pair.write(0, 1, 1)];
    pair.run();
    writes.iter().for_each(|write| assert_eq!(pair.answer(0, *write), Some(Ok(()))));
    pair.command(0, Command::Demote);
    pair.run();
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.hold(1, Kind::Data, 1);
    pair.connect();
    pair.attach(0, 0);
    pair.run();
    pair
}

/// Beta is answered when that has gone. Found by seed 699850.
#[test]
fn a_disk_that_has_come_is_told_before_the_peer_is_promoted() {
    let mut pair = ahead_beside_a_resync();
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.let_go(1, Kind::Data, 1);
    pair.run();
    assert!(!pair.notices(1).contains(&Notice::PrimaryIsBehind));
    assert!(pair.outcome(1, promotion).is_some());
    assert!(pair.is_in_sync(), "who was ahead has filled the other");
}

/// The resync takes longer than beta may wait: the answer is no. Found by seed 1150956, in which alpha's daemon had begun anew
/// and so knew of no disk that was good when it let go of it.
#[test]
fn nobody_is_promoted_beside_a_disk_that_is_ahead_and_not_told_yet() {
    let mut pair = ahead_beside_a_resync();
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promotion), None, "it may still be told");
    pair.pass_time(Duration::from_secs(11));
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::Refused(Refusal::PeerLetNewerGo))));
    assert_eq!(pair.snapshot(1).role, Role::Secondary);
}

/// The same, but alpha's disk never comes: the operator's patience ends, and what comes later is nobody's answer.
#[test]
fn a_promotion_beside_a_disk_that_never_comes_ends_with_the_operators_patience() {
    let mut pair = older_beside_a_detached_disk();
    pair.hold(0, Kind::Meta, 0);
    pair.attach(0, 0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.abandon(1, promotion);
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::TimedOut)));
    pair.let_go(0, Kind::Meta, 0);
    pair.run();
    assert_eq!(pair.snapshot(1).role, Role::Secondary);
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha  Primary, dead without a word      beta  Secondary, still connected as far as it knows; told to take over
/// ```
/// Taking over needn't wait for the next regular ping: the peer is asked at once, and its silence counts.
#[test]
fn a_primary_that_has_died_unseen_is_succeeded_within_the_ping_timeout() {
    let mut pair = Pair::with_primary(1);
    pair.hold_wire(0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promotion), None, "nobody has said no");
    pair.pass_time(Duration::from_millis(501));
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.snapshot(1).role, Role::Primary);
}

/// The same, but alpha lives: it says so, and beta stays what it is.
#[test]
fn a_primary_that_lives_is_not_succeeded() {
    let mut pair = Pair::with_primary(1);
    let promotion = pair.command(1, Command::Promote { force: true });
    pair.run();
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::Refused(Refusal::PeerIsPrimary))));
    assert_eq!(pair.snapshot(1).role, Role::Secondary);
    assert!(pair.is_in_sync());
}

/// beta agreed to alpha's promotion, which came to nothing. Asked to promote itself it says no at once, and asks nobody:
/// alpha would agree, and two that are tried in turn would refuse for ever. Found by seed 49207.
#[test]
fn who_has_granted_a_promotion_asks_for_none() {
    let mut pair = Pair::in_sync(1);
    pair.hold_wire(1);
    let first = pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.abandon(0, first);
    pair.let_wire_go(1);
    let refused = pair.command(1, Command::Promote { force: false });
    assert_eq!(pair.outcome(1, refused), Some(Err(CommandError::Refused(Refusal::PeerIsPrimary))));
    let second = pair.command(0, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(0, second), Some(Ok(CommandOutcome::Done)));
}

/// beta has no disk of its own of the first volume. While it records that it becomes Primary, on its second, the link goes,
/// and with it the only good data of the first in its reach (I-G5). Found by seed 5036.
#[test]
fn a_promotion_ends_when_the_peers_disk_it_needs_goes_while_it_is_recorded() {
    let mut pair = Pair::in_sync(2);
    pair.command(1, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.hold(1, Kind::Meta, 1);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promotion), None, "its mark is not durable yet");
    pair.cut();
    pair.let_go(1, Kind::Meta, 1);
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::DiskFailed)));
    assert_eq!(pair.snapshot(1).role, Role::Secondary);
}

/// ```text
/// alpha  good disk      ── link ──   beta  its disk, which crashed with a write under way, is gone; it is promoted
///                                          its clients read what is on alpha's disk, and flush
/// ```
/// Both disks bear the same generation, and a power failure of alpha would make beta's the better one (whose cache was lost isn't the
/// source of two equals): what was seen and flushed would go. So alpha begins a generation, before it has a flush done. Found by seeds 920966
/// and 926198.
#[test]
fn what_the_clients_of_a_primary_without_a_disk_see_is_of_a_generation_of_its_own() {
    let mut pair = Pair::in_sync(1);
    pair.command(1, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    let generation = |pair: &mut Pair, node: usize| pair.superblock(node, 0).generations.current;
    assert_eq!(generation(&mut pair, 0), generation(&mut pair, 1));
    pair.hold(0, Kind::Meta, 0);
    pair.promote(1);
    let flush = pair.flush(1, 0);
    pair.run();
    assert_eq!(pair.answer(1, flush), None, "it isn't durable yet");
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!(pair.answer(1, flush), Some(Ok(())));
    assert_ne!(generation(&mut pair, 0), generation(&mut pair, 1));
}

/// The same in the middle of a handshake, in which none may begin (R17): that starts over. Only a promotion by force comes there.
/// What is written in a handshake needs none any more, so the write doesn't wait. Found by seed 723774.
#[test]
fn what_a_primary_without_a_disk_writes_in_a_handshake_is_of_that_generation() {
    let mut pair = Pair::in_sync(2);
    for volume in [VOLUME, VolumeNumber(1)] {
        pair.command(1, Command::Detach { volume, force: false });
        pair.run();
    }
    let before = pair.superblock(0, 1).generations.current;
    pair.promote(1);
    let promoted = pair.superblock(0, 1).generations.current;
    assert_ne!(promoted, before);
    pair.hold_wire(0);
    pair.attach(1, 0);
    pair.run();
    let write = pair.write(1, 1, 1);
    pair.run();
    pair.let_wire_go(0);
    assert_eq!(pair.answer(1, write), Some(Ok(())));
    assert_eq!(pair.superblock(0, 1).generations.current, promoted, "as it was told");
}

/// A node without a disk is promoted on its peer's good data while a new, larger disk is being attached here. That holds nothing, and is
/// no measure of the volume: it would be refused for ever after, since the peer's is too small for it (R34). Found by seed 715765.
#[test]
fn a_new_disk_that_comes_while_its_node_is_promoted_is_no_measure_of_the_volume() {
    let mut pair = Pair::in_sync(1);
    pair.command(1, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    let size = pair.superblock(0, 0).agreed_bytes;
    pair.replace_disk(1, 2 * size);
    pair.hold(1, Kind::Meta, 0);
    pair.try_attach(1, 0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.let_go(1, Kind::Meta, 0);
    pair.run();
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
    assert!(pair.is_in_sync());
    assert_eq!(pair.superblock(1, 0).agreed_bytes, size);
}
