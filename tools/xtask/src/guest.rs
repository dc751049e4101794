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
    with_daemon(lab, &release_binary("repd"))
}

/// The same, of this build of the daemon.
fn with_daemon(lab: Tool, repd: &Path) -> Tool {
    let functions = workspace_root().join("tools/lab/pair.sh");
    lab.arg(functions).arg(repd).arg(release_binary("repctl"))
}

/// A daemon that counts what it does works for a while; what it counted is left in `out`.
pub fn train(repd: &Path, out: &Path) -> Result<(), Failure> {
    let lab = workspace_root().join("tools/lab");
    let guest = Tool::new(lab.join("guest-run")).args(["-t", "900", "-m", "3072", "-o"]).arg(out);
    with_daemon(guest.arg(lab.join("train.sh")).arg(lab.join("drbd-anchor.sh")), repd).run()
}

/// How much of the lab is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What every test runs: a mount, and kills under one, over both drivers, and two machines. Within ten minutes.
    Short,
    /// Every scenario.
    All,
}

impl Extent {
    /// How many seconds the guests with devices may take at most, and then the two machines: a busy machine is no failure, and
    /// nothing waits for ever.
    fn seconds(self) -> (&'static str, &'static str) {
        match self {
            Extent::Short => ("660", "240"),
            Extent::All => ("2700", "600"),
        }
    }
}

/// What a guest with scratch disks is booted for, one a device: `device.sh` runs one scenario after another.
const DEVICES: [&str; 2] = ["ublk", "nbd"];
/// Two for what needs room, two that are soon compared after a crash.
const DISKS: [&str; 8] = ["-d", "512M", "-d", "512M", "-d", "128M", "-d", "128M"];
/// The scenarios that `device.sh` runs.
const PARTS: [&str; 12] = [
    "smoke.sh",
    "mount.sh",
    "kills.sh",
    "left-down.sh",
    "two-volumes.sh",
    "no-cache.sh",
    "switchover.sh",
    "handover.sh",
    "grow.sh",
    "pressure.sh",
    "given-up.sh",
    "nbd-ended.sh",
];
/// How many seconds it may take to fetch the guest's packages and unpack them.
const PREPARED_SECONDS: &str = "300";

/// Has everything ready that a guest is made of. Fails with what is missing where there can be none.
pub fn prepare() -> Result<(), Failure> {
    let lab =
        Tool::new("timeout").args(["-k", "5", PREPARED_SECONDS]).arg(workspace_root().join("tools/lab/guest-run"));
    packages::install(packages::GUEST).and_then(|()| lab.arg("-b").run()).map_err(|why| {
        Failure::NotHere(format!(
            "no guest can be made on this machine ({why}; guest-run said why above): ublk, the kernel's nbd, mounts that live \
             through the daemon's death, two machines on one cable: none of that has been tested"
        ))
    })
}

/// Runs the scenarios of the lab; the daemons are built already.
pub fn scenarios(extent: Extent) -> Result<(), Failure> {
    let lab = workspace_root().join("tools/lab");
    // Side by side: much of it is waiting, for a killed daemon's successor or a peer that is gone.
    let ended = thread::scope(|scope| {
        let running = DEVICES.map(|device| {
            let guest = device_guest(&lab, device, extent);
            scope.spawn(move || told(device, guest))
        });
        running.map(|guest| guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    ended.into_iter().collect::<Result<(), _>>()?;
    if extent == Extent::All {
        for device in DEVICES {
            told("unit", installed_guest(&lab, device, extent))?;
        }
    }
    told("two", with_companions(Tool::new(lab.join("two-guests")).env("LIMIT", extent.seconds().1)))
}

/// Runs it with what it says told at once; a failure names what was running, and the first thing that was found wrong.
fn told(who: &str, guest: Tool) -> Result<(), Failure> {
    let (mut running, mut wrong) = (String::new(), String::new());
    let seen = |line: &str| {
        if wrong.is_empty() && line.starts_with("FAILED") {
            wrong = format!(": {line}");
        } else if wrong.is_empty() && (line.starts_with("--- ") || line.starts_with("=== ")) {
            line.clone_into(&mut running);
        }
    };
    guest.run_telling(&format!("{who:<4}"), seen).map_err(|why| match why {
        Failure::Ended { code: Some(124), .. } => Failure::Missing(format!("{who}: out of time at '{running}'{wrong}")),
        Failure::Ended { code, .. } => Failure::Missing(format!("{who}: exit code {code:?} at '{running}'{wrong}")),
        other => other,
    })
}

fn device_guest(lab: &Path, device: &str, extent: Extent) -> Tool {
    let guest = Tool::new(lab.join("guest-run")).args(["-t", extent.seconds().0]).args(DISKS);
    let guest = guest.args(["-e", &format!("DEVICE={device}")]);
    let guest = if extent == Extent::Short { guest.args(["-e", "SHORT=yes"]) } else { guest };
    with_companions(guest.arg(lab.join("device.sh")).args(PARTS.map(|part| lab.join(part))))
}

/// A guest whose process 1 is systemd, with our units and udev's rule.
fn installed_guest(lab: &Path, device: &str, extent: Extent) -> Tool {
    let guest = Tool::new(lab.join("guest-run")).args(["-s", "-t", extent.seconds().1, "-d", "128M", "-d", "128M"]);
    let guest = guest.args(["-e", &format!("DEVICE={device}")]);
    with_companions(guest.arg(lab.join("systemd.sh")).arg(workspace_root().join("tools/packaging")))
}

/// How long what is measured goes on, and on which disks.
#[derive(Debug)]
pub struct Run {
    /// `brd` or `virtio`.
    pub backing: &'static str,
    pub rounds: u32,
    /// A load.
    pub seconds: u32,
}

/// Ours and the in-kernel DRBD in one guest, in turns; the table is left in `out`.
pub fn bench(repd: &Path, run: &Run, bare: Option<&Path>, out: &Path) -> Result<(), Failure> {
    let Run { backing, rounds, seconds } = run;
    let lab = workspace_root().join("tools/lab");
    let mirrors = if bare.is_some() { 3 } else { 2 };
    let disks = if *backing == "virtio" { ["-d", "300M"].repeat(2 * mirrors) } else { Vec::new() };
    let guest = Tool::new(lab.join("guest-run")).args(["-t", "3600", "-m", "3072", "-o"]).arg(out).args(disks);
    let settings = [format!("BACKING={backing}"), format!("ROUNDS={rounds}"), format!("SECS={seconds}")];
    let guest = settings.iter().fold(guest, |guest, setting| guest.arg("-e").arg(setting));
    let guest = guest.arg(lab.join("ublk-bench.sh")).arg(lab.join("drbd-anchor.sh"));
    with_daemon(guest.args(bare), repd).run()
}
