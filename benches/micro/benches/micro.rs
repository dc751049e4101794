//! The workloads by the clock: `cargo bench -p rep-micro`. For whoever changes one of these pieces and wants to know what it
//! brought; what a test may judge is counted by `cargo xtask instructions`.

use criterion::{Criterion, Throughput};
use rep_micro::WORKLOADS;

fn workloads(criterion: &mut Criterion) {
    for workload in WORKLOADS {
        let (group, name) = workload.name.split_once('/').expect("a group and a name");
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(workload.operations));
        let mut work = (workload.prepare)();
        group.bench_function(name, |bencher| bencher.iter(&mut work));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    workloads(&mut criterion);
    criterion.final_summary();
}
