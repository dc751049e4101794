//! What goes wrong around a daemon: its log is full, its configuration changes under it, its disk has grown, whoever
//! reads its answers goes away. Each ends in a clear word, and the daemon lives.

use nix::sys::signal::Signal;
use rep_tests::scratch::{Place, Scratch};
use rep_tests::{Cluster, ClusterOptions, binaries, tools};
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// A log that takes nothing costs its lines, not the device of a Primary.
#[test]
fn a_full_log_ends_nobody() {
    let cluster = Cluster::prepare(&ClusterOptions::default());
    cluster.alpha.ok("create-md");
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").expect("/dev/full"));
    let mut daemon = cluster.alpha.daemon_command().stdout(full()).stderr(full()).spawn().expect("repd");
    rep_tests::until("the daemon answers", SOON, || cluster.alpha.try_status().map(drop));
    cluster.alpha.ok("primary --force");
    cluster.alpha.write(0, &[7; 4096]);
    assert_eq!(cluster.alpha.read(0, 4096), [7; 4096]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).expect("a signal");
    assert!(daemon.wait().expect("its end").success());
}

/// `repctl` tells when its answer can't be written, and a reader that left ends it quietly.
#[test]
fn an_answer_nobody_takes() {
    let cluster = Cluster::prepare(&ClusterOptions::default());
    let show = |stdout: Stdio| {
        let mut command = Command::new(binaries::repctl());
        command.args(["config", "show", "--defaults", "--config"]).arg(cluster.config_path()).stdout(stdout);
        command.stderr(Stdio::piped()).output().expect("repctl")
    };
    let full = show(std::fs::File::options().write(true).open("/dev/full").expect("/dev/full").into());
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("OutputFailed"), "{full:?}");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let left = show(writer.into());
    assert_eq!((left.status.code(), left.stderr.as_slice()), (Some(0), &b""[..]));
}

/// With `--json` stdout is one JSON value also when the arguments or the configuration make no sense.
#[test]
fn errors_are_json_too() {
    let scratch = Scratch::new(Place::Tmpfs);
    let config = scratch.path().join("repd.toml");
    std::fs::write(&config, "[resource.vz]\nprotocol = \"D\"\n").expect("the file");
    let config = config.to_string_lossy();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--json", "fly"], 2, "BadUsage"),
        (&["--json", "primary"], 2, "BadUsage"),
        (&["--json", "config", "check", "--config", &config], 3, "BadConfiguration"),
        (&["--json", "--socket", "/nonexistent", "status"], 4, "NoDaemon"),
    ];
    for (arguments, code, reason) in cases {
        let mut command = tools::tool("env", [binaries::repctl()], SOON);
        command.args(arguments);
        let outcome = tools::finish(command);
        let value: serde_json::Value =
            serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
        assert_eq!((outcome.code, value["exit_code"].as_i64()), (code, Some(code.into())), "{outcome:?}");
        assert_eq!(value["reason"], reason);
        assert!(!outcome.stderr.trim().is_empty(), "people are told as well");
    }
}

/// The configuration changes in what the daemon was told when the resource came up: a Secondary takes it by going down and coming up, a
/// Primary is left alone.
#[test]
fn the_configuration_changes() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    let adjust = |cluster: &Cluster, more: &[&str]| cluster.alpha.ctl([&["--json", "adjust"], more].concat());
    let changes = |outcome: &tools::Outcome| {
        let value: serde_json::Value =
            serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
        value["changes"].as_array().unwrap_or_else(|| panic!("{outcome:?}")).clone()
    };
    assert!(changes(&adjust(&cluster, &[])).is_empty());

    cluster.config.resource_lines.push("durability = \"stable\"".to_owned());
    cluster.write_config();
    let planned = changes(&adjust(&cluster, &["--dry-run"]));
    assert_eq!(planned[0]["settings"][0]["key"], "durability");
    assert_eq!(planned[0]["done"], false);
    assert_eq!(changes(&adjust(&cluster, &["--dry-run"])), planned, "a dry run changes nothing");

    cluster.alpha.ok("primary");
    let open = cluster.alpha.connection();
    let refused = adjust(&cluster, &[]);
    assert_eq!(refused.code, 10, "{refused:?}");
    assert_eq!(changes(&refused)[0]["error"]["reason"], "IsPrimary");
    open.close().expect("the device lives");
    cluster.alpha.wait_until("closed", SOON, |resource| !resource.volume().open);

    cluster.alpha.ok("secondary");
    let done = adjust(&cluster, &[]);
    assert_eq!((done.code, &changes(&done)[0]["done"]), (0, &true.into()), "{done:?}");
    cluster.alpha.wait_in_sync();
    assert!(changes(&adjust(&cluster, &[])).is_empty());
    cluster.assert_identical();
}

/// A resource that is new or gone comes and goes; a broken file changes nothing and is told with its line.
#[test]
fn resources_come_and_go() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    let own = cluster.config.text();
    let other = own.replace("resource.vz", "resource.db").replace("/disk0", "/disk1").replace("/nbd0", "/nbd1");
    let address = |index| cluster.network.address(index);
    let other =
        (0..2).fold(other, |text, index| text.replace(&address(index), &format!("127.0.0.{}:1{index}", index + 1)));
    std::fs::write(cluster.config_path(), format!("{own}start = 3\n")).expect("the file");
    let broken = cluster.alpha.ctl(["adjust"]).failed_with(3);
    assert!(broken.contains("repd.toml:") && broken.contains("nothing was changed"), "{broken}");

    let other = other.replacen("[resource.db]", "[resource.db]\nstart = \"down\"", 1);
    std::fs::write(cluster.config_path(), own.clone() + &other).expect("the file");
    cluster.alpha.ctl(["adjust"]).ok();
    let names = || cluster.alpha.status().resources.into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(), ["db", "vz"]);
    std::fs::write(cluster.config_path(), own).expect("the file");
    cluster.alpha.ctl(["adjust"]).ok();
    assert_eq!(names(), ["vz"]);
    cluster.alpha.wait_in_sync();
}

/// A disk that has grown isn't taken for a new one: its metadata is found where the disk ended, and the volume is as it was.
#[test]
fn a_disk_has_grown() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    let size = cluster.volume_bytes();
    cluster.alpha.stop();
    let path = cluster.alpha.disk();
    let resize = |bytes| {
        std::fs::File::options().write(true).open(&path).and_then(|disk| disk.set_len(bytes)).expect("resized");
    };
    resize(96 << 20);
    let said = cluster.alpha.verb("create-md").failed_with(10);
    assert!(said.contains("disk0"), "{said}");
    cluster.alpha.start();
    cluster.alpha.wait_in_sync();
    assert_eq!(cluster.volume_bytes(), size);
    // And as it was when the disk is as it was; smaller than that it is no disk of this volume.
    cluster.alpha.stop();
    resize(64 << 20);
    cluster.alpha.start();
    cluster.alpha.wait_in_sync();
    assert_eq!(cluster.alpha.resource().volume().io.received_bytes, 0, "nothing was copied");
}

/// What a peer that can't be reached means for a plan is told soon, with the reason.
#[test]
fn a_plan_without_a_peer() {
    let cluster = Cluster::prepare(&ClusterOptions::default());
    cluster.alpha.ok("create-md");
    let mut cluster = cluster;
    cluster.alpha.start();
    let said = cluster.alpha.verb("connect --plan --timeout 60s").failed_with(5);
    assert!(said.contains("no plan without the peer") && said.contains("refused"), "{said}");
    cluster.alpha.assert_answers_quickly();
}

/// A plan uses nothing up: the word of the operator who gives his data up stands until both connect for good. And it
/// counts also where a connection is wanted already.
#[test]
fn a_plan_leaves_the_word_as_it_was() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.expect_log("plit brain");
    cluster.beta.ok("disconnect");
    cluster.alpha.ok("disconnect");
    cluster.alpha.write(0, &[1; 4096]);
    cluster.alpha.ok("secondary");
    cluster.beta.ok("primary --force");
    cluster.beta.write(8192, &[2; 4096]);
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_connection("SplitBrain");
    cluster.beta.wait_connection("SplitBrain");

    cluster.beta.ok("disconnect");
    cluster.beta.wait_connection("StandAlone");
    cluster.alpha.ok("connect");
    cluster.alpha.wait_connection("Connecting");
    cluster.alpha.ok("connect --discard-my-data");
    let plan = cluster.beta.ok("connect --plan");
    assert!(plan.contains("changed on alpha alone would be lost"), "{plan}");
    cluster.beta.wait_connection("StandAlone");
    cluster.beta.ok("connect");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
    assert_eq!(cluster.beta.read(8192, 4096), [2; 4096]);
}

/// What giving data up would do can be asked before it is said; having asked says nothing.
#[test]
fn a_plan_of_giving_data_up_gives_nothing_up() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.expect_log("plit brain");
    cluster.beta.ok("disconnect");
    cluster.alpha.ok("disconnect");
    cluster.alpha.write(0, &[1; 4096]);
    cluster.beta.ok("primary --force");
    cluster.beta.write(8192, &[2; 8192]);
    cluster.beta.ok("secondary");
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_connection("SplitBrain");
    cluster.beta.wait_connection("SplitBrain");
    let plain = cluster.beta.ok("connect --plan");
    assert!(plain.contains("nothing would be copied"), "{plain}");
    let plan = cluster.beta.ok("connect --discard-my-data --plan");
    assert!(plan.contains("changed on this node alone would be lost"), "{plan}");
    cluster.beta.wait_connection("SplitBrain");
    let plain = cluster.beta.ok("connect --plan");
    assert!(plain.contains("nothing would be copied"), "the word is forgotten with the plan: {plain}");
    assert_eq!(cluster.alpha.read(0, 4096), [1; 4096]);
}

/// 'new-generation' alone would take disks for equal that may not be.
#[test]
fn a_generation_is_started_only_with_clear_bitmaps() {
    let cluster = Cluster::in_sync(&ClusterOptions::default());
    assert!(cluster.alpha.verb("new-generation").failed_with(2).contains("--clear-bitmap"));
}

/// Without force nobody leaves a Primary without data; with it the Primary's clients get errors until the peer is back.
#[test]
fn a_forced_disconnect_is_the_operator_s_own_doing() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.expect_log("disk");
    cluster.alpha.write(0, &[7; 4096]);
    cluster.alpha.ok("detach");
    assert_eq!(cluster.alpha.read(0, 4096), [7; 4096], "from the peer");
    cluster.alpha.refused("disconnect", "OnlyGoodCopy");
    cluster.beta.refused("disconnect", "OnlyGoodCopy");
    cluster.alpha.ok("disconnect --force");
    cluster.alpha.wait_connection("StandAlone");
    let mut connection = cluster.alpha.connection();
    assert!(connection.read(0, &mut [0; 4096]).is_err(), "no data is in reach");
    let _ = connection.close();
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_connection("Connected");
    assert_eq!(cluster.alpha.read(0, 4096), [7; 4096]);
    cluster.alpha.ok("attach");
    cluster.alpha.wait_in_sync();
}
