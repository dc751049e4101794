//! What scripts rely on: exit codes, reasons, JSON, deadlines.

use rep_tests::{Cluster, ClusterOptions, binaries, tools};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);

fn repctl(words: &[&str]) -> tools::Outcome {
    let mut command = tools::tool("env", [binaries::repctl()], SOON);
    command.args(words);
    tools::finish(command)
}

#[test]
fn wrong_usage_is_2_and_no_daemon_is_4() {
    repctl(&["primary"]).failed_with(2);
    repctl(&["dance", "vz"]).failed_with(2);
    repctl(&["status", "--colour"]).failed_with(2);
    let said = repctl(&["--socket", "/var/tmp/no-such.sock", "status"]).failed_with(4);
    assert!(said.contains("/var/tmp/no-such.sock"), "{said}");
    let said = repctl(&["--socket", "/etc/hostname", "status"]).failed_with(4);
    assert!(said.contains("/etc/hostname"), "{said}");
}

#[test]
fn the_socket_may_stand_in_the_environment() {
    let cluster = Cluster::start(&ClusterOptions::default());
    let mut command = tools::tool("env", [binaries::repctl()], SOON);
    command.arg("status").env("REPD_SOCKET", cluster.alpha.control_socket());
    assert!(tools::finish(command).ok().contains("vz"));
}

#[test]
fn an_unknown_resource_is_told_with_the_known_ones() {
    let cluster = Cluster::start(&ClusterOptions::default());
    let outcome = cluster.alpha.ctl(["primary", "vzz"]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("vzz") && outcome.stderr.contains("vz"), "{outcome:?}");
}

#[test]
fn what_is_already_so_succeeds() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    for verb in
        ["up", "connect", "secondary", "primary", "primary", "secondary", "disconnect", "disconnect", "down", "down"]
    {
        cluster.alpha.ok(verb);
    }
}

#[test]
fn refusals_are_10_and_name_their_reason() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.beta.refused("primary", "PeerIsPrimary");
    let open = cluster.alpha.connection();
    cluster.alpha.wait_until("open", SOON, |resource| resource.volume().open);
    cluster.alpha.refused("secondary", "DeviceIsOpen");
    open.close().expect("goodbye");
    cluster.alpha.wait_until("closed", SOON, |resource| !resource.volume().open);
    cluster.alpha.ok("secondary");

    // As JSON, for scripts.
    cluster.alpha.ok("primary");
    let outcome = cluster.beta.ctl(["--json", "primary", "vz"]);
    assert_eq!(outcome.code, 10);
    let json = if outcome.stdout.trim().is_empty() { &outcome.stderr } else { &outcome.stdout };
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
    assert_eq!(value["reason"], "PeerIsPrimary");
}

#[test]
fn wait_ends_with_5_when_it_does_not_come_in_time() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.alpha.ok("wait synced");
    cluster.alpha.ok("wait connected");
    cluster.beta.kill9();
    cluster.alpha.wait_connection("Connecting");
    let began = Instant::now();
    cluster.alpha.verb("wait connected --timeout 2s").failed_with(5);
    assert!((2..6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    cluster.beta.start();
    cluster.alpha.ok("wait synced");
}

#[test]
fn the_plan_tells_and_changes_nothing() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.alpha.ok("disconnect");
    cluster.alpha.write(0, &[5; 8192]);
    cluster.beta.ok("connect");
    let before = cluster.alpha.resource();
    let plan = cluster.alpha.ok("connect --plan");
    for word in ["bitmap", "beta"] {
        assert!(plan.contains(word), "'{word}' isn't in the plan: {plan}");
    }
    std::thread::sleep(Duration::from_secs(1));
    let after = cluster.alpha.resource();
    assert_eq!(after.connection, before.connection);
    assert_eq!(after.volume().out_of_sync_bytes, 8192);
    assert_eq!(after.volume().io.sent_bytes, before.volume().io.sent_bytes);
    let json = cluster.alpha.ctl(["--json", "connect", "vz", "--plan"]).ok();
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json.contains("8192"), "the bytes are told: {value}");
    cluster.alpha.ok("connect");
    cluster.alpha.wait_in_sync();
}

#[test]
fn the_status_has_the_contract_s_fields() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.alpha.write(4096, &[1; 4096]);
    cluster.alpha.read(4096, 4096);
    let status = cluster.alpha.status();
    assert_eq!(status.node, "alpha");
    assert!(!status.version.is_empty());
    let vz = &status.resources[0];
    assert_eq!((vz.name.as_str(), vz.role.as_str(), vz.connection.as_str()), ("vz", "Primary", "Connected"));
    assert_eq!((vz.peer.name.as_str(), vz.peer.role.as_deref()), ("beta", Some("Secondary")));
    assert_eq!(vz.peer.address, cluster.network.address(1));
    assert!(vz.safe_to_promote && vz.io_suspended.is_none());
    let volume = vz.volume();
    assert_eq!(volume.device, format!("nbd:unix:{}", cluster.alpha.socket().display()));
    assert_eq!((volume.disk.as_str(), volume.peer_disk.as_str()), ("UpToDate", "UpToDate"));
    assert_eq!((volume.replication.as_str(), volume.out_of_sync_bytes), ("Established", 0));
    assert!(volume.io.written_bytes >= 4096 && volume.io.read_bytes >= 4096 && volume.io.sent_bytes >= 4096);
    let beta = cluster.beta.resource();
    assert!(beta.volume().io.received_bytes >= 4096);
    assert!(!beta.safe_to_promote, "the peer is Primary");
    assert!(volume.last_decision.is_some() && vz.split_brain.is_none() && vz.promotion_refused.is_none());
    assert!(cluster.alpha.ok("status").contains("Primary"), "and for people");
}

#[test]
fn events_tell_what_happens() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    let events = rep_tests::Events::of(&cluster.alpha, &cluster.path("events"), || {
        cluster.alpha.ok("primary");
        cluster.alpha.ok("secondary");
    });
    assert_eq!(events.wait_for("role")["resource"], "vz");
    for event in events.all() {
        assert!(event["time"].is_string() && event["kind"].is_string(), "{event}");
    }
}

/// The rule the nodes went by when they met, in words, on both: in the status, as JSON and for people, and as it happens.
#[test]
fn the_rule_that_was_applied_is_named() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.beta.ok("disconnect");
    cluster.alpha.write(0, &[1; 4096]);
    let events = rep_tests::Events::of(&cluster.beta, &cluster.path("events"), || {
        cluster.beta.ok("connect");
        cluster.beta.wait_in_sync();
        cluster.beta.ok("disconnect");
        cluster.alpha.write(0, &[2; 4096]);
    });
    cluster.beta.ok("connect");
    let betas = cluster.beta.wait_in_sync();
    let alphas = cluster.alpha.wait_in_sync();
    let decision = |vz: &rep_tests::status::Resource| vz.volume().last_decision.clone().expect("they have met");
    let (alphas, betas) = (decision(&alphas), decision(&betas));
    assert_eq!((alphas.rule.as_str(), betas.rule.as_str()), ("bitmap-self", "bitmap-peer"));
    assert_eq!(alphas.verdict, "fill the peer, by bitmap");
    for (node, decision) in [(&cluster.alpha, &alphas), (&cluster.beta, &betas)] {
        let line = format!("  last handshake: rule {}: {}\n", decision.rule, decision.sentence);
        assert!(
            decision.sentence.contains("went on from the very data") && node.ok("status").contains(&line),
            "{line}"
        );
    }
    let told = events.wait_for("decided")["reason"].clone();
    assert_eq!(told, format!("bitmap-peer: {}", betas.sentence), "the words of the plan, not those of a debugger");
}

/// `safe_to_promote` is never no without a reason, which people are told too.
#[test]
fn why_a_node_is_not_to_be_promoted_is_told() {
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    let reason = |node: &rep_tests::Node| {
        let vz = node.resource();
        assert!(!vz.safe_to_promote, "{}", vz.line());
        let reason = vz.promotion_refused.unwrap_or_else(|| panic!("no reason in {}", vz.verdict));
        let told = node.ok("status");
        assert!(told.contains(&format!("  not to be promoted now: {reason}\n")), "{reason} isn't in {told}");
        reason
    };
    let alpha = cluster.alpha.resource();
    assert!(alpha.safe_to_promote && alpha.promotion_refused.is_none());
    assert!(!cluster.alpha.ok("status").contains("not to be promoted"));
    assert_eq!(reason(&cluster.beta), "the peer is Primary; demote it there first");
    cluster.beta.ok("disconnect");
    // In the words in which it is refused.
    let (told, refused) = (reason(&cluster.beta), cluster.beta.verb("primary"));
    assert!(
        told.starts_with("this node can't know whether the peer holds newer data; run 'repctl connect vz'"),
        "{told}"
    );
    assert_eq!((refused.code, refused.stderr.contains(&told)), (10, true), "{told}: {}", refused.stderr);
    cluster.beta.ok("down");
    assert_eq!(reason(&cluster.beta), "the resource is down; run 'repctl up vz' first");
    cluster.beta.ok("up");
    cluster.beta.wait_in_sync();
    cluster.alpha.ok("secondary");
    let beta = cluster.beta.wait_until("promotable", SOON, |vz| vz.safe_to_promote);
    assert_eq!(beta.promotion_refused, None);
}

#[test]
fn metadata_and_generations_can_be_looked_at() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    let generations = cluster.alpha.ok("show-gi");
    assert!(generations.contains("current"), "{generations}");
    cluster.alpha.stop();
    let dump = cluster.alpha.ok("dump-md");
    assert!(dump.contains("vz") && dump.contains("alpha"), "{dump}");
}

#[test]
fn the_control_socket_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::with_primary(&ClusterOptions::default());
    for socket in [cluster.alpha.control_socket(), cluster.alpha.socket()] {
        let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", socket.display());
    }
}

/// Rubbish at the control socket: answered or dropped, never a crash.
#[test]
fn rubbish_at_the_control_socket_harms_nobody() {
    use std::io::{Read, Write};
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000));
    let deep = format!(
        "POST /v1/resources/vz/primary HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n{}",
        "[".repeat(20_000)
    );
    let all: [&[u8]; 6] = [
        b"\0\xff\xfe",
        b"GET",
        long.as_bytes(),
        deep.as_bytes(),
        b"POST /v1/resources/vz/primary HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n{",
        b"DELETE /v1/status HTTP/9.9\r\n\r\n",
    ];
    for rubbish in all {
        let mut stream = std::os::unix::net::UnixStream::connect(cluster.alpha.control_socket()).expect("the socket");
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        let _ = stream.write_all(rubbish);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut [0; 4096]);
        cluster.alpha.assert_answers_quickly();
    }
}
