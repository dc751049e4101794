//! ```text
//!   alpha Primary, Diskless ===> beta UpToDate       on-no-data = "suspend-io"
//!   alpha Primary, Diskless  / / beta  ✝             a client writes, flushes, reads: nobody answers, nobody fails
//!   alpha Primary, Diskless ===> beta UpToDate       beta is back from a cut link: all is done, nothing was lost
//!
//!   alpha Primary, its disk failing  / /  beta ✝     the disk that served last comes back, alone: clients go on
//! ```

use nix::errno::Errno;
use rep_tests::faulty_disk::{Faults, FaultyDisk, Operations};
use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions, Cut, NetworkKind};
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const BEFORE: [u8; 4096] = [3; 4096];
const WAITING: [u8; 4096] = [7; 4096];

fn options(network: NetworkKind) -> ClusterOptions {
    ClusterOptions { network, resource_lines: vec!["on-no-data = \"suspend-io\"".into()], ..ClusterOptions::default() }
}

/// A client's write and flush on alpha, in the background; what they came to.
fn writes(cluster: &Cluster) -> JoinHandle<Result<(), String>> {
    let mut connection = cluster.alpha.connection();
    std::thread::spawn(move || {
        connection.write(8192, &WAITING, 0).map_err(|error| error.to_string())?;
        connection.flush().map_err(|error| error.to_string())?;
        let _ = connection.close();
        Ok(())
    })
}

/// Alpha's clients wait; the status says why, and what ends it.
fn wait_starved(cluster: &Cluster, ways_out: &[&str]) {
    let shown = cluster.alpha.wait_until("clients wait", SOON, |vz| {
        vz.io_suspended.as_ref().is_some_and(|why| why.to_string().contains("no good data is in reach"))
    });
    for words in ["client I/O waits", "repctl resume-io vz"].iter().chain(ways_out) {
        assert!(shown.verdict.contains(words), "'{words}' isn't said: {}", shown.verdict);
    }
    cluster.alpha.assert_answers_quickly();
}

#[test]
fn and_go_on_when_the_peer_is_back() {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let cluster = Cluster::with_primary(&options(NetworkKind::Namespaces));
    cluster.alpha.write(0, &BEFORE);
    cluster.alpha.ok("detach");
    cluster.network.cut(Cut::Both);
    wait_starved(&cluster, &["when beta is back", "repctl attach vz"]);
    let write = writes(&cluster);
    // Its connection is a client's: the device is open.
    cluster.alpha.wait_until("the client is there", SOON, |vz| vz.volume().open);
    cluster.alpha.refused("secondary", "DeviceIsOpen");
    assert!(!write.is_finished(), "answered without data");
    cluster.network.heal();
    write.join().expect("the client").expect("the write and its flush");
    cluster.alpha.wait_until("clients go on", SOON, |vz| vz.io_suspended.is_none());
    assert_eq!((cluster.alpha.read(0, 4096), cluster.alpha.read(8192, 4096)), (BEFORE.into(), WAITING.into()));
    cluster.alpha.ok("attach");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn and_go_on_when_the_disk_that_served_last_is_back() {
    if !root_or_not_run("a disk that fails") {
        return;
    }
    let mut cluster = Cluster::prepare(&options(NetworkKind::Loopback));
    let disk = FaultyDisk::mount(&cluster.alpha.disk());
    for expected in ["disk", "EIO", "nput/output error"] {
        cluster.expect_log(expected);
    }
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    cluster.beta.kill9();
    cluster.alpha.wait_until("beta is gone", SOON, |vz| vz.connection != "Connected");
    cluster.alpha.write(0, &BEFORE);
    disk.set(Faults { failing: Some((Operations::Writes, Errno::EIO, u32::MAX)), ..Faults::NONE });
    let write = writes(&cluster);
    wait_starved(&cluster, &["this disk is Diskless", "when beta is back", "repctl attach vz"]);
    assert!(!write.is_finished(), "answered without data");
    disk.set(Faults::NONE);
    cluster.alpha.ok("attach");
    write.join().expect("the client").expect("the write and its flush");
    let alpha = cluster.alpha.resource();
    assert_eq!((alpha.volume().disk.as_str(), alpha.io_suspended.is_some()), ("UpToDate", false));
    cluster.beta.start();
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    assert_eq!((cluster.alpha.read(0, 4096), cluster.alpha.read(8192, 4096)), (BEFORE.into(), WAITING.into()));
    cluster.assert_identical();
    cluster.alpha.stop();
}

#[test]
fn until_the_operator_has_them_fail() {
    let mut cluster = Cluster::with_primary(&options(NetworkKind::Loopback));
    cluster.alpha.ok("detach");
    cluster.beta.kill9();
    wait_starved(&cluster, &["when beta is back"]);
    let write = writes(&cluster);
    cluster.alpha.wait_until("the client is there", SOON, |vz| vz.volume().open);
    cluster.alpha.ok("resume-io");
    write.join().expect("the client").expect_err("nothing holds this write");
    let shown = cluster.alpha.wait_until("errors", SOON, |vz| vz.io_suspended.is_none());
    assert!(shown.verdict.contains("clients get errors"), "{}", shown.verdict);
    cluster.beta.start();
}
