//! A resync that yields to clients, whatever they wait: it goes on, and nothing it keeps waiting takes it for stalled.

use crate::pair::{Kind, Pair};
use rep_engine::{EngineConfig, Pace};
use rep_types::{BLOCK_SIZE, ConnectionState};
use std::time::Duration;

const BLOCKS: u64 = 8;

/// alpha is Primary, its clients wait a millisecond without a resync, and beta lacks some blocks, each of which is a range of
/// its own.
fn to_be_filled(pace: Pace) -> Pair {
    let options = EngineConfig { pace: Some(pace), ..EngineConfig::new(false, 0) };
    let mut pair = Pair::configured(1, &options).promoted();
    pair.cut();
    for block in 0..BLOCKS {
        pair.write(0, 0, 2 * block);
    }
    pair.run();
    for _ in 0..20 {
        client_waits(&mut pair, Duration::from_millis(1));
    }
    assert!(pair.snapshot(0).pacing.is_some_and(|pacing| pacing.alone_p99.is_some()), "it was measured");
    pair
}

fn pace() -> Pace {
    Pace {
        range_blocks_max: 1,
        requests_min: 1,
        window_min: Duration::from_millis(1),
        window_max: Duration::from_millis(100),
        slack: Duration::ZERO,
        measure_interval: Duration::from_secs(10),
        rate_min_bytes_per_s: 16 * BLOCK_SIZE,
        rate_first_bytes_per_s: 16 * BLOCK_SIZE,
    }
}

/// A client's write that takes so long, far from what is resynced.
fn client_waits(pair: &mut Pair, span: Duration) {
    pair.hold(0, Kind::Data, 0);
    let write = pair.write(0, 0, 1000);
    pair.pass_time(span);
    pair.let_go(0, Kind::Data, 0);
    assert_eq!(pair.answer(0, write), Some(Ok(())));
}

/// Whatever it does its clients wait longer and longer: a range after the other is moved all the same (P1, P2).
#[test]
fn it_ends_although_its_clients_wait_longer_and_longer() {
    let mut pair = to_be_filled(pace());
    pair.connect();
    let (mut span, mut rounds) = (Duration::from_millis(5), 0);
    while !pair.is_in_sync() {
        client_waits(&mut pair, span);
        span = (span * 5 / 4).min(Duration::from_secs(1));
        rounds += 1;
        assert!(rounds < 200, "it stands still: {:?}", pair.snapshot(0));
    }
    let pacing = pair.snapshot(0).pacing.expect("alpha is Primary");
    assert!(rounds > 2 && pacing.alone_p99.is_some(), "{rounds} rounds, {pacing:?}");
}

/// A source that may hardly move anything keeps no request for so long that its asker takes the disk for stalled (P4).
#[test]
fn what_was_asked_for_is_not_kept_for_ever() {
    let slowest = Pace {
        window_max: Duration::from_secs(5),
        measure_interval: Duration::from_secs(600),
        rate_min_bytes_per_s: 1,
        rate_first_bytes_per_s: 1,
        ..pace()
    };
    let mut pair = to_be_filled(slowest);
    pair.connect();
    let mut left = Vec::new();
    for _ in 0..50 {
        client_waits(&mut pair, Duration::from_secs(1));
        assert_eq!(pair.snapshot(1).connection, ConnectionState::Connected);
        left.push(pair.volume(1, 0).out_of_sync_bytes);
    }
    assert!(left[5] > 0, "it was kept for a while: {left:?}");
    assert!(pair.is_in_sync(), "{left:?}");
}

/// Nobody has to be spared: everything is moved at once.
#[test]
fn without_clients_it_is_not_held() {
    let mut pair = to_be_filled(pace());
    pair.pass_time(Duration::from_secs(1));
    pair.connect();
    assert!(pair.is_in_sync());
}
