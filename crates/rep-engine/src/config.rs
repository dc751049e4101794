//! What the engine is told once, when it begins.

use crate::limits;
use rep_types::{Fencing, OnIoError, OnNoData, SplitBrainPolicies, VolumeNumber};
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

/// How a resync yields to clients (`resync/pacing`). Nobody configures it: the defaults are the product's, others are the
/// simulator's, whose disks and clients are small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// The longest range it moves at a time while a node is Primary, in blocks.
    pub range_blocks_max: u64,
    /// Clients' latency is looked at after so many requests...
    pub requests_min: u32,
    /// ...but not more often than this,
    pub window_min: Duration,
    /// ...and at least this often.
    pub window_max: Duration,
    /// So much longer than one and a quarter times what they wait without it clients may wait.
    pub slack: Duration,
    /// How often what they wait without it is measured while it runs.
    pub measure_interval: Duration,
    /// The rate it has at least, whatever clients wait.
    pub rate_min_bytes_per_s: u64,
    /// The rate it begins with while clients are at work.
    pub rate_first_bytes_per_s: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            range_blocks_max: limits::RESYNC_SHARED_BLOCKS_MAX,
            requests_min: limits::PACING_REQUESTS_MIN,
            window_min: limits::PACING_WINDOW_MIN,
            window_max: limits::PACING_WINDOW_MAX,
            slack: limits::PACING_SLACK,
            measure_interval: limits::PACING_MEASURE_INTERVAL,
            rate_min_bytes_per_s: limits::RESYNC_RATE_MIN,
            rate_first_bytes_per_s: limits::RESYNC_RATE_FIRST,
        }
    }
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
    /// How a resync yields to clients; `None`: it doesn't.
    pub pace: Option<Pace>,
    /// `disk-timeout`: a disk of this node's that doesn't answer for so long counts as failed, if good data stay in reach;
    /// zero: never.
    pub disk_timeout: Duration,
    /// What must be known of an absent peer before this node goes on without it.
    pub fencing: Fencing,
    /// What becomes of client I/O while no good data is in reach.
    pub on_no_data: OnNoData,
    /// What becomes of a disk that answers a read or a write with an error.
    pub on_io_error: OnIoError,
    /// What is done about a split brain without asking.
    pub split_brain: SplitBrainPolicies,
    /// What is saved of this node's data before they are given up in a split brain; `None`: nothing.
    pub archive: Option<ArchiveScope>,
    /// Whether a before-resync-target handler is asked before this node's disk is overwritten by a resync.
    pub asks_before_resync: bool,
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
            pace: Some(Pace::default()),
            disk_timeout: Duration::ZERO,
            fencing: Fencing::DontCare,
            on_no_data: OnNoData::IoError,
            on_io_error: OnIoError::Detach,
            split_brain: SplitBrainPolicies::default(),
            archive: None,
            asks_before_resync: false,
            clock_origin_unix_ms: 0,
        }
    }
}

/// What of the configuration changes while the engine runs (`adjust`): what is looked up at each use, and no state hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunables {
    /// See [`EngineConfig::timeout`].
    pub timeout: Duration,
    /// See [`EngineConfig::ping_interval`].
    pub ping_interval: Duration,
    /// See [`EngineConfig::ping_timeout`].
    pub ping_timeout: Duration,
    /// See [`EngineConfig::ko_count`].
    pub ko_count: u32,
    /// See [`EngineConfig::resync_rate_max`].
    pub resync_rate_max: u64,
    /// See [`EngineConfig::disk_timeout`].
    pub disk_timeout: Duration,
    /// See [`EngineConfig::on_io_error`].
    pub on_io_error: OnIoError,
}

impl From<&EngineConfig> for Tunables {
    fn from(config: &EngineConfig) -> Self {
        Tunables {
            timeout: config.timeout,
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            ko_count: config.ko_count,
            resync_rate_max: config.resync_rate_max,
            disk_timeout: config.disk_timeout,
            on_io_error: config.on_io_error,
        }
    }
}

impl EngineConfig {
    pub(crate) fn tune(&mut self, to: Tunables) {
        let Tunables { timeout, ping_interval, ping_timeout, ko_count, resync_rate_max, disk_timeout, on_io_error } =
            to;
        (self.timeout, self.ping_interval, self.ping_timeout) = (timeout, ping_interval, ping_timeout);
        (self.ko_count, self.resync_rate_max) = (ko_count, resync_rate_max);
        (self.disk_timeout, self.on_io_error) = (disk_timeout, on_io_error);
    }
}
