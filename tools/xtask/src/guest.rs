//! `cargo xtask guest`: a script in the lab's guest, with our programs beside it.

use crate::process::{Failure, Tool, release_binary, workspace_root};
use crate::test;
use std::ffi::{OsStr, OsString};

/// Runs `tools/lab/guest-run`; unless only the cache is to be filled, `repd` and `repctl` are built and go along.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    let lab = Tool::new(workspace_root().join("tools/lab/guest-run")).args(rest);
    if rest.is_empty() || rest.iter().any(|word| word == OsStr::new("-b") || word == OsStr::new("-h")) {
        return lab.run();
    }
    test::build_daemons()?;
    with_companions(lab).run()
}

/// What every scenario finds beside it.
fn with_companions(lab: Tool) -> Tool {
    let functions = workspace_root().join("tools/lab/pair.sh");
    lab.arg(functions).arg(release_binary("repd")).arg(release_binary("repctl"))
}

/// A scenario on two scratch disks: its seconds at most, its script, its settings.
struct Scenario(&'static str, &'static str, &'static [&'static str]);

const SCENARIOS: [Scenario; 5] = [
    Scenario("600", "mount.sh", &["-e", "DEVICE=ublk"]),
    Scenario("600", "mount.sh", &["-e", "DEVICE=nbd"]),
    Scenario("900", "kills.sh", &["-e", "DEVICE=ublk", "-e", "KILLS=20", "-e", "ALONE=17"]),
    Scenario("900", "kills.sh", &["-e", "DEVICE=nbd", "-e", "KILLS=10", "-e", "ALONE=8"]),
    Scenario("300", "nbd-ended.sh", &[]),
];

/// Runs every scenario of the lab; the daemons are built already.
pub fn scenarios() -> Result<(), Failure> {
    let lab = workspace_root().join("tools/lab");
    Tool::new(lab.join("guest-run")).args(["-t", "300"]).arg(lab.join("smoke.sh")).run()?;
    SCENARIOS.iter().try_for_each(|Scenario(seconds, script, settings)| {
        println!("\n--- {script} {}", settings.join(" "));
        let guest = Tool::new(lab.join("guest-run")).args(["-t", seconds, "-d", "512M", "-d", "512M"]);
        with_companions(guest.args(*settings).arg(lab.join(script))).run()
    })?;
    println!("\n--- two-guests");
    with_companions(Tool::new(lab.join("two-guests"))).run()
}
