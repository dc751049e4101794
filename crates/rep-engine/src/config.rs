//! What the engine is told once, when it begins.

use rep_types::{Fencing, OnNoData, SplitBrainPolicies, VolumeNumber};
use std::time::Duration;

/// What is saved of a split brain's victim before its disk is overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveScope {
    /// The blocks in which the two nodes may differ. The rest of the victim's old view is the survivor's, as it was at
    /// any one moment between the split and its resolution.
    Differing,
    /// Every block.
    All,
}

/// The engine's configuration. Times are DRBD's defaults (semantics, "Defaults users know from DRBD").
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The resource's volumes, in the order of their numbers.
    pub volumes: Vec<VolumeNumber>,
    /// Whether this node's name sorts before the peer's: the tie-breaker both agree on.
    pub sorts_first: bool,
    /// Randomness for generation identifiers.
    pub seed: u64,
    /// `timeout`: the peer is asked for a sign of life when an answer is due for so long.
    pub timeout: Duration,
    /// `ping-interval`: an idle link is pinged this often.
    pub ping_interval: Duration,
    /// `ping-timeout`: a ping is answered within this, or the link is dropped.
    pub ping_timeout: Duration,
    /// `ko-count`: a peer that is alive but whose disk answers nothing for this many `timeout`s is dropped.
    pub ko_count: u32,
    /// `durability = "stable"`: every answer means stable on both disks.
    pub stable: bool,
    /// `max-rate` of a resync in bytes a second; 0: as fast as application latency allows.
    pub resync_rate_max: u64,
    /// What must be known of an absent peer before this node goes on without it.
    pub fencing: Fencing,
    /// What becomes of client I/O while no good data is in reach.
    pub on_no_data: OnNoData,
    /// What is done about a split brain without asking.
    pub split_brain: SplitBrainPolicies,
    /// What is saved of this node's data before they are given up in a split brain; `None`: nothing.
    pub archive: Option<ArchiveScope>,
    /// The wall clock at `Timestamp(0)`, in milliseconds since 1970; 0: not known. Only ever shown to people.
    pub clock_origin_unix_ms: u64,
}

impl EngineConfig {
    /// The defaults for one volume.
    pub fn new(sorts_first: bool, seed: u64) -> Self {
        EngineConfig {
            volumes: vec![VolumeNumber(0)],
            sorts_first,
            seed,
            timeout: Duration::from_secs(6),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_millis(500),
            ko_count: 7,
            stable: false,
            resync_rate_max: 0,
            fencing: Fencing::DontCare,
            on_no_data: OnNoData::IoError,
            split_brain: SplitBrainPolicies::default(),
            archive: None,
            clock_origin_unix_ms: 0,
        }
    }
}
