//! ```text
//!   alpha Primary ===== beta Secondary      repctl switchover vz, on either node
//!   alpha Secondary === beta Primary
//!
//!   alpha Primary ===== beta ✗ (not reached, not in sync, refuses, can't mount)
//!   alpha Primary ===== beta Secondary      what was done is undone
//! ```
//! "--via env" runs on this machine what ssh would run on the other. What needs block devices is in tools/lab.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rep_tests::net::NetworkKind;
use rep_tests::tools::{self, Outcome, root_or_not_run};
use rep_tests::{Cluster, ClusterOptions, Cut, Node, binaries};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// `repctl switchover vz` on a node, whose words for the other are `via`.
fn switchover(cluster: &Cluster, on: &Node, via: &str, more: &[&str]) -> Outcome {
    let other = if on.name() == "alpha" { &cluster.beta } else { &cluster.alpha };
    let socket = other.control_socket();
    let config = cluster.config_path().to_string_lossy().into_owned();
    let line = ["switchover", "vz", "--via", via, "--peer-socket", &socket.to_string_lossy(), "--config", &config]
        .map(str::to_owned);
    on.ctl(line.iter().map(String::as_str).chain(more.iter().copied()))
}

#[track_caller]
fn assert_primary(cluster: &Cluster, name: &str) {
    let role = |node: &Node| node.resource().role;
    let expected = if name == "alpha" { ("Primary", "Secondary") } else { ("Secondary", "Primary") };
    assert_eq!((role(&cluster.alpha).as_str(), role(&cluster.beta).as_str()), expected);
}

/// A program in the scenario's folder.
fn program(cluster: &Cluster, name: &str, script: &str) -> PathBuf {
    let path = cluster.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the program");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

/// Alpha went on alone and has let go of its disk: on beta's older one nobody is Primary before that is back, and each says what to do.
#[test]
fn nobody_takes_the_role_beside_newer_data_that_aren_t_attached() {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let options = ClusterOptions { network: NetworkKind::Namespaces, ..ClusterOptions::default() };
    let cluster = Cluster::with_primary(&options);
    cluster.network.cut(Cut::Both);
    cluster.beta.wait_connection("Connecting");
    cluster.alpha.write(4096, &[9; 4096]);
    cluster.alpha.ok("secondary");
    cluster.alpha.ok("detach");
    cluster.network.heal();
    for node in [&cluster.alpha, &cluster.beta] {
        node.wait_connection("Connected");
    }
    let told = cluster.alpha.verb("primary").failed_with(10);
    assert!(told.contains("LetNewerGo: ") && told.contains("repctl attach vz"), "{told}");
    cluster.beta.refused("primary", "PeerLetNewerGo");

    cluster.alpha.ok("attach");
    cluster.alpha.wait_in_sync();
    cluster.beta.ok("primary");
    assert_eq!(cluster.beta.read(4096, 4096), [9; 4096]);
}

#[test]
fn from_either_node_to_and_fro_with_each_step_shown() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.alpha.write(4096, &[7; 4096]);
    let shown = switchover(&cluster, &cluster.alpha, "env", &[]).ok();
    for words in ["vz: alpha gives, beta takes", "alpha      secondary", "beta       primary", "vz: beta is Primary"] {
        assert!(shown.contains(words), "'{words}' isn't shown:\n{shown}");
    }
    assert_primary(&cluster, "beta");
    assert_eq!(cluster.beta.read(4096, 4096), [7; 4096]);

    // On the one that gives, and, with its report as JSON, on the one that takes.
    let json = switchover(&cluster, &cluster.alpha, "env", &["--json"]).ok();
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((report["from"].as_str(), report["to"].as_str()), (Some("beta"), Some("alpha")));
    let steps: Vec<_> = report["steps"].as_array().expect("steps").iter().map(|step| step["step"].as_str()).collect();
    assert_eq!(steps, [Some("secondary"), Some("primary")]);
    assert_primary(&cluster, "alpha");
    cluster.assert_identical();
}

#[test]
fn across_a_real_network() {
    if !root_or_not_run("making network namespaces") {
        return;
    }
    let cluster = Cluster::with_primary(&ClusterOptions { network: NetworkKind::Namespaces, ..Default::default() });
    let there = cluster.network.namespace(1).expect("a namespace");
    switchover(&cluster, &cluster.alpha, &format!("ip netns exec {there}"), &[]).ok();
    assert_primary(&cluster, "beta");
}

#[test]
fn nothing_is_begun_that_cant_go_well() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    let refused = |cluster: &Cluster, via: &str, more: &[&str], code: i32, reason: &str| {
        let said = switchover(cluster, &cluster.alpha, via, more).failed_with(code);
        assert!(said.contains(reason), "{reason} isn't named: {said}");
    };
    refused(&cluster, "env", &[], 10, "NobodyIsPrimary");
    cluster.alpha.ok("primary");

    refused(&cluster, "/nonexistent/ssh", &[], 1, "PeerNotReached");
    refused(&cluster, "false", &[], 1, "PeerNotReached");
    // Words that lead to the wrong machine: to this one.
    let own = cluster.alpha.control_socket();
    let said = cluster.alpha.ctl(["switchover", "vz", "--via", "env", "--peer-socket", &own.to_string_lossy()]);
    assert!(said.failed_with(2).contains("WrongNode"));
    refused(&cluster, "env", &["--mount", "/vz; reboot"], 2, "BadPath");
    refused(&cluster, "env", &["--mount", "/no/such/folder"], 1, "NoMountPoint");
    let open = cluster.alpha.connection();
    cluster.alpha.wait_until("open", rep_tests::node::SOON, |resource| resource.volume().open);
    refused(&cluster, "env", &[], 10, "DeviceIsOpen");
    open.close().expect("goodbye");
    cluster.alpha.wait_until("closed", rep_tests::node::SOON, |resource| !resource.volume().open);
    assert_primary(&cluster, "alpha");

    cluster.beta.kill9();
    cluster.alpha.wait_connection("Connecting");
    refused(&cluster, "env", &[], 10, "NotInSync");
    assert_eq!(cluster.alpha.resource().role, "Primary");
    cluster.beta.start();
    cluster.alpha.wait_in_sync();
}

#[test]
fn what_was_done_is_undone_when_a_step_fails() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    // The way to beta breaks when it shall become Primary, before it has, and after it has.
    let before = program(&cluster, "before", "case \"$*\" in *primary*) exit 255 ;; *) exec \"$@\" ;; esac");
    let said = switchover(&cluster, &cluster.alpha, &before.to_string_lossy(), &[]).failed_with(1);
    assert!(said.contains("all is as it was"), "{said}");
    assert_primary(&cluster, "alpha");
    let after = program(&cluster, "after", "\"$@\"; code=$?; case \"$*\" in *primary*) exit 255 ;; esac; exit $code");
    let outcome = switchover(&cluster, &cluster.alpha, &after.to_string_lossy(), &[]);
    assert!(outcome.stdout.contains("undone:") && outcome.stdout.contains("beta       secondary"), "{outcome:?}");
    assert!(outcome.failed_with(1).contains("all is as it was"));
    assert_primary(&cluster, "alpha");

    // It breaks for good: what can't be undone is said, and neither node has lost anything.
    let broken = program(
        &cluster,
        "broken",
        "case \"$*\" in *\" status \"* | *\" facts \"*) exec \"$@\" ;; *primary*) \"$@\" ;; esac; exit 255",
    );
    let said = switchover(&cluster, &cluster.alpha, &broken.to_string_lossy(), &[]).failed_with(1);
    assert!(said.contains("NotUndone") && said.contains("repctl status"), "{said}");
    assert_primary(&cluster, "beta");
    cluster.assert_identical();
}

/// Ctrl-C in the middle: the step under way ends, then all goes back.
#[test]
fn an_interrupted_switchover_goes_back() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.beta.ok("primary");
    let begun = cluster.path("begun");
    let wait = format!("touch {0}; while [ -e {0} ]; do sleep 0.05; done", begun.display());
    let slow = program(&cluster, "slow", &format!("case \"$*\" in *\" secondary \"*) {wait} ;; esac; exec \"$@\""));
    let mut command = Command::new(binaries::repctl());
    command.arg("--socket").arg(cluster.alpha.control_socket()).args(["switchover", "vz", "--via"]).arg(&slow);
    command.arg("--peer-socket").arg(cluster.beta.control_socket()).arg("--config").arg(cluster.config_path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("repctl");
    rep_tests::wait::until_true("beta is told to be Secondary", rep_tests::node::SOON, || begun.exists());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal");
    std::fs::remove_file(&begun).expect("it goes on");
    let done = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("Interrupted") && said.contains("all is as it was"), "{done:?}");
    assert_eq!(done.status.code(), Some(10));
    assert_primary(&cluster, "beta");
}

#[test]
fn a_file_system_that_cant_be_mounted_there_goes_back() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    let place = cluster.path("vz");
    std::fs::create_dir(&place).expect("a place");
    let outcome = switchover(&cluster, &cluster.alpha, "env", &["--mount", &place.to_string_lossy()]);
    for words in ["beta       mount             FAILED", "undone:", "alpha      primary"] {
        assert!(outcome.stdout.contains(words), "'{words}' isn't shown:\n{}", outcome.stdout);
    }
    let said = outcome.failed_with(1);
    assert!(said.contains("MountFailed") && said.contains("all is as it was"), "{said}");
    assert_primary(&cluster, "alpha");
}

/// systemd has a unit on each node, `repd-primary@vz`. Where it is active it goes along with the role: left active on the node
/// that gave, a later `systemctl start vz.mount` there would find it done and promote nothing.
#[test]
fn the_unit_that_keeps_a_node_primary_goes_along() {
    if !root_or_not_run("a systemctl of the test's own") {
        return;
    }
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    // One folder is what systemd knows of both nodes; NODE, which the way to beta sets, tells whose unit it is.
    let state = cluster.path("units");
    std::fs::create_dir(&state).expect("a folder");
    // The verb is the first word and the unit the last.
    let script = format!(
        "cd {} || exit\necho \"$NODE $*\" >>log\nverb=$1; shift $(($# - 1)); [ \"$1\" = repd-primary@vz.service ] || exit 1\n\
         case $verb in\n  cat) ;;\n  is-active) [ -e \"$NODE\" ] ;;\n  stop) rm \"$NODE\" ;;\n  start) [ ! -e fails-$NODE ] && touch \"$NODE\" ;;\n  \
         *) exit 1 ;;\nesac\n",
        state.display()
    );
    let systemctl = program(&cluster, "systemctl", &script);
    let via = program(&cluster, "via", "NODE=beta; export NODE; exec \"$@\"");
    let switched = || {
        let line = format!(
            "mount -t tmpfs none /run && mkdir -p /run/systemd/system && export NODE=alpha PATH={}:$PATH && exec \"$@\"",
            systemctl.parent().expect("a folder").display()
        );
        let mut command =
            tools::tool("unshare", ["-m", "--propagation", "private", "sh", "-c"], Duration::from_secs(60));
        command.arg(line).arg("sh").arg(binaries::repctl()).arg("--socket").arg(cluster.alpha.control_socket());
        command.args(["switchover", "vz", "--via"]).arg(&via).arg("--peer-socket").arg(cluster.beta.control_socket());
        command.arg("--config").arg(cluster.config_path());
        tools::finish(command)
    };
    let active = || ["alpha", "beta"].map(|node| state.join(node).exists());
    std::fs::write(state.join("alpha"), "").expect("an active unit");

    let shown = switched().ok();
    for words in ["alpha      stop the unit", "beta       start the unit"] {
        assert!(shown.contains(words), "'{words}' isn't shown:\n{shown}");
    }
    assert_primary(&cluster, "beta");
    assert_eq!(active(), [false, true]);
    switched().ok();
    assert_primary(&cluster, "alpha");
    assert_eq!(active(), [true, false]);

    // beta's can't be started: alpha is Primary again, and its unit active.
    std::fs::write(state.join("fails-beta"), "").expect("a unit that fails");
    let said = switched().failed_with(1);
    assert!(said.contains("UnitFailed") || said.contains("NotUndone"), "{said}");
    assert_primary(&cluster, "alpha");
    assert_eq!(active(), [true, false]);
    std::fs::remove_file(state.join("fails-beta")).expect("it doesn't fail any more");

    // Whoever promotes by hand needs no unit, and gets none started.
    std::fs::remove_file(state.join("alpha")).expect("not active");
    assert!(!switched().ok().contains("the unit"));
    assert_primary(&cluster, "beta");
    assert_eq!(active(), [false, false]);
}

#[test]
fn primary_waits_for_the_device() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.alpha.ok("primary --wait-device");
    assert_eq!(cluster.alpha.read(0, 4096), [0; 4096]);
}

#[test]
fn links_into_the_volume_come_and_go() {
    let mut cluster = Cluster::prepare(&ClusterOptions::default());
    let (path, target) = (cluster.path("etc-lxc"), cluster.path("vz"));
    std::fs::create_dir(&path).expect("the node's own");
    std::fs::write(path.join("conf"), "own").expect("a file");
    cluster.config.resource_lines.push(format!("links = {{ \"{}\" = \"{}\" }}", path.display(), target.display()));
    cluster.write_config();
    let links = |verb: &str| {
        let mut command = tools::tool("env", [binaries::repctl()], Duration::from_secs(30));
        command.args(["links", "vz", verb, "--config"]).arg(cluster.config_path());
        tools::finish(command)
    };
    let conf = |path: &Path| std::fs::read_to_string(path.join("conf")).expect("a file");
    assert!(links("make").failed_with(1).contains("NoLinkTarget"), "nothing is mounted");
    std::fs::create_dir(&target).expect("the volume");
    std::fs::write(target.join("conf"), "shared").expect("a file");
    links("make").ok();
    assert_eq!(conf(&path), "shared");
    assert!(links("show").ok().starts_with("made "));
    links("remove").ok();
    assert_eq!(conf(&path), "own");
    assert!(links("show").ok().starts_with("removed "));
}
