//! ```text
//!   alpha Primary ===== beta Secondary      a client works on alpha
//!   alpha (disk hangs)  beta                repctl answers on both, verbs end by their deadline; the way out of it: see
//!                                           `a_hung_disk_is_told_and_left`
//!   alpha ===== beta (disk hangs)           the same; clients wait for beta's disk, at most ko-count times timeout
//!   alpha (log full) == beta                nobody reads alpha's log any more: it works on
//! ```
//! A frozen peer: see `a_frozen_peer_freezes_nobody`.

use rep_tests::faulty_disk::{Faults, FaultyDisk};
use rep_tests::tools::{self, root_or_not_run};
use rep_tests::{Cluster, ClusterOptions, Node, binaries};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// What the verbs are given; what hangs does so until the test ends it.
const DEADLINE: &str = "--timeout 2s";

fn writes(node: &Node) -> JoinHandle<std::io::Result<()>> {
    let mut connection = node.connection();
    std::thread::spawn(move || {
        connection.write(0, &[7; 4096], 0)?;
        connection.flush()?;
        connection.close()
    })
}

/// Whatever a verb comes to, it does so by its deadline (the command's own is a little later, and panics).
fn verbs_end(node: &Node, verbs: &[&str]) {
    for verb in verbs {
        let outcome = node.verb(&format!("{verb} {DEADLINE}"));
        assert!(matches!(outcome.code, 0 | 1 | 5 | 10), "{verb}: {outcome:?}");
        node.assert_answers_quickly();
    }
}

/// A pair in sync, alpha Primary, one of its disks able to hang.
fn start(hanging: usize) -> (Cluster, FaultyDisk) {
    let mut cluster = Cluster::prepare(&ClusterOptions::default());
    let node = if hanging == 0 { &cluster.alpha } else { &cluster.beta };
    let disk = FaultyDisk::mount(&node.disk());
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    (cluster, disk)
}

#[test]
fn not_a_disk_of_the_primary() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let (cluster, disk) = start(0);
    disk.set(Faults { hung: true, ..Faults::NONE });
    let write = writes(&cluster.alpha);
    cluster.beta.assert_answers_quickly();
    verbs_end(&cluster.alpha, &["show-gi", "pause-sync", "resume-sync", "verify", "verify --stop", "invalidate-peer"]);
    verbs_end(&cluster.beta, &["show-gi", "primary"]);
    // Nobody lets go of the disk, and `disk-timeout` is off: the client waits for it, and for nothing else.
    assert!(!write.is_finished(), "answered with one disk hanging");
    disk.set(Faults::NONE);
    write.join().expect("the client").expect("the write");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.assert_identical();
}

#[test]
fn not_a_disk_of_the_secondary() {
    if !root_or_not_run("a disk that hangs") {
        return;
    }
    let (cluster, disk) = start(1);
    disk.set(Faults { hung: true, ..Faults::NONE });
    let write = writes(&cluster.alpha);
    verbs_end(&cluster.alpha, &["show-gi", "verify", "verify --stop"]);
    verbs_end(&cluster.beta, &["show-gi", "outdate", "detach"]);
    // The peer lives, its disk doesn't: it is left (`timeout` is 2 s, `ko-count` 7), and its Primary's clients go on.
    write.join().expect("the client").expect("the write");
    cluster.alpha.assert_answers_quickly();
    disk.set(Faults::NONE);
    let beta =
        cluster.beta.wait_until("what beta's disk was asked is back", SOON, |vz| vz.volume().old_operations == 0);
    assert_eq!(beta.volume().disk, "Diskless", "the detach that wasn't waited for has let go of it");
    cluster.beta.ok("attach");
    cluster.beta.ok("connect");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

/// The daemon's log goes into a pipe that is full and that nobody reads.
#[test]
fn not_a_full_log() {
    let mut cluster = Cluster::prepare(&ClusterOptions::default());
    let (pipe, script) = (cluster.path("log.pipe"), cluster.path("repd-with-a-full-log"));
    tools::words(&format!("mkfifo {}", pipe.display())).ok();
    // Held open for reading, and never read.
    let reader = std::fs::File::options().read(true).write(true).open(&pipe).expect("the pipe");
    let text = format!("#!/bin/sh\nexec '{}' \"$@\" 2>'{}'\n", binaries::repd().display(), pipe.display());
    std::fs::write(&script, text).expect("the script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let daemon = rep_tests::node::DaemonOptions { program: Some(script), ..Default::default() };
    let none = Node::new("none", cluster.path("none"), cluster.config_path().to_owned(), None, "vz");
    let alpha = std::mem::replace(&mut cluster.alpha, none);
    cluster.alpha = alpha.with_daemon(daemon);
    let mut filler = std::fs::File::options()
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&pipe)
        .expect("the pipe, once more");
    let full = filler.write_all(&[b'\n'; 1 << 20]).expect_err("a pipe has an end");
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock, "{full}");

    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    for _ in 0..20 {
        cluster.alpha.ok("disconnect");
        cluster.alpha.write(0, &[1; 4096]);
        cluster.alpha.ok("connect");
        cluster.beta.ok("connect");
        cluster.alpha.assert_answers_quickly();
        cluster.alpha.wait_in_sync();
    }
    assert_eq!(filler.write(b"x").expect_err("it was never read").kind(), std::io::ErrorKind::WouldBlock);
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.alpha.stop();
    drop(reader);
}
