//! `cargo xtask test`: everything, on a fresh machine, in one command.

use crate::guest::{self, Extent};
use crate::packages::{self, is_root};
use crate::process::{Failure, cargo, target_directory};
use crate::sim;
use crate::summary::Summary;
use crate::{fuzz, instructions, torture};
use std::ffi::OsString;

/// The seeds the simulator runs in every test; `cargo xtask sim --seeds N` runs more.
const SIMULATED_SEEDS: &str = "1000";
/// The most seeds it may take to catch one of the planted bugs. The last needs 2,618; the next 1,658.
const PLANTED_SEEDS: &str = "4000";

/// Installs what the tests drive, builds, runs every step (or the one named by `--only`), sums up.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    let only = only(rest)?;
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let mut summary = Summary::new("test");
    if wanted("daemons") || wanted("torture") {
        summary.step("packages", || packages::install(packages::TESTED));
    }
    if wanted("unit") {
        summary.step("unit tests", unit_tests);
    }
    if wanted("sim") {
        summary.step("simulation", || sim::run(&["--seeds", SIMULATED_SEEDS].map(OsString::from)));
        summary.step("planted bugs", || sim::run(&["--planted", "--seeds", PLANTED_SEEDS].map(OsString::from)));
    }
    if wanted("fuzz") {
        summary.step("fuzz corpus", fuzz::short);
    }
    if wanted("daemons") {
        summary.step("release build", build_daemons);
        summary.step("real daemons", daemon_tests);
    }
    if wanted("instructions") {
        // Behind the daemons, whose build it shares. Not run where they can't be counted; but who asks for them by name, and CI, want no excuse.
        let must = only.is_some() || std::env::var_os("CI").is_some();
        summary.step("instructions", || instructions::step(must));
    }
    if wanted("torture") {
        summary.step("torture", || {
            build_daemons()?;
            torture::run_built(&["--seconds", torture::SHORT_SECONDS].map(OsString::from))
        });
    }
    if wanted("guest") || wanted("guest-short") {
        // An emulated machine takes its time: the long scenarios by name alone.
        let extent = if only.as_deref() == Some("guest") { Extent::All } else { Extent::Short };
        // Last, and not run where no guest can be made; but who asks for it by name wants no excuse.
        let excuse = |why: Failure| if only.is_some() { Failure::Missing(why.to_string()) } else { why };
        summary.step("block devices in the guest", || {
            guest::prepare().map_err(excuse)?;
            build_daemons()?;
            guest::scenarios(extent)
        });
    }
    if !is_root() {
        println!(
            "\nnot run, because only root can make network namespaces: every scenario about losing the link, and mounts"
        );
    }
    summary.end()
}

fn only(rest: &[OsString]) -> Result<Option<String>, Failure> {
    let words: Vec<_> = rest.iter().map(|word| word.to_string_lossy()).collect();
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>().as_slice() {
        [] => Ok(None),
        [
            "--only",
            step @ ("unit" | "instructions" | "sim" | "fuzz" | "daemons" | "torture" | "guest-short" | "guest"),
        ] => Ok(Some((*step).to_owned())),
        _ => Err(Failure::usage(
            "'cargo xtask test' takes '--only unit|instructions|sim|fuzz|daemons|torture|guest-short|guest' or nothing",
        )),
    }
}

/// Every crate's own tests, with debug assertions; those with daemons are a step of their own.
fn unit_tests() -> Result<(), Failure> {
    let selection = ["--workspace", "--exclude", "rep-tests", "--quiet"];
    if cargo(["nextest", "--version"]).succeeds() {
        let profile =
            ["--no-tests", "pass", "--status-level", "fail", "--final-status-level", "fail", "--no-fail-fast"];
        cargo(["nextest", "run"]).args(&selection[..3]).args(profile).run()?;
        return cargo(["test", "--doc"]).args(selection).run();
    }
    cargo(["test", "--no-fail-fast"]).args(selection).run()
}

/// The daemon and its command in release mode: what the tests, the demo and the benches run.
pub fn build_daemons() -> Result<(), Failure> {
    cargo(["build", "--release", "--quiet", "-p", "repd", "-p", "repctl"]).run()
}

/// The scenarios: real daemons, real tools. They limit how many run at once by themselves.
fn daemon_tests() -> Result<(), Failure> {
    cargo(["test", "--release", "-p", "rep-tests", "--no-fail-fast"])
        .env("REP_TESTS_BIN_DIR", target_directory().join("release"))
        .run()
}
