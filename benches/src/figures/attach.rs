//! Starting with a very large disk.

use super::{Bar, Effort, Figure, in_memory};
use crate::memory::resident_bytes;
use rep_tests::Cluster;
use std::time::Instant;

const BYTES: u64 = 16 << 40;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let cluster = Cluster::with_primary(&in_memory(BYTES));
    let mut time = Figure::alone("attach of 16 TiB, sparse", "s", Some(Bar::AtMost(1.0)));
    let mut memory = Figure::alone("a daemon's memory with it", "MiB", Some(Bar::AtMost(64.0)));
    cluster.alpha.ok("secondary");
    for _ in 0..effort.rounds {
        cluster.beta.ok("detach");
        let began = Instant::now();
        cluster.beta.ok("attach");
        time.add(began.elapsed().as_secs_f64());
        cluster.beta.wait_in_sync();
        memory.add(resident_bytes(cluster.beta.pid()) / f64::from(1 << 20));
    }
    vec![time, memory]
}
