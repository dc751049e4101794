//! Newtypes for what is counted and numbered, and the sizes they are counted in.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The key of the digests of one comparison (keyed BLAKE3).
pub type DigestKey = [u8; 32];

/// Bytes of a block's digest: enough of a keyed BLAKE3 that two different blocks never have the same.
pub const DIGEST_LENGTH: usize = 16;

/// Bytes in a sector, the unit a disk may tear a write at and the unit clients address.
pub const SECTOR_SIZE: u64 = 512;
/// Bytes in a block: what one bit of the dirty bitmap stands for.
pub const BLOCK_SIZE: u64 = 4096;
/// Bytes in an extent of the activity log.
pub const EXTENT_SIZE: u64 = 4 << 20;
/// The longest read or write the engine takes, in bytes. The shell cuts longer client requests into pieces.
pub const REQUEST_LENGTH_MAX: u32 = 1 << 20;
/// The longest discard or write-zeroes the engine takes, in bytes. The shell cuts longer ones into pieces.
pub const ZERO_LENGTH_MAX: u32 = 4 << 20;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// A volume of a resource, counted from 0, as in the configuration.
    VolumeNumber(u16)
}
number! {
    /// A block of a volume: byte offset / [`BLOCK_SIZE`].
    BlockIndex(u64)
}
number! {
    /// An activity-log extent of a volume: byte offset / [`EXTENT_SIZE`].
    ExtentIndex(u32)
}
number! {
    /// A client request, named by the shell; unique among the requests in flight.
    RequestId(u64)
}
number! {
    /// A disk or metadata operation, named by the engine; never used twice by one engine.
    IoId(u64)
}
number! {
    /// A buffer with user data, named by the shell that holds it. The engine only passes it on and releases it.
    PayloadId(u32)
}
number! {
    /// An operator's command, named by the shell.
    CommandId(u64)
}
number! {
    /// A connection to the peer, named by the shell; grows with each authenticated connection. What carries an
    /// older number is never applied (I-G10).
    SessionId(u64)
}
number! {
    /// An interval between two flushes that reached both disks. Epochs order; they say nothing of history
    /// (that is a [`crate::GenerationId`]).
    EpochNumber(u64)
}

impl EpochNumber {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        EpochNumber(self.0 + 1)
    }
}

impl ExtentIndex {
    /// The blocks of this extent (the last extent of a volume may stand for fewer).
    pub fn blocks(self) -> crate::BlockRange {
        let per_extent = EXTENT_SIZE / BLOCK_SIZE;
        crate::BlockRange { first: BlockIndex(u64::from(self.0) * per_extent), count: per_extent }
    }
}

impl BlockIndex {
    /// The extent this block lies in.
    pub fn extent(self) -> ExtentIndex {
        ExtentIndex((self.0 / (EXTENT_SIZE / BLOCK_SIZE)) as u32)
    }
}
