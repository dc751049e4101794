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
use rep_tests::faulty_disk::Faults;
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
    world.end_load(spared(plan));
}

/// The fault that was the only one, and mustn't have hurt clients.
fn spared(plan: &Plan) -> Option<Fault> {
    Some(plan.fault).filter(|fault| plan.second.is_none() && fault.spares_clients())
}

/// Everything rests: what clients were told is there, and both disks are the same.
fn judge(world: &mut World, plan: &Plan) {
    if world.lost == Lost::Unflushed {
        let untold = look(world);
        world.lost = Lost::OneNode;
        tell(world, untold);
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
    if plan.fails_a_disk()
        // What that owes clients is told now, and not in the next cycle.
        && let (Some(error), Some(fault)) = (flush(world), spared(plan))
        && world.peer_was_there(fault)
    {
        world.violation(format!("a flush fails, although the peer was there: {error}"));
    }
}

/// Clients have lost what they hadn't flushed. Those whose Primary lived through it are told by the next flush (N2); no other
/// Primary has anything to tell.
fn tell(world: &mut World, untold: u64) {
    let owed = world.primary_is_witness();
    match flush(world) {
        Some(_) if owed => world.tally.losses_told += 1,
        Some(error) => world.violation(format!("a flush fails, and nobody is owed that: {error}")),
        None if owed && untold > 0 => world.violation(format!(
            "{untold} sectors have lost answered writes that weren't flushed, and the flush after it succeeds"
        )),
        None => {}
    }
}

/// A flush, and what was wrong with it. It may fail once, to tell of something; the next must not.
fn flush(world: &mut World) -> Option<io::Error> {
    let mut connection = world.node(world.primary).connection();
    let mut flushed = || {
        let pending = world.ledger.begin_flush();
        let error = connection.flush().err();
        world.ledger.end_flush(pending, error.is_none());
        error
    };
    let first = flushed();
    let again = first.as_ref().and_then(|_| flushed());
    if let (Some(error), Some(again)) = (&first, again) {
        world.violation(format!("a flush fails ({error}), and so does the next: {again}"));
    }
    let _ = connection.close();
    first
}

/// Every sector against the ledger. How many have lost an answered write that no flush told of.
fn look(world: &mut World) -> u64 {
    let mut connection = world.node(world.primary).connection();
    let report = world.ledger.verify(world.lost, |at, buffer| connection.read(at, buffer));
    let _ = connection.close();
    world.tally.sectors_checked += report.checked;
    let count = report.violations.len();
    report.violations.iter().take(5).for_each(|violation| world.violation(violation.clone()));
    if count > 5 {
        world.violation(format!("{} sectors more", count - 5));
    }
    report.untold_lost
}
