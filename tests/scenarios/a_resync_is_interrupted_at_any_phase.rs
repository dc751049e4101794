//! ```text
//!   source Primary ====> target SyncTarget    bitmaps travel, blocks are copied, or the last ones are
//!   source    X          X  target            either dies, both do, or the link goes
//!   source         ====> target SyncTarget    the same direction; what was done, durably, isn't done again
//!   source Primary ===== target Secondary     the source's data, on both
//! ```
//!
//! In either direction. How much more than what differed was copied is printed for each round.

use rep_tests::{Cluster, ClusterOptions, Node};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
/// Where each round's data begin.
const AT: u64 = 8 * MIB;

/// Where a resync is when the trouble begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The direction has been decided; bitmaps travel, or the target makes durable what they say. That takes
    /// milliseconds: that it isn't over when the trouble comes is likely, not certain.
    Exchange,
    /// Blocks are copied, and the target's metadata say of some that they are done.
    Copying,
    /// The last ones are copied, or the generations are taken over.
    End,
}

/// What happens then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    SourceDies,
    TargetDies,
    BothDie,
    LinkLost,
}

const PHASES: [Phase; 3] = [Phase::Exchange, Phase::Copying, Phase::End];

impl Phase {
    /// What is out-of-sync when the round begins. Marks clear when the target has flushed, which it does every five
    /// seconds: with these a resync at the rate of these clusters takes two and a half, or eight.
    fn round(self) -> u64 {
        if self == Phase::Copying { 64 * MIB } else { 20 * MIB }
    }

    /// Waits until both are that far, and returns what may be copied after the trouble at most: what the target's
    /// metadata or the source mark.
    fn wait(self, source: &Node, target: &Node, log_before: usize) -> u64 {
        let round = self.round();
        match self {
            Phase::Exchange => {
                rep_tests::until("the direction is decided", SOON, || {
                    let log = target.log();
                    let new = log.get(log_before..).unwrap_or_default();
                    let decided = new.contains("replication: Off -> SyncTarget");
                    if decided { Ok(()) } else { Err("not yet".to_owned()) }
                });
                round
            }
            Phase::Copying => {
                target.wait_until("copying", SOON, |vz| {
                    let resync = vz.volume().resync.as_ref();
                    resync.is_some_and(|resync| resync.role == "SyncTarget" && resync.done_bytes >= round / 8)
                });
                rep_tests::until("a part is done, durably", SOON, || {
                    // A source that dies marks its hot extents besides; of these what is equal isn't copied.
                    let marked = [marked_on_disk(target), source.resource().volume().out_of_sync_bytes];
                    let most = marked[0].max(marked[1]);
                    if most < round { Ok(most) } else { Err(format!("{marked:?}")) }
                })
            }
            Phase::End => {
                target.wait_until("nearly done", SOON, |vz| {
                    let resync = vz.volume().resync.as_ref();
                    resync.map_or(vz.is_in_sync(), |resync| resync.done_bytes >= round * 7 / 8)
                });
                round
            }
        }
    }
}

/// What a crash of this node would leave marked, its hot extents not counted.
fn marked_on_disk(node: &Node) -> u64 {
    let dump = node.ok("dump-md");
    let line = dump.lines().find(|line| line.starts_with("out-of-sync")).expect("its line");
    let bytes = line.split_whitespace().rev().nth(1).and_then(|word| word.parse().ok());
    bytes.unwrap_or_else(|| panic!("no number of bytes: {line}"))
}

fn received(node: &Node) -> u64 {
    node.resource().volume().io.received_bytes
}

/// The trouble; returns what the target had received of this round when it came, and in its daemon's life.
fn strike(cluster: &mut Cluster, source: &str, target: &str, trouble: Trouble, before: u64) -> (u64, u64) {
    let dying = received(cluster.node(target)).saturating_sub(before);
    match trouble {
        Trouble::TargetDies => cluster.node(target).kill9(),
        Trouble::BothDie => {
            cluster.node(source).kill9();
            cluster.node(target).kill9();
        }
        Trouble::SourceDies => {
            cluster.node(source).kill9();
            cluster.node(target).wait_connection("Connecting");
        }
        Trouble::LinkLost => drop(cluster.node(target).ok("disconnect --force")),
    }
    if cluster.node(target).is_started() {
        let life = received(cluster.node(target));
        (life.saturating_sub(before), life)
    } else {
        (dying, 0)
    }
}

/// A round: the source writes alone, both meet, the trouble comes, and it ends with the source's data on both.
fn round(cluster: &mut Cluster, source: &str, target: &str, phase: Phase, trouble: Trouble) {
    let what = format!("{source} fills {target}, {phase:?}, {trouble:?}");
    let data = rep_tests::random::bytes(100 + phase as u64 * 10 + trouble as u64, phase.round() as usize);
    cluster.node(source).ok("disconnect");
    cluster.node(source).write(AT, &data);
    let (before, log_before) = (received(cluster.node(target)), cluster.node(target).log().len());
    // The other waits for it to come back: they meet at once.
    cluster.node(target).ok("connect");
    cluster.node(source).ok("connect");
    let [near, far] = if source == "alpha" { [&cluster.alpha, &cluster.beta] } else { [&cluster.beta, &cluster.alpha] };
    let rest_max = phase.wait(near, far, log_before);
    let (first, life) = strike(cluster, source, target, trouble, before);
    for node in [target, source] {
        if !cluster.node(node).is_started() {
            cluster.node(node).start();
        }
    }
    cluster.node(target).ok("connect");
    let met = cluster.node(source).wait_connection("Connected");
    assert_eq!(met.volume().disk, "UpToDate", "{what}: the source stays what it is");
    assert_ne!(met.volume().replication, "SyncTarget", "{what}: the direction is what it was");
    cluster.node(source).ok("primary");
    cluster.node(source).wait_in_sync();
    cluster.node(target).wait_in_sync();
    let rest = received(cluster.node(target)) - life;
    let amplification = (first + rest) as f64 / phase.round() as f64;
    println!("{what}: {first} bytes, then {rest} of {rest_max} at most: {amplification:.2} times what differed");
    assert!(rest <= rest_max, "{what}: {rest} bytes were copied after it, and no more than {rest_max} were marked");
    assert!(cluster.node(source).read(AT, data.len()) == data, "{what}: the wrong data won");
    cluster.assert_identical();
    cluster.node(source).wait_until("closed", SOON, |vz| !vz.volume().open);
}

fn survives(source: &str, troubles: &[Trouble]) {
    let target = if source == "alpha" { "beta" } else { "alpha" };
    let options = ClusterOptions {
        disk_bytes: [96 * MIB; 2],
        resync_lines: vec!["max-rate = \"8M\"".to_owned()],
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::in_sync(&options);
    cluster.node(source).ok("primary");
    for phase in PHASES {
        for trouble in troubles {
            round(&mut cluster, source, target, phase, *trouble);
        }
    }
}

#[test]
fn from_alpha_to_beta_by_a_death() {
    survives("alpha", &[Trouble::SourceDies, Trouble::TargetDies]);
}

#[test]
fn from_beta_to_alpha_by_a_death() {
    survives("beta", &[Trouble::SourceDies, Trouble::TargetDies]);
}

#[test]
fn from_alpha_to_beta_by_both_deaths_and_a_lost_link() {
    survives("alpha", &[Trouble::BothDie, Trouble::LinkLost]);
}

#[test]
fn from_beta_to_alpha_by_both_deaths_and_a_lost_link() {
    survives("beta", &[Trouble::BothDie, Trouble::LinkLost]);
}
