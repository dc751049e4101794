//! A client's latency beside a resync of the whole volume, and the resync's rate when nobody else is there.

use super::{Bar, Effort, Figure, export, in_memory, words};
use crate::fio;
use rep_tests::Cluster;
use std::time::Duration;

const BYTES: u64 = 4 << 30;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let cluster = Cluster::with_primary(&in_memory(BYTES));
    let target = export(&cluster.alpha);
    fio::fill(&target, BYTES);
    let client = "4k randwrite, 1000 a second";
    let beside = |what: &str| format!("{what} of {client}, beside a resync");
    let mut p99 = Figure::against(beside("p99"), "without one", "µs", Bar::AtMost(1.5));
    let mut copied = Figure::alone("share of 4 GiB resynced meanwhile", "%", None);
    // A share of 100 % says that the resync ended before the load did, and that p99 is in part of a time without one.
    let load = words(&format!("rw=randwrite bs=4k iodepth=4 rate_iops=1000 size={BYTES}"));
    for _ in 0..effort.rounds {
        let without = fio::measure(std::slice::from_ref(&target), &load, effort.seconds);
        cluster.alpha.ok("resync --full --from alpha");
        let with = fio::measure(std::slice::from_ref(&target), &load, effort.seconds);
        let left = cluster.alpha.resource().volume().out_of_sync_bytes;
        p99.add_pair(with.p99_us, without.p99_us);
        copied.add(100.0 * (BYTES - left.min(BYTES)) as f64 / BYTES as f64);
        cluster.alpha.ok("wait synced --timeout 300s");
        cluster.alpha.wait_until("in sync", Duration::from_secs(300), |resource| resource.is_in_sync());
    }
    vec![p99, copied]
}
