//! A simulated disk: data with a volatile cache, and metadata that is durable when a write of it is done.
//!
//! Content is one number a sector (0: zeroes), since what matters is *which* write is there. A write goes to the
//! cache; a flush makes what had completed when it was asked for stable. A power cut keeps a random subset of what
//! wasn't, sector by sector; and a disk may write its cache back whenever it likes, so an older version may be the
//! one that is kept. What a failed flush has lost may still be shown to who reads it, as a page cache does, until the
//! disk itself is read again. Metadata is bytes, since its format is under test; a power cut tears what is in flight.

use crate::rng::Rng;
use rep_meta::META_BLOCK_SIZE;
use rep_types::SECTOR_SIZE;
use std::collections::BTreeMap;

/// A run of sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sectors {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Sectors {
    /// The sectors of a range of bytes.
    pub fn of(range: rep_types::ByteRange) -> Self {
        Sectors { first: (range.offset / SECTOR_SIZE) as u32, count: range.length / SECTOR_SIZE as u32 }
    }

    /// The sector after the last.
    pub fn end(self) -> u32 {
        self.first + self.count
    }

    /// Whether the two share a sector.
    pub fn overlaps(self, other: Sectors) -> bool {
        self.first < other.end() && other.first < self.end()
    }

    /// As indices.
    pub fn indices(self) -> std::ops::Range<usize> {
        self.first as usize..self.end() as usize
    }
}

/// The data of a disk.
#[derive(Clone, Debug)]
pub struct DataDisk {
    cached: Vec<u32>,
    stable: Vec<u32>,
    dirty: Vec<u64>,
    dirty_count: usize,
    /// Lost by a failed flush, and shown all the same.
    shown: BTreeMap<usize, u32>,
    /// Per mille of overwritten dirty sectors whose older version had been written back before.
    pub write_back: u32,
}

impl DataDisk {
    /// A disk that holds this, all of it stable.
    pub fn new(content: Vec<u32>, write_back: u32) -> Self {
        let words = content.len().div_ceil(64);
        let (stable, dirty) = (content.clone(), vec![0; words]);
        DataDisk { stable, cached: content, dirty, dirty_count: 0, shown: BTreeMap::new(), write_back }
    }

    /// What is there now; a read may return what isn't any more.
    pub fn cached(&self) -> &[u32] {
        &self.cached
    }

    /// What a power cut now would leave at least.
    pub fn stable(&self) -> &[u32] {
        &self.stable
    }

    /// Whether a sector is in the cache only.
    pub fn is_dirty(&self, sector: usize) -> bool {
        self.dirty[sector / 64] & (1 << (sector % 64)) != 0
    }

    /// The sectors that are in the cache only.
    pub fn dirty_sectors(&self) -> impl Iterator<Item = usize> + '_ {
        self.dirty.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(|(at, word)| {
            let word = *word;
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
    }

    /// Reads. Whether some of it isn't there any more.
    pub fn read(&self, sectors: Sectors) -> (Vec<u32>, bool) {
        let mut values = self.cached[sectors.indices()].to_vec();
        let lost = self.shown.range(sectors.indices());
        let shown = lost.map(|(sector, value)| values[sector - sectors.first as usize] = *value).count();
        (values, shown > 0)
    }

    /// A flush fails: of what was in the cache only, `keep` per mille is kept, and all of it still shown.
    pub fn lose_unnoticed(&mut self, keep: u32, rng: &mut Rng) {
        let before: Vec<_> = self.dirty_sectors().map(|sector| (sector, self.cached[sector])).collect();
        let mut shown = std::mem::take(&mut self.shown);
        self.lose_cache(keep, rng);
        shown.extend(before);
        shown.retain(|sector, value| self.cached[*sector] != *value);
        self.shown = shown;
    }

    /// The disk itself is read: what is lost is shown no longer.
    pub fn look_again(&mut self) {
        self.shown.clear();
    }

    /// Writes one sector into the cache, or through it.
    pub fn put(&mut self, sector: usize, value: u32, durable: bool, rng: &mut Rng) {
        self.shown.remove(&sector);
        let bit = 1 << (sector % 64);
        let word = &mut self.dirty[sector / 64];
        if durable {
            self.dirty_count -= usize::from(*word & bit != 0);
            *word &= !bit;
            self.cached[sector] = value;
            self.stable[sector] = value;
            return;
        }
        if *word & bit == 0 {
            *word |= bit;
            self.dirty_count += 1;
        } else if rng.chance(self.write_back) {
            self.stable[sector] = self.cached[sector];
        }
        self.cached[sector] = value;
    }

    /// Another value stands in a sector, on the media too.
    pub fn change(&mut self, sector: usize, value: u32) {
        let bit = 1 << (sector % 64);
        self.dirty_count -= usize::from(self.dirty[sector / 64] & bit != 0);
        self.dirty[sector / 64] &= !bit;
        (self.cached[sector], self.stable[sector]) = (value, value);
        self.shown.remove(&sector);
    }

    /// Makes all that is in the cache stable.
    pub fn flush(&mut self) {
        self.settle_dirty(|_| true);
    }

    /// Loses power: of what was in the cache only, `keep` per mille is kept.
    pub fn lose_cache(&mut self, keep: u32, rng: &mut Rng) {
        self.shown.clear();
        self.settle_dirty(|_| rng.chance(keep));
    }

    fn settle_dirty(&mut self, mut keep: impl FnMut(usize) -> bool) {
        if self.dirty_count == 0 {
            return;
        }
        for at in 0..self.dirty.len() {
            let mut word = std::mem::take(&mut self.dirty[at]);
            while word != 0 {
                let sector = at * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                if keep(sector) {
                    self.stable[sector] = self.cached[sector];
                } else {
                    self.cached[sector] = self.stable[sector];
                }
            }
        }
        self.dirty_count = 0;
    }
}

/// The bytes of the metadata, at their absolute offsets of the metadata device.
#[derive(Clone, Debug)]
pub struct MetaDisk {
    /// Where `bytes` begins on the device: behind the data when internal.
    base: u64,
    bytes: Vec<u8>,
    size_bytes: u64,
    /// Counts changes, so that what was parsed from it can be kept.
    pub version: u64,
}

impl MetaDisk {
    /// An empty metadata device of `size_bytes`, nothing of it below `base` ever touched.
    pub fn new(base: u64, size_bytes: u64) -> Self {
        MetaDisk { base, bytes: vec![0; (size_bytes - base) as usize], size_bytes, version: 0 }
    }

    fn place(&self, offset: u64, length: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    /// Whether a block at this offset lies within the metadata.
    pub fn contains(&self, offset: u64) -> bool {
        offset.is_multiple_of(META_BLOCK_SIZE as u64) && self.place(offset, META_BLOCK_SIZE).is_some()
    }

    /// Changes a block behind everybody's back.
    pub fn change(&mut self, offset: u64, change: impl FnOnce(&mut [u8])) {
        if let Some(place) = self.place(offset, META_BLOCK_SIZE) {
            self.version += 1;
            change(&mut self.bytes[place]);
        }
    }

    /// The device has grown to so many bytes.
    pub fn grow(&mut self, size_bytes: u64) {
        if size_bytes > self.size_bytes {
            self.bytes.resize((size_bytes - self.base) as usize, 0);
            self.size_bytes = size_bytes;
            self.version += 1;
        }
    }

    /// Makes all of it zeroes.
    pub fn wipe(&mut self) {
        self.version += 1;
        self.bytes.fill(0);
    }

    /// Writes the 512-byte sectors of a block that `lands` says.
    pub fn put_block(&mut self, offset: u64, block: &[u8; META_BLOCK_SIZE], mut lands: impl FnMut(usize) -> bool) {
        let Some(place) = self.place(offset, META_BLOCK_SIZE) else { return };
        self.version += 1;
        let sector = SECTOR_SIZE as usize;
        let target = &mut self.bytes[place];
        for at in (0..META_BLOCK_SIZE / sector).filter(|at| lands(*at)) {
            target[at * sector..(at + 1) * sector].copy_from_slice(&block[at * sector..(at + 1) * sector]);
        }
    }
}

impl rep_meta::MetaStorage for MetaDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), rep_meta::MetaIoError> {
        let place = self.place(offset, buf.len()).ok_or(rep_meta::MetaIoError(rep_types::IoError::Invalid))?;
        buf.copy_from_slice(&self.bytes[place]);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), rep_meta::MetaIoError> {
        let place = self.place(offset, bytes.len()).ok_or(rep_meta::MetaIoError(rep_types::IoError::Invalid))?;
        self.bytes[place].copy_from_slice(bytes);
        self.version += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), rep_meta::MetaIoError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_loses_what_was_not_flushed_and_keeps_what_was() {
        let mut rng = Rng::new(1);
        let mut disk = DataDisk::new(vec![0; 100], 0);
        disk.put(3, 7, false, &mut rng);
        disk.flush();
        disk.put(3, 8, false, &mut rng);
        disk.put(4, 9, false, &mut rng);
        disk.put(5, 10, true, &mut rng);
        assert_eq!(disk.dirty_sectors().collect::<Vec<_>>(), vec![3, 4]);
        disk.lose_cache(0, &mut rng);
        assert_eq!(&disk.cached()[3..6], &[7, 0, 10]);
        assert_eq!(disk.dirty_sectors().count(), 0);
    }

    #[test]
    fn a_cache_may_write_an_older_version_back() {
        let mut rng = Rng::new(1);
        let mut disk = DataDisk::new(vec![0; 64], 1000);
        disk.put(0, 1, false, &mut rng);
        disk.put(0, 2, false, &mut rng);
        disk.lose_cache(0, &mut rng);
        assert_eq!(disk.cached()[0], 1);
    }

    #[test]
    fn a_torn_block_keeps_old_sectors() {
        let mut disk = MetaDisk::new(8192, 8192 + 4096);
        assert!(disk.contains(8192) && !disk.contains(4096) && !disk.contains(12288));
        disk.put_block(8192, &[1; 4096], |_| true);
        disk.put_block(8192, &[2; 4096], |at| at == 1);
        assert_eq!((disk.bytes[0], disk.bytes[512], disk.bytes[1024]), (1, 2, 1));
    }
}
