//! One cycle: clients work, a fault strikes, perhaps a second, all is mended, and everything is judged.
//!
//! ```text
//!   in sync, clients work --> strike [--> strike again] --> mend: link, daemons, disks, a Primary
//!        ^                                                      |
//!        |                                                      v
//!        +---- ledger against every sector <--- disks equal <--- in sync
//! ```

use crate::plan::Plan;
use crate::strike::strike;
use crate::world::{SOON, World};
use rep_tests::faulty_disk::Faults;
use rep_tests::ledger::Lost;
use rep_tests::random::Random;
use rep_tests::status::Resource;
use std::thread::sleep;
use std::time::Duration;

/// Runs it.
pub fn run(world: &mut World, plan: &Plan) {
    let mut random = Random::new(plan.load_seed);
    world.load_seed = plan.load_seed;
    world.calm = true;
    world.lost = Lost::OneNode;
    world.links_lost_before = world.links_lost();
    world.begin_load();
    world.wait_for_answers(50);
    sleep(Duration::from_millis(plan.before_ms));
    strike(world, plan.fault, &mut random);
    if let Some((second, after_ms, mending)) = plan.second {
        if mending {
            begin_mending(world);
        }
        sleep(Duration::from_millis(after_ms));
        strike(world, second, &mut random);
    }
    mend(world, plan);
    judge(world, plan);
    world.tally.cycles += 1;
}

/// Takes every fault away and starts what isn't running; waits for nothing else.
fn begin_mending(world: &mut World) {
    world.cluster.network.heal();
    for side in [0, 1] {
        world.set_faults(side, Faults::NONE);
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
    let lost = |resource: &Resource| matches!(resource.volume().disk.as_str(), "Diskless" | "Failed");
    if world.state(side).as_ref().is_some_and(lost) {
        let _ = world.node(side).verb("attach"); // refused while it is being let go of: tried again
    }
}

fn mend(world: &mut World, plan: &Plan) {
    if plan.quiet {
        end_load(world, plan);
    }
    let copied = world.copied_bytes();
    let differing = world.disks[0].differing_bytes(&world.disks[1], world_bytes(world)).0;
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

fn world_bytes(world: &World) -> u64 {
    u64::from(world.ledger.sectors()) * 512
}

fn end_load(world: &mut World, plan: &Plan) {
    let alone = plan.second.is_none() && plan.fault.spares_clients();
    world.end_load(alone.then_some(plan.fault));
}

/// Everything rests: what clients were told is there, and both disks are the same.
fn judge(world: &mut World, plan: &Plan) {
    if world.lost == Lost::Unflushed {
        look(world);
        world.lost = Lost::OneNode;
    }
    if !world.has_load() && !plan.quiet {
        // It must not only be there, it must work.
        world.begin_load();
        world.wait_for_answers(20);
    }
    end_load(world, plan);
    [0, 1].iter().for_each(|&side| drop(world.node(side).wait_in_sync()));
    look(world);
    let bytes = world_bytes(world);
    let (differing, first) = world.disks[0].differing_bytes(&world.disks[1], bytes);
    world.tally.bytes_compared += bytes;
    if let Some(at) = first {
        world.violation(format!("the disks differ: {differing} bytes of blocks, the first at {at}; both say in sync"));
    }
}

/// Every sector against the ledger.
fn look(world: &mut World) {
    let mut connection = world.node(world.primary).connection();
    let report = world.ledger.verify(world.lost, |at, buffer| connection.read(at, buffer));
    let _ = connection.close();
    world.tally.sectors_checked += report.checked;
    let count = report.violations.len();
    report.violations.iter().take(5).for_each(|violation| world.violation(violation.clone()));
    if count > 5 {
        world.violation(format!("{} sectors more", count - 5));
    }
}
