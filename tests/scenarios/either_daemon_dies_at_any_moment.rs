//! ```text
//!   alpha Primary ===== beta Secondary     a ledger client works on the Primary
//!   one of them X SIGKILL                  at a random moment: under load, while resyncing, while reconnecting
//!   the Primary died:  the other is promoted if it may be, else the first comes back and is promoted again
//!   the Secondary died: it comes back
//!   ... many times; nothing answered is ever lost, in the end both are the same
//! ```

use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::random::Random;
use rep_tests::{Cluster, ClusterOptions, Ledger};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const ROUNDS: usize = 12;

fn other(name: &'static str) -> &'static str {
    if name == "alpha" { "beta" } else { "alpha" }
}

fn sleep(random: &mut Random, milliseconds_max: u64) {
    std::thread::sleep(Duration::from_millis(random.below(milliseconds_max)));
}

#[test]
fn either_daemon_dies_at_any_moment() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    let seed = Random::fresh_seed();
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    let ledger = Arc::new(Ledger::new(cluster.volume_bytes()));
    let mut primary = "alpha";
    for round in 1..=ROUNDS {
        let load = Load::start(&ledger, &cluster.node(primary).address(), "vz", &LoadOptions::default());
        load.wait_for(50, SOON);
        sleep(&mut random, 400);
        let secondary_dies = random.percent(40);
        eprintln!("round {round}: {} dies", if secondary_dies { other(primary) } else { primary });
        if secondary_dies {
            cluster.node(other(primary)).kill9();
            load.wait_for(100, SOON);
            cluster.node(other(primary)).start();
            sleep(&mut random, 300); // the next death may meet the resync
            load.stop_untroubled();
        } else {
            cluster.node(primary).kill9();
            load.stop();
            primary = take_over(&mut cluster, primary);
        }
        cluster.node(primary).judge(&ledger, Lost::OneNode).assert_clean();
    }
    for name in ["alpha", "beta"] {
        cluster.node(name).wait_in_sync();
    }
    cluster.assert_identical();
    eprintln!("{:?}", ledger.counts());
}

/// Who is Primary after the Primary died: the other if its data is good, else the same again.
fn take_over(cluster: &mut Cluster, died: &'static str) -> &'static str {
    let survivor = cluster.node(other(died));
    survivor.wait_until("the loss is noticed", SOON, |resource| resource.connection != "Connected");
    let promoted = survivor.verb("primary");
    cluster.node(died).start();
    if promoted.code == 0 {
        return other(died);
    }
    // It was being resynced: only the one that died has all the data.
    assert!(promoted.stderr.contains("NoUpToDateDisk"), "{promoted:?}");
    let returned = cluster.node(died);
    returned.wait_connection("Connected");
    returned.ok("primary");
    died
}
