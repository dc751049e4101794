//! Writes all over a large sparse volume: every one meets another extent of the activity log and another page of the
//! bitmap.
//!
//! Twice: blocks that the files beneath have, one an extent, which shows what the extents cost; and blocks that are new to them,
//! where a file in memory has to be given pages, too. What that takes without a mirror is told by a plain server on the same files.

use super::{Bar, Effort, Figure, export, in_memory, words};
use crate::fio::{self, Target};
use crate::nbdkit::serve_unix;
use rep_tests::Cluster;
use rep_tests::scratch::{Place, Scratch, sparse_file};

const LARGE_BYTES: u64 = 256 << 30;
const SMALL_BYTES: u64 = 1 << 30;
const EXTENT_BYTES: u64 = 4 << 20;
const BLOCK_BYTES: u64 = 4 << 10;
/// Of the memory that is free this much is left alone.
const LEFT_FREE_BYTES: u64 = 1 << 30;

const BESIDE: &str = "in the first GiB of it";

pub fn measure(effort: Effort) -> Vec<Figure> {
    touch_memory();
    let cluster = Cluster::with_primary(&in_memory(LARGE_BYTES));
    let ours = export(&cluster.alpha);
    let bar = || Bar::AtLeast(0.8);
    let mut there =
        Figure::against("4k randwrite, depth 32, all over 256 GiB: a block of each extent", BESIDE, "IOPS", bar());
    let mut new = Figure::against("4k randwrite, depth 32, all over 256 GiB: new blocks", BESIDE, "IOPS", bar());
    prepare(&ours);
    for _ in 0..effort.rounds {
        let small = rate(&ours, effort, &format!("size={SMALL_BYTES}"));
        there.add_pair(rate(&ours, effort, &format!("size={LARGE_BYTES} blockalign={EXTENT_BYTES}")), small);
        new.add_pair(rate(&ours, effort, &format!("size={LARGE_BYTES}")), small);
    }
    drop(cluster);
    vec![there, new, without_mirror(effort)]
}

/// The same by a plain server: new blocks, no mirror.
fn without_mirror(effort: Effort) -> Figure {
    let scratch = Scratch::new(Place::Tmpfs);
    let [disk, socket, log] = ["disk", "socket", "log"].map(|name| scratch.path().join(name));
    sparse_file(&disk, LARGE_BYTES);
    let _server = serve_unix(&disk, &socket, &log);
    let target = Target::Export(format!("nbd+unix:///?socket={}", socket.display()));
    prepare(&target);
    let name = "the same by nbdkit file, without a mirror: new blocks";
    let mut figure = Figure::against(name, BESIDE, "IOPS", None);
    for _ in 0..effort.rounds {
        let small = rate(&target, effort, &format!("size={SMALL_BYTES}"));
        figure.add_pair(rate(&target, effort, &format!("size={LARGE_BYTES}")), small);
    }
    figure
}

/// Uses all memory that is free, once. A virtual machine gets its memory where it first touches it, at some 10 µs a page, which would be
/// in whichever line is measured first; and which of the free pages a file is given nobody can say.
fn touch_memory() {
    const CHUNK: usize = 64 << 20;
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free =
        told.lines().find_map(|line| line.strip_prefix("MemFree:")?.split_whitespace().next()?.parse::<u64>().ok());
    let bytes = (free.unwrap_or(0) << 10).saturating_sub(LEFT_FREE_BYTES);
    let chunks: Vec<Vec<u8>> = (0..bytes / CHUNK as u64).map(|_| vec![1; CHUNK]).collect();
    std::hint::black_box(&chunks);
}

/// The first GiB, and the first block of each extent.
fn prepare(target: &Target) {
    fio::fill(target, SMALL_BYTES);
    let (skipped, all) = ((EXTENT_BYTES - BLOCK_BYTES) >> 10, LARGE_BYTES / EXTENT_BYTES * BLOCK_BYTES);
    fio::once(target, &words(&format!("rw=write:{skipped}k bs=4k iodepth=32 size={LARGE_BYTES} io_size={all}")));
}

fn rate(target: &Target, effort: Effort, area: &str) -> f64 {
    let load = words(&format!("rw=randwrite bs=4k iodepth=32 norandommap=1 {area}"));
    fio::measure(std::slice::from_ref(target), &load, effort.seconds).iops
}
