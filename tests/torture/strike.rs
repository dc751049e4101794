//! A fault strikes.

use crate::plan::{Fault, Which};
use crate::world::{SOON, World};
use rep_tests::faulty_disk::Faults;
use rep_tests::random::Random;
use rep_tests::status::Resource;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Does it, waits as long as it lasts, and takes away what goes away by itself. Afterwards clients work on whoever is
/// Primary, if anybody is. `on`: whose disk it is that fails, if one does.
pub fn strike(world: &mut World, fault: Fault, on: usize, random: &mut Random) {
    world.tally.struck(fault);
    let (primary, secondary) = (world.primary, 1 - world.primary);
    match fault {
        Fault::Kill(Which::Primary) => primary_dies(world, |world| world.kill(primary)),
        Fault::PowerCut(Which::Primary) => {
            let mut random = random.clone();
            primary_dies(world, |world| world.cut_power(primary, &mut random));
        }
        Fault::FreezeAndKill(ms) => {
            world.freeze(primary);
            sleep(Duration::from_millis(ms));
            primary_dies(world, |world| world.kill(primary));
        }
        Fault::Kill(Which::Secondary) => world.kill(secondary),
        Fault::PowerCut(Which::Secondary) => {
            for volume in 0..world.volumes.len() {
                if !has_good_disk(world, primary, volume) {
                    world.end_load_of(volume, None);
                    world.unflushed_is_lost_beside(primary, volume);
                }
            }
            world.cut_power(secondary, random);
        }
        Fault::KillBoth => {
            [primary, secondary].iter().for_each(|&side| world.kill(side));
            world.end_load(None);
        }
        Fault::PowerCutBoth => {
            [primary, secondary].iter().for_each(|&side| world.cut_power(side, random));
            world.unflushed_is_lost();
            world.end_load(None);
        }
        Fault::Freeze(which, ms) => {
            let side = world.side(which);
            world.freeze(side);
            sleep(Duration::from_millis(ms));
            world.thaw(side);
        }
        Fault::CutLink(how, ms) => {
            world.cluster.network.cut(how);
            sleep(Duration::from_millis(ms));
        }
        Fault::SlowLink(megabits, ms) => {
            world.cluster.network.slow(megabits);
            sleep(Duration::from_millis(ms));
        }
        Fault::Corrupt(which, offset, bytes) => corrupt(world, world.side(which), offset, bytes),
        Fault::DiskFails(which, operations, errno, times) => {
            world.set_faults(world.side(which), on, World::failing(operations, errno, times));
            sleep(Duration::from_millis(600));
        }
        Fault::SlowDisk(which, delay_ms, ms) => {
            let delay = Duration::from_millis(delay_ms);
            world.set_faults(world.side(which), on, Faults { delay, ..Faults::NONE });
            sleep(Duration::from_millis(ms));
        }
        Fault::HungDisk(which, ms) => {
            let side = world.side(which);
            world.set_faults(side, on, Faults { hung: true, ..Faults::NONE });
            sleep(Duration::from_millis(ms));
            world.set_faults(side, on, Faults::NONE);
        }
        Fault::Restart(which) => restart(world, world.side(which)),
        Fault::SwitchOver => switch_over(world),
    }
    world.calm = false;
}

/// Whether a node's own disk of this volume holds all there is.
fn has_good_disk(world: &World, side: usize, volume: usize) -> bool {
    let good = |resource: &Resource| resource.volumes.get(volume).is_some_and(|volume| volume.disk == "UpToDate");
    world.answers(side) && world.state(side).as_ref().is_some_and(good)
}

/// The Primary is lost; if the other has all that clients were told, it takes over, else nobody does for now.
fn primary_dies(world: &mut World, death: impl FnOnce(&mut World)) {
    let died = Instant::now();
    let power_before = world.tally.sectors_lost_by_power_cuts;
    death(world);
    world.end_load(None);
    if world.other_is_good() {
        if let Err(why) = world.fail_over(died) {
            world.violation(format!("the survivor has all data and was not promoted: {why}"));
        }
        return;
    }
    // The dead one may have answered alone, or the other may be half filled.
    if world.tally.sectors_lost_by_power_cuts > power_before {
        world.unflushed_is_lost();
    }
    promote_half_filled(world);
}

/// Nobody may promote a disk that is being filled (I-G5).
fn promote_half_filled(world: &mut World) {
    let other = 1 - world.primary;
    let half_filled = |resource: &Resource| {
        resource.role == "Secondary" && resource.volumes.iter().any(|volume| volume.disk == "Inconsistent")
    };
    if world.answers(other)
        && world.state(other).as_ref().is_some_and(half_filled)
        && world.node(other).verb("primary").code == 0
    {
        world.violation("a half filled disk was promoted without force".to_owned());
    }
}

/// One packet is changed; the link must go down for it, and come back.
fn corrupt(world: &mut World, side: usize, offset: u32, bytes: u32) {
    let before = world.damages_told();
    let log_before = [0, 1].map(|side| world.node(side).log().len());
    world.cluster.network.corrupt_one(side, offset, bytes);
    let deadline = Instant::now() + Duration::from_secs(4);
    let injected = loop {
        let injected = world.cluster.network.corrupted(side);
        if injected > 0 || Instant::now() > deadline {
            break injected;
        }
        sleep(Duration::from_millis(20));
    };
    if injected == 0 {
        return; // no packet was that long
    }
    world.tally.corruptions_injected += injected;
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if world.damages_told() > before {
            world.tally.corruptions_detected += injected;
            return;
        }
        sleep(Duration::from_millis(20));
    }
    let since = [0, 1].map(|side| {
        let node = world.node(side);
        node.log()
            .get(log_before[side]..)
            .unwrap_or_default()
            .lines()
            .map(|line| format!("\n    {}: {line}", node.name()))
            .collect::<String>()
    });
    // Not wrong by itself: a packet may wait for a frozen node until its connection has been given up, and is never read.
    world.tally.unseen_corruptions.push(format!(
        "cycle {}: to {}, offset {offset}{}",
        world.tally.cycles + 1,
        world.node(side).name(),
        since.concat()
    ));
}

fn restart(world: &mut World, side: usize) {
    if world.answers(side) {
        world.forget_witness(side);
        world.node_mut(side).stop();
        sleep(Duration::from_millis(100));
        world.node_mut(side).start();
    }
}

/// The operator's way: demote here, promote there. Only where both have everything.
fn switch_over(world: &mut World) {
    let (primary, other) = (world.primary, 1 - world.primary);
    let in_sync = |world: &World, side| world.answers(side) && world.state(side).is_some_and(|r| r.is_in_sync());
    if !world.has_load() || !in_sync(world, primary) || !in_sync(world, other) {
        return;
    }
    world.end_load(None);
    rep_tests::until("the demotion", SOON, || match world.node(primary).verb("secondary") {
        done if done.code == 0 => Ok(()),
        refused => Err(refused.stderr),
    });
    rep_tests::until("the promotion", SOON, || match world.node(other).verb("primary") {
        done if done.code == 0 => Ok(()),
        refused => Err(refused.stderr),
    });
    world.primary = other;
    world.begin_load();
}
