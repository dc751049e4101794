//! ```text
//!   alpha Primary ===== beta Secondary     a ledger client works on alpha
//!   alpha Primary ===== beta (SIGSTOP)     its sockets stay open, nothing is answered
//!   alpha Primary       beta (SIGSTOP)     alpha's repctl answers within a second all the time; clients go on
//!   alpha Primary ====> beta SyncTarget    SIGCONT
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::{Cluster, ClusterOptions, Ledger};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn repctl_answers_and_clients_go_on() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    load.wait_for(300, SOON);
    cluster.beta.freeze();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        cluster.alpha.assert_answers_quickly();
        std::thread::sleep(Duration::from_millis(100));
    }
    load.wait_for(300, SOON);
    cluster.beta.thaw();
    cluster.alpha.wait_in_sync();
    let pause = load.stop_untroubled();
    assert!(pause < Duration::from_secs(10), "a client waited {pause:?}");
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
}

/// Verbs that need the peer's word end with their deadline, not with the peer's mood.
#[test]
fn verbs_keep_their_deadline() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.beta.freeze();
    let began = Instant::now();
    let outcome = cluster.alpha.verb("primary --timeout 3s");
    assert!(began.elapsed() < Duration::from_secs(6), "it took {:?}", began.elapsed());
    assert!(matches!(outcome.code, 0 | 5 | 10), "{outcome:?}");
    let outcome = cluster.alpha.verb("disconnect --timeout 3s");
    assert!(matches!(outcome.code, 0 | 5), "{outcome:?}");
    cluster.alpha.assert_answers_quickly();
    cluster.beta.thaw();
}
