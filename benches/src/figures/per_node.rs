//! Processor time of either node for a mirrored write.

use super::{Bar, Effort, Figure, export, in_memory, words};
use crate::{VOLUME_BYTES, cpu, fio};
use rep_tests::Cluster;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let cluster = Cluster::with_primary(&in_memory(VOLUME_BYTES));
    let target = export(&cluster.alpha);
    fio::fill(&target, VOLUME_BYTES);
    let name = |node: &str| format!("{node}: processor time of a 4k write, depth 32");
    let mut primary = Figure::alone(name("Primary"), "µs", Some(Bar::AtMost(15.0)));
    let mut secondary = Figure::alone(name("Secondary"), "µs", Some(Bar::AtMost(10.0)));
    let load = words(&format!("rw=randwrite bs=4k iodepth=32 size={VOLUME_BYTES}"));
    for _ in 0..effort.rounds {
        let time = || [cluster.alpha.pid(), cluster.beta.pid()].map(|pid| cpu::seconds(&[pid]));
        let before = time();
        let sample = fio::measure(std::slice::from_ref(&target), &load, effort.seconds);
        let after = time();
        primary.add((after[0] - before[0]) * 1e6 / sample.requests);
        secondary.add((after[1] - before[1]) * 1e6 / sample.requests);
    }
    vec![primary, secondary]
}
