//! No good data in reach: with `on-no-data = "suspend-io"` clients wait for it.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, EngineConfig, IoSuspension};
use rep_types::{BLOCK_SIZE, DiskState, Fencing, IoError, OnNoData, Refusal, ReplicationState, Role, VolumeNumber};
use std::time::Duration;

const VOLUME: VolumeNumber = VolumeNumber(0);

fn suspending(fencing: Fencing) -> Pair {
    primary(1, EngineConfig { on_no_data: OnNoData::SuspendIo, fencing, ..EngineConfig::new(false, 0) })
}

fn with_policy(volumes: usize, on_no_data: OnNoData) -> Pair {
    primary(volumes, EngineConfig { on_no_data, ..EngineConfig::new(false, 0) })
}

fn primary(volumes: usize, options: EngineConfig) -> Pair {
    let mut pair = Pair::configured(volumes, &options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    pair
}

/// alpha, Primary, writes through beta because its own disk is gone; then the link goes.
fn starved() -> Pair {
    let mut pair = suspending(Fencing::DontCare);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.cut();
    assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::NoData));
    pair
}

/// ```text
/// alpha  Primary, Diskless ──  ✂  ── beta  UpToDate     reads, writes, flushes wait
///                          ─────────                    and are done when beta is back
/// ```
#[test]
fn what_waits_is_done_when_the_peer_is_back() {
    let mut pair = starved();
    let (write, flush) = (pair.write(0, 0, 1), pair.flush(0, 0));
    pair.run();
    assert_eq!((pair.answer(0, write), pair.answer(0, flush)), (None, None));
    assert!(pair.volume(0, 0).waits_for_data);
    pair.connect();
    assert_eq!((pair.answer(0, write), pair.answer(0, flush)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(pair.snapshot(0).io_suspended, None);
    assert_eq!(pair.volume(1, 0).out_of_sync_bytes, BLOCK_SIZE, "beta alone has it, and knows");
}

/// A write is on its way to beta, which is all there is, when the link goes: whether beta has it nobody knows, and it is
/// done again.
#[test]
fn a_write_under_way_when_the_last_data_go_is_done_again() {
    let mut pair = suspending(Fencing::DontCare);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.hold_wire(1);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.let_wire_go(1);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold_wire(1);
    let lost = pair.write(0, 0, 2);
    pair.run();
    pair.cut();
    pair.let_wire_go(1);
    assert_eq!(pair.answer(0, lost), None, "no error, and no success either");
    pair.connect();
    assert_eq!(pair.answer(0, lost), Some(Ok(())));
}

/// The peer is gone, alpha has answered a write alone, then its disk fails, and with it another write, which waits.
fn served_alone_last() -> (Pair, u64) {
    let mut pair = suspending(Fencing::DontCare);
    pair.cut();
    let before = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, before), Some(Ok(())));
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 2);
    pair.run();
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!((pair.answer(0, write), pair.volume(0, 0).disk), (None, DiskState::Diskless));
    (pair, write)
}

/// The peer is gone, then alpha's disk fails, then the disk comes back: it is the one its clients were served from, and
/// nobody took a write without it.
#[test]
fn the_disk_that_served_last_may_come_back_alone() {
    let (mut pair, write) = served_alone_last();
    pair.attach(0, 0);
    pair.run();
    assert_eq!((pair.answer(0, write), pair.volume(0, 0).disk), (Some(Ok(())), DiskState::UpToDate));
    pair.connect();
    assert!(pair.is_in_sync());
}

/// What was answered before the disk went was never flushed: a FLUSH that waits for it is not answered before the disk has
/// done it, however long it takes to be attached. Found by seed 39577.
#[test]
fn a_disk_that_comes_back_slowly_is_flushed_for_the_flush_that_waits() {
    let (mut pair, _) = served_alone_last();
    let flush = pair.flush(0, 0);
    pair.hold(0, Kind::Meta, 0);
    pair.attach(0, 0);
    pair.pass_time(Duration::from_secs(10));
    assert_eq!(pair.volume(0, 0).disk, DiskState::Attaching);
    pair.hold(0, Kind::Flush, 0);
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!((pair.answer(0, flush), pair.held(0, Kind::Flush, 0)), (None, 1));
    pair.let_go(0, Kind::Flush, 0);
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
}

/// alpha's disk went while beta was there, so beta went on. Without beta that disk is old, and serves nobody.
#[test]
fn a_disk_the_peer_went_on_without_serves_nobody() {
    let mut pair = starved();
    let write = pair.write(0, 0, 1);
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent);
    assert_eq!(pair.answer(0, write), None);
    pair.connect();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha  Primary  its disk fails        ✂   the disk comes back
/// beta   Consistent, then UpToDate, goes on   (alpha doesn't hear of it)
/// ```
/// Alpha's disk serves nobody without beta, whose disk was just becoming good: else both would have a generation of their own, over
/// nothing. Found by seed 14027. The same with the end of a resync of which alpha hasn't heard.
#[test]
fn a_disk_the_peer_may_have_gone_on_without_serves_nobody() {
    for filled in [false, true] {
        let mut pair = Pair::with_primary(1);
        if filled {
            pair.cut();
            pair.write(0, 0, 1);
            pair.run();
            pair.hold(1, Kind::Flush, 0);
        } else {
            pair.reboot(1);
            pair.hold(1, Kind::Meta, 0);
        }
        pair.connect();
        if filled {
            pair.hold(1, Kind::Meta, 0);
            pair.let_go(1, Kind::Flush, 0);
        }
        assert_ne!(pair.volume(0, 0).peer_disk, DiskState::UpToDate);
        pair.hold(0, Kind::Data, 0);
        pair.write(0, 0, 2);
        pair.run();
        pair.hold_wire(1);
        pair.fail_held(0, Kind::Data, 0);
        pair.let_go(1, Kind::Meta, 0);
        assert_eq!(pair.volume(1, 0).disk, DiskState::UpToDate, "filled: {filled}");
        pair.cut();
        pair.let_wire_go(1);
        pair.attach(0, 0);
        pair.run();
        assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent, "filled: {filled}");
        pair.connect();
        assert!(pair.is_in_sync(), "filled: {filled}");
    }
}

/// The flush is what failed: what it should have made stable may be lost, and a client hears that, once.
#[test]
fn a_failed_flush_is_told_and_not_tried_again() {
    let mut pair = suspending(Fencing::DontCare);
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    let flush = pair.flush(0, 0);
    pair.run();
    pair.fail_held(0, Kind::Flush, 0);
    assert_eq!((pair.answer(0, write), pair.answer(0, flush)), (Some(Ok(())), Some(Err(IoError::Io))));
    let later = pair.write(0, 0, 2);
    pair.run();
    assert_eq!(pair.answer(0, later), None, "a write waits");
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Consistent, "its cache is lost");
}

/// An answer that waits for the lost peer to be fenced is none yet: the disk fails, and the write waits for data.
#[test]
fn an_answer_that_waits_for_the_fence_waits_for_data_when_the_disk_goes() {
    let mut pair = suspending(Fencing::ResourceAndStonith);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.hold_wire(1);
    let held = pair.write(0, 0, 2);
    pair.run();
    pair.cut();
    pair.let_wire_go(1);
    assert_eq!((pair.answer(0, write), pair.answer(0, held)), (Some(Ok(())), None));
    assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::Fencing));
    pair.hold(0, Kind::Meta, 0);
    pair.fence_answers(0, rep_types::FenceAnswer::PeerFenced);
    pair.fail_held(0, Kind::Meta, 0);
    assert_eq!(pair.answer(0, held), None);
    assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::NoData));
    pair.connect();
    assert_eq!(pair.answer(0, held), Some(Ok(())));
}

/// beta is all there is, and loses power with what it took in its cache only. alpha's clients live on: they were answered, and the
/// next FLUSH must not tell them that it is stable.
///
/// ```text
/// alpha  Primary, Diskless   write ✓ ────────── flush ✗ ── flush ✓
/// beta   UpToDate            in its cache ─ ⚡ ─┘
/// ```
#[test]
fn a_flush_after_the_only_cache_was_lost_says_so_once() {
    for on_no_data in [OnNoData::SuspendIo, OnNoData::IoError] {
        let mut pair = with_policy(1, on_no_data);
        pair.command(0, Command::Detach { volume: VOLUME, force: false });
        pair.run();
        let write = pair.write(0, 0, 1);
        pair.run();
        assert_eq!(pair.answer(0, write), Some(Ok(())));
        pair.reboot(1);
        pair.connect();
        assert_eq!(pair.volume(0, 0).peer_disk, DiskState::Consistent, "{on_no_data:?}: it serves nobody");
        pair.attach(0, 0);
        pair.run();
        assert!(pair.is_in_sync(), "{on_no_data:?}");
        let (lost, next) = (pair.flush(0, 0), pair.flush(0, 0));
        pair.run();
        assert_eq!(pair.answer(0, lost), Some(Err(IoError::Io)), "{on_no_data:?}");
        assert_eq!(pair.answer(0, next), Some(Ok(())), "{on_no_data:?}: told once");
    }
}

/// alpha, Primary, serves volume 0 from beta. What its clients want stable waits for an earlier flush, which volume 1's disk doesn't end.
fn behind_a_flush_that_hangs() -> Pair {
    let mut pair = with_policy(2, OnNoData::SuspendIo);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.hold(0, Kind::Flush, 1);
    pair.write(0, 1, 0);
    pair.flush(0, 1);
    pair.run();
    assert_eq!(pair.held(0, Kind::Flush, 1), 1);
    pair
}

/// ```text
/// alpha  Primary, Diskless   FUA write: beta has it ── waits for its flush ─────────────── flushes beta
/// beta   UpToDate            in its cache ───────── ⚡ ── back, without it
/// ```
/// It is written again before it is answered, so nobody is owed a word. Found by seeds 1068957 and 3624.
#[test]
fn a_fua_write_that_waits_for_its_flush_when_the_only_cache_is_lost_is_done_again() {
    let mut pair = behind_a_flush_that_hangs();
    let write = pair.write_fua(0, 1);
    pair.run();
    pair.reboot(1);
    pair.attach(0, 0);
    pair.hold(1, Kind::Data, 0);
    pair.connect();
    pair.let_go(0, Kind::Flush, 1);
    assert_eq!(pair.answer(0, write), None, "beta has flushed what it doesn't have any more");
    pair.let_go(1, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    let flush = pair.flush(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, flush), Some(Ok(())), "nothing is lost that was answered");
}

/// The same with a FLUSH: what was answered before is lost, and that is told.
#[test]
fn a_flush_that_waits_for_another_when_the_only_cache_is_lost_says_so() {
    let mut pair = behind_a_flush_that_hangs();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    let flush = pair.flush(0, 0);
    pair.run();
    pair.reboot(1);
    pair.attach(0, 0);
    pair.connect();
    pair.let_go(0, Kind::Flush, 1);
    assert_eq!(pair.answer(0, flush), Some(Err(IoError::Io)));
}

/// alpha's disk fails at the flush, which beta's may still make good; beta loses power before. The copy the two go on with is
/// alpha's all the same, and lacks what it had in its cache. Found by seed 81385.
#[test]
fn a_flush_after_both_caches_were_lost_says_so_once() {
    let mut pair = suspending(Fencing::DontCare);
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold(0, Kind::Flush, 0);
    pair.hold_wire(0);
    let lost = pair.flush(0, 0);
    pair.run();
    pair.fail_held(0, Kind::Flush, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    pair.cut();
    pair.let_wire_go(0);
    pair.reboot(1);
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, lost), None, "it waits for data");
    pair.connect();
    assert_eq!((pair.volume(0, 0).disk, pair.is_in_sync()), (DiskState::UpToDate, true));
    assert_eq!(pair.answer(0, lost), Some(Err(IoError::Io)));
    let next = pair.flush(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, next), Some(Ok(())), "told once");
}

/// The disk fails at a flush nobody asked for, is attached again, and is good, since beta is known to be older. What it had in
/// its cache is gone all the same.
#[test]
fn a_flush_after_a_disk_lost_its_cache_says_so_once() {
    for on_no_data in [OnNoData::SuspendIo, OnNoData::IoError] {
        let mut pair = with_policy(1, on_no_data);
        pair.command(1, Command::Disconnect { force: false });
        pair.run();
        let write = pair.write(0, 0, 1);
        pair.run();
        assert_eq!(pair.answer(0, write), Some(Ok(())));
        pair.hold(0, Kind::Flush, 0);
        pair.pass_time(Duration::from_secs(10));
        pair.fail_held(0, Kind::Flush, 0);
        assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless, "{on_no_data:?}");
        pair.attach(0, 0);
        pair.run();
        assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate, "{on_no_data:?}");
        let (lost, next) = (pair.flush(0, 0), pair.flush(0, 0));
        pair.run();
        assert_eq!(pair.answer(0, lost), Some(Err(IoError::Io)), "{on_no_data:?}");
        assert_eq!(pair.answer(0, next), Some(Ok(())), "{on_no_data:?}: told once");
    }
}

/// The operator gives up waiting: what waits fails, what comes fails, and with data all is as before.
#[test]
fn resume_io_has_what_waits_fail() {
    let mut pair = starved();
    let (write, flush) = (pair.write(0, 0, 1), pair.flush(0, 0));
    let demote = pair.command(0, Command::Demote);
    assert_eq!(pair.outcome(0, demote), Some(Err(CommandError::Refused(Refusal::IoSuspended))));
    pair.command(0, Command::SuspendIo { suspended: false });
    let error = Some(Err(IoError::Io));
    assert_eq!((pair.answer(0, write), pair.answer(0, flush)), (error, error));
    let later = pair.write(0, 0, 1);
    pair.run();
    assert_eq!((pair.answer(0, later), pair.snapshot(0).io_suspended), (error, None));
    pair.connect();
    let again = pair.write(0, 0, 1);
    pair.run();
    assert_eq!(pair.answer(0, again), Some(Ok(())));
    pair.cut();
    assert_eq!(pair.snapshot(0).io_suspended, Some(IoSuspension::NoData), "his word was for that time only");
}

/// The daemon ends: nobody is left to answer later.
#[test]
fn the_end_answers_what_waits() {
    let mut pair = starved();
    let write = pair.write(0, 0, 1);
    let end = pair.command(0, Command::Shutdown);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Err(IoError::Io)));
    assert!(pair.outcome(0, end).is_some_and(|outcome| outcome.is_ok()));
}

/// The default: errors, at once.
#[test]
fn without_the_policy_clients_get_errors() {
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.cut();
    let write = pair.write(0, 0, 1);
    pair.run();
    assert_eq!((pair.answer(0, write), pair.snapshot(0).io_suspended), (Some(Err(IoError::Io)), None));
}

/// ```text
/// alpha  Primary, its disk filled: all is there ──  ✂  ── beta
///        the word that it is good is being written
/// ```
/// alpha has good data in a moment: what is under way and what comes waits for that, without the policy as well. Found by seed 1257625.
fn cut_at_a_resyncs_last_word() -> (Pair, [u64; 4]) {
    let mut pair = with_policy(1, OnNoData::IoError);
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    pair.write(0, 0, 0);
    pair.run();
    pair.hold(0, Kind::Data, 0);
    pair.attach(0, 0);
    pair.run();
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncTarget);
    pair.hold(0, Kind::Meta, 0);
    pair.let_go(0, Kind::Data, 0);
    pair.hold_wire(0);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.cut();
    pair.let_wire_go(0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Inconsistent);
    let requests = [write, pair.write(0, 0, 2), pair.read(0, 0, 3), pair.flush(0, 0)];
    pair.run();
    assert_eq!(requests.map(|request| pair.answer(0, request)), [None; 4]);
    assert_eq!(pair.snapshot(0).io_suspended, None, "nobody has to do anything");
    (pair, requests)
}

#[test]
fn clients_wait_for_the_word_that_a_disk_is_good() {
    let (mut pair, requests) = cut_at_a_resyncs_last_word();
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate);
    assert_eq!(requests.map(|request| pair.answer(0, request)), [Some(Ok(())); 4]);
}

#[test]
fn a_word_that_cant_be_written_is_an_error_for_who_waits_for_it() {
    let (mut pair, requests) = cut_at_a_resyncs_last_word();
    pair.fail_held(0, Kind::Meta, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    assert_eq!(requests.map(|request| pair.answer(0, request)), [Some(Err(IoError::Io)); 4]);
}

/// An answer that waits is none yet, whatever it waits for: here another volume's disk is gone, which beta is to record. Both
/// disks have volume 0's write, then alpha's is given up and beta goes. Found by seed 18234.
///
/// ```text
/// alpha  volume 0: write done on both, held ─ Inconsistent ─┐
///        volume 1: disk lost, beta to record it ────────────┴ ✂   no good data: nobody says that the write is done
/// ```
fn held_when_the_last_data_go(on_no_data: OnNoData) -> (Pair, u64) {
    let mut pair = with_policy(2, on_no_data);
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 1);
    pair.run();
    pair.hold_wire(0);
    pair.hold(0, Kind::Data, 1);
    pair.write(0, 1, 1);
    pair.run();
    pair.fail_held(0, Kind::Data, 1);
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), None, "beta hasn't recorded that volume 1's disk is gone");
    pair.command(0, Command::Invalidate { volume: VOLUME });
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Inconsistent);
    pair.cut();
    pair.let_wire_go(0);
    (pair, write)
}

#[test]
fn an_answer_held_for_another_volume_is_none_when_the_last_data_go() {
    let (mut pair, write) = held_when_the_last_data_go(OnNoData::SuspendIo);
    assert_eq!(pair.answer(0, write), None, "no good disk in reach has it");
    pair.connect();
    assert_eq!(pair.answer(0, write), Some(Ok(())), "it was done again");
}

#[test]
fn an_answer_held_for_another_volume_is_an_error_when_the_last_data_go() {
    let (pair, write) = held_when_the_last_data_go(OnNoData::IoError);
    assert_eq!(pair.answer(0, write), Some(Err(IoError::Io)));
}

/// The same without a peer: volume 1's generation is being written when volume 0's only disk fails at a flush, and loses
/// what it had in its cache.
#[test]
fn an_answer_held_for_another_volume_is_none_when_the_disk_goes() {
    let mut pair = with_policy(2, OnNoData::IoError);
    pair.cut();
    pair.write(0, 0, 0);
    pair.run();
    pair.hold(0, Kind::Data, 0);
    pair.hold(0, Kind::Flush, 0);
    let write = pair.write(0, 0, 1);
    pair.flush(0, 0);
    pair.hold(0, Kind::Meta, 1);
    pair.write(0, 1, 1);
    pair.run();
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), None, "volume 1's generation isn't durable");
    pair.fail_held(0, Kind::Flush, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    pair.let_go(0, Kind::Meta, 1);
    assert_eq!(pair.answer(0, write), Some(Err(IoError::Io)), "its disk is gone with it");
}

/// ```text
/// alpha Primary, writes, flushes    beta ✗            its power has failed, which alpha doesn't know yet
/// alpha lets its disk go, for beta's is good; gets it back
/// alpha SyncSource ── link ──       beta SyncTarget   whose cache was lost, and who bears the same generation
/// ```
/// That flush covers what beta has lost: before it is answered a generation says so, or beta's disk, after another power failure of
/// alpha, would pass for as good (R15). Found by seed 960034, when it was still done by alpha's disk alone: by now it waits for good
/// data, and the resync begins such a generation as well. What the FLUSH begins by itself is seen in `fencing`.
#[test]
fn a_flush_that_is_done_alone_in_the_end_is_of_a_generation_of_its_own() {
    let mut pair = suspending(Fencing::DontCare);
    let write = pair.write(0, 0, 5);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold_wire(0);
    // The second waits for the end of the first, which beta never answers.
    pair.flush(0, 0);
    let flush = pair.flush(0, 0);
    pair.run();
    pair.command(0, Command::Detach { volume: VOLUME, force: false });
    pair.run();
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
    pair.attach(0, 0);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    pair.reboot(1);
    pair.let_wire_go(0);
    pair.connect();
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncSource);
    assert_eq!(pair.answer(0, flush), None);
    pair.hold(0, Kind::Meta, 0);
    pair.let_go(0, Kind::Flush, 0);
    assert_eq!(pair.answer(0, flush), None, "no generation says yet that beta's disk lacks what this covers");
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
}
