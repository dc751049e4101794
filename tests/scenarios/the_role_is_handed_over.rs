//! ```text
//!   alpha Primary ===== beta Secondary     clients work on alpha's device
//!   alpha Secondary === beta Primary       repctl handover vz: the device stays, its requests are forwarded; no error
//!         |  X disk                        alpha's disk is taken away, and comes back: nobody notices
//!   alpha Secondary =X= beta Primary       the link goes: requests wait, and go on
//!   alpha Secondary === beta X SIGKILL     requests wait; repctl primary vz on alpha: they go on
//!   alpha Primary ===== beta Secondary     handed back, or returned: the same, byte by byte
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions, Cut, Ledger, NetworkKind};
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
/// Where fio works, beside the ledger's client.
const FIO_OFFSET: u64 = 64 * MIB;

fn load_on_alpha(cluster: &Cluster, bytes: u64) -> (Arc<Ledger>, Load) {
    let ledger = Arc::new(Ledger::new(bytes));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(300, SOON);
    (ledger, load)
}

fn roles(cluster: &Cluster) -> (String, String) {
    (cluster.alpha.resource().role, cluster.beta.resource().role)
}

/// Hands over from alpha, whose device is open.
fn hand_over(cluster: &Cluster) {
    let said = cluster.alpha.ok("handover");
    assert!(said.contains("beta is Primary; the device stays open here"), "{said}");
    assert_eq!(roles(cluster), ("Secondary".to_owned(), "Primary".to_owned()));
    let alpha = cluster.alpha.resource();
    assert!(alpha.volume().open && alpha.forwarding.is_some(), "{}", alpha.line());
    assert!(cluster.beta.resource().peer_forwards);
}

#[test]
fn to_and_fro_under_load_without_an_error() {
    let options = ClusterOptions { disk_bytes: [128 * MIB; 2], ..ClusterOptions::default() };
    let cluster = Cluster::with_primary(&options);
    let (ledger, load) = load_on_alpha(&cluster, 32 * MIB);
    let mut fio = cluster.start_fio(16);
    rep_tests::wait::until_true("fio writes", SOON, || {
        cluster.alpha.read(FIO_OFFSET, MIB as usize).iter().any(|&byte| byte != 0)
    });
    for _ in 0..3 {
        hand_over(&cluster);
        load.wait_for(500, SOON);
        // The destination of a virtual machine opens the device while the source still has it.
        let there = cluster.beta.connection();
        cluster.beta.wait_until("open on both", SOON, |resource| resource.volume().open);
        load.wait_for(200, SOON);
        there.close().expect("goodbye");
        cluster.beta.ok("handover");
        assert_eq!(roles(&cluster), ("Primary".to_owned(), "Secondary".to_owned()));
        load.wait_for(300, SOON);
    }
    assert!(fio.is_running(), "{}", std::fs::read_to_string(cluster.path("fio.log")).unwrap_or_default());
    drop(fio);
    load.stop_untroubled();
    cluster.alpha.wait_in_sync();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
    // Nobody has had beta's device open since: it goes by itself.
    cluster.beta.wait_until("nothing is forwarded", SOON, |resource| resource.forwarding.is_none());
    cluster.assert_identical();
}

#[test]
fn the_old_nodes_disk_is_serviced_and_the_device_closed_there_at_last() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    let (ledger, load) = load_on_alpha(&cluster, 16 * MIB);
    hand_over(&cluster);
    cluster.alpha.ok("detach");
    load.wait_for(500, SOON);
    assert_eq!(cluster.alpha.resource().volume().disk, "Diskless");
    cluster.alpha.ok("attach");
    load.wait_for(500, SOON);
    cluster.alpha.wait_in_sync();
    load.stop_untroubled();
    // Closed, it goes by itself, and beta's role has nothing to wait for any more.
    cluster.alpha.wait_until("nothing is forwarded", SOON, |resource| resource.forwarding.is_none());
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.beta.ok("secondary");
    cluster.assert_identical();
}

#[test]
fn a_lost_link_makes_them_wait_and_nothing_is_done_twice() {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let options = ClusterOptions { network: NetworkKind::Namespaces, ..ClusterOptions::default() };
    let cluster = Cluster::with_primary(&options);
    let (ledger, load) = load_on_alpha(&cluster, 16 * MIB);
    hand_over(&cluster);
    for cut in [Cut::Reset, Cut::Both, Cut::ToAlpha] {
        load.wait_for(300, SOON);
        cluster.network.cut(cut);
        let waits = |resource: &rep_tests::status::Resource| resource.forwarding.is_some_and(|device| device.waits);
        let seen = cluster.alpha.wait_until("requests wait", SOON, waits);
        assert!(seen.io_suspended.is_some() && seen.role == "Secondary", "{}", seen.line());
        cluster.alpha.assert_answers_quickly();
        // The new Primary's own clients don't wait.
        cluster.beta.write(20 * MIB, &[cut as u8 + 1; 4096]);
        cluster.network.heal();
        load.wait_for(300, SOON);
        cluster.alpha.wait_in_sync();
    }
    load.stop_untroubled();
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
    assert_eq!(cluster.beta.read(20 * MIB, 4096), [Cut::ToAlpha as u8 + 1; 4096]);
    cluster.assert_identical();
}

#[test]
fn the_new_primary_dies_and_the_old_one_takes_the_role_back() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    let (ledger, load) = load_on_alpha(&cluster, 32 * MIB);
    hand_over(&cluster);
    load.wait_for(500, SOON);
    cluster.beta.kill9();
    let seen = cluster.alpha.wait_connection("Connecting");
    assert!(seen.verdict.contains("requests wait"), "{}", seen.verdict);
    cluster.alpha.ok("primary");
    load.wait_for(500, SOON);
    cluster.beta.start();
    load.wait_for(500, SOON);
    cluster.alpha.wait_in_sync();
    load.stop_untroubled();
    cluster.beta.wait_in_sync();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.assert_identical();
}

#[test]
fn it_is_refused_where_it_cant_go_well() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.beta.refused("handover", "NotPrimary");
    let (_ledger, load) = load_on_alpha(&cluster, 16 * MIB);
    hand_over(&cluster);
    cluster.alpha.refused("handover", "NotPrimary");
    cluster.alpha.refused("secondary", "DeviceIsOpen");
    cluster.alpha.refused("primary", "PeerIsPrimary");
    cluster.alpha.refused("disconnect", "DeviceIsOpen");
    for line in ["secondary", "disconnect", "down"] {
        cluster.beta.refused(line, "PeerDeviceIsOpen");
    }
    load.wait_for(100, SOON);
    cluster.beta.ok("handover");
    load.stop_untroubled();
    cluster.beta.kill9();
    cluster.alpha.wait_connection("Connecting");
    cluster.alpha.refused("handover", "NotConnected");
    cluster.beta.start();
    cluster.alpha.wait_in_sync();
    cluster.beta.ok("detach");
    cluster.alpha.refused("handover", "PeerNotUpToDate");
    assert_eq!(cluster.alpha.resource().role, "Primary");
}
