//! What is written: every sector says which sector it is and in which version, and its other bytes follow from that.
//! A sector of another place, of another version, or torn inside, can't pass for a right one.

use rep_types::{BLOCK_SIZE, SECTOR_SIZE};

/// Sectors of a block.
const SECTORS: u64 = BLOCK_SIZE / SECTOR_SIZE;

/// A well-mixing step (splitmix64).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn sector(number: u64, version: u32) -> impl Iterator<Item = u64> {
    let seed = mix(number ^ u64::from(version) << 40);
    [number, u64::from(version)].into_iter().chain((2..SECTOR_SIZE / 8).map(move |word| mix(seed ^ word)))
}

/// Fills a block.
pub fn fill(block: u64, version: u32, data: &mut [u8]) {
    for (index, sector_data) in data.chunks_exact_mut(SECTOR_SIZE as usize).enumerate() {
        let words = sector(block * SECTORS + index as u64, version);
        for (bytes, word) in sector_data.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// The versions found in a block: lowest and highest over its sectors, 0 for one never written. `None`: a sector holds
/// something that was never written there.
pub fn versions(block: u64, data: &[u8]) -> Option<(u32, u32)> {
    let mut found = (u32::MAX, 0);
    for (index, sector_data) in data.chunks_exact(SECTOR_SIZE as usize).enumerate() {
        let version = version(block * SECTORS + index as u64, sector_data)?;
        found = (found.0.min(version), found.1.max(version));
    }
    Some(found)
}

fn version(number: u64, data: &[u8]) -> Option<u32> {
    let mut words = data.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
    if data.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let claimed = u32::try_from(words.clone().nth(1)?).ok().filter(|version| *version > 0)?;
    sector(number, claimed).all(|word| words.next() == Some(word)).then_some(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_there_passes() {
        let mut data = vec![0; BLOCK_SIZE as usize];
        assert_eq!(versions(7, &data), Some((0, 0)));
        fill(7, 3, &mut data);
        assert_eq!(versions(7, &data), Some((3, 3)));
        assert_eq!(versions(8, &data), None, "another place");
        let mut torn = data.clone();
        fill(7, 4, &mut data);
        torn[2048..].copy_from_slice(&data[2048..]);
        assert_eq!(versions(7, &torn), Some((3, 4)), "torn between sectors");
        torn[100] ^= 1;
        assert_eq!(versions(7, &torn), None, "a flipped bit");
    }
}
