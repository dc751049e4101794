//! Where the metadata of a disk go that has grown, and how much data it can hold then (R34).
//!
//! ```text
//! internal, before:  | data ........ | metadata |            (free)                          |
//! internal, after:   | data .................................................. | metadata    |
//! external:          the same place, more pages
//! ```
//!
//! Internal metadata move only to where they don't touch their former place: what stands there counts until the move is
//! over. External metadata keep the size of their log, and so nearly always all their places.

use crate::META_BLOCK_SIZE;
use crate::layout::{Layout, LayoutError, LayoutOptions, Placement, superblock_offsets};
use rep_types::{Room, RoomLimit};

/// Why metadata can't be made to fit a disk that has grown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GrowError {
    /// The disk isn't larger than it was.
    #[error("the disk hasn't grown")]
    NotGrown,
    /// There is no layout for it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It has grown by less than its metadata need.
    #[error("the disk must have at least {needed_bytes} bytes")]
    GrownTooLittle {
        /// What it must have.
        needed_bytes: u64,
    },
    /// The device of the external metadata is too small.
    #[error("the metadata device must have at least {needed_bytes} bytes")]
    MetadataDeviceTooSmall {
        /// What it must have.
        needed_bytes: u64,
    },
}

impl Layout {
    /// The layout once the disk has `device_bytes` and the metadata device `metadata_device_bytes`.
    pub fn grown(&self, device_bytes: u64, metadata_device_bytes: u64) -> Result<Layout, GrowError> {
        if device_bytes <= self.device_bytes {
            return Err(GrowError::NotGrown);
        }
        let options = LayoutOptions { log_slots: self.log_slots_when_grown() };
        let layout = Layout::with_options(device_bytes, self.placement, options)?;
        match self.placement {
            Placement::Internal => {
                let former_end = superblock_offsets(self.device_bytes, Placement::Internal)[1] + META_BLOCK_SIZE as u64;
                if layout.available_bytes < former_end {
                    let metadata = layout.device_bytes - layout.available_bytes;
                    return Err(GrowError::GrownTooLittle { needed_bytes: former_end + metadata });
                }
            }
            Placement::External if metadata_device_bytes < layout.metadata_device_bytes => {
                return Err(GrowError::MetadataDeviceTooSmall { needed_bytes: layout.metadata_device_bytes });
            }
            Placement::External => {}
        }
        Ok(layout)
    }

    /// A log of the usual size grows with the disk where that costs nothing; any other stays as it is.
    fn log_slots_when_grown(&self) -> Option<u32> {
        let usual = Layout::for_device(self.device_bytes, self.placement).map(|layout| layout.log_slots);
        let is_usual = self.placement == Placement::Internal && usual == Ok(self.log_slots);
        if is_usual { None } else { Some(self.log_slots) }
    }

    /// Whether log, summary and pages made for `self` can be read with `other`, which is for a larger disk.
    pub fn keeps_places(&self, other: &Layout) -> bool {
        self.placement == other.placement
            && self.superblock_offsets == other.superblock_offsets
            && self.log_offset == other.log_offset
            && self.log_blocks == other.log_blocks
            && self.log_slots == other.log_slots
            && self.summary_offset == other.summary_offset
            && self.summary_blocks == other.summary_blocks
            && self.pages_offset == other.pages_offset
    }
}

/// What a disk whose metadata are laid out like this has room for, now that it and the metadata device have these sizes.
pub fn room(layout: &Layout, device_bytes: u64, metadata_device_bytes: u64) -> Room {
    let kept = |limit| Room { bytes: layout.available_bytes, limit };
    match layout.grown(device_bytes, metadata_device_bytes) {
        Ok(grown) => Room { bytes: grown.available_bytes, limit: RoomLimit::Disk },
        Err(GrowError::GrownTooLittle { needed_bytes }) => kept(RoomLimit::GrownTooLittle { needed_bytes }),
        Err(GrowError::MetadataDeviceTooSmall { needed_bytes }) => kept(RoomLimit::MetadataDevice { needed_bytes }),
        Err(GrowError::Layout(LayoutError::TooLarge { .. })) => kept(RoomLimit::Largest),
        Err(GrowError::NotGrown | GrowError::Layout(LayoutError::TooSmall { .. })) => kept(RoomLimit::Disk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn layout(device_bytes: u64, placement: Placement) -> Layout {
        Layout::for_device(device_bytes, placement).unwrap()
    }

    #[test]
    fn internal_metadata_never_move_over_themselves() {
        for size in [MIB, 64 * MIB, 1 << 30, (3 << 30) + 12_345, 1 << 40] {
            let before = layout(size, Placement::Internal);
            let metadata = size - before.available_bytes;
            for more in [1, 4096, metadata / 2, metadata, 2 * metadata, size, 7 * size] {
                match before.grown(size + more, size + more) {
                    Ok(after) => assert!(after.available_bytes >= size / 4096 * 4096, "{size} and {more}"),
                    Err(GrowError::GrownTooLittle { needed_bytes }) => {
                        assert!(needed_bytes > size + more);
                        assert!(before.grown(needed_bytes + 4096, 0).is_ok(), "{size}: {needed_bytes} would do");
                    }
                    Err(other) => panic!("{size} and {more}: {other}"),
                }
            }
        }
    }

    #[test]
    fn external_metadata_stay_where_they_are_and_need_room_for_more_pages() {
        let before = layout(64 * MIB, Placement::External);
        let after = before.grown(1 << 30, 1 << 30).unwrap();
        assert!(before.keeps_places(&after) && after.pages > before.pages);
        let needed_bytes = after.metadata_device_bytes;
        let too_small = before.grown(1 << 30, needed_bytes - 1);
        assert_eq!(too_small, Err(GrowError::MetadataDeviceTooSmall { needed_bytes }));
        let room = room(&before, 1 << 30, needed_bytes - 1);
        assert_eq!(room, Room { bytes: 64 * MIB, limit: RoomLimit::MetadataDevice { needed_bytes } });
        assert!(!before.keeps_places(&before.grown(4 << 40, 1 << 40).unwrap()), "the summary has another block");
    }

    #[test]
    fn a_usual_log_grows_with_internal_metadata_and_another_does_not() {
        let usual = layout(64 * MIB, Placement::Internal);
        assert_eq!(usual.grown(1 << 30, 0).unwrap().log_slots, 256);
        let options = LayoutOptions { log_slots: Some(5) };
        let small = Layout::with_options(64 * MIB, Placement::Internal, options).unwrap();
        assert_eq!(small.grown(1 << 30, 0).unwrap().log_slots, 5);
    }

    #[test]
    fn a_disk_has_room_for_what_it_holds_already() {
        let before = layout(64 * MIB, Placement::Internal);
        for device_bytes in [0, MIB, 64 * MIB, 64 * MIB + 4096, u64::MAX] {
            assert_eq!(room(&before, device_bytes, device_bytes).bytes, before.available_bytes);
        }
    }
}
