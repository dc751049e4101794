//! Where everything lies on the metadata device. Pure arithmetic: the same inputs give the same layout for ever, and
//! the superblock repeats the outcome so that a reader can tell when they don't agree.
//!
//! ```text
//! internal:  | data ............ | log | summary | pages | A | B |      (end of the disk)
//! external:  | A | B | log | summary | pages |                          (a file or device of its own)
//! ```
//!
//! Invariants: every region begins on 4 KiB; regions don't overlap; there is a bitmap page for every block of data.

use crate::log_block::LOG_CONTEXT_ENTRIES;
use crate::summary::PAGES_PER_SUMMARY_BLOCK;
use crate::{META_BLOCK_SIZE, PAGE_BLOCKS};
use rep_types::{BLOCK_SIZE, EXTENT_SIZE};

/// Where the metadata of a disk lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Placement {
    /// At the end of the disk itself.
    Internal,
    /// On a file or device of its own; the whole disk is data.
    External,
}

/// What a layout may be told beyond the disk's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LayoutOptions {
    /// Slots of the activity log; `None`: one per extent of the disk, at most [`LOG_SLOTS_MAX`]. A request for
    /// fewer than two is taken as two where the disk has two extents.
    pub log_slots: Option<u32>,
}

/// The most slots an activity log has.
pub const LOG_SLOTS_MAX: u32 = 65_536;

/// The fewest blocks the activity log's ring has.
pub const LOG_BLOCKS_MIN: u32 = 4;

/// Bytes of a metadata block, as an offset counts.
const BLOCK: u64 = META_BLOCK_SIZE as u64;

/// Why there is no layout for a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LayoutError {
    /// No room for a single block of data beside the metadata.
    #[error("the disk has {device_bytes} bytes; with its metadata it needs at least {needed_bytes}")]
    TooSmall {
        /// What the disk has.
        device_bytes: u64,
        /// What it would need.
        needed_bytes: u64,
    },
    /// Extents would no longer be numbered by 32 bits.
    #[error("the disk has {device_bytes} bytes; at most {DEVICE_BYTES_MAX} can be replicated")]
    TooLarge {
        /// What the disk has.
        device_bytes: u64,
    },
}

/// The largest disk: 1 PiB, far below where extent numbers (32 bits) end.
pub const DEVICE_BYTES_MAX: u64 = 1 << 50;

/// Absolute byte offsets on the metadata device (the disk itself when internal), and the sizes that follow from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Internal or external.
    pub placement: Placement,
    /// Bytes of the backing device this was made for.
    pub device_bytes: u64,
    /// Bytes of it that hold data; a multiple of 4 KiB, save that external metadata leaves every sector to the data.
    pub available_bytes: u64,
    /// Bytes the metadata device has at least.
    pub metadata_device_bytes: u64,
    /// The two superblock copies, A and B.
    pub superblock_offsets: [u64; 2],
    /// The activity log's ring.
    pub log_offset: u64,
    /// Blocks of the ring.
    pub log_blocks: u32,
    /// Slots of the activity log.
    pub log_slots: u32,
    /// The summary.
    pub summary_offset: u64,
    /// Blocks of the summary.
    pub summary_blocks: u32,
    /// The bitmap's pages.
    pub pages_offset: u64,
    /// How many there are.
    pub pages: u32,
}

/// What a disk needs, before it is known where it goes.
struct Needs {
    log_slots: u32,
    log_blocks: u32,
    summary_blocks: u32,
    pages: u32,
}

impl Needs {
    fn of(data_bytes: u64, options: LayoutOptions) -> Needs {
        let extents = data_bytes.div_ceil(EXTENT_SIZE) as u32;
        let wanted = options.log_slots.unwrap_or(LOG_SLOTS_MAX).clamp(2, LOG_SLOTS_MAX);
        let log_slots = wanted.min(extents.max(1));
        let pages = data_bytes.div_ceil(BLOCK_SIZE).div_ceil(PAGE_BLOCKS).max(1) as u32;
        Needs {
            log_slots,
            log_blocks: (log_slots.div_ceil(LOG_CONTEXT_ENTRIES as u32) + 1).max(LOG_BLOCKS_MIN),
            summary_blocks: pages.div_ceil(PAGES_PER_SUMMARY_BLOCK),
            pages,
        }
    }

    fn blocks_without_superblocks(&self) -> u64 {
        u64::from(self.log_blocks) + u64::from(self.summary_blocks) + u64::from(self.pages)
    }
}

impl Layout {
    /// The layout for a disk of that size, with defaults.
    pub fn for_device(device_bytes: u64, placement: Placement) -> Result<Layout, LayoutError> {
        Self::with_options(device_bytes, placement, LayoutOptions::default())
    }

    /// The layout for a disk of that size.
    pub fn with_options(
        device_bytes: u64,
        placement: Placement,
        options: LayoutOptions,
    ) -> Result<Layout, LayoutError> {
        if device_bytes > DEVICE_BYTES_MAX {
            return Err(LayoutError::TooLarge { device_bytes });
        }
        let needs = Needs::of(device_bytes, options);
        match placement {
            Placement::Internal => Self::internal(device_bytes, &needs),
            Placement::External => Self::external(device_bytes, &needs),
        }
    }

    fn internal(device_bytes: u64, needs: &Needs) -> Result<Layout, LayoutError> {
        let end = device_bytes / BLOCK * BLOCK;
        let metadata = (needs.blocks_without_superblocks() + 2) * BLOCK;
        let too_small = LayoutError::TooSmall { device_bytes, needed_bytes: metadata + BLOCK };
        let data = end.checked_sub(metadata).filter(|data| *data > 0).ok_or(too_small)?;
        let layout = Self::from_log_on(data, needs);
        Ok(Layout {
            placement: Placement::Internal,
            device_bytes,
            available_bytes: data,
            metadata_device_bytes: device_bytes,
            superblock_offsets: superblock_offsets(device_bytes, Placement::Internal),
            ..layout
        })
    }

    fn external(device_bytes: u64, needs: &Needs) -> Result<Layout, LayoutError> {
        let data = device_bytes / rep_types::SECTOR_SIZE * rep_types::SECTOR_SIZE;
        if data == 0 {
            return Err(LayoutError::TooSmall { device_bytes, needed_bytes: rep_types::SECTOR_SIZE });
        }
        let layout = Self::from_log_on(2 * BLOCK, needs);
        Ok(Layout {
            placement: Placement::External,
            device_bytes,
            available_bytes: data,
            metadata_device_bytes: (needs.blocks_without_superblocks() + 2) * BLOCK,
            superblock_offsets: superblock_offsets(device_bytes, Placement::External),
            ..layout
        })
    }

    /// Log, summary and pages, one after another from `log_offset`; the other fields are for the caller to fill.
    fn from_log_on(log_offset: u64, needs: &Needs) -> Layout {
        let summary_offset = log_offset + u64::from(needs.log_blocks) * BLOCK;
        let pages_offset = summary_offset + u64::from(needs.summary_blocks) * BLOCK;
        Layout {
            placement: Placement::Internal,
            device_bytes: 0,
            available_bytes: 0,
            metadata_device_bytes: 0,
            superblock_offsets: [0; 2],
            log_offset,
            log_blocks: needs.log_blocks,
            log_slots: needs.log_slots,
            summary_offset,
            summary_blocks: needs.summary_blocks,
            pages_offset,
            pages: needs.pages,
        }
    }

    /// Offset of a block of the log's ring.
    pub fn log_block_offset(&self, position: u32) -> u64 {
        assert!(position < self.log_blocks, "log position {position} of {}", self.log_blocks);
        self.log_offset + u64::from(position) * BLOCK
    }

    /// Offset of a block of the summary.
    pub fn summary_block_offset(&self, index: u32) -> u64 {
        assert!(index < self.summary_blocks, "summary block {index} of {}", self.summary_blocks);
        self.summary_offset + u64::from(index) * BLOCK
    }

    /// Offset of a bitmap page.
    pub fn page_offset(&self, page: u32) -> u64 {
        assert!(page < self.pages, "bitmap page {page} of {}", self.pages);
        self.pages_offset + u64::from(page) * BLOCK
    }

    /// Extents the data has.
    pub fn extents(&self) -> u32 {
        self.available_bytes.div_ceil(EXTENT_SIZE) as u32
    }

    /// Blocks the data has; the last may be short.
    pub fn data_blocks(&self) -> u64 {
        self.available_bytes.div_ceil(BLOCK_SIZE)
    }
}

/// Where the superblocks are looked for: at the very end of the disk when internal, at the start of a file of its own.
/// A metadata device smaller than both gives offsets that lie beyond it.
pub fn superblock_offsets(metadata_device_bytes: u64, placement: Placement) -> [u64; 2] {
    match placement {
        Placement::Internal => {
            let end = (metadata_device_bytes / BLOCK * BLOCK).max(2 * BLOCK);
            [end - 2 * BLOCK, end - BLOCK]
        }
        Placement::External => [0, BLOCK],
    }
}
