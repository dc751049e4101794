//! The on-disk metadata: superblock, activity log, dirty bitmap. Pure: bytes to values and back.
//!
//! `docs/FORMAT.md` is the specification; a test compares it with this code.

mod superblock;

pub use superblock::{BootId, DataState, PrimaryMark, Superblock};

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

/// What `load` read: everything the engine needs to attach. (Being written.)
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The superblock.
    pub superblock: Superblock,
}
