//! Writes all over a large sparse volume: every one meets another extent of the activity log and another page of the
//! bitmap.

use super::{Bar, Effort, Figure, export, in_memory, words};
use crate::fio;
use rep_tests::Cluster;

const LARGE_BYTES: u64 = 256 << 30;
const SMALL_BYTES: u64 = 1 << 30;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let cluster = Cluster::with_primary(&in_memory(LARGE_BYTES));
    let target = export(&cluster.alpha);
    fio::fill(&target, SMALL_BYTES);
    let name = "4k randwrite, depth 32, all over 256 GiB";
    let mut figure = Figure::against(name, "in the first GiB of it", "IOPS", Bar::AtLeast(0.8));
    for _ in 0..effort.rounds {
        let [large, small] = [LARGE_BYTES, SMALL_BYTES].map(|bytes| {
            let load = words(&format!("rw=randwrite bs=4k iodepth=32 norandommap=1 size={bytes}"));
            fio::measure(std::slice::from_ref(&target), &load, effort.seconds)
        });
        figure.add_pair(large.iops, small.iops);
    }
    vec![figure]
}
