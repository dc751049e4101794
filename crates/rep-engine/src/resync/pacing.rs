//! How fast a resync goes: as fast as it can, and slower where it makes clients wait.
//!
//! ```text
//!   a window of clients' requests ends        the resync may from now on move
//!     none came                               as much as it can
//!     their p99 > 2 × alone + slack           half of what it moved
//!     else                                    a quarter more
//!   at the least rate: what clients wait now they wait without the resync: `alone` becomes that
//!   nothing was moved: the same
//! ```
//!
//! It is decided on the node that is Primary, where clients' latency is known: as target it asks for less, as source it
//! keeps what it was asked for waiting, before it locks anything. Beside it `max-rate` holds.
//!
//! What clients wait without the resync is measured again whenever the resync is down to its least rate. So a load that
//! has grown heavier isn't taken for the resync's doing for long, and there is nothing to configure.
//!
//! Invariants:
//! - P1 a resync always goes on: its rate never falls below [`limits::RESYNC_RATE_MIN`];
//! - P2 where a window's p99 is beyond the limit, the rate after it is at most half of what was moved in it, or the least.

use crate::event::Timestamp;
use crate::limits;
use std::time::Duration;

/// Buckets of a histogram: four for each doubling of a nanosecond, up to 2^40.
const BUCKETS: usize = 160;

/// Latencies, to within a fifth.
#[derive(Debug)]
struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Histogram {
    fn new() -> Self {
        Histogram { counts: [0; BUCKETS], total: 0 }
    }

    fn note(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(4);
        let octave = nanoseconds.ilog2();
        let quarter = (nanoseconds >> (octave - 2)) & 3;
        let bucket = (octave as usize * 4 + quarter as usize).min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.total = self.total.saturating_add(1);
    }

    /// What 99 of 100 don't exceed; `None`: there were none.
    fn p99(&self) -> Option<Duration> {
        let mut slower = self.total / 100;
        for (bucket, count) in self.counts.iter().enumerate().rev() {
            if *count > slower {
                let (octave, quarter) = (bucket as u32 / 4, bucket as u64 % 4);
                return Some(Duration::from_nanos((5 + quarter) << octave >> 2));
            }
            slower -= count;
        }
        None
    }
}

/// The pace of a resource's resyncs.
#[derive(Debug)]
pub(crate) struct Pacing {
    /// Bytes a second; `None`: no limit.
    rate: Option<u64>,
    /// Nothing more is moved before.
    not_before: Timestamp,
    /// What clients wait without a resync.
    alone: Option<Duration>,
    /// The window before this one was at the least rate.
    at_least: bool,
    began: Timestamp,
    latencies: Histogram,
    /// Bytes moved in this window.
    moved: u64,
}

impl Pacing {
    pub fn new() -> Self {
        let zero = Timestamp(0);
        Pacing {
            rate: None,
            not_before: zero,
            alone: None,
            at_least: false,
            began: zero,
            latencies: Histogram::new(),
            moved: 0,
        }
    }

    /// A client's request has been answered.
    pub fn note_request(&mut self, latency: Duration, now: Timestamp) {
        self.end_window_if_due(now);
        self.latencies.note(latency);
    }

    /// Whether the resync may move something now.
    pub fn may_move(&mut self, now: Timestamp) -> bool {
        self.end_window_if_due(now);
        self.rate.is_none() || self.not_before <= now
    }

    /// The resync moves so much.
    pub fn note_moved(&mut self, bytes: u64, now: Timestamp) {
        self.moved += bytes;
        if let Some(span) = self.rate.and_then(|rate| bytes.saturating_mul(1_000_000_000).checked_div(rate)) {
            self.not_before = self.not_before.max(now).after(Duration::from_nanos(span));
        }
    }

    /// When something may be moved that may not be now.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    fn end_window_if_due(&mut self, now: Timestamp) {
        let span = now.since(self.began);
        let enough = self.latencies.total >= limits::PACING_REQUESTS_MIN && span >= limits::PACING_WINDOW_MIN;
        if enough || span >= limits::PACING_WINDOW_MAX {
            self.end_window(span);
            (self.began, self.latencies, self.moved) = (now, Histogram::new(), 0);
        }
    }

    fn end_window(&mut self, span: Duration) {
        let Some(p99) = self.latencies.p99() else {
            self.rate = None;
            return;
        };
        if self.moved == 0 {
            self.alone = Some(self.alone.map_or(p99, |alone| (alone * 3 + p99) / 4));
            self.rate = Some(limits::RESYNC_RATE_FIRST);
            return;
        }
        let moved = u128::from(self.moved) * 1_000_000_000 / span.as_nanos().max(1);
        let moved = u64::try_from(moved).unwrap_or(u64::MAX);
        let least = self.rate.is_some_and(|rate| rate <= limits::RESYNC_RATE_MIN);
        // In the first window at that rate clients still wait for what was moved before.
        if least && self.at_least {
            self.alone = Some(p99);
        }
        self.at_least = least;
        let slowed = self.alone.is_none_or(|alone| p99 > alone * 2 + limits::PACING_SLACK);
        self.rate = if slowed {
            let before = self.rate.map_or(moved, |rate| rate.min(moved));
            // Not knowing what clients wait without it, it is measured first.
            let next = if self.alone.is_none() { 0 } else { before / 2 };
            Some(next.max(limits::RESYNC_RATE_MIN))
        } else {
            let ceiling = moved.saturating_mul(2).max(limits::RESYNC_RATE_FIRST);
            self.rate.map(|rate| (rate + rate / 4).min(ceiling))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const MIB: u64 = 1 << 20;

    /// A node on which clients and a resync share a disk that moves so many bytes a second: a request takes as long as it
    /// does alone, and as much longer as the resync leaves the disk less.
    struct Bench {
        pacing: Pacing,
        now: u64,
        capacity: u64,
        alone: Duration,
        /// Requests a second.
        requests: u64,
        /// Bytes moved in the last millisecond.
        busy: u64,
    }

    impl Bench {
        fn new(requests: u64, alone: Duration) -> Bench {
            Bench { pacing: Pacing::new(), now: 0, capacity: 1000 * MIB, alone, requests, busy: 0 }
        }

        fn latency(&self) -> Duration {
            let share = (self.busy * 1000) as f64 / self.capacity as f64;
            self.alone.mul_f64(1.0 / (1.0 - share.min(0.95)))
        }

        /// Runs for so many milliseconds, with a resync or not; returns bytes moved, and the longest a client waited in
        /// the second half.
        fn run(&mut self, span_ms: u64, resync: bool) -> (u64, Duration) {
            let (mut total, mut longest) = (0, Duration::ZERO);
            for step in 0..span_ms {
                self.now += MS;
                let now = Timestamp(self.now);
                let mut moved = 0;
                while resync && moved * 1000 < self.capacity && self.pacing.may_move(now) {
                    self.pacing.note_moved(256 << 10, now);
                    moved += 256 << 10;
                }
                // Spread over the time since the one before it, as a disk with a queue would.
                self.busy = (self.busy * 15 + moved) / 16;
                total += moved;
                for _ in 0..self.requests / 1000 {
                    self.pacing.note_request(self.latency(), now);
                }
                if step > span_ms / 2 {
                    longest = longest.max(self.latency());
                }
            }
            (total, longest)
        }
    }

    #[test]
    fn an_idle_link_is_used_fully() {
        let mut bench = Bench::new(0, Duration::from_micros(100));
        let (moved, _) = bench.run(1000, true);
        assert!(moved >= 990 * MIB, "{moved}");
    }

    #[test]
    fn clients_wait_a_little_longer_and_the_resync_goes_on() {
        let alone = Duration::from_millis(2);
        let mut bench = Bench::new(10_000, alone);
        bench.run(2000, false);
        let (moved, longest) = bench.run(20_000, true);
        assert!(longest <= alone * 3 + limits::PACING_SLACK, "{longest:?}");
        assert!(moved / 20 > 50 * MIB, "{} MiB/s", moved / 20 / MIB);
    }

    /// Nobody knows what they waited before: that is found out.
    #[test]
    fn so_it_is_with_clients_who_were_there_from_the_beginning() {
        let alone = Duration::from_millis(2);
        let mut bench = Bench::new(10_000, alone);
        let (moved, longest) = bench.run(20_000, true);
        assert!(longest <= alone * 3 + limits::PACING_SLACK, "{longest:?}");
        assert!(moved / 20 > 50 * MIB, "{} MiB/s", moved / 20 / MIB);
    }

    /// Clients wait longer for a reason of their own: the resync doesn't stay at its least for that.
    #[test]
    fn a_heavier_load_is_not_taken_for_the_resync_s_doing() {
        let mut bench = Bench::new(10_000, Duration::from_millis(2));
        bench.run(2000, false);
        bench.run(5000, true);
        bench.alone = Duration::from_millis(40);
        bench.run(5000, true);
        let (moved, _) = bench.run(10_000, true);
        assert!(moved / 10 > 50 * MIB, "{} MiB/s", moved / 10 / MIB);
    }

    /// Whatever is done, clients wait longer and longer: the resync goes on all the same, at its least rate or more (P1).
    #[test]
    fn it_never_stands_still() {
        let mut bench = Bench::new(10_000, Duration::from_millis(1));
        bench.run(2000, false);
        for _ in 0..60 {
            bench.alone += bench.alone / 2;
            bench.alone = bench.alone.min(Duration::from_secs(100));
            let (moved, _) = bench.run(1000, true);
            assert!(moved >= limits::RESYNC_RATE_MIN / 2, "{moved}");
        }
    }

    #[test]
    fn full_speed_comes_back_when_the_clients_have_gone() {
        let mut bench = Bench::new(10_000, Duration::from_millis(2));
        bench.run(2000, false);
        bench.run(5000, true);
        bench.requests = 0;
        bench.run(1000, true);
        let (moved, _) = bench.run(1000, true);
        assert!(moved >= 990 * MIB, "{moved}");
    }

    #[test]
    fn the_p99_is_right_to_within_a_fifth() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.p99(), None);
        for microseconds in 1..=1000 {
            histogram.note(Duration::from_micros(microseconds));
        }
        let p99 = histogram.p99().unwrap();
        assert!((Duration::from_micros(990)..Duration::from_micros(1240)).contains(&p99), "{p99:?}");
        histogram.note(Duration::MAX);
        histogram.note(Duration::ZERO);
    }
}
