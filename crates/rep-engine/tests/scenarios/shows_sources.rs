//! Clients are shown what a resync's source holds from when the nodes have met, also those of a target that has not
//! taken a block yet: whatever parts the nodes then, that target fills nobody with what it held before (decision 42).

use crate::pair::{Kind, Pair};
use rep_engine::Command;
use rep_types::{DiskState, SyncRule, SyncVerdict, VolumeNumber};

/// The rule, and whether alpha is the target.
fn decided(pair: &Pair) -> (SyncRule, bool) {
    let decision = pair.volume(0, 0).last_decision.expect("they have met");
    (decision.rule, matches!(decision.verdict, SyncVerdict::Target(_)))
}

fn assert_alpha_is_filled(mut pair: Pair) {
    assert_eq!(pair.volume(0, 0).disk, DiskState::Outdated, "it knows that newer data exist");
    pair.connect();
    assert!(decided(&pair).1, "alpha's blocks of before go over what clients have read: {:?}", decided(&pair));
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha Primary    ✗             beta Secondary    alpha's daemon dies with writes under way
/// alpha SyncTarget ── link ──    beta SyncSource   its flush hangs: it has begun no generation yet
/// alpha Primary    ── link ──    beta              promoted again: its clients read from beta
/// alpha Outdated      ✂          beta ✗            and the crash that made alpha the target is forgotten
/// ```
#[test]
fn a_primary_does_not_bring_back_what_a_crash_of_before_left() {
    let mut pair = Pair::with_primary(1);
    pair.write(0, 0, 5);
    pair.run();
    pair.kill(0);
    pair.hold(1, Kind::Flush, 0);
    pair.connect();
    assert_eq!(decided(&pair), (SyncRule::CrashedPrimary, true));
    pair.promote(0);
    let read = pair.read(0, 0, 5);
    pair.run();
    assert_eq!(pair.answer(0, read), Some(Ok(())));
    pair.cut();
    pair.kill(1);
    assert_alpha_is_filled(pair);
}

/// ```text
/// alpha Secondary ── link ──    beta Primary      a verify has found that a block differs
/// alpha               ✂          beta
/// alpha SyncTarget              beta SyncSource   its flush hangs: it has begun no generation yet
/// alpha Outdated                beta ✗            its daemon dies
/// ```
/// The survivor of a crash has everything that was answered, but not what was never to be its own.
#[test]
fn a_target_to_be_is_no_survivor() {
    let mut pair = Pair::in_sync(1);
    pair.promote(1);
    pair.change_block(0, 3);
    pair.command(1, Command::Verify { volume: VolumeNumber(0), repair_from: None });
    pair.run();
    pair.cut();
    pair.hold(1, Kind::Flush, 0);
    pair.connect();
    assert_eq!(decided(&pair), (SyncRule::Reconnected, true));
    let read = pair.read(1, 0, 3);
    pair.run();
    assert_eq!(pair.answer(1, read), Some(Ok(())));
    pair.kill(1);
    assert_alpha_is_filled(pair);
}

/// What beta, promoted alone, shows its clients of a block is on record, though they write nothing: both nodes' power goes, and it's
/// still alpha's disk that is filled (decision 43).
fn assert_what_beta_shows_counts(mut pair: Pair) {
    pair.promote(1);
    let read = pair.read(1, 0, 5);
    pair.run();
    assert_eq!(pair.answer(1, read), Some(Ok(())));
    pair.reboot(0);
    pair.reboot(1);
    pair.connect();
    assert!(decided(&pair).1, "alpha's blocks of before go over what clients have read: {:?}", decided(&pair));
    assert!(pair.is_in_sync());
}

/// A write has reached the Primary's disk, and not the link, when the node goes.
fn primary_gone_with_a_write_under_way() -> Pair {
    let mut pair = Pair::with_primary(1);
    pair.hold_wire(0);
    pair.write(0, 0, 5);
    pair.run();
    pair.reboot(0);
    pair.let_wire_go(0);
    pair
}

/// ```text
/// alpha Primary ✗        ✂          beta Secondary   a write was under way
/// alpha                  ✂          beta Primary     promoted alone
/// ```
#[test]
fn a_survivor_s_clients_are_on_record_though_they_write_nothing() {
    assert_what_beta_shows_counts(primary_gone_with_a_write_under_way());
}

/// ```text
/// alpha Primary ✗        ✂          beta Secondary   a write was under way
/// alpha             ── link ──      beta SyncSource  alpha hasn't heard yet what was decided, and beta's flush hangs
/// alpha Consistent       ✂          beta Primary     promoted alone
/// ```
/// Found by seed 1058978.
#[test]
fn so_are_those_of_a_source_whose_resync_never_began() {
    let mut pair = primary_gone_with_a_write_under_way();
    pair.hold(1, Kind::Flush, 0);
    pair.hold_decision_of(1);
    assert_eq!(pair.volume(1, 0).disk, DiskState::UpToDate);
    pair.cut();
    pair.let_go(1, Kind::Flush, 0);
    pair.let_wire_go(1);
    assert_what_beta_shows_counts(pair);
}

/// ```text
/// alpha Primary ✗        ✂          beta Secondary   a write was under way
/// alpha Diskless    ── link ──      beta             its daemon begins anew, its disk is still to come
/// alpha Diskless    ── link ──      beta Primary     promoted
/// ```
#[test]
fn and_those_of_a_node_whose_peer_has_yet_to_get_its_disk_back() {
    let mut pair = primary_gone_with_a_write_under_way();
    pair.kill_without_disks(0);
    pair.command(0, Command::Connect { discard_my_data: false });
    pair.connect();
    assert_eq!(pair.volume(1, 0).peer_disk, DiskState::Diskless);
    assert_what_beta_shows_counts(pair);
}
