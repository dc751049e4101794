//! Carries the dirty bitmap to disk: knows what each page is there, and makes the writes that change it.
//!
//! It doesn't decide when; the engine does. One write runs at a time, in steps; the blocks of a step may be written in
//! any order, and all must be durable before `write_done`:
//!
//! ```text
//! begin_write ─► pages (Mixed ones, some at a time) ─► … ─► summary blocks whose pages change state ─► finished
//! ```
//!
//! Invariants:
//! - BS-1 a page is durable before the summary says Mixed of it; AllSet and Clean need the summary alone.
//! - BS-2 a block that is set, and was when the last finished write began, is out-of-sync in what a crash leaves at any
//!   step, torn or not. Blocks set later are covered by hot extents until a write that began after them finishes.
//! - BS-3 what changes while a write is under way stays marked for the next. Clears may lag for ever.

use crate::dirty_bitmap::DirtyBitmap;
use crate::page_set::PageSet;
use rep_meta::{
    DeviceTag, Layout, LoadedBitmap, LoadedPage, MetaBlock, PAGE_EXTENTS, PAGES_PER_SUMMARY_BLOCK, PageState,
    encode_page, encode_summary_block,
};
use rep_types::ExtentIndex;
use rep_types::planted;
use std::collections::BTreeMap;

/// The most pages one step writes.
const PAGES_PER_STEP_MAX: usize = 64;

/// Which changed pages a write takes along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteScope<'a> {
    /// Every page that changed at all.
    All,
    /// The pages of these extents, where they have newly set blocks.
    Extents(&'a [ExtentIndex]),
}

/// What a new layout takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// Everything there is stays where it is.
    Nothing,
    /// Summary and pages have another place and are written there.
    Everything,
}

/// What of the bitmap is durable, and the write that is under way.
#[derive(Clone, Debug)]
pub struct BitmapStore {
    layout: Layout,
    tag: DeviceTag,
    sequence: u64,
    durable: Vec<DurableState>,
    /// Pages with newly set blocks in the write under way.
    writing_sets: PageSet,
    write: Option<Write>,
}

/// What the summary on disk says of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DurableState {
    Known(PageState),
    /// Its summary sector is damaged: reads as AllSet, or as whatever it was should the damage pass.
    Unknown,
}

#[derive(Clone, Debug)]
struct Write {
    /// Pages not looked at yet, last first.
    remaining: Vec<u32>,
    /// The states of the pages looked at.
    states: BTreeMap<u32, PageState>,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Pages,
    Summary,
}

impl BitmapStore {
    /// The store of a volume just attached.
    pub fn from_loaded(loaded: &LoadedBitmap, layout: &Layout) -> Self {
        let state = |page: &LoadedPage| match page {
            LoadedPage::Clean => DurableState::Known(PageState::Clean),
            LoadedPage::AllSet => DurableState::Known(PageState::AllSet),
            LoadedPage::Mixed(_) => DurableState::Known(PageState::Mixed),
        };
        let mut durable: Vec<DurableState> = loaded.pages.iter().map(state).collect();
        for page in &loaded.damaged_pages {
            if let Some(state) = durable.get_mut(*page as usize) {
                // A damaged page is still Mixed in the summary; one that is AllSet has its summary damaged.
                if *state != DurableState::Known(PageState::Mixed) {
                    *state = DurableState::Unknown;
                }
            }
        }
        BitmapStore {
            layout: *layout,
            tag: loaded.tag,
            sequence: loaded.highest_sequence,
            durable,
            writing_sets: PageSet::new(layout.pages),
            write: None,
        }
    }

    /// Whether a write is under way.
    #[cfg(test)]
    pub fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    /// Whether some block is set that isn't durably so.
    #[cfg(test)]
    pub fn has_unsaved_sets(&self, bitmap: &DirtyBitmap) -> bool {
        !bitmap.unsaved_sets().is_empty() || !self.writing_sets.is_empty()
    }

    /// Whether a write of everything would have something to do.
    #[cfg(test)]
    pub fn has_unsaved_changes(&self, bitmap: &DirtyBitmap) -> bool {
        self.has_unsaved_sets(bitmap) || !bitmap.unsaved_clears().is_empty()
    }

    /// Whether the extent's page has set blocks that aren't durable yet, a write under way included (R9).
    pub fn extent_needs_write(&self, bitmap: &DirtyBitmap, extent: ExtentIndex) -> bool {
        let page = extent.0 / PAGE_EXTENTS;
        page < bitmap.page_count() && (bitmap.unsaved_sets().contains(page) || self.writing_sets.contains(page))
    }

    /// Begins a write: appends the first step's blocks to `out` and says true; or false when there is nothing to
    /// write and everything in scope is durable. No other write may be under way.
    pub fn begin_write(
        &mut self,
        bitmap: &mut DirtyBitmap,
        scope: WriteScope<'_>,
        out: &mut Vec<(u64, MetaBlock)>,
    ) -> bool {
        assert!(self.write.is_none(), "one bitmap write at a time");
        assert!(bitmap.page_count() <= self.layout.pages, "the bitmap has more pages than the metadata");
        let mut remaining = pages_in_scope(bitmap, scope);
        remaining.reverse();
        self.write = Some(Write { remaining, states: BTreeMap::new(), step: Step::Pages });
        self.advance(bitmap, out)
    }

    /// From here on everything is written by this layout, which is for a larger disk. With [`Rewrite::Everything`] a write
    /// begins, as by `begin_write`.
    pub fn take_layout(
        &mut self,
        layout: &Layout,
        bitmap: &mut DirtyBitmap,
        rewrite: Rewrite,
        out: &mut Vec<(u64, MetaBlock)>,
    ) -> bool {
        assert!(self.write.is_none(), "one bitmap write at a time");
        self.layout = *layout;
        self.writing_sets.resize(layout.pages);
        if rewrite == Rewrite::Nothing {
            // The summary says nothing of pages it didn't have, which is Clean.
            self.durable.resize(layout.pages as usize, DurableState::Known(PageState::Clean));
            return false;
        }
        self.durable = vec![DurableState::Unknown; layout.pages as usize];
        let beyond = (bitmap.page_count()..layout.pages).map(|page| (page, PageState::Clean)).collect();
        let remaining = (0..bitmap.page_count()).rev().collect();
        self.write = Some(Write { remaining, states: beyond, step: Step::Pages });
        self.advance(bitmap, out)
    }

    /// Every block of the step is durable: appends the next step's and says true, or says false when the write is
    /// finished.
    pub fn write_done(&mut self, bitmap: &mut DirtyBitmap, out: &mut Vec<(u64, MetaBlock)>) -> bool {
        let write = self.write.as_mut().expect("a bitmap write is under way");
        match write.step {
            Step::Pages => self.advance(bitmap, out),
            Step::Summary => {
                self.finish();
                false
            }
        }
    }

    /// The next step with something to write.
    fn advance(&mut self, bitmap: &mut DirtyBitmap, out: &mut Vec<(u64, MetaBlock)>) -> bool {
        self.emit_pages(bitmap, out) || self.emit_summary(out) || {
            self.finish();
            false
        }
    }

    /// Takes pages as they are now: Mixed ones become blocks, for all the summary will say what they are.
    fn emit_pages(&mut self, bitmap: &mut DirtyBitmap, out: &mut Vec<(u64, MetaBlock)>) -> bool {
        let Some(write) = self.write.as_mut() else { return false };
        self.sequence += 1;
        let mut emitted = 0;
        while emitted < PAGES_PER_STEP_MAX {
            let Some(page) = write.remaining.pop() else { break };
            if page >= bitmap.page_count() {
                continue;
            }
            if bitmap.take_changes(page) {
                self.writing_sets.insert(page);
            }
            write.states.insert(page, bitmap.page_state(page));
            if let Some(bits) = bitmap.page_bits(page).filter(|_| !planted!("bitmap-page-not-written")) {
                out.push((self.layout.page_offset(page), encode_page(self.tag, page, self.sequence, bits)));
                emitted += 1;
            }
        }
        emitted > 0
    }

    /// The summary blocks in which a page's state changes.
    fn emit_summary(&mut self, out: &mut Vec<(u64, MetaBlock)>) -> bool {
        let Some(write) = self.write.as_mut() else { return false };
        write.step = Step::Summary;
        let changed = |(page, state): (&u32, &PageState)| {
            (self.durable[*page as usize] != DurableState::Known(*state)).then_some(page / PAGES_PER_SUMMARY_BLOCK)
        };
        let mut blocks: Vec<u32> = write.states.iter().filter_map(changed).collect();
        blocks.dedup();
        self.sequence += 1;
        for index in &blocks {
            let first = index * PAGES_PER_SUMMARY_BLOCK;
            let end = (first + PAGES_PER_SUMMARY_BLOCK).min(self.layout.pages);
            let state = |page: u32| match (write.states.get(&page).copied(), self.durable[page as usize]) {
                (Some(state), _) | (None, DurableState::Known(state)) => state,
                (None, DurableState::Unknown) => PageState::AllSet,
            };
            let block = encode_summary_block(self.tag, *index, self.sequence, (first..end).map(state));
            out.push((self.layout.summary_block_offset(*index), block));
        }
        !blocks.is_empty()
    }

    fn finish(&mut self) {
        let Some(write) = self.write.take() else { return };
        for (page, state) in write.states {
            self.durable[page as usize] = DurableState::Known(state);
        }
        self.writing_sets.clear();
    }
}

fn pages_in_scope(bitmap: &DirtyBitmap, scope: WriteScope<'_>) -> Vec<u32> {
    let mut pages: Vec<u32> = match scope {
        WriteScope::All => bitmap.unsaved_sets().iter().chain(bitmap.unsaved_clears().iter()).collect(),
        WriteScope::Extents(extents) => {
            let pages = extents.iter().map(|extent| extent.0 / PAGE_EXTENTS);
            pages.filter(|page| *page < bitmap.page_count() && bitmap.unsaved_sets().contains(*page)).collect()
        }
    };
    pages.sort_unstable();
    pages.dedup();
    pages
}

#[cfg(test)]
#[path = "bitmap_store_tests.rs"]
mod tests;
