//! What an input reached: the counters that LLVM's `sancov` pass puts on every edge of the program.
//!
//! `cargo xtask fuzz` builds with `-Cpasses=sancov-module` (a stable flag of rustc) and 8-bit counters inline. The
//! instrumented code calls the functions below: once with the place of the counters, and at each comparison with its
//! two operands, from which the mutator learns magic numbers and checksums. No sanitizer runtime is needed.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

static FIRST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static END: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

const COMPARISONS_KEPT: usize = 512;
static COMPARISONS: [[AtomicU64; 2]; COMPARISONS_KEPT] = [const { [const { AtomicU64::new(0) }; 2] }; COMPARISONS_KEPT];
static COMPARISON_COUNT: AtomicUsize = AtomicUsize::new(0);
/// Only while a target runs: the driver is instrumented too, and its own comparisons teach nothing.
static LISTENING: AtomicBool = AtomicBool::new(false);

/// The place in the code that each counter stands for, and flags; a row in the same order as the counters.
type Place = [usize; 2];
static FIRST_PLACE: AtomicPtr<Place> = AtomicPtr::new(std::ptr::null_mut());
static END_PLACE: AtomicPtr<Place> = AtomicPtr::new(std::ptr::null_mut());

/// Called by instrumented code before `main`. With several code units, the linker has put their counters in one row,
/// and each unit tells the whole of it.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_8bit_counters_init(first: *mut u8, end: *mut u8) {
    FIRST.store(first, Relaxed);
    END.store(end, Relaxed);
}

/// The same for the places.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_pcs_init(first: *mut Place, end: *mut Place) {
    FIRST_PLACE.store(first, Relaxed);
    END_PLACE.store(end, Relaxed);
}

macro_rules! comparison {
    ($($name:ident($kind:ty)),*) => {$(
        /// Called by instrumented code at a comparison.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(one: $kind, other: $kind) {
            compared(u64::from(one), u64::from(other));
        }
    )*};
}
comparison!(
    __sanitizer_cov_trace_cmp2(u16),
    __sanitizer_cov_trace_cmp4(u32),
    __sanitizer_cov_trace_cmp8(u64),
    __sanitizer_cov_trace_const_cmp2(u16),
    __sanitizer_cov_trace_const_cmp4(u32),
    __sanitizer_cov_trace_const_cmp8(u64)
);

/// Comparisons of single bytes and switches teach nothing that random bytes don't.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_trace_cmp1(_one: u8, _other: u8) {}
/// See above.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_trace_const_cmp1(_one: u8, _other: u8) {}
/// See above.
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_trace_switch(_value: u64, _cases: *const u64) {}

fn compared(one: u64, other: u64) {
    if one != other && LISTENING.load(Relaxed) {
        // One thread runs targets; a count lost to the watchdog's own comparisons does no harm.
        let count = COMPARISON_COUNT.load(Relaxed);
        COMPARISON_COUNT.store(count.wrapping_add(1), Relaxed);
        let slot = &COMPARISONS[count % COMPARISONS_KEPT];
        slot[0].store(one, Relaxed);
        slot[1].store(other, Relaxed);
    }
}

/// The operands of some comparisons of the last run that came out unequal.
pub fn comparisons() -> Vec<[u64; 2]> {
    let count = COMPARISON_COUNT.load(Relaxed).min(COMPARISONS_KEPT);
    COMPARISONS[..count].iter().map(|pair| [pair[0].load(Relaxed), pair[1].load(Relaxed)]).collect()
}

fn counters() -> &'static mut [u8] {
    let first = FIRST.load(Relaxed);
    if first.is_null() {
        return &mut [];
    }
    let length = END.load(Relaxed) as usize - first as usize;
    // SAFETY: the compiler gave these bounds of a static array of bytes, which only the counters' increments and this
    // module touch; one thread runs targets, and nobody holds the slice across a run.
    unsafe { std::slice::from_raw_parts_mut(first, length) }
}

fn places() -> &'static [Place] {
    let first = FIRST_PLACE.load(Relaxed);
    if first.is_null() {
        return &[];
    }
    let count = (END_PLACE.load(Relaxed) as usize - first as usize) / size_of::<Place>();
    // SAFETY: the compiler gave these bounds of a static array, which nobody writes to.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// Counters looked at together, 128 of them: nearly all are zero in any one run.
type Row = [u64; 16];

/// What has been reached so far, over all runs.
#[derive(Debug, Default)]
pub struct Reached {
    /// For each counter, the classes of counts that were seen, a bit each.
    classes: Vec<u8>,
    hit: usize,
}

impl Reached {
    /// How many counters were ever hit.
    pub fn count(&self) -> usize {
        self.hit
    }

    /// Makes ready for a run.
    pub fn before_run(&mut self) {
        counters().fill(0);
        COMPARISON_COUNT.store(0, Relaxed);
        LISTENING.store(true, Relaxed);
    }

    /// Takes in a run; whether it reached something new.
    pub fn after_run(&mut self) -> bool {
        LISTENING.store(false, Relaxed);
        let counters = counters();
        self.classes.resize(counters.len(), 0);
        // SAFETY: eight counts may be looked at as one number.
        let (head, rows, tail) = unsafe { counters.align_to::<Row>() };
        let (seen_head, seen) = self.classes.split_at_mut(head.len());
        let (seen_rows, seen_tail) = seen.split_at_mut(size_of_val(rows));
        let mut new = take_in(head, seen_head, &mut self.hit) | take_in(tail, seen_tail, &mut self.hit);
        for (row, seen) in rows.iter().zip(seen_rows.chunks_exact_mut(size_of::<Row>())) {
            if row.iter().fold(0, |any, counts| any | counts) == 0 {
                continue;
            }
            for (counts, seen) in row.iter().zip(seen.chunks_exact_mut(8)) {
                if *counts != 0 {
                    new |= take_in(&counts.to_ne_bytes(), seen, &mut self.hit);
                }
            }
        }
        new
    }

    /// Where in the program, as an offset from its first byte, each counter stands, and whether it was ever hit.
    pub fn places(&self) -> impl Iterator<Item = (usize, bool)> {
        unsafe extern "C" {
            /// The linker's: the first byte of the program.
            static __executable_start: u8;
        }
        let start = (&raw const __executable_start) as usize;
        places().iter().zip(&self.classes).map(move |(place, seen)| (place[0] - start, *seen != 0))
    }
}

/// Whether these counts are of a class not seen before; counts the counters hit for the first time.
fn take_in(counts: &[u8], seen: &mut [u8], hit: &mut usize) -> bool {
    let mut new = false;
    for (&count, seen) in counts.iter().zip(seen) {
        let class = CLASSES[usize::from(count)];
        if class & !*seen != 0 {
            *hit += usize::from(*seen == 0);
            *seen |= class;
            new = true;
        }
    }
    new
}

/// Once, twice, three times, a few, many: how often matters, but not exactly.
const fn class(count: u8) -> u8 {
    match count {
        0..=3 => 1 << count >> 1,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128..=255 => 128,
    }
}

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut count = 0;
    while count < classes.len() {
        classes[count] = class(count as u8);
        count += 1;
    }
    classes
};
