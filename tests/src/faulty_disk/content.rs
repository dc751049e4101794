//! What a disk holds: now, and for certain.

use crate::random::Random;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// The bytes of a disk with a volatile cache.
pub struct Content {
    now: Vec<u8>,
    stable: Vec<u8>,
    /// For each sector: written since the last flush.
    unstable: Vec<bool>,
}

impl Content {
    /// A disk of zeroes.
    pub fn new(bytes: u64) -> Content {
        let bytes = usize::try_from(bytes).expect("a disk that fits in memory");
        Content { now: vec![0; bytes], stable: vec![0; bytes], unstable: vec![false; bytes / SECTOR] }
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.now.len() as u64
    }

    /// Reads; `None` beyond the end.
    pub fn read(&self, at: u64, length: usize) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.now.get(at..at.checked_add(length)?)
    }

    /// Writes; `None` beyond the end.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Option<()> {
        self.change(at, bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    /// Makes zeroes; `None` beyond the end.
    pub fn zero(&mut self, at: u64, length: u64) -> Option<()> {
        self.change(at, usize::try_from(length).ok()?)?.fill(0);
        Some(())
    }

    fn change(&mut self, at: u64, length: usize) -> Option<&mut [u8]> {
        let at = usize::try_from(at).ok()?;
        let end = at.checked_add(length)?;
        let part = self.now.get_mut(at..end)?;
        if length > 0 {
            self.unstable[at / SECTOR..end.div_ceil(SECTOR)].fill(true);
        }
        Some(part)
    }

    /// All that is there now is there for certain.
    pub fn flush(&mut self) {
        self.settle(|_| true);
    }

    /// Of what wasn't flushed, each run of writes is kept or lost, some of them torn. Returns the sectors lost.
    pub fn lose_power(&mut self, random: &mut Random) -> u64 {
        // Most cuts lose about half; some lose all, some nearly nothing.
        let kept = [0, 10, 50, 50, 90][random.below(5) as usize];
        let mut keep = true;
        let mut lost = 0;
        self.settle(|sector| {
            if sector % (BLOCK / SECTOR) == 0 || random.percent(5) {
                keep = random.percent(kept);
            }
            lost += u64::from(!keep);
            keep
        });
        lost
    }

    /// Makes each unstable sector either stable or what it was, as `keep` says.
    fn settle(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for sector in 0..self.unstable.len() {
            if !std::mem::take(&mut self.unstable[sector]) {
                continue;
            }
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            if keep(sector) {
                self.stable[range.clone()].copy_from_slice(&self.now[range]);
            } else {
                self.now[range.clone()].copy_from_slice(&self.stable[range]);
            }
        }
    }

    /// See [`super::FaultyDisk::differing_bytes`].
    pub fn differing_bytes(&self, other: &Content, length: u64) -> (u64, Option<u64>) {
        let length = (length as usize).min(self.now.len()).min(other.now.len());
        let blocks = self.now[..length].chunks(BLOCK).zip(other.now[..length].chunks(BLOCK)).enumerate();
        let mut differing = blocks.filter(|(_, (one, other))| one != other).map(|(at, _)| (at * BLOCK) as u64);
        let first = differing.next();
        ((first.iter().count() + differing.count()) as u64 * BLOCK as u64, first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_makes_stable_and_a_power_cut_loses_the_rest() {
        let mut content = Content::new(1 << 20);
        content.write(4096, &[1; 4096]).expect("within");
        content.flush();
        content.write(0, &[2; 512 << 10]).expect("within");
        content.zero(768 << 10, 4096).expect("within");
        let mut random = Random::new(3);
        let lost = content.lose_power(&mut random);
        assert!(lost > 0, "something was lost");
        let block = content.read(4096, 4096).expect("within");
        assert!(block.iter().all(|&byte| byte == 1 || byte == 2), "flushed bytes, or newer ones");
        let before = content.read(0, 1 << 20).expect("within").to_vec();
        assert_eq!(content.lose_power(&mut random), 0, "what is left is stable");
        assert_eq!(content.read(0, 1 << 20).expect("within"), before);
    }

    #[test]
    fn beyond_the_end_is_refused() {
        let mut content = Content::new(8192);
        assert!(content.read(8192, 1).is_none());
        assert!(content.write(8000, &[0; 512]).is_none());
        assert!(content.zero(u64::MAX, 2).is_none());
    }

    #[test]
    fn what_differs_is_counted_in_blocks() {
        let (mut one, other) = (Content::new(64 << 10), Content::new(64 << 10));
        assert_eq!(one.differing_bytes(&other, 64 << 10), (0, None));
        one.write(4095, &[1; 2]).expect("within");
        assert_eq!(one.differing_bytes(&other, 64 << 10), (8192, Some(0)));
        assert_eq!(one.differing_bytes(&other, 4095), (0, None), "only within the length");
    }
}
