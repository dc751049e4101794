//! ```text
//!   alpha Primary ===== beta Secondary     64 GiB each, sparse, the same
//!   alpha Primary       beta Secondary     disconnected; 100 MiB written on alpha
//!   alpha Primary ====> beta SyncTarget    100 MiB travel, not 64 GiB
//!   alpha Primary ===== beta Secondary     the same again
//! ```

use rep_tests::{Cluster, ClusterOptions};
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

#[test]
fn a_reconnect_after_100_mib_on_64_gib_copies_about_100_mib() {
    let options = ClusterOptions { disk_bytes: [64 * GIB; 2], ..ClusterOptions::default() };
    let cluster = Cluster::with_primary(&options);
    cluster.alpha.ok("disconnect");
    let data = rep_tests::random::bytes(1, 10 * MIB as usize);
    for part in 0..10 {
        cluster.alpha.write(part * 6 * GIB + 4096, &data);
    }
    let before = cluster.alpha.resource();
    let dirty = before.volume().out_of_sync_bytes;
    assert!((100 * MIB..101 * MIB).contains(&dirty), "{dirty} bytes are out of sync");

    let began = Instant::now();
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    let after = cluster.alpha.wait_in_sync();
    eprintln!("reconnected and in sync after {:?}", began.elapsed());
    let sent = after.volume().io.sent_bytes - before.volume().io.sent_bytes;
    assert!((100 * MIB..101 * MIB).contains(&sent), "{sent} bytes were sent");
    assert!(began.elapsed() < Duration::from_secs(60), "a resync of 100 MiB is no matter of minutes");
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn a_reconnect_after_nothing_copies_nothing() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.alpha.write(0, &[7; 4096]);
    for _ in 0..3 {
        let before = cluster.alpha.resource().volume().io.sent_bytes;
        cluster.alpha.ok("disconnect");
        cluster.alpha.ok("connect");
        cluster.beta.ok("connect");
        let after = cluster.alpha.wait_in_sync();
        assert_eq!(after.volume().io.sent_bytes, before);
    }
}

#[test]
fn a_block_written_often_while_apart_is_copied_once() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.alpha.ok("disconnect");
    let before = cluster.alpha.resource().volume().io.sent_bytes;
    for value in 1..=20 {
        cluster.alpha.write(8192 + 512, &[value; 1024]);
    }
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    let after = cluster.alpha.wait_in_sync();
    assert_eq!(after.volume().io.sent_bytes - before, 4096, "one block is 4 KiB");
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}
