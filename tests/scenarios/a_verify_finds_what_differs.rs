//! ```text
//!   alpha Primary ===== beta Secondary     in sync; clients write without pause
//!   alpha Primary ===== beta Secondary     17 blocks of beta's disk change behind its back
//!   alpha VerifyS =====> beta VerifyT      finds exactly those, while the clients write on
//!   alpha Primary ====> beta SyncTarget    copies exactly those from alpha
//!   alpha Primary ===== beta Secondary     identical
//! ```

use rep_tests::load::{Load, LoadOptions};
use rep_tests::{Cluster, ClusterOptions, Ledger};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const BLOCK: u64 = 4096;
const PLANTED: u64 = 17;
/// The clients' part of the volume.
const BUSY: u64 = 32 << 20;

/// Changes one byte in each of so many blocks of a disk's second half, far enough from each other that no two share a
/// range.
fn damage(disk: &std::path::Path) {
    let file = OpenOptions::new().write(true).open(disk).expect("the disk");
    for number in 0..PLANTED {
        let at = BUSY + number * 331 * BLOCK + number * 7;
        file.write_all_at(&[0xa5], at).expect("a write");
    }
    file.sync_all().expect("a sync");
}

#[test]
fn exactly_that_and_repairs_it_under_load() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.expect_log("the disks differ");
    let ledger = Arc::new(Ledger::new(BUSY));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(200, std::time::Duration::from_secs(60));

    assert!(cluster.alpha.ok("verify --wait").contains("the same"), "nothing differs yet");
    damage(&cluster.beta.disk());
    let told = cluster.alpha.verb("verify --wait").failed_with(1);
    assert!(told.contains("68.0 KiB differ"), "{told}");
    for node in [&cluster.alpha, &cluster.beta] {
        assert_eq!(node.resource().volume().out_of_sync_bytes, PLANTED * BLOCK, "{}", node.name());
    }
    cluster.alpha.refused("verify --repair-from beta", "IsPrimary");

    let repaired = cluster.alpha.ok("verify --repair-from alpha --wait");
    assert!(repaired.contains("68.0 KiB differed and were made equal"), "{repaired}");
    assert!(cluster.alpha.ok("verify --wait").contains("the same"));
    load.stop_untroubled();
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn one_that_is_stopped_goes_on_where_it_was() {
    let options = ClusterOptions { resync_lines: vec!["max-rate = \"8MiB\"".to_owned()], ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    cluster.expect_log("the disks differ");
    damage(&cluster.beta.disk());
    cluster.alpha.ok("verify");
    let replication =
        |state: &'static str| move |resource: &rep_tests::status::Resource| resource.volume().replication == state;
    cluster.beta.wait_until("led", std::time::Duration::from_secs(60), replication("VerifyT"));
    cluster.beta.kill9();
    cluster.alpha.wait_until("stopped", std::time::Duration::from_secs(60), replication("Off"));
    cluster.beta.start();
    cluster.alpha.wait_until("back", std::time::Duration::from_secs(60), replication("Established"));
    let told = cluster.alpha.verb("verify --wait").failed_with(1);
    assert!(told.contains("differ"), "{told}");
    assert_eq!(cluster.alpha.resource().volume().out_of_sync_bytes, PLANTED * BLOCK);
    cluster.alpha.ok("resync --wait");
    cluster.assert_identical();
}
