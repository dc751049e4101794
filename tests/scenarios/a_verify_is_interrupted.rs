//! ```text
//!   alpha VerifyS =====> beta VerifyT      'verify --wait' on alpha; 17 blocks differ behind where it is
//!   alpha         =/ /=  beta              the link is cut, a daemon is killed, or somebody stops it
//!   alpha         =/ /=  beta              'verify --wait' fails: it was interrupted, and where
//!   alpha VerifyS =====> beta VerifyT      asked again: goes on there, finds the 17; anew if alpha's daemon died
//! ```
//!
//! It used to say "the disks are the same", and exit with 0.

use rep_tests::tools::{Outcome, finish, root_or_not_run, tool};
use rep_tests::{Cluster, ClusterOptions, Cut, NetworkKind, Node, binaries};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const BLOCK: u64 = 4096;
const PLANTED: u64 = 17;

/// Changes one byte in each of so many blocks at the end of a disk's second half, far from where a verify begins.
fn damage(disk: &std::path::Path) {
    let file = OpenOptions::new().write(true).open(disk).expect("the disk");
    for number in 0..PLANTED {
        file.write_all_at(&[0xa5], (48 << 20) + number * 67 * BLOCK).expect("a write");
    }
    file.sync_all().expect("a sync");
}

/// A verify of 64 MiB takes eight seconds at least.
fn slow(network: NetworkKind) -> ClusterOptions {
    let resync_lines = vec!["max-rate = \"8MiB\"".to_owned()];
    ClusterOptions { network, resync_lines, ..ClusterOptions::default() }
}

/// `repctl verify vz WORDS --wait`, in the background.
fn verify_and_wait(node: &Node, words: &str) -> JoinHandle<Outcome> {
    let mut command = tool("env", [binaries::repctl()], Duration::from_secs(120));
    command.args(["--json", "--socket"]).arg(node.control_socket()).args(["verify", "vz", "--wait"]);
    command.args(words.split_whitespace());
    std::thread::spawn(move || finish(command))
}

/// Waits until a verify that this node leads has compared this much.
pub fn wait_for_progress(node: &Node, bytes: u64) {
    rep_tests::until(&format!("{bytes} bytes compared"), SOON, || {
        let outcome = node.ctl(["--json", "status"]);
        let status: serde_json::Value = serde_json::from_str(&outcome.stdout).map_err(|e| e.to_string())?;
        let verify = &status["resources"][0]["volumes"][0]["verify"];
        let done = verify["done_bytes"].as_u64().filter(|done| *done >= bytes);
        done.map(drop).ok_or_else(|| verify.to_string())
    });
}

/// A verify that was waited for says that it was interrupted. Says what it says of where ("8.00 MiB"; nothing: anew).
fn assert_interrupted(waiting: JoinHandle<Outcome>) -> Option<String> {
    let outcome = waiting.join().expect("repctl ends");
    let told: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
    assert_eq!((outcome.code, told["reason"].as_str()), (1, Some("VerifyInterrupted")), "{outcome:?}");
    let hint = told["hint"].as_str().expect("what to do next");
    let message = told["message"].as_str().expect("a sentence");
    assert!(hint.contains("'repctl verify vz --wait' again"), "{hint}");
    assert!(!message.contains("the disks are the same;"), "{message}");
    let place = message.split_once("interrupted after ").and_then(|(_, rest)| rest.split_once(" ("));
    let place = place.map(|(place, _)| place.to_owned());
    assert_eq!(place.is_some(), hint.contains("it goes on there"), "{told}");
    place
}

/// Compares again: finds what differs, having gone on at that place, or, without one, from the beginning.
fn assert_found_from(cluster: &Cluster, place: Option<&str>) {
    let replication = |resource: &rep_tests::status::Resource| resource.volume().replication == "Established";
    cluster.alpha.wait_until("connected again", SOON, replication);
    let told = cluster.alpha.verb("verify --wait").failed_with(1);
    assert!(told.contains("68.0 KiB differ"), "{told}");
    match place {
        Some(place) => assert!(told.contains(&format!("the first {place} had been compared before")), "{told}"),
        None => assert!(!told.contains("had been compared before"), "{told}"),
    }
    for node in [&cluster.alpha, &cluster.beta] {
        assert_eq!(node.resource().volume().out_of_sync_bytes, PLANTED * BLOCK, "{}", node.name());
    }
    cluster.alpha.ok("resync --wait");
    cluster.assert_identical();
}

#[test]
fn by_a_lost_link() {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let mut cluster = Cluster::with_primary(&slow(NetworkKind::Namespaces));
    cluster.expect_log("the disks differ");
    damage(&cluster.beta.disk());
    let waiting = verify_and_wait(&cluster.alpha, "");
    wait_for_progress(&cluster.alpha, 4 << 20);
    cluster.network.cut(Cut::Both);
    let place = assert_interrupted(waiting);
    assert!(place.is_some(), "it knows where");
    cluster.network.heal();
    assert_found_from(&cluster, place.as_deref());
}

#[test]
fn by_the_death_of_the_node_that_follows() {
    let mut cluster = Cluster::with_primary(&slow(NetworkKind::Loopback));
    cluster.expect_log("the disks differ");
    damage(&cluster.beta.disk());
    let waiting = verify_and_wait(&cluster.alpha, "");
    wait_for_progress(&cluster.alpha, 4 << 20);
    cluster.beta.kill9();
    let place = assert_interrupted(waiting);
    assert!(place.is_some(), "it knows where");
    cluster.beta.start();
    assert_found_from(&cluster, place.as_deref());
}

/// What was compared is known to nobody any more: this one begins anew, and that says so is how the others are known to
/// have gone on.
#[test]
fn by_the_death_of_the_node_that_leads() {
    let mut cluster = Cluster::in_sync(&slow(NetworkKind::Loopback));
    cluster.expect_log("the disks differ");
    damage(&cluster.beta.disk());
    let waiting = verify_and_wait(&cluster.alpha, "");
    wait_for_progress(&cluster.alpha, 8 << 20);
    cluster.alpha.kill9();
    cluster.alpha.start();
    assert_eq!(assert_interrupted(waiting), None, "nothing is left of it");
    assert_found_from(&cluster, None);
}

#[test]
fn by_an_operator_also_with_a_repair() {
    let mut cluster = Cluster::with_primary(&slow(NetworkKind::Loopback));
    cluster.expect_log("the disks differ");
    damage(&cluster.beta.disk());
    let waiting = verify_and_wait(&cluster.alpha, "--repair-from alpha");
    wait_for_progress(&cluster.alpha, 4 << 20);
    cluster.alpha.ok("verify --stop");
    let outcome = waiting.join().expect("repctl ends");
    let told: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!((outcome.code, told["reason"].as_str()), (1, Some("VerifyInterrupted")), "{outcome:?}");
    assert!(told["message"].as_str().is_some_and(|message| message.contains("an operator stopped it")), "{told}");
    assert!(told["hint"].as_str().is_some_and(|hint| hint.contains("--repair-from alpha --wait' again")), "{told}");
    assert_eq!(cluster.alpha.resource().volume().out_of_sync_bytes, 0, "nothing was found yet");
    let repaired = cluster.alpha.ok("verify --repair-from alpha --wait");
    assert!(repaired.contains("68.0 KiB differed and were made equal"), "{repaired}");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
}

/// `pause-sync` halts it: both nodes say so and how it goes on, and who waits gives up without a result.
#[test]
fn or_only_halted_which_both_nodes_tell() {
    let cluster = Cluster::with_primary(&slow(NetworkKind::Loopback));
    cluster.alpha.ok("verify");
    wait_for_progress(&cluster.alpha, 1 << 20);
    for (node, peer) in [(&cluster.alpha, "beta"), (&cluster.beta, "alpha")] {
        let told = node.ok("status");
        assert!(told.contains(&format!("comparing with {peer}: ")), "{told}");
        assert!(told.contains("volume 0 verify [") && told.contains("/s, to go: "), "{told}");
    }
    cluster.beta.ok("pause-sync");
    let told = cluster.alpha.verb("verify --wait --timeout 1s").failed_with(5);
    assert!(told.contains("hasn't moved for 1 s: comparing with beta halted at"), "{told}");
    let (alpha, beta) = (cluster.alpha.ok("status"), cluster.beta.ok("status"));
    assert!(alpha.contains("run 'repctl resume-sync vz' on beta"), "{alpha}");
    assert!(
        beta.contains("comparing with alpha halted at") && beta.contains("run 'repctl resume-sync vz'\n"),
        "{beta}"
    );
    for told in [&alpha, &beta] {
        assert!(told.contains(", halted\n"), "{told}");
    }
    cluster.beta.ok("resume-sync");
    assert!(cluster.alpha.ok("verify --wait").contains("the disks are the same"));
}

/// As a timer on both nodes does it: only one of them compares, and a second start of it waits for the same run.
#[test]
fn and_timers_on_both_nodes_do_not_get_into_each_other_s_way() {
    let cluster = Cluster::with_primary(&slow(NetworkKind::Loopback));
    let told = cluster.beta.ok("verify --on-one-node --wait");
    assert!(told.contains("alpha is Primary and compares vz"), "{told}");
    assert_eq!(cluster.alpha.resource().volume().replication, "Established", "beta didn't begin one");
    let first = verify_and_wait(&cluster.alpha, "--on-one-node");
    wait_for_progress(&cluster.alpha, 1 << 20);
    let told = cluster.beta.ok("verify --on-one-node --wait");
    assert!(told.contains("alpha compares vz already"), "{told}");
    let second = verify_and_wait(&cluster.alpha, "--on-one-node");
    let run = |waiting: JoinHandle<Outcome>| {
        let answer: serde_json::Value = serde_json::from_str(&waiting.join().expect("repctl ends").ok()).expect("JSON");
        let verified = &answer["verified"][0];
        assert_eq!(verified["state"], "Completed", "{answer}");
        (verified["run"].as_u64(), verified["compared_bytes"].as_u64())
    };
    let (first, second) = (run(first), run(second));
    assert_eq!(first, second, "both waited for the same one");
    assert_eq!(first.1, Some(cluster.volume_bytes()));

    cluster.alpha.ok("secondary");
    let told = cluster.beta.ok("verify --on-one-node --wait");
    assert!(told.contains("of two Secondaries alpha compares vz"), "{told}");
    assert!(cluster.alpha.ok("verify --on-one-node --wait").contains("the disks are the same"));
}
