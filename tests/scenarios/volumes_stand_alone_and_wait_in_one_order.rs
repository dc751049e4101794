//! ```text
//!   alpha Primary ===== beta Secondary     three volumes, clients work on each
//!   vz/1: alpha Diskless ---> beta         its disk fails; vz/0 and vz/2 are as before
//!   vz/1: alpha Primary <==== beta         attached again, only it is resynced
//!   alpha Primary ====> beta SyncTarget    the link was lost: all three are resynced, one after the other
//!   alpha Primary ===== beta Secondary     the same, all three
//! ```

use nix::errno::Errno;
use rep_tests::faulty_disk::{Faults, FaultyDisk, Operations};
use rep_tests::ledger::Lost;
use rep_tests::load::{Load, LoadOptions};
use rep_tests::nbd::Address;
use rep_tests::status::{Resource, Volume};
use rep_tests::{Cluster, ClusterOptions, Ledger, Node, tools};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(120);
const VOLUMES: usize = 3;

fn options() -> ClusterOptions {
    ClusterOptions { volumes: VOLUMES, disk_bytes: [48 * MIB; 2], ..ClusterOptions::default() }
}

/// Clients of one volume and what they know of it.
struct Work {
    export: String,
    address: Address,
    ledger: Arc<Ledger>,
    load: Load,
}

impl Work {
    fn start(node: &Node, volume: usize) -> Work {
        let ledger = Arc::new(Ledger::new(32 * MIB));
        let (export, address) = (node.export_of(volume), node.address_of(volume));
        let options = LoadOptions { clients: 1, depth: 4, ..LoadOptions::default() };
        let load = Load::start(&ledger, &address, &export, &options);
        Work { export, address, ledger, load }
    }

    /// Ends the clients, none of whom may have seen an error, and has every sector judged.
    fn end_well(self) {
        self.load.stop_untroubled();
        let mut connection =
            rep_tests::nbd::Connection::open(&self.address, &self.export, SOON).unwrap_or_else(|e| panic!("{e}"));
        let report = self.ledger.verify(Lost::OneNode, |at, buffer| connection.read(at, buffer));
        let _ = connection.close();
        report.assert_clean();
    }
}

fn in_sync(volume: &Volume) -> bool {
    volume.disk == "UpToDate" && volume.peer_disk == "UpToDate" && volume.replication == "Established"
}

/// What is at stake in every state between: the volumes that aren't meant.
fn others_are_well(resource: &Resource, but: usize) {
    let others = resource.volumes.iter().filter(|volume| usize::from(volume.number) != but);
    others.for_each(|volume| assert!(in_sync(volume), "{}", resource.line()));
}

#[test]
fn one_disk_fails_and_the_others_never_notice() {
    if !tools::root_or_not_run("a disk that fails") {
        return;
    }
    let mut cluster = Cluster::prepare(&options());
    let disk = FaultyDisk::mount(&cluster.alpha.disk_of(1));
    cluster.bring_in_sync();
    for expected in ["disk", "EIO", "nput/output error"] {
        cluster.expect_log(expected);
    }
    cluster.alpha.ok("primary");
    let work: Vec<_> = (0..VOLUMES).map(|volume| Work::start(&cluster.alpha, volume)).collect();
    work.iter().for_each(|work| work.load.wait_for(100, SOON));

    disk.set(Faults { failing: Some((Operations::All, Errno::EIO, u32::MAX)), ..Faults::NONE });
    let lost = cluster.alpha.wait_until("vz/1 Diskless", SOON, |resource| resource.volumes[1].disk == "Diskless");
    others_are_well(&lost, 1);
    work.iter().for_each(|work| work.load.wait_for(200, SOON));
    others_are_well(&cluster.beta.resource(), 1);

    disk.set(Faults::NONE);
    cluster.alpha.ctl(["attach", "vz/1"]).ok();
    let back = cluster.alpha.wait_until("vz/1 well again", SOON, |resource| in_sync(&resource.volumes[1]));
    others_are_well(&back, 1);
    work.iter().for_each(|work| work.load.wait_for(100, SOON));
    work.into_iter().for_each(Work::end_well);
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn they_are_resynced_one_after_the_other() {
    let resync_lines = vec!["max-rate = \"8M\"".to_owned()];
    let cluster = Cluster::with_primary(&ClusterOptions { resync_lines, ..options() });
    cluster.alpha.ok("disconnect");
    let data: Vec<_> = (0..VOLUMES as u64).map(|seed| rep_tests::random::bytes(seed, 8 * MIB as usize)).collect();
    for (volume, data) in data.iter().enumerate() {
        let (export, address) = (cluster.alpha.export_of(volume), cluster.alpha.address_of(volume));
        let mut connection =
            rep_tests::nbd::Connection::open(&address, &export, SOON).unwrap_or_else(|e| panic!("{e}"));
        data.chunks(MIB as usize).enumerate().for_each(|(number, part)| {
            connection.write(number as u64 * MIB, part, 0).unwrap_or_else(|e| panic!("a write: {e}"));
        });
        let _ = connection.close();
    }
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    let order = RefCell::new(Vec::new());
    cluster.beta.wait_until("all resynced", SOON, |resource| {
        let moving = |volume: &&Volume| {
            volume.resync.as_ref().is_some_and(|resync| (1..resync.total_bytes).contains(&resync.done_bytes))
        };
        let moving: Vec<_> = resource.volumes.iter().filter(moving).map(|volume| volume.number).collect();
        assert!(moving.len() <= 1, "one at a time: {}", resource.line());
        order.borrow_mut().extend(moving);
        resource.is_in_sync()
    });
    let mut order = order.into_inner();
    order.dedup();
    assert!(!order.is_empty() && order.is_sorted(), "in the order of their numbers: {order:?}");
    cluster.assert_identical();
}
