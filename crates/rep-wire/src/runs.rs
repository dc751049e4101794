//! Bitmap runs: the out-of-sync blocks of a stretch, as lengths of clear and set runs in turn.
//!
//! LEB128 varints, beginning with a clear run (which alone may be 0). After the last set run everything is clear, so
//! a clean bitmap is no byte at all. One bitmap has one code: a zero inside, a clear run at the end and a varint
//! longer than needed are errors.

use crate::limits::{BLOCK_COUNT_MAX, RUNS_LENGTH_MAX};
use rep_types::{BlockIndex, BlockRange};

/// The longest varint of a number below 2^63.
const VARINT_LENGTH_MAX: usize = 9;

/// What is wrong with a run-length code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunsError {
    /// It ends inside a number, or after a clear run.
    #[error("the run lengths end too soon")]
    Truncated,
    /// A number isn't in its shortest form, or doesn't fit.
    #[error("a run length is malformed")]
    Malformed,
    /// A run of no blocks, other than the first.
    #[error("a run is empty")]
    EmptyRun,
    /// A run reaches beyond the stretch the part speaks of.
    #[error("a run reaches beyond its part")]
    BeyondEnd,
}

/// Writes runs up to a part's limit.
#[derive(Debug)]
pub struct RunsWriter {
    bytes: Vec<u8>,
    /// The block after the last one spoken of.
    position: u64,
    /// Where the last set run's length begins in `bytes`, and that length.
    last: Option<(usize, u64)>,
    length_max: usize,
}

impl RunsWriter {
    /// A code that begins at `from`.
    pub fn new(from: BlockIndex) -> Self {
        Self::with_length_max(from, RUNS_LENGTH_MAX)
    }

    /// As `new`, but never longer than `length_max` bytes, itself at most [`RUNS_LENGTH_MAX`].
    pub fn with_length_max(from: BlockIndex, length_max: usize) -> Self {
        RunsWriter { bytes: Vec::new(), position: from.0, last: None, length_max: length_max.min(RUNS_LENGTH_MAX) }
    }

    /// Adds a run of set blocks. Runs come in order and don't overlap; one right at the end of the one before makes
    /// that longer. `false`: the part is full, and this run opens the next one.
    #[must_use]
    pub fn push(&mut self, set: BlockRange) -> bool {
        assert!(set.first.0 >= self.position && !set.is_empty(), "runs come in order");
        match self.last {
            Some((begin, count)) if set.first.0 == self.position => {
                self.bytes.truncate(begin);
                self.put_set(count + set.count);
            }
            _ if self.bytes.len() + 2 * VARINT_LENGTH_MAX > self.length_max => return false,
            _ => {
                put_varint(set.first.0 - self.position, &mut self.bytes);
                self.put_set(set.count);
            }
        }
        self.position = set.end();
        true
    }

    fn put_set(&mut self, count: u64) {
        self.last = Some((self.bytes.len(), count));
        put_varint(count, &mut self.bytes);
    }

    /// The code.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Encodes the set runs (in order, not overlapping) of the stretch from `from`: the code, and where the next part
/// begins if they didn't fit one.
pub fn encode_runs(from: BlockIndex, set: impl IntoIterator<Item = BlockRange>) -> (Vec<u8>, Option<BlockIndex>) {
    let mut writer = RunsWriter::new(from);
    for run in set {
        if !writer.push(run) {
            return (writer.finish(), Some(run.first));
        }
    }
    (writer.finish(), None)
}

/// Decodes runs that begin at `from`: the set runs, in order. `end` is the first block the part doesn't speak of. The
/// iterator ends after an error.
pub fn decode_runs(from: BlockIndex, end: BlockIndex, bytes: &[u8]) -> RunsReader<'_> {
    RunsReader { bytes, position: from.0, end: end.0.min(BLOCK_COUNT_MAX), first: true }
}

/// See [`decode_runs`].
#[derive(Clone, Debug)]
pub struct RunsReader<'a> {
    bytes: &'a [u8],
    position: u64,
    end: u64,
    first: bool,
}

impl RunsReader<'_> {
    fn next_run(&mut self) -> Result<BlockRange, RunsError> {
        let clear = self.varint()?;
        if clear == 0 && !self.first {
            return Err(RunsError::EmptyRun);
        }
        self.first = false;
        let first = self.advance(clear)?;
        let count = self.varint()?;
        if count == 0 {
            return Err(RunsError::EmptyRun);
        }
        self.advance(count)?;
        Ok(BlockRange { first: BlockIndex(first), count })
    }

    fn advance(&mut self, count: u64) -> Result<u64, RunsError> {
        let next = self.position.checked_add(count).filter(|next| *next <= self.end);
        self.position = next.ok_or(RunsError::BeyondEnd)?;
        Ok(self.position)
    }

    fn varint(&mut self) -> Result<u64, RunsError> {
        let mut value = 0u64;
        for index in 0..VARINT_LENGTH_MAX {
            let (byte, rest) = self.bytes.split_first().ok_or(RunsError::Truncated)?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let shortest = *byte != 0 || index == 0;
                return if shortest { Ok(value) } else { Err(RunsError::Malformed) };
            }
        }
        Err(RunsError::Malformed)
    }
}

impl Iterator for RunsReader<'_> {
    type Item = Result<BlockRange, RunsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let run = self.next_run();
        if run.is_err() {
            self.bytes = &[];
        }
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(from: u64, end: u64, bytes: &[u8]) -> Result<Vec<BlockRange>, RunsError> {
        decode_runs(BlockIndex(from), BlockIndex(end), bytes).collect()
    }

    #[test]
    fn a_clean_stretch_is_no_byte() {
        assert_eq!(encode_runs(BlockIndex(7), []), (vec![], None));
        assert_eq!(decode(7, 100, &[]), Ok(vec![]));
    }

    #[test]
    fn runs_alternate_from_clear() {
        let runs = [BlockRange::new(10, 2), BlockRange::new(212, 1)];
        let (bytes, next) = encode_runs(BlockIndex(10), runs);
        assert_eq!((bytes.as_slice(), next), ([0, 2, 0xc8, 0x01, 1].as_slice(), None));
        assert_eq!(decode(10, 213, &bytes), Ok(runs.to_vec()));
        assert_eq!(decode(10, 212, &bytes), Err(RunsError::BeyondEnd));
    }

    #[test]
    fn adjacent_runs_become_one() {
        let runs = [BlockRange::new(0, 100), BlockRange::new(100, 100), BlockRange::new(201, 1)];
        assert_eq!(encode_runs(BlockIndex(0), runs), (vec![0, 0xc8, 0x01, 1, 1], None));
    }

    #[test]
    fn a_full_part_says_where_the_next_begins() {
        let runs = (0..100_000).map(|index| BlockRange::new(index * 1000, 500));
        let mut from = BlockIndex(0);
        let (mut decoded, mut parts) = (Vec::new(), 0);
        loop {
            let (bytes, next) = encode_runs(from, runs.clone().skip_while(|run| run.first < from));
            assert!(bytes.len() <= RUNS_LENGTH_MAX);
            let end = next.unwrap_or(BlockIndex(100_000_000));
            decoded.extend(decode_runs(from, end, &bytes).map(|run| run.expect("valid")));
            parts += 1;
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert!(parts > 1);
        assert!(decoded.into_iter().eq(runs));
    }

    #[test]
    fn other_codes_of_the_same_bitmap_are_refused() {
        assert_eq!(decode(0, 100, &[5]), Err(RunsError::Truncated));
        assert_eq!(decode(0, 100, &[5, 1, 3]), Err(RunsError::Truncated));
        assert_eq!(decode(0, 100, &[5, 0]), Err(RunsError::EmptyRun));
        assert_eq!(decode(0, 100, &[5, 1, 0, 1]), Err(RunsError::EmptyRun));
        assert_eq!(decode(0, 100, &[0x85, 0x00, 1]), Err(RunsError::Malformed));
        assert_eq!(decode(0, 100, &[0x80; 12]), Err(RunsError::Malformed));
        assert_eq!(
            decode(0, u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1]),
            Err(RunsError::BeyondEnd)
        );
    }
}
