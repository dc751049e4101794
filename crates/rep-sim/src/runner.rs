//! One run, start to end, as a function.

use crate::counters::Counters;
use crate::failure::{Failure, Kind};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The violation, if one.
    pub failure: Option<Failure>,
    /// The rare states it reached.
    pub counters: Counters,
    /// What it did.
    pub trace: Trace,
    /// Operations each node's disks were asked for.
    pub disk_ops: [u64; 2],
}

/// Runs a plan. A panic of the product is a failure too (where panics unwind; else the process ends by it).
pub fn run(plan: Plan, trace: bool) -> Outcome {
    let mut world = World::new(plan, trace);
    let panicked = catch_unwind(AssertUnwindSafe(|| world.run())).err();
    if let Some(panic) = panicked {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".to_owned());
        world.failure = Some(Failure { kind: Kind::Crash, invariant: "panic", detail: text });
    }
    let disk_ops = [0, 1].map(|node| world.nodes[node].ops_ended);
    Outcome { failure: world.failure, counters: world.counters, trace: world.trace, disk_ops }
}
