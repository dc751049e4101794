//! The before-resync-target handler has a say before a resync overwrites a disk.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, EngineConfig, Notice};
use rep_meta::DataState;
use rep_types::{ConnectionState, DiskState, ReplicationState};

/// beta lacks a block of alpha's, they have met again, and beta's handler is asked.
fn asked() -> Pair {
    let options = EngineConfig { asks_before_resync: true, ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.cut();
    pair.write(0, 0, 5);
    pair.run();
    pair.connect();
    assert!(pair.resync_asked(1).is_some() && pair.resync_asked(0).is_none(), "the target is asked");
    pair
}

/// ```text
/// alpha  Primary ═════ beta  asks its handler      its disk is whole until that has said yes
///                 ───► beta  SyncTarget
/// ```
#[test]
fn nothing_is_overwritten_before_the_handler_has_said_yes() {
    let mut pair = asked();
    assert_eq!(pair.superblock(1, 0).data, DataState::Consistent, "a snapshot taken now is of one moment");
    assert_eq!(pair.volume(1, 0).replication, ReplicationState::SyncTarget);
    let write = pair.write(0, 0, 6);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())), "clients don't wait for it");
    pair.resync_answers(1, true);
    assert!(pair.is_in_sync());
}

#[test]
fn a_no_leaves_both_as_they_are_until_the_operator_connects() {
    let mut pair = asked();
    pair.resync_answers(1, false);
    let beta = pair.snapshot(1);
    assert_eq!((beta.connection, beta.resync_refused), (ConnectionState::StandAlone, true));
    assert_eq!(beta.volumes[0].disk, DiskState::Outdated, "whole, and known to be old");
    assert!(pair.notices(1).iter().any(|notice| matches!(notice, Notice::ResyncNotAllowed { .. })));
    pair.command(1, Command::Connect { discard_my_data: false });
    assert!(!pair.snapshot(1).resync_refused);
    pair.connect();
    pair.resync_answers(1, true);
    assert!(pair.is_in_sync());
}

/// What is said of a resync that is over counts for no other.
#[test]
fn an_answer_that_comes_too_late_allows_nothing() {
    let mut pair = asked();
    let first = pair.resync_asked(1).expect("asked");
    pair.cut();
    pair.connect();
    pair.resync_answers_to(1, first, true);
    assert_eq!(pair.superblock(1, 0).data, DataState::Outdated);
    assert!(!pair.is_in_sync());
    pair.resync_answers(1, true);
    assert!(pair.is_in_sync());
}

/// A Primary whose data are older is told apart from other refusals: somebody has to give way.
#[test]
fn a_primary_that_is_behind_is_told() {
    let mut pair = Pair::with_primary(1);
    pair.cut();
    pair.command(1, Command::Promote { force: true });
    pair.run();
    pair.hold(1, Kind::Flush, 0);
    let write = pair.write(1, 0, 1);
    pair.run();
    assert_eq!(pair.answer(1, write), Some(Ok(())));
    pair.command(1, Command::Demote);
    pair.let_go(1, Kind::Flush, 0);
    pair.connect();
    assert!(pair.notices(0).contains(&Notice::PrimaryIsBehind));
    assert!(!pair.notices(1).contains(&Notice::PrimaryIsBehind));
    assert_eq!(pair.snapshot(0).connection, ConnectionState::StandAlone);
}
