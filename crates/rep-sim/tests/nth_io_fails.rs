//! The first disk operation of a node fails, then the second, then the third, … until a run passes untouched; for each
//! node of each scenario. Whatever fails, nothing answered is lost and the pair comes to rest.

use rep_sim::plan::{ClientOp, LinkFault, Step};
use rep_sim::swarm::{MS, SECOND};
use rep_sim::{Plan, Swarm, run};

/// Among these, swarms of one and two volumes, of both beginnings, with and without stable answers. Without
/// optimization only the first: `cargo test --profile sim -p rep-sim --test nth_io_fails` runs them all.
const SEEDS: std::ops::Range<u64> = if cfg!(debug_assertions) { 0..1 } else { 0..6 };

fn swarm(seed: u64) -> Swarm {
    // The last extents are small in every swarm: these scenarios use the first blocks only.
    Swarm { slow_rate: 0, may_fork: false, ..Swarm::of(seed) }
}

fn write(client: u32, block: u32, fua: bool) -> Step {
    Step::Client { volume: 0, client, op: ClientOp::Write { first: block * 8, count: 8, fua } }
}

fn flush() -> Step {
    Step::Client { volume: 0, client: 0, op: ClientOp::Flush }
}

fn read(block: u32) -> Step {
    Step::Client { volume: 0, client: 1, op: ClientOp::Read { first: block * 8, count: 8 } }
}

/// Steps with the time between them.
fn scenarios() -> Vec<(&'static str, Vec<(u64, Step)>)> {
    let lost = Step::Link { fault: LinkFault::Reset, for_ns: 3 * SECOND };
    let crash = Step::Crash { node: 0, down_ns: SECOND };
    vec![
        ("writes and a flush", vec![(0, write(0, 0, false)), (MS, write(1, 1, true)), (MS, flush()), (MS, read(0))]),
        (
            "the link is lost, writes go on, a resync follows",
            vec![
                (0, write(0, 0, false)),
                (MS, lost),
                (SECOND, write(0, 1, false)),
                (MS, flush()),
                (9 * SECOND, read(1)),
            ],
        ),
        (
            "the Primary is killed and comes back",
            vec![(0, write(0, 0, false)), (MS, write(1, 2, true)), (0, crash), (5 * SECOND, Step::Promote { node: 1 })],
        ),
        (
            "a switch, and a second one",
            vec![(0, write(0, 0, false)), (MS, Step::Switch), (SECOND, write(0, 0, true)), (SECOND, Step::Switch)],
        ),
        (
            "a clean leave, a detach and an attach",
            vec![
                (0, write(0, 0, false)),
                (MS, Step::Disconnect { node: 1, force: false }),
                (SECOND, write(0, 1, true)),
                (MS, Step::Detach { node: 1, volume: 0 }),
                (SECOND, Step::Attach { node: 1, volume: 0 }),
                (SECOND, Step::Connect { node: 1 }),
            ],
        ),
    ]
}

fn plan(seed: u64, steps: &[(u64, Step)], fails_nth: Option<(usize, u64)>) -> Plan {
    let mut at = 5 * SECOND;
    let timed = steps.iter().map(|(gap, step)| {
        at += gap;
        (at, *step)
    });
    Plan { steps: timed.collect(), swarm: Swarm { fails_nth, ..swarm(seed) } }
}

/// Runs a scenario with each operation of a node failing in turn; says how many runs that took.
fn fail_each(name: &str, seed: u64, steps: &[(u64, Step)], node: usize) -> u64 {
    for nth in 1.. {
        let outcome = run(plan(seed, steps, Some((node, nth))), false);
        assert_eq!(outcome.failure, None, "{name}, seed {seed}: operation {nth} of node {node} fails");
        if outcome.disk_ops[node] < nth {
            return nth;
        }
    }
    unreachable!("a run has an end")
}

#[test]
fn whatever_operation_fails_nothing_is_lost() {
    let mut runs = 0;
    for seed in SEEDS {
        for (name, steps) in scenarios() {
            runs += fail_each(name, seed, &steps, 0) + fail_each(name, seed, &steps, 1);
        }
    }
    assert!(runs > 200 * SEEDS.end, "only {runs} operations failed");
    println!("{runs} runs");
}
