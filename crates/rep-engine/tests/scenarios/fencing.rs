//! Fencing: who may go on without the other, and when.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, FenceSnapshot, IoSuspension, Notice};
use rep_meta::DataState;
use rep_types::{ConnectionState, DiskState, FenceAnswer, Fencing, Refusal, ReplicationState, Role, VolumeNumber};
use std::time::Duration;

const VOLUME: VolumeNumber = VolumeNumber(0);
const UNSAFE: [FenceAnswer; 5] = [
    FenceAnswer::PeerUnreachable,
    FenceAnswer::PeerPrimary,
    FenceAnswer::NoHandler,
    FenceAnswer::TimedOut,
    FenceAnswer::Broken,
];
const SAFE: [FenceAnswer; 3] = [FenceAnswer::PeerInconsistent, FenceAnswer::PeerOutdated, FenceAnswer::PeerFenced];

fn with_primary(fencing: Fencing) -> Pair {
    let mut pair = Pair::fenced(1, fencing);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    pair
}

/// ```text
/// alpha  Primary ──  ✂  ── beta  UpToDate      a write is under way
///        waits: is beta out?                   nothing is answered, nothing new is begun
///        beta is fenced, durably ─► answers    the generation begins now
/// ```
#[test]
fn a_primary_answers_nobody_until_its_lost_peer_is_fenced() {
    for answer in SAFE {
        let mut pair = with_primary(Fencing::ResourceAndStonith);
        let before = pair.superblock(0, 0).generations;
        pair.hold_wire(1);
        let write = pair.write(0, 0, 1);
        pair.run();
        pair.cut();
        let later = pair.write(0, 0, 2);
        pair.run();
        assert_eq!((pair.answer(0, write), pair.answer(0, later)), (None, None));
        assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::Fencing));
        assert_eq!(pair.superblock(0, 0).generations, before, "no generation of a node that may be the one to go");
        pair.hold(0, Kind::Meta, 0);
        pair.fence_answers(0, answer);
        assert_eq!(pair.answer(0, write), None, "what {answer:?} says isn't durable");
        pair.let_go(0, Kind::Meta, 0);
        assert_eq!((pair.answer(0, write), pair.answer(0, later)), (Some(Ok(())), Some(Ok(()))));
        let after = pair.superblock(0, 0);
        assert!(after.peer_outdated);
        assert_eq!((after.generations.bitmap, pair.snapshot(0).io_suspended), (before.current, None));
    }
}

/// What doesn't make sure that the peer can't go on lets nobody go on, and is asked again.
#[test]
fn an_answer_that_is_none_keeps_clients_waiting_and_is_asked_again() {
    for answer in UNSAFE {
        let mut pair = with_primary(Fencing::ResourceAndStonith);
        pair.cut();
        let write = pair.write(0, 0, 1);
        pair.fence_answers(0, answer);
        assert_eq!(pair.answer(0, write), None, "{answer:?}");
        assert_eq!(pair.snapshot(0).fence, Some(FenceSnapshot::Failed(answer)));
        assert_eq!(pair.fence_asked(0), None);
        pair.pass_time(Duration::from_secs(10));
        pair.fence_answers(0, FenceAnswer::PeerFenced);
        assert_eq!(pair.answer(0, write), Some(Ok(())));
    }
}

/// The peer comes back before it is fenced: it gets what it lacks, and nobody was told a lie.
#[test]
fn a_peer_that_comes_back_ends_the_wait_and_a_late_answer_counts_for_nothing() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.hold_wire(1);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.cut();
    pair.let_wire_go(1);
    let asked = pair.fence_asked(0).expect("the handler runs");
    pair.connect();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert!(pair.is_in_sync());
    pair.fence_answers_to(0, asked, FenceAnswer::PeerFenced);
    assert!(!pair.superblock(0, 0).peer_outdated);
    pair.cut();
    let later = pair.write(0, 0, 2);
    pair.run();
    assert_eq!(pair.answer(0, later), None);
}

/// A node that was fenced while it waited took no generation with it: its peer, gone on, fills it.
#[test]
fn a_fenced_primary_comes_back_to_be_filled_and_not_to_a_split_brain() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.hold_wire(1);
    pair.write(0, 0, 1);
    pair.run();
    pair.cut();
    pair.let_wire_go(1);
    pair.reboot(0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.fence_answers(1, FenceAnswer::PeerFenced);
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
    let write = pair.write(1, 0, 2);
    pair.run();
    assert_eq!(pair.answer(1, write), Some(Ok(())));
    pair.connect();
    assert_eq!(pair.snapshot(1).connection, ConnectionState::Connected);
    assert!(pair.is_in_sync());
    assert!(pair.notices(1).contains(&Notice::PeerRejoined), "what keeps the peer out is taken back");
}

/// With `resource-only` the handler is called, and nobody waits for it.
#[test]
fn a_primary_with_resource_only_goes_on_while_its_peer_is_outdated() {
    let mut pair = with_primary(Fencing::ResourceOnly);
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.fence_answers(0, FenceAnswer::PeerOutdated);
    assert!(pair.superblock(0, 0).peer_outdated);
}

/// Nobody is promoted without the peer unless that can't go on; with force anybody is.
#[test]
fn a_promotion_without_the_peer_needs_it_fenced() {
    for fencing in [Fencing::ResourceOnly, Fencing::ResourceAndStonith] {
        for answer in UNSAFE {
            let mut pair = Pair::fenced(1, fencing);
            pair.cut();
            assert_eq!(pair.snapshot(1).promotion_refused, Some(Refusal::PeerNotFenced));
            let promotion = pair.command(1, Command::Promote { force: false });
            assert_eq!(pair.outcome(1, promotion), None);
            pair.fence_answers(1, answer);
            let refusal = match answer {
                FenceAnswer::PeerPrimary => Refusal::PeerIsPrimary,
                _ => Refusal::PeerNotFenced,
            };
            assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::Refused(refusal))));
            let forced = pair.command(1, Command::Promote { force: true });
            pair.fence_answers(1, answer);
            assert_eq!(pair.outcome(1, forced), Some(Ok(CommandOutcome::Done)));
            let write = pair.write(1, 0, 1);
            pair.run();
            assert_eq!(pair.answer(1, write), Some(Ok(())), "the operator took it upon himself");
        }
        for answer in SAFE {
            let mut pair = Pair::fenced(1, fencing);
            pair.cut();
            let promotion = pair.command(1, Command::Promote { force: false });
            pair.fence_answers(1, answer);
            assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
        }
    }
}

/// A peer that left cleanly is Outdated, and known to be: nobody need be asked.
#[test]
fn a_peer_that_has_left_cleanly_needs_no_fencing() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.command(1, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Outdated);
    assert_eq!(pair.fence_asked(0), None);
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// Nor is the target of a resync, which is Inconsistent.
#[test]
fn a_target_lost_in_the_middle_of_its_resync_needs_no_fencing() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.command(0, Command::PauseSync { volume: VOLUME, paused: true });
    pair.command(0, Command::InvalidatePeer { volume: VOLUME });
    pair.run();
    assert_eq!(pair.volume(0, 0).peer_disk, DiskState::Inconsistent);
    pair.cut();
    assert_eq!(pair.fence_asked(0), None);
    assert_eq!(pair.snapshot(0).io_suspended, None);
}

/// ```text
/// alpha  Secondary, SyncSource ── granted ─►    beta  SyncTarget, becomes Primary
///                              ◄ ✂ State(Primary)
/// ```
/// A target that was granted a promotion may be Primary, whose clients wait for alpha: nobody has made sure that it isn't. Found by
/// handing the role over while a target was promoted.
#[test]
fn a_target_that_may_have_become_primary_is_fenced_before_the_source_is_promoted() {
    let mut pair = Pair::fenced(1, Fencing::ResourceAndStonith);
    pair.command(0, Command::PauseSync { volume: VOLUME, paused: true });
    pair.command(1, Command::Invalidate { volume: VOLUME });
    pair.run();
    assert_eq!(pair.volume(0, 0).peer_disk, DiskState::Inconsistent);
    pair.hold(1, Kind::Meta, 0);
    pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.hold_wire(1);
    pair.let_go(1, Kind::Meta, 0);
    pair.run();
    assert_eq!((pair.snapshot(1).role, pair.snapshot(0).peer_role), (Role::Primary, Some(Role::Secondary)));
    pair.cut();
    let promotion = pair.command(0, Command::Promote { force: false });
    pair.run();
    assert_eq!((pair.snapshot(0).role, pair.outcome(0, promotion)), (Role::Secondary, None));
    assert!(pair.fence_asked(0).is_some(), "alpha can't know");
    pair.fence_answers(0, FenceAnswer::PeerFenced);
    assert_eq!(pair.snapshot(0).role, Role::Primary);
}

/// What was known of the peer is forgotten before it hears a decision: it may be good again without our hearing of it.
#[test]
fn a_peer_that_was_nearly_joined_is_fenced_anew() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.cut();
    pair.fence_answers(0, FenceAnswer::PeerOutdated);
    pair.connect_half(1);
    assert_eq!(pair.snapshot(1).connection, ConnectionState::Connected, "beta has joined");
    assert_eq!(pair.snapshot(0).connection, ConnectionState::Connecting, "alpha hasn't");
    pair.cut();
    assert!(pair.fence_asked(0).is_some());
    assert!(!pair.superblock(0, 0).peer_outdated);
    assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::Fencing));
}

/// The operator's word ends the wait; his own suspension is lifted first.
#[test]
fn the_operator_s_word_ends_the_wait() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.command(0, Command::SuspendIo { suspended: true });
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.command(0, Command::SuspendIo { suspended: false });
    pair.run();
    assert_eq!(pair.answer(0, write), None, "only his own suspension");
    pair.command(0, Command::SuspendIo { suspended: false });
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert_eq!(pair.snapshot(0).fence, Some(FenceSnapshot::Waived));
}

/// The disk goes too while the answers wait: no disk in reach has those writes.
#[test]
fn answers_that_wait_become_errors_when_the_disk_goes_as_well() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.hold_wire(1);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.cut();
    pair.hold(0, Kind::Flush, 0);
    let other = pair.command(0, Command::Detach { volume: VOLUME, force: false });
    assert_eq!(pair.outcome(0, other), Some(Err(CommandError::Refused(Refusal::OnlyGoodCopy))));
    pair.hold(0, Kind::Meta, 0);
    pair.fence_answers(0, FenceAnswer::PeerFenced);
    pair.fail_held(0, Kind::Meta, 0);
    assert!(pair.answer(0, write).expect("nobody waits for ever").is_err());
}

/// beta leaves; alpha notes it and goes on at once, and beta never hears that it has. Found by seeds 21 and 3759.
#[test]
fn who_has_said_that_it_leaves_a_primary_is_outdated_whatever_it_hears() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.hold_wire(0);
    pair.command(1, Command::Disconnect { force: false });
    pair.run();
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!((pair.answer(0, write), pair.fence_asked(0)), (Some(Ok(())), None));
    assert_eq!(pair.volume(1, 0).disk, DiskState::Outdated);
}

/// alpha, a Primary, has just been filled by beta; the word of that is on its way.
fn primary_filled_unheard() -> Pair {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.write(0, 0, 1);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncTarget);
    pair.hold(0, Kind::Meta, 0);
    pair.let_go(0, Kind::Flush, 0);
    pair.hold_wire(0);
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!((pair.volume(0, 0).disk, pair.volume(1, 0).peer_disk), (DiskState::UpToDate, DiskState::Inconsistent));
    pair
}

/// ```text
/// alpha  Primary, SyncTarget ◄── generations ── beta  SyncSource
/// alpha  UpToDate ── finished ─►                beta  is shut down before it hears of it
/// ```
/// By its word that it leaves alpha takes beta for Outdated; it says so when it is. Found by seed 53088.
#[test]
fn a_source_leaves_a_primary_when_it_has_heard_that_it_is_filled() {
    let mut pair = primary_filled_unheard();
    pair.command(1, Command::Shutdown);
    let write = pair.write(0, 0, 2);
    pair.run();
    assert_eq!((pair.snapshot(0).connection, pair.answer(0, write)), (ConnectionState::Connected, None));
    pair.let_wire_go(0);
    assert_eq!((pair.superblock(1, 0).data, pair.answer(0, write)), (DataState::Outdated, Some(Ok(()))));
    assert_eq!(pair.fence_asked(0), None);
}

/// Nobody waits for ever: then it goes without a word, and alpha makes sure of it.
#[test]
fn a_source_that_may_not_wait_leaves_a_primary_without_a_word() {
    let mut pair = primary_filled_unheard();
    let shutdown = pair.command(1, Command::Shutdown);
    let write = pair.write(0, 0, 2);
    pair.run();
    pair.abandon(1, shutdown);
    pair.run();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
    assert_eq!((pair.superblock(1, 0).data, pair.answer(0, write)), (DataState::Consistent, None));
    assert!(!pair.superblock(0, 0).peer_outdated);
    pair.fence_answers(0, FenceAnswer::PeerFenced);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// The peer goes while the mark of a Primary is being written: it is fenced before the promotion is done. Found by
/// seed 1681.
#[test]
fn a_peer_that_goes_under_a_promotion_is_fenced_first() {
    let mut pair = Pair::fenced(1, Fencing::ResourceOnly);
    pair.hold(1, Kind::Meta, 0);
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.cut();
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!((pair.outcome(1, promotion), pair.snapshot(1).role), (None, Role::Secondary));
    pair.fence_answers(1, FenceAnswer::PeerUnreachable);
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::Refused(Refusal::PeerNotFenced))));
    assert_eq!(pair.superblock(1, 0).primary, rep_meta::PrimaryMark::None);
}

/// A flush while clients wait begins no generation either. Found by seed 3485.
#[test]
fn a_flush_that_waits_for_the_fence_begins_no_generation() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    let before = pair.superblock(0, 0).generations;
    pair.cut();
    let flush = pair.flush(0, 0);
    pair.run();
    assert_eq!((pair.answer(0, flush), pair.superblock(0, 0).generations), (None, before));
    pair.fence_answers(0, FenceAnswer::PeerFenced);
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
    assert_eq!(pair.superblock(0, 0).generations.bitmap, before.current);
}

/// A Primary that leaves answers nobody between its word and the peer's having noted it. Found by seed 7674.
#[test]
fn a_primary_that_leaves_waits_until_that_is_noted() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.hold_wire(1);
    pair.command(0, Command::Disconnect { force: false });
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), None);
    pair.let_wire_go(1);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert_eq!(pair.volume(1, 0).disk, DiskState::Outdated);
}

/// beta leaves and comes again while alpha, Primary, still notes that it is Outdated: nothing stands in the way of the
/// answers any more, but the generation they wait for can't begin while the two compare theirs (R17). Found by seed 4477.
#[test]
fn a_generation_that_is_owed_waits_for_the_end_of_a_handshake() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    let first = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, first), Some(Ok(())));
    pair.hold(0, Kind::Meta, 0);
    pair.command(1, Command::Disconnect { force: false });
    pair.run();
    let later = pair.write(0, 0, 2);
    pair.command(1, Command::Connect { discard_my_data: false });
    pair.hold_wire(1);
    pair.connect();
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!(pair.answer(0, later), None, "alpha has told how it stands, and must stay so");
    pair.let_wire_go(1);
    assert_eq!(pair.answer(0, later), Some(Ok(())));
    assert!(pair.is_in_sync());
    assert_eq!(pair.superblock(0, 0).generations.current, pair.superblock(1, 0).generations.current);
}

/// beta, filled by alpha, is told to be Primary, and the link goes: its clients may be there still, so nobody is
/// promoted for its disk's sake alone. Found by seed 10321.
#[test]
fn a_target_that_is_primary_is_fenced_before_its_source_is_promoted() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.command(1, Command::PauseSync { volume: VOLUME, paused: true });
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.attach(0, 0);
    pair.run();
    assert_eq!((pair.volume(0, 0).disk, pair.snapshot(0).role), (DiskState::Inconsistent, Role::Primary));
    pair.cut();
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.fence_answers(1, FenceAnswer::PeerPrimary);
    assert_eq!(pair.outcome(1, promotion), Some(Err(CommandError::Refused(Refusal::PeerIsPrimary))));
}

/// alpha is to be Primary by force; while its handler is asked beta comes back, equal. Taking alpha's data for the
/// newest and finding them as good as beta's cross: the two end with one generation all the same. Found by seed 18633.
#[test]
fn a_forced_promotion_that_meets_an_equal_peer_leaves_one_generation() {
    let mut pair = Pair::fenced(1, Fencing::ResourceOnly);
    pair.cut();
    pair.reboot(0);
    pair.reboot(1);
    let promotion = pair.command(0, Command::Promote { force: true });
    assert!(pair.fence_asked(0).is_some());
    (0..2).for_each(|node| pair.hold(node, Kind::Meta, 0));
    pair.connect();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent);
    (0..2).for_each(|node| pair.let_go(node, Kind::Meta, 0));
    assert_eq!(pair.outcome(0, promotion), Some(Ok(CommandOutcome::Done)));
    assert!(pair.is_in_sync());
    let (alpha, beta) = (pair.superblock(0, 0).generations, pair.superblock(1, 0).generations);
    assert_eq!((alpha.current, alpha.bitmap), (beta.current, beta.bitmap));
}

/// beta has agreed that alpha becomes Primary, and leaves before it hears that alpha is: alpha notes it and goes on at
/// once, so beta is Outdated from its word on. Found by seed 12905.
#[test]
fn who_has_granted_a_promotion_leaves_as_from_a_primary() {
    let mut pair = Pair::fenced(1, Fencing::ResourceAndStonith);
    pair.hold(0, Kind::Meta, 0);
    let promotion = pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.hold_wire(0);
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!(pair.outcome(0, promotion), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.snapshot(1).peer_role, Some(Role::Secondary), "beta hasn't heard of it");
    pair.command(1, Command::Disconnect { force: false });
    pair.run();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.cut();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Outdated);
}

/// `secondary` while requests wait for the fence says so at once; with nothing waiting there is nothing to refuse.
#[test]
fn a_demotion_is_refused_while_requests_wait_for_the_fence() {
    let mut pair = with_primary(Fencing::ResourceAndStonith);
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.fence_answers(0, FenceAnswer::PeerUnreachable);
    let demotion = pair.command(0, Command::Demote);
    assert_eq!(pair.outcome(0, demotion), Some(Err(CommandError::Refused(Refusal::IoSuspended))));
    assert_eq!(pair.answer(0, write), None);
    pair.connect();
    assert_eq!(pair.answer(0, write), Some(Ok(())), "the device is still there");
    pair.cut();
    let demotion = pair.command(0, Command::Demote);
    pair.run();
    assert_eq!(pair.outcome(0, demotion), Some(Ok(CommandOutcome::Done)));
}

/// ```text
/// alpha  Primary, writes; its daemon dies     beta  to become Primary; has alpha fenced, and that on disk
///        holds it all in its cache                  loses its power, and with it what was in its cache
/// ```
/// That alpha didn't go on doesn't say that it lacks what beta has lost: beta isn't the newest by itself (I-D1). Found by seed 940012.
#[test]
fn an_outdated_peer_makes_no_good_data_of_a_lost_cache() {
    for node_crash in [false, true] {
        let mut pair = Pair::fenced(1, Fencing::ResourceOnly).promoted();
        let write = pair.write(0, 0, 1);
        pair.run();
        assert_eq!(pair.answer(0, write), Some(Ok(())));
        pair.kill_without_disks(0);
        pair.command(1, Command::Promote { force: false });
        pair.run();
        pair.hold(1, Kind::Meta, 0);
        pair.fence_answers(1, FenceAnswer::PeerFenced);
        pair.let_newest_go(1, Kind::Meta, 0);
        assert!(pair.superblock(1, 0).peer_outdated);
        assert_eq!(pair.snapshot(1).role, Role::Secondary, "beta hasn't gone on");
        if node_crash {
            pair.reboot(1)
        } else {
            pair.kill(1)
        }
        let expected = if node_crash { DiskState::Consistent } else { DiskState::UpToDate };
        assert_eq!(pair.volume(1, 0).disk, expected);
    }
}

/// ```text
/// alpha Primary                   ── ✂       beta   lets the disk of one volume go, for beta's is good, and gets it back;
///                                                   beta hears of neither
/// alpha Consistent  asks for beta to be fenced,  ✗ its daemon ends, and begins anew
///                   a client's read waits for that
/// alpha             ── link ──               beta   both hold the same
/// ```
/// The fence has ended and the disk is good at one moment: the read finds it so, and is no error. Found by seed 983299.
#[test]
fn what_was_held_for_the_fence_finds_the_disk_that_is_good_with_its_end() {
    let mut pair = Pair::fenced(2, Fencing::ResourceAndStonith).promoted();
    pair.hold_wire(0);
    pair.command(0, Command::Detach { volume: VolumeNumber(1), force: false });
    pair.run();
    pair.attach(0, 1);
    pair.run();
    pair.kill(1);
    assert_eq!(pair.volume(0, 1).disk, DiskState::Consistent);
    let read = pair.read(0, 1, 1);
    pair.run();
    assert_eq!(pair.answer(0, read), None, "nobody knows whether beta goes on");
    pair.let_wire_go(0);
    pair.connect();
    assert_eq!(pair.answer(0, read), Some(Ok(())));
}

/// Two volumes of a Primary that fences: beta's disk of the one has come, and waits to be told of while a resync of the other is held up.
fn a_disk_that_waits_for_a_resync(mut pair: Pair) -> Pair {
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.cut();
    let writes = [pair.write(0, 0, 1), pair.write(0, 1, 1)];
    pair.fence_answers(0, FenceAnswer::PeerFenced);
    writes.iter().for_each(|write| assert_eq!(pair.answer(0, *write), Some(Ok(()))));
    pair.a_disk_comes_beside_a_resync();
    pair
}

/// Lets half a minute pass, in which nobody is fenced; whether the connection stands after it.
fn half_a_minute_without_fencing(pair: &mut Pair) -> bool {
    for _ in 0..30 {
        pair.pass_time(Duration::from_secs(1));
        assert_eq!(pair.fence_asked(0), None);
        if pair.snapshot(0).connection != ConnectionState::Connected {
            return false;
        }
    }
    true
}

/// ```text
/// alpha  Primary, fences   ── SyncSource ─►   beta   a disk has come
///                          ◄── BeginAnew ──          a second later
///        waits two seconds: not fenced
/// ```
/// Beta closes the connection to begin anew, and says so.
#[test]
fn a_secondary_that_begins_anew_isnt_fenced_for_it() {
    let mut pair = a_disk_that_waits_for_a_resync(Pair::fenced(2, Fencing::ResourceAndStonith));
    assert!(!half_a_minute_without_fencing(&mut pair), "beta has begun anew");
    let write = pair.write(0, 0, 3);
    pair.run();
    assert_eq!(pair.answer(0, write), None, "alpha still waits");
    pair.connect();
    pair.let_go(1, Kind::Data, 1);
    pair.run();
    assert_eq!((pair.fence_asked(0), pair.answer(0, write)), (None, Some(Ok(()))));
    assert!(pair.is_in_sync());
}

/// The same, but beta doesn't come back: alpha asks who can make sure of it.
#[test]
fn a_secondary_that_says_it_begins_anew_and_doesnt_is_fenced() {
    let mut pair = a_disk_that_waits_for_a_resync(Pair::fenced(2, Fencing::ResourceAndStonith));
    assert!(!half_a_minute_without_fencing(&mut pair));
    pair.pass_time(Duration::from_secs(3));
    assert!(pair.fence_asked(0).is_some());
}

/// The same, but alpha is of an older version: beta leaves the connection as it is, however long the resync takes, and says why.
#[test]
fn a_disk_waits_for_a_resync_where_its_node_would_be_fenced() {
    let mut pair = Pair::fenced(2, Fencing::ResourceAndStonith);
    pair.without_features();
    let mut pair = a_disk_that_waits_for_a_resync(pair);
    assert!(half_a_minute_without_fencing(&mut pair), "beta waits");
    assert_eq!(pair.notices(1).iter().filter(|notice| **notice == Notice::HandshakeWaits).count(), 1);
    pair.let_go(1, Kind::Data, 1);
    pair.run();
    assert!(pair.is_in_sync());
}
