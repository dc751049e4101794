//! Resyncs that yield to clients: how far each seed's do, and what is seen of it. Disks and clients are small here, and so
//! are the ranges and windows of most seeds; some have the product's, and some resyncs yield to nobody.

use crate::counters::Sometimes;
use crate::rng::Rng;
use crate::swarm::{MS, SECOND, US};
use crate::world::World;
use rep_engine::{Pace, PacingSnapshot};
use std::time::Duration;

/// Per mille of the seeds whose resyncs yield to nobody, and of the others those that do as the product does.
const OFF: u32 = 400;
const AS_SHIPPED: u32 = 300;

/// The pace of a seed.
pub(crate) fn pace_of(seed: u64, data_bytes: u64) -> Option<Pace> {
    let rng = &mut Rng::new(seed).fork(37);
    if rng.chance(OFF) {
        return None;
    }
    if rng.chance(AS_SHIPPED) {
        return Some(Pace::default());
    }
    let window_min = rng.span(100 * US, 20 * MS);
    let window_max = window_min * rng.between(2, 10);
    // At its least one of everything takes some seconds.
    let rate_min = (data_bytes / rng.between(2, 8)).max(64 << 10);
    Some(Pace {
        range_blocks_max: rng.pick(&[1, 2, 8, 64]),
        requests_min: rng.between(1, 8) as u32,
        window_min: Duration::from_nanos(window_min),
        window_max: Duration::from_nanos(window_max),
        slack: Duration::from_nanos(rng.pick(&[0, 0, 100 * US, MS])),
        measure_interval: Duration::from_nanos(rng.span(10 * window_max, 4 * SECOND)),
        rate_min_bytes_per_s: rate_min,
        rate_first_bytes_per_s: rate_min * rng.pick(&[1, 4, 64]),
    })
}

impl World {
    /// An engine has had an event.
    pub(crate) fn note_pacing(&mut self, node: usize, now: PacingSnapshot) {
        let before = std::mem::replace(&mut self.paced[node], now);
        let least = self.swarm.pace.map(|pace| pace.rate_min_bytes_per_s);
        let at_least = |pacing: PacingSnapshot| pacing.limit_bytes_per_s.is_some() && pacing.limit_bytes_per_s == least;
        let states = [
            (now.yields > before.yields, Sometimes::ResyncYielded),
            (now.recoveries > before.recoveries, Sometimes::ResyncRecovered),
            (now.yields > before.yields && at_least(now), Sometimes::ResyncAtItsLeast),
            (now.measuring && !before.measuring, Sometimes::ResyncMeasured),
        ];
        states.into_iter().filter(|(so, _)| *so).for_each(|(_, state)| self.seen(state));
    }
}
