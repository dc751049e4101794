//! ```text
//!   alpha Primary  / /  beta                a block of alpha's disk is bad: who reads or writes there gets an error
//!   alpha UpToDate                          everybody else goes on
//!   alpha Primary ====> beta SyncTarget     it can't be read for the resync: the rest is copied, clients go on
//!   alpha Primary ===== beta Secondary      it can be read again: the same
//!   alpha Diskless ---> beta UpToDate       beside a good peer the disk is let go of, no client hears of it
//! ```

use nix::errno::Errno;
use rep_tests::faulty_disk::{Faults, FaultyDisk, Operations};
use rep_tests::{Cluster, ClusterOptions, tools};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Both in sync, alpha Primary on a disk of data that can be made to fail; the metadata lie elsewhere.
fn start(policy: &str) -> (Cluster, FaultyDisk) {
    let lines = [format!("on-io-error = \"{policy}\""), "on-no-data = \"io-error\"".to_owned()];
    let options = ClusterOptions { external_metadata: true, resource_lines: lines.into(), ..ClusterOptions::default() };
    let mut cluster = Cluster::prepare(&options);
    let disk = FaultyDisk::mount(&cluster.alpha.disk());
    for expected in ["disk", "EIO", "nput/output error"] {
        cluster.expect_log(expected);
    }
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    (cluster, disk)
}

fn fails(disk: &FaultyDisk, operations: Operations, times: u32) {
    disk.set(Faults { failing: Some((operations, Errno::EIO, times)), ..Faults::NONE });
}

fn assert_kept(cluster: &Cluster) {
    let alpha = cluster.alpha.resource();
    assert_eq!((alpha.role.as_str(), alpha.volume().disk.as_str()), ("Primary", "UpToDate"));
}

#[test]
fn by_the_only_good_disk_and_to_nobody_else() {
    if !tools::root_or_not_run("a disk that fails") {
        return;
    }
    let (mut cluster, disk) = start("pass-on");
    cluster.beta.kill9();
    cluster.alpha.write(0, &[1; 8192]);
    let mut client = cluster.alpha.connection();
    let mut block = [0; 4096];

    fails(&disk, Operations::Reads, 1);
    client.read(0, &mut block).expect_err("a read of a bad block");
    client.read(4096, &mut block).expect("the next block");
    assert_eq!(block, [1; 4096]);
    fails(&disk, Operations::Writes, 1);
    client.write(0, &[2; 4096], 0).expect_err("a write of a bad block");
    client.write(4096, &[3; 4096], 0).expect("the next block");
    client.flush().expect("a flush");
    assert_kept(&cluster);
    cluster.alpha.wait_for_log("disk: a read failed; it holds the only good data and is kept");
    cluster.alpha.wait_for_log("disk: a write failed; it holds the only good data and is kept");

    fails(&disk, Operations::Reads, u32::MAX);
    cluster.beta.start();
    cluster.beta.wait_until("it is being filled", SOON, |vz| vz.volume().disk == "Inconsistent");
    cluster.alpha.wait_for_log("offset=0 length=8192");
    client.write(65536, &[4; 4096], 0).expect("a write beside the resync");
    assert_kept(&cluster);
    cluster.alpha.assert_answers_quickly();
    assert_eq!(cluster.beta.resource().volume().disk, "Inconsistent");
    disk.set(Faults::NONE);
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();

    fails(&disk, Operations::Reads, 1);
    client.read(4096, &mut block).expect("beta has it");
    assert_eq!(block, [3; 4096]);
    cluster.alpha.wait_until("let go of", SOON, |vz| vz.volume().disk == "Diskless");
    cluster.alpha.ok("attach");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

/// The default, for comparison: one bad block, and there is no data.
#[test]
fn not_by_one_that_is_detached() {
    if !tools::root_or_not_run("a disk that fails") {
        return;
    }
    let (mut cluster, disk) = start("detach");
    cluster.beta.kill9();
    cluster.alpha.write(0, &[1; 8192]);
    let mut client = cluster.alpha.connection();
    fails(&disk, Operations::Reads, 1);
    let mut block = [0; 4096];
    client.read(0, &mut block).expect_err("a read of a bad block");
    client.read(4096, &mut block).expect_err("a read without a disk");
    cluster.alpha.wait_until("let go of", SOON, |vz| vz.volume().disk == "Diskless");
}
