//! Directed runs in which a node is told to become Primary beside a disk that is ahead of the only one in reach and is just coming.
//!
//! ```text
//!   one node   Primary, alone, writes; gives the role and the disk up; meets the other      attach
//!   the other                                                                              promote
//! ```
//!
//! The other can't know that it is behind before it has heard of that disk; who is ahead is found out first, or its clients
//! would see what has been overwritten (R29). Ordinary seeds meet such a moment once in tens of thousands: it was found by
//! seed 626126. Sometimes it is the one that was ahead which is told to, with the other's disk alone in reach (seed 1242603).

use crate::counters::Sometimes;
use crate::plan::{ClientOp, DiskFault, LinkFault, Step};
use crate::rng::Rng;
use crate::swarm::{MS, SECOND, Swarm};
use crate::world::{Due, World};
use rep_engine::Command;
use rep_types::{ConnectionState, DiskState, Role};

/// Per mille of the seeds that have it.
const THEMED: u32 = 120;
/// Per mille of the times in which the role is asked for where the disk comes.
const ASKS_ITSELF: u32 = 400;
/// How long, and how often, a stage waits for what it takes.
const LOOK_PAUSE: u64 = 10 * MS;
const LOOKS_MAX: u32 = 300;
/// How long a promotion takes whose mark is being written while the disk comes: longer than any attach.
const SLOW_MARK: u64 = 2 * SECOND;

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Newer {
    /// Which node is ahead.
    node: usize,
    stage: Stage,
    looks: u32,
    draw: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The link was reset: the other doesn't hear that it is left, so its disk isn't Outdated.
    Cut,
    Alone,
    Written,
    Secondary,
    Diskless,
    Connected,
}

impl Stage {
    fn next(self) -> Option<Stage> {
        match self {
            Stage::Cut => Some(Stage::Alone),
            Stage::Alone => Some(Stage::Written),
            Stage::Written => Some(Stage::Secondary),
            Stage::Secondary => Some(Stage::Diskless),
            Stage::Diskless => Some(Stage::Connected),
            Stage::Connected => None,
        }
    }
}

fn has(swarm: &Swarm) -> Option<Rng> {
    let mut rng = Rng::new(swarm.seed).fork(61);
    rng.chance(THEMED).then_some(rng)
}

/// Whether the role is asked for where the disk is that is ahead. Who asks beside it may be left alone with an older disk, without having
/// heard that the other lives: that is for the operator to know, so there the other hears that it is left, and is Outdated.
fn asks_itself(draw: u64) -> bool {
    Rng::new(draw).fork(1).chance(ASKS_ITSELF)
}

/// Puts them among a run's other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let Some(mut rng) = has(swarm).map(|rng| rng.fork(1)) else { return };
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    for _ in 0..rng.between(1, 4) {
        steps.push((rng.pick(&times), Step::Newer { draw: rng.bits() }));
    }
    steps.sort_by_key(|(at, _)| *at);
}

impl World {
    /// The Primary goes on alone.
    pub(crate) fn newer(&mut self, draw: u64) {
        let Some(node) = (0..2).find(|node| self.role(*node) == Role::Primary) else { return };
        let in_sync = self.is_connected(node) && (0..self.swarm.volumes).all(|volume| self.is_good(1 - node, volume));
        if !in_sync || self.is_guarded() || self.history.forked {
            return;
        }
        let stage = if asks_itself(draw) {
            self.break_link(LinkFault::Reset, SECOND);
            Stage::Cut
        } else {
            self.command(node, Command::Disconnect { force: true });
            Stage::Alone
        };
        self.look_at_newer(Newer { node, stage, looks: 0, draw });
    }

    /// Goes on once the stage has come to its end; gives up when it doesn't, since something else has come between.
    pub(crate) fn look_at_newer(&mut self, newer: Newer) {
        if self.operator.healing || newer.looks > LOOKS_MAX {
            return;
        }
        if !self.newer_is_through(newer) {
            return self.after(LOOK_PAUSE, Due::Newer(Newer { looks: newer.looks + 1, ..newer }));
        }
        self.after_newer_stage(newer);
        if let Some(stage) = newer.stage.next() {
            self.after(LOOK_PAUSE, Due::Newer(Newer { stage, looks: 0, ..newer }));
        }
    }

    fn newer_is_through(&self, newer: Newer) -> bool {
        let node = newer.node;
        let Some(shown) = self.snapshot(node) else { return false };
        match newer.stage {
            Stage::Cut => !self.is_connected(node),
            Stage::Alone => shown.connection == ConnectionState::StandAlone && shown.role == Role::Primary,
            Stage::Written => !self.clients.outstanding.values().any(|asked| asked.node == node),
            Stage::Secondary => shown.role == Role::Secondary && self.operator.pending.is_empty(),
            Stage::Diskless => shown.volumes.iter().all(|volume| volume.disk == DiskState::Diskless),
            Stage::Connected => self.is_connected(node) && self.is_connected(1 - node),
        }
    }

    fn after_newer_stage(&mut self, newer: Newer) {
        let node = newer.node;
        let volumes = 0..self.swarm.volumes;
        match newer.stage {
            Stage::Cut => self.command(node, Command::Disconnect { force: true }),
            Stage::Alone => {
                for volume in volumes {
                    let write = ClientOp::Write { first: self.swarm.focus_blocks[0] * 8, count: 8, fua: true };
                    self.client(volume, node as u32, write);
                }
            }
            Stage::Written => self.demote(node, false),
            Stage::Secondary => volumes.for_each(|volume| {
                self.command(node, Command::Detach { volume: Self::number(volume), force: false });
            }),
            Stage::Diskless => self.command(node, Command::Connect { discard_my_data: false }),
            Stage::Connected => self.newer_meets(newer),
        }
    }

    /// The disk comes while the role is asked for, or while that is being recorded.
    fn newer_meets(&mut self, newer: Newer) {
        let (node, other) = (newer.node, 1 - newer.node);
        let mut rng = Rng::new(newer.draw);
        self.seen(Sometimes::NewerDiskComes);
        let asks = if asks_itself(newer.draw) { node } else { other };
        let comes = if asks == node {
            self.command(node, Command::Promote { force: false });
            if rng.chance(500) { rng.below(8 * self.swarm.disk_latency.1) } else { rng.span(MS, 4 * SECOND) }
        } else if rng.chance(500) {
            let for_ns = rng.below(SECOND);
            for volume in 0..self.swarm.volumes {
                self.break_disk(node, volume, DiskFault::Hang { for_ns });
            }
            self.after(rng.below(8 * self.swarm.disk_latency.1), Due::Promote { node: other });
            0
        } else {
            for volume in 0..self.swarm.volumes {
                self.break_disk(other, volume, DiskFault::Hang { for_ns: SLOW_MARK });
            }
            self.command(other, Command::Promote { force: false });
            2 * self.swarm.link_latency.1 + rng.span(MS, 30 * MS)
        };
        for volume in 0..self.swarm.volumes {
            self.after(comes, Due::Attach { node, volume });
            let read = ClientOp::Read { first: self.swarm.focus_blocks[0] * 8, count: 8 };
            for after in [SECOND, 3 * SECOND] {
                self.after(after, Due::Scene(Step::Client { volume, client: asks as u32, op: read }));
            }
        }
    }
}
