//! How this machine sums payloads faster.

use rep_wire::{PayloadSum, features};
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Bytes that are summed to see: small enough to stay in the processor's cache.
const SAMPLE_BYTES: usize = 16 << 10;
/// Of so many times the shortest counts: what the machine does beside only ever makes one longer.
const ROUNDS: usize = 8;
/// XXH64 must be faster by this factor. A processor with instructions for CRC does that several times as fast, one without
/// several times as slow: no doubtful case should change from one start to the next.
const MARGIN: u32 = 2;

/// What a node offers: XXH64 only where this machine does it faster than CRC. Measured once, in some tenths of a millisecond.
pub(crate) fn offered_features() -> u64 {
    static OFFERED: OnceLock<u64> = OnceLock::new();
    *OFFERED.get_or_init(|| {
        let [crc, xxh64] = [PayloadSum::Crc32, PayloadSum::Xxh64].map(shortest);
        offered(crc, xxh64)
    })
}

fn offered(crc: Duration, xxh64: Duration) -> u64 {
    if xxh64 * MARGIN < crc { features::ALL } else { features::ALL & !features::PAYLOAD_XXH64 }
}

fn shortest(sum: PayloadSum) -> Duration {
    let sample = vec![0x5a; SAMPLE_BYTES];
    let once = || {
        let began = Instant::now();
        black_box(sum.of(black_box(&sample)));
        began.elapsed()
    };
    (0..ROUNDS).map(|_| once()).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_sum_is_left_only_for_one_that_is_much_faster() {
        let offers = |crc, xxh64| {
            offered(Duration::from_micros(crc), Duration::from_micros(xxh64)) & features::PAYLOAD_XXH64 != 0
        };
        assert!(offers(45, 3));
        assert!(!offers(1, 2), "a processor with instructions for CRC");
        assert!(!offers(10, 6) && !offers(6, 3));
        assert_eq!(offered(Duration::ZERO, Duration::ZERO) | features::PAYLOAD_XXH64, features::ALL);
    }

    #[test]
    fn a_time_is_measured() {
        assert!(shortest(PayloadSum::Crc32) > Duration::ZERO);
        assert_eq!(offered_features(), offered_features());
    }
}
