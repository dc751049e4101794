//! Runs of bits in a page of the dirty bitmap, a word at a time.

use rep_meta::PageBits;

/// The words a run of bits touches, each with the mask of its bits there.
#[inline]
fn masks(first: u32, count: u32) -> impl Iterator<Item = (usize, u64)> {
    let end = first + count;
    let mut from = first;
    std::iter::from_fn(move || {
        if from >= end {
            return None;
        }
        let bits = (end - from).min(64 - from % 64);
        let mask = (u64::MAX >> (64 - bits)) << (from % 64);
        let word = from as usize / 64;
        from += bits;
        Some((word, mask))
    })
}

/// Sets bits; how many weren't.
#[inline]
pub(crate) fn set_bits(bits: &mut PageBits, first: u32, count: u32) -> u32 {
    let mut added = 0;
    for (word, mask) in masks(first, count) {
        added += (mask & !bits[word]).count_ones();
        bits[word] |= mask;
    }
    added
}

/// Clears bits; how many were set.
#[inline]
pub(crate) fn clear_bits(bits: &mut PageBits, first: u32, count: u32) -> u32 {
    let mut removed = 0;
    for (word, mask) in masks(first, count) {
        removed += (mask & bits[word]).count_ones();
        bits[word] &= !mask;
    }
    removed
}

/// How many bits are set in `first..end`.
pub(crate) fn count_bits(bits: &PageBits, first: u32, end: u32) -> u32 {
    masks(first, end - first).map(|(word, mask)| (bits[word] & mask).count_ones()).sum()
}

/// The first bit at or after `from` that is set; with `invert` all ones, that is clear.
#[inline]
pub(crate) fn next_bit(bits: &PageBits, from: u32, invert: u64) -> Option<u32> {
    let mut index = from as usize / 64;
    let mut word = (bits.get(index)? ^ invert) & (u64::MAX << (from % 64));
    while word == 0 {
        index += 1;
        word = bits.get(index)? ^ invert;
    }
    Some((index * 64) as u32 + word.trailing_zeros())
}
