//! How a node sees itself when a handshake begins (R17): the input of `decide_sync`.

use rep_types::{DiskState, Generations, Role, SECTOR_SIZE, SplitBrainPolicies, VolumeNumber};
use serde::{Deserialize, Serialize};

/// What ended a volume's previous attachment. Told by flags in the metadata, never guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PriorEnd {
    /// The engine has run since before the last connection: only the link was lost.
    LinkLoss,
    /// It was detached cleanly since then, or is new.
    Clean,
    /// Only the daemon died: what the disk's kernel had taken is on the disk or on its way.
    DaemonCrash,
    /// The node went down with it: what wasn't flushed may be lost.
    NodeCrash,
}

/// What an operator said at a node: about a split brain, or about what a verify found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum OperatorWord {
    /// Nothing.
    #[default]
    None,
    /// This node's data is to be given up.
    DiscardMine,
    /// The peer's data is to be given up.
    DiscardPeers,
    /// Blocks a verify found are to be made as they are on the peer. Only with [`crate::features::REPAIR_WORD`].
    RepairMine,
    /// Blocks a verify found are to be made on the peer as they are here. Only with [`crate::features::REPAIR_WORD`].
    RepairPeers,
}

/// Added to `logical_block_bytes`: there are clients who were told of these blocks, of a Primary or left behind for one, so that
/// they can't become larger.
pub const BLOCKS_ARE_KNOWN: u32 = 1 << 31;

/// Added to `logical_block_bytes`: the disk gives space back that is discarded, and reads as zeroes there.
pub const DISK_DISCARDS: u32 = 1 << 30;

/// Added to `logical_block_bytes`: the disk has no volatile cache, so a write that must be stable costs it nothing more.
pub const DISK_WITHOUT_CACHE: u32 = 1 << 29;

/// One volume in a [`NodeView`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeView {
    /// Its number.
    pub volume: VolumeNumber,
    /// Bytes the backing device has room for.
    pub available_bytes: u64,
    /// The size both nodes agreed on; 0 when they never did.
    pub agreed_bytes: u64,
    /// What offsets and lengths must be multiples of, in bytes: on a Primary what clients were told; else the largest of what
    /// the disk needs, what the node remembers of the volume, and what the peer said before. With
    /// [`crate::features::DISK_LIMITS`], [`BLOCKS_ARE_KNOWN`] is added where clients know them, and
    /// [`DISK_DISCARDS`] where the disk does; with [`crate::features::DISK_CACHES`], [`DISK_WITHOUT_CACHE`] where it has none.
    /// See [`VolumeView::blocks`].
    pub logical_block_bytes: u32,
    /// The state of the disk.
    pub disk: DiskState,
    /// The generations. Without a disk: of a Primary, as `current`, the one its clients have seen last.
    pub generations: Generations,
    /// Whether this node was Primary when it crashed and no handshake has settled it yet.
    pub crashed_primary: bool,
    /// What ended the previous attachment.
    pub prior_end: PriorEnd,
    /// Whether this node was the last Primary it knows of.
    pub last_primary: bool,
    /// Blocks this node holds for out-of-sync, hot extents after a crash included.
    pub out_of_sync_blocks: u64,
    /// The operator's word, for this handshake only (I-G4).
    pub word: OperatorWord,
    /// Whether this node was Primary already when it lost the peer (and didn't become it without the peer).
    pub diverged_as_primary: bool,
    /// When it began to write alone, by its own clock, in milliseconds since 1970; 0: it didn't, or doesn't know.
    pub diverged_since_unix_ms: u64,
}

/// A node's view of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its role.
    pub role: Role,
    /// Whether its name sorts first: the agreed tie-breaker. Exactly one of two nodes says so.
    pub sorts_first: bool,
    /// Whether it only asks what a connection would do (`connect --plan`): both tell their decision, then part.
    pub plan: bool,
    /// What it does about a split brain without asking. Policies count only where both nodes have the same.
    pub policies: SplitBrainPolicies,
    /// Its volumes, in the order of their numbers.
    pub volumes: Vec<VolumeView>,
}

impl VolumeView {
    /// What offsets and lengths must be multiples of, in bytes, and whether clients know that.
    pub fn blocks(&self) -> (u32, bool) {
        let bytes = self.logical_block_bytes & !(BLOCKS_ARE_KNOWN | DISK_DISCARDS | DISK_WITHOUT_CACHE);
        (bytes.max(SECTOR_SIZE as u32).next_power_of_two(), self.logical_block_bytes & BLOCKS_ARE_KNOWN != 0)
    }

    /// Whether its disk gives space back that is discarded.
    pub fn discards(&self) -> bool {
        self.logical_block_bytes & DISK_DISCARDS != 0
    }

    /// Whether its disk may have a volatile cache.
    pub fn volatile_cache(&self) -> bool {
        self.logical_block_bytes & DISK_WITHOUT_CACHE == 0
    }
}
