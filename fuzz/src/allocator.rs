//! An allocator that counts, so that an input which makes a decoder take much memory is a failure like a panic.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counted by loads and stores, not by additions that lock the bus, because targets allocate all the time, and in one
/// thread. The few allocations of the watchdog that this may lose shift the count for good, by little: it begins high
/// enough never to pass zero, and only differences are looked at.
static IN_USE: AtomicUsize = AtomicUsize::new(1 << 40);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counting touches no memory it gave out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        shrunk(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn grown(by: usize) {
    let in_use = IN_USE.load(Relaxed).wrapping_add(by);
    IN_USE.store(in_use, Relaxed);
    if in_use > PEAK.load(Relaxed) {
        PEAK.store(in_use, Relaxed);
    }
}

fn shrunk(by: usize) {
    IN_USE.store(IN_USE.load(Relaxed).wrapping_sub(by), Relaxed);
}

/// Runs something and tells how many bytes it held at once, beyond what was held before.
pub fn peak_of<T>(what: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = what();
    (result, PEAK.load(Relaxed).saturating_sub(before))
}
