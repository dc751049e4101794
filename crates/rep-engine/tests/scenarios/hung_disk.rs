//! A disk of this node's own that doesn't answer: how it is told, how it is left, and what must not come of it.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, EngineConfig, Notice, Tunables, Why};
use rep_types::{BLOCK_SIZE, DiskState, IoError, OnNoData, Refusal, Role, VolumeNumber};
use std::time::Duration;

const VOLUME: VolumeNumber = VolumeNumber(0);
const DONE: Option<Result<CommandOutcome, CommandError>> = Some(Ok(CommandOutcome::Done));

fn refused(refusal: Refusal) -> Option<Result<CommandOutcome, CommandError>> {
    Some(Err(CommandError::Refused(refusal)))
}

/// alpha is Primary, with this `disk-timeout`.
fn with_timeout(seconds: u64) -> Pair {
    let options =
        EngineConfig { disk_timeout: Duration::from_secs(seconds), pace: None, ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    pair
}

/// Time passes as it does for a shell that is awake.
fn pass(pair: &mut Pair, seconds: u64) {
    (0..seconds).for_each(|_| pair.pass_time(Duration::from_secs(1)));
}

fn detach(pair: &mut Pair, node: usize, force: bool) -> u64 {
    pair.command(node, Command::Detach { volume: VOLUME, force })
}

/// The node's disk answers again, is attached, and the pair comes together.
fn comes_back(pair: &mut Pair, node: usize) {
    pair.let_go(node, Kind::Data, 0);
    pair.attach(node, 0);
    pair.run();
    assert!(pair.is_in_sync(), "{:?}", pair.snapshot(node));
}

// ---- what is told ----

/// The age of the oldest operation is that of the disk's silence, on both sides, and goes when it answers.
#[test]
fn the_silence_of_a_disk_is_told() {
    let mut pair = Pair::with_primary(1);
    assert_eq!(pair.volume(0, 0).disk_unanswered, None);
    pair.hold(0, Kind::Data, 0);
    pair.write(0, 0, 0);
    pair.run();
    pass(&mut pair, 7);
    pair.write(0, 0, 1);
    pass(&mut pair, 1);
    assert_eq!(pair.volume(0, 0).disk_unanswered, Some(Duration::from_secs(8)));
    assert_eq!(pair.volume(1, 0).disk_unanswered, None, "beta's disk answered");
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.volume(0, 0).disk_unanswered, None);
}

// ---- how it is left ----

/// beta's disk hangs, and its operator doesn't wait for its detach any more: the disk is let go of as it is, and nothing is
/// left standing that would keep beta's other commands `Busy`. Before, it stood until the disk answered.
#[test]
fn a_detach_nobody_waits_for_leaves_nothing_standing() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    let detached = detach(&mut pair, 1, false);
    pair.run();
    // That beta's disk goes is told at once.
    assert_eq!((pair.outcome(1, detached), pair.answer(0, write)), (None, Some(Ok(()))));
    pair.abandon(1, detached);
    pair.run();
    assert_eq!(pair.outcome(1, detached), Some(Err(CommandError::TimedOut)));
    assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
    // Who is Primary says no: that is an answer of how things are, and not `Busy`.
    let promote = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promote), refused(Refusal::PeerIsPrimary));
    comes_back(&mut pair, 1);
}

/// alpha's disk hangs in the middle of a demotion that nobody waits for any more: letting go of the disk is the way out, of the
/// demotion, too, and beta can take over.
#[test]
fn a_primary_is_detached_under_a_command_that_hangs_on_its_disk() {
    let mut pair = Pair::with_primary(1);
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    let demote = pair.command(0, Command::Demote);
    pair.run();
    pair.abandon(0, demote);
    assert_eq!((pair.outcome(0, demote), pair.answer(0, write)), (Some(Err(CommandError::TimedOut)), None));
    let detached = detach(&mut pair, 0, false);
    pair.run();
    assert_eq!((pair.outcome(0, detached), pair.answer(0, write)), (DONE, Some(Ok(()))));
    assert_eq!(pair.snapshot(0).role, Role::Secondary);
    let promote = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, promote), DONE);
    comes_back(&mut pair, 0);
}

/// A command hangs on beta's metadata, and nobody waits for it any more: `detach --force` goes past it, and ends it.
#[test]
fn a_disk_is_detached_by_force_under_a_command_that_hangs_on_it() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Meta, 0);
    let invalidate = pair.command(1, Command::Invalidate { volume: VOLUME });
    pair.run();
    pair.abandon(1, invalidate);
    let gently = detach(&mut pair, 1, false);
    assert_eq!(pair.outcome(1, gently), refused(Refusal::Busy));
    let at_once = detach(&mut pair, 1, true);
    pair.run();
    assert_eq!(pair.outcome(1, at_once), DONE);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
    let after = pair.command(1, Command::Disconnect { force: false });
    pair.run();
    assert_eq!(pair.outcome(1, after), DONE, "nothing stands any more");
}

/// A disk hangs while it is being attached, and nobody waits for that any more.
#[test]
fn a_disk_that_hangs_at_its_attach_is_let_go_of_by_force() {
    let mut pair = Pair::with_primary(1);
    detach(&mut pair, 1, false);
    pair.run();
    pair.hold(1, Kind::Meta, 0);
    pair.attach(1, 0);
    pass(&mut pair, 5);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Attaching);
    assert_eq!(pair.volume(1, 0).disk_unanswered, Some(Duration::from_secs(5)));
    let at_once = detach(&mut pair, 1, true);
    pair.run();
    assert_eq!((pair.outcome(1, at_once), pair.volume(1, 0).disk), (DONE, DiskState::Diskless));
    pair.let_go(1, Kind::Meta, 0);
    pair.attach(1, 0);
    pair.run();
    assert!(pair.is_in_sync());
}

/// What the old disk was asked for can still land on it: until all of it is back it isn't attached (H2).
#[test]
fn a_disk_is_not_attached_beside_its_own_past() {
    let mut pair = Pair::with_primary(1);
    pair.hold(0, Kind::Data, 0);
    let first = pair.write(0, 0, 0);
    let second = pair.write(0, 0, 1);
    pair.run();
    detach(&mut pair, 0, false);
    pair.run();
    assert_eq!([first, second].map(|write| pair.answer(0, write)), [Some(Ok(())); 2]);
    for left in [2, 1] {
        assert_eq!(pair.volume(0, 0).old_operations, left);
        pair.attach(0, 0);
        pair.run();
        assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless, "attached with {left} operations under way");
        pair.let_newest_go(0, Kind::Data, 0);
    }
    assert_eq!(pair.volume(0, 0).old_operations, 0);
    comes_back_unheld(&mut pair);
}

fn comes_back_unheld(pair: &mut Pair) {
    pair.hold(0, Kind::Flush, 0);
    pair.let_go(0, Kind::Flush, 0);
    pair.attach(0, 0);
    comes_back_data(pair);
}

/// What is still held of data is what the resync writes.
fn comes_back_data(pair: &mut Pair) {
    pair.let_go(0, Kind::Data, 0);
    pair.run();
    assert!(pair.is_in_sync(), "{:?}", pair.snapshot(0));
}

/// The last good copy in reach goes by force only, and comes back as what it was: nobody has gone on without it.
#[test]
fn the_last_good_copy_is_let_go_of_by_force_only() {
    let options = EngineConfig { on_no_data: OnNoData::SuspendIo, ..EngineConfig::new(false, 0) };
    for options in [EngineConfig::new(false, 0), options] {
        let mut pair = Pair::configured(1, &options);
        pair.command(0, Command::Promote { force: false });
        pair.run();
        pair.cut();
        pair.write(0, 0, 7);
        pair.run();
        pair.hold(0, Kind::Data, 0);
        let write = pair.write(0, 0, 0);
        pair.run();
        let gently = detach(&mut pair, 0, false);
        assert_eq!(pair.outcome(0, gently), refused(Refusal::OnlyGoodCopy));
        let at_once = detach(&mut pair, 0, true);
        pair.run();
        assert_eq!(pair.outcome(0, at_once), DONE);
        let waits = options.on_no_data == OnNoData::SuspendIo;
        assert_eq!(pair.answer(0, write), (!waits).then_some(Err(IoError::Io)));
        pair.let_go(0, Kind::Data, 0);
        pair.attach(0, 0);
        pair.run();
        assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate);
        assert_eq!(pair.answer(0, write), Some(if waits { Ok(()) } else { Err(IoError::Io) }));
        pair.connect();
        assert!(pair.is_in_sync());
    }
}

// ---- disk-timeout ----

/// alpha's disk doesn't answer for as long as `disk-timeout` says: it is let go of, and clients go on at beta's.
#[test]
fn a_primary_goes_on_without_a_disk_that_is_silent_for_too_long() {
    let mut pair = with_timeout(10);
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    pass(&mut pair, 9);
    assert_eq!(pair.answer(0, write), None);
    pass(&mut pair, 2);
    assert_eq!((pair.answer(0, write), pair.volume(0, 0).disk), (Some(Ok(())), DiskState::Diskless));
    let told = Notice::Disk { volume: VOLUME, from: DiskState::UpToDate, to: DiskState::Failed, why: Why::DiskTimeout };
    assert!(pair.notices(0).contains(&told), "{:?}", pair.notices(0));
    comes_back(&mut pair, 0);
}

/// beta's does: alpha's clients go on, long before they would leave beta for it (`ko-count`).
#[test]
fn a_secondary_lets_go_of_a_disk_that_is_silent_for_too_long() {
    let mut pair = with_timeout(10);
    pair.hold(1, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    pass(&mut pair, 11);
    assert_eq!((pair.answer(0, write), pair.volume(1, 0).disk), (Some(Ok(())), DiskState::Diskless));
    comes_back(&mut pair, 1);
}

/// Without another good copy in reach there is nothing to go on with: clients wait (H1).
#[test]
fn the_last_good_copy_is_kept_however_long_it_is_silent() {
    let mut pair = with_timeout(10);
    pair.cut();
    pair.write(0, 0, 7);
    pair.run();
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    pass(&mut pair, 300);
    assert_eq!((pair.answer(0, write), pair.volume(0, 0).disk), (None, DiskState::UpToDate));
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.connect();
    assert!(pair.is_in_sync());
}

/// Both disks lie on one storage, and that hangs: giving one up would leave clients with the other, and soon with none, where
/// all it takes is to wait (H1).
#[test]
fn both_disks_hang_and_none_is_given_up_for_the_other() {
    for limit in [3, 10, 60] {
        let mut pair = with_timeout(limit);
        pair.hold(0, Kind::Data, 0);
        pair.hold(1, Kind::Data, 0);
        let write = pair.write(0, 0, 0);
        pair.run();
        pass(&mut pair, 200);
        assert_eq!((pair.answer(0, write), pair.volume(0, 0).disk), (None, DiskState::UpToDate), "{limit} s");
        pair.let_go(0, Kind::Data, 0);
        assert_eq!(pair.answer(0, write), Some(Ok(())), "{limit} s");
    }
}

/// A shell that was stopped for ten minutes finds its disk's answers late, not its disk (H3).
#[test]
fn a_daemon_that_was_stopped_doesnt_take_its_disk_for_silent() {
    let mut pair = with_timeout(10);
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 0);
    pair.run();
    pass(&mut pair, 1);
    pair.hold_wire(1);
    pair.pass_time(Duration::from_secs(600));
    assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate);
    assert!(pair.volume(0, 0).disk_unanswered.is_some_and(|silent| silent < Duration::from_secs(10)));
    pair.let_wire_go(1);
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// An operation that waits in the shell for a buffer (those are with a slow peer, say) isn't the disk's to answer.
#[test]
fn what_waits_for_a_buffer_says_nothing_of_the_disk() {
    let mut pair = with_timeout(10);
    pair.hold(0, Kind::Data, 0);
    pair.write(0, 0, 0);
    pair.run();
    pair.queue_held(0);
    pass(&mut pair, 30);
    assert_eq!((pair.volume(0, 0).disk, pair.volume(0, 0).disk_unanswered), (DiskState::UpToDate, None));
    pair.begin_held(0);
    pass(&mut pair, 9);
    assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate);
    pass(&mut pair, 2);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
}

/// A flush that failed after its disk was let go of is heard of before that is attached: it lacks what was in its cache (I-D6).
#[test]
fn a_flush_that_fails_late_counts() {
    let mut pair = with_timeout(10);
    pair.write(0, 0, 0);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    let flush = pair.flush(0, 0);
    pass(&mut pair, 11);
    assert_eq!((pair.volume(0, 0).disk, pair.answer(0, flush)), (DiskState::Diskless, Some(Ok(()))));
    pair.attach(0, 0);
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless, "attached before the flush came back");
    pair.fail_held(0, Kind::Flush, 0);
    pair.attach(0, 0);
    pair.run();
    assert!(pair.is_in_sync());
    assert!(pair.copied(0) >= BLOCK_SIZE, "what its cache held was copied again");
}

// ---- settings that change under way ----

/// A resync is bounded by `max-rate` from when that changes, not from its next beginning.
#[test]
fn a_resync_goes_by_a_rate_that_is_changed_under_way() {
    let options = EngineConfig { resync_rate_max: BLOCK_SIZE, pace: None, ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.cut();
    for block in 0..10 {
        pair.write(0, 0, 2 * block);
    }
    pair.run();
    pair.connect();
    pass(&mut pair, 3);
    let copied = pair.copied(1) / BLOCK_SIZE;
    assert!((2..=5).contains(&copied), "{copied} blocks copied of ten after three seconds at one a second");
    let tuned = pair.command(1, Command::Tune(Tunables { resync_rate_max: BLOCK_SIZE / 4, ..(&options).into() }));
    assert_eq!(pair.outcome(1, tuned), DONE);
    pass(&mut pair, 5);
    let more = pair.copied(1) / BLOCK_SIZE - copied;
    assert!((1..=3).contains(&more), "{more} blocks more, five seconds later at one in four");
    pair.command(1, Command::Tune(Tunables { resync_rate_max: 0, ..(&options).into() }));
    pair.pass_time(Duration::from_millis(1));
    assert!(pair.is_in_sync());
}
