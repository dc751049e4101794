//! When data change behind the engines' backs, and when verifies are asked for.

use crate::plan::{Node, Step};
use crate::rare::RareFault;
use crate::rng::Rng;
use crate::swarm::{MS, SECOND, Swarm};
use rep_engine::Side;

/// Per mille of seeds in which data are changed.
const THEMED: u32 = 150;
/// Per mille of these in which a disk is replaced between two parts of a verify.
const REPLACED: u32 = 400;

/// Changes and verifies of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyPlan {
    /// Changes.
    pub plants: u32,
    /// Verifies asked for after each.
    pub verifies: u32,
}

/// Gives a swarm such changes, if its seed is one of those. What other seeds draw stays as it was.
pub fn draw(swarm: &mut Swarm) {
    let rng = &mut Rng::new(swarm.seed).fork(22);
    if !rng.chance(THEMED) || swarm.may_fork {
        return;
    }
    swarm.verify = VerifyPlan { plants: rng.between(1, 4) as u32, verifies: rng.between(2, 6) as u32 };
    // An image of old data would bring old changes back.
    swarm.rare.rollback = 0;
    if rng.chance(500) {
        // A verify takes a while.
        let whole = rng.span(100 * MS, 10 * SECOND) / MS;
        swarm.resync_rate_max = (swarm.data_bytes * 1000 / whole).max(64 << 10);
    }
    if swarm.resync_rate_max > 0 {
        // At the end all is verified, and copied, before the pair counts as stuck.
        swarm.resync_rate_max = swarm.resync_rate_max.max(swarm.data_bytes / 20);
    }
}

/// Puts a run's changes and verifies among its other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let rng = &mut Rng::new(swarm.seed).fork(23);
    let VerifyPlan { plants, verifies } = swarm.verify;
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    for _ in 0..plants.min(times.len() as u32) {
        let volume = rng.below(swarm.volumes as u64) as usize;
        let first = rng.below(times.len() as u64);
        let mut changed = times[first as usize];
        for _ in 0..rng.between(1, 3) {
            let fault = RareFault::Plant { node: rng.below(2) as Node, volume, draw: rng.bits() };
            steps.push((changed, Step::Rare(fault)));
            changed += rng.below(200 * MS);
        }
        for _ in 0..verifies {
            let at = times[rng.between(first, times.len() as u64 - 1) as usize] + rng.below(MS);
            let node = rng.below(2) as Node;
            let repair = rng.pick(&[None, None, Some(Side::Local), Some(Side::Peer)]);
            steps.push((at, Step::Rare(RareFault::Verify { node, volume, repair })));
            if rng.chance(200) {
                let stop = Step::StopVerify { node, volume };
                steps.push((at + rng.below(SECOND), stop));
            } else if rng.chance(200) {
                let pause = Step::Pause { node, volume, for_ns: rng.span(10 * MS, 5 * SECOND) };
                steps.push((at + rng.below(500 * MS), pause));
            }
        }
    }
    replace_a_disk(steps, swarm, &times);
    steps.sort_by_key(|(at, _)| *at);
}

/// Verifies that are stopped again and again, until the node that follows is installed anew; and verifies after that.
fn replace_a_disk(steps: &mut Vec<(u64, Step)>, swarm: &Swarm, times: &[u64]) {
    let rng = &mut Rng::new(swarm.seed).fork(26);
    if times.is_empty() || !rng.chance(REPLACED) {
        return;
    }
    let (node, volume) = (rng.below(2) as Node, rng.below(swarm.volumes as u64) as usize);
    let mut at = rng.pick(times);
    for _ in 0..rng.between(1, 6) {
        steps.push((at, Step::Verify { node, volume }));
        at += rng.span(MS, SECOND);
        steps.push((at, Step::StopVerify { node, volume }));
        at += rng.below(100 * MS);
    }
    steps.push((at, Step::Reinstall { node: 1 - node, down_ns: rng.below(SECOND) }));
    for _ in 0..6 {
        at += rng.span(SECOND, 10 * SECOND);
        steps.push((at, Step::Verify { node, volume }));
    }
}
