//! The bitmaps travel: each side pulls the other's, part by part, and unites it with its own (R19). Client I/O goes
//! on meanwhile (R20): what the source's side writes now is marked on both sides.

use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{BlockIndex, BlockRange, LinkCause, VolumeNumber};
use rep_wire::ControlMessage;

impl Engine {
    pub(crate) fn pull_bitmap(&mut self, index: usize, from: BlockIndex) {
        let volume = self.volumes[index].number;
        self.send(ControlMessage::BitmapRequest { volume, from }, None);
    }

    /// The peer pulls our bitmap.
    pub(crate) fn bitmap_requested(&mut self, number: VolumeNumber, from: BlockIndex) {
        let Some(index) = self.volume_index(number) else { return };
        let mut runs = Vec::new();
        let next = match &self.volumes[index].local {
            Some(local) => local.bitmap().encode_runs(from, limits::BITMAP_RUNS_BYTES_MAX, &mut runs),
            None => None,
        };
        self.send(ControlMessage::BitmapPart { volume: number, from, next, runs }, None);
    }

    /// A part of the peer's bitmap.
    pub(crate) fn bitmap_part(
        &mut self,
        number: VolumeNumber,
        from: BlockIndex,
        next: Option<BlockIndex>,
        runs: &[u8],
    ) {
        let Some(index) = self.volume_index(number) else { return };
        let volume = &mut self.volumes[index];
        if volume.resync.as_ref().is_none_or(|resync| resync.pulled) {
            return;
        }
        let advances = next.is_none_or(|next| next > from);
        let Some(local) = &mut volume.local else { return };
        if !advances || local.unite_runs(from, next, runs).is_err() {
            return self.drop_link(LinkCause::Protocol);
        }
        match next {
            Some(next) => self.pull_bitmap(index, next),
            None => {
                if let Some(resync) = &mut self.volumes[index].resync {
                    resync.pulled = true;
                }
            }
        }
    }

    /// The peer knows of blocks that differ.
    pub(crate) fn told_out_of_sync(&mut self, number: VolumeNumber, first: BlockIndex, count: u64) {
        let Some(index) = self.volume_index(number) else { return };
        let volume = &mut self.volumes[index];
        let blocks = volume.size_bytes.div_ceil(rep_types::BLOCK_SIZE);
        let Some(end) = first.0.checked_add(count).filter(|end| *end <= blocks) else {
            return self.drop_link(LinkCause::Protocol);
        };
        if !planted!("told-blocks-forgotten") {
            volume.mark_out_of_sync(BlockRange::new(first.0, end - first.0));
        }
        self.resync_target_goes_on(index);
    }
}
