//! ```text
//!   alpha Primary ===== beta Secondary     fio and a ledger client work on alpha
//!   alpha X SIGKILL     beta Secondary
//!   alpha X             beta Primary       promoted; everything answered is there
//!   alpha SyncTarget <== beta Primary      restarted, rejoins by itself, gets what it lacks
//!   alpha Secondary === beta Primary       the same, byte by byte
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::{Cluster, ClusterOptions, Ledger};
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
/// Where fio works, beside the ledger's client.
const FIO_OFFSET: u64 = 64 * MIB;

#[test]
fn everything_answered_is_on_the_other_node_and_the_old_primary_rejoins() {
    let options = ClusterOptions { disk_bytes: [128 * MIB; 2], ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    let ledger = Arc::new(Ledger::new(32 * MIB));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    let mut fio = cluster.start_fio(16);
    rep_tests::wait::until_true("fio writes", SOON, || {
        assert!(fio.is_running(), "{}", std::fs::read_to_string(cluster.path("fio.log")).unwrap_or_default());
        cluster.alpha.read(FIO_OFFSET, MIB as usize).iter().any(|&byte| byte != 0)
    });
    load.wait_for(3000, SOON);
    assert!(fio.is_running(), "it is killed in the middle of fio");
    cluster.alpha.kill9();
    load.stop();
    drop(fio);

    cluster.beta.wait_connection("Connecting");
    cluster.beta.ok("primary");
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();

    // The new Primary goes on alone for a while.
    let load = Load::start(&ledger, &cluster.beta.address(), "vz", &LoadOptions::default());
    load.wait_for(500, SOON);
    cluster.alpha.start();
    load.wait_for(500, SOON);
    cluster.beta.wait_in_sync();
    load.stop_untroubled();
    let alpha = cluster.alpha.wait_in_sync();
    assert_eq!((alpha.role.as_str(), alpha.peer.role.as_deref()), ("Secondary", Some("Primary")));
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.assert_identical();
}

/// What the old Primary gets back is what changed and what may have been under way when it died, not everything.
#[test]
fn rejoining_copies_the_dirty_blocks_and_the_hot_extents_only() {
    let options = ClusterOptions { disk_bytes: [1024 * MIB; 2], ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    let data = rep_tests::random::bytes(3, 1 << 20);
    for extent in [1, 50, 100] {
        cluster.alpha.write(extent * 4 * MIB, &data);
    }
    cluster.alpha.kill9();
    cluster.beta.wait_connection("Connecting");
    cluster.beta.ok("primary");
    cluster.beta.write(200 * 4 * MIB, &data);
    let before = cluster.beta.resource().volume().io.sent_bytes;
    cluster.alpha.start();
    let after = cluster.beta.wait_in_sync();
    let sent = after.volume().io.sent_bytes - before;
    assert!(sent >= MIB, "{sent} bytes were sent: less than was written");
    assert!(sent <= 3 * 4 * MIB + MIB, "{sent} bytes were sent: more than three hot extents and what was written");
    cluster.alpha.wait_in_sync();
    cluster.assert_identical();
}
