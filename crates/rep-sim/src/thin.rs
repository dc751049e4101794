//! Zeroes within what a resync moves: what is sent for them, what becomes of it on the target's disk, and what happens while
//! some of its disk operations have landed and others haven't.

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::{DiskFault, LinkFault, Step};
use crate::rng::Rng;
use crate::swarm::{MS, SECOND, Swarm};
use crate::world::{Due, World};
use rep_engine::Event;
use rep_types::{BLOCK_SIZE, SECTOR_SIZE, ZeroBlocks};
use rep_wire::{Message, features};
use std::collections::BTreeMap;

/// Sectors of a block.
const SECTORS: usize = (BLOCK_SIZE / SECTOR_SIZE) as usize;
/// Blocks of zeroes in a row that must not travel as data: what is promised, said once more.
const RUN_BLOCKS: usize = 16;

/// What an event brings the engine for its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Brought {
    /// Nothing of a resync.
    Nothing,
    /// A resync's range, for one disk operation.
    Whole,
    /// A resync's range, for several: their name.
    InRuns(u64),
}

impl Brought {
    /// Whether it is of a resync.
    pub fn is_resync(self) -> bool {
        self != Brought::Nothing
    }
}

/// The disk operations of one range.
#[derive(Clone, Copy, Default, Debug)]
struct Landing {
    node: usize,
    volume: usize,
    landed: u32,
    out: u32,
}

/// The ranges whose disk operations are under way.
#[derive(Debug)]
pub struct Landings {
    next: u64,
    ranges: BTreeMap<u64, Landing>,
    rng: Rng,
    /// Per mille of them between whose disk operations something comes.
    disturbed: u32,
}

impl Landings {
    /// None. What a seed has of disturbances is drawn from a stream of its own.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork(52);
        let disturbed = rng.pick(&[0, 0, 100, 400]);
        Landings { next: 0, ranges: BTreeMap::new(), rng, disturbed }
    }
}

/// How many times as long as others those disk operations take that are one of several for a range, in a seed's run: where
/// it is long, much comes between them.
fn slowness_of(seed: u64) -> u64 {
    Rng::new(seed).fork(53).pick(&[1, 5, 30])
}

/// What comes between; only what the seed has anyway.
fn disturbance(rng: &mut Rng, swarm: &Swarm, node: usize, volume: usize) -> Step {
    let down_ns = rng.span(10 * MS, 10 * SECOND);
    match rng.below(4) {
        0 if swarm.weights.power > 0 => Step::PowerLoss { node, down_ns },
        1 if swarm.weights.crash > 0 => Step::Crash { node, down_ns },
        2 if swarm.weights.disk_fault > 0 => Step::Disk { node, volume, fault: DiskFault::WriteOnce },
        _ => Step::Link { fault: LinkFault::Reset, for_ns: rng.span(20 * MS, SECOND) },
    }
}

/// The blocks that are zeroes.
pub(crate) fn zeroes_of(values: &[u32]) -> ZeroBlocks {
    let mut zeroes = ZeroBlocks::NONE;
    let blocks = values.chunks(SECTORS).zip(0..);
    blocks.filter(|(block, _)| is_zero(block)).for_each(|(_, index)| zeroes.set(index));
    zeroes
}

fn is_zero(block: &[u32]) -> bool {
    block.iter().all(|value| *value == 0)
}

/// What goes over the wire of a buffer.
pub(crate) fn payload_of(message: &Message, values: &[u32]) -> Vec<u32> {
    let sector = |bytes: u64| (bytes / SECTOR_SIZE) as usize;
    message.payload_parts().flat_map(|part| &values[sector(part.offset)..sector(part.end())]).copied().collect()
}

impl World {
    /// What an event brings.
    pub(crate) fn brings(&mut self, event: &Event) -> Brought {
        match event {
            Event::PeerMessage { message: Message::ResyncData { .. } | Message::ResyncZeroes { .. }, .. } => {
                Brought::Whole
            }
            Event::PeerMessage { message: Message::ResyncRuns { .. }, .. } => {
                self.landings.next += 1;
                Brought::InRuns(self.landings.next)
            }
            _ => Brought::Nothing,
        }
    }

    /// A node sends the whole of a buffer, or some of it: no zeroes that could be told travel, and nothing else is told so.
    pub(crate) fn check_thin(&mut self, node: usize, message: &Message, values: &[u32]) {
        let offered = self.agreed_on(features::RESYNC_RUNS);
        let wrong = match message {
            Message::ResyncData { .. } => {
                let blocks: Vec<bool> = values.chunks(SECTORS).map(is_zero).collect();
                offered && blocks.windows(RUN_BLOCKS).any(|run| run.iter().all(|zero| *zero))
            }
            Message::ResyncRuns { zeroes, .. } => {
                let mut told = values.chunks(SECTORS).zip(0..).filter(|(_, index)| zeroes.contains(*index));
                !offered || told.any(|(block, _)| !is_zero(block))
            }
            _ => false,
        };
        if wrong {
            self.fail(Kind::WrongData, "thin", format!("node {node} sends {message:?} of a range that isn't so"));
        }
    }

    /// A disk operation has been given out; how many times as long as another it takes.
    pub(crate) fn run_out(&mut self, node: usize, volume: usize, brought: Brought) -> u64 {
        let Brought::InRuns(name) = brought else { return 1 };
        let landing = self.landings.ranges.entry(name).or_default();
        (landing.node, landing.volume) = (node, volume);
        landing.out += 1;
        // Not the first: one lands, and the others are still under way.
        if landing.out == 1 { 1 } else { slowness_of(self.swarm.seed) }
    }

    /// It has been reported.
    pub(crate) fn run_reported(&mut self, brought: Brought, well: bool) {
        let Brought::InRuns(name) = brought else { return };
        let Some(landing) = self.landings.ranges.get_mut(&name) else { return };
        landing.out -= 1;
        landing.landed += u32::from(well);
        let Landing { node, volume, landed, out } = *landing;
        if out == 0 {
            self.landings.ranges.remove(&name);
            if landed > 1 {
                self.seen(Sometimes::RunsLanded);
            }
        } else if landed == 1 {
            self.disturb(node, volume);
        }
    }

    fn disturb(&mut self, node: usize, volume: usize) {
        let Landings { rng, disturbed, .. } = &mut self.landings;
        if rng.chance(*disturbed) {
            let step = disturbance(rng, &self.swarm, node, volume);
            let span = rng.below(MS);
            self.after(span, Due::Scene(step));
        }
    }

    /// It fails.
    pub(crate) fn run_failed(&mut self, brought: Brought) {
        let Brought::InRuns(name) = brought else { return };
        if self.landings.ranges.get(&name).is_some_and(|landing| landing.landed > 0) {
            self.seen(Sometimes::RunsFailed);
        }
    }

    /// Something comes between what has landed and what hasn't on a node.
    pub(crate) fn runs_cut(&mut self, node: usize, state: Sometimes) {
        let cut = |landing: &Landing| landing.node == node && landing.landed > 0;
        if self.landings.ranges.values().any(cut) {
            self.seen(state);
        }
    }

    /// Nothing is under way any more on a node.
    pub(crate) fn forget_runs(&mut self, node: usize) {
        self.landings.ranges.retain(|_, landing| landing.node != node);
    }
}
