//! Faults that have streams of randomness of their own, so that a run without them is what it would be if there were
//! none, and their steps among those of the plan.

use crate::plan::{DiskFault, LinkFault, Node, Step};
use crate::rng::Rng;
use crate::rot::{Extent, MetaRot, Place};
use crate::swarm::{MS, SECOND, Swarm, US};
use crate::wire::WireFault;
use crate::world::World;
use rep_engine::Side;

/// Moments at which an image would be put back.
const ROLL_BACK_TRIES: u32 = 6;

/// Per mille of the runs in which a node that gives its data up loses the link meanwhile, and is outdated by somebody, as by
/// the handler of its Primary.
const OUTDATES: u32 = 200;

/// How often each happens in a run. Most runs have few of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RareFaults {
    /// Per mille of frames that arrive in two pieces.
    pub pieces: u32,
    /// Frames changed, lost or repeated on their way.
    pub wire: u32,
    /// Metadata that rot at rest.
    pub meta_rot: u32,
    /// Images of metadata that are put back later, if anything is promised of that then.
    pub rollback: u32,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum RareFault {
    Wire { from: Node, fault: WireFault },
    TakeImage { node: Node },
    RollBack { node: Node, down_ns: u64 },
    MetaRot { node: Node, volume: usize, rot: MetaRot, power: bool, down_ns: u64 },
    Plant { node: Node, volume: usize, draw: u64 },
    Verify { node: Node, volume: usize, repair: Option<Side> },
}

impl RareFaults {
    /// What a seed has of them.
    pub fn of(seed: u64) -> RareFaults {
        let mut rng = Rng::new(seed).fork(8);
        let mut sometimes =
            |per_mille: u32, most: u64| if rng.chance(per_mille) { rng.between(1, most) as u32 } else { 0 };
        RareFaults {
            pieces: [0, 30, 300][sometimes(500, 2) as usize],
            wire: sometimes(300, 4),
            meta_rot: sometimes(200, 3),
            rollback: sometimes(150, 3),
        }
    }
}

/// Puts a run's rare faults among its other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let mut rng = Rng::new(swarm.seed).fork(9);
    let RareFaults { wire, meta_rot, rollback, .. } = swarm.rare;
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    if times.is_empty() {
        return;
    }
    for _ in 0..wire {
        let fault = RareFault::Wire { from: rng.below(2) as Node, fault: wire_fault(&mut rng) };
        steps.push((rng.pick(&times) + rng.below(MS), Step::Rare(fault)));
    }
    for _ in 0..meta_rot {
        let (node, volume) = (rng.below(2) as Node, rng.below(swarm.volumes as u64) as usize);
        let (power, down_ns) = (rng.chance(300), rng.span(10 * MS, 10 * SECOND));
        let fault = RareFault::MetaRot { node, volume, rot: meta_rot_of(&mut rng), power, down_ns };
        steps.push((rng.pick(&times) + rng.below(MS), Step::Rare(fault)));
    }
    for _ in 0..rollback {
        let node = rng.below(2) as Node;
        let made = rng.below(times.len() as u64);
        steps.push((times[made as usize], Step::Rare(RareFault::TakeImage { node })));
        for _ in 0..ROLL_BACK_TRIES {
            let at = times[rng.between(made, times.len() as u64 - 1) as usize] + rng.below(MS);
            let down_ns = rng.span(10 * MS, 10 * SECOND);
            steps.push((at, Step::Rare(RareFault::RollBack { node, down_ns })));
        }
    }
    add_outdates(steps, swarm);
    steps.sort_by_key(|(at, _)| *at);
}

/// Data given up are Inconsistent at once, and durably so some writes later: who is told then that they are outdated must not
/// hear it too early.
fn add_outdates(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let mut rng = Rng::new(swarm.seed).fork(13);
    if !rng.chance(OUTDATES) {
        return;
    }
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    for _ in 0..rng.between(1, 4) {
        let (node, volume) = (rng.below(2) as Node, rng.below(swarm.volumes as u64) as usize);
        let at = rng.pick(&times) + rng.below(MS);
        steps.push((at, Step::Invalidate { node, volume }));
        // A disk that is slow just then: its metadata are being written until somebody asks.
        let hangs = at + rng.span(20 * US, 2 * MS);
        let lost = hangs + rng.below(MS);
        let asked = lost + rng.span(MS, 100 * MS);
        let for_ns = asked - hangs + rng.below(50 * MS);
        steps.push((hangs, Step::Disk { node, volume, fault: DiskFault::Hang { for_ns } }));
        steps.push((lost, Step::Link { fault: LinkFault::Reset, for_ns: rng.span(100 * MS, SECOND) }));
        steps.push((asked, Step::Outdate { node, volume }));
    }
}

fn wire_fault(rng: &mut Rng) -> WireFault {
    match rng.below(8) {
        0 => WireFault::Lose,
        1 => WireFault::Repeat,
        _ => {
            let (at, bits) = (rng.bits() as u32, 1 << rng.below(8));
            WireFault::Change { at, bits, payload: rng.chance(500) }
        }
    }
}

fn meta_rot_of(rng: &mut Rng) -> MetaRot {
    let place = match rng.below(12) {
        0..3 => Place::SuperblockA,
        3 => Place::SuperblockB,
        4 => Place::BothSuperblocks,
        5 => Place::Everything,
        6 => Place::NewestTransaction,
        7 | 8 => Place::Log,
        9 => Place::Summary,
        _ => Place::Page,
    };
    MetaRot { place, extent: rng.pick(&[Extent::Bit, Extent::Sector, Extent::Block]), draw: rng.bits() }
}

impl World {
    /// Does one of them.
    pub(crate) fn rare(&mut self, fault: RareFault) {
        match fault {
            RareFault::Wire { from, fault } => self.corrupt(from, fault),
            RareFault::TakeImage { node } => self.take_image(node),
            RareFault::RollBack { node, down_ns } => self.roll_back(node, down_ns),
            RareFault::MetaRot { node, volume, rot, power, down_ns } => {
                self.rot_at_rest(node, volume, rot, power, down_ns);
            }
            RareFault::Plant { node, volume, draw } => self.plant_difference(node, volume, draw),
            RareFault::Verify { node, volume, repair } => self.ask_verify(node, volume, repair),
        }
    }
}
