//! ```text
//!   alpha Primary ====> beta SyncTarget    a resync that takes a while (max-rate)
//!   alpha Primary  X  X beta SyncTarget    paused, cut, killed on either side, restarted
//!   alpha Primary ====> beta SyncTarget    goes on in the same direction, by the bitmap, not from the start
//!   alpha Primary ===== beta Secondary     the same
//! ```

use rep_tests::{Cluster, ClusterOptions, Node};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

/// What is left of it, at most, when the trouble begins.
const PART_DONE: u64 = 40 * MIB;

/// A pair with 48 MiB out of sync, being resynced at 8 MiB a second.
fn resyncing() -> (Cluster, Vec<u8>) {
    resyncing_at("8M")
}

fn resyncing_at(rate: &str) -> (Cluster, Vec<u8>) {
    let options = ClusterOptions {
        disk_bytes: [64 * MIB; 2],
        resync_lines: vec![format!("max-rate = \"{rate}\"")],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::with_primary(&options);
    cluster.alpha.ok("disconnect");
    let data = rep_tests::random::bytes(4, 48 * MIB as usize);
    cluster.alpha.write(0, &data);
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.beta.wait_until("a part is done", SOON, |resource| {
        let volume = resource.volume();
        volume.replication == "SyncTarget" && volume.out_of_sync_bytes < PART_DONE
    });
    (cluster, data)
}

/// Waits until a crash of this node would find that a part is done: its metadata says so.
fn progress_is_durable(node: &Node) {
    rep_tests::until("the progress is durable", SOON, || {
        let dump = node.ok("dump-md");
        let line = dump.lines().find(|line| line.starts_with("out-of-sync"));
        let words = line.into_iter().flat_map(str::split_whitespace);
        let bytes: Option<u64> = words.rev().nth(1).and_then(|word| word.parse().ok());
        if bytes.is_some_and(|bytes| bytes < PART_DONE) { Ok(()) } else { Err(format!("{line:?}")) }
    });
}

fn ends_well(cluster: &Cluster, data: &[u8]) {
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    assert!(cluster.alpha.read(0, data.len()) == data, "alpha's data isn't what was written");
    cluster.assert_identical();
}

#[test]
fn by_the_death_of_the_target() {
    let (mut cluster, data) = resyncing_at("4M");
    cluster.alpha.wait_until("a part is done", SOON, |resource| resource.volume().out_of_sync_bytes < PART_DONE);
    progress_is_durable(&cluster.beta);
    cluster.beta.kill9();
    cluster.alpha.wait_connection("Connecting");
    cluster.beta.start();
    cluster.beta.wait_until("it goes on", SOON, |resource| resource.volume().replication == "SyncTarget");
    let left = cluster.beta.resource().volume().out_of_sync_bytes;
    assert!(left < PART_DONE, "{left} bytes are left: it began anew");
    cluster.beta.refused("primary", "PeerIsPrimary");
    ends_well(&cluster, &data);
}

#[test]
fn by_the_death_of_the_source() {
    let (mut cluster, data) = resyncing();
    cluster.alpha.kill9();
    cluster.beta.wait_connection("Connecting");
    let beta = cluster.beta.resource();
    assert_eq!(beta.volume().disk, "Inconsistent");
    cluster.beta.refused("primary", "NoUpToDateDisk");
    cluster.alpha.start();
    cluster.alpha.wait_connection("Connected");
    cluster.alpha.ok("primary");
    ends_well(&cluster, &data);
}

#[test]
fn by_the_death_of_both() {
    let (mut cluster, data) = resyncing();
    cluster.alpha.kill9();
    cluster.beta.kill9();
    cluster.beta.start();
    cluster.beta.refused("primary", "NoUpToDateDisk");
    cluster.alpha.start();
    cluster.alpha.wait_connection("Connected");
    cluster.alpha.ok("primary");
    ends_well(&cluster, &data);
}

#[test]
fn by_the_operator() {
    let (cluster, data) = resyncing();
    cluster.alpha.ok("pause-sync");
    cluster.alpha.wait_until("paused", SOON, |resource| resource.volume().replication.starts_with("PausedSync"));
    // What was under way still lands.
    let received = || cluster.beta.resource().volume().io.received_bytes;
    let mut before = received();
    rep_tests::wait::until_true("nothing is under way", SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, received()) == before
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(received(), before, "paused is paused");
    cluster.alpha.ok("resume-sync");
    ends_well(&cluster, &data);
}

#[test]
fn by_a_disconnect() {
    let (cluster, data) = resyncing();
    cluster.alpha.ok("disconnect");
    cluster.alpha.write(60 * MIB, &[7; 4096]);
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    ends_well(&cluster, &data);
}

/// A target under its own Primary: reads of what isn't there yet come from the peer (R27).
#[test]
fn while_the_target_is_promoted() {
    let (cluster, data) = resyncing();
    cluster.alpha.ok("secondary");
    cluster.beta.ok("primary");
    assert!(cluster.beta.read(0, data.len()) == data, "beta reads the newest data while it is being filled");
    cluster.beta.write(50 * MIB, &[9; 8192]);
    cluster.beta.wait_in_sync();
    assert_eq!(cluster.beta.read(50 * MIB, 8192), vec![9; 8192]);
    cluster.alpha.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn shows_how_far_it_is() {
    let (cluster, _) = resyncing();
    let resource = cluster.alpha.resource();
    let resync = resource.volume().resync.as_ref().expect("a resync is shown");
    assert_eq!(resync.role, "SyncSource");
    assert!(resync.total_bytes >= 48 * MIB && resync.done_bytes > 0 && resync.done_bytes < resync.total_bytes);
    assert!(resync.rate_bytes_per_s > 0, "{resync:?}");
    let said = cluster.alpha.ok("resync --wait");
    assert!(!said.contains("error"), "{said}");
    cluster.alpha.wait_in_sync();
}

#[test]
fn and_a_full_one_copies_everything() {
    let cluster = Cluster::with_primary(&ClusterOptions { disk_bytes: [16 * MIB; 2], ..ClusterOptions::default() });
    let data = rep_tests::random::bytes(6, 8 * MIB as usize);
    cluster.alpha.write(0, &data);
    let before = cluster.alpha.resource().volume().io.sent_bytes;
    cluster.alpha.ok("resync --full --from alpha --wait");
    let sent = cluster.alpha.resource().volume().io.sent_bytes - before;
    assert!(sent >= 8 * MIB, "{sent} bytes were sent; zeroes need not be, data must");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn and_an_invalidated_node_is_filled_anew() {
    let cluster = Cluster::with_primary(&ClusterOptions { disk_bytes: [16 * MIB; 2], ..ClusterOptions::default() });
    let data = rep_tests::random::bytes(6, 8 * MIB as usize);
    cluster.alpha.write(0, &data);
    cluster.beta.ok("invalidate");
    cluster.alpha.wait_in_sync();
    cluster.alpha.ok("invalidate-peer");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
    // A Primary's disk may be filled anew as well: what is read meanwhile is the peer's (R27).
    cluster.alpha.ok("invalidate");
    assert!(cluster.alpha.read(0, data.len()) == data, "a client doesn't notice");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    assert!(cluster.alpha.read(0, data.len()) == data);
    cluster.assert_identical();
    // The only copy in reach isn't given up.
    cluster.beta.ok("detach");
    cluster.alpha.wait_until("alone", SOON, |resource| resource.volume().peer_disk == "Diskless");
    cluster.alpha.refused("invalidate", "OnlyGoodCopy");
    cluster.alpha.ok("disconnect");
    cluster.alpha.refused("invalidate", "NotConnected");
    assert!(cluster.alpha.read(0, data.len()) == data);
}
