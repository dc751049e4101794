//! The role is handed over under an open device: what may go wrong on the way, and to requests that are forwarded (decision 31).

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, IoSuspension};
use rep_types::{ConnectionState, DiskState, IoError, Refusal, Role};
use std::time::Duration;

fn handed_over() -> Pair {
    let mut pair = Pair::with_primary(1);
    let handover = pair.command(0, Command::Handover);
    pair.run();
    assert_eq!(pair.outcome(0, handover), Some(Ok(CommandOutcome::Done)));
    assert_eq!((pair.snapshot(0).role, pair.snapshot(1).role), (Role::Secondary, Role::Primary));
    pair
}

/// Beta has done a write that was forwarded to it, has died before it could say so, and is back.
fn with_a_write_in_doubt() -> (Pair, u64) {
    let mut pair = handed_over();
    pair.hold_wire(1);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.cut();
    pair.kill(1);
    pair.let_wire_go(1);
    (pair, write)
}

/// ```text
/// alpha  Primary, open      ── link ──   beta  Secondary
///        handover                        Primary
///        writes, reads, flushes ──────►  as its own clients'
/// ```
#[test]
fn requests_of_the_old_primarys_device_are_served_by_the_new_one() {
    let mut pair = handed_over();
    assert!(pair.snapshot(0).forwarding.is_some_and(|device| !device.waits));
    assert!(pair.snapshot(1).peer_forwards);
    let asked = [pair.write(0, 0, 3), pair.read(0, 0, 3), pair.flush(0, 0)];
    pair.run();
    for request in asked {
        assert_eq!(pair.answer(0, request), Some(Ok(())));
    }
    assert!(pair.is_in_sync());
    // Back again: its device was open all the time, and is its own again.
    let back = pair.command(1, Command::Handover);
    pair.run();
    assert_eq!(pair.outcome(1, back), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    assert!(pair.snapshot(0).forwarding.is_none());
    let write = pair.write(0, 0, 3);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// A request that comes while the role is on its way waits, and goes where the role went.
#[test]
fn a_request_in_the_middle_of_a_handover_waits_for_its_end() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Meta, 0);
    let handover = pair.command(0, Command::Handover);
    pair.run();
    assert_eq!((pair.snapshot(0).role, pair.snapshot(1).role), (Role::Secondary, Role::Secondary));
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), None, "nobody is Primary");
    pair.let_go(1, Kind::Meta, 0);
    pair.run();
    assert_eq!(pair.outcome(0, handover), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// The answer of a forwarded write is lost with the link. It comes again on the next connection, and isn't done again: a client of
/// the new Primary may have written there meanwhile.
#[test]
fn a_write_whose_answer_was_lost_is_not_done_twice() {
    let mut pair = handed_over();
    pair.hold_wire(1);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.cut();
    pair.run();
    let newer = pair.write(1, 0, 1);
    pair.run();
    assert_eq!(pair.answer(1, newer), Some(Ok(())), "the Primary goes on alone");
    assert_eq!(pair.answer(0, write), None);
    assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::Forwarding));
    pair.hold(1, Kind::Data, 0);
    pair.let_wire_go(1);
    pair.connect();
    assert_eq!(pair.answer(0, write), Some(Ok(())), "it is told what became of it");
    pair.let_go(1, Kind::Data, 0);
    pair.run();
    assert!(pair.is_in_sync());
}

/// The new Primary dies with a forwarded write under way; the old one takes the role back, and does it itself.
#[test]
fn who_takes_the_role_back_does_what_is_unanswered() {
    let mut pair = handed_over();
    pair.hold_wire(1);
    let asked = [pair.write(0, 0, 1), pair.flush(0, 0), pair.read(0, 0, 1)];
    pair.run();
    pair.cut();
    pair.kill(1);
    let promotion = pair.command(0, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(0, promotion), Some(Ok(CommandOutcome::Done)));
    for request in asked {
        assert_eq!(pair.answer(0, request), Some(Ok(())));
    }
}

/// ```text
/// alpha  forwards w1 ──►  beta  Primary, does it; the answer is lost
///                               dies, comes back, is promoted: it knows of nothing, and may have let others write since
/// ```
/// The write is in doubt, and fails: doing it again could bring it back over what came after it. What was not sent goes on.
#[test]
fn a_write_that_a_forgetful_primary_may_have_done_fails() {
    let (mut pair, write) = with_a_write_in_doubt();
    let later = pair.write(0, 0, 2);
    pair.connect();
    assert_eq!(pair.answer(0, write), None, "nobody is Primary");
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promotion), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.answer(0, write), Some(Err(IoError::Io)));
    assert_eq!(pair.answer(0, later), Some(Ok(())));
}

/// ```text
/// alpha  forwards w1 ──►  beta  Primary, does it; the answer is lost
///                               dies, comes back, is promoted
///        asks anew   ──►        knows the name now; its answer is lost as well, and a client of its own writes there
///        meets it again
/// ```
/// Beta remembers the forwarding, but not what was asked before it died. Found by seed 652924 of the simulator, where w1 came back over
/// what had been answered and flushed since.
#[test]
fn a_primary_that_remembers_only_the_name_isnt_asked_for_what_it_has_forgotten() {
    let (mut pair, write) = with_a_write_in_doubt();
    pair.connect();
    pair.hold(1, Kind::Meta, 0);
    pair.command(1, Command::Promote { force: false });
    pair.run();
    pair.hold_wire(1);
    pair.let_go(1, Kind::Meta, 0);
    assert!(pair.deliver_one(1), "that beta is Primary");
    pair.run();
    assert!(pair.snapshot(1).peer_forwards, "beta has been asked to take requests");
    pair.cut();
    pair.let_wire_go(1);
    let newer = pair.write(1, 0, 1);
    pair.run();
    assert_eq!(pair.answer(1, newer), Some(Ok(())));
    let done = pair.volume(1, 0).counters.written_bytes;
    pair.connect();
    assert_eq!(pair.volume(1, 0).counters.written_bytes, done, "it was done again");
    assert_eq!(pair.answer(0, write), Some(Err(IoError::Io)), "it was done or not");
    assert!(pair.is_in_sync());
}

/// The Primary went on alone and then died with its node: what was answered through it and not flushed may be gone. The forwarder's
/// clients live on; the first FLUSH tells them, once.
#[test]
fn a_flush_tells_what_a_primary_that_went_on_alone_may_have_lost() {
    let mut pair = handed_over();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.cut();
    let alone = pair.write(1, 0, 2);
    pair.run();
    assert_eq!(pair.answer(1, alone), Some(Ok(())));
    pair.reboot(1);
    pair.connect();
    pair.command(1, Command::Promote { force: false });
    pair.run();
    let flushes = [pair.flush(0, 0)];
    pair.run();
    assert_eq!(pair.answer(0, flushes[0]), Some(Err(IoError::Io)));
    let next = pair.flush(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, next), Some(Ok(())));
}

/// The link goes while requests under way are being waited for: nothing was given away, and what waited goes on here.
#[test]
fn a_handover_that_loses_the_peer_before_the_role_is_given_stays() {
    let mut pair = Pair::with_primary(1);
    pair.hold(0, Kind::Data, 0);
    let before = pair.write(0, 0, 1);
    let handover = pair.command(0, Command::Handover);
    pair.run();
    let waiting = pair.write(0, 0, 2);
    pair.run();
    pair.cut();
    pair.let_go(0, Kind::Data, 0);
    pair.run();
    assert_eq!(pair.outcome(0, handover), Some(Err(CommandError::PeerLost)));
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    assert_eq!((pair.answer(0, before), pair.answer(0, waiting)), (Some(Ok(())), Some(Ok(()))));
}

/// The peer was told to be Primary, and the link goes: whether it is, nobody here knows. This node doesn't take the role back, and
/// the operator's deadline ends the command, not the waiting (H2).
#[test]
fn a_role_that_was_given_is_not_taken_back_unasked() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Meta, 0);
    let handover = pair.command(0, Command::Handover);
    pair.run();
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.snapshot(0).role, Role::Secondary);
    pair.abandon(0, handover);
    pair.let_go(1, Kind::Meta, 0);
    pair.run();
    assert_eq!((pair.snapshot(0).role, pair.snapshot(1).role), (Role::Secondary, Role::Primary));
    assert_eq!(pair.answer(0, write), None);
    pair.connect();
    assert_eq!(pair.answer(0, write), Some(Ok(())), "it was Primary, and takes it");
}

/// ```text
/// alpha  Primary ── go ─ ✂ ►  beta
/// alpha  its daemon dies, with the device open; the next one finds it, and beta out of reach
/// ```
/// A daemon that takes over what another left goes on alone if it was Primary last. From the moment beta may be told to be it, it wasn't.
#[test]
fn who_has_given_the_role_away_is_the_last_primary_no_more() {
    let mut pair = Pair::with_primary(1);
    assert!(pair.snapshot(0).last_primary);
    pair.hold(0, Kind::Meta, 0);
    pair.command(0, Command::Handover);
    pair.run();
    assert!(pair.snapshot(0).role == Role::Primary && pair.superblock(0, 0).last_primary, "not durable yet");
    pair.hold_wire(0);
    pair.let_go(0, Kind::Meta, 0);
    pair.run();
    assert_eq!((pair.snapshot(0).role, pair.snapshot(1).role), (Role::Secondary, Role::Secondary));
    pair.cut();
    pair.kill(0);
    pair.run();
    assert!(!pair.superblock(0, 0).last_primary && !pair.snapshot(0).last_primary);
    // Whoever is made Primary is the last.
    pair.let_wire_go(0);
    pair.connect();
    pair.command(0, Command::Promote { force: false });
    pair.run();
    assert!(pair.snapshot(0).last_primary && !pair.snapshot(1).last_primary);
}

/// ```text
/// alpha  told beta ── ✂ ──  beta  Primary, goes on alone; dies, and its disk with it
/// alpha  UpToDate ════════  beta  Diskless, Secondary
/// ```
/// What beta had written alone is nowhere else: it isn't told again to be Primary, on what alpha has, nor is alpha by itself (H3). Found by
/// seed 404.
#[test]
fn a_peer_that_comes_back_without_its_disk_is_not_told_again() {
    let mut pair = Pair::with_primary(1);
    pair.hold_wire(1);
    let handover = pair.command(0, Command::Handover);
    // It is asked, and agrees, and asks for its promotion, whose end alpha doesn't hear of.
    while pair.snapshot(1).role == Role::Secondary {
        pair.run();
        assert!(pair.deliver_one(1), "beta becomes Primary");
    }
    pair.cut();
    let alone = pair.write(1, 0, 1);
    pair.run();
    assert_eq!(pair.answer(1, alone), Some(Ok(())));
    pair.kill(1);
    pair.command(1, Command::Detach { volume: rep_types::VolumeNumber(0), force: true });
    pair.run();
    pair.let_wire_go(1);
    pair.connect();
    pair.pass_time(Duration::from_secs(1));
    assert_eq!((pair.snapshot(0).role, pair.snapshot(1).role), (Role::Secondary, Role::Secondary));
    assert_eq!(pair.outcome(0, handover), None, "the operator is still waiting");
    pair.abandon(0, handover);
    assert_eq!(pair.outcome(0, handover), Some(Err(CommandError::TimedOut)));
    assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::Forwarding));
}

/// The operator waits no longer while requests under way hang: the role stays.
#[test]
fn an_abandoned_handover_goes_back() {
    let mut pair = Pair::with_primary(1);
    pair.hold(0, Kind::Data, 0);
    let before = pair.write(0, 0, 1);
    let handover = pair.command(0, Command::Handover);
    pair.run();
    let waiting = pair.read(0, 0, 2);
    pair.abandon(0, handover);
    pair.let_go(0, Kind::Data, 0);
    pair.run();
    assert_eq!(pair.outcome(0, handover), Some(Err(CommandError::TimedOut)));
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    assert_eq!((pair.answer(0, before), pair.answer(0, waiting)), (Some(Ok(())), Some(Ok(()))));
    // The peer, which had agreed, is free again.
    let again = pair.command(0, Command::Handover);
    pair.run();
    assert_eq!(pair.outcome(0, again), Some(Ok(CommandOutcome::Done)));
}

#[test]
fn it_is_refused_where_it_cant_go_well() {
    let refused = |pair: &mut Pair, node: usize, refusal: Refusal| {
        let id = pair.command(node, Command::Handover);
        pair.run();
        assert_eq!(pair.outcome(node, id), Some(Err(CommandError::Refused(refusal))));
    };
    let mut pair = Pair::with_primary(1);
    refused(&mut pair, 1, Refusal::NotPrimary);
    pair.command(1, Command::Detach { volume: rep_types::VolumeNumber(0), force: false });
    pair.run();
    refused(&mut pair, 0, Refusal::PeerNotUpToDate);
    pair.attach(1, 0);
    pair.run();
    assert!(pair.is_in_sync());
    pair.command(0, Command::SuspendIo { suspended: true });
    pair.run();
    refused(&mut pair, 0, Refusal::IoSuspended);
    pair.command(0, Command::SuspendIo { suspended: false });
    pair.cut();
    pair.run();
    refused(&mut pair, 0, Refusal::NotConnected);
    pair.without_features();
    pair.connect();
    pair.run();
    refused(&mut pair, 0, Refusal::PeerTooOld);
}

/// While the peer forwards, this node neither gives the role up nor leaves; the forwarder's device goes when it is closed.
#[test]
fn the_role_stays_while_the_peers_device_is_open() {
    let mut pair = handed_over();
    let demotion = pair.command(1, Command::Demote);
    let leave = pair.command(1, Command::Disconnect { force: false });
    pair.run();
    let refused = Some(Err(CommandError::Refused(Refusal::PeerDeviceIsOpen)));
    assert_eq!((pair.outcome(1, demotion), pair.outcome(1, leave)), (refused.clone(), refused));
    let closed = pair.command(0, Command::Demote);
    pair.run();
    assert_eq!(pair.outcome(0, closed), Some(Ok(CommandOutcome::Done)));
    assert!(pair.snapshot(0).forwarding.is_none());
    let demotion = pair.command(1, Command::Demote);
    pair.run();
    assert_eq!(pair.outcome(1, demotion), Some(Ok(CommandOutcome::Done)));
}

/// `disconnect` on the node that forwards is refused while its device is open or requests are unanswered, and takes one that isn't
/// away.
#[test]
fn a_forwarder_leaves_once_its_device_is_closed() {
    let mut pair = handed_over();
    pair.open(0, 1);
    let leave = pair.command(0, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.outcome(0, leave), Some(Err(CommandError::Refused(Refusal::DeviceIsOpen))));
    pair.open(0, 0);
    let write = pair.write(0, 0, 1);
    let leave = pair.command(0, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.outcome(0, leave), Some(Err(CommandError::Refused(Refusal::Busy))));
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    let leave = pair.command(0, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.outcome(0, leave), Some(Ok(CommandOutcome::Done)));
    let (left, primary) = (pair.snapshot(0), pair.snapshot(1));
    assert!(left.forwarding.is_none());
    assert_eq!(left.connection, ConnectionState::StandAlone);
    assert_eq!((primary.role, primary.peer_forwards), (Role::Primary, false));
}

/// What waits without a Primary fails when the operator says so, and what comes then too, until there is one.
#[test]
fn requests_that_wait_fail_by_the_operators_word() {
    let mut pair = handed_over();
    pair.cut();
    let waiting = pair.write(0, 0, 1);
    pair.pass_time(Duration::from_secs(60));
    assert_eq!(pair.answer(0, waiting), None);
    pair.command(0, Command::SuspendIo { suspended: false });
    let later = pair.read(0, 0, 1);
    pair.run();
    assert_eq!((pair.answer(0, waiting), pair.answer(0, later)), (Some(Err(IoError::Io)), Some(Err(IoError::Io))));
    pair.connect();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// beta, Primary, has lost its disk; alpha's, the only one, loses its cache with what clients of both nodes were answered. What is told
/// a client of one node nobody on the other hears: a FLUSH of either fails, once. Found by seed 1862.
///
/// ```text
/// alpha  UpToDate, forwards    write ✓ ─ ⚡ ─── flush ✗ ── flush ✓
/// beta   Primary, Diskless     write ✓ ─────── flush ✗ ── flush ✓
/// ```
#[test]
fn a_lost_cache_is_told_the_clients_of_each_node() {
    let volume = rep_types::VolumeNumber(0);
    let mut pair = handed_over();
    pair.command(1, Command::Detach { volume, force: false });
    pair.run();
    let writes = [(0, pair.write(0, 0, 1)), (1, pair.write(1, 0, 2))];
    pair.run();
    for (node, write) in writes {
        assert_eq!(pair.answer(node, write), Some(Ok(())));
    }
    pair.hold(0, Kind::Flush, 0);
    pair.pass_time(Duration::from_secs(10));
    pair.fail_held(0, Kind::Flush, 0);
    pair.let_go(0, Kind::Flush, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    pair.attach(0, 0);
    pair.attach(1, 0);
    pair.run();
    assert!(pair.is_in_sync());
    for node in [0, 1] {
        assert_told_once(&mut pair, node);
    }
}

/// A client of this node is told of a loss, by the next FLUSH and by no other.
fn assert_told_once(pair: &mut Pair, node: usize) {
    let lost = pair.flush(node, 0);
    pair.run();
    let next = pair.flush(node, 0);
    pair.run();
    assert_eq!(pair.answer(node, lost), Some(Err(IoError::Io)), "node {node}");
    assert_eq!(pair.answer(node, next), Some(Ok(())), "node {node}: told once");
}

/// The same where beta's disk, the only one, fails after the role has come and before alpha forwards: alpha's clients were there all along.
/// Found by seed 1085237.
#[test]
fn what_is_lost_before_the_peer_forwards_is_told_its_clients_too() {
    let volume = rep_types::VolumeNumber(0);
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::Detach { volume, force: false });
    pair.run();
    pair.hold(1, Kind::Meta, 0);
    pair.command(0, Command::Handover);
    pair.run();
    pair.hold_wire(1);
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!(pair.snapshot(1).role, Role::Primary);
    assert!(!pair.snapshot(1).peer_forwards, "alpha hasn't heard");
    let write = pair.write(1, 0, 1);
    pair.run();
    assert_eq!(pair.answer(1, write), Some(Ok(())));
    pair.hold(1, Kind::Flush, 0);
    let lost = pair.flush(1, 0);
    pair.run();
    pair.fail_held(1, Kind::Flush, 0);
    assert_eq!(pair.answer(1, lost), Some(Err(IoError::Io)));
    pair.let_wire_go(1);
    pair.let_go(1, Kind::Flush, 0);
    assert!(pair.snapshot(1).peer_forwards);
    pair.attach(1, 0);
    pair.attach(0, 0);
    pair.run();
    assert!(pair.is_in_sync());
    assert_told_once(&mut pair, 0);
}
