//! ```text
//!   alpha Primary ===== beta Secondary     something happens: the operator's program is told, and may take its time
//!      └── 0, 1, still running, killed, not there: all the same for who only hears of it
//!   alpha Primary ----> beta SyncTarget    before-resync-target is asked: only 0 is a yes
//! ```

use crate::a_lost_peer_is_fenced::{Fenced, SOON, prepared};
use nix::errno::Errno;
use rep_tests::faulty_disk::{Faults, FaultyDisk, Operations};
use rep_tests::tools;
use std::os::unix::fs::FileExt;

/// A program that isn't there.
const ABSENT: &str = "[\"/nonexistent/handler\"]";

/// In sync, alpha Primary.
fn with_primary(handlers: &str) -> Fenced {
    let mut fenced = prepared("dont-care", handlers);
    fenced.cluster.bring_in_sync();
    fenced.cluster.alpha.ok("primary");
    fenced
}

/// Beta lacks a write of alpha's and both connect again.
fn reconnect(fenced: &Fenced) {
    fenced.cluster.alpha.ok("disconnect");
    fenced.cluster.alpha.write(0, &[1; 4096]);
    fenced.cluster.alpha.ok("connect");
    fenced.cluster.beta.ok("connect");
}

fn wait_in_sync(fenced: &Fenced) {
    fenced.cluster.alpha.wait_in_sync();
    fenced.cluster.beta.wait_in_sync();
    fenced.cluster.assert_identical();
}

fn assert_told(told: &str, line: &str) {
    assert!(told.lines().any(|have| have == line), "{line} is missing in\n{told}");
}

/// Alpha and beta each take a write of their own, and meet.
fn go_apart(fenced: &Fenced) {
    fenced.cluster.alpha.ok("disconnect --force");
    fenced.cluster.beta.ok("disconnect --force");
    fenced.cluster.beta.ok("primary --force");
    fenced.cluster.alpha.write(0, &[1; 4096]);
    fenced.cluster.beta.write(0, &[2; 4096]);
    fenced.cluster.alpha.ok("connect");
    fenced.cluster.beta.ok("connect");
    for node in [&fenced.cluster.alpha, &fenced.cluster.beta] {
        node.wait_connection("SplitBrain");
    }
}

/// Beta is promoted by force and writes while alpha is Primary and doesn't: when they meet, beta's data are the newer.
fn fall_behind(fenced: &Fenced) {
    fenced.cluster.alpha.ok("disconnect --force");
    fenced.cluster.beta.ok("disconnect --force");
    fenced.cluster.beta.ok("primary --force");
    fenced.cluster.beta.write(0, &[2; 4096]);
    fenced.cluster.beta.wait_until("closed", SOON, |vz| !vz.volume().open);
    fenced.cluster.beta.ok("secondary");
    fenced.cluster.alpha.ok("connect");
    fenced.cluster.beta.ok("connect");
    fenced.cluster.alpha.wait_connection("StandAlone");
    fenced.cluster.beta.wait_connection("StandAlone");
}

/// Alpha, which fell behind, gives way.
fn give_way(fenced: &Fenced) {
    fenced.cluster.alpha.ok("secondary");
    fenced.cluster.alpha.ok("connect");
    fenced.cluster.beta.ok("connect");
    wait_in_sync(fenced);
}

// ---- before-resync-target: a question ----

/// ```text
///   alpha Primary ----- beta                before-resync-target: 1 ("I mind"): nothing is overwritten, StandAlone
///   alpha Primary ====> beta SyncTarget     'repctl connect', the handler says 0
/// ```
#[test]
fn a_target_s_handler_may_mind_being_overwritten() {
    let mut fenced = with_primary("before-resync-target = HANDLER");
    fenced.cluster.expect_log("before-resync-target");
    fenced.answers(1);
    reconnect(&fenced);
    let told = fenced.told("beta", "before-resync-target");
    assert_told(&told, "REPD_VOLUME=0");
    assert_told(&told, &format!("REPD_LL_DISK={}", fenced.cluster.beta.disk().display()));
    assert!(!fenced.was_called("alpha", "before-resync-target"), "the source isn't asked");
    stays_apart(&fenced);
    fenced.answers(0);
    fenced.cluster.beta.ok("connect");
    wait_in_sync(&fenced);
}

/// Beta is as it was, and says why and what to do.
fn stays_apart(fenced: &Fenced) {
    let beta = &fenced.cluster.beta;
    let shown = beta.wait_until("it stays apart", SOON, |vz| vz.connection == "StandAlone");
    let verdict = &shown.verdict;
    assert!(verdict.contains("before-resync-target") && verdict.contains("repctl connect vz"), "{verdict}");
    assert_eq!(shown.volume().disk, "Outdated", "whole, and known to be old");
}

#[test]
fn a_resync_waits_for_a_slow_handler_and_clients_do_not() {
    let fenced = with_primary("before-resync-target = HANDLER, timeout = \"5min\"");
    fenced.answers(0);
    fenced.is_slow(true);
    reconnect(&fenced);
    fenced.told("beta", "before-resync-target");
    fenced.cluster.alpha.write(8192, &[3; 4096]);
    fenced.cluster.beta.assert_answers_quickly();
    let beta = fenced.cluster.beta.resource();
    assert_eq!((beta.connection.as_str(), beta.volume().replication.as_str()), ("Connected", "SyncTarget"));
    assert!(beta.volume().out_of_sync_bytes > 0, "nothing may be copied yet");
    fenced.is_slow(false);
    wait_in_sync(&fenced);
    fenced.cluster.beta.wait_for_log("the handler before-resync-target speaks");
}

#[test]
fn a_handler_that_is_killed_or_is_not_there_has_not_said_yes() {
    let mut fenced = with_primary("before-resync-target = HANDLER, timeout = \"1s\"");
    for text in ["before-resync-target", "not done in time, and killed"] {
        fenced.cluster.expect_log(text);
    }
    fenced.is_slow(true);
    reconnect(&fenced);
    stays_apart(&fenced);

    let mut fenced = with_primary(&format!("before-resync-target = {ABSENT}"));
    for text in ["before-resync-target", "could not be run"] {
        fenced.cluster.expect_log(text);
    }
    reconnect(&fenced);
    stays_apart(&fenced);
}

// ---- the others: they are told ----

/// One exits with 1, one isn't done for long: the resync's end stands.
#[test]
fn who_hears_of_a_resync_s_end_changes_nothing() {
    let fenced = with_primary("after-resync-target = HANDLER, timeout = \"5min\"");
    fenced.answers(1);
    fenced.is_slow(true);
    fenced.cluster.beta.ok("invalidate");
    assert_told(&fenced.told("beta", "after-resync-target"), "REPD_VOLUME=0");
    wait_in_sync(&fenced);
    fenced.cluster.beta.assert_answers_quickly();
    fenced.is_slow(false);
    fenced.cluster.beta.wait_for_log("ended with exit code 1");
    fenced.forget("beta", "after-resync-target");
    fenced.cluster.beta.ok("invalidate");
    fenced.told("beta", "after-resync-target");
    wait_in_sync(&fenced);
    assert!(!fenced.was_called("alpha", "after-resync-target"), "it was the source");
}

#[test]
fn both_hear_of_a_split_brain() {
    let mut fenced = with_primary("split-brain = HANDLER");
    fenced.cluster.expect_log("plit brain");
    fenced.answers(1);
    go_apart(&fenced);
    for node in ["alpha", "beta"] {
        assert_told(&fenced.told(node, "split-brain"), "REPD_VOLUMES=0");
    }
    fenced.cluster.beta.wait_until("closed", SOON, |vz| !vz.volume().open);
    fenced.cluster.beta.ok("secondary");
    fenced.cluster.alpha.ok("split-brain resolve --keep alpha");
    wait_in_sync(&fenced);
}

#[test]
fn a_primary_that_fell_behind_hears_of_it() {
    let mut fenced = with_primary("pri-lost = HANDLER");
    fenced.cluster.expect_log("newer: refused");
    fenced.answers(1);
    fall_behind(&fenced);
    assert_told(&fenced.told("alpha", "pri-lost"), "REPD_NODE=alpha");
    assert!(!fenced.was_called("beta", "pri-lost"));
    give_way(&fenced);
}

/// Changes a byte of beta's disk behind its back; a verify finds it.
fn find_a_difference(fenced: &Fenced) {
    let file = std::fs::OpenOptions::new().write(true).open(fenced.cluster.beta.disk()).expect("the disk");
    file.write_all_at(&[0xa5], 1 << 20).expect("a write");
    file.sync_all().expect("a sync");
    fenced.cluster.alpha.verb("verify --wait").failed_with(1);
}

#[test]
fn who_led_a_verify_hears_of_what_differs() {
    let mut fenced = with_primary("out-of-sync = HANDLER");
    fenced.cluster.expect_log("the disks differ");
    fenced.answers(1);
    fenced.cluster.alpha.ok("verify --wait");
    assert!(!fenced.was_called("alpha", "out-of-sync"), "nothing differed");
    find_a_difference(&fenced);
    assert_told(&fenced.told("alpha", "out-of-sync"), "REPD_VOLUME=0");
    fenced.cluster.alpha.ok("resync --wait");
    wait_in_sync(&fenced);
}

/// Alpha's disk fails under a client, who goes on.
fn fail_disk(fenced: &mut Fenced, disk: &FaultyDisk) {
    for expected in ["disk", "EIO", "nput/output error"] {
        fenced.cluster.expect_log(expected);
    }
    disk.set(Faults { failing: Some((Operations::All, Errno::EIO, u32::MAX)), ..Faults::NONE });
    fenced.cluster.alpha.write(8192, &[7; 4096]);
    fenced.cluster.alpha.wait_until("Diskless", SOON, |vz| vz.volume().disk == "Diskless");
    assert_eq!(fenced.cluster.alpha.read(8192, 4096), [7; 4096]);
}

#[test]
fn who_hears_of_a_disk_s_error_keeps_no_client_waiting() {
    if !tools::root_or_not_run("a disk that fails") {
        return;
    }
    let mut fenced = prepared("dont-care", "local-io-error = HANDLER, timeout = \"5min\"");
    let disk = FaultyDisk::mount(&fenced.cluster.alpha.disk());
    fenced.cluster.bring_in_sync();
    fenced.cluster.alpha.ok("primary");
    fenced.answers(1);
    fenced.is_slow(true);
    fail_disk(&mut fenced, &disk);
    let told = fenced.told("alpha", "local-io-error");
    assert_told(&told, "REPD_VOLUME=0");
    assert_told(&told, &format!("REPD_LL_DISK={}", fenced.cluster.alpha.disk().display()));
    fenced.cluster.alpha.write(4096, &[8; 4096]);
    fenced.cluster.alpha.assert_answers_quickly();
    assert!(!fenced.was_called("beta", "local-io-error"), "its disk is well");
    fenced.is_slow(false);
    fenced.cluster.alpha.wait_for_log("ended with exit code 1");

    disk.set(Faults::NONE);
    fenced.cluster.alpha.ok("attach");
    fenced.cluster.alpha.wait_in_sync();
    fenced.forget("alpha", "local-io-error");
    fail_disk(&mut fenced, &disk);
    fenced.told("alpha", "local-io-error");
    disk.set(Faults::NONE);
    fenced.cluster.alpha.ok("attach");
    wait_in_sync(&fenced);
}

/// All of them, and none is there: that is logged, and nothing else is different.
#[test]
fn programs_that_are_not_there_are_missed_by_nobody() {
    if !tools::root_or_not_run("a disk that fails") {
        return;
    }
    let names = ["after-resync-target", "local-io-error", "out-of-sync", "pri-lost", "split-brain"];
    let mut fenced = prepared("dont-care", &names.map(|name| format!("{name} = {ABSENT}")).join(", "));
    for text in ["handler: could not be run", "the disks differ", "newer: refused", "plit brain"] {
        fenced.cluster.expect_log(text);
    }
    let disk = FaultyDisk::mount(&fenced.cluster.alpha.disk());
    fenced.cluster.bring_in_sync();
    fenced.cluster.alpha.ok("primary");
    let missed = |fenced: &Fenced, name: &str| {
        let text = "could not be run: No such file or directory (os error 2)";
        fenced.cluster.alpha.wait_for_log(&format!("{text} resource=\"vz\" handler=\"{name}\""));
    };
    fail_disk(&mut fenced, &disk);
    missed(&fenced, "local-io-error");
    disk.set(Faults::NONE);
    fenced.cluster.alpha.ok("attach");
    fenced.cluster.alpha.wait_in_sync();
    missed(&fenced, "after-resync-target");
    find_a_difference(&fenced);
    missed(&fenced, "out-of-sync");
    fenced.cluster.alpha.ok("resync --wait");
    fall_behind(&fenced);
    missed(&fenced, "pri-lost");
    give_way(&fenced);
    fenced.cluster.alpha.ok("primary");
    go_apart(&fenced);
    missed(&fenced, "split-brain");
}
