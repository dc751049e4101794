//! The promises of the write path, at the moments that once broke them.

use crate::pair::{Kind, Pair};
use rep_engine::Command;
use rep_types::{BLOCK_SIZE, EXTENT_SIZE, IoError, VolumeNumber};
use std::time::Duration;

const BLOCKS_PER_EXTENT: u64 = EXTENT_SIZE / BLOCK_SIZE;

/// beta acknowledges a write, the link goes, then alpha's disk has it: beta has it in a cache nobody will flush, so it
/// is marked, and a generation says so before the client hears (R3, R14).
#[test]
fn a_write_the_peer_has_unflushed_is_marked_when_the_link_goes() {
    let mut pair = Pair::with_primary(1);
    let before = pair.superblock(0, 0).generations.current;
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 5);
    pair.run();
    pair.cut();
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert_eq!(pair.volume(0, 0).out_of_sync_bytes, BLOCK_SIZE);
    assert_ne!(pair.superblock(0, 0).generations.current, before);
    pair.connect();
    assert!(pair.is_in_sync());
}

/// The answer waits until the loss is durable (R14).
#[test]
fn nothing_is_answered_before_the_loss_of_the_peer_is_durable() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Data, 0);
    let write = pair.write(0, 0, 5);
    pair.run();
    pair.hold(0, Kind::Meta, 0);
    pair.cut();
    assert_eq!(pair.answer(0, write), None, "answered, and a crash now would show beta as good as alpha");
    pair.let_go(0, Kind::Meta, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// Two volumes, alpha without its disk of the first. The flush of the first fails on beta, which has its only disk;
/// that alpha's disk of the second flushed well says nothing about the first (I-D2).
#[test]
fn a_flush_is_judged_by_the_volume_it_is_for() {
    let mut pair = Pair::with_primary(2);
    pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    let write = pair.write(0, 0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())), "alpha goes on through beta");
    pair.hold(1, Kind::Flush, 0);
    let flush = pair.flush(0, 0);
    pair.run();
    pair.fail_held(1, Kind::Flush, 0);
    assert_eq!(pair.answer(0, flush), Some(Err(IoError::Io)));
}

/// A log with two slots, and writes to four extents at once: each gets its turn.
#[test]
fn a_small_log_serves_writes_to_many_extents() {
    let mut pair = Pair::with_primary(1);
    pair.hold(0, Kind::Meta, 0);
    let writes: Vec<u64> = (0..8).map(|at| pair.write(0, 0, (at % 4) * BLOCKS_PER_EXTENT + at)).collect();
    pair.run();
    assert!(writes.iter().all(|write| pair.answer(0, *write).is_none()), "written to extents that aren't hot");
    pair.let_go(0, Kind::Meta, 0);
    assert!(writes.iter().all(|write| pair.answer(0, *write) == Some(Ok(()))));
}

/// The epoch is closed while alpha takes its leave, so beta isn't asked to flush: what beta may lose is marked, not
/// forgotten (R3).
#[test]
fn an_epoch_closed_while_leaving_is_marked() {
    let mut pair = Pair::with_primary(1);
    let write = pair.write(0, 0, 5);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    pair.hold_wire(0);
    pair.command(0, Command::Disconnect { force: false });
    let flush = pair.flush(0, 0);
    pair.run();
    pair.let_wire_go(0);
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
    assert_eq!(pair.volume(0, 0).out_of_sync_bytes, BLOCK_SIZE);
}

/// beta flushes for itself and is asked to flush for alpha. The first fails and loses what the cache held; a second one
/// beside it could end well without that and be heard of first, and alpha would forget what beta lacks (I-D6).
/// Found by seed 64615.
#[test]
fn a_disk_is_flushed_once_at_a_time() {
    let mut pair = Pair::with_primary(1);
    pair.hold(1, Kind::Flush, 0);
    pair.pass_time(Duration::from_secs(6));
    let write = pair.write(0, 0, 5);
    let flush = pair.flush(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert_eq!(pair.held(1, Kind::Flush, 0), 1, "flushes side by side");
    pair.fail_held(1, Kind::Flush, 0);
    assert_eq!(pair.answer(0, flush), Some(Ok(())), "alpha's disk has it");
    assert_eq!(pair.volume(0, 0).out_of_sync_bytes, BLOCK_SIZE, "beta may lack it");
}

/// What waits for one volume's loss to be recorded isn't answered because that wait has ended, while another volume's loss
/// isn't recorded yet: beta has the write in its cache only, and without the generation it passes for current after it
/// has lost its power (R13). Found by seed 14029.
#[test]
fn an_answer_held_for_one_volume_waits_for_the_loss_of_another() {
    let mut pair = Pair::with_primary(2);
    pair.hold_wire(1);
    let write = pair.write(0, 1, 0);
    pair.run();
    pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.hold(1, Kind::Meta, 0);
    pair.let_wire_go(1);
    assert_eq!(pair.answer(0, write), None, "held until beta has recorded that alpha's disk is gone");
    pair.hold(0, Kind::Meta, 1);
    pair.cut();
    pair.run();
    assert_eq!(pair.answer(0, write), None, "answered before the loss of the peer is recorded");
    pair.let_go(0, Kind::Meta, 1);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}
