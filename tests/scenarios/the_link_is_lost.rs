//! ```text
//!   alpha Primary ===== beta Secondary     a ledger client works on alpha
//!   alpha Primary =/ /= beta Secondary     the link: silent, silent one way, reset, down
//!   alpha Primary       beta Secondary     alpha goes on after a bounded pause, no client sees an error
//!   alpha Primary ====> beta SyncTarget    the link is back: reconnects by itself, copies what beta lacks
//!   alpha Primary ===== beta Secondary     the same, byte by byte
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions, Cut, Ledger, NetworkKind};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// `timeout` (2 s in these scenarios), then `ping-timeout` (500 ms), and room for a busy machine.
const PAUSE_MAX: Duration = Duration::from_secs(10);

fn lose_and_find(cut: Cut) {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let options = ClusterOptions { network: NetworkKind::Namespaces, ..ClusterOptions::default() };
    let cluster = Cluster::with_primary(&options);
    let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(500, SOON);

    cluster.network.cut(cut);
    cluster.alpha.wait_until("the loss is noticed", SOON, |resource| resource.connection != "Connected");
    load.wait_for(500, SOON);
    let alone = cluster.alpha.resource();
    assert_eq!(alone.volume().peer_disk, "DUnknown");
    assert!(alone.volume().out_of_sync_bytes > 0, "what is written alone is remembered");
    cluster.alpha.assert_answers_quickly();
    cluster.beta.assert_answers_quickly();

    cluster.network.heal();
    load.wait_for(500, SOON);
    cluster.alpha.wait_in_sync();
    let pause = load.stop_untroubled();
    assert!(pause < PAUSE_MAX, "{cut:?}: a client waited {pause:?}");
    eprintln!("{cut:?}: the longest wait of a client was {pause:?}");
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
}

#[test]
fn silently() {
    lose_and_find(Cut::Both);
}

#[test]
fn silently_towards_the_primary() {
    lose_and_find(Cut::ToAlpha);
}

#[test]
fn silently_towards_the_secondary() {
    lose_and_find(Cut::ToBeta);
}

#[test]
fn with_resets() {
    lose_and_find(Cut::Reset);
}

#[test]
fn with_the_interface_down() {
    lose_and_find(Cut::LinkDown);
}
