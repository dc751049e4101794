//! The configuration as operators write it, and as they miswrite it.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const GOOD: &str = r#"
[resource.vz]
protocol = "C"
[resource.vz.net]
timeout = "7s"
ko-count = 3
[resource.vz.resync]
max-rate = "100M"
[resource.vz.node.alpha]
address = "192.168.255.1:7788"
[resource.vz.node.alpha.volume.0]
disk = "/dev/vg0/vz"
[resource.vz.node.beta]
address = "192.168.255.2:7788"
[resource.vz.node.beta.volume.0]
disk = "/dev/vg0/vz"
meta-disk = "/dev/vg0/vz.meta"
device = "nbd:unix:/run/repd/vz.sock"
"#;

fn problems_of(text: &str) -> Vec<String> {
    match parse("repd.toml", text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(|problem| format!("{}: {problem}", problem.line().unwrap_or(0))).collect(),
    }
}

#[test]
fn a_good_configuration_becomes_values() {
    let config = parse("repd.toml", GOOD.as_bytes()).unwrap();
    let vz = config.resource("vz").unwrap();
    assert_eq!(vz.net.timeout, Duration::from_secs(7));
    assert_eq!(vz.net.ping_interval, Duration::from_secs(10));
    assert_eq!(vz.net.ko_count, 3);
    assert_eq!(vz.resync.max_rate_bytes_per_s, 100 << 20);
    assert_eq!(vz.node("alpha").unwrap().volumes[0].device, Device::Ublk);
    assert_eq!(vz.peer_of("alpha").unwrap().name.as_str(), "beta");
    assert_eq!(vz.node("beta").unwrap().volumes[0].meta_disk, MetaDisk::External("/dev/vg0/vz.meta".into()));
    assert!(vz.peer_of("gamma").is_none());
}

#[test]
fn what_is_shown_is_read_back() {
    let config = parse("repd.toml", GOOD.as_bytes()).unwrap();
    for defaults in [false, true] {
        let shown = config.to_toml(defaults);
        let again = parse("shown.toml", shown.as_bytes()).unwrap();
        assert_eq!(again.resources, config.resources, "{shown}");
    }
    insta::assert_snapshot!("shown_with_defaults", config.to_toml(true));
}

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    let text = GOOD
        .replace("protocol = \"C\"", "protocol = \"A\"")
        .replace("timeout = \"7s\"", "timout = \"7s\"\nping-timeout = \"fast\"")
        .replace("ko-count = 3", "ko-count = \"3\"")
        .replace("\"100M\"", "\"100 megs\"")
        .replace("192.168.255.2:7788", "192.168.255.1:7788");
    assert_eq!(
        problems_of(&text),
        [
            "3: protocol: \"A\" is not supported",
            "6: ping-timeout: \"fast\" can't stand here",
            "7: ko-count: a string can't stand here",
            "5: [resource.vz.net] has no key \"timout\"",
            "9: max-rate: \"100 megs\" can't stand here",
            "15: the address 192.168.255.1:7788 is taken twice",
        ]
    );
}

#[test]
fn a_problem_shows_file_line_text_and_what_is_expected() {
    let text = GOOD.replace("timeout = \"7s\"", "timout = \"7s\"");
    let errors = parse("/etc/repd/repd.toml", text.as_bytes()).unwrap_err();
    insta::assert_snapshot!("unknown_key", errors.render(false));
}

#[test]
fn nodes_are_two_with_the_same_volumes() {
    let three =
        format!("{GOOD}\n[resource.vz.node.gamma]\naddress = \"10.0.0.3:7788\"\nvolume.0.disk = \"/dev/sdb\"\n");
    assert_eq!(problems_of(&three), ["2: the resource \"vz\" has 3 nodes; exactly two are expected"]);
    assert_eq!(problems_of("[resource.vz]\n"), ["1: the resource \"vz\" has 0 nodes; exactly two are expected"]);
    let uneven = format!("{GOOD}\n[resource.vz.node.beta.volume.1]\ndisk = \"/dev/sdb\"\n");
    assert_eq!(problems_of(&uneven), ["2: the nodes of \"vz\" have different volumes"]);
    let bare = GOOD.replace("[resource.vz.node.alpha.volume.0]\ndisk = \"/dev/vg0/vz\"\n", "");
    assert_eq!(problems_of(&bare), ["9: [resource.vz.node.alpha] has no volume"]);
}

#[test]
fn a_disk_has_one_owner_on_a_node() {
    let second = GOOD.replace("resource.vz", "resource.two").replace(":7788", ":7789");
    let told = problems_of(&format!("{GOOD}{second}"));
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.iter().filter(|problem| problem.contains("the disk /dev/vg0/vz is taken twice")).count() == 2);
    assert!(told.iter().any(|problem| problem.contains("the disk /dev/vg0/vz.meta is taken twice")));
    assert!(told.iter().any(|problem| problem.contains("the socket /run/repd/vz.sock is taken twice")));
}

#[test]
fn a_path_written_in_another_way_is_the_same_path() {
    let detour = GOOD.replace("\"/dev/vg0/vz.meta\"", "\"/dev/./x/..//vg0/vz\"");
    assert_eq!(problems_of(&detour), ["17: the disk /dev/./x/..//vg0/vz is taken twice"]);
    let socket = GOOD.replace("nbd:unix:/run/repd/vz.sock", "nbd:unix:/dev/vg0/vz");
    assert_eq!(problems_of(&socket), ["18: /dev/vg0/vz can't be a disk and a socket at once"]);
}

#[test]
fn what_can_t_work_is_told() {
    let families = GOOD.replace("192.168.255.2:7788", "[fd00::2]:7788");
    assert_eq!(problems_of(&families), ["2: the nodes of \"vz\" can't reach each other"]);
    assert_eq!(problems_of(&GOOD.replace("\"100M\"", "\"100\"")), ["8: max-rate: \"100\" can't stand here"]);
}

/// A pipe, a terminal or the like would keep whoever reads it waiting for ever.
#[test]
fn only_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let main = dir.path().join("repd.toml");
    std::fs::write(&main, "include = [\"pipe\"]").unwrap();
    for path in [&main, &pipe] {
        assert!(load(path).unwrap_err().to_string().contains("it is not a regular file"), "{}", path.display());
    }
    assert!(read_secret(&pipe).unwrap_err().to_string().contains("it is not a regular file"));
}

#[test]
fn problems_travel_with_their_places() {
    let errors = parse("/etc/repd/repd.toml", GOOD.replace("\"7s\"", "7").as_bytes()).unwrap_err();
    let told = crate::api::ApiError::from(&errors);
    assert_eq!((told.exit_code, told.reason.as_str()), (3, "BadConfiguration"));
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(
        json["problems"][0],
        serde_json::json!({
            "severity": "error", "file": "/etc/repd/repd.toml", "line": 5, "column": 11,
            "message": "timeout: a whole number can't stand here", "expected": "a string is expected", "help": null
        })
    );
}

#[test]
fn names_numbers_and_words_are_checked() {
    let text = GOOD
        .replace("volume.0", "volume.00")
        .replace("protocol = \"C\"", "fencing = \"resource-often\"\nstart = \"no\"");
    assert_eq!(
        problems_of(&text),
        [
            "4: start: \"no\" can't stand here",
            "3: fencing: \"resource-often\" can't stand here",
            "12: \"00\" is no volume number",
            "16: \"00\" is no volume number",
        ]
    );
    assert_eq!(problems_of("resource = 3"), ["1: resource: a whole number can't stand here"]);
    assert_eq!(problems_of("[resource.\"a b\"]").len(), 2);
}

#[test]
fn syntax_errors_have_a_line() {
    let told = problems_of("[resource.vz]\nprotocol = C\n");
    assert!(told[0].starts_with("2: not TOML:"), "{told:?}");
    assert!(!problems_of("a = 1\na = 2\n").is_empty());
    assert_eq!(parse("x", b"\n\xff").unwrap_err().to_string(), "x:2: not UTF-8 text");
}

#[test]
fn includes_are_relative_to_their_file_and_may_be_patterns() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("repd.d")).unwrap();
    let main = dir.path().join("repd.toml");
    std::fs::write(&main, "include = [\"repd.d/*.toml\", \"none.d/*.toml\"]").unwrap();
    std::fs::write(dir.path().join("repd.d/vz.toml"), GOOD).unwrap();
    assert_eq!(load(&main).unwrap().resources.len(), 1);

    std::fs::write(dir.path().join("repd.d/again.toml"), GOOD).unwrap();
    let errors = load(&main).unwrap_err();
    assert!(errors.to_string().contains("stands in two files"), "{errors}");

    std::fs::write(&main, "include = [\"missing.toml\", \"repd.toml\", 3]").unwrap();
    let errors = load(&main).unwrap_err();
    assert!(errors.to_string().contains("missing.toml doesn't exist"), "{errors}");
    assert!(load(dir.path()).unwrap_err().to_string().contains("it is a directory"));
    assert!(parse("x", b"include = [\"a\"]").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(errors) = parse("x", &bytes) {
            errors.render(false);
        }
    }

    #[test]
    fn no_damage_panics(at in 0usize..500, length in 0usize..20, with in ".{0,8}") {
        let at = at.min(GOOD.len());
        let end = (at + length).min(GOOD.len());
        let text = format!("{}{with}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(errors) = parse("x", text.as_bytes()) {
            errors.render(true);
        }
    }
}

#[test]
fn links_lead_into_the_volume() {
    let with = |lines: &str| format!("{GOOD}\n[resource.vz.links]\n{lines}\n");
    let text = with("\"/var/lib/lxc\" = \"/vz/lib/lxc\"\n\"/etc/lxc\" = \"/vz/etc/lxc\"");
    let config = parse("repd.toml", text.as_bytes()).unwrap();
    let links = &config.resource("vz").unwrap().links;
    let told: Vec<_> = links.iter().map(|link| format!("{} {}", link.path.display(), link.target.display())).collect();
    assert_eq!(told, ["/etc/lxc /vz/etc/lxc", "/var/lib/lxc /vz/lib/lxc"]);
    let again = parse("shown.toml", config.to_toml(false).as_bytes()).unwrap();
    assert_eq!(again.resources, config.resources);

    for wrong in [
        "\"etc/lxc\" = \"/vz/etc\"",
        "\"/etc/lxc\" = \"vz\"",
        "\"/etc/lxc\" = \"/etc/lxc/here\"",
        "\"/vz\" = \"/vz/etc\"",
        "\"/etc/lxc\" = 3",
        "\"/etc/lxc\" = \"/vz/a\"\n\"/etc/lxc/b\" = \"/vz/b\"",
        "\"/etc/lxc/b\" = \"/vz/b\"\n\"/etc/lxc\" = \"/vz/a\"",
    ] {
        assert_eq!(problems_of(&with(wrong)).len(), 1, "{wrong}");
    }
}

/// DRBD's names that aren't offered say why, each in each place, and what to do instead; others only what is expected.
#[test]
fn a_policy_of_drbd_s_that_is_not_offered_says_why() {
    let told = |key: &str, name: &str| {
        let text = format!("{GOOD}\n[resource.vz.split-brain]\n{key} = \"{name}\"\n");
        parse("/etc/repd/repd.toml", text.as_bytes()).unwrap_err().render(false)
    };
    for key in ["after-0-primaries", "after-1-primary", "after-2-primaries"] {
        for (name, why) in [
            ("violently-as0p", "it may give up a Primary's data"),
            ("call-pri-lost-after-sb", "it takes a Primary down to give up its data"),
            ("discard-node-beta", "a node's name says nothing of whose data are worth more"),
            ("discard-local", "a node's name says nothing of whose data are worth more"),
            ("discard-remote", "a node's name says nothing of whose data are worth more"),
        ] {
            let shown = told(key, name);
            let said = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(&format!("{key}: \"{name}\" can't stand here")), "{shown}");
            assert!(said.contains(why) && said.contains("\"disconnect\""), "{shown}");
        }
        assert!(!told(key, "discard-everything").contains("a node's name"), "it is no name of DRBD's");
    }
}
