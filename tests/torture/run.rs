//! Cycles until enough, each told on the terminal.

use crate::cycle;
use crate::plan::Plan;
use crate::tally::Tally;
use crate::world::{Subject, World};
use rep_tests::logs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// When a run ends: with the first violation, and with either of these.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    pub cycles: Option<u64>,
    pub time: Option<Duration>,
}

/// Runs cycles; `plan` tells what each meets.
pub fn run(subject: &Subject, length: Length, plan: impl Fn(u64) -> Plan) -> Tally {
    let began = Instant::now();
    let mut world = World::new(subject);
    for cycle in 0..length.cycles.unwrap_or(u64::MAX) {
        if length.time.is_some_and(|time| began.elapsed() >= time) {
            break;
        }
        let plan = plan(cycle);
        one(&mut world, &plan, began);
        if !world.tally.violations.is_empty() {
            tell(&world);
            break;
        }
    }
    world.close()
}

/// One cycle; whatever panics in it, a wait without end above all, is a violation.
fn one(world: &mut World, plan: &Plan, began: Instant) {
    let number = world.tally.cycles;
    let cycle_began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| cycle::run(world, plan)));
    if let Err(panic) = outcome {
        let told = panic.downcast_ref::<String>().cloned();
        let told = told.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.violation(told.unwrap_or_else(|| "a panic".to_owned()));
    }
    let verdict = if world.tally.violations.is_empty() { "ok" } else { "VIOLATION" };
    println!(
        "{:>7.1} s  cycle {:>4}  {:>5.1} s  {verdict}  {plan}",
        began.elapsed().as_secs_f64(),
        number + 1,
        cycle_began.elapsed().as_secs_f64()
    );
}

fn tell(world: &World) {
    if world.subject.control {
        return;
    }
    for side in [0, 1] {
        println!("--- the end of {}'s log\n{}", world.node(side).name(), logs::tail(&world.node(side).log(), 60));
    }
    world.tally.violations.iter().for_each(|violation| println!("VIOLATION: {violation}"));
}
