//! Metadata made to fit a disk that has grown, while the disk is in use (R34).
//!
//! ```text
//! internal:  quiet ─► log, bitmap at the new end ─► superblock there ─► former place wiped ─► done
//! external:  quiet ─► superblock, and log and bitmap if they have other places ─► done
//! ```
//!
//! Nothing else of the metadata is written meanwhile; client writes to hot extents go on, others wait.
//!
//! Invariants:
//! - RL-1 a crash at any moment leaves the metadata before or those after: internal ones move to where they don't
//!   touch their former place, and the superblock is written last. External ones whose log or pages get another place
//!   can't do that: cut short, their log is damaged, and every block counts as out-of-sync.
//! - RL-2 the size both nodes agreed on doesn't change here, so clients never write to where metadata still stand.

use crate::Engine;
use crate::bitmap_store::Rewrite;
use crate::local_disk::{BitmapJob, LocalDisk, LogJob, SuperblockTicket};
use crate::operation::MetaPurpose;
use rep_meta::{Layout, MetaBlock, Placement, superblock_offsets};
use rep_types::planted;

/// Metadata on their way to another layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    layout: Layout,
    former_device_bytes: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// What was begun before ends.
    Quiet,
    /// Log, summary and pages are being written.
    Content,
    /// The superblock is.
    Superblock(SuperblockTicket),
    /// What stands at the former place is being wiped: so many blocks are left.
    Wipe(u32),
    /// The superblock forgets the former place.
    Forget(SuperblockTicket),
}

impl Relocation {
    pub fn new(layout: Layout, former_device_bytes: u64) -> Self {
        Relocation { layout, former_device_bytes, stage: Stage::Quiet }
    }

    /// Whether the superblock may be written now.
    pub fn lets_superblock(&self) -> bool {
        matches!(self.stage, Stage::Superblock(_) | Stage::Forget(_))
    }
}

impl Engine {
    pub(crate) fn progress_relocation(&mut self, index: usize) -> bool {
        let Some(local) = &mut self.volumes[index].local else { return false };
        let Some(Relocation { layout, former_device_bytes, stage }) = local.relocation else { return false };
        let is_internal = layout.placement == Placement::Internal;
        match stage {
            Stage::Quiet if !local.is_writing_metadata() => {
                let rewrites = !local.layout.keeps_places(&layout);
                let blocks = local.take_layout(layout, rewrites && !planted!("move-counts-early"));
                if is_internal {
                    self.relocation_goes_on(index, Stage::Content);
                } else {
                    self.relocate_superblock(index);
                }
                self.write_content(index, blocks);
            }
            Stage::Content if !local.is_writing_metadata() => {
                if is_internal {
                    self.relocate_superblock(index);
                } else {
                    self.relocation_ends(index);
                }
            }
            Stage::Superblock(ticket) if local.superblock_durable(ticket) => match is_internal {
                true if planted!("former-end-not-wiped") => self.forget_former_place(index),
                true => self.wipe_former_place(index, former_device_bytes),
                false => self.relocation_goes_on(index, Stage::Content),
            },
            Stage::Wipe(0) => self.forget_former_place(index),
            Stage::Forget(ticket) if local.superblock_durable(ticket) => self.relocation_ends(index),
            _ => return false,
        }
        true
    }

    fn relocation_goes_on(&mut self, index: usize, to: Stage) {
        let local = self.volumes[index].local.as_mut();
        if let Some(relocation) = local.and_then(|local| local.relocation.as_mut()) {
            relocation.stage = to;
        }
    }

    fn relocation_ends(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        local.relocation = None;
        self.kick_log(index);
    }

    /// What `take_layout` made: the whole ring of the log, and the first step of the bitmap.
    fn write_content(&mut self, index: usize, blocks: Content) {
        for (offset, block) in blocks.log {
            self.write_meta(index, MetaPurpose::Log, offset, block);
        }
        for (offset, block) in blocks.bitmap {
            self.write_meta(index, MetaPurpose::Bitmap, offset, block);
        }
    }

    fn relocate_superblock(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        let Some(Relocation { layout, former_device_bytes, .. }) = local.relocation else { return };
        let ticket = local.update_superblock(|superblock| {
            superblock.available_bytes = layout.available_bytes;
            if layout.placement == Placement::Internal {
                superblock.former_device_bytes = former_device_bytes;
            }
        });
        self.relocation_goes_on(index, Stage::Superblock(ticket));
    }

    fn wipe_former_place(&mut self, index: usize, former_device_bytes: u64) {
        let offsets = superblock_offsets(former_device_bytes, Placement::Internal);
        self.relocation_goes_on(index, Stage::Wipe(offsets.len() as u32));
        for offset in offsets {
            self.write_meta(index, MetaPurpose::Wipe, offset, MetaBlock::zeroed());
        }
    }

    pub(crate) fn former_block_wiped(&mut self, index: usize) {
        let local = self.volumes[index].local.as_mut();
        if let Some(Relocation { stage: Stage::Wipe(left), .. }) = local.and_then(|local| local.relocation.as_mut()) {
            *left -= 1;
        }
    }

    fn forget_former_place(&mut self, index: usize) {
        let Some(local) = &mut self.volumes[index].local else { return };
        let ticket = local.update_superblock(|superblock| superblock.former_device_bytes = 0);
        self.relocation_goes_on(index, Stage::Forget(ticket));
    }
}

/// Blocks that begin the content of a new layout.
#[derive(Debug, Default)]
struct Content {
    log: Vec<(u64, MetaBlock)>,
    bitmap: Vec<(u64, MetaBlock)>,
}

impl LocalDisk {
    fn is_writing_metadata(&self) -> bool {
        self.log_job.is_some() || self.bitmap_job.is_some() || self.superblock_write.is_some()
    }

    /// From here on everything is written by this layout.
    fn take_layout(&mut self, layout: Layout, rewrites: bool) -> Content {
        let mut content = Content::default();
        self.set_layout(layout);
        self.log.take_layout(&layout, rewrites.then_some(&mut content.log));
        if !content.log.is_empty() {
            self.log_job = Some(LogJob::Moving { pending: content.log.len() as u32 });
        }
        let rewrite = if rewrites { Rewrite::Everything } else { Rewrite::Nothing };
        if self.store.take_layout(&layout, &mut self.bitmap, rewrite, &mut content.bitmap) {
            self.bitmap_job = Some(BitmapJob::Moving);
            self.bitmap_pending = content.bitmap.len() as u32;
        }
        content
    }
}
