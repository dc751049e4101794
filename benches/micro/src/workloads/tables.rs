//! The engine's tables by themselves.

use rep_engine::benched::{Bitmap, Log, Overlaps};
use std::hint::black_box;

/// A block is marked out-of-sync and cleared.
pub fn mark_and_clear() -> Box<dyn FnMut()> {
    let mut bitmap = Bitmap::default();
    // The first mark on a page makes room for it; afterwards none is left without.
    (0..100_000).for_each(|_| bitmap.mark_and_clear());
    Box::new(move || bitmap.mark_and_clear())
}

/// Every out-of-sync run of a bitmap is visited.
pub fn visit_runs() -> Box<dyn FnMut()> {
    let bitmap = Bitmap::default();
    Box::new(move || bitmap.visit_runs())
}

/// A write to a hot extent.
pub fn log_hit() -> Box<dyn FnMut()> {
    let mut log = Log::default();
    Box::new(move || log.hit())
}

/// A write to a cold one, with the log's transaction.
pub fn log_miss() -> Box<dyn FnMut()> {
    let mut log = Log::default();
    Box::new(move || drop(black_box(log.miss())))
}

/// A write comes and one goes, none overlapping another.
pub fn overlap_turn() -> Box<dyn FnMut()> {
    let mut overlaps = Overlaps::default();
    Box::new(move || overlaps.turn())
}

/// The same, with one that waits for another.
pub fn overlap_conflict() -> Box<dyn FnMut()> {
    let mut overlaps = Overlaps::default();
    Box::new(move || overlaps.turn_with_conflict())
}
