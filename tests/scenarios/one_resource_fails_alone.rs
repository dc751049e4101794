//! ```text
//!                vz                                      db
//!   alpha Primary ===== beta Secondary      alpha Primary ===== beta Secondary      two resources of the same two daemons
//!   alpha (disk hangs)                      clients, repctl, a resync: untouched
//!   alpha SplitBrain  - - -  SplitBrain     the same
//!   alpha (fence-peer never ends)           the same
//! ```

use rep_tests::faulty_disk::{Faults, FaultyDisk};
use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions, Ledger, Node};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(120);
const OTHER: &str = "db";

/// The resource that must notice nothing, alpha Primary with clients at work.
struct Bystander {
    alpha: Node,
    beta: Node,
    load: Load,
    ledger: Arc<Ledger>,
}

impl Bystander {
    fn start(cluster: &Cluster) -> Bystander {
        let [alpha, beta] = cluster.beside(OTHER);
        alpha.ok("primary");
        let ledger = Arc::new(Ledger::new(32 * MIB));
        let load = Load::start(&ledger, &alpha.address(), OTHER, &LoadOptions::default());
        load.wait_for(200, SOON);
        Bystander { alpha, beta, load, ledger }
    }

    /// Its clients go on, repctl answers, it is left and met again, and resynced under load.
    fn goes_on(&self) {
        self.load.wait_for(200, SOON);
        self.alpha.assert_answers_quickly();
        self.beta.assert_answers_quickly();
        self.beta.ok("disconnect");
        self.load.wait_for(200, SOON);
        self.beta.ok("connect");
        self.beta.wait_in_sync();
        self.alpha.wait_in_sync();
        self.beta.ok("detach");
        self.load.wait_for(100, SOON);
        self.beta.ok("attach");
        self.beta.wait_in_sync();
        self.load.wait_for(100, SOON);
    }

    fn end(self) {
        self.load.stop_untroubled();
        self.alpha.judge(&self.ledger, Lost::OneNode).assert_clean();
        self.alpha.wait_until("closed", SOON, |one| !one.volume().open);
        self.alpha.wait_in_sync();
        self.beta.wait_in_sync();
        self.alpha.ok("secondary");
        let bytes = self.alpha.resource().volume().size_bytes;
        rep_tests::compare::assert_identical(&self.alpha.disk(), &self.beta.disk(), bytes);
    }
}

fn options() -> ClusterOptions {
    ClusterOptions { beside: vec![OTHER.to_owned()], ..ClusterOptions::default() }
}

#[test]
fn its_disk_hangs() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let mut cluster = Cluster::prepare(&options());
    let disk = FaultyDisk::mount(&cluster.alpha.disk());
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    let bystander = Bystander::start(&cluster);
    disk.set(Faults { hung: true, ..Faults::NONE });
    let mut connection = cluster.alpha.connection();
    let waits = std::thread::spawn(move || connection.write(0, &[1; 4096], 0).and_then(|()| connection.close()));
    cluster.alpha.wait_until("told", SOON, |vz| vz.verdict.contains("hasn't answered"));
    bystander.goes_on();
    assert!(!waits.is_finished(), "answered with one disk hanging");
    // Its own verbs, which end by their deadlines, keep nobody else waiting either.
    let hanging = cluster.alpha.verb("verify --timeout 2s");
    assert!(matches!(hanging.code, 0 | 1 | 5 | 10), "{hanging:?}");
    bystander.goes_on();
    disk.set(Faults::NONE);
    waits.join().expect("the client").expect("the write");
    cluster.alpha.wait_in_sync();
    bystander.end();
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.assert_identical();
}

#[test]
fn its_nodes_went_apart() {
    let mut cluster = Cluster::prepare(&options());
    cluster.expect_log("plit brain");
    cluster.bring_in_sync();
    let bystander = Bystander::start(&cluster);
    cluster.alpha.ok("disconnect --force");
    cluster.beta.ok("disconnect --force");
    for (node, byte) in [(&cluster.alpha, 1), (&cluster.beta, 2)] {
        node.ok("primary --force");
        node.write(0, &[byte; 4096]);
    }
    for node in [&cluster.alpha, &cluster.beta] {
        node.ok("connect");
    }
    for node in [&cluster.alpha, &cluster.beta] {
        node.wait_connection("SplitBrain");
    }
    bystander.goes_on();
    cluster.beta.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.beta.ok("secondary");
    cluster.alpha.ok("split-brain resolve --keep alpha");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    bystander.goes_on();
    bystander.end();
    assert_eq!(cluster.alpha.read(0, 4096), [1; 4096]);
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.assert_identical();
}

#[test]
fn its_fence_handler_never_answers() {
    let mut cluster = Cluster::prepare(&options());
    cluster.expect_log("handler");
    cluster.expect_log("fencing");
    let program = cluster.path("fence");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").expect("the handler");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    cluster.config.resource_lines.push("fencing = \"resource-and-stonith\"".to_owned());
    cluster.config.resource_lines.push(format!("handlers.fence-peer = [\"{}\"]", program.display()));
    cluster.write_config();
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    let bystander = Bystander::start(&cluster);
    cluster.alpha.ok("disconnect --force");
    let mut connection = cluster.alpha.connection();
    let waits = std::thread::spawn(move || connection.write(0, &[1; 4096], 0).and_then(|()| connection.close()));
    cluster.alpha.wait_until("clients wait", SOON, |vz| vz.verdict.contains("client I/O waits"));
    bystander.goes_on();
    assert!(!waits.is_finished(), "answered before the peer was fenced");
    cluster.alpha.ok("resume-io");
    waits.join().expect("the client").expect("the write");
    bystander.goes_on();
    for node in [&cluster.alpha, &cluster.beta] {
        node.ok("connect");
    }
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    bystander.end();
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.assert_identical();
}
