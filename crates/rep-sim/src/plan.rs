//! The steps of a run, drawn from the seed before it begins: what clients ask, what the operator does, what breaks.
//!
//! A plan is data, so a failing one can be made smaller by leaving steps out (`minimize`) and a scenario can be
//! written by hand (`tests/`). A step that makes no sense when its time has come is passed over.

use crate::grow::{Geometry, placement};
use crate::rng::Rng;
use crate::swarm::{MS, SECOND, Swarm, US};
use rep_types::ZeroMode;

/// One of the two nodes.
pub type Node = usize;

/// How a link breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkFault {
    /// The connection is reset; both sides learn of it soon.
    Reset,
    /// Nothing gets through either way; nobody is told.
    MuteBoth,
    /// Nothing gets from this node to the other.
    MuteFrom(Node),
}

/// What breaks in a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum DiskFault {
    ReadOnce,
    WriteOnce,
    FlushOnce,
    MetaOnce,
    AllSticky,
    WritesSticky,
    Hang { for_ns: u64 },
}

/// A client's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum ClientOp {
    Read { first: u32, count: u32 },
    Write { first: u32, count: u32, fua: bool },
    Zero { first: u32, count: u32, mode: ZeroMode, fua: bool },
    Flush,
}

impl ClientOp {
    /// The first sector asked for, and how many; none of a flush.
    pub fn sectors(self) -> (u32, u32) {
        match self {
            Self::Read { first, count } | Self::Write { first, count, .. } | Self::Zero { first, count, .. } => {
                (first, count)
            }
            Self::Flush => (0, 0),
        }
    }
}

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum Step {
    Client { volume: usize, client: u32, op: ClientOp },
    Promote { node: Node },
    ForcePromote { node: Node },
    Demote { node: Node },
    DemoteWhileOpen { node: Node },
    Switch,
    Connect { node: Node },
    Disconnect { node: Node, force: bool },
    Plan { node: Node },
    Attach { node: Node, volume: usize },
    Detach { node: Node, volume: usize },
    DetachAtOnce { node: Node, volume: usize },
    Resync { node: Node, volume: usize },
    ResyncFull { node: Node, volume: usize },
    Pause { node: Node, volume: usize, for_ns: u64 },
    Invalidate { node: Node, volume: usize },
    InvalidatePeer { node: Node, volume: usize },
    Outdate { node: Node, volume: usize },
    Verify { node: Node, volume: usize },
    StopVerify { node: Node, volume: usize },
    Suspend { node: Node, for_ns: u64 },
    Crash { node: Node, down_ns: u64 },
    PowerLoss { node: Node, down_ns: u64 },
    PowerLossBoth { down_ns: [u64; 2] },
    Shutdown { node: Node, down_ns: u64 },
    Reinstall { node: Node, down_ns: u64 },
    Busy(crate::theme::BusyStep),
    Crossed(crate::crossed::Crossed),
    Newer { draw: u64 },
    Handover { draw: u64 },
    WhileForwarding { draw: u64 },
    ServiceForwarder { volume: usize, for_ns: u64 },
    FailPrimaryFlush { volume: usize, for_ns: u64 },
    CrashTaker { down_ns: u64, power: bool },
    CrashForwarder { down_ns: u64, power: bool },
    CloseForwarding,
    GiveUpForwards,
    CrashPrimary { down_ns: u64, power: bool },
    GrowDisk { node: Node, volume: usize },
    Resize { node: Node, volume: usize },
    Link { fault: LinkFault, for_ns: u64 },
    Disk { node: Node, volume: usize, fault: DiskFault },
    Rare(crate::rare::RareFault),
}

/// A run's steps with their times, in nanoseconds from its beginning.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The swarm they are for.
    pub swarm: Swarm,
    /// Time and step, in order of time.
    pub steps: Vec<(u64, Step)>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        Self::for_swarm(Swarm::of(seed))
    }

    /// A plan for a swarm.
    pub fn for_swarm(swarm: Swarm) -> Plan {
        let mut rng = Rng::new(swarm.seed).fork(2);
        let total = match swarm.grow {
            Some(_) => Geometry::of(&swarm, 0, placement(&swarm)).clients_end(&swarm),
            None => (swarm.data_bytes / 512) as u32,
        };
        let mut draw = Draw { rng: &mut rng, swarm: &swarm, total };
        let mut steps = Vec::with_capacity(swarm.steps);
        let mut at = 2 * SECOND;
        for _ in 0..swarm.steps {
            at += draw.gap();
            steps.push((at, draw.step()));
        }
        crate::rare::add(&mut steps, &swarm);
        crate::verify::add(&mut steps, &swarm);
        crate::grow::add(&mut steps, &swarm);
        crate::crossed::add(&mut steps, &swarm);
        crate::held::add(&mut steps, &swarm);
        crate::newer::add(&mut steps, &swarm);
        crate::handover::add(&mut steps, &swarm);
        crate::hung::add(&mut steps, &swarm);
        Plan { swarm, steps }
    }
}

struct Draw<'a> {
    rng: &'a mut Rng,
    swarm: &'a Swarm,
    /// Sectors clients use.
    total: u32,
}

impl Draw<'_> {
    fn gap(&mut self) -> u64 {
        match self.rng.weighted(&[60, 25, 10, 3]) {
            0 => self.rng.below(300 * US),
            1 => self.rng.between(MS, 30 * MS),
            2 => self.rng.between(50 * MS, SECOND),
            _ => self.rng.between(SECOND, 15 * SECOND),
        }
    }

    fn down(&mut self) -> u64 {
        self.rng.span(10 * MS, 30 * SECOND)
    }

    fn step(&mut self) -> Step {
        if let Some(step) = crate::theme::step(self.rng, self.swarm) {
            return step;
        }
        let node = self.rng.below(2) as Node;
        let volume = self.rng.below(self.swarm.volumes as u64) as usize;
        match self.rng.weighted(&self.swarm.weights.as_list()) {
            0 => self.client(volume),
            1 => match self.rng.below(6) {
                0 | 1 => Step::Switch,
                2 => Step::Demote { node },
                3 => Step::DemoteWhileOpen { node },
                _ => Step::Promote { node },
            },
            2 => match self.rng.below(5) {
                0 | 1 => Step::Disconnect { node, force: self.rng.chance(300) },
                2 => Step::Plan { node },
                _ => Step::Connect { node },
            },
            3 if self.rng.chance(500) => Step::Detach { node, volume },
            3 => Step::Attach { node, volume },
            4 => self.resync(node, volume),
            5 => Step::Crash { node, down_ns: self.down() },
            6 => Step::PowerLoss { node, down_ns: self.down() },
            7 => Step::PowerLossBoth { down_ns: [self.down(), self.down()] },
            8 => self.link(),
            9 => Step::Disk { node, volume, fault: self.disk_fault() },
            10 => Step::Reinstall { node, down_ns: self.down() },
            11 => Step::Shutdown { node, down_ns: self.down() },
            12 => Step::Suspend { node, for_ns: self.rng.span(10 * MS, 10 * SECOND) },
            _ => Step::ForcePromote { node },
        }
    }

    fn client(&mut self, volume: usize) -> Step {
        let [reads, writes, flushes, zeroes] = self.swarm.client_mix;
        let block = self.rng.pick(&self.swarm.focus_blocks);
        let total = self.total;
        let aligned = self.rng.chance(400);
        let first = block * 8 + if aligned { 0 } else { self.rng.below(8) as u32 };
        let most = self.rng.pick(&[1, 8, 8, 24, 64]);
        let count = if aligned { 8 * self.rng.between(1, 3) as u32 } else { self.rng.between(1, most) as u32 };
        let (first, count) = (first.min(total - 1), count.min(total - first.min(total - 1)));
        let fua = self.rng.chance(self.swarm.fua);
        let op = match self.rng.weighted(&[reads, writes, flushes, zeroes]) {
            0 => ClientOp::Read { first, count },
            1 => ClientOp::Write { first, count, fua },
            2 => ClientOp::Flush,
            _ => {
                let mode = self.rng.pick(&[ZeroMode::Discard, ZeroMode::ZeroMayUnmap, ZeroMode::ZeroNoUnmap]);
                let count = if self.rng.chance(50) { (total - first).min(8192) } else { count };
                ClientOp::Zero { first, count, mode, fua }
            }
        };
        Step::Client { volume, client: self.rng.below(3) as u32, op }
    }

    fn resync(&mut self, node: Node, volume: usize) -> Step {
        match self.rng.below(10) {
            0 => Step::Resync { node, volume },
            1 => Step::ResyncFull { node, volume },
            2 | 3 => Step::Pause { node, volume, for_ns: self.rng.span(MS, 10 * SECOND) },
            4 => Step::Invalidate { node, volume },
            5 => Step::InvalidatePeer { node, volume },
            6 => Step::Outdate { node, volume },
            7 => Step::StopVerify { node, volume },
            _ => Step::Verify { node, volume },
        }
    }

    fn link(&mut self) -> Step {
        let fault = match self.rng.below(4) {
            0 | 1 => LinkFault::Reset,
            2 => LinkFault::MuteBoth,
            _ => LinkFault::MuteFrom(self.rng.below(2) as Node),
        };
        Step::Link { fault, for_ns: self.rng.span(MS, 60 * SECOND) }
    }

    fn disk_fault(&mut self) -> DiskFault {
        match self.rng.below(8) {
            0 => DiskFault::ReadOnce,
            1 | 2 => DiskFault::WriteOnce,
            3 | 4 => DiskFault::FlushOnce,
            5 => DiskFault::MetaOnce,
            6 => self.rng.pick(&[DiskFault::AllSticky, DiskFault::WritesSticky]),
            _ => DiskFault::Hang { for_ns: self.rng.span(100 * MS, 60 * SECOND) },
        }
    }
}
