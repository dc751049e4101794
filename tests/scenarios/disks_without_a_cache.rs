//! The kernel takes neither disk for one with a volatile cache: flushes find nothing to do, and whoever can be told is told that
//! none are needed, until the device is offered anew (decision 38).
//!
//! ```text
//!   alpha [none] ===== beta [none]      no flushes needed; none waits for anything
//!   alpha [none] ===== beta [cache]     flushes, as ever
//!   alpha [none] ===== beta [cache]     it came later: clients of alpha's device need none all the same
//! ```

use rep_tests::Cluster;
use rep_tests::loop_disk::LoopDisk;
use rep_tests::tools::root_or_not_run;

const WRITES: u64 = 16;

fn on_block_devices(volatile: [bool; 2]) -> (Cluster, [LoopDisk; 2]) {
    let (mut cluster, disks) = LoopDisk::under_a_cluster([512; 2]);
    disks.iter().zip(volatile).for_each(|(disk, volatile)| disk.set_cache(volatile));
    cluster.bring_in_sync();
    (cluster, disks)
}

/// Flushes of alpha's clients that had something to wait for.
fn flushes_that_waited(cluster: &Cluster) -> u64 {
    cluster.alpha.latency("flush", "count")
}

/// Writes and flushes by turns; how many of the flushes had something to wait for.
fn written_and_flushed(cluster: &Cluster) -> u64 {
    let mut client = cluster.alpha.connection();
    client.flush().expect("of what came before");
    let before = flushes_that_waited(cluster);
    for block in 0..WRITES {
        // Two writes before each flush: no client whose flushes are expected.
        client.write((2 * block) << 12, &[1; 4096], 0).expect("written");
        client.write((2 * block + 1) << 12, &[2; 4096], 0).expect("written");
        client.flush().expect("flushed");
    }
    flushes_that_waited(cluster) - before
}

#[track_caller]
fn assert_told(cluster: &Cluster, volatile: bool) {
    assert_eq!(cluster.alpha.resource().volume().volatile_cache, Some(volatile));
    let words = if volatile { ", flushes" } else { ", no flushes needed" };
    assert!(cluster.alpha.ok("status").contains(words), "{}", cluster.alpha.ok("status"));
    assert_eq!(cluster.beta.resource().volume().volatile_cache, None, "beta offers nothing");
}

#[test]
fn flushes_wait_for_nothing_where_neither_disk_has_a_cache() {
    if !root_or_not_run("a block device of a file") {
        return;
    }
    for volatile in [[false, false], [false, true], [true, false]] {
        let (cluster, disks) = on_block_devices(volatile);
        assert_eq!(cluster.alpha.resource().volume().volatile_cache, None);
        cluster.alpha.ok("primary");
        let anywhere = volatile.contains(&true);
        assert_told(&cluster, anywhere);
        assert_eq!(written_and_flushed(&cluster), if anywhere { WRITES } else { 0 }, "{volatile:?}");
        drop((cluster, disks));
    }
}

#[test]
fn what_clients_were_told_holds_beside_a_disk_with_a_cache() {
    if !root_or_not_run("a block device of a file") {
        return;
    }
    let (mut cluster, disks) = on_block_devices([false, false]);
    cluster.alpha.ok("primary");
    cluster.beta.stop();
    disks[1].set_cache(true);
    cluster.beta.start();
    cluster.alpha.ok("wait synced --timeout 60s");
    assert_told(&cluster, false);
    assert_eq!(written_and_flushed(&cluster), 0, "all is written through");
    // Offered anew, it is as the disks are now.
    cluster.alpha.ok("secondary");
    cluster.alpha.ok("primary");
    assert_told(&cluster, true);
    assert_eq!(written_and_flushed(&cluster), WRITES);
    drop((cluster, disks));
}
