//! How long something took: a histogram of fixed size, in which noting a length is two additions.

use std::time::Duration;

/// Buckets of a histogram: four for each doubling of a nanosecond, up to 2^40.
const BUCKETS: usize = 160;

/// Counts by length, each known to within a fifth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Latencies {
    counts: [u64; BUCKETS],
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { counts: [0; BUCKETS], total: 0 }
    }
}

impl Latencies {
    /// One more of this length.
    pub fn note(&mut self, length: Duration) {
        let nanoseconds = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(4);
        let octave = nanoseconds.ilog2();
        let quarter = (nanoseconds >> (octave - 2)) & 3;
        let bucket = (octave as usize * 4 + quarter as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// What 99 of 100 don't exceed; `None`: there were none.
    pub fn p99(&self) -> Option<Duration> {
        let mut slower = self.total / 100;
        for (bucket, count) in self.counts.iter().enumerate().rev() {
            if *count > slower {
                return Some(longest_of(bucket));
            }
            slower -= count;
        }
        None
    }

    /// The lengths there were, shortest first: what those of a bucket don't exceed, and how many they are.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (longest_of(bucket), *count))
    }
}

fn longest_of(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket as u32 / 4, bucket as u64 % 4);
    Duration::from_nanos((5 + quarter) << octave >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p99_is_right_to_within_a_fifth() {
        let mut histogram = Latencies::default();
        assert_eq!(histogram.p99(), None);
        for microseconds in 1..=1000 {
            histogram.note(Duration::from_micros(microseconds));
        }
        let p99 = histogram.p99().unwrap();
        assert!((Duration::from_micros(990)..Duration::from_micros(1240)).contains(&p99), "{p99:?}");
        histogram.note(Duration::MAX);
        histogram.note(Duration::ZERO);
    }

    #[test]
    fn every_length_is_counted_in_the_bucket_that_covers_it() {
        let lengths = [0, 4, 5, 7, 1_000, 123_456, 999_999_999, u64::MAX >> 25];
        for nanoseconds in lengths {
            let mut histogram = Latencies::default();
            histogram.note(Duration::from_nanos(nanoseconds));
            let [(longest, 1)] = histogram.buckets().collect::<Vec<_>>()[..] else { panic!("{histogram:?}") };
            assert!(
                longest >= Duration::from_nanos(nanoseconds)
                    && longest.as_nanos() <= u128::from(nanoseconds) * 5 / 4 + 5
            );
        }
    }
}
