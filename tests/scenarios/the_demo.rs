//! ```text
//!   repctl demo     two nodes, a verifying workload, the peer killed, writing on, resync, failover, comparison
//! ```

use rep_tests::scratch::{Place, Scratch};
use rep_tests::tools::{self, is_root};
use rep_tests::{binaries, slots};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Runs the demo with a temporary folder of its own, and looks at what it leaves there.
fn demo(line: &[&str]) -> tools::Outcome {
    let _slot = slots::shared();
    let scratch = Scratch::new(Place::Disk);
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(scratch.path(), everybody).expect("its mode");
    let mut command = if is_root() {
        // As nobody: the demo needs no root.
        let mut command =
            tools::tool("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups"], Duration::from_secs(180));
        command.arg(public_copy());
        command
    } else {
        tools::tool("env", [binaries::repctl()], Duration::from_secs(180))
    };
    command.arg("demo").args(line).env("TMPDIR", scratch.path());
    let outcome = tools::finish(command);
    let left: Vec<_> = std::fs::read_dir(scratch.path()).expect("the folder").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "the demo left {left:?}");
    outcome
}

/// Nobody can't reach into root's home: both programs, side by side, where anybody can.
fn public_copy() -> std::path::PathBuf {
    static ONCE: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        let folder = std::path::PathBuf::from("/var/tmp/rep-tests-bin");
        std::fs::create_dir_all(&folder).expect("a folder for everybody");
        let everybody = || std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&folder, everybody()).expect("its mode");
        for binary in [binaries::repctl(), binaries::repd()] {
            let copy = folder.join(binary.file_name().expect("a name"));
            let _ = std::fs::remove_file(&copy);
            std::fs::copy(&binary, &copy).expect("a copy");
            std::fs::set_permissions(&copy, everybody()).expect("its mode");
        }
        folder.join("repctl")
    })
    .clone()
}

#[test]
fn ends_with_both_replicas_identical_and_copies_only_what_it_must() {
    let said = demo(&["--json"]).ok();
    let last = said.lines().last().unwrap_or_default();
    let summary: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e} in {said}"));
    assert_eq!(summary["identical"], true, "{summary}");
    let number = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}"));
    let (resynced, dirty, hot) = (number("resynced_bytes"), number("dirty_bytes"), number("hot_extent_bytes"));
    assert!(resynced > 0 && resynced <= dirty + hot, "{summary}");
}

#[test]
fn says_each_step_and_what_to_try_next() {
    let said = demo(&[]).ok();
    for word in ["alpha", "beta", "Primary", "resync", "identical", "README"] {
        assert!(said.contains(word), "the demo says nothing of '{word}':\n{said}");
    }
}
