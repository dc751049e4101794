//! What a seed enables: each run has its own sizes, speeds, and random subset of faults at its own rates, so that
//! rare mixtures come up that an even distribution would never show.

use crate::fence::FencePlan;
use crate::rng::Rng;
use rep_engine::{ArchiveScope, Pace};
use rep_types::{
    AfterOnePrimary, AfterZeroPrimaries, BLOCK_SIZE, EXTENT_SIZE, OnIoError, OnNoData, SplitBrainPolicies,
};

/// Nanoseconds in a microsecond.
pub const US: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Per mille of runs that are longer than the others, and how many times.
const LONG_RUNS: u32 = 60;
const LONG_RUN_FACTOR: usize = 8;

/// A deliberate fault of the simulated shell: the simulator must find each (the test of the test).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShellBug {
    /// A flush that flushes nothing.
    FlushNothing,
    /// The cache is volatile even for durable writes.
    IgnoreDurable,
    /// A write is reported before it is done; the write is lost now and then.
    LoseWrite,
    /// A metadata write is reported and not done, now and then.
    LoseMeta,
    /// After a reconnect, a frame of the old connection is taken for one of the new.
    StaleFrame,
    /// Frames overtake each other.
    ReorderFrames,
    /// A payload arrives with a frame it wasn't sent with.
    SwapPayload,
    /// A read returns what was there before.
    StaleRead,
    /// A write goes to the block beside.
    Misdirect,
}

impl ShellBug {
    /// Each, with the name it is chosen by.
    pub const ALL: [(&'static str, ShellBug); 9] = [
        ("flush-nothing", ShellBug::FlushNothing),
        ("ignore-durable", ShellBug::IgnoreDurable),
        ("lose-write", ShellBug::LoseWrite),
        ("lose-meta", ShellBug::LoseMeta),
        ("stale-frame", ShellBug::StaleFrame),
        ("reorder-frames", ShellBug::ReorderFrames),
        ("swap-payload", ShellBug::SwapPayload),
        ("stale-read", ShellBug::StaleRead),
        ("misdirect", ShellBug::Misdirect),
    ];

    /// The bug of that name.
    pub fn named(name: &str) -> Option<ShellBug> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug)
    }
}

/// How the two copies become one at the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Both are empty: a new generation with clean bitmaps.
    SkipSync,
    /// The first node holds data and is forced Primary: a full sync.
    FullSync,
}

/// How likely each class of step is, by weight.
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs)] // the names say it: one weight for each class of step
pub struct Weights {
    pub client: u32,
    pub promote: u32,
    pub connect: u32,
    pub attach: u32,
    pub resync: u32,
    pub crash: u32,
    pub power: u32,
    pub power_both: u32,
    pub link: u32,
    pub disk_fault: u32,
    pub reinstall: u32,
    pub shutdown: u32,
    pub suspend: u32,
    pub force: u32,
}

/// Everything a run is told at its beginning.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // plain numbers; the ones that aren't plain are explained
pub struct Swarm {
    pub seed: u64,
    pub volumes: usize,
    /// Bytes of data a volume has, metadata not counted.
    pub data_bytes: u64,
    pub internal_metadata: bool,
    pub log_slots: u32,
    /// The blocks clients use, spread over the extents: few, so that they collide.
    pub focus_blocks: Vec<u32>,
    pub beginning: Beginning,
    pub stable: bool,
    pub steps: usize,
    pub weights: Weights,
    /// Of clients' requests: reads, writes, flushes, zeroes.
    pub client_mix: [u32; 4],
    pub fua: u32,
    /// Clients flush as soon as a write is answered, as one does that opens a file with `O_SYNC`.
    pub flushes_each_write: bool,
    /// Per mille of dirty sectors a power cut keeps.
    pub keep: u32,
    pub write_back: u32,
    pub disk_latency: (u64, u64),
    pub link_latency: (u64, u64),
    /// Per mille of disk operations that take `slow` nanoseconds.
    pub slow_rate: u32,
    pub slow: u64,
    pub ping_interval: u64,
    pub ping_timeout: u64,
    pub timeout: u64,
    pub ko_count: u32,
    pub connect_interval: u64,
    pub resync_rate_max: u64,
    /// `disk-timeout`; 0: none.
    pub disk_timeout: u64,
    /// How resyncs yield to clients.
    pub pace: Option<Pace>,
    /// Whether nodes may be forced Primary against the arbiter: split brain is then legal, and must be detected.
    pub may_fork: bool,
    /// An operator who is never at rest (see `theme`), and per mille of his steps that take the connection, not a disk.
    pub busy_operator: Option<u32>,
    /// What both nodes do about a split brain without asking.
    pub split_brain: SplitBrainPolicies,
    /// What is saved of a split brain's victim, and per mille of the steps that fail.
    pub archive: Option<ArchiveScope>,
    pub archive_fails: u32,
    /// A split brain is settled by one word at the survivor instead of a connect on both nodes.
    pub one_word_heals: bool,
    pub fence: FencePlan,
    pub on_no_data: OnNoData,
    pub on_io_error: OnIoError,
    /// A before-resync-target handler is asked, and per mille of the times it says no.
    pub asks_before_resync: Option<u32>,
    pub rare: crate::rare::RareFaults,
    pub verify: crate::verify::VerifyPlan,
    /// Logical blocks of the disks.
    pub blocks: crate::blocks::BlockPlan,
    /// Whether the disks say that they have a volatile cache.
    pub caches: crate::caches::CachePlan,
    /// Disks that grow, and with them the volumes.
    pub grow: Option<crate::grow::GrowPlan>,
    pub shell_bug: Option<ShellBug>,
    /// The operation of a node's disks (data and metadata, counted from 1) that fails.
    pub fails_nth: Option<(usize, u64)>,
}

impl Swarm {
    /// The swarm of a seed.
    pub fn of(seed: u64) -> Swarm {
        let mut rng = Rng::new(seed).fork(1);
        let rng = &mut rng;
        let mut archiving = Rng::new(seed).fork(7);
        let extents = rng.pick(&[1, 1, 3, 4, 6]);
        let last = rng.between(4, 64) * BLOCK_SIZE;
        let data_bytes = (extents - 1) * EXTENT_SIZE + last;
        let may_fork = rng.chance(120);
        let mut swarm = Swarm {
            seed,
            volumes: if rng.chance(120) { 2 } else { 1 },
            data_bytes,
            internal_metadata: rng.chance(500),
            log_slots: rng.between(2, 4) as u32,
            focus_blocks: focus(rng, extents, last / BLOCK_SIZE),
            beginning: if rng.chance(700) { Beginning::SkipSync } else { Beginning::FullSync },
            stable: rng.chance(120),
            steps: rng.span(30, 400) as usize,
            weights: Weights::draw(rng, may_fork),
            client_mix: [rng.below(10) as u32 + 1, rng.below(20) as u32 + 5, rng.below(6) as u32, rng.below(4) as u32],
            fua: rng.pick(&[0, 50, 300]),
            flushes_each_write: Rng::new(seed).fork(54).chance(200),
            keep: rng.pick(&[0, 100, 500, 900]),
            write_back: rng.pick(&[0, 300]),
            disk_latency: (20 * US, rng.span(50 * US, 20 * MS)),
            link_latency: (20 * US, rng.span(50 * US, 20 * MS)),
            slow_rate: rng.pick(&[0, 0, 5, 50]),
            slow: rng.span(10 * MS, 3 * SECOND),
            ping_interval: rng.span(SECOND, 10 * SECOND),
            ping_timeout: rng.span(200 * MS, SECOND),
            timeout: rng.span(500 * MS, 6 * SECOND),
            ko_count: rng.between(2, 7) as u32,
            connect_interval: rng.span(10 * MS, 10 * SECOND),
            resync_rate_max: if rng.chance(100) { 20 << 20 } else { 0 },
            pace: crate::pacing::pace_of(seed, data_bytes),
            may_fork,
            busy_operator: None,
            split_brain: policies(rng),
            one_word_heals: rng.chance(500),
            archive: archiving.pick(&[
                None,
                Some(ArchiveScope::Differing),
                Some(ArchiveScope::Differing),
                Some(ArchiveScope::All),
            ]),
            archive_fails: archiving.pick(&[0, 0, 20, 200]),
            fence: FencePlan::of(seed),
            disk_timeout: 0,
            on_io_error: Rng::new(seed).fork(25).pick(&[OnIoError::Detach, OnIoError::PassOn]),
            on_no_data: Rng::new(seed).fork(23).pick(&[OnNoData::IoError, OnNoData::SuspendIo]),
            asks_before_resync: Rng::new(seed).fork(24).pick(&[None, None, None, Some(0), Some(200)]),
            rare: crate::rare::RareFaults::of(seed),
            verify: crate::verify::VerifyPlan::default(),
            blocks: crate::blocks::BlockPlan::of(seed),
            caches: crate::caches::CachePlan::of(seed),
            grow: crate::grow::GrowPlan::of(seed),
            shell_bug: None,
            fails_nth: None,
        };
        swarm.disk_timeout = crate::hung::timeout_of(seed, if swarm.slow_rate > 0 { swarm.slow } else { 0 });
        if rng.chance(LONG_RUNS) {
            swarm.steps *= LONG_RUN_FACTOR;
        }
        crate::blocks::draw(&mut swarm);
        crate::theme::draw(&mut swarm);
        crate::verify::draw(&mut swarm);
        crate::crossed::draw(&mut swarm);
        crate::held::draw(&mut swarm);
        crate::handover::draw(&mut swarm);
        crate::grow::fit(&mut swarm);
        swarm
    }

    /// Disks that are quick beside the link, whose latency is up to one of that span (ns): between what happens on one node
    /// and its being heard on the other there is time for much.
    pub(crate) fn part_nodes(&mut self, rng: &mut Rng, latency_max: (u64, u64)) {
        self.disk_latency = (20 * US, 300 * US);
        (self.slow_rate, self.resync_rate_max) = (0, 0);
        self.link_latency = (4 * MS, rng.span(latency_max.0, latency_max.1));
        self.connect_interval = self.connect_interval.min(200 * MS);
    }
}

fn policies(rng: &mut Rng) -> SplitBrainPolicies {
    if rng.chance(500) {
        return SplitBrainPolicies::default();
    }
    SplitBrainPolicies {
        after_0_primaries: rng.pick(&[
            AfterZeroPrimaries::DiscardYoungerPrimary,
            AfterZeroPrimaries::DiscardOlderPrimary,
            AfterZeroPrimaries::DiscardZeroChanges,
            AfterZeroPrimaries::DiscardLeastChanges,
        ]),
        after_1_primary: rng.pick(&[AfterOnePrimary::Consensus, AfterOnePrimary::DiscardSecondary]),
    }
}

fn focus(rng: &mut Rng, extents: u64, last_blocks: u64) -> Vec<u32> {
    let per_extent = EXTENT_SIZE / BLOCK_SIZE;
    let wanted = rng.between(8, 48);
    let mut blocks: Vec<u32> = (0..wanted)
        .map(|_| {
            let extent = rng.below(extents);
            let limit = if extent + 1 == extents { last_blocks } else { per_extent };
            let near = rng.below(limit.min(16));
            let block = if rng.chance(300) { limit - 1 - near } else { near };
            (extent * per_extent + block) as u32
        })
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

impl Weights {
    fn draw(rng: &mut Rng, may_fork: bool) -> Weights {
        let mut sometimes = |most: u64| if rng.chance(500) { rng.below(most) as u32 + 1 } else { 0 };
        Weights {
            client: 0,
            promote: sometimes(12),
            connect: sometimes(8),
            attach: sometimes(6),
            resync: sometimes(6),
            crash: sometimes(8),
            power: sometimes(8),
            power_both: sometimes(4),
            link: sometimes(12),
            disk_fault: sometimes(6),
            reinstall: sometimes(2),
            shutdown: sometimes(3),
            suspend: sometimes(2),
            force: if may_fork { sometimes(6) + 1 } else { 0 },
        }
        .with_client(rng)
    }

    fn with_client(self, rng: &mut Rng) -> Weights {
        Weights { client: rng.between(40, 400) as u32, ..self }
    }

    /// In the order in which `plan` draws from them.
    pub fn as_list(&self) -> [u32; 14] {
        [
            self.client,
            self.promote,
            self.connect,
            self.attach,
            self.resync,
            self.crash,
            self.power,
            self.power_both,
            self.link,
            self.disk_fault,
            self.reinstall,
            self.shutdown,
            self.suspend,
            self.force,
        ]
    }
}
