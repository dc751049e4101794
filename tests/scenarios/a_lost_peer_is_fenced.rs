//! ```text
//!   alpha Primary ===== beta Secondary       fencing = "resource-and-stonith"
//!   alpha Primary  / /  beta  ✝              beta is gone: alpha's clients wait, the fence-peer handler runs
//!      └── fence-peer: 7 ("it is down") ──►  the clients go on
//!
//!   alpha  ✝       / /  beta Secondary       alpha is gone: 'repctl primary' on beta runs beta's handler
//!      beta Primary ◄── fence-peer: 4, 7
//!      refused      ◄── fence-peer: 5 ("who knows"), 6 ("it is Primary"), none, too slow
//!   alpha SyncTarget <==== beta Primary      alpha is back and filled: beta runs unfence-peer
//!
//!   alpha Primary =/ /= beta Secondary       the link is cut, both live; beta hasn't noticed
//!      └── fence-peer: 'repctl outdate' on beta, 4 ──► alpha's clients go on, beta isn't promoted
//!   alpha Primary ====> beta SyncTarget      the link is mended: alpha runs unfence-peer
//! ```

use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions, Cut, NetworkKind, until};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A handler that tells what it was told, waits while it is to be slow, and ends as it is to.
const HANDLER: &str = r#"#!/bin/sh
dir=$1
env | grep '^REPD_' | sort > "$dir/told.$REPD_NODE.$REPD_HANDLER.new"
mv "$dir/told.$REPD_NODE.$REPD_HANDLER.new" "$dir/told.$REPD_NODE.$REPD_HANDLER"
echo "the handler $REPD_HANDLER speaks"
while [ -e "$dir/slow" ]; do sleep 0.05; done
exit "$(cat "$dir/answer")"
"#;

/// A cluster with handlers.
pub(crate) struct Fenced {
    pub cluster: Cluster,
    dir: PathBuf,
}

/// A cluster in sync whose handlers do as the files of the scenario's folder say.
fn fenced(fencing: &str, handlers: &str) -> Fenced {
    let mut fenced = prepared(fencing, handlers);
    fenced.cluster.bring_in_sync();
    fenced
}

/// The same, before its daemons are started.
pub(crate) fn prepared(fencing: &str, handlers: &str) -> Fenced {
    use std::os::unix::fs::PermissionsExt;
    let options = ClusterOptions { resource_lines: vec![format!("fencing = \"{fencing}\"")], ..Default::default() };
    let mut cluster = Cluster::prepare(&options);
    let dir = cluster.path("handlers");
    std::fs::create_dir(&dir).expect("the handlers' folder");
    let program = dir.join("handler");
    std::fs::write(&program, HANDLER).expect("the handler");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let words = format!("[\"{}\", \"{}\"]", program.display(), dir.display());
    cluster.config.resource_lines.push(format!("handlers = {{ {} }}", handlers.replace("HANDLER", &words)));
    cluster.write_config();
    let fenced = Fenced { cluster, dir };
    fenced.answers(7);
    fenced
}

impl Fenced {
    /// The exit code of the handlers from now on.
    pub(crate) fn answers(&self, code: i32) {
        std::fs::write(self.dir.join("answer.new"), code.to_string()).expect("the answer");
        std::fs::rename(self.dir.join("answer.new"), self.dir.join("answer")).expect("the answer");
    }

    /// Whether the handlers wait before they end.
    pub(crate) fn is_slow(&self, slow: bool) {
        let flag = self.dir.join("slow");
        if slow { std::fs::write(flag, "").expect("the flag") } else { std::fs::remove_file(flag).expect("the flag") }
    }

    /// From now on the handler counts as one that has not been called.
    pub(crate) fn forget(&self, node: &str, handler: &str) {
        std::fs::remove_file(self.dir.join(format!("told.{node}.{handler}"))).expect("it was called");
    }

    /// What a handler was told, once it has been called.
    pub(crate) fn told(&self, node: &str, handler: &str) -> String {
        let path = self.dir.join(format!("told.{node}.{handler}"));
        until(&format!("{handler} is called on {node}"), SOON, || {
            std::fs::read_to_string(&path).map_err(|error| error.to_string())
        })
    }

    /// Whether a handler has been called.
    pub(crate) fn was_called(&self, node: &str, handler: &str) -> bool {
        self.dir.join(format!("told.{node}.{handler}")).exists()
    }

    /// A client's write and flush on alpha, in the background.
    fn writes(&self) -> std::thread::JoinHandle<Result<(), String>> {
        let mut connection = self.cluster.alpha.connection();
        std::thread::spawn(move || {
            connection.write(8192, &[7; 4096], 0).map_err(|error| error.to_string())?;
            connection.flush().map_err(|error| error.to_string())?;
            let _ = connection.close();
            Ok(())
        })
    }

    /// Alpha's clients wait, and the status says why; `with` says what it must name.
    fn wait_suspended(&self, with: &str) {
        let alpha = &self.cluster.alpha;
        let shown = alpha.wait_until("clients wait", SOON, |vz| vz.io_suspended.is_some() && vz.verdict.contains(with));
        assert!(shown.verdict.contains("repctl resume-io vz"), "no way out in: {}", shown.verdict);
        alpha.assert_answers_quickly();
    }

    fn wait_going_on(&self) {
        self.cluster.alpha.wait_until("clients go on", SOON, |vz| vz.io_suspended.is_none());
    }
}

/// Beta is dead, the handler can't reach it, and a client of alpha, the Primary, waits.
fn waits_for_a_peer_out_of_reach() -> (Fenced, std::thread::JoinHandle<Result<(), String>>) {
    let mut fenced = fenced("resource-and-stonith", "fence-peer = HANDLER");
    fenced.cluster.expect_log("whether it goes on isn't known");
    fenced.answers(5);
    fenced.cluster.alpha.ok("primary");
    fenced.cluster.beta.kill9();
    let write = fenced.writes();
    fenced.wait_suspended("the peer can't be reached");
    (fenced, write)
}

fn ends_well(write: std::thread::JoinHandle<Result<(), String>>) {
    write.join().expect("the client").expect("the write");
}

#[test]
fn clients_wait_for_a_slow_handler_and_go_on_when_it_has_fenced_the_peer() {
    let mut fenced = fenced("resource-and-stonith", "fence-peer = HANDLER, timeout = \"5min\"");
    fenced.is_slow(true);
    fenced.cluster.alpha.ok("primary");
    assert!(!fenced.was_called("alpha", "fence-peer"), "nobody is fenced who is there");
    fenced.cluster.beta.kill9();
    fenced.wait_suspended("the fence-peer handler makes sure");
    let write = fenced.writes();
    let told = fenced.told("alpha", "fence-peer");
    let [mine, peers] = [0, 1].map(|node| {
        let address = fenced.cluster.network.address(node);
        address.rsplit_once(':').expect("a port").0.to_owned()
    });
    let addresses = [format!("REPD_MY_ADDRESS={mine}"), format!("REPD_PEER_ADDRESS={peers}")];
    for line in [
        "REPD_FENCING=resource-and-stonith",
        "REPD_HANDLER=fence-peer",
        &addresses[0],
        "REPD_NODE=alpha",
        "REPD_PEER=beta",
        &addresses[1],
        "REPD_RESOURCE=vz",
        "REPD_VOLUMES=0",
    ] {
        assert!(told.lines().any(|have| have == line), "{line} is missing in\n{told}");
    }
    fenced.wait_suspended("the fence-peer handler makes sure");
    assert!(!write.is_finished(), "a write was answered while beta might have gone on");
    fenced.is_slow(false);
    ends_well(write);
    fenced.wait_going_on();
    fenced.cluster.alpha.wait_for_log("the handler fence-peer speaks");

    fenced.cluster.beta.start();
    fenced.cluster.alpha.wait_in_sync();
}

/// Each exit code that says that the peer can't go on: clients of a Primary go on, and its survivor is promoted.
#[test]
fn every_answer_that_makes_sure_is_enough() {
    for (code, said) in [(3, "the peer is Inconsistent"), (4, "the peer is Outdated"), (7, "the peer was fenced")] {
        let (mut fenced, write) = waits_for_a_peer_out_of_reach();
        assert!(!write.is_finished(), "a write was answered while beta might have gone on");
        fenced.answers(code);
        ends_well(write);
        fenced.wait_going_on();
        fenced.cluster.alpha.wait_for_log(&format!("fencing: {said}, it can't go on"));
        fenced.cluster.beta.start();
        fenced.cluster.alpha.wait_in_sync();
        fenced.cluster.beta.wait_in_sync();

        fenced.cluster.alpha.kill9();
        let beta = &fenced.cluster.beta;
        beta.wait_until("the loss is noticed", SOON, |vz| vz.connection != "Connected");
        fenced.answers(5);
        beta.refused("primary", "PeerNotFenced");
        fenced.answers(code);
        beta.ok("primary");
        assert_eq!(beta.read(8192, 4096), [7; 4096]);
    }
}

#[test]
fn clients_wait_while_the_handler_fails_until_the_operator_says_so() {
    let (fenced, write) = waits_for_a_peer_out_of_reach();
    fenced.answers(0);
    fenced.wait_suspended("the fence-peer handler failed");
    assert!(!write.is_finished(), "a write was answered while beta might have gone on");
    fenced.cluster.alpha.ok("resume-io");
    ends_well(write);
    fenced.wait_going_on();
}

#[test]
fn clients_wait_without_a_handler_until_the_peer_is_back() {
    let options =
        ClusterOptions { resource_lines: vec!["fencing = \"resource-and-stonith\"".into()], ..Default::default() };
    let mut cluster = Cluster::prepare(&options);
    cluster.expect_log("has no fence-peer handler");
    cluster.expect_log("there is no fence-peer handler");
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    let mut fenced = Fenced { dir: cluster.path("none"), cluster };
    fenced.cluster.beta.kill9();
    let write = fenced.writes();
    fenced.wait_suspended("no fence-peer handler is configured");
    assert!(!write.is_finished(), "a write was answered while beta might have gone on");
    fenced.cluster.beta.start();
    ends_well(write);
    fenced.cluster.alpha.wait_in_sync();
    fenced.cluster.beta.wait_in_sync();
    fenced.cluster.alpha.ok("secondary");
    fenced.cluster.assert_identical();
}

#[test]
fn a_handler_that_never_ends_is_killed_and_called_again() {
    let mut fenced = fenced("resource-and-stonith", "fence-peer = HANDLER, timeout = \"1s\"");
    for text in ["not done in time, and killed", "whether it goes on isn't known"] {
        fenced.cluster.expect_log(text);
    }
    fenced.is_slow(true);
    fenced.cluster.alpha.ok("primary");
    fenced.cluster.beta.kill9();
    let write = fenced.writes();
    fenced.wait_suspended("did not end in time");
    fenced.is_slow(false);
    ends_well(write);
    fenced.wait_going_on();
}

#[test]
fn with_resource_only_clients_go_on_while_the_handler_runs() {
    let mut fenced = fenced("resource-only", "fence-peer = HANDLER, timeout = \"5min\"");
    fenced.is_slow(true);
    fenced.cluster.alpha.ok("primary");
    fenced.cluster.beta.kill9();
    fenced.told("alpha", "fence-peer");
    ends_well(fenced.writes());
    fenced.is_slow(false);
}

#[test]
fn the_survivor_is_promoted_only_after_the_fence_decision() {
    let mut fenced = fenced("resource-only", "fence-peer = HANDLER, unfence-peer = HANDLER");
    fenced.cluster.expect_log("whether it goes on isn't known");
    fenced.cluster.alpha.ok("primary");
    fenced.cluster.alpha.write(4096, &[9; 4096]);
    fenced.cluster.alpha.kill9();
    let beta = &fenced.cluster.beta;
    beta.wait_until("the loss is noticed", SOON, |vz| vz.connection != "Connected");
    let shown = beta.resource();
    assert!(!shown.safe_to_promote, "without asking nobody knows");
    let reason = shown.promotion_refused.expect("a reason");
    assert!(reason.contains("isn't known to be Outdated or fenced"), "{reason}");
    assert!(beta.ok("status").contains(&format!("  not to be promoted now: {reason}\n")), "{reason}");
    for (code, reason) in [(5, "PeerNotFenced"), (6, "PeerIsPrimary"), (0, "PeerNotFenced"), (1, "PeerNotFenced")] {
        fenced.answers(code);
        beta.refused("primary", reason);
        assert_eq!(beta.resource().role, "Secondary");
    }
    fenced.answers(4);
    beta.ok("primary");
    assert_eq!(beta.resource().promotion_refused, None);
    assert_eq!(beta.read(4096, 4096), [9; 4096]);
    beta.write(4096, &[10; 4096]);
    assert!(!fenced.was_called("beta", "unfence-peer"), "alpha isn't back");

    fenced.cluster.alpha.start();
    fenced.cluster.beta.wait_in_sync();
    fenced.told("beta", "unfence-peer");
    fenced.cluster.beta.ok("secondary");
    fenced.cluster.alpha.wait_in_sync();
    fenced.cluster.assert_identical();
}

/// The handler as it is written in practice: it has the peer outdated by its own command. It keeps how that stood before.
fn outdating_handler(path: &Path, cluster: &Cluster) {
    use std::os::unix::fs::PermissionsExt;
    let script = format!(
        r#"#!/bin/sh
[ "$REPD_HANDLER" = fence-peer ] || {{ touch "$0.$REPD_HANDLER"; exit 0; }}
[ -e "$0.before" ] || {{ {0} --socket {1} --json status > "$0.new"; mv "$0.new" "$0.before"; }}
for try in 1 2 3 4 5 6 7 8 9 10; do
    said=$({0} --socket {1} outdate "$REPD_RESOURCE" 2>&1) && exit 4
    echo "$said"
    case $said in *IsPrimary*) exit 6 ;; esac
    sleep 0.5
done
exit 5
"#,
        rep_tests::binaries::repctl().display(),
        cluster.beta.control_socket().display(),
    );
    std::fs::write(path, script).expect("the handler");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// A cluster that stands still without its peer, and whose fence-peer handler has that outdated: the handler's path, too.
fn outdating(options: ClusterOptions, handlers: &str) -> (Cluster, PathBuf) {
    let resource_lines = vec!["fencing = \"resource-and-stonith\"".to_owned()];
    let mut cluster = Cluster::prepare(&ClusterOptions { resource_lines, ..options });
    let handler = cluster.path("outdate");
    outdating_handler(&handler, &cluster);
    let handlers = handlers.replace("HANDLER", &format!("[\"{}\"]", handler.display()));
    cluster.config.resource_lines.push(format!("handlers = {{ {handlers} }}"));
    cluster.write_config();
    (cluster, handler)
}

#[test]
fn a_peer_that_lives_is_outdated_by_its_own_command() {
    let (mut cluster, _) = outdating(ClusterOptions::default(), "fence-peer = HANDLER");
    cluster.bring_in_sync();
    cluster.beta.ok("disconnect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_in_sync();
    cluster.alpha.ok("primary");
    cluster.alpha.ok("disconnect --force");
    cluster.alpha.write(0, &[3; 4096]);
    assert_eq!(cluster.beta.resource().volume().disk, "Outdated");
    cluster.beta.refused("primary", "NoUpToDateDisk");
    cluster.alpha.ok("connect");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
}

/// No daemon dies: the link alone is cut. Alpha's client waits for an answer and misses it first; beta, which expects nothing,
/// would notice a minute later, and is outdated by the handler in the meantime.
#[test]
fn a_peer_that_has_not_noticed_is_outdated_by_its_own_command() {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let options = ClusterOptions {
        network: NetworkKind::Namespaces,
        net_lines: ["timeout = \"2s\"", "ping-interval = \"1min\"", "connect-interval = \"1s\""]
            .map(str::to_owned)
            .into(),
        ..Default::default()
    };
    let (mut cluster, handler) = outdating(options, "fence-peer = HANDLER, unfence-peer = HANDLER");
    let unfenced = handler.with_extension("unfence-peer");
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    cluster.alpha.write(0, &[2; 4096]);

    cluster.network.cut(Cut::Both);
    cluster.alpha.write(4096, &[3; 4096]);
    let before = std::fs::read_to_string(cluster.path("outdate.before")).expect("the handler has run");
    let before: rep_tests::status::Status = serde_json::from_str(&before).expect("beta's status");
    let (before, after) = (&before.resources[0], cluster.beta.resource());
    assert_eq!(
        (before.connection.as_str(), before.volume().disk.as_str()),
        ("Connected", "UpToDate"),
        "it had noticed"
    );
    assert_eq!(after.volume().disk, "Outdated", "alpha's client was answered while beta could go on");
    assert!(!after.safe_to_promote && after.promotion_refused.is_some());
    cluster.beta.refused("primary", "NoUpToDateDisk");
    assert!(cluster.alpha.resource().io_suspended.is_none());
    assert!(!unfenced.exists(), "beta isn't back");

    cluster.network.heal();
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    until(
        "unfence-peer is called on alpha",
        SOON,
        || {
            if unfenced.exists() { Ok(()) } else { Err("not yet".to_owned()) }
        },
    );
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.assert_identical();
    cluster.alpha.ok("secondary");
    cluster.beta.ok("primary");
    assert_eq!(cluster.beta.read(4096, 4096), [3; 4096]);
}

/// One of beta's two disks isn't attached when the link is cut: the other's word is enough, for a resource is promoted with both.
#[test]
fn a_peer_that_lacks_a_disk_is_outdated_by_the_other() {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    for lacking in [0, 1] {
        let options = ClusterOptions {
            network: NetworkKind::Namespaces,
            volumes: 2,
            net_lines: ["timeout = \"2s\"", "connect-interval = \"1s\""].map(str::to_owned).into(),
            ..Default::default()
        };
        let (mut cluster, _) = outdating(options, "fence-peer = HANDLER");
        cluster.bring_in_sync();
        cluster.alpha.ok("primary");
        let volume = format!("vz/{lacking}");
        assert_eq!(cluster.beta.ctl(["detach", &volume]).code, 0);

        cluster.network.cut(Cut::Both);
        cluster.alpha.write(4096, &[3; 4096]);
        let states = |disk: &str| cluster.beta.resource().volumes.iter().filter(|volume| volume.disk == disk).count();
        assert_eq!((states("Diskless"), states("Outdated")), (1, 1), "alpha's client was answered without that");
        // Nor once it is attached: what the other has recorded holds for both.
        assert_eq!(cluster.beta.ctl(["attach", &volume]).code, 0);
        cluster.beta.refused("primary", "NoUpToDateDisk");
        // Nothing to record it: that is no fencing.
        cluster.beta.ok("detach");
        cluster.beta.refused("outdate", "Diskless");
        cluster.beta.ok("attach");

        cluster.network.heal();
        cluster.alpha.wait_in_sync();
        cluster.beta.wait_in_sync();
        cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
        cluster.assert_identical();
    }
}
