//! The units are ones systemd takes, without an ordering cycle; completions and manual pages are made.

use rep_tests::binaries::{self, workspace_root};
use rep_tests::scratch::{Place, Scratch};
use rep_tests::tools::{self, not_run_here};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn packaging(path: &str) -> String {
    let path = workspace_root().join("tools/packaging").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a setting in a unit, split into words.
fn words_of<'a>(unit: &'a str, setting: &str) -> Vec<&'a str> {
    let values =
        unit.lines().filter_map(|line| line.trim_start().strip_prefix(setting)?.trim_start().strip_prefix('='));
    values.flat_map(str::split_whitespace).collect()
}

/// The mount lives while the daemon is restarted, upgraded, or dies. systemd.unit(5): by Requires=, and all that is stronger, a unit is
/// stopped or restarted when the other is, by BindsTo= also when that just ends: /vz would be unmounted and the node demoted.
/// Wants= and After= start it first and do nothing else. Nor may the daemon's unit say the same from its side.
#[test]
fn nothing_that_is_mounted_goes_with_the_daemon() {
    let stronger = ["Requires", "BindsTo", "Requisite", "PartOf", "StopPropagatedFrom", "PropagatesStopTo", "Upholds"];
    let daemon = packaging("systemd/repd.service");
    for unit in ["repd-primary@.service", "vz.mount", "vz-links.service"] {
        let text = packaging(&format!("systemd/{unit}"));
        for setting in stronger {
            assert!(!words_of(&text, setting).contains(&"repd.service"), "{unit}: {setting}=");
            assert!(words_of(&daemon, setting).is_empty(), "repd.service: {setting}=");
        }
    }
    let primary = packaging("systemd/repd-primary@.service");
    assert_eq!(
        (words_of(&primary, "Wants"), words_of(&primary, "After")),
        (vec!["repd.service"], vec!["repd.service"])
    );
    // What is mounted does go with the role, in this order: it is unmounted before the node is demoted.
    let mount = packaging("systemd/vz.mount");
    let role = vec!["repd-primary@vz.service"];
    assert_eq!((words_of(&mount, "Requires"), words_of(&mount, "After")), (role.clone(), role));
}

/// systemd waits for the unit of the device that is mounted, which udev's rule gives its name: the rule asks what repctl answers.
#[test]
fn udev_learns_the_name_of_a_device() {
    let rule = packaging("udev/60-repd.rules");
    let asked = rule.split_once("IMPORT{program}==\"/usr/local/bin/repctl ").and_then(|(_, rest)| rest.split_once('"'));
    let line = asked.expect("what it runs").0.replace("%k", "ublkb999");
    let mut command = tools::tool("env", [binaries::repctl()], SOON);
    command.args(line.split(' '));
    assert_eq!(tools::finish(command).ok(), "", "a device that is nobody's");
    let script = packaging("install.sh");
    assert!(script.contains("udev/60-repd.rules") && script.contains("modules-load/repd.conf"));
    assert!(packaging("systemd/vz.mount").contains("What=/dev/repd/by-res/vz/0"));
}

/// The same by udev itself, where a machine has it: a device has its second name, and keeps it when nobody can tell.
#[test]
fn udev_takes_the_rule() {
    let udevadm = ["/usr/bin/udevadm", "/usr/local/bin/udevadm"].into_iter().any(|path| Path::new(path).exists());
    let device =
        ["loop0", "vda", "sda", "nvme0n1"].into_iter().find(|name| Path::new("/sys/block").join(name).exists());
    let Some(device) = device.filter(|_| udevadm) else {
        return not_run_here("udev's rule by udev itself: there is no udevadm here, or no block device");
    };
    if !tools::root_or_not_run("a /run of udev's own") {
        return;
    }
    let scratch = Scratch::new(Place::Tmpfs);
    let answer = scratch.path().join("repctl");
    let rule = packaging("udev/60-repd.rules").replace("ublkb*|nbd*", device);
    std::fs::write(scratch.path().join("rule"), rule.replace("/usr/local/bin/repctl", &answer.to_string_lossy()))
        .expect("the rule");
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/udev/rules.d && cp {0}/rule /run/udev/rules.d/60-repd.rules && cd {0} && \
         printf '#!/bin/sh\\necho REPD_RESOURCE=vz; echo SYSTEMD_ALIAS=/dev/repd/by-res/vz/0\\n' >repctl && chmod 755 repctl && \
         udevadm test --action=change /sys/block/{device} && echo FAILS && \
         printf '#!/bin/sh\\nexit 1\\n' >repctl && udevadm test --action=change /sys/block/{device} && echo NOBODYS && \
         printf '#!/bin/sh\\n' >repctl && udevadm test --action=change /sys/block/{device}",
        scratch.path().display()
    );
    let mut command = tools::tool("unshare", ["-m", "--propagation", "private", "sh", "-c"], SOON);
    command.arg(script);
    let told = tools::finish(command).ok();
    let parts: Vec<_> = told.split("FAILS\n").flat_map(|part| part.split("NOBODYS\n")).collect();
    let named =
        parts.iter().map(|part| part.contains("\nSYSTEMD_ALIAS=/dev/repd/by-res/vz/0\n") && part.contains(":systemd:"));
    assert_eq!(named.collect::<Vec<_>>(), [true, true, false], "{told}");
}

#[test]
fn the_units_hold_together() {
    if !std::path::Path::new("/usr/bin/systemd-analyze").exists() {
        eprintln!("\n*** NOT RUN: there is no systemd-analyze here ***\n");
        return;
    }
    let scratch = Scratch::new(Place::Tmpfs);
    let folder = workspace_root().join("tools/packaging/systemd");
    for unit in std::fs::read_dir(&folder).expect("the units").map(|entry| entry.expect("a unit").path()) {
        let text = std::fs::read_to_string(&unit).expect("a unit");
        // The programs are where they were built, not where they will be installed.
        let text = text.replace("/usr/local/bin/repd", &binaries::repd().to_string_lossy());
        let text = text.replace("/usr/local/bin/repctl", &binaries::repctl().to_string_lossy());
        std::fs::write(scratch.path().join(unit.file_name().expect("a name")), text).expect("a copy");
    }
    // The example for handlers, where systemd looks for it.
    let folder = scratch.path().join("repd.service.d");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::rename(scratch.path().join("handlers.conf"), folder.join("handlers.conf")).expect("a drop-in");
    let units = [
        "repd.service",
        "repd-primary@vz.service",
        "repd-verify@vz.service",
        "repd-verify@vz.timer",
        "vz.mount",
        "vz-links.service",
        "repd-vz.socket",
    ];
    let units = units.map(|unit| scratch.path().join(unit).to_string_lossy().into_owned());
    let outcome =
        tools::run("systemd-analyze", [&["verify".to_owned(), "--man=no".to_owned()][..], &units].concat(), SOON);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
}

/// What the weekly service runs is a command line that repctl takes, and every unit that no example is one is installed.
#[test]
fn the_weekly_comparison_is_installed_and_understood() {
    let folder = workspace_root().join("tools/packaging");
    let service = std::fs::read_to_string(folder.join("systemd/repd-verify@.service")).expect("the service");
    let started = service.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/repctl "));
    let started = started.expect("what it runs").replace("%i", "vz");
    let scratch = Scratch::new(Place::Tmpfs);
    let mut command = tools::tool("env", [binaries::repctl()], SOON);
    command.arg("--socket").arg(scratch.path().join("no.sock")).args(started.split(' '));
    let told = tools::finish(command).failed_with(4);
    assert!(told.contains("no.sock"), "it asks for a daemon, and none is there: {told}");
    let script = std::fs::read_to_string(folder.join("install.sh")).expect("the script");
    for unit in ["repd.service", "repd-primary@.service", "repd-verify@.service", "repd-verify@.timer"] {
        assert!(folder.join("systemd").join(unit).exists() && script.contains(unit), "{unit}");
    }
}

#[test]
fn completions_and_pages_are_made() {
    let scratch = Scratch::new(Place::Tmpfs);
    let repctl = |arguments: &[&str]| {
        let mut command = tools::tool("env", [binaries::repctl()], SOON);
        command.args(arguments);
        tools::finish(command).ok()
    };
    for shell in ["bash", "zsh", "fish"] {
        assert!(repctl(&["completions", shell]).contains("split-brain"), "{shell}");
    }
    repctl(&["man", &scratch.path().to_string_lossy()]);
    for page in ["repctl.1", "repctl-primary.1", "repctl-create-md.1"] {
        assert!(scratch.path().join(page).exists(), "{page}");
    }
}
