//! The dirty bitmap on the wire: run lengths.
//!
//! LEB128 numbers, alternating clear and set, beginning with clear (which may be 0 long). A part speaks of
//! `from..next`, or of `from` to the volume's end; what its runs don't reach is clear. Bytes of a peer are checked
//! whole before anything of them is applied (I-F5).

use crate::dirty_bitmap::DirtyBitmap;
use rep_types::{BlockIndex, BlockRange};

/// The fewest bytes a part may be given: two numbers of any size.
pub const RUNS_BYTES_MIN: usize = 20;

/// Why a part of a peer's bitmap was refused. Nothing of it was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunsError {
    /// A number ends in the middle, or is larger than 64 bits.
    #[error("a run's length is malformed")]
    Malformed,
    /// The runs go past the part's end, or the part past the volume's.
    #[error("the runs go past the end")]
    PastEnd,
    /// The part ends before it begins, so that asking on would never end.
    #[error("the part is empty")]
    Empty,
}

impl DirtyBitmap {
    /// Appends a part of at most `max_bytes` from block `from` on. Returns where the next part begins; `None`: this
    /// was the last.
    pub fn encode_runs(&self, from: BlockIndex, max_bytes: usize, out: &mut Vec<u8>) -> Option<BlockIndex> {
        assert!(max_bytes >= RUNS_BYTES_MIN, "a part of {max_bytes} bytes may not get on");
        let limit = out.len() + max_bytes;
        let mut reached = from.0;
        while let Some(run) = self.next_run(BlockIndex(reached), u64::MAX) {
            let clear = run.first.0 - reached;
            if out.len() + number_length(clear) + number_length(run.count) > limit {
                return Some(BlockIndex(reached));
            }
            push_number(out, clear);
            push_number(out, run.count);
            reached = run.end();
        }
        None
    }

    /// Sets what a part of a peer's bitmap has set, and says how many blocks weren't.
    pub fn apply_runs(&mut self, from: BlockIndex, next: Option<BlockIndex>, runs: &[u8]) -> Result<u64, RunsError> {
        let end = next.map_or(self.volume_blocks(), |next| next.0);
        if from.0 > self.volume_blocks() || end > self.volume_blocks() {
            return Err(RunsError::PastEnd);
        }
        if next.is_some() && end <= from.0 {
            return Err(RunsError::Empty);
        }
        for run in Runs::new(from, end, runs) {
            run?;
        }
        Ok(Runs::new(from, end, runs).flatten().map(|run| self.set(run)).sum())
    }
}

/// The set runs of a part.
struct Runs<'a> {
    at: u64,
    end: u64,
    bytes: &'a [u8],
}

impl<'a> Runs<'a> {
    fn new(from: BlockIndex, end: u64, bytes: &'a [u8]) -> Self {
        Runs { at: from.0, end, bytes }
    }

    fn advance(&mut self) -> Result<u64, RunsError> {
        let (length, rest) = take_number(self.bytes).ok_or(RunsError::Malformed)?;
        let at = self.at.checked_add(length).filter(|at| *at <= self.end).ok_or(RunsError::PastEnd)?;
        self.bytes = rest;
        Ok(std::mem::replace(&mut self.at, at))
    }

    fn next_set(&mut self) -> Result<BlockRange, RunsError> {
        self.advance()?;
        if self.bytes.is_empty() {
            return Ok(BlockRange::new(self.at, 0));
        }
        let first = self.advance()?;
        Ok(BlockRange::new(first, self.at - first))
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<BlockRange, RunsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let run = self.next_set();
        if run.is_err() {
            self.bytes = &[];
        }
        Some(run)
    }
}

fn number_length(number: u64) -> usize {
    (64 - number.leading_zeros()).div_ceil(7).max(1) as usize
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        if index == 9 && part > 1 {
            return None;
        }
        number |= part << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: u64 = 100_000;

    fn bitmap_of(runs: &[(u64, u64)]) -> DirtyBitmap {
        let mut bitmap = DirtyBitmap::new(BLOCKS);
        for (first, count) in runs {
            bitmap.set(BlockRange::new(*first, *count));
        }
        bitmap
    }

    fn runs_of(bitmap: &DirtyBitmap) -> Vec<BlockRange> {
        let mut from = BlockIndex(0);
        std::iter::from_fn(|| {
            let run = bitmap.next_run(from, u64::MAX)?;
            from = BlockIndex(run.end());
            Some(run)
        })
        .collect()
    }

    #[test]
    fn runs_begin_with_clear_and_leave_the_tail_out() {
        let mut out = Vec::new();
        assert_eq!(bitmap_of(&[(0, 1), (200, 300)]).encode_runs(BlockIndex(0), 100, &mut out), None);
        assert_eq!(out, [0, 1, 0xc7, 1, 0xac, 2]);
    }

    #[test]
    fn numbers_past_64_bits_and_cut_ones_are_refused() {
        let mut bitmap = DirtyBitmap::new(BLOCKS);
        for bad in [&[0x80][..], &[0xff; 10], &[0x80; 11], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]] {
            assert_eq!(bitmap.apply_runs(BlockIndex(0), None, bad), Err(RunsError::Malformed), "{bad:?}");
        }
        assert!(bitmap.is_empty());
    }

    #[test]
    fn a_part_past_the_end_applies_nothing() {
        let mut bitmap = DirtyBitmap::new(BLOCKS);
        let mut runs = vec![0, 5];
        push_number(&mut runs, BLOCKS);
        push_number(&mut runs, 1);
        assert_eq!(bitmap.apply_runs(BlockIndex(0), None, &runs), Err(RunsError::PastEnd));
        assert_eq!(bitmap.apply_runs(BlockIndex(0), Some(BlockIndex(BLOCKS + 1)), &[]), Err(RunsError::PastEnd));
        assert_eq!(bitmap.apply_runs(BlockIndex(7), Some(BlockIndex(7)), &[]), Err(RunsError::Empty));
        assert!(bitmap.is_empty());
    }

    proptest! {
        #[test]
        fn a_bitmap_travels_in_parts(
            mine in proptest::collection::vec((0..BLOCKS, 1..3000u64), 0..60),
            theirs in proptest::collection::vec((0..BLOCKS, 1..3000u64), 0..20),
            max_bytes in RUNS_BYTES_MIN..200,
        ) {
            let source = bitmap_of(&theirs);
            let mut target = bitmap_of(&mine);
            let mut united = bitmap_of(&mine);
            united.union(&source);
            let before = target.count();
            let (mut from, mut added) = (Some(BlockIndex(0)), 0);
            while let Some(block) = from {
                let mut runs = Vec::new();
                let next = source.encode_runs(block, max_bytes, &mut runs);
                prop_assert!(runs.len() <= max_bytes);
                prop_assert!(next.is_none_or(|next| next > block));
                added += target.apply_runs(block, next, &runs).expect("our own");
                from = next;
            }
            prop_assert_eq!(runs_of(&target), runs_of(&united));
            prop_assert_eq!(target.count(), before + added);
        }

        #[test]
        fn any_bytes_are_refused_or_stay_inside(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            from in 0..BLOCKS,
            next in proptest::option::of(0..2 * BLOCKS),
        ) {
            let mut bitmap = DirtyBitmap::new(BLOCKS);
            let result = bitmap.apply_runs(BlockIndex(from), next.map(BlockIndex), &bytes);
            prop_assert_eq!(bitmap.count(), result.unwrap_or(0));
            let inside = BlockRange::new(from, next.unwrap_or(BLOCKS).saturating_sub(from));
            bitmap.clear(inside);
            prop_assert!(bitmap.is_empty());
            bitmap.assert_invariants();
        }
    }
}
