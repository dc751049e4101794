//! ```text
//!   alpha Primary ===== beta Secondary
//!   alpha Primary       beta X               disk and metadata gone, a new disk put in
//!   alpha Primary ====> beta SyncTarget      create-md, up: nothing else
//!   alpha Primary ===== beta Secondary       filled
//!   alpha X             beta Primary         and good enough to carry on
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::scratch::sparse_file;
use rep_tests::{Cluster, ClusterOptions, Ledger};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_reinstalled_node_is_filled_with_create_md_and_up() {
    let options = ClusterOptions { disk_bytes: [64 << 20; 2], ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(1000, SOON);

    cluster.beta.kill9();
    std::fs::remove_file(cluster.beta.disk()).expect("the old disk");
    sparse_file(&cluster.beta.disk(), 64 << 20);
    load.wait_for(500, SOON);
    cluster.beta.start();
    let down = cluster.beta.resource();
    assert!(down.verdict.contains("create-md"), "status says what to do: {}", down.verdict);

    cluster.beta.ok("create-md");
    cluster.beta.ok("up");
    load.wait_for(500, SOON);
    cluster.alpha.wait_in_sync();
    load.stop_untroubled();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();

    cluster.alpha.kill9();
    cluster.beta.wait_connection("Connecting");
    cluster.beta.ok("primary");
    cluster.beta.judge(&ledger, Lost::OneNode).assert_clean();
}

/// The node that was reinstalled never becomes the source, whichever is up first.
#[test]
fn the_empty_node_never_wins() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    let data = rep_tests::random::bytes(5, 1 << 20);
    cluster.alpha.write(0, &data);
    cluster.alpha.ok("secondary");
    cluster.alpha.stop();
    cluster.beta.kill9();
    std::fs::remove_file(cluster.beta.disk()).expect("the old disk");
    sparse_file(&cluster.beta.disk(), 64 << 20);
    cluster.beta.start();
    cluster.beta.ok("create-md");
    cluster.beta.ok("up");
    cluster.beta.refused("primary", "NoUpToDateDisk");
    cluster.alpha.start();
    cluster.beta.wait_in_sync();
    cluster.beta.ok("primary");
    assert_eq!(cluster.beta.read(0, 1 << 20), data);
}

/// What was never written isn't written on the new disk either, and what the new disk had there before is given back to its
/// file system: zeroes are told, not copied, in pieces of 1 MiB.
#[test]
fn and_a_thin_disk_stays_thin() {
    use std::os::unix::fs::MetadataExt;
    const MIB: u64 = 1 << 20;
    let options = ClusterOptions { disk_bytes: [64 * MIB; 2], external_metadata: true, ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    let data = rep_tests::random::bytes(9, 3 * MIB as usize);
    for part in [0, 17, 40] {
        cluster.alpha.write(part * MIB, &data);
    }
    cluster.fill_another_disk_of_beta();
    let sent = cluster.alpha.resource().volume().io.sent_bytes;
    let allocated = std::fs::metadata(cluster.beta.disk()).expect("the disk").blocks() * 512;
    eprintln!("of 64 MiB 9 were written: {sent} bytes were sent, {allocated} are allocated on the target");
    assert!(allocated < 13 * MIB, "{allocated} bytes are allocated");
    assert!(sent < 25 * MIB, "{sent} bytes were sent");
}
