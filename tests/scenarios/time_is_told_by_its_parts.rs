//! ```text
//!   alpha Primary ── write ──► beta            each part of each write is counted, on the Primary
//!   alpha Primary ── write ──► beta (frozen)   the wait is the peer's: 'peer' and 'write' say so, 'local' doesn't
//!   alpha Primary ── load  ──► beta            'repctl top' tells what happened between two looks
//! ```

use rep_tests::load::{Load, LoadOptions};
use rep_tests::nbd::Verb;
use rep_tests::{Cluster, ClusterOptions, Ledger};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const FROZEN: Duration = Duration::from_millis(300);

#[test]
fn in_the_status_and_by_top() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    let mut connection = cluster.alpha.connection();
    // Zeroes: the ledger below knows nothing of these.
    for block in 0..20 {
        connection.write(block << 12, &[0; 4096], 0).expect("write");
    }
    for part in ["write", "queue", "log", "local", "peer"] {
        assert_eq!(cluster.alpha.latency(part, "count"), 20, "{part}");
    }
    connection.flush().expect("flush");
    assert_eq!(cluster.alpha.latency("flush", "count"), 1);
    assert_eq!(cluster.alpha.latency("read", "count"), 0);

    cluster.beta.freeze();
    connection.send(1, Verb::Write, 0, 0, 4096, &[0; 4096]).expect("send");
    std::thread::sleep(FROZEN);
    cluster.beta.thaw();
    assert_eq!(connection.reply().expect("reply").error, 0);
    for part in ["peer", "write"] {
        let longest = Duration::from_micros(cluster.alpha.latency(part, "max_us"));
        // Not all of it: alpha took the request some time after it was sent.
        assert!(longest >= FROZEN / 3, "{part}: {longest:?} at most, with a peer frozen for {FROZEN:?}");
    }
    connection.close().expect("close");

    let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    let told: Value =
        serde_json::from_str(&cluster.alpha.ctl(["top", "vz/0", "--count", "1", "--json"]).ok()).expect("JSON");
    let words = cluster.alpha.ok("top --count 1");
    load.stop_untroubled();
    let volume = &told[0]["volumes"][0];
    assert!(volume["written_bytes_per_s"].as_u64() > Some(0), "{told}");
    assert!(
        volume["stages"]["peer"]["count"].as_u64() > Some(0) && told[0]["link"]["sent"]["p50_us"].is_u64(),
        "{told}"
    );
    for part in ["write", "peer", "sent", "PER SECOND"] {
        assert!(words.contains(part), "{part} is missing: {words}");
    }
    let unknown = cluster.alpha.ctl(["top", "vz/7"]).failed_with(10);
    assert!(unknown.contains("NoSuchVolume"), "{unknown}");
}
