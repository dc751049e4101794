//! ```text
//!   alpha Primary ===== beta Secondary     clients work on alpha's device
//!   alpha Secondary === beta Primary       repctl handover vz: the device stays, its requests are forwarded; no error
//!         |  X disk                        alpha's disk is taken away, and comes back: nobody notices
//!   alpha Secondary =X= beta Primary       the link goes: requests wait, and go on
//!   alpha Secondary === beta X SIGKILL     requests wait; repctl primary vz on alpha: they go on
//!   alpha Primary ===== beta Secondary     handed back, or returned: the same, byte by byte
//!
//!   alpha Primary == ?  beta               beta falls silent, or dies, in the middle: told, and nothing fails
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
    assert!(said.contains("alpha gives, beta takes") && said.contains("handover          done in"), "{said}");
    assert!(said.contains("beta is Primary; the device stays open on alpha"), "{said}");
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
fn a_peer_that_falls_silent_is_told_of_and_the_role_stays() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    let (ledger, load) = load_on_alpha(&cluster, 16 * MIB);
    cluster.beta.freeze();
    let said = cluster.alpha.verb("handover");
    cluster.beta.thaw();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("PeerLost") && said.stderr.contains("this node is Primary"), "{said:?}");
    load.wait_for(300, SOON);
    cluster.alpha.wait_in_sync();
    assert_eq!(roles(&cluster), ("Primary".to_owned(), "Secondary".to_owned()));
    hand_over(&cluster);
    load.wait_for(300, SOON);
    load.stop_untroubled();
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.assert_identical();
}

/// Wherever in a handover the peer dies: alpha's clients go on, by themselves or when it is said that alpha shall be Primary.
#[test]
fn a_peer_that_dies_in_the_middle_costs_no_request() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    let (ledger, load) = load_on_alpha(&cluster, 16 * MIB);
    for round in 0..6 {
        let pid = cluster.beta.pid().to_string();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(8 * round));
            std::process::Command::new("kill").args(["-KILL", &pid]).status()
        });
        let said = cluster.alpha.verb("handover --timeout 3s");
        assert!(killer.join().expect("the killer").is_ok_and(|status| status.success()));
        cluster.beta.kill9();
        if said.code != 0 && cluster.alpha.resource().role == "Secondary" {
            assert!(said.stderr.contains("requests of the device wait"), "{said:?}");
        }
        cluster.alpha.ok("primary");
        load.wait_for(200, SOON);
        cluster.beta.start();
        cluster.alpha.wait_in_sync();
    }
    load.stop_untroubled();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.assert_identical();
}

/// The link goes while the device on alpha is forwarded, and beta fences alpha as any peer that is out of reach: outdated, it waits, and
/// isn't promoted, until it has met beta again.
#[test]
fn with_fencing_the_new_primary_goes_on_and_the_old_one_waits_outdated() {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let lines = ["fencing = \"resource-and-stonith\"".to_owned()];
    let options = ClusterOptions {
        network: NetworkKind::Namespaces,
        resource_lines: lines.to_vec(),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::prepare(&options);
    let fence = format!(
        "'{}' --socket '{}' outdate vz && exit 4; exit 5",
        rep_tests::binaries::repctl().display(),
        cluster.alpha.control_socket().display()
    );
    cluster.config.resource_lines.push(format!("handlers = {{ fence-peer = [\"/bin/sh\", \"-c\", \"{fence}\"] }}"));
    cluster.write_config();
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    let (ledger, load) = load_on_alpha(&cluster, 16 * MIB);
    hand_over(&cluster);
    cluster.network.cut(Cut::Reset);
    cluster.alpha.wait_until("outdated", SOON, |resource| resource.volume().disk == "Outdated");
    cluster.beta.write(20 * MIB, &[7; 4096]);
    cluster.alpha.refused("primary", "NoUpToDateDisk");
    cluster.network.heal();
    load.wait_for(300, SOON);
    cluster.beta.wait_in_sync();
    cluster.beta.ok("handover");
    load.wait_for(100, SOON);
    load.stop_untroubled();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
    assert_eq!(cluster.alpha.read(20 * MIB, 4096), [7; 4096]);
    cluster.assert_identical();
}

#[test]
fn all_volumes_go_over_together() {
    let cluster = Cluster::with_primary(&ClusterOptions { volumes: 2, ..ClusterOptions::default() });
    let (ledger, load) = load_on_alpha(&cluster, 16 * MIB);
    let second = Arc::new(Ledger::new(16 * MIB));
    let (address, export) = (cluster.alpha.address_of(1), cluster.alpha.export_of(1));
    let other = Load::start(&second, &address, &export, &LoadOptions::default());
    for _ in 0..2 {
        hand_over(&cluster);
        [&load, &other].into_iter().for_each(|load| load.wait_for(300, SOON));
        cluster.beta.ok("handover");
        [&load, &other].into_iter().for_each(|load| load.wait_for(300, SOON));
    }
    load.stop_untroubled();
    other.stop_untroubled();
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
