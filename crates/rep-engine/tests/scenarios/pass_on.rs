//! `on-io-error = "pass-on"`: the only good disk is kept when it fails at a read or a write (R32).

use crate::pair::{Kind, Pair};
use rep_engine::{Command, EngineConfig, Notice};
use rep_types::{BLOCK_SIZE, ConnectionState, DiskState, IoError, OnIoError, OnNoData, ReplicationState};

const FAILED: Option<Result<(), IoError>> = Some(Err(IoError::Io));

/// In sync, alpha Primary.
fn passing_on(on_no_data: OnNoData) -> Pair {
    let options = EngineConfig { on_io_error: OnIoError::PassOn, on_no_data, ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair
}

/// Alpha writes alone, then beta is there again and is about to pull.
fn resyncing() -> Pair {
    let mut pair = passing_on(OnNoData::IoError);
    pair.cut();
    pair.write(0, 0, 5);
    pair.run();
    pair.hold(0, Kind::Data, 0);
    pair.connect();
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncSource);
    assert_eq!(pair.held(0, Kind::Data, 0), 1, "beta has asked for the block");
    pair
}

fn kept(pair: &Pair) {
    assert_eq!(pair.volume(0, 0).disk, DiskState::UpToDate);
    assert!(pair.notices(0).iter().any(|notice| matches!(notice, Notice::ErrorPassedOn { .. })));
}

/// ```text
/// alpha  Primary  ✂  beta        a block of alpha's disk is bad: who reads or writes there hears of it,
///        UpToDate                everybody else goes on
/// ```
#[test]
fn alone_a_client_hears_of_it_and_the_others_go_on() {
    for policy in [OnNoData::IoError, OnNoData::SuspendIo] {
        let mut pair = passing_on(policy);
        pair.cut();
        pair.hold(0, Kind::Data, 0);
        let read = pair.read(0, 0, 7);
        pair.run();
        pair.fail_held(0, Kind::Data, 0);
        assert_eq!(pair.answer(0, read), FAILED);
        pair.hold(0, Kind::Data, 0);
        let write = pair.write(0, 0, 7);
        pair.run();
        pair.fail_held(0, Kind::Data, 0);
        assert_eq!(pair.answer(0, write), FAILED, "with {policy:?}");
        kept(&pair);
        let (read, write) = (pair.read(0, 0, 8), pair.write(0, 0, 8));
        let flush = pair.flush(0, 0);
        pair.run();
        for id in [read, write, flush] {
            assert_eq!(pair.answer(0, id), Some(Ok(())));
        }
        assert_eq!(pair.volume(0, 0).out_of_sync_bytes, 2 * BLOCK_SIZE, "the one that failed as well");
        pair.connect();
        assert!(pair.is_in_sync());
    }
}

/// With another good copy in reach nobody hears of anything.
#[test]
fn beside_a_good_peer_the_disk_is_let_go_of() {
    let mut pair = passing_on(OnNoData::IoError);
    pair.hold(0, Kind::Data, 0);
    let (read, write) = (pair.read(0, 0, 7), pair.write(0, 0, 8));
    pair.run();
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!((pair.answer(0, read), pair.answer(0, write)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(pair.volume(0, 0).disk, DiskState::Diskless);
}

/// A failed flush is final: what it was to make stable may be gone.
#[test]
fn a_failed_flush_takes_the_disk_away_all_the_same() {
    let mut pair = passing_on(OnNoData::IoError);
    pair.cut();
    pair.write(0, 0, 7);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    let flush = pair.flush(0, 0);
    pair.run();
    pair.fail_held(0, Kind::Flush, 0);
    assert_eq!((pair.answer(0, flush), pair.volume(0, 0).disk), (FAILED, DiskState::Diskless));
}

/// With `durability = "stable"` nobody asks for flushes, since what is done is stable: save a write that failed. What landed of
/// it isn't shown before it is. Found by seed 1756.
#[test]
fn what_landed_of_a_failed_write_is_stable_before_anybody_reads_it() {
    let options = EngineConfig { on_io_error: OnIoError::PassOn, stable: true, ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.cut();
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 7);
    let read = pair.read(0, 0, 7);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!((pair.answer(0, write), pair.answer(0, read)), (None, None));
    pair.let_go(0, Kind::Flush, 0);
    assert_eq!((pair.answer(0, write), pair.answer(0, read)), (FAILED, Some(Ok(()))));
    kept(&pair);
}

/// That flush fails as well and takes the disk away: the write waits for data, as every other does. Found by seed 1174.
#[test]
fn a_write_passed_on_whose_disk_goes_waits_for_data() {
    let policies =
        EngineConfig { on_io_error: OnIoError::PassOn, on_no_data: OnNoData::SuspendIo, ..EngineConfig::new(false, 0) };
    let options = EngineConfig { stable: true, ..policies };
    let mut pair = Pair::configured(1, &options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.cut();
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 7);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    pair.fail_held(0, Kind::Data, 0);
    pair.fail_held(0, Kind::Flush, 0);
    assert_eq!((pair.volume(0, 0).disk, pair.answer(0, write)), (DiskState::Diskless, None));
    assert!(pair.volume(0, 0).waits_for_data);
    pair.command(0, Command::SuspendIo { suspended: false });
    pair.run();
    assert_eq!(pair.answer(0, write), FAILED);
}

/// ```text
/// alpha  Primary ════> beta  SyncTarget     alpha's disk fails at a write that beta's takes: now the two differ there
///            marked, the connection begins anew, beta gets what alpha has
/// ```
#[test]
fn a_write_its_target_has_is_marked() {
    let mut pair = resyncing();
    let write = pair.write(0, 0, 9);
    pair.run();
    pair.let_newest_go_wrong(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), FAILED);
    kept(&pair);
    assert_ne!(pair.snapshot(0).connection, ConnectionState::Connected);
    assert_eq!(pair.volume(0, 0).out_of_sync_bytes, 2 * BLOCK_SIZE);
    pair.let_go(0, Kind::Data, 0);
    pair.connect();
    assert!(pair.is_in_sync());
}

/// The target asks again; once the block can be read, or has been written, the resync ends.
#[test]
fn a_block_that_can_t_be_read_keeps_the_resync_waiting() {
    let mut pair = resyncing();
    pair.fail_held(0, Kind::Data, 0);
    kept(&pair);
    assert_eq!(pair.volume(1, 0).disk, DiskState::Inconsistent);
    assert_eq!(pair.snapshot(0).connection, ConnectionState::Connected, "and asks again");
    pair.pass_time(std::time::Duration::from_secs(1));
    assert!(pair.is_in_sync());
}

/// alpha, Primary without a disk, reads from beta, which is all there is.
#[test]
fn a_peer_s_client_hears_of_it_too() {
    let mut pair = passing_on(OnNoData::IoError);
    pair.command(0, Command::Detach { volume: rep_types::VolumeNumber(0), force: false });
    pair.run();
    pair.hold(1, Kind::Data, 0);
    let read = pair.read(0, 0, 3);
    pair.run();
    pair.fail_held(1, Kind::Data, 0);
    assert_eq!((pair.answer(0, read), pair.volume(1, 0).disk), (FAILED, DiskState::UpToDate));
    let read = pair.read(0, 0, 4);
    pair.run();
    assert_eq!(pair.answer(0, read), Some(Ok(())));
}
