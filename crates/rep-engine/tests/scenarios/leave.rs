//! Clean leaves: from the word on, the one who isn't Primary calls its data Outdated.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome};
use rep_meta::DataState;
use rep_types::{ConnectionState, DiskState, FenceAnswer, Fencing, IoError, Refusal, Role, VolumeNumber};
use std::time::Duration;

/// alpha, Primary, leaves; its disk fails before beta has answered. What only beta has is no success: beta calls its data
/// Outdated, and alpha's still pass for the newest (R31, R32). Found by seed 11043.
#[test]
fn what_only_an_outdated_peer_has_is_not_answered_as_done() {
    let mut pair = Pair::with_primary(1);
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    pair.hold_wire(1);
    pair.command(0, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.snapshot(0).connection, ConnectionState::Disconnecting);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Outdated);
    assert_eq!(pair.answer(0, write), None, "the own disk has it not yet");
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Err(IoError::Io)));
}

/// The same for a flush: beta's word that it flushed was for data it gives up.
#[test]
fn a_flush_of_an_outdated_peer_alone_is_not_answered_as_done() {
    let mut pair = Pair::with_primary(1);
    let write = pair.write(0, 0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold(0, Kind::Flush, 0);
    let flush = pair.flush(0, 0);
    pair.run();
    pair.hold_wire(1);
    pair.command(0, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.answer(0, flush), None);
    pair.fail_held(0, Kind::Flush, 0);
    assert_eq!(pair.answer(0, flush), Some(Err(IoError::Io)));
}

/// ```text
/// alpha  Primary, has lost beta ──  ✂  ── beta  still thinks itself connected
///        its fence-peer handler ═══════►  outdate: who doesn't answer a ping is no peer that minds
/// ```
#[test]
fn outdating_looks_first_whether_the_peer_is_there() {
    let mut pair = Pair::with_primary(1);
    let volume = VolumeNumber(0);
    let refused = pair.command(1, Command::Outdate { volume });
    pair.run();
    assert_eq!(pair.outcome(1, refused), Some(Err(CommandError::Refused(Refusal::IsConnected))), "alpha answers");
    pair.hold_wire(0);
    let outdate = pair.command(1, Command::Outdate { volume });
    pair.run();
    assert_eq!(pair.outcome(1, outdate), None);
    pair.pass_time(Duration::from_millis(600));
    assert_eq!(pair.outcome(1, outdate), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.superblock(1, 0).data, DataState::Outdated);
}

/// ```text
/// alpha Primary ====> beta SyncTarget     with fencing; the last block is there, alpha tells its generations
/// alpha Primary       beta leaves         before it has heard of them: alpha takes it for Outdated, and answers alone
/// ```
/// beta must not call itself UpToDate after that word. Found by seed 3943.
#[test]
fn a_target_that_leaves_is_not_good_any_more_when_the_end_reaches_it() {
    let mut pair = Pair::fenced(1, Fencing::ResourceAndStonith);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.cut();
    let write = pair.write(0, 0, 0);
    pair.run();
    pair.fence_answers(0, FenceAnswer::PeerOutdated);
    assert_eq!((pair.answer(0, write), pair.snapshot(0).role), (Some(Ok(())), Role::Primary));
    pair.hold(0, Kind::Data, 0);
    pair.connect();
    pair.hold(0, Kind::Flush, 0);
    pair.let_go(0, Kind::Data, 0);
    pair.hold_wire(0);
    pair.let_go(0, Kind::Flush, 0);
    pair.hold_wire(1);
    pair.command(1, Command::Disconnect { force: false });
    pair.let_wire_go(0);
    assert_eq!(pair.snapshot(1).connection, ConnectionState::Disconnecting);
    assert_ne!(pair.volume(1, 0).disk, DiskState::UpToDate);
    pair.let_wire_go(1);
    assert_eq!(pair.volume(0, 0).peer_disk, DiskState::DUnknown);
    pair.command(1, Command::Connect { discard_my_data: false });
    pair.run();
    pair.connect();
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha  Primary ──  ✂  ── beta  told to give its data up: Inconsistent, the metadata don't say so yet
///        its fence-peer handler ═══════►  outdate: answered when they do
/// ```
/// A beta that crashed before would come back Consistent, while alpha goes on alone on its word. Found by seed 72199.
#[test]
fn outdating_an_inconsistent_disk_is_answered_when_that_is_durable() {
    let mut pair = Pair::with_primary(1);
    let volume = VolumeNumber(0);
    pair.hold(1, Kind::Meta, 0);
    pair.command(1, Command::Invalidate { volume });
    pair.run();
    // The bitmap is durable, the superblock under way.
    pair.let_newest_go(1, Kind::Meta, 0);
    pair.cut();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Inconsistent);
    assert_eq!(pair.superblock(1, 0).data, DataState::Consistent);
    let outdate = pair.command(1, Command::Outdate { volume });
    pair.run();
    assert_eq!(pair.outcome(1, outdate), None);
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!(pair.outcome(1, outdate), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.superblock(1, 0).data, DataState::Inconsistent);
}

/// The same where the disk is Outdated for another reason: its Primary has just left.
#[test]
fn outdating_an_outdated_disk_is_answered_when_that_is_durable() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Meta, 0);
    pair.command(0, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.volume(1, 0).disk, DiskState::Outdated);
    assert_eq!(pair.superblock(1, 0).data, DataState::Consistent);
    let outdate = pair.command(1, Command::Outdate { volume: VolumeNumber(0) });
    pair.run();
    assert_eq!(pair.outcome(1, outdate), None);
    pair.let_go(1, Kind::Meta, 0);
    assert_eq!(pair.outcome(1, outdate), Some(Ok(CommandOutcome::Done)));
    assert_eq!(pair.superblock(1, 0).data, DataState::Outdated);
}
