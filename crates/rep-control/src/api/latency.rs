//! How long the parts of requests took. `repctl top` is made of this.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Histograms by the name of what they are about: `queue`, `log`, `local`, `peer`, `flush`, `write` and `read` of a volume,
/// `sent` of the link.
pub type Histograms = BTreeMap<String, Histogram>;

/// Counts by length, shortest first: what those of a bucket don't exceed, in nanoseconds, and how many they are.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(Vec<(u64, u64)>);

/// A histogram in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// How many there were.
    pub count: u64,
    /// What half of them don't exceed, in microseconds.
    pub p50_us: u64,
    /// What 99 of 100 don't exceed.
    pub p99_us: u64,
    /// What none exceeds.
    pub max_us: u64,
}

impl Histogram {
    /// Of buckets, shortest first.
    pub fn new(buckets: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Histogram(buckets.into_iter().collect())
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| *count).fold(0, u64::saturating_add)
    }

    /// What so many of a thousand don't exceed, in nanoseconds; `None`: there were none.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let wanted = (u128::from(self.count()) * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, count)| {
            seen += u128::from(*count);
            seen >= wanted
        });
        reached.map(|(longest, _)| *longest)
    }

    /// What came after an earlier look. One that was before a restart says nothing.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let before: BTreeMap<u64, u64> = earlier.0.iter().copied().collect();
        if before.iter().any(|bucket| !self.0.iter().any(|(longest, count)| longest == bucket.0 && count >= bucket.1)) {
            return self.clone();
        }
        let left = self.0.iter().map(|(longest, count)| (*longest, count - before.get(longest).unwrap_or(&0)));
        Histogram(left.filter(|(_, count)| *count > 0).collect())
    }

    /// In short; `None`: there were none.
    pub fn summary(&self) -> Option<LatencyStatus> {
        let us = |per_mille| self.quantile(per_mille).map(|nanoseconds| nanoseconds.div_ceil(1000));
        Some(LatencyStatus { count: self.count(), p50_us: us(500)?, p99_us: us(990)?, max_us: us(1000)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_where_so_many_are_reached() {
        let histogram = Histogram::new([(1_000, 50), (2_000, 49), (900_000, 1)]);
        assert_eq!(
            [500, 501, 990, 991, 1000].map(|q| histogram.quantile(q)),
            [1_000, 2_000, 2_000, 900_000, 900_000].map(Some)
        );
        assert_eq!(histogram.summary(), Some(LatencyStatus { count: 100, p50_us: 1, p99_us: 2, max_us: 900 }));
        assert_eq!(Histogram::default().summary(), None);
    }

    #[test]
    fn what_came_since_an_earlier_look_is_the_difference() {
        let earlier = Histogram::new([(1_000, 5), (4_000, 1)]);
        let now = Histogram::new([(1_000, 5), (2_000, 7), (4_000, 3)]);
        assert_eq!(now.since(&earlier), Histogram::new([(2_000, 7), (4_000, 2)]));
        assert_eq!(earlier.since(&now), earlier, "the daemon has been started anew");
        assert_eq!(now.since(&now).summary(), None);
    }

    #[test]
    fn counts_a_daemon_could_not_have_told_are_no_panic() {
        let told: Histogram = serde_json::from_str("[[1,18446744073709551615],[2,18446744073709551615]]").unwrap();
        assert_eq!((told.count(), told.quantile(1000)), (u64::MAX, Some(1)));
    }
}
