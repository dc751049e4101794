//! One cycle: clients work, a fault strikes, perhaps a second, all is mended, and everything is judged.
//!
//! ```text
//!   in sync, clients work --> strike [--> strike again] --> mend: link, daemons, disks, a Primary
//!        ^                                                      |
//!        |                                                      v
//!        +---- ledger against every sector <--- disks equal <--- in sync
//! ```

use crate::plan::{Fault, Plan};
use crate::strike::strike;
use crate::world::{SOON, World};
use rep_tests::ledger::Lost;
use rep_tests::random::Random;
use rep_tests::status::Resource;
use std::io;
use std::thread::sleep;
use std::time::Duration;

/// Runs it.
pub fn run(world: &mut World, plan: &Plan) {
    let mut random = Random::new(plan.load_seed);
    world.load_seed = plan.load_seed;
    world.calm = true;
    world.volumes.iter_mut().for_each(|volume| volume.lost = Lost::OneNode);
    world.links_lost_before = world.links_lost();
    world.begin_load();
    world.wait_for_answers(50);
    sleep(Duration::from_millis(plan.before_ms));
    strike(world, plan.fault, plan.on[0], &mut random);
    if let Some((second, after_ms, mending)) = plan.second {
        if mending {
            begin_mending(world);
        }
        sleep(Duration::from_millis(after_ms));
        strike(world, second, plan.on[1], &mut random);
    }
    mend(world, plan);
    judge(world, plan);
    world.tally.cycles += 1;
}

/// Takes every fault away and starts what isn't running; waits for nothing else.
fn begin_mending(world: &mut World) {
    world.cluster.network.heal();
    for side in [0, 1] {
        world.mend_disks(side);
        world.thaw(side);
        if !world.node(side).is_started() {
            world.node_mut(side).start();
        }
    }
    // The one that clients worked with last first: its data are the newest, if any are.
    for side in [world.primary, 1 - world.primary] {
        attach(world, side);
    }
}

/// A disk that failed and works again is taken back.
fn attach(world: &World, side: usize) {
    let lost = |resource: &Resource| {
        resource.volumes.iter().any(|volume| matches!(volume.disk.as_str(), "Diskless" | "Failed"))
    };
    if world.state(side).as_ref().is_some_and(lost) {
        let _ = world.node(side).verb("attach"); // refused while it is being let go of: tried again
    }
}

fn mend(world: &mut World, plan: &Plan) {
    if plan.quiet {
        end_load(world, plan);
    }
    let copied = world.copied_bytes();
    let differing = world.volumes.iter().map(|volume| volume.differing_bytes().0).sum::<u64>();
    begin_mending(world);
    let mut last = [String::new(), String::new()];
    rep_tests::until("both nodes in sync, with a Primary", 2 * SOON, || {
        let states = [world.state(0), world.state(1)];
        for (line, state) in last.iter_mut().zip(&states) {
            *line = state.as_ref().map_or_else(|| "no answer".to_owned(), Resource::line);
        }
        [world.primary, 1 - world.primary].iter().for_each(|&side| attach(world, side));
        let [Some(alpha), Some(beta)] = &states else { return Err(last.join(" | ")) };
        if alpha.role != "Primary" && beta.role != "Primary" && alpha.connection == "Connected" {
            promote(world);
        }
        let settled = alpha.is_in_sync() && beta.is_in_sync() && (alpha.role == "Primary") != (beta.role == "Primary");
        if settled { Ok(()) } else { Err(last.join(" | ")) }
    });
    if plan.quiet {
        let copied = world.copied_bytes() - copied;
        let resynced = &mut world.tally.resynced[usize::from(plan.crashes_a_primary())];
        resynced.differing_bytes += differing;
        resynced.copied_bytes += copied;
    }
}

/// Nobody is Primary, both are connected: the last one, or whoever may.
fn promote(world: &mut World) {
    for side in [world.primary, 1 - world.primary] {
        if world.node(side).verb("primary").code == 0 {
            world.primary = side;
            return;
        }
    }
}

fn end_load(world: &mut World, plan: &Plan) {
    world.end_load(spared(plan));
}

/// The fault that was the only one, and mustn't have hurt clients.
fn spared(plan: &Plan) -> Option<Fault> {
    Some(plan.fault).filter(|fault| plan.second.is_none() && fault.spares_clients())
}

/// Everything rests: what clients were told is there, and both disks are the same.
fn judge(world: &mut World, plan: &Plan) {
    let volumes = 0..world.volumes.len();
    for volume in volumes.clone() {
        if world.volumes[volume].lost == Lost::Unflushed {
            let untold = look(world, volume);
            world.volumes[volume].lost = Lost::OneNode;
            tell(world, volume, untold);
        }
    }
    if !world.has_load() && !plan.quiet {
        // It must not only be there, it must work.
        world.begin_load();
        world.wait_for_answers(20);
    }
    end_load(world, plan);
    [0, 1].iter().for_each(|&side| drop(world.node(side).wait_in_sync()));
    for volume in volumes {
        look(world, volume);
        let (differing, first) = world.volumes[volume].differing_bytes();
        world.tally.bytes_compared += world.volumes[volume].bytes();
        if let Some(at) = first {
            let what = format!("the disks differ: {differing} bytes of blocks, the first at {at}; both say in sync");
            world.volume_violation(volume, what);
        }
        if plan.fails_a_disk()
            // What that owes clients is told now, and not in the next cycle.
            && let (Some(error), Some(fault)) = (flush(world, volume), spared(plan))
            && world.peer_was_there(fault)
        {
            world.volume_violation(volume, format!("a flush fails, although the peer was there: {error}"));
        }
    }
}

/// Clients have lost what they hadn't flushed. Those whose Primary lived through it are told by the next flush (N2); no other
/// Primary has anything to tell.
fn tell(world: &mut World, volume: usize, untold: u64) {
    let owed = world.volumes[volume].witness.take() == Some(world.primary);
    match flush(world, volume) {
        Some(_) if owed => world.tally.losses_told += 1,
        Some(error) => world.volume_violation(volume, format!("a flush fails, and nobody is owed that: {error}")),
        None if owed && untold > 0 => {
            let what = format!(
                "{untold} sectors have lost answered writes that weren't flushed, and the flush after it succeeds"
            );
            world.volume_violation(volume, what);
        }
        None => {}
    }
}

/// A flush, and what was wrong with it. It may fail once, to tell of something; the next must not.
fn flush(world: &mut World, volume: usize) -> Option<io::Error> {
    let [first, again] = world.volumes[volume].flush(world.node(world.primary));
    if let (Some(error), Some(again)) = (&first, again) {
        world.volume_violation(volume, format!("a flush fails ({error}), and so does the next: {again}"));
    }
    first
}

/// Every sector against the ledger. How many have lost an answered write that no flush told of.
fn look(world: &mut World, volume: usize) -> u64 {
    let report = world.volumes[volume].look(world.node(world.primary));
    world.tally.sectors_checked += report.checked;
    let count = report.violations.len();
    report.violations.iter().take(5).for_each(|violation| world.volume_violation(volume, violation.clone()));
    if count > 5 {
        world.volume_violation(volume, format!("{} sectors more", count - 5));
    }
    report.untold_lost
}
