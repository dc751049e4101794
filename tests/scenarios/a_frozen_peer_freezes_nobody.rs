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

/// Who waits is told what for, and a script that reads JSON isn't.
#[test]
fn a_verb_that_waits_for_the_peer_says_so() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.beta.freeze();
    let outcome = cluster.alpha.verb("disconnect");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{outcome:?}");
    assert!(outcome.stderr.starts_with("disconnect vz: not done yet, waiting for at most 30 s ("), "{outcome:?}");
    cluster.beta.thaw();
    cluster.alpha.ok("connect");
    cluster.alpha.wait_in_sync();
    cluster.beta.freeze();
    assert_eq!(cluster.alpha.verb("disconnect --json").stderr, "");
    cluster.beta.thaw();
}

/// Taking over from a node that is gone without a word (here: frozen, and then killed) doesn't wait for the next regular
/// ping, which is half an hour away: the peer is asked at once, and its silence counts after `ping-timeout`.
#[test]
fn a_primary_gone_without_a_word_is_succeeded_without_waiting_for_a_ping() {
    let lines = ["ping-interval = \"30min\"", "connect-interval = \"1s\""].map(str::to_owned);
    let options = ClusterOptions { net_lines: lines.into(), ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    let before = [7; 4096];
    cluster.alpha.write(0, &before);
    cluster.alpha.freeze();
    cluster.beta.ok("primary");
    assert_eq!(cluster.beta.read(0, 4096), before);
    cluster.beta.write(4096, &before);
    cluster.alpha.kill9();
    cluster.alpha.start();
    cluster.beta.wait_in_sync();
    assert_eq!(cluster.alpha.wait_in_sync().role, "Secondary");
    cluster.assert_identical();
}
