//! ```text
//!   alpha Primary ===== beta Secondary
//!   alpha X SIGTERM     beta Secondary     a clean leave: nothing is out of sync
//!   alpha Secondary === beta Secondary     back: in sync at once, nothing is copied
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::{Cluster, ClusterOptions, Ledger};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn of_the_primary_copies_nothing_and_loses_nothing() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(500, SOON);
    cluster.alpha.stop();
    load.stop(); // its clients were cut off
    let before = cluster.beta.resource().volume().io.clone();
    cluster.alpha.start();
    let after = cluster.beta.wait_in_sync().volume().io.clone();
    assert_eq!((after.sent_bytes, after.received_bytes), (before.sent_bytes, before.received_bytes));
    cluster.alpha.wait_in_sync();
    cluster.assert_identical();
    cluster.beta.ok("primary");
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
}

#[test]
fn of_the_secondary_copies_what_was_written_meanwhile() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(300, SOON);
    cluster.beta.stop();
    load.wait_for(300, SOON);
    cluster.beta.start();
    load.wait_for(300, SOON);
    cluster.alpha.wait_in_sync();
    load.stop_untroubled();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
}

/// Switching roles to and fro under nobody's load: each time the other node has everything.
#[test]
fn of_roles_moves_the_data_along() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    let data = rep_tests::random::bytes(8, 1 << 20);
    for turn in 0..6_u64 {
        let (here, there) =
            if turn % 2 == 0 { (&cluster.alpha, &cluster.beta) } else { (&cluster.beta, &cluster.alpha) };
        here.write(turn << 20, &data);
        here.wait_until("closed", SOON, |resource| !resource.volume().open);
        here.ok("secondary");
        there.ok("primary");
        assert_eq!(there.read(turn << 20, 1 << 20), data);
        there.wait_until("closed", SOON, |resource| !resource.volume().open);
    }
    cluster.assert_identical();
}
