//! How fast a resync goes: as fast as it can, and slower where it makes clients wait.
//!
//! ```text
//!                 no client's request for a window
//!        ┌───────────────────────────────────────────────────┐
//!        ▼        p99 > 1.25 × alone + slack                 │
//!      Full ───────────────────────────► Held { rate } ──────┤  each window: p99 beyond that: half of what was moved
//!        │                                 │      ▲          │               else: a quarter more
//!        │ now and then                    ▼      │          │
//!        └───────────────────────────► Measuring ────────────┘  two windows in which nothing is moved: in the second
//!                                                               clients wait what they wait `alone`
//! ```
//!
//! It is decided on the node that is Primary, where clients' latency is known: as target it asks for less, as source it
//! keeps what it was asked for waiting, before it locks anything. Beside it `max-rate` holds.
//!
//! What clients wait without the resync was measured before it began, and is measured again every few seconds while it
//! runs: so a load that has grown heavier isn't taken for the resync's doing for long, nor a resync's doing for a heavy
//! load, and there is nothing to configure.
//!
//! Invariants:
//! - P1 a resync always goes on: held, its rate is [`Pace::rate_min_bytes_per_s`] or more, and a measurement ends by time;
//! - P2 at that rate one range is under way at a time: a link or disk slower than it isn't given a queue;
//! - P3 nothing is held for long after the last client: three windows at most;
//! - P4 a request kept at the source gets its turn while its asker still waits (`release_kept`).

use crate::config::Pace;
use crate::event::Timestamp;
use crate::latencies::Latencies;
use rep_types::planted;
use std::time::Duration;

/// It goes not faster than so much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    /// Bytes a second.
    rate: u64,
    /// Whether the last word was to go slower.
    slowed: bool,
}

/// How fast it may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speed {
    /// As fast as it can.
    Full,
    /// To a rate.
    Held(Held),
    /// Not at all, until it is known what clients wait without it.
    Measuring {
        /// Whether what was under way has had a window to end.
        settled: bool,
        /// How it goes on; `None`: as fast as it can.
        then: Option<Held>,
    },
}

/// What the pacing of a resync has come to, as operators see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacingSnapshot {
    /// Bytes a second it is held to for its clients' sake; `None`: it isn't held.
    pub limit_bytes_per_s: Option<u64>,
    /// Whether nothing is moved for a moment, to see what clients wait without it.
    pub measuring: bool,
    /// What 99 of 100 client requests waited at most, in the last window that had some.
    pub clients_p99: Option<Duration>,
    /// The same without a resync.
    pub alone_p99: Option<Duration>,
    /// How often it was slowed down since this engine began.
    pub yields: u64,
    /// How often it went faster again after that.
    pub recoveries: u64,
}

/// The pace of a resource's resyncs.
#[derive(Debug)]
pub(crate) struct Pacing {
    /// `None`: never slower than it can.
    pace: Option<Pace>,
    speed: Speed,
    /// Held, nothing more is moved before.
    not_before: Timestamp,
    /// What clients wait without a resync.
    alone: Option<Duration>,
    /// When that was last measured, or tried.
    measured: Option<Timestamp>,
    p99: Option<Duration>,
    began: Timestamp,
    latencies: Latencies,
    /// Bytes moved in this window.
    moved: u64,
    /// Nothing was moved in the window before.
    still: bool,
    /// When a client was last seen: answered, or waiting.
    last_client: Timestamp,
    last_move: Timestamp,
    yields: u64,
    recoveries: u64,
}

impl Pacing {
    pub fn new(pace: Option<Pace>) -> Self {
        let zero = Timestamp(0);
        Pacing {
            pace,
            speed: Speed::Full,
            not_before: zero,
            alone: None,
            measured: None,
            p99: None,
            began: zero,
            latencies: Latencies::default(),
            moved: 0,
            still: true,
            last_client: zero,
            last_move: zero,
            yields: 0,
            recoveries: 0,
        }
    }

    pub fn assert_invariants(&self) {
        let Some(pace) = &self.pace else { return };
        if let Speed::Held(Held { rate, .. }) = self.speed {
            assert!(rate >= pace.rate_min_bytes_per_s, "P1: a resync held to {rate} bytes a second");
            let alone = self.last_move.since(self.last_client);
            assert!(alone < pace.window_max * 3, "P3: a resync held {alone:?} after the last client");
        }
    }

    pub fn snapshot(&self) -> PacingSnapshot {
        let limit_bytes_per_s = match self.speed {
            Speed::Held(held) => Some(held.rate),
            _ => None,
        };
        PacingSnapshot {
            limit_bytes_per_s,
            measuring: matches!(self.speed, Speed::Measuring { .. }),
            clients_p99: self.p99,
            alone_p99: self.alone,
            yields: self.yields,
            recoveries: self.recoveries,
        }
    }

    /// A client's request has been answered.
    pub fn note_request(&mut self, latency: Duration, now: Timestamp) {
        self.end_window_if_due(now, || Some(latency));
        self.last_client = now;
        self.latencies.note(latency);
    }

    /// Whether the resync may move something now, `under_way` of whose ranges are being moved. `longest` says for how long
    /// a client has been waiting for its answer; it is asked seldom.
    pub fn may_move(&mut self, now: Timestamp, under_way: usize, longest: impl FnOnce() -> Option<Duration>) -> bool {
        self.end_window_if_due(now, longest);
        self.until(under_way).is_some_and(|until| until <= now)
    }

    /// When the resync may move something; `None`: not before something that is under way has ended.
    pub fn until(&self, under_way: usize) -> Option<Timestamp> {
        let Some(pace) = &self.pace else { return Some(Timestamp(0)) };
        match self.speed {
            Speed::Full => Some(Timestamp(0)),
            Speed::Held(held) if held.rate <= pace.rate_min_bytes_per_s && under_way > 0 => None,
            Speed::Held(_) => Some(self.not_before),
            Speed::Measuring { .. } => Some(self.began.after(pace.window_max)),
        }
    }

    /// The resync moves so much.
    pub fn note_moved(&mut self, bytes: u64, now: Timestamp) {
        self.moved += bytes;
        self.last_move = now;
        if let Speed::Held(Held { rate, .. }) = self.speed {
            let span = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            let span = Duration::from_nanos(u64::try_from(span).unwrap_or(u64::MAX));
            self.not_before = self.not_before.max(now).after(span);
        }
    }

    fn end_window_if_due(&mut self, now: Timestamp, longest: impl FnOnce() -> Option<Duration>) {
        let Some(pace) = self.pace else { return };
        let span = now.since(self.began);
        let enough = self.latencies.count() >= u64::from(pace.requests_min) && span >= pace.window_min;
        if !enough && span < pace.window_max {
            return;
        }
        let mut p99 = self.latencies.p99().filter(|_| span < pace.window_max * 2);
        let mut idle = false;
        if p99.is_none() {
            // Nobody was answered; or nobody looked at this window for long, and it says nothing of now.
            let longest = longest();
            idle = longest.is_none();
            if !idle {
                self.last_client = now;
            }
            p99 = longest.filter(|longest| *longest >= pace.window_max / 2);
        }
        let moved = u128::from(self.moved) * 1_000_000_000 / span.as_nanos().max(1);
        let moved = u64::try_from(moved).unwrap_or(u64::MAX);
        self.speed = match idle && !planted!("pacing-never-recovers") {
            true => self.release(),
            false => self.next_speed(&pace, p99, moved, now),
        };
        self.p99 = p99.or(self.p99);
        (self.still, self.moved) = (self.moved == 0, 0);
        (self.began, self.latencies) = (now, Latencies::default());
    }

    /// Nobody is there to be kept waiting.
    fn release(&mut self) -> Speed {
        self.recoveries += u64::from(matches!(self.speed, Speed::Held(Held { slowed: true, .. })));
        Speed::Full
    }

    /// How fast it goes after a window with clients, of which at least one was answered if there is a `p99`.
    fn next_speed(&mut self, pace: &Pace, p99: Option<Duration>, moved: u64, now: Timestamp) -> Speed {
        match (self.speed, p99) {
            (Speed::Measuring { settled: false, then }, _) => Speed::Measuring { settled: true, then },
            (Speed::Measuring { settled: true, then }, p99) => {
                if let Some(p99) = p99 {
                    self.note_alone(p99, p99, pace);
                }
                then.map_or(Speed::Full, Speed::Held)
            }
            (speed, None) => speed,
            (_, Some(p99)) if moved == 0 && self.still => {
                let smooth = self.alone.map_or(p99, |alone| (alone + p99) / 2);
                self.note_alone(p99, smooth, pace);
                self.measured = Some(now);
                Speed::Held(first(pace))
            }
            (speed, Some(_)) if moved == 0 => speed,
            (speed, Some(p99)) => self.judge(speed, pace, p99, moved, now),
        }
    }

    /// What clients wait without a resync: it becomes `next`, but what may have been an accident counts for little at first.
    fn note_alone(&mut self, p99: Duration, next: Duration, pace: &Pace) {
        let most = self.alone.map_or(p99, |alone| alone * 4 + pace.slack);
        self.alone = Some(next.min(most));
    }

    /// A window in which something was moved and clients were answered.
    fn judge(&mut self, speed: Speed, pace: &Pace, p99: Duration, moved: u64, now: Timestamp) -> Speed {
        let least = pace.rate_min_bytes_per_s;
        let held = match speed {
            Speed::Held(held) => Some(held),
            _ => None,
        };
        let slowed = self.alone.is_none_or(|alone| p99 > alone * 5 / 4 + pace.slack);
        // At its least and clients still wait: perhaps it isn't the resync they wait for.
        let in_vain = slowed && held.is_some_and(|held| held.rate <= least);
        let interval = if in_vain { pace.measure_interval / 2 } else { pace.measure_interval };
        if self.measured.is_none_or(|measured| now.since(measured) >= interval) {
            self.measured = Some(now);
            let then = if self.alone.is_none() { Some(first(pace)) } else { held };
            return Speed::Measuring { settled: false, then };
        }
        if slowed && self.alone.is_some() {
            let before = held.map_or(moved, |held| held.rate.min(moved));
            let floor = if planted!("pacing-without-floor") { 1 } else { least };
            self.yields += u64::from(!in_vain);
            return Speed::Held(Held { rate: (before / 2).max(floor), slowed: true });
        }
        let Some(Held { rate, slowed }) = held.filter(|_| !planted!("pacing-never-recovers")) else { return speed };
        self.recoveries += u64::from(slowed);
        // Not far beyond what it uses: else a limit that holds back nothing would have to be halved many times.
        let ceiling = moved.saturating_mul(2).max(pace.rate_first_bytes_per_s).max(least);
        let more = (rate / 4).max(pace.rate_first_bytes_per_s / 8).max(1);
        Speed::Held(Held { rate: rate.saturating_add(more).min(ceiling), slowed: false })
    }
}

/// What it begins with while clients are at work.
fn first(pace: &Pace) -> Held {
    Held { rate: pace.rate_first_bytes_per_s.max(pace.rate_min_bytes_per_s), slowed: false }
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
            Bench { pacing: Pacing::new(Some(Pace::default())), now: 0, capacity: 1000 * MIB, alone, requests, busy: 0 }
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
                while resync
                    && moved * 1000 < self.capacity
                    && self.pacing.may_move(now, usize::from(self.busy > 4 * MIB), || None)
                {
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
        assert!(longest <= alone * 3 + Pace::default().slack, "{longest:?}");
        assert!(moved / 20 > 50 * MIB, "{} MiB/s", moved / 20 / MIB);
    }

    /// Nobody knows what they waited before: that is found out.
    #[test]
    fn so_it_is_with_clients_who_were_there_from_the_beginning() {
        let alone = Duration::from_millis(2);
        let mut bench = Bench::new(10_000, alone);
        let (moved, longest) = bench.run(20_000, true);
        assert!(longest <= alone * 3 + Pace::default().slack, "{longest:?}");
        assert!(moved / 20 > 50 * MIB, "{} MiB/s", moved / 20 / MIB);
    }

    /// Clients wait longer for a reason of their own: the resync doesn't stay at its least for that.
    #[test]
    fn a_heavier_load_is_not_taken_for_the_resync_s_doing() {
        let mut bench = Bench::new(10_000, Duration::from_millis(2));
        bench.run(2000, false);
        bench.run(5000, true);
        bench.alone = Duration::from_millis(40);
        // Three measurements, since each believes four times the last at most.
        bench.run(20_000, true);
        let (moved, _) = bench.run(10_000, true);
        assert!(moved / 10 > 50 * MIB, "{} MiB/s", moved / 10 / MIB);
    }

    /// Clients wait less for a reason of their own, and the resync would hide it: it is noticed all the same.
    #[test]
    fn a_lighter_load_is_noticed_behind_the_resync() {
        let mut bench = Bench::new(10_000, Duration::from_millis(20));
        bench.run(2000, false);
        bench.run(5000, true);
        bench.alone = Duration::from_millis(2);
        bench.run(20_000, true);
        let (moved, longest) = bench.run(10_000, true);
        assert!(longest <= bench.alone * 3 + Pace::default().slack, "{longest:?}");
        assert!(moved / 10 > 50 * MIB, "{} MiB/s", moved / 10 / MIB);
    }

    /// The clients of a link that was lost waited for seconds: that isn't what they wait without a resync.
    #[test]
    fn an_accident_is_not_what_clients_wait() {
        let pace = Pace::default();
        let mut bench = Bench::new(10_000, Duration::from_millis(2));
        bench.run(2000, false);
        for _ in 0..1000 {
            bench.pacing.note_request(Duration::from_secs(6), Timestamp(bench.now));
        }
        bench.run(400, false);
        assert!(
            bench.pacing.alone.is_some_and(|alone| alone < bench.alone * 5 + pace.slack),
            "{:?}",
            bench.pacing.alone
        );
        bench.run(2000, true);
        let (_, longest) = bench.run(20_000, true);
        assert!(longest <= bench.alone * 3 + pace.slack, "{longest:?}");
    }

    /// At the floor one range is under way at a time, and the next has its turn when that has ended (P2).
    #[test]
    fn what_is_slower_than_the_floor_is_given_no_queue() {
        let mut bench = Bench::new(10_000, Duration::from_millis(1));
        bench.run(2000, false);
        let least = Held { rate: Pace::default().rate_min_bytes_per_s, slowed: true };
        bench.pacing.speed = Speed::Held(least);
        let later = Timestamp(bench.now + 90 * MS);
        assert!(!bench.pacing.may_move(later, 1, || None));
        assert_eq!(bench.pacing.until(1), None);
        assert!(bench.pacing.may_move(later, 0, || None));
        assert!(bench.pacing.until(0).is_some_and(|until| until <= later));
    }

    /// Nobody is answered any more because the resync has the disk: they wait, and aren't gone.
    #[test]
    fn clients_without_an_answer_have_not_gone() {
        let mut bench = Bench::new(10_000, Duration::from_millis(2));
        bench.run(2000, false);
        bench.run(100, true);
        let mut now = bench.now;
        for _ in 0..4 {
            now += 600 * MS;
            if bench.pacing.may_move(Timestamp(now), 0, || Some(Duration::from_millis(600))) {
                bench.pacing.note_moved(256 << 10, Timestamp(now));
            }
        }
        assert!(matches!(bench.pacing.speed, Speed::Held(Held { slowed: true, .. })), "{:?}", bench.pacing.speed);
        assert!(bench.pacing.may_move(Timestamp(now + 600 * MS), 0, || None), "they have gone");
        assert_eq!(bench.pacing.speed, Speed::Full);
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
            assert!(moved >= Pace::default().rate_min_bytes_per_s * 2 / 3, "{moved}");
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
}
