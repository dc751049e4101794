//! How long requests waited: a histogram of fixed size, in which noting one is an addition.

use std::time::Duration;

/// Buckets of a histogram: four for each doubling of a nanosecond, up to 2^40.
const BUCKETS: usize = 160;

/// What a window's requests waited, to within a fifth.
#[derive(Debug)]
pub(super) struct Latencies {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Latencies {
    pub fn new() -> Self {
        Latencies { counts: [0; BUCKETS], total: 0 }
    }

    pub fn note(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(4);
        let octave = nanoseconds.ilog2();
        let quarter = (nanoseconds >> (octave - 2)) & 3;
        let bucket = (octave as usize * 4 + quarter as usize).min(BUCKETS - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.total = self.total.saturating_add(1);
    }

    pub fn count(&self) -> u32 {
        self.total
    }

    /// What 99 of 100 don't exceed; `None`: there were none.
    pub fn p99(&self) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p99_is_right_to_within_a_fifth() {
        let mut histogram = Latencies::new();
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
