//! The sum a frame carries of its payload: CRC-32, or XXH64 where both nodes' processors do that faster (decision 39).

use crate::features;
use std::hash::Hasher;
use twox_hash::XxHash64;

/// Both ends of a connection begin with this.
const SEED: u64 = 0;

/// How payloads are summed on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadSum {
    /// CRC-32, the one of IEEE 802.3.
    Crc32,
    /// XXH64. Only with [`features::PAYLOAD_XXH64`].
    Xxh64,
}

impl PayloadSum {
    /// What is used where both nodes offered these features.
    pub fn agreed(features: u64) -> Self {
        if features & features::PAYLOAD_XXH64 != 0 { PayloadSum::Xxh64 } else { PayloadSum::Crc32 }
    }

    /// The sum of a payload. A CRC is 32 bits long.
    pub fn of(self, payload: &[u8]) -> u64 {
        match self {
            PayloadSum::Crc32 => crc32fast::hash(payload).into(),
            PayloadSum::Xxh64 => XxHash64::oneshot(SEED, payload),
        }
    }

    /// The same of a payload that lies in parts.
    pub fn of_parts<'a>(self, mut parts: impl Iterator<Item = &'a [u8]>) -> u64 {
        let first = parts.next().unwrap_or_default();
        let Some(second) = parts.next() else { return self.of(first) };
        let all = [first, second].into_iter().chain(parts);
        match self {
            PayloadSum::Crc32 => {
                let mut hasher = crc32fast::Hasher::new();
                all.for_each(|part| hasher.update(part));
                hasher.finalize().into()
            }
            PayloadSum::Xxh64 => {
                let mut hasher = XxHash64::with_seed(SEED);
                all.for_each(|part| hasher.write(part));
                hasher.finish()
            }
        }
    }
}
