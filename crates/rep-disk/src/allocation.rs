//! What a sparse file has allocated, as block status tells clients. A hole reads as zeroes.

use crate::open::Disk;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

/// A run of bytes that is allocated, or isn't.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Bytes.
    pub length: u64,
    /// Whether it is a hole.
    pub hole: bool,
}

/// Appends at most `runs_max` runs from `offset` on, none of them empty; together they reach at most to `end`, which
/// lies within the disk. What can't be told counts as allocated. Asks the file system, so it may wait for it.
pub fn runs(disk: &Disk, offset: u64, end: u64, runs_max: usize, out: &mut Vec<Run>) {
    if disk.facts.block_device {
        out.push(Run { length: end - offset, hole: false });
        return;
    }
    let mut at = offset;
    let runs_before = out.len();
    while at < end && out.len() - runs_before < runs_max {
        let (next, hole) = next_change(disk.as_fd(), at);
        let next = next.clamp(at + 1, end.max(at + 1));
        out.push(Run { length: next - at, hole });
        at = next;
    }
}

/// Where the run that holds `at` ends, and whether it is a hole.
fn next_change(file: BorrowedFd<'_>, at: u64) -> (u64, bool) {
    let seek = |whence| lseek(file, at as i64, whence).map(|offset| offset as u64);
    match seek(Whence::SeekData) {
        Ok(data) if data > at => (data, true),
        // No data behind it: a hole to the end.
        Err(Errno::ENXIO) => (u64::MAX, true),
        Ok(_) => (seek(Whence::SeekHole).unwrap_or(u64::MAX), false),
        Err(_) => (u64::MAX, false),
    }
}
