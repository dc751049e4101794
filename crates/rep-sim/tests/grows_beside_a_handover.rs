//! A volume grows while its Primary hands the role over with the device open, and the peer dies: at every moment of it in turn.
//! Clients are offered only what is remembered (GR-3), nothing answered is lost, and the pair comes to rest.

use rep_sim::counters::Sometimes;
use rep_sim::plan::{ClientOp, Step};
use rep_sim::swarm::{MS, SECOND};
use rep_sim::{Plan, Swarm, run};

/// So many swarms. Without optimization few: `cargo test --profile sim -p rep-sim --test grows_beside_a_handover` runs more.
const SWARMS: usize = if cfg!(debug_assertions) { 6 } else { 24 };

/// How long after the handover has begun the peer's operator has the volume grow: a peer that has agreed to the handover does that.
const RESIZES_AFTER: [u64; 2] = [3 * MS, 9 * MS];

/// The peer dies at so many moments, this far apart: the handover's and the growing's writes take some milliseconds each.
const MOMENTS: u64 = 20;
const APART: u64 = 6 * MS;

/// Swarms with a volume that grows, in which nothing else goes wrong. The first few from here on have handovers slow enough for it.
fn swarms() -> impl Iterator<Item = Swarm> {
    let growing = (100..).map(Swarm::of).filter(|swarm| swarm.grow.is_some() && swarm.volumes == 1);
    growing.map(|swarm| Swarm { slow_rate: 0, may_fork: false, ..swarm }).take(SWARMS)
}

fn plan(swarm: Swarm, resizes_after: u64, dies_after: u64) -> Plan {
    let begin = 5 * SECOND;
    let handover = begin + SECOND;
    let write = Step::Client { volume: 0, client: 0, op: ClientOp::Write { first: 0, count: 8, fua: false } };
    let mut steps = vec![
        (begin, Step::GrowDisk { node: 0, volume: 0 }),
        (begin, Step::GrowDisk { node: 1, volume: 0 }),
        (begin + MS, write),
        (handover, Step::Handover { draw: 0 }),
        (handover + resizes_after, Step::Resize { node: 1, volume: 0 }),
        (handover + dies_after, Step::Crash { node: 1, down_ns: SECOND }),
        (handover + 3 * SECOND, write),
    ];
    steps.sort_by_key(|(at, _)| *at);
    Plan { swarm, steps }
}

#[test]
fn a_volume_grows_beside_a_handover_and_the_peer_dies_at_any_moment() {
    let (mut runs, mut alone) = (0, 0);
    for swarm in swarms() {
        let seed = swarm.seed;
        for resizes_after in RESIZES_AFTER {
            for dies_after in (1..=MOMENTS).map(|moment| moment * APART) {
                let outcome = run(plan(swarm.clone(), resizes_after, dies_after), false);
                assert_eq!(outcome.failure, None, "seed {seed}: grows {resizes_after} ns, dies {dies_after} ns after");
                runs += 1;
                alone += outcome.counters.count(Sometimes::GrownAlone);
            }
        }
    }
    assert!(alone > 0, "in none of {runs} runs the role came back to a node that remembered more than it offered");
    println!("{runs} runs, in {alone} the role came back to a node that remembered more than it offered");
}
