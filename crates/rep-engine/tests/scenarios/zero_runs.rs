//! Zeroes within a range that a resync moves: one request, several disk operations on the target.

use crate::pair::{Kind, Pair};
use rep_engine::{EngineConfig, Pace};
use rep_types::{BLOCK_SIZE, ByteRange, ConnectionState, DiskState};
use rep_wire::Message;

const BLOCKS: u64 = 40;
const LENGTH: u32 = 40 * BLOCK_SIZE as u32;

/// Beta lacks 40 blocks in a row, one range to be moved, of which alpha reads some as zeroes.
fn with_zeroes(blocks: std::ops::Range<u32>) -> Pair {
    let pace = Pace { range_blocks_max: 64, ..Pace::default() };
    let options = EngineConfig { pace: Some(pace), ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options).promoted();
    pair.cut();
    pair.write_range(0, ByteRange::new(0, LENGTH));
    pair.run();
    pair.set_zeroes(0, blocks);
    pair
}

/// The same, and what alpha answers the request with is on its way.
fn answered(blocks: std::ops::Range<u32>) -> Pair {
    let mut pair = with_zeroes(blocks);
    answer(&mut pair);
    pair
}

fn answer(pair: &mut Pair) {
    pair.hold(0, Kind::Data, 0);
    pair.connect();
    assert_eq!(pair.held(0, Kind::Data, 0), 1, "the range is being read");
    pair.hold_wire(0);
    pair.let_go(0, Kind::Data, 0);
}

/// The answer on its way: which kind of, and bytes of data in it.
fn told(pair: &mut Pair) -> (&'static str, u32) {
    let kind = |message: &mut Message| {
        let name = match message {
            Message::ResyncData { .. } => "data",
            Message::ResyncZeroes { .. } => "zeroes",
            Message::ResyncRuns { .. } => "runs",
            _ => return None,
        };
        Some((name, message.payload_length()))
    };
    pair.on_wire(0).find_map(kind).expect("an answer")
}

/// Beta has the answer, and its disk does nothing yet.
fn landing() -> Pair {
    let mut pair = answered(4..24);
    pair.hold(1, Kind::Data, 0);
    pair.let_wire_go(0);
    assert_eq!(pair.held(1, Kind::Data, 0), 3, "data, zeroes, data");
    pair
}

fn lacks(pair: &Pair, node: usize) -> u64 {
    pair.volume(node, 0).out_of_sync_bytes
}

#[test]
fn a_run_worth_it_is_told_and_the_rest_is_data() {
    for (blocks, expected) in [
        (4..24, ("runs", 20)),
        (0..39, ("runs", 1)),
        (24..40, ("runs", 24)),
        (7..22, ("data", 40)),
        (0..0, ("data", 40)),
        (0..40, ("zeroes", 0)),
    ] {
        let mut pair = answered(blocks.clone());
        let sent = (expected.0, expected.1 * BLOCK_SIZE as u32);
        assert_eq!(told(&mut pair), sent, "{blocks:?}");
        let counted = pair.volume(0, 0).counters.sent_bytes;
        pair.let_wire_go(0);
        assert!(pair.is_in_sync(), "{blocks:?}");
        let received = pair.volume(1, 0).counters.received_bytes;
        assert_eq!((counted, received), (u64::from(sent.1), u64::from(sent.1)), "{blocks:?}");
        assert_eq!(pair.copied(1), BLOCKS * BLOCK_SIZE, "{blocks:?}: what was made equal, however");
    }
}

#[test]
fn a_peer_of_an_older_version_gets_all_of_it_as_data() {
    let mut pair = with_zeroes(4..24);
    pair.without_features();
    answer(&mut pair);
    assert_eq!(told(&mut pair), ("data", LENGTH));
    pair.let_wire_go(0);
    assert!(pair.is_in_sync());
}

/// Neither the bits nor the lock of the range depend on what of it has landed first.
#[test]
fn a_range_is_written_when_the_last_of_its_disk_operations_is() {
    let mut pair = landing();
    let write = pair.write(0, 0, 5);
    pair.run();
    for left in [2, 1] {
        pair.let_newest_go(1, Kind::Data, 0);
        assert_eq!(pair.held(1, Kind::Data, 0), left);
        assert_eq!((pair.answer(0, write), pair.copied(1)), (None, 0), "the write waits");
        assert_eq!(lacks(&pair, 0), BLOCKS * BLOCK_SIZE);
    }
    pair.let_go(1, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
    assert!(pair.is_in_sync());
}

#[test]
fn one_of_its_disk_operations_fails_and_the_range_stays_out_of_sync() {
    for well in 0..3 {
        let mut pair = landing();
        (0..well).for_each(|_| pair.let_newest_go(1, Kind::Data, 0));
        pair.let_newest_go_wrong(1, Kind::Data, 0);
        assert_eq!(pair.volume(1, 0).disk, DiskState::Diskless);
        assert_eq!((lacks(&pair, 0), pair.copied(0)), (BLOCKS * BLOCK_SIZE, 0));
        // What is still under way on the disk that was let go of concerns nobody.
        pair.let_go(1, Kind::Data, 0);
        assert_eq!(lacks(&pair, 0), BLOCKS * BLOCK_SIZE);
    }
}

/// The link goes with some of it on the disk: the rest keeps the lock until it has landed, and all of it is copied again.
#[test]
fn the_link_goes_half_way() {
    let mut pair = landing();
    pair.let_newest_go(1, Kind::Data, 0);
    pair.cut();
    assert_eq!(lacks(&pair, 1), BLOCKS * BLOCK_SIZE);
    pair.let_go(1, Kind::Data, 0);
    assert_eq!((lacks(&pair, 0), lacks(&pair, 1)), (BLOCKS * BLOCK_SIZE, BLOCKS * BLOCK_SIZE));
    // Both are compared first, since some of it may be there.
    (0..BLOCKS).for_each(|block| pair.change_block(1, block));
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!(pair.copied(1), BLOCKS * BLOCK_SIZE);
}

#[test]
fn an_answer_of_another_length_ends_the_connection() {
    let mut pair = answered(4..24);
    for message in pair.on_wire(0) {
        if let Message::ResyncRuns { length, .. } = message {
            *length -= BLOCK_SIZE as u32;
        }
    }
    assert_refused(pair);
}

#[test]
fn an_answer_without_its_data_ends_the_connection() {
    let mut pair = answered(4..24);
    pair.lose_payloads(0);
    assert_refused(pair);
}

/// Of an answer that was refused nothing is written, and the range is still to be copied.
#[track_caller]
fn assert_refused(mut pair: Pair) {
    pair.hold(1, Kind::Data, 0);
    pair.let_wire_go(0);
    assert_ne!(pair.snapshot(1).connection, ConnectionState::Connected);
    assert_eq!(pair.held(1, Kind::Data, 0), 0, "nothing is written");
    assert_eq!(lacks(&pair, 1), BLOCKS * BLOCK_SIZE);
}
