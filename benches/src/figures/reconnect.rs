//! Coming together again takes as long as what was written meanwhile takes to copy, not as long as the volume.

use super::{Bar, Effort, Figure, export, in_memory, words};
use crate::fio;
use rep_tests::Cluster;
use std::time::{Duration, Instant};

const BYTES: u64 = 4 << 30;
const LITTLE_BYTES: u64 = 1 << 20;
const MUCH_BYTES: u64 = 1 << 30;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let cluster = Cluster::with_primary(&in_memory(BYTES));
    let target = export(&cluster.alpha);
    fio::fill(&target, BYTES);
    let name = |bytes: u64| format!("from connect to in sync, {} MiB written apart", bytes >> 20);
    let mut figure = Figure::against(name(LITTLE_BYTES), name(MUCH_BYTES), "s", Bar::AtMost(0.5));
    for _ in 0..effort.rounds {
        let [little, much] = [LITTLE_BYTES, MUCH_BYTES].map(|bytes| {
            cluster.beta.ok("disconnect");
            fio::once(&target, &words(&format!("rw=write bs=1M iodepth=4 offset=1G size={bytes}")));
            let began = Instant::now();
            cluster.beta.ok("connect");
            cluster.alpha.wait_until("in sync", Duration::from_secs(120), |resource| resource.is_in_sync());
            began.elapsed().as_secs_f64()
        });
        figure.add_pair(little, much);
    }
    vec![figure]
}
