//! The superblock as a value. Its bytes are specified in `docs/FORMAT.md`.

use rep_types::{Generations, NodeName, ResourceName, VolumeNumber};

/// The state of the data, as far as this node's durable metadata knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataState {
    /// Of no single moment: never a source, not promotable without force (R21).
    Inconsistent,
    /// Of one moment, but known to be old (R31).
    Outdated,
    /// Of one moment.
    Consistent,
}

/// Whether the metadata was left in the middle of being Primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrimaryMark {
    /// Not Primary, or demoted cleanly.
    None,
    /// Is Primary; found so at attach, it crashed as Primary (R11).
    Primary,
    /// Crashed as Primary earlier; no handshake has settled it yet.
    Crashed,
}

/// Identifies one boot of a node, to tell a daemon's crash from a node's crash; `NONE` when not attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BootId(pub u128);

impl BootId {
    /// Not attached: the volume was detached cleanly.
    pub const NONE: BootId = BootId(0);
    /// Attached when a flush failed: like a boot that is over, what wasn't flushed may be lost.
    pub const CACHE_LOST: BootId = BootId(u128::MAX);
}

/// How a node's data began to differ from its peer's: what a split brain is told apart and explained by (R38).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Divergence {
    /// When, by this node's wall clock, in milliseconds since 1970; 0: not known. For people only: nothing is decided
    /// by the clocks of two nodes.
    pub since_unix_ms: u64,
    /// Whether this node was Primary already when it lost the peer, and didn't become it without the peer.
    pub as_primary: bool,
}

/// The superblock's content, both copies of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Random identity of this metadata, made by `create-md`.
    pub device_uuid: u128,
    /// The resource it belongs to.
    pub resource: ResourceName,
    /// The node it belongs to.
    pub node: NodeName,
    /// The volume it belongs to.
    pub volume: VolumeNumber,
    /// Bytes of the backing device usable for data.
    pub available_bytes: u64,
    /// The size both nodes agreed on (R34); 0 when they never did.
    pub agreed_bytes: u64,
    /// What clients' offsets and lengths are multiples of, in bytes, as the volume was offered or agreed on last (R34); 0: it
    /// never was. `agreed_bytes` is a multiple of it.
    pub agreed_block_bytes: u32,
    /// Whether both disks gave discarded space back when the nodes met last; `None`: they never did.
    pub discards: Option<bool>,
    /// The generations.
    pub generations: Generations,
    /// The state of the data.
    pub data: DataState,
    /// The Primary mark.
    pub primary: PrimaryMark,
    /// Whether this node was the last Primary it knows of.
    pub last_primary: bool,
    /// Whether the peer is known not to have gone on (Outdated, or fenced).
    pub peer_outdated: bool,
    /// Whether the peer may bear `generations.current`: as a resync's target it was told to, at the end. It counts while
    /// there is a bitmap generation, which says then no more that the peer is older than that.
    pub finish_told: bool,
    /// Whether what is marked is to be written anew when a peer fills this disk, whatever the disk shows: the operator wants it so, or a
    /// flush of it had failed.
    pub every_block: bool,
    /// How this node's data began to differ from the peer's; counts while there is a bitmap generation.
    pub divergence: Divergence,
    /// The boot this volume is attached in; `NONE` after a clean detach.
    pub attached_boot: BootId,
    /// Internal metadata have moved here from the end of a disk of so many bytes, and what stands there may not have been
    /// wiped yet; 0: nothing stands anywhere else.
    pub former_device_bytes: u64,
    /// Counts superblock writes; the larger of two valid copies is the newer.
    pub update_count: u64,
}

impl Superblock {
    /// The data are good as they are: nothing of what is marked need be written anew.
    pub fn make_consistent(&mut self) {
        (self.data, self.every_block) = (DataState::Consistent, false);
    }
}
