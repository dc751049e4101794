//! ```text
//!   alpha Primary ===== beta Secondary     fio and a ledger's client work on alpha
//!   alpha Diskless ---> beta UpToDate      alpha's disk answers EIO: its clients go on at beta's
//!   alpha Primary <==== beta SyncSource    the disk is well again: what it missed is copied
//!   alpha Diskless ---> beta UpToDate      it fails again, for good
//!   alpha Primary <==== beta SyncSource    another disk in its place: everything is copied
//!   alpha Primary ===== beta Secondary     the same; no client saw an error
//! ```

use nix::errno::Errno;
use rep_tests::faulty_disk::{Faults, FaultyDisk, Operations};
use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::{Cluster, ClusterOptions, Ledger, tools};
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(120);

/// Both in sync, alpha Primary on a disk that can be made to fail.
fn start(options: &ClusterOptions) -> (Cluster, FaultyDisk) {
    let mut cluster = Cluster::prepare(options);
    let disk = FaultyDisk::mount(&cluster.alpha.disk());
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    (cluster, disk)
}

/// Alpha's disk fails under its clients, who go on.
fn lose_the_disk(cluster: &Cluster, disk: &FaultyDisk, load: &Load) {
    disk.set(Faults { failing: Some((Operations::All, Errno::EIO, u32::MAX)), ..Faults::NONE });
    let left = |resource: &rep_tests::status::Resource| resource.volume().disk == "Diskless";
    let alpha = cluster.alpha.wait_until("Diskless", SOON, left);
    assert_eq!((alpha.role.as_str(), alpha.volume().peer_disk.as_str()), ("Primary", "UpToDate"));
    load.wait_for(300, SOON);
    // Nobody may cut its clients off from the only data there is.
    cluster.alpha.refused("disconnect", "OnlyGoodCopy");
    cluster.beta.refused("disconnect", "OnlyGoodCopy");
    cluster.beta.refused("detach", "OnlyGoodCopy");
}

#[test]
fn clients_never_notice() {
    if !tools::root_or_not_run("a disk that fails") {
        return;
    }
    let options = ClusterOptions { disk_bytes: [128 * MIB; 2], ..ClusterOptions::default() };
    let (mut cluster, disk) = start(&options);
    for expected in ["disk", "EIO", "nput/output error"] {
        cluster.expect_log(expected);
    }
    let ledger = Arc::new(Ledger::new(32 * MIB));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    let mut fio = cluster.start_fio(8);
    load.wait_for(500, SOON);

    lose_the_disk(&cluster, &disk, &load);
    disk.set(Faults::NONE);
    cluster.alpha.ok("attach");
    load.wait_for(300, SOON);
    cluster.alpha.wait_in_sync();

    lose_the_disk(&cluster, &disk, &load);
    disk.set(Faults::NONE);
    // Another disk in its place: nothing on it counts.
    cluster.alpha.ok("create-md --force");
    cluster.alpha.ok("attach");
    load.wait_for(300, SOON);
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();

    assert!(fio.is_running(), "{}", std::fs::read_to_string(cluster.path("fio.log")).unwrap_or_default());
    drop(fio);
    load.stop_untroubled();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
    // A connection that was just closed is noticed a moment later.
    cluster.alpha.wait_until("closed", SOON, |resource| !resource.volume().open);
    cluster.alpha.ok("secondary");
    cluster.assert_identical();
}
