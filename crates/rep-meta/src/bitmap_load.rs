//! Reading the bitmap at attach: the whole summary, then the pages it calls Mixed, neighbours together.
//!
//! What can't be read counts as damaged: a summary sector as pages all set, a page sector as its blocks set.

use crate::bitmap_page::{LoadedBitmap, LoadedPage, decode_page};
use crate::layout::Layout;
use crate::sealed::DeviceTag;
use crate::storage::{MetaStorage, read_blocks};
use crate::summary::{PAGES_PER_SUMMARY_BLOCK, PageState, decode_summary_block};
use crate::{META_BLOCK_SIZE, MetaBlock};
use rep_types::planted;

pub(crate) fn load_bitmap(storage: &mut dyn MetaStorage, layout: &Layout, tag: DeviceTag) -> LoadedBitmap {
    let (states, highest_sequence) = load_summary(storage, layout, tag);
    let page = |state: &(PageState, bool)| match state.0 {
        PageState::Clean => LoadedPage::Clean,
        // A Mixed page is taken for all set until it has been read.
        PageState::AllSet if planted!("full-page-read-clean") => LoadedPage::Clean,
        PageState::AllSet | PageState::Mixed => LoadedPage::AllSet,
    };
    let damaged_pages = (0u32..).zip(&states).filter(|(_, state)| state.1).map(|(page, _)| page).collect();
    let mut bitmap = LoadedBitmap { tag, highest_sequence, pages: states.iter().map(page).collect(), damaged_pages };
    let mut pages = (0u32..).zip(&states).filter(|(_, state)| state.0 == PageState::Mixed).map(|(page, _)| page);
    let mut next = pages.next();
    while let Some(first) = next {
        let mut end = first + 1;
        next = pages.next();
        while next == Some(end) {
            end += 1;
            next = pages.next();
        }
        read_blocks(storage, layout.page_offset(first), end - first, |index, block| {
            load_page(&mut bitmap, first + index, block);
        });
    }
    bitmap.damaged_pages.sort_unstable();
    bitmap
}

/// Each page's state, and whether it is only guessed because its summary sector is damaged.
fn load_summary(storage: &mut dyn MetaStorage, layout: &Layout, tag: DeviceTag) -> (Vec<(PageState, bool)>, u64) {
    let mut states = Vec::with_capacity(layout.pages as usize);
    let mut highest_sequence = 0;
    read_blocks(storage, layout.summary_offset, layout.summary_blocks, |index, block| {
        let nothing = MetaBlock::zeroed();
        let pages = (layout.pages as usize - states.len()).min(PAGES_PER_SUMMARY_BLOCK as usize);
        let summary = decode_summary_block(tag, index, pages, block.unwrap_or(&nothing.0));
        highest_sequence = highest_sequence.max(summary.highest_sequence);
        states.extend(summary.states);
    });
    (states, highest_sequence)
}

fn load_page(bitmap: &mut LoadedBitmap, page: u32, block: Option<&[u8; META_BLOCK_SIZE]>) {
    let nothing = MetaBlock::zeroed();
    let decoded = decode_page(bitmap.tag, page, block.unwrap_or(&nothing.0));
    bitmap.highest_sequence = bitmap.highest_sequence.max(decoded.highest_sequence);
    if decoded.damaged {
        bitmap.damaged_pages.push(page);
    }
    if let Some(loaded) = bitmap.pages.get_mut(page as usize) {
        *loaded = LoadedPage::Mixed(decoded.bits);
    }
}
