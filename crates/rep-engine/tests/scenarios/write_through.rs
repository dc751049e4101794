//! Writes that are written through on both disks: their flush is spared, and never one that is owed.

use crate::pair::{Kind, Pair};
use rep_engine::EngineConfig;
use rep_types::{IoError, OnIoError};
use rep_wire::Message;

/// Whether the write that node 0 has just been asked for reached its peer as one to be written through.
fn is_through(pair: &mut Pair) -> bool {
    let sent: Vec<bool> = pair
        .on_wire(0)
        .filter_map(|message| match message {
            Message::Write { durable, .. } | Message::ForwardWrite { fua: durable, .. } => Some(*durable),
            _ => None,
        })
        .collect();
    assert_eq!(sent.len(), 1, "one write is on its way");
    sent[0]
}

/// Writes a block and tells whether it is written through; it isn't done yet.
pub fn begun(pair: &mut Pair, block: u64, fua: bool) -> (u64, bool) {
    pair.hold_wire(0);
    let write = if fua { pair.write_fua(0, block) } else { pair.write(0, 0, block) };
    pair.run();
    (write, is_through(pair))
}

pub fn done(pair: &mut Pair, write: u64) {
    pair.let_wire_go(0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

pub fn flush(pair: &mut Pair) {
    let flush = pair.flush(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
}

/// A pair whose client has flushed after each of its writes.
fn of_a_client_that_flushes() -> Pair {
    let mut pair = Pair::with_primary(1);
    for block in 0..3 {
        let (write, through) = begun(&mut pair, block, false);
        assert!(!through, "nobody knows that a flush will follow");
        done(&mut pair, write);
        flush(&mut pair);
    }
    pair
}

/// No disk is flushed as long as flushes are held.
fn hold_flushes(pair: &mut Pair) {
    pair.hold(0, Kind::Flush, 0);
    pair.hold(1, Kind::Flush, 0);
}

#[test]
fn a_fua_write_after_which_nothing_is_to_be_flushed_is_written_through() {
    let mut pair = Pair::with_primary(1);
    flush(&mut pair);
    hold_flushes(&mut pair);
    let (write, through) = begun(&mut pair, 5, true);
    assert!(through);
    done(&mut pair, write);
}

/// What completed before is covered by FUA as by a flush (R4), and must not become stable after it (R5).
#[test]
fn a_fua_write_after_others_is_flushed_with_them() {
    let mut pair = Pair::with_primary(1);
    flush(&mut pair);
    let (write, _) = begun(&mut pair, 5, false);
    done(&mut pair, write);
    pair.hold(1, Kind::Flush, 0);
    let (write, through) = begun(&mut pair, 6, true);
    assert!(!through);
    pair.let_wire_go(0);
    assert_eq!(pair.answer(0, write), None, "beta hasn't flushed what came before");
    pair.let_go(1, Kind::Flush, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// An epoch is being closed: what it covers isn't stable yet (R5).
#[test]
fn a_fua_write_beside_a_flush_is_flushed_after_it() {
    let mut pair = Pair::with_primary(1);
    let (write, _) = begun(&mut pair, 5, false);
    done(&mut pair, write);
    pair.hold(1, Kind::Flush, 0);
    pair.flush(0, 0);
    pair.run();
    let (_, through) = begun(&mut pair, 6, true);
    assert!(!through);
}

#[test]
fn a_client_that_flushes_after_each_write_waits_for_the_peer_once() {
    let mut pair = of_a_client_that_flushes();
    hold_flushes(&mut pair);
    for block in 10..14 {
        let (write, through) = begun(&mut pair, block, false);
        assert!(through);
        done(&mut pair, write);
        flush(&mut pair);
    }
}

#[test]
fn what_it_writes_beside_another_write_is_flushed() {
    let mut pair = of_a_client_that_flushes();
    pair.hold(0, Kind::Data, 0);
    let (first, through) = begun(&mut pair, 10, false);
    assert!(through);
    pair.let_wire_go(0);
    let (second, through) = begun(&mut pair, 11, false);
    assert!(!through, "two at once aren't of a client that waits for each");
    pair.let_wire_go(0);
    pair.hold(1, Kind::Flush, 0);
    pair.let_go(0, Kind::Data, 0);
    assert_eq!((pair.answer(0, first), pair.answer(0, second)), (Some(Ok(())), Some(Ok(()))));
    let flush = pair.flush(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, flush), None, "beta has the second in its cache only");
    pair.let_go(1, Kind::Flush, 0);
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
}

/// It was guessed once, and no flush came.
#[test]
fn a_client_that_no_longer_flushes_is_believed_after_one_write() {
    let mut pair = of_a_client_that_flushes();
    let (write, through) = begun(&mut pair, 10, false);
    assert!(through);
    done(&mut pair, write);
    let (write, through) = begun(&mut pair, 11, false);
    assert!(!through);
    done(&mut pair, write);
}

/// The link goes while alpha's own disk has a write open that beta has answered: had beta it in its cache only, it would be
/// marked (R3).
#[test]
fn what_the_peer_has_written_through_is_not_marked_when_it_goes() {
    let mut pair = of_a_client_that_flushes();
    pair.hold(0, Kind::Data, 0);
    let (write, through) = begun(&mut pair, 10, false);
    assert!(through);
    pair.let_wire_go(0);
    pair.cut();
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert_eq!(pair.volume(0, 0).out_of_sync_bytes, 0);
}

/// A write that failed says of nothing that it is stable: what landed of it may be read, and is owed the next flush.
#[test]
fn a_failed_write_owes_a_flush() {
    let options = EngineConfig { on_io_error: OnIoError::PassOn, ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options).promoted();
    pair.cut();
    let write = pair.write(0, 0, 4);
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    flush(&mut pair);
    pair.hold(0, Kind::Data, 0);
    let write = pair.write_fua(0, 5);
    pair.run();
    pair.fail_held(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Err(IoError::Io)));
    pair.hold(0, Kind::Flush, 0);
    let flush = pair.flush(0, 0);
    pair.run();
    assert_eq!(pair.answer(0, flush), None);
    pair.let_go(0, Kind::Flush, 0);
    assert_eq!(pair.answer(0, flush), Some(Ok(())));
}
