//! The units are ones systemd takes, without an ordering cycle; completions and manual pages are made.

use rep_tests::binaries::{self, workspace_root};
use rep_tests::scratch::{Place, Scratch};
use rep_tests::tools;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

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
