//! Data and holes in turn, all of them shorter than what a resync moves at a time.
//!
//! ```text
//!   alpha Primary [d][ ][d][ ]                        beta gone, and with it its disk
//!   alpha Primary [d][ ][d][ ] ==[d][d]==> SyncTarget [xxxxxxxxxx]   another disk, full of what somebody else had there
//!   alpha Primary [d][ ][d][ ] =========== Secondary  [d][ ][d][ ]   the same, and as thin
//! ```

use rep_tests::nbd::Verb;
use rep_tests::{Cluster, ClusterOptions, Node};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
const DISK: u64 = 64 * MIB;
/// What file systems allocate beside the data itself, at most.
const SLACK: u64 = MIB;
const SOON: Duration = Duration::from_secs(30);

fn options() -> ClusterOptions {
    // A disk of its own for the metadata: all of the file is data.
    ClusterOptions { disk_bytes: [DISK; 2], external_metadata: true, ..ClusterOptions::default() }
}

/// Writes data into every other stretch from `from` to `end`.
fn write_every_other(node: &Node, stretch: u64, from: u64, end: u64) {
    let mut connection = node.connection();
    let data = rep_tests::random::bytes(stretch + from, stretch as usize * (end - from).div_ceil(2 * stretch) as usize);
    for (part, at) in data.chunks(stretch as usize).zip((from..end).step_by(2 * stretch as usize)) {
        connection.write(at, part, 0).expect("a write");
    }
    connection.flush().expect("a flush");
    connection.close().expect("a goodbye");
}

fn allocated(node: &Node) -> u64 {
    std::fs::metadata(node.disk()).expect("the disk").blocks() * 512
}

fn sent(node: &Node) -> u64 {
    node.resource().volume().io.sent_bytes
}

fn received(node: &Node) -> u64 {
    node.resource().volume().io.received_bytes
}

/// Beta gets another disk, which is filled; the bytes alpha sent for that.
fn fill_another_disk(cluster: &mut Cluster) -> u64 {
    let before = sent(&cluster.alpha);
    cluster.fill_another_disk_of_beta();
    let sent = sent(&cluster.alpha) - before;
    assert_eq!(received(&cluster.beta), sent, "both count what travelled");
    sent
}

#[test]
fn holes_of_64_kib_stay_holes() {
    let mut cluster = Cluster::with_primary(&options());
    write_every_other(&cluster.alpha, 64 * KIB, 0, DISK);
    let thin = allocated(&cluster.alpha);
    assert!(thin < DISK / 2 + SLACK, "{thin} bytes are allocated on the source");
    let sent = fill_another_disk(&mut cluster);
    let filled = allocated(&cluster.beta);
    eprintln!(
        "of 64 MiB half was written: {sent} bytes were sent, {thin} are allocated on the source, {filled} on the target"
    );
    assert_eq!(sent, DISK / 2);
    assert!(filled.abs_diff(thin) < SLACK, "{filled} bytes are allocated on the target, {thin} on the source");
}

/// A hole of 8 KiB isn't worth two disk operations: it travels, and is written.
#[test]
fn holes_of_8_kib_are_data() {
    let part = 8 * MIB;
    let mut cluster = Cluster::with_primary(&options());
    write_every_other(&cluster.alpha, 8 * KIB, 0, part);
    let sent = fill_another_disk(&mut cluster);
    let filled = allocated(&cluster.beta);
    eprintln!("of 8 MiB half was written: {sent} bytes were sent, {filled} are allocated on the target");
    assert_eq!(sent, part);
    assert!((part..part + SLACK).contains(&filled), "{filled} bytes are allocated");
}

/// The target dies, over and over, while such ranges come in.
#[test]
fn and_the_target_dies_of_it() {
    let mut cluster =
        Cluster::with_primary(&ClusterOptions { resync_lines: vec!["max-rate = \"8M\"".to_owned()], ..options() });
    cluster.alpha.write(0, &rep_tests::random::bytes(11, DISK as usize));
    cluster.alpha.ok("disconnect");
    // Holes where the target has data.
    let mut connection = cluster.alpha.connection();
    for at in (0..DISK).step_by(2 * 64 * KIB as usize) {
        connection.zero(Verb::WriteZeroes, 0, at, 64 * KIB as u32).expect("zeroes");
    }
    connection.close().expect("a goodbye");
    write_every_other(&cluster.alpha, 64 * KIB, 64 * KIB, DISK);
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    for _ in 0..3 {
        cluster.beta.wait_until("a part has come", SOON, |resource| {
            let volume = resource.volume();
            volume.replication == "SyncTarget" && volume.io.received_bytes >= 4 * MIB
        });
        cluster.beta.kill9();
        assert_ne!(cluster.alpha.resource().volume().out_of_sync_bytes, 0, "it wasn't done");
        cluster.alpha.wait_connection("Connecting");
        cluster.beta.start();
    }
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_in_sync();
    cluster.assert_identical();
    let (thin, filled) = (allocated(&cluster.alpha), allocated(&cluster.beta));
    eprintln!("{thin} bytes are allocated on the source, {filled} on the target");
    assert!(filled.abs_diff(thin) < SLACK, "{filled} bytes are allocated on the target, {thin} on the source");
}
