//! The on-disk metadata: superblock, activity log, dirty bitmap. Pure: bytes to values and back.
//!
//! `docs/FORMAT.md` is the specification; a test compares it with this code. What is read is never trusted: foreign,
//! stale, torn, rotten and truncated metadata each end in a typed error or in "out-of-sync", never in a panic.
//!
//! | file | feature |
//! |---|---|
//! | `superblock` | what the volume is, its generations and marks; two copies |
//! | `layout` | where everything lies |
//! | `sealed` | the 512-byte sectors all the rest is made of |
//! | `log_block`, `log_recovery` | the activity log's transactions, and reading them back |
//! | `bitmap_page`, `summary` | the dirty bitmap, and which of its pages mean anything |
//! | `storage` | what is read and written |
//! | `create`, `load`, `probe`, `dump` | make it, read it, recognise it, show it |
//! | `former_end`, `grown` | find it on a disk that has grown; where it goes then |
//!
//! Architecture invariant: no I/O of its own ([`MetaStorage`] is the caller's), no clock, no randomness.

mod bitmap_load;
mod bitmap_page;
mod create;
mod dump;
#[cfg(test)]
mod format_doc;
mod former_end;
mod grown;
mod layout;
mod load;
mod log_block;
mod log_recovery;
mod probe;
mod sealed;
mod storage;
mod summary;
mod superblock;
mod superblock_codec;

pub use bitmap_page::{LoadedBitmap, LoadedPage, PAGE_BLOCKS, PAGE_EXTENTS, PAGE_WORDS, PageBits, encode_page};
pub use create::{CreateError, CreateParameters, InitialBitmap, create};
pub use dump::dump;
pub use former_end::{FORMER_END_PROBES_MAX, FormerEnd, find_former_end};
pub use grown::{GrowError, room};
pub use layout::{
    DEVICE_BYTES_MAX, LOG_BLOCKS_MIN, LOG_SLOTS_MAX, Layout, LayoutError, LayoutOptions, Placement, superblock_offsets,
};
pub use load::{Identity, LoadError, Loaded, load};
pub use log_block::{LOG_CONTEXT_ENTRIES, LOG_UPDATES_MAX, LogUpdate, SLOT_FREE, Transaction};
pub use log_recovery::{RecoveredLog, recover};
pub use probe::{Probe, probe};
pub use sealed::DeviceTag;
pub use storage::{MemoryStorage, MetaIoError, MetaStorage};
pub use summary::{PAGES_PER_SUMMARY_BLOCK, PageState, encode_summary_block};
pub use superblock::{BootId, DataState, Divergence, PrimaryMark, Superblock};
pub use superblock_codec::{FORMAT_VERSION, SuperblockError};

/// One 4 KiB metadata block, ready to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct MetaBlock(pub Box<[u8; META_BLOCK_SIZE]>);

/// Bytes of a metadata block.
pub const META_BLOCK_SIZE: usize = 4096;

impl MetaBlock {
    /// A block of zeroes.
    pub fn zeroed() -> Self {
        MetaBlock(Box::new([0; META_BLOCK_SIZE]))
    }
}

impl std::fmt::Debug for MetaBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetaBlock(crc {:08x})", crc32fast::hash(&self.0[..]))
    }
}
