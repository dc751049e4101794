//! `dump-md`: the metadata as text, whatever state it is in. Reads only, and of the bitmap only what `load` would.

use crate::bitmap_load::load_bitmap;
use crate::bitmap_page::{LoadedBitmap, LoadedPage, PAGE_BLOCKS};
use crate::layout::{Layout, Placement, superblock_offsets};
use crate::load::{CopyError, load_log, read_copy};
use crate::log_recovery::RecoveredLog;
use crate::storage::MetaStorage;
use crate::superblock::Divergence;
use crate::superblock::Superblock;
use rep_types::BLOCK_SIZE;
use std::fmt::{self, Write};

/// The most lines a list gets; what is left out is counted.
const LIST_LINES_MAX: usize = 200;

/// The metadata as text; works on damaged metadata too, and writes nothing.
pub fn dump(storage: &mut dyn MetaStorage, placement: Placement) -> String {
    let mut out = String::new();
    // Writing to a string doesn't fail.
    let _ = dump_to(&mut out, storage, placement);
    out
}

fn dump_to(out: &mut String, storage: &mut dyn MetaStorage, placement: Placement) -> fmt::Result {
    let offsets = superblock_offsets(storage.size_bytes(), placement);
    writeln!(out, "metadata          {placement:?} on {} bytes", storage.size_bytes())?;
    let mut newest: Option<(Superblock, Layout)> = None;
    for (name, offset) in ["A", "B"].into_iter().zip(offsets) {
        match read_copy(storage, offset) {
            Ok(copy) => {
                writeln!(out, "superblock {name}      at {offset}: valid, update {}", copy.0.update_count)?;
                if newest.as_ref().is_none_or(|newest| newest.0.update_count < copy.0.update_count) {
                    newest = Some(copy);
                }
            }
            Err(error) => writeln!(out, "superblock {name}      at {offset}: {}", why(error))?,
        }
    }
    let Some((superblock, layout)) = newest else {
        return writeln!(out, "no valid superblock: nothing else can be told");
    };
    dump_superblock(out, &superblock)?;
    dump_layout(out, &layout)?;
    if storage.size_bytes() < layout.metadata_device_bytes {
        return writeln!(out, "truncated         the metadata needs {} bytes", layout.metadata_device_bytes);
    }
    dump_log(out, &load_log(storage, &layout, superblock.tag()))?;
    dump_bitmap(out, &load_bitmap(storage, &layout, superblock.tag()), &layout)
}

fn why(error: CopyError) -> String {
    match error {
        CopyError::Beyond => "beyond the end of the device".to_owned(),
        CopyError::Unreadable(error) => error.to_string(),
        CopyError::Invalid(error) => error.to_string(),
    }
}

fn dump_superblock(out: &mut String, superblock: &Superblock) -> fmt::Result {
    let generations = &superblock.generations;
    writeln!(out, "resource          {}", superblock.resource)?;
    writeln!(out, "node              {}", superblock.node)?;
    writeln!(out, "volume            {}", superblock.volume)?;
    writeln!(out, "device-uuid       {:032x}", superblock.device_uuid)?;
    writeln!(out, "available-bytes   {}", superblock.available_bytes)?;
    writeln!(out, "agreed-bytes      {}", superblock.agreed_bytes)?;
    writeln!(out, "agreed-block      {}", superblock.agreed_block_bytes)?;
    let discards = match superblock.discards {
        None => "unknown",
        Some(true) => "both",
        Some(false) => "not both",
    };
    writeln!(out, "discards          {discards}")?;
    writeln!(out, "data              {:?}", superblock.data)?;
    writeln!(out, "primary-mark      {:?}", superblock.primary)?;
    writeln!(out, "last-primary      {}", superblock.last_primary)?;
    writeln!(out, "peer-outdated     {}", superblock.peer_outdated)?;
    writeln!(out, "finish-told       {}", superblock.finish_told)?;
    writeln!(out, "every-block       {}", superblock.every_block)?;
    writeln!(out, "diverged-since    {}", diverged(&superblock.divergence))?;
    writeln!(out, "attached-boot     {:032x}", superblock.attached_boot.0)?;
    writeln!(out, "current           {}", generations.current)?;
    writeln!(out, "bitmap            {}", generations.bitmap)?;
    for id in generations.history.iter().filter(|id| !id.is_none()) {
        writeln!(out, "history           {id}")?;
    }
    Ok(())
}

fn dump_layout(out: &mut String, layout: &Layout) -> fmt::Result {
    writeln!(out, "device-bytes      {}", layout.device_bytes)?;
    writeln!(
        out,
        "log               at {}, {} blocks, {} slots",
        layout.log_offset, layout.log_blocks, layout.log_slots
    )?;
    writeln!(out, "summary           at {}, {} blocks", layout.summary_offset, layout.summary_blocks)?;
    writeln!(out, "pages             at {}, {} blocks", layout.pages_offset, layout.pages)
}

fn diverged(divergence: &Divergence) -> String {
    let since = match divergence.since_unix_ms {
        0 => "not known".to_owned(),
        unix_ms => format!("{}.{:03} s after 1970", unix_ms / 1000, unix_ms % 1000),
    };
    format!("{since}, {}", if divergence.as_primary { "as Primary" } else { "not as Primary" })
}

fn dump_log(out: &mut String, log: &RecoveredLog) -> fmt::Result {
    if log.damaged {
        return writeln!(out, "activity-log      damaged: every block counts as out-of-sync after a crash as Primary");
    }
    writeln!(
        out,
        "activity-log      transaction {} in block {}, {} hot extents",
        log.newest_sequence,
        log.newest_position,
        log.hot.len()
    )?;
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for extent in &log.hot {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == extent.0 => *last = extent.0,
            _ => runs.push((extent.0, extent.0)),
        }
    }
    list(out, runs.len(), runs.iter().map(|(first, last)| format!("hot extents       {first}..={last}")))
}

fn dump_bitmap(out: &mut String, bitmap: &LoadedBitmap, layout: &Layout) -> fmt::Result {
    let set = |(page, loaded): (u64, &LoadedPage)| match loaded {
        LoadedPage::Clean => 0,
        LoadedPage::AllSet => PAGE_BLOCKS.min(layout.data_blocks().saturating_sub(page * PAGE_BLOCKS)),
        LoadedPage::Mixed(bits) => bits.iter().map(|word| u64::from(word.count_ones())).sum(),
    };
    let blocks: Vec<u64> = (0u64..).zip(&bitmap.pages).map(set).collect();
    let total: u64 = blocks.iter().sum();
    writeln!(out, "out-of-sync       {total} blocks, {} bytes", total * BLOCK_SIZE)?;
    list(
        out,
        bitmap.damaged_pages.len(),
        bitmap.damaged_pages.iter().map(|page| format!("damaged page      {page}: taken for out-of-sync")),
    )?;
    let dirty: Vec<(usize, &u64)> = blocks.iter().enumerate().filter(|(_, blocks)| **blocks > 0).collect();
    list(out, dirty.len(), dirty.iter().map(|(page, blocks)| format!("page              {page}: {blocks} blocks")))
}

fn list(out: &mut String, count: usize, lines: impl Iterator<Item = String>) -> fmt::Result {
    for line in lines.take(LIST_LINES_MAX) {
        writeln!(out, "{line}")?;
    }
    if count > LIST_LINES_MAX {
        writeln!(out, "                  … and {} more", count - LIST_LINES_MAX)?;
    }
    Ok(())
}
