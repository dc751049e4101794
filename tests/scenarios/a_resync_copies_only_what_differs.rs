//! ```text
//!   alpha Primary ===== beta Secondary     a client writes here and there on alpha
//!   alpha X SIGKILL     beta Primary       promoted; the extents alpha was writing to are marked, all of them
//!   alpha SyncTarget <== beta Primary      what differs travels; the rest is found equal
//!   alpha Secondary === beta Primary       the same, byte by byte
//!
//!   alpha Primary, its disk let go of, written on, and attached again: as after a crash
//!
//!   alpha Primary       beta reinstalled   its metadata is new, its disk is as it was
//!   alpha Primary ====> beta SyncTarget    nearly nothing travels
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::node::Node;
use rep_tests::{Cluster, ClusterOptions, Ledger};
use std::sync::Arc;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

/// What the last resync on this node copied, and what it found equal: its log says so.
fn last_resync(node: &Node) -> (u64, u64) {
    let log = rep_tests::logs::plain(&node.log());
    let line = log.lines().rfind(|line| line.contains("resync: finished")).expect("a resync has finished").to_owned();
    let field = |name: &str| -> u64 {
        let value = line.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
    };
    (field("copied_bytes="), field("equal_bytes="))
}

#[test]
fn after_a_primary_s_death_under_load_what_differs_is_copied_not_what_is_marked() {
    let options = ClusterOptions { disk_bytes: [256 * MIB; 2], ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    let ledger = Arc::new(Ledger::new(128 * MIB));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(3000, SOON);
    cluster.alpha.kill9();
    load.stop();
    cluster.beta.wait_connection("Connecting");
    cluster.beta.ok("primary");
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.beta.write(200 * MIB, &rep_tests::random::bytes(3, MIB as usize));

    cluster.alpha.start();
    let after = cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    assert_eq!(after.role, "Secondary");
    let (copied, equal) = last_resync(&cluster.alpha);
    eprintln!("{} KiB marked: {} KiB copied, {} KiB equal", (copied + equal) / KIB, copied / KIB, equal / KIB);
    assert!(copied >= MIB, "{copied} bytes were copied: less than was written meanwhile");
    assert!(equal > copied, "{equal} bytes were equal, {copied} were copied");
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.assert_identical();
}

/// A Primary lives through the loss of its disk. What was hot is marked then, too: one block was written meanwhile, and nothing else travels.
#[test]
fn a_disk_that_comes_back_to_its_primary_gets_what_it_lacks() {
    let cluster = Cluster::with_primary(&ClusterOptions { disk_bytes: [64 * MIB; 2], ..ClusterOptions::default() });
    cluster.alpha.write(0, &rep_tests::random::bytes(9, 16 * MIB as usize));
    cluster.alpha.ok("detach");
    cluster.alpha.write(5 * MIB, &[7; 12 * 1024]);
    cluster.alpha.ok("attach");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    let (copied, equal) = last_resync(&cluster.alpha);
    assert_eq!(copied, 12 * KIB);
    assert!(equal >= 4 * MIB - 12 * KIB, "{equal} bytes were equal: not even one extent was marked");
    cluster.assert_identical();
}

/// New metadata on a disk that is as it was: everything is compared, what was written meanwhile is copied.
#[test]
fn a_reinstalled_node_whose_disk_is_intact_gets_what_it_lacks() {
    let options = ClusterOptions { disk_bytes: [64 * MIB; 2], external_metadata: true, ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    let data = rep_tests::random::bytes(9, 32 * MIB as usize);
    cluster.alpha.write(0, &data);
    cluster.beta.kill9();
    std::fs::remove_file(cluster.beta.meta_disk()).expect("the metadata");
    cluster.alpha.write(5 * MIB, &[7; 12 * 1024]);
    cluster.beta.start();
    cluster.beta.ok("create-md");
    cluster.beta.ok("up");
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_in_sync();
    let (copied, equal) = last_resync(&cluster.beta);
    assert_eq!((copied, equal), (12 * KIB, 64 * MIB - 12 * KIB));
    assert_eq!(last_resync(&cluster.alpha), (copied, equal), "both nodes say the same");
    cluster.assert_identical();
}

/// Another disk than the one that was there: comparing is soon given up, and everything is there in the end.
#[test]
fn a_disk_with_other_data_is_copied_whole() {
    let options = ClusterOptions { disk_bytes: [64 * MIB; 2], external_metadata: true, ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    cluster.alpha.write(0, &rep_tests::random::bytes(9, 64 * MIB as usize));
    cluster.beta.kill9();
    std::fs::write(cluster.beta.disk(), rep_tests::random::bytes(10, 64 * MIB as usize)).expect("the other disk");
    std::fs::remove_file(cluster.beta.meta_disk()).expect("the metadata");
    cluster.beta.start();
    cluster.beta.ok("create-md");
    cluster.beta.ok("up");
    cluster.beta.wait_in_sync();
    assert_eq!(last_resync(&cluster.beta), (64 * MIB, 0));
    cluster.assert_identical();
}

/// The operator sees before and meanwhile that comparing is what is done.
#[test]
fn the_plan_and_the_status_say_that_it_compares() {
    let options = ClusterOptions { disk_bytes: [64 * MIB; 2], external_metadata: true, ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    cluster.alpha.write(0, &rep_tests::random::bytes(9, 8 * MIB as usize));
    cluster.beta.kill9();
    std::fs::remove_file(cluster.beta.meta_disk()).expect("the metadata");
    cluster.alpha.ok("pause-sync");
    cluster.beta.start();
    cluster.beta.ok("create-md");
    cluster.beta.ok("up");
    cluster.alpha.wait_until("the resync waits", SOON, |it| it.volume().replication == "PausedSyncS");
    let plan = cluster.alpha.ok("connect --plan");
    assert!(plan.contains("would be compared, and what differs copied"), "{plan}");
    assert!(!cluster.beta.resource().is_in_sync());
    cluster.alpha.ok("resume-sync");
    cluster.beta.wait_in_sync();
    assert_eq!(last_resync(&cluster.beta), (0, 64 * MIB));
    cluster.assert_identical();
}
