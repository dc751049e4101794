//! ```text
//!   alpha Primary (disk hangs) ===== beta      clients wait; status says so, and which command ends it
//!   alpha Diskless ----------------> beta      'repctl detach', or `disk-timeout`: they go on at beta's disk
//!   alpha Diskless - - attach - - -> beta      refused while what the old disk was asked for can still land on it
//!   alpha <========================= beta      it answers again: attached, and filled with what it missed
//!
//!   alpha Primary ===== beta (disk hangs)      the same on the other side: nothing is left `Busy`
//!   alpha Primary (disk hangs)                 the only good copy is kept, whatever `disk-timeout` says
//!   alpha Primary ===== beta                   disks are taken away and brought back under load
//! ```

use rep_tests::faulty_disk::{Faults, FaultyDisk};
use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::status::Resource;
use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions, Ledger, Node};
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(120);
const HUNG: Faults = Faults { hung: true, ..Faults::NONE };

/// A pair in sync, alpha Primary with clients at work, and a disk of one of the two that can hang.
struct Scene {
    load: Load,
    ledger: Arc<Ledger>,
    disk: FaultyDisk,
    cluster: Cluster,
}

impl Scene {
    fn start(hanging: usize, resource_lines: &[&str]) -> Scene {
        let resource_lines = resource_lines.iter().map(|&line| line.to_owned()).collect();
        let mut cluster = Cluster::prepare(&ClusterOptions { resource_lines, ..ClusterOptions::default() });
        let node = if hanging == 0 { &cluster.alpha } else { &cluster.beta };
        let disk = FaultyDisk::mount(&node.disk());
        cluster.bring_in_sync();
        cluster.alpha.ok("primary");
        let ledger = Arc::new(Ledger::new(32 * MIB));
        let options = LoadOptions { depth: 4, ..LoadOptions::default() };
        let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &options);
        load.wait_for(200, SOON);
        Scene { load, ledger, disk, cluster }
    }

    /// While the disk hangs it can't be had again; when it answers it can, and is filled.
    fn comes_back(&self, node: &Node) {
        let bare = node.wait_until("told without a disk", SOON, |vz| vz.volume().disk == "Diskless");
        assert!(bare.volume().old_operations > 0, "{}", bare.line());
        assert!(bare.verdict.contains("haven't come back"), "{}", bare.verdict);
        node.refused("attach", "DiskHangs");
        node.assert_answers_quickly();
        self.disk.set(Faults::NONE);
        node.wait_until("what it was asked for is back", SOON, |vz| vz.volume().old_operations == 0);
        node.ok("attach");
        self.load.wait_for(100, SOON);
        node.wait_in_sync();
    }

    /// Nobody saw an error, what was answered is there, and both disks are the same.
    fn end(self) {
        let Scene { load, ledger, disk, cluster } = self;
        load.stop_untroubled();
        cluster.alpha.wait_in_sync();
        cluster.beta.wait_in_sync();
        cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
        cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
        cluster.alpha.ok("secondary");
        cluster.assert_identical();
        drop(cluster);
        drop(disk);
    }
}

/// Waits until a node tells of its disk's silence, and of this way out.
fn told(node: &Node, way_out: &str) -> Resource {
    let told = node.wait_until("the silence is told", SOON, |vz| vz.verdict.contains("hasn't answered for"));
    assert!(told.verdict.contains(way_out), "{}", told.verdict);
    assert!(told.volume().disk_unanswered_ms.is_some_and(|silent| silent >= 3000), "{}", told.line());
    told
}

#[test]
fn a_primary_is_told_and_goes_on_by_one_command() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let scene = Scene::start(0, &[]);
    let alpha = &scene.cluster.alpha;
    for _ in 0..2 {
        scene.disk.set(HUNG);
        told(alpha, "run 'repctl detach vz' and they go on at beta's");
        let before = scene.load.answered();
        alpha.assert_answers_quickly();
        assert_eq!(scene.load.answered(), before, "every request needs the disk that hangs");
        alpha.ok("detach");
        scene.load.wait_for(300, SOON);
        scene.comes_back(alpha);
    }
    scene.end();
}

#[test]
fn a_primary_goes_on_by_itself_after_disk_timeout() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let scene = Scene::start(0, &["disk-timeout = \"4s\""]);
    let alpha = &scene.cluster.alpha;
    for _ in 0..2 {
        scene.disk.set(HUNG);
        alpha.wait_until("let go of", SOON, |vz| vz.volume().disk == "Diskless");
        scene.load.wait_for(300, SOON);
        scene.comes_back(alpha);
    }
    assert!(alpha.log().contains("disk: UpToDate -> Failed (the disk didn't answer within disk-timeout)"));
    scene.end();
}

/// Beta's operator doesn't wait for its disk to come to rest: it is let go of as it is, and beta's commands go on.
#[test]
fn a_secondary_is_told_and_nothing_is_left_busy() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let scene = Scene::start(1, &[]);
    let beta = &scene.cluster.beta;
    scene.disk.set(HUNG);
    told(beta, "run 'repctl detach vz --force' and they go on");
    let late = beta.verb("detach --timeout 2s").failed_with(5);
    assert!(late.contains("let go of as it is"), "{late}");
    scene.load.wait_for(300, SOON);
    // What the state says, and not that an earlier command stands.
    beta.refused("primary", "PeerIsPrimary");
    scene.comes_back(beta);

    scene.disk.set(HUNG);
    told(beta, "run 'repctl detach vz --force' and they go on");
    beta.ok("detach --force");
    scene.load.wait_for(300, SOON);
    scene.comes_back(beta);
    scene.end();
}

/// `disk-timeout` on beta: alpha's clients go on long before alpha would leave beta for its disk.
#[test]
fn a_secondary_lets_go_by_itself_after_disk_timeout() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let scene = Scene::start(1, &["disk-timeout = \"4s\""]);
    let beta = &scene.cluster.beta;
    scene.disk.set(HUNG);
    beta.wait_until("let go of", SOON, |vz| vz.volume().disk == "Diskless");
    scene.load.wait_for(300, SOON);
    assert_eq!(beta.resource().connection, "Connected");
    scene.comes_back(beta);
    scene.end();
}

/// The setting is turned while the disk hangs, under its clients: they go on.
#[test]
fn disk_timeout_is_turned_on_under_a_disk_that_hangs() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let mut scene = Scene::start(0, &[]);
    scene.disk.set(HUNG);
    told(&scene.cluster.alpha, "run 'repctl detach vz'");
    scene.cluster.config.resource_lines.push("disk-timeout = \"2s\"".to_owned());
    scene.cluster.write_config();
    scene.cluster.alpha.ctl(["adjust"]).ok();
    scene.load.wait_for(300, SOON);
    scene.comes_back(&scene.cluster.alpha);
    scene.end();
}

/// Alpha is alone: its disk is all there is, and stays; its operator may have clients get errors instead of waiting.
#[test]
fn the_only_good_copy_is_kept() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let mut cluster = Cluster::prepare(&ClusterOptions {
        resource_lines: vec!["disk-timeout = \"2s\"".to_owned()],
        ..ClusterOptions::default()
    });
    let disk = FaultyDisk::mount(&cluster.alpha.disk());
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    cluster.beta.ok("disconnect");
    cluster.alpha.write(0, &[1; 4096]);
    disk.set(HUNG);
    let write = |byte: u8| {
        let mut connection = cluster.alpha.connection();
        std::thread::spawn(move || {
            connection.write(0, &[byte; 4096], 0)?;
            connection.flush()?;
            connection.close()
        })
    };
    let waiting = write(2);
    let long = |vz: &Resource| vz.volume().disk_unanswered_ms.is_some_and(|silent| silent > 8000);
    let alone = cluster.alpha.wait_until("silent for four times disk-timeout", SOON, long);
    assert_eq!(alone.volume().disk, "UpToDate");
    assert!(alone.verdict.contains("no other good one is in reach"), "{}", alone.verdict);
    cluster.alpha.refused("detach", "OnlyGoodCopy");
    assert!(!waiting.is_finished(), "answered without a disk");
    disk.set(Faults::NONE);
    waiting.join().expect("the client").expect("the write");

    disk.set(HUNG);
    let failing = write(3);
    told(&cluster.alpha, "'repctl detach vz --force' they get errors");
    cluster.alpha.ok("detach --force");
    let error = failing.join().expect("the client").expect_err("no disk has it");
    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
    disk.set(Faults::NONE);
    cluster.alpha.wait_until("back", SOON, |vz| vz.volume().old_operations == 0);
    cluster.alpha.ok("attach");
    // Nobody has gone on without it. The flush after that is told that a cache's content may be gone; the next isn't.
    cluster.alpha.wait_until("as before", SOON, |vz| vz.volume().disk == "UpToDate");
    cluster.beta.ok("connect");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.alpha.ok("secondary");
    cluster.assert_identical();
    drop(cluster);
}

/// Whole disks are taken away and brought back by their operators, on either side, in the middle of the load.
#[test]
fn disks_are_taken_away_and_brought_back_under_load() {
    let options = ClusterOptions { disk_bytes: [128 * MIB; 2], ..ClusterOptions::default() };
    let cluster = Cluster::with_primary(&options);
    let ledger = Arc::new(Ledger::new(32 * MIB));
    let load = Load::start(&ledger, &cluster.alpha.address(), "vz", &LoadOptions::default());
    let mut fio = cluster.start_fio(8);
    load.wait_for(300, SOON);
    for node in [&cluster.alpha, &cluster.beta, &cluster.alpha, &cluster.beta] {
        node.ok("detach");
        assert_eq!(node.resource().volume().disk, "Diskless");
        load.wait_for(200, SOON);
        node.ok("attach");
        load.wait_for(200, SOON);
        cluster.alpha.wait_in_sync();
        cluster.beta.wait_in_sync();
    }
    // Away again in the middle of the resync.
    for node in [&cluster.alpha, &cluster.beta] {
        node.ok("detach");
        load.wait_for(200, SOON);
        node.ok("attach");
        node.ok("detach");
        load.wait_for(100, SOON);
        node.ok("attach");
        node.wait_in_sync();
    }
    assert!(fio.is_running(), "{}", std::fs::read_to_string(cluster.path("fio.log")).unwrap_or_default());
    drop(fio);
    load.stop_untroubled();
    cluster.alpha.judge(&ledger, Lost::OneNode).assert_clean();
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.alpha.ok("secondary");
    cluster.assert_identical();
}
