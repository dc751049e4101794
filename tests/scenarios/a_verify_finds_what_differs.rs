//! ```text
//!   alpha Primary ===== beta Secondary     in sync; clients write without pause
//!   alpha Primary ===== beta Secondary     17 blocks of beta's disk change behind its back
//!   alpha VerifyS =====> beta VerifyT      finds exactly those, while the clients write on
//!   alpha Primary ====> beta SyncTarget    copies exactly those from alpha
//!   alpha Primary ===== beta Secondary     identical
//! ```

use crate::a_verify_is_interrupted::wait_for_progress;
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

/// Stopped behind its beginning, it goes on exactly there: it says so itself, and where.
#[test]
fn one_that_is_stopped_goes_on_where_it_was() {
    let options = ClusterOptions { resync_lines: vec!["max-rate = \"8MiB\"".to_owned()], ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    cluster.expect_log("the disks differ");
    damage(&cluster.beta.disk());
    cluster.alpha.ok("verify");
    wait_for_progress(&cluster.alpha, 4 << 20);
    cluster.alpha.ok("verify --stop");
    let told = cluster.alpha.verb("verify --wait").failed_with(1);
    assert!(told.contains("68.0 KiB differ"), "{told}");
    let place = told.split_once("; the first ").and_then(|(_, rest)| rest.split_once(" MiB had been compared"));
    let (place, _) = place.unwrap_or_else(|| panic!("it began anew: {told}"));
    let megabytes: f64 = place.parse().unwrap_or_else(|e| panic!("{e}: {told}"));
    assert!((4.0..32.0).contains(&megabytes), "{told}");
    assert_eq!(cluster.alpha.resource().volume().out_of_sync_bytes, PLANTED * BLOCK);
    cluster.alpha.ok("resync --wait");
    cluster.assert_identical();
}
