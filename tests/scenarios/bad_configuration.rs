//! A configuration with several mistakes: every one is told with file, line and cause, at once, exit code 3, nothing
//! changed.

use rep_tests::scratch::{Place, Scratch};
use rep_tests::{Cluster, ClusterOptions, binaries, tools};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn check(path: &Path) -> tools::Outcome {
    let mut command = tools::tool("env", [binaries::repctl()], SOON);
    command.args(["config", "check", "--config"]).arg(path);
    tools::finish(command)
}

/// A good configuration, then one line replaced.
fn with(replacement: (&str, &str)) -> String {
    let cluster = Cluster::prepare(&ClusterOptions::default());
    let text = cluster.config.text();
    assert!(text.contains(replacement.0), "{text}");
    text.replacen(replacement.0, replacement.1, 1)
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let scratch = Scratch::new(Place::Tmpfs);
    let path = scratch.path().join("repd.toml");
    let text = r#"[resource.vz]
protocol = "D"
colour = "blue"
[resource.vz.net]
timeout = "soon"
[resource.vz.node.alpha]
address = "127.0.0.1"
[resource.vz.node.alpha.volume.0]
disk = "/var/tmp/a"
device = "tape"
"#;
    std::fs::write(&path, text).expect("the file");
    let said = check(&path).failed_with(3);
    for line in [2, 3, 5, 7, 10] {
        assert!(said.contains(&format!("repd.toml:{line}:")), "line {line} is missing in\n{said}");
    }
    for offender in ["\"D\"", "colour", "soon", "127.0.0.1", "tape"] {
        assert!(said.contains(offender), "{offender} isn't shown in\n{said}");
    }
    assert!(said.contains("node"), "the missing node isn't told in\n{said}");
}

#[test]
fn the_daemon_refuses_to_start_with_the_same_words() {
    let scratch = Scratch::new(Place::Tmpfs);
    let path = scratch.path().join("repd.toml");
    std::fs::write(&path, with(("protocol = \"C\"", "protocol = \"C\"\nprotocoll = \"C\""))).expect("the file");
    let by_hand = check(&path).failed_with(3);
    let mut command = tools::tool("env", [binaries::repd()], SOON);
    command.arg("--config").arg(&path).args(["--node", "alpha", "--runtime-dir"]).arg(scratch.path());
    let by_daemon = tools::finish(command).failed_with(3);
    for said in [by_hand, by_daemon] {
        assert!(said.contains("protocoll") && said.contains("repd.toml:3:"), "{said}");
    }
    assert!(!scratch.path().join("control.sock").exists(), "nothing was begun");
}

#[test]
fn two_volumes_on_one_disk_and_overlapping_addresses_are_mistakes() {
    let scratch = Scratch::new(Place::Tmpfs);
    let path = scratch.path().join("repd.toml");
    let cluster = Cluster::prepare(&ClusterOptions::default());
    let twice = cluster.config.text() + &cluster.config.text().replace("resource.vz", "resource.other");
    std::fs::write(&path, twice).expect("the file");
    let said = check(&path).failed_with(3);
    assert!(said.contains("disk0"), "the disk used twice isn't told in\n{said}");
    assert!(said.contains(&cluster.network.address(0)), "the address used twice isn't told in\n{said}");
}

#[test]
fn a_missing_file_a_folder_and_rubbish_are_told() {
    let scratch = Scratch::new(Place::Tmpfs);
    check(&scratch.path().join("nothing.toml")).failed_with(3);
    check(scratch.path()).failed_with(3);
    let path = scratch.path().join("repd.toml");
    for rubbish in [&b"\xff\xfe\0"[..], b"[resource", b"= = =", b"[resource.\"a b\"]\nprotocol=\"C\""] {
        std::fs::write(&path, rubbish).expect("the file");
        let said = check(&path).failed_with(3);
        assert!(said.contains("repd.toml"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn an_unknown_node_is_told_with_the_known_ones() {
    let cluster = Cluster::prepare(&ClusterOptions::default());
    let mut command = tools::tool("env", [binaries::repd()], SOON);
    command.arg("--config").arg(cluster.config_path()).args(["--node", "gamma", "--runtime-dir"]);
    command.arg(cluster.alpha.folder());
    let said = tools::finish(command).failed_with(3);
    assert!(said.contains("gamma") && said.contains("alpha") && said.contains("beta"), "{said}");
}

#[test]
fn what_is_shown_is_valid_again() {
    let cluster = Cluster::prepare(&ClusterOptions::default());
    let show = |extra: &[&str], path: &Path| {
        let mut command = tools::tool("env", [binaries::repctl()], SOON);
        command.args(["config", "show"]).args(extra).arg("--config").arg(path);
        tools::finish(command).ok()
    };
    for extra in [&[][..], &["--defaults"]] {
        let shown = show(extra, cluster.config_path());
        let again = cluster.path("again.toml");
        std::fs::write(&again, &shown).expect("the file");
        check(&again).ok();
        assert_eq!(show(extra, &again), shown);
    }
}
