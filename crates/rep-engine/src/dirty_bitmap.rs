//! The dirty bitmap in memory: which blocks are out-of-sync.
//!
//! It isn't the on-disk bitmap: [`crate::bitmap_store`] carries it there. Memory follows what is dirty, not the
//! volume's size: a page of 30720 blocks (120 MiB) takes room only while it is neither wholly clear nor wholly set.
//!
//! ```text
//! pages:  Clean | AllSet | Mixed(480 words + count)      occupied: one bit a page that isn't Clean
//! ```
//!
//! Invariants:
//! - DB-1 `count` is the number of set blocks, and each Mixed page's `count` that of its page.
//! - DB-2 a Mixed page has a set and a clear block; no bit is set past the volume's end.
//! - DB-3 `occupied` holds exactly the pages that aren't Clean.
//! - DB-4 a page with a block newly set since it was last handed to the store is in `unsaved_sets` (likewise clears).

use crate::bits::{clear_bits, count_bits, next_bit, set_bits};
use crate::page_set::PageSet;
use rep_meta::{LoadedBitmap, LoadedPage, PAGE_BLOCKS, PAGE_WORDS, PageBits, PageState};
use rep_types::{BlockIndex, BlockRange};

/// Freed pages kept for the next ones that are needed, where nothing else is said.
const SPARE_PAGES_MAX: usize = 16;

/// Blocks out-of-sync.
#[derive(Clone, Debug)]
pub struct DirtyBitmap {
    volume_blocks: u64,
    count: u64,
    /// Pages that are Mixed.
    mixed: usize,
    pages: Vec<Page>,
    occupied: PageSet,
    unsaved_sets: PageSet,
    unsaved_clears: PageSet,
    spare: SparePages,
}

#[derive(Clone, Debug)]
enum Page {
    Clean,
    AllSet,
    Mixed(Box<MixedPage>),
}

#[derive(Clone, Debug)]
struct MixedPage {
    count: u32,
    bits: PageBits,
}

/// A run of bits inside one page.
#[derive(Clone, Copy)]
struct Part {
    page: u32,
    first: u32,
    count: u32,
}

impl DirtyBitmap {
    /// A clear bitmap.
    pub fn new(volume_blocks: u64) -> Self {
        let pages = pages_of(volume_blocks);
        DirtyBitmap {
            volume_blocks,
            count: 0,
            mixed: 0,
            pages: (0..pages).map(|_| Page::Clean).collect(),
            occupied: PageSet::new(pages),
            unsaved_sets: PageSet::new(pages),
            unsaved_clears: PageSet::new(pages),
            spare: SparePages::default(),
        }
    }

    /// A clear bitmap that is filled and cleared over and over: it keeps so many pages.
    pub fn reused(volume_blocks: u64, pages_kept: usize) -> Self {
        let mut bitmap = DirtyBitmap::new(volume_blocks);
        bitmap.spare.kept_max = pages_kept;
        bitmap
    }

    /// The bitmap as it was read at attach, cut at the volume's end. Damaged pages count as changed, so that the next
    /// write heals them.
    pub fn from_loaded(loaded: &LoadedBitmap, volume_blocks: u64) -> Self {
        let mut bitmap = DirtyBitmap::new(volume_blocks);
        assert!(bitmap.pages.len() <= loaded.pages.len(), "the metadata has fewer pages than the volume");
        for (page, loaded) in (0u32..).zip(&loaded.pages).take(bitmap.pages.len()) {
            match loaded {
                LoadedPage::Clean => {}
                LoadedPage::AllSet => bitmap.fill_page(page),
                LoadedPage::Mixed(bits) => bitmap.take_over_page(page, bits),
            }
        }
        bitmap.unsaved_sets.clear();
        for page in loaded.damaged_pages.iter().filter(|page| (**page as usize) < bitmap.pages.len()) {
            bitmap.unsaved_sets.insert(*page);
        }
        bitmap
    }

    /// Blocks of the volume.
    pub fn volume_blocks(&self) -> u64 {
        self.volume_blocks
    }

    /// How many blocks are set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether no block is set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sets blocks and says how many weren't. What lies past the volume's end is ignored.
    #[inline]
    pub fn set(&mut self, range: BlockRange) -> u64 {
        let mut added = 0;
        for part in parts(self.volume_blocks, range) {
            added += u64::from(self.set_part(part));
        }
        self.count += added;
        added
    }

    /// Clears blocks and says how many were set. What lies past the volume's end is ignored.
    #[inline]
    pub fn clear(&mut self, range: BlockRange) -> u64 {
        let mut removed = 0;
        for part in parts(self.volume_blocks, range) {
            removed += u64::from(self.clear_part(part));
        }
        self.count -= removed;
        removed
    }

    /// Sets every block.
    pub fn set_all(&mut self) {
        self.set(BlockRange::new(0, self.volume_blocks));
    }

    /// Clears every block.
    pub fn clear_all(&mut self) {
        // Only what is there is visited: on a large volume that is set sparsely, most pages are Clean.
        let mut from = 0;
        while let Some(page) = self.occupied.next(from) {
            let count = self.page_blocks(page);
            self.count -= u64::from(self.clear_part(Part { page, first: 0, count }));
            from = page + 1;
        }
    }

    /// Whether a block is set; one past the volume's end never is.
    #[cfg(test)]
    pub fn is_set(&self, block: BlockIndex) -> bool {
        if block.0 >= self.volume_blocks {
            return false;
        }
        let (page, bit) = ((block.0 / PAGE_BLOCKS) as usize, (block.0 % PAGE_BLOCKS) as usize);
        match &self.pages[page] {
            Page::Clean => false,
            Page::AllSet => true,
            Page::Mixed(mixed) => mixed.bits[bit / 64] >> (bit % 64) & 1 == 1,
        }
    }

    /// Whether any block of the range is set.
    #[inline]
    pub fn any_set(&self, range: BlockRange) -> bool {
        let end = range.first.0.saturating_add(range.count);
        self.first_set(range.first.0, end).is_some()
    }

    /// The next run of set blocks at or after `from`, cut at `max` blocks.
    pub fn next_run(&self, from: BlockIndex, max: u64) -> Option<BlockRange> {
        let first = self.first_set(from.0, self.volume_blocks)?;
        let limit = first.saturating_add(max.max(1)).min(self.volume_blocks);
        Some(BlockRange::new(first, self.first_clear(first, limit) - first))
    }

    /// Sets every block that is set in the other bitmap, which may be of another length.
    pub fn union(&mut self, other: &DirtyBitmap) {
        let mut from = BlockIndex(0);
        while let Some(run) = other.next_run(from, u64::MAX) {
            if run.first.0 >= self.volume_blocks {
                break;
            }
            self.set(run);
            from = BlockIndex(run.end());
        }
    }

    /// Pages that take room.
    pub fn pages_allocated(&self) -> usize {
        self.mixed
    }

    /// Changes the volume's length. New blocks are clear; lost ones are forgotten.
    pub fn resize(&mut self, volume_blocks: u64) {
        if volume_blocks < self.volume_blocks {
            self.clear(BlockRange::new(volume_blocks, self.volume_blocks - volume_blocks));
        }
        let shorter = volume_blocks.min(self.volume_blocks);
        let grows_from = (volume_blocks > self.volume_blocks).then_some((self.volume_blocks / PAGE_BLOCKS) as u32);
        let boundary = BlockRange::new(shorter / PAGE_BLOCKS * PAGE_BLOCKS, shorter % PAGE_BLOCKS);
        // The page at the boundary may change between AllSet and Mixed with no bit changing: set it anew.
        let was_set: Vec<BlockRange> = self.runs_of(boundary);
        self.clear(boundary);
        let pages = pages_of(volume_blocks);
        self.volume_blocks = volume_blocks;
        self.pages.resize_with(pages as usize, || Page::Clean);
        for set in [&mut self.occupied, &mut self.unsaved_sets, &mut self.unsaved_clears] {
            set.resize(pages);
        }
        for run in was_set {
            self.set(run);
        }
        // What the disk says of blocks the volume didn't have yet may be anything.
        for page in grows_from.into_iter().flat_map(|first| first..pages) {
            self.unsaved_clears.insert(page);
        }
    }

    /// Panics when an invariant doesn't hold.
    pub fn assert_invariants(&self) {
        let mut count = 0;
        for (number, page) in (0u32..).zip(&self.pages) {
            count += match page {
                Page::Clean => 0,
                Page::AllSet => u64::from(self.page_blocks(number)),
                Page::Mixed(mixed) => {
                    let set: u32 = mixed.bits.iter().map(|word| word.count_ones()).sum();
                    assert_eq!(set, mixed.count, "DB-1: page {number}");
                    assert!(set > 0 && set < self.page_blocks(number), "DB-2: page {number} has {set} set");
                    let past = count_bits(&mixed.bits, self.page_blocks(number), PAGE_BLOCKS as u32);
                    assert_eq!(past, 0, "DB-2: page {number} has blocks past the end");
                    u64::from(set)
                }
            };
            assert_eq!(self.occupied.contains(number), !matches!(page, Page::Clean), "DB-3: page {number}");
        }
        assert_eq!(self.count, count, "DB-1");
        let mixed = self.pages.iter().filter(|page| matches!(page, Page::Mixed(_))).count();
        assert_eq!(self.mixed, mixed, "DB-1: the count of Mixed pages");
    }

    fn runs_of(&self, range: BlockRange) -> Vec<BlockRange> {
        let mut runs = Vec::new();
        let mut from = range.first.0;
        while let Some(first) = self.first_set(from, range.end()) {
            let end = self.first_clear(first, range.end());
            runs.push(BlockRange::new(first, end - first));
            from = end;
        }
        runs
    }

    /// Blocks of the volume in a page.
    fn page_blocks(&self, page: u32) -> u32 {
        (self.volume_blocks - u64::from(page) * PAGE_BLOCKS).min(PAGE_BLOCKS) as u32
    }

    #[inline]
    fn set_part(&mut self, part: Part) -> u32 {
        let whole = self.page_blocks(part.page);
        let page = &mut self.pages[part.page as usize];
        let added = match page {
            Page::AllSet => return 0,
            Page::Clean if part.count == whole => {
                *page = Page::AllSet;
                part.count
            }
            Page::Clean => {
                let mut mixed = self.spare.take(0);
                set_bits(&mut mixed.bits, part.first, part.count);
                mixed.count = part.count;
                *page = Page::Mixed(mixed);
                self.mixed += 1;
                part.count
            }
            Page::Mixed(mixed) => {
                let added = set_bits(&mut mixed.bits, part.first, part.count);
                mixed.count += added;
                if mixed.count == whole {
                    self.mixed -= 1;
                    self.spare.keep(std::mem::replace(page, Page::AllSet));
                }
                added
            }
        };
        if added > 0 {
            self.occupied.insert(part.page);
            self.unsaved_sets.insert(part.page);
        }
        added
    }

    #[inline]
    fn clear_part(&mut self, part: Part) -> u32 {
        let whole = self.page_blocks(part.page);
        let page = &mut self.pages[part.page as usize];
        let removed = match page {
            Page::Clean => return 0,
            Page::AllSet if part.count == whole => {
                *page = Page::Clean;
                part.count
            }
            Page::AllSet => {
                let mut mixed = self.spare.take(whole);
                clear_bits(&mut mixed.bits, part.first, part.count);
                mixed.count = whole - part.count;
                *page = Page::Mixed(mixed);
                self.mixed += 1;
                part.count
            }
            Page::Mixed(mixed) => {
                // Its count is known, and a page that is let go of needs no clear bits.
                let all = part.count == whole;
                let removed = if all { mixed.count } else { clear_bits(&mut mixed.bits, part.first, part.count) };
                mixed.count -= removed;
                if mixed.count == 0 {
                    self.mixed -= 1;
                    self.spare.keep(std::mem::replace(page, Page::Clean));
                }
                removed
            }
        };
        if removed > 0 {
            self.unsaved_clears.insert(part.page);
        }
        if matches!(self.pages[part.page as usize], Page::Clean) {
            self.occupied.remove(part.page);
        }
        removed
    }

    fn fill_page(&mut self, page: u32) {
        let count = self.page_blocks(page);
        self.count += u64::from(self.set_part(Part { page, first: 0, count }));
    }

    fn take_over_page(&mut self, page: u32, bits: &PageBits) {
        let whole = self.page_blocks(page);
        let mut mixed = self.spare.take(0);
        mixed.bits.copy_from_slice(bits);
        clear_bits(&mut mixed.bits, whole, PAGE_BLOCKS as u32 - whole);
        mixed.count = mixed.bits.iter().map(|word| word.count_ones()).sum();
        let count = mixed.count;
        self.pages[page as usize] = match count {
            0 => Page::Clean,
            all if all == whole => Page::AllSet,
            _ => {
                self.mixed += 1;
                Page::Mixed(mixed)
            }
        };
        if count > 0 {
            self.occupied.insert(page);
        }
        self.count += u64::from(count);
    }

    /// The first set block in `from..limit`.
    fn first_set(&self, from: u64, limit: u64) -> Option<u64> {
        let limit = limit.min(self.volume_blocks);
        let mut from = from;
        while from < limit {
            let page = self.occupied.next((from / PAGE_BLOCKS) as u32)?;
            let start = u64::from(page) * PAGE_BLOCKS;
            from = from.max(start);
            let found = match &self.pages[page as usize] {
                Page::Clean => None,
                Page::AllSet => Some(from),
                Page::Mixed(mixed) => next_bit(&mixed.bits, (from - start) as u32, 0).map(|bit| start + u64::from(bit)),
            };
            match found {
                Some(block) => return (block < limit).then_some(block),
                None => from = start + PAGE_BLOCKS,
            }
        }
        None
    }

    /// The first clear block in `from..limit`, or `limit`.
    fn first_clear(&self, from: u64, limit: u64) -> u64 {
        let mut from = from;
        while from < limit {
            let page = from / PAGE_BLOCKS;
            let start = page * PAGE_BLOCKS;
            match &self.pages[page as usize] {
                Page::Clean => return from,
                Page::AllSet => {}
                Page::Mixed(mixed) => {
                    if let Some(bit) = next_bit(&mixed.bits, (from - start) as u32, u64::MAX) {
                        return (start + u64::from(bit)).min(limit);
                    }
                }
            }
            from = start + PAGE_BLOCKS;
        }
        limit
    }

    // ---- for the store ----

    /// Pages of the volume.
    pub(crate) fn page_count(&self) -> u32 {
        self.pages.len() as u32
    }

    /// What the summary is to say of a page.
    pub(crate) fn page_state(&self, page: u32) -> PageState {
        match &self.pages[page as usize] {
            Page::Clean => PageState::Clean,
            Page::AllSet => PageState::AllSet,
            Page::Mixed(_) => PageState::Mixed,
        }
    }

    /// A Mixed page's bits.
    pub(crate) fn page_bits(&self, page: u32) -> Option<&PageBits> {
        match &self.pages[page as usize] {
            Page::Mixed(mixed) => Some(&mixed.bits),
            Page::Clean | Page::AllSet => None,
        }
    }

    /// Pages with blocks set since the store last took them.
    pub(crate) fn unsaved_sets(&self) -> &PageSet {
        &self.unsaved_sets
    }

    /// Pages with blocks cleared since the store last took them.
    pub(crate) fn unsaved_clears(&self) -> &PageSet {
        &self.unsaved_clears
    }

    /// The store takes the page as it is now. Says whether blocks had been set since it last did.
    pub(crate) fn take_changes(&mut self, page: u32) -> bool {
        let newly_set = self.unsaved_sets.contains(page);
        self.unsaved_sets.remove(page);
        self.unsaved_clears.remove(page);
        newly_set
    }
}

fn pages_of(volume_blocks: u64) -> u32 {
    u32::try_from(volume_blocks.div_ceil(PAGE_BLOCKS)).expect("a volume's size is limited by its layout")
}

/// A range cut at the volume's end and at the pages.
#[inline]
fn parts(volume_blocks: u64, range: BlockRange) -> impl Iterator<Item = Part> {
    let end = range.first.0.saturating_add(range.count).min(volume_blocks);
    let mut from = range.first.0;
    std::iter::from_fn(move || {
        if from >= end {
            return None;
        }
        let (page, first) = (from / PAGE_BLOCKS, from % PAGE_BLOCKS);
        let count = (end - from).min(PAGE_BLOCKS - first);
        from += count;
        Some(Part { page: page as u32, first: first as u32, count: count as u32 })
    })
}

/// Freed pages: what goes back and forth between wholly and partly set costs no allocation.
#[derive(Clone, Debug)]
struct SparePages {
    #[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
    pages: Vec<Box<MixedPage>>,
    kept_max: usize,
}

impl Default for SparePages {
    fn default() -> Self {
        SparePages { pages: Vec::new(), kept_max: SPARE_PAGES_MAX }
    }
}

impl SparePages {
    /// A page whose first `set` bits are set.
    fn take(&mut self, set: u32) -> Box<MixedPage> {
        let mut page = match self.pages.pop() {
            Some(mut page) => {
                page.bits.fill(0);
                page
            }
            None => Box::new(MixedPage { count: 0, bits: [0; PAGE_WORDS] }),
        };
        set_bits(&mut page.bits, 0, set);
        page.count = set;
        page
    }

    fn keep(&mut self, page: Page) {
        if let (Page::Mixed(page), true) = (page, self.pages.len() < self.kept_max) {
            self.pages.push(page);
        }
    }
}

#[cfg(test)]
#[path = "dirty_bitmap_tests.rs"]
mod tests;
