//! How large a volume a node's disk could hold, and what keeps it from holding more (R34).

use serde::{Deserialize, Serialize};

/// What a node's disk has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Room {
    /// Bytes of data it can hold; never less than the volume has.
    pub bytes: u64,
    /// What keeps it from being more.
    pub limit: RoomLimit,
}

/// What keeps a volume from being larger on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum RoomLimit {
    /// The disk ends there.
    #[default]
    Disk,
    /// The disk has grown by less than its internal metadata need for their new place behind the old one.
    GrownTooLittle {
        /// Bytes the disk must have at least.
        needed_bytes: u64,
    },
    /// The device of the external metadata is too small for the grown disk's.
    MetadataDevice {
        /// Bytes it must have at least.
        needed_bytes: u64,
    },
    /// Nothing larger is replicated.
    Largest,
}
