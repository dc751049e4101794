//! Comparing both replicas byte by byte, holes skipped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const CHUNK: usize = 1 << 20;

/// The offset of the first byte that differs within the first `length` bytes; `None`: they are the same.
pub fn first_difference(one: &Path, other: &Path, length: u64) -> Option<u64> {
    let open = |path: &Path| File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (one, other) = (open(one), open(other));
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut offset = 0;
    while offset < length {
        // Where both have a hole there is nothing to compare: a 64 GiB sparse volume takes no minutes.
        let data = next_data(&one, offset).min(next_data(&other, offset));
        if data > offset {
            offset = data.min(length);
            continue;
        }
        let count = CHUNK.min((length - offset) as usize);
        read_at(&one, &mut a[..count], offset);
        read_at(&other, &mut b[..count], offset);
        if let Some(at) = (0..count).find(|&at| a[at] != b[at]) {
            return Some(offset + at as u64);
        }
        offset += count as u64;
    }
    None
}

/// Panics where the replicas differ.
#[track_caller]
pub fn assert_identical(one: &Path, other: &Path, length: u64) {
    assert!(length > 0, "nothing to compare");
    if let Some(at) = first_difference(one, other, length) {
        panic!("{} and {} differ at byte {at} (block {})", one.display(), other.display(), at / 4096);
    }
}

fn next_data(file: &File, offset: u64) -> u64 {
    use nix::unistd::{Whence, lseek};
    lseek(file, offset as i64, Whence::SeekData).map_or(u64::MAX, |at| at as u64)
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) {
    file.read_exact_at(buffer, offset).unwrap_or_else(|e| panic!("reading {} bytes at {offset}: {e}", buffer.len()));
}
