//! `cargo xtask guest`: a script in the lab's guest, with our programs beside it.

use crate::packages;
use crate::process::{Failure, Tool, release_binary, workspace_root};
use crate::test;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::thread;

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

/// What a guest with two scratch disks is booted for, one a device: `device.sh` runs one scenario after another.
const DEVICES: [&str; 2] = ["ublk", "nbd"];
/// How long each may take at most, in seconds: a busy machine is no failure.
const SECONDS: &str = "1800";
/// The scenarios that `device.sh` runs.
const PARTS: [&str; 9] = [
    "smoke.sh",
    "mount.sh",
    "kills.sh",
    "left-down.sh",
    "switchover.sh",
    "handover.sh",
    "grow.sh",
    "pressure.sh",
    "nbd-ended.sh",
];

/// Has everything ready that a guest is made of. Fails with what is missing where there can be none.
pub fn prepare() -> Result<(), Failure> {
    let lab = Tool::new(workspace_root().join("tools/lab/guest-run"));
    packages::install(packages::GUEST).and_then(|()| lab.arg("-b").run()).map_err(|why| {
        Failure::NotHere(format!(
            "no guest can be booted on this machine ({why}; guest-run said why above): ublk, the kernel's nbd, mounts that live \
             through the daemon's death, two machines on one cable: none of that has been tested"
        ))
    })
}

/// Runs every scenario of the lab; the daemons are built already.
pub fn scenarios() -> Result<(), Failure> {
    let lab = workspace_root().join("tools/lab");
    // Side by side: much of it is waiting, for a killed daemon's successor or a peer that is gone.
    let ended = thread::scope(|scope| {
        let running = DEVICES.map(|device| (device, scope.spawn(|| device_guest(&lab, device).run_quietly())));
        running.map(|(device, guest)| {
            let (output, result) = guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            println!("\n--- {device}\n{output}");
            result
        })
    });
    ended.into_iter().collect::<Result<(), _>>()?;
    println!("\n--- two machines");
    with_companions(Tool::new(lab.join("two-guests"))).run()
}

fn device_guest(lab: &Path, device: &str) -> Tool {
    let guest = Tool::new(lab.join("guest-run")).args(["-t", SECONDS, "-d", "512M", "-d", "512M"]);
    // The last four of the twenty kills with the peer dead as well.
    let guest = guest.args(["-e", &format!("DEVICE={device}"), "-e", "ALONE=17"]).arg(lab.join("device.sh"));
    with_companions(guest.args(PARTS.map(|part| lab.join(part))))
}

/// Ours and the in-kernel DRBD in one guest, in turns; the table is left in `out`.
pub fn bench(backing: &str, rounds: u32, seconds: u32, out: &Path) -> Result<(), Failure> {
    let lab = workspace_root().join("tools/lab");
    let disks: &[&str] =
        if backing == "virtio" { &["-d", "300M", "-d", "300M", "-d", "300M", "-d", "300M"] } else { &[] };
    let guest = Tool::new(lab.join("guest-run")).args(["-t", "3600", "-m", "3072", "-o"]).arg(out).args(disks);
    let settings = [format!("BACKING={backing}"), format!("ROUNDS={rounds}"), format!("SECS={seconds}")];
    let guest = settings.iter().fold(guest, |guest, setting| guest.arg("-e").arg(setting));
    with_companions(guest.arg(lab.join("ublk-bench.sh")).arg(lab.join("drbd-anchor.sh"))).run()
}
