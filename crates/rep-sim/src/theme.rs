//! Directed runs: a part of the seeds has a theme, a mixture of few faults that ordinary seeds meet once in thousands.
//!
//! A busy operator takes disks away and links down under load, and brings them back at once, over and over, while resyncs
//! are slow and clients write the same few blocks. That is where a Primary is the target and reads what isn't there
//! yet, where a target's disk goes in the middle of a resync, and where a write goes past a peer that is taking its
//! leave with a flush still unanswered.

use crate::plan::{Node, Step};
use crate::rng::Rng;
use crate::swarm::{Beginning, MS, SECOND, Swarm, US, Weights};
use crate::world::{Due, World};
use rep_engine::Command;
use rep_types::{Fencing, Role};

/// Per mille of seeds that have the theme.
const THEMED: u32 = 220;
/// The blocks clients use then, at most.
const FOCUS_MAX: usize = 10;
/// Per mille of the steps that are the busy operator's.
const BUSY_STEPS: u32 = 50;
/// The same of one who takes connections down most of the time: again in the middle of the resync that follows.
const RECONNECTING_STEPS: u32 = 300;

/// Per mille of the theme's seeds that may have fencing.
const FENCED: u32 = 200;

/// What the busy operator does: something, and the opposite soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum BusyStep {
    Reconnect { node: Node, after_ns: u64 },
    Reattach { node: Node, volume: usize, after_ns: u64 },
}

/// Gives a swarm the theme, if its seed is one of those. What other seeds draw stays as it was.
pub fn draw(swarm: &mut Swarm) {
    let rng = &mut Rng::new(swarm.seed).fork(11);
    if !rng.chance(THEMED) {
        return;
    }
    let reconnects = rng.pick(&[100, 500, 900, 900]);
    swarm.busy_operator = Some(reconnects);
    // A resync of everything takes seconds, one by bitmap a good part of one.
    let whole = rng.span(SECOND, 8 * SECOND) / MS;
    swarm.resync_rate_max = (swarm.data_bytes * 1000 / whole).min(rng.pick(&[64 << 10, 256 << 10, 4 << 20]));
    if swarm.data_bytes > 4 << 20 {
        swarm.resync_rate_max = swarm.resync_rate_max.max(1 << 20);
    }
    let focus = rng.between(3, FOCUS_MAX as u64) as usize;
    swarm.focus_blocks.truncate(focus);
    swarm.steps = rng.between(200, 500) as usize;
    swarm.connect_interval = rng.span(10 * MS, 200 * MS);
    swarm.client_mix = [rng.between(4, 16) as u32, rng.between(6, 16) as u32, rng.below(4) as u32, rng.below(2) as u32];
    swarm.link_latency = (200 * US, rng.span(MS, 20 * MS));
    if reconnects > 500 {
        // Flushes all the time, whose answers are long on their way.
        swarm.fua = 300;
        swarm.client_mix[2] = 8;
        swarm.disk_latency = (20 * US, rng.span(100 * US, 2 * MS));
        swarm.link_latency = (2 * MS, rng.span(10 * MS, 40 * MS));
        swarm.resync_rate_max = rng.pick(&[64 << 10, 128 << 10]).max(swarm.data_bytes >> 8);
        swarm.beginning = Beginning::SkipSync;
    }
    swarm.weights = Weights {
        client: 300,
        promote: rng.pick(&[0, 4, 8]),
        attach: rng.pick(&[0, 2]),
        link: rng.pick(&[0, 1, 3]),
        disk_fault: rng.pick(&[0, 1, 3]),
        crash: rng.pick(&[0, 1]),
        power: rng.pick(&[0, 1]),
        resync: rng.pick(&[0, 2]),
        connect: 0,
        power_both: 0,
        reinstall: 0,
        shutdown: 0,
        suspend: 0,
        force: 0,
    };
    if !rng.chance(FENCED) {
        // Fencing holds writes back when a peer takes its leave; here they are to go past it.
        swarm.fence.fencing = Fencing::DontCare;
    }
}

/// A step of the busy operator, now and then.
pub fn step(rng: &mut Rng, swarm: &Swarm) -> Option<Step> {
    let reconnects = swarm.busy_operator?;
    if !rng.chance(if reconnects > 500 { RECONNECTING_STEPS } else { BUSY_STEPS }) {
        return None;
    }
    let node = rng.below(2) as Node;
    let volume = rng.below(swarm.volumes as u64) as usize;
    let after_ns = rng.span(10 * MS, 2 * SECOND);
    let step = match rng.chance(reconnects) {
        // Most of these are to be together, in a resync.
        true if reconnects > 500 => BusyStep::Reconnect { node, after_ns: after_ns / 8 },
        true => BusyStep::Reconnect { node, after_ns },
        false => BusyStep::Reattach { node, volume, after_ns },
    };
    Some(Step::Busy(step))
}

impl World {
    /// The busy operator's step.
    pub(crate) fn busy(&mut self, step: BusyStep) {
        match step {
            BusyStep::Reconnect { node, after_ns } => {
                // Three times in four it is the Primary who leaves: writes go past the peer until that has noted it.
                let primary = (0..2).find(|node| self.role(*node) == Role::Primary);
                let node = primary.filter(|_| !after_ns.is_multiple_of(4)).unwrap_or(node);
                self.command(node, Command::Disconnect { force: false });
                self.after(after_ns, Due::Command { node, command: Command::Connect { discard_my_data: false } });
            }
            BusyStep::Reattach { node, volume, after_ns } => {
                self.command(node, Command::Detach { volume: Self::number(volume), force: false });
                self.after(after_ns, Due::Attach { node, volume });
            }
        }
    }
}
