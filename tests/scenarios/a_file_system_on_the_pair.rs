//! ```text
//!   ext4 or xfs on nbdfuse + loop ---> alpha Primary ===== beta Secondary     mkfs, mount, write
//!                                      alpha Primary       beta X SIGKILL     write on: nobody notices
//!                                      alpha Primary ====> beta SyncTarget    write on
//!   unmounted, checked: clean          alpha Secondary === beta Primary       mounted there: every file is there
//!                                      alpha X SIGKILL     beta Primary       and the other way round, without unmounting
//!                                      alpha Primary       beta (SIGSTOP)     for a minute, write on
//! ```

use rep_tests::mount::{LoopDevice, Mount};
use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn pair() -> Cluster {
    // xfs refuses to be made on less than 300 MB.
    Cluster::with_primary(&ClusterOptions { disk_bytes: [340 * MIB; 2], ..ClusterOptions::default() })
}

fn content(name: &str) -> Vec<u8> {
    let seed = name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
    rep_tests::random::bytes(seed, 256 << 10)
}

/// Writes files and makes them stable.
fn write_files(mount: &Path, phase: &str) {
    for number in 0..12 {
        let name = format!("{phase}-{number}");
        let mut file = File::create(mount.join(&name)).expect("a file");
        file.write_all(&content(&name)).expect("its content");
        file.sync_all().expect("it is synced");
    }
    File::open(mount).and_then(|folder| folder.sync_all()).expect("the folder is synced");
}

#[track_caller]
fn assert_files(mount: &Path, phases: &[&str]) {
    for phase in phases {
        for number in 0..12 {
            let name = format!("{phase}-{number}");
            let found = std::fs::read(mount.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(found == content(&name), "{name} isn't what was written");
        }
    }
}

fn open(cluster: &Cluster, name: &str) -> LoopDevice {
    let node = if name == "alpha" { &cluster.alpha } else { &cluster.beta };
    LoopDevice::new(&node.uri(), node.folder())
}

fn unmount_and_check(mount: Mount, device: LoopDevice, kind: &str) {
    mount.unmount();
    device.check(kind);
    device.close();
}

fn survives_the_secondary(kind: &str) {
    if !root_or_not_run("mounting a file system") {
        return;
    }
    let mut cluster = pair();
    let device = open(&cluster, "alpha");
    let mount = device.format_and_mount(kind, cluster.alpha.folder());
    write_files(mount.path(), "both");
    cluster.beta.kill9();
    write_files(mount.path(), "alone");
    cluster.beta.start();
    write_files(mount.path(), "resync");
    cluster.alpha.wait_in_sync();
    assert_files(mount.path(), &["both", "alone", "resync"]);
    unmount_and_check(mount, device, kind);

    cluster.alpha.wait_until("the device is closed", rep_tests::node::SOON, |resource| !resource.volume().open);
    cluster.alpha.ok("secondary");
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
    cluster.beta.ok("primary");
    let device = open(&cluster, "beta");
    let mount = device.mount(kind, cluster.beta.folder());
    assert_files(mount.path(), &["both", "alone", "resync"]);
    unmount_and_check(mount, device, kind);
}

fn survives_the_primary(kind: &str) {
    if !root_or_not_run("mounting a file system") {
        return;
    }
    let mut cluster = pair();
    let device = open(&cluster, "alpha");
    let mount = device.format_and_mount(kind, cluster.alpha.folder());
    write_files(mount.path(), "stable");
    // Under way when the Primary dies: may be there or not, but the file system must be whole.
    std::fs::write(mount.path().join("under-way"), content("under-way")).expect("a file");
    cluster.alpha.kill9();
    drop((mount, device));

    cluster.beta.wait_connection("Connecting");
    cluster.beta.ok("primary");
    let device = open(&cluster, "beta");
    let mount = device.mount(kind, cluster.beta.folder());
    assert_files(mount.path(), &["stable"]);
    write_files(mount.path(), "on-the-other");
    cluster.alpha.start();
    write_files(mount.path(), "together");
    cluster.beta.wait_in_sync();
    assert_files(mount.path(), &["stable", "on-the-other", "together"]);
    unmount_and_check(mount, device, kind);
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_in_sync();
    cluster.assert_identical();
}

#[test]
fn ext4_survives_the_loss_of_the_secondary() {
    survives_the_secondary("ext4");
}

#[test]
fn xfs_survives_the_loss_of_the_secondary() {
    survives_the_secondary("xfs");
}

#[test]
fn ext4_survives_the_loss_of_the_primary() {
    survives_the_primary("ext4");
}

#[test]
fn xfs_survives_the_loss_of_the_primary() {
    survives_the_primary("xfs");
}

/// A file system on alpha while beta's daemon is frozen: it holds its connection and answers nothing for a minute. Whoever
/// writes waits once, as long as the link's `timeout` and `ping-timeout`; `repctl` answers all the time.
#[test]
fn a_secondary_frozen_for_a_minute_holds_nobody_up() {
    if !root_or_not_run("mounting a file system") {
        return;
    }
    let cluster = pair();
    let device = open(&cluster, "alpha");
    let mount = device.format_and_mount("ext4", cluster.alpha.folder());
    write_files(mount.path(), "both");
    cluster.beta.freeze();
    let begun = Instant::now();
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(60) {
        let before = Instant::now();
        write_files(mount.path(), &format!("frozen-{}", rounds % 4));
        longest = longest.max(before.elapsed());
        cluster.alpha.assert_answers_quickly();
        rounds += 1;
    }
    eprintln!(
        "{rounds} rounds of twelve files were written and synced beside a frozen peer, the longest took {longest:?}"
    );
    assert!(rounds >= 8, "only {rounds} rounds: most of the minute was spent waiting");
    assert_eq!(cluster.alpha.resource().connection, "Connecting", "the peer was given up");
    cluster.beta.thaw();
    cluster.alpha.wait_in_sync();
    assert_files(mount.path(), &["both", "frozen-0", "frozen-3"]);
    unmount_and_check(mount, device, "ext4");
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}
