//! ```text
//!   client ──► alpha Primary ====> beta SyncTarget   4 MiB a second, as configured
//!   client ──► alpha Primary ==-=> beta SyncTarget   `max-rate` is turned down, `adjust` on both: it is held to that
//!   client ──► alpha Primary ====> beta SyncTarget   turned off: the rest is copied as fast as it can be
//! ```
//!
//! The rate is a bound from above: a machine that is slow stays below it.

use rep_tests::nbd::Connection;
use rep_tests::random::Random;
use rep_tests::{Cluster, ClusterOptions, Node};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(120);
/// What beta lacks.
const DATA: u64 = 48 * MIB;
/// The rate it is turned down to, in bytes a second.
const SLOW: u64 = MIB;
/// What is copied at that rate while it is measured.
const MEASURED: u64 = 6 * MIB;

/// Writes the configuration with that rate; both nodes take it, and neither goes down for it.
fn turn(cluster: &mut Cluster, rate: &str) {
    cluster.config.resync_lines = vec![format!("max-rate = \"{rate}\"")];
    cluster.write_config();
    for node in [&cluster.alpha, &cluster.beta] {
        let told = node.ctl(["--json", "adjust"]);
        let value: serde_json::Value = serde_json::from_str(&told.ok()).expect("JSON");
        let change = &value["changes"][0];
        assert_eq!((&change["done"], &change["needs_restart"]), (&true.into(), &false.into()), "{change}");
        assert_eq!(change["settings"][0]["key"], "resync.max-rate");
    }
}

/// Bytes the resync has done, as its target tells.
fn done_bytes(beta: &Node) -> u64 {
    beta.resource().volume().resync.as_ref().expect("the resync runs").done_bytes
}

#[test]
fn a_resync_under_way_goes_by_it() {
    let options = ClusterOptions { resync_lines: vec!["max-rate = \"4M\"".to_owned()], ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    cluster.beta.ok("disconnect");
    let mut data = vec![0; DATA as usize];
    Random::new(7).fill(&mut data);
    cluster.alpha.write(0, &data);
    // Who has the device open notices nothing of all this.
    let mut client: Connection = cluster.alpha.connection();
    cluster.beta.ok("connect");
    cluster.beta.wait_until("being filled", SOON, |vz| vz.volume().replication == "SyncTarget");

    turn(&mut cluster, "1M");
    let (began, before) = (Instant::now(), done_bytes(&cluster.beta));
    client.write(DATA, &[1; 4096], 0).expect("a write");
    let after = rep_tests::until("some of it copied", SOON, || match done_bytes(&cluster.beta) {
        now if now >= before + MEASURED => Ok(now),
        now => Err(format!("{now} bytes after {before}")),
    });
    let (copied, took) = (after - before, began.elapsed());
    let rate = copied as f64 / took.as_secs_f64();
    eprintln!("{copied} bytes in {took:?}: {rate:.0} bytes a second, {SLOW} allowed");
    // Twice as fast would be no bound. What was asked for before it was turned down still comes.
    assert!(rate < 2.0 * SLOW as f64, "{rate:.0} bytes a second where {SLOW} are allowed");
    assert_eq!(cluster.beta.resource().volume().replication, "SyncTarget", "it is the same resync");

    turn(&mut cluster, "0");
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_in_sync();
    client.write(DATA, &[2; 4096], 0).expect("a write");
    client.flush().expect("a flush");
    client.close().expect("the device was there all along");
    assert_eq!(cluster.alpha.resource().role, "Primary");
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.assert_identical();
}
