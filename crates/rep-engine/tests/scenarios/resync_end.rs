//! The end of a resync that its source never heard of: the target bears the source's generation by then, so what the
//! source answers alone afterwards needs a new one (R14), whatever has become of the source meanwhile.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, EngineConfig};
use rep_types::{DiskState, OnNoData, ReplicationState, Role, SyncVerdict, VolumeNumber};

/// beta has been filled by alpha, a Primary, and the word of that was lost with the connection.
fn end_unheard_of(options: &EngineConfig) -> Pair {
    let mut pair = Pair::configured(1, options);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    pair.fill_without_a_last_word();
    pair.cut();
    pair.let_wire_go(1);
    let generations = [0, 1].map(|node| pair.superblock(node, 0).generations);
    assert_eq!(generations[0].current, generations[1].current);
    assert!(generations[0].bitmap.is_real() && generations[1].bitmap.is_none());
    pair
}

fn last_verdict(pair: &Pair, node: usize) -> Option<SyncVerdict> {
    pair.volume(node, 0).last_decision.map(|decision| decision.verdict)
}

/// ```text
/// alpha  source, never heard of the end; its daemon restarts; beta is dead: Primary by force, answers a write,
///        loses its power
/// beta   comes back with the generation alpha's disk bore when it answered
/// ```
/// For beta that was the crash of a Primary whose data it shares, and the survivor's data win: the write was lost.
#[test]
fn a_restarted_source_that_goes_on_alone_is_newer() {
    let mut pair = end_unheard_of(&EngineConfig::new(false, 0));
    pair.kill(0);
    pair.command(0, Command::Promote { force: true });
    pair.run();
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    let write = pair.write(0, 0, 9);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    let generations = [0, 1].map(|node| pair.superblock(node, 0).generations.current);
    assert_ne!(generations[0], generations[1], "beta passes for as good as alpha");
    pair.reboot(0);
    pair.connect();
    assert!(matches!(last_verdict(&pair, 0), Some(SyncVerdict::Source(_))));
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha  Primary, source, never heard of the end; loses its disk, which comes back; client I/O waits for it
/// beta   rebooted: Consistent; both meet
/// ```
/// alpha, the source again, answered writes before beta had joined, under the generation beta bears. Found by seed 30242.
#[test]
fn a_source_answers_nothing_alone_before_beta_passes_for_older() {
    let options = EngineConfig { on_no_data: OnNoData::SuspendIo, ..EngineConfig::new(false, 0) };
    let mut pair = end_unheard_of(&options);
    pair.hold(0, Kind::Data, 0);
    pair.write(0, 0, 7);
    pair.run();
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!((pair.volume(0, 0).disk, pair.snapshot(0).role), (DiskState::Diskless, Role::Primary));
    pair.let_go(0, Kind::Data, 0);
    pair.attach(0, 0);
    pair.reboot(1);
    let write = pair.write(0, 0, 9);
    pair.connect_half(0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    let generations = [0, 1].map(|node| pair.superblock(node, 0).generations.current);
    assert_ne!(generations[0], generations[1], "beta passes for as good as alpha");
    pair.cut();
    pair.connect();
    assert!(pair.is_in_sync());
}

/// ```text
/// alpha Primary    ── link ──    beta Secondary    alpha's disk is back, and filled from beta's
/// alpha adopts     ◄─────────    beta              the generation is on its way to alpha's disk; a write is under way
/// alpha            ◄─────────    beta Diskless     it fails beta's disk
/// alpha UpToDate                                   only now could a generation say that beta's disk lacks that write
/// ```
/// Before the write is answered one does.
#[test]
fn a_source_that_fails_while_its_generation_is_taken_over_passes_for_current_no_more() {
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.write(0, 0, 7);
    pair.run();
    pair.hold(0, Kind::Flush, 0);
    pair.attach(0, 0);
    pair.run();
    pair.write(0, 0, 7);
    pair.run();
    pair.hold(0, Kind::Meta, 0);
    pair.let_go(0, Kind::Flush, 0);
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncTarget);
    (0..2).for_each(|node| pair.hold(node, Kind::Data, 0));
    let write = pair.write(0, 0, 7);
    pair.run();
    pair.fail_held(1, Kind::Data, 0);
    pair.run();
    assert_eq!((pair.volume(0, 0).disk, pair.volume(0, 0).peer_disk), (DiskState::Inconsistent, DiskState::Diskless));
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!((pair.volume(0, 0).disk, pair.answer(0, write)), (DiskState::UpToDate, None));
    let current = [0, 1].map(|node| pair.superblock(node, 0).generations.current);
    assert_ne!(current[0], current[1], "beta's disk passes for as good as alpha's");
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}
