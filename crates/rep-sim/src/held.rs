//! Directed runs of pairs with two volumes: writes whose answer waits because the other volume's disk is gone, which the peer
//! is to record, and whose own volume's last good data go meanwhile.
//!
//! An answer that is held is none yet (R32), whatever it waits for. Whether one goes out all the same the checks of answers
//! see; here such moments are made, which ordinary seeds meet once in thousands: a round trip of the link lies between the
//! lost disk and its record, and in it the write must end, the disk be given up and the link go.

use crate::plan::{ClientOp, LinkFault, Node, Step};
use crate::rng::Rng;
use crate::swarm::{MS, Swarm};
use crate::theme::BusyStep;

/// Per mille of the seeds with two volumes that have it.
const THEMED: u32 = 200;
/// Writes around the moment at which the other disk goes.
const WRITES: u32 = 6;

fn has(swarm: &Swarm) -> Option<Rng> {
    let mut rng = Rng::new(swarm.seed).fork(43);
    (swarm.volumes == 2 && rng.chance(THEMED)).then_some(rng)
}

/// Gives a swarm what it takes, if its seed is one of those.
pub fn draw(swarm: &mut Swarm) {
    let Some(mut rng) = has(swarm) else { return };
    swarm.part_nodes(&mut rng, (5 * MS, 10 * MS));
}

/// Puts them among a run's other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let Some(mut rng) = has(swarm).map(|rng| rng.fork(1)) else { return };
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    let trip = 2 * swarm.link_latency.0;
    for _ in 0..rng.between(4, 12) {
        let goes = rng.pick(&times) + trip;
        let (node, volume) = (rng.below(2) as Node, rng.below(2) as usize);
        for _ in 0..WRITES {
            let first = rng.pick(&swarm.focus_blocks) * 8;
            let write = ClientOp::Write { first, count: 8, fua: false };
            let client = rng.below(3) as u32;
            steps.push((goes - rng.below(trip), Step::Client { volume, client, op: write }));
        }
        let after_ns = rng.span(100 * MS, 400 * MS);
        steps.push((goes, Step::Busy(BusyStep::Reattach { node, volume: 1 - volume, after_ns })));
        let given_up = goes + trip / 2 + rng.below(trip / 2);
        steps.push((given_up, Step::Invalidate { node, volume }));
        let for_ns = rng.span(20 * MS, 80 * MS);
        steps.push((given_up + rng.below(MS), Step::Link { fault: LinkFault::Reset, for_ns }));
    }
    steps.sort_by_key(|(at, _)| *at);
}
