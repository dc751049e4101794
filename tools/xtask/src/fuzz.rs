//! `cargo xtask fuzz`: builds the fuzz package and hands the arguments to its driver.
//!
//! It is a package of its own, outside the workspace: see `fuzz/Cargo.toml`.

use crate::process::{Failure, Tool, cargo, output, target_directory};
use std::ffi::OsString;

/// With the compiler's counters on every edge, so that the driver sees what an input reached: LLVM's pass is turned on by
/// flags that are stable, and needs no runtime of its own because the driver brings the few functions that are called.
const COUNTING: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Builds the driver and runs it.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    driver()?.args(rest).run()
}

/// What every test run does: the corpus, and the bugs planted to test the fuzzer itself.
pub fn short() -> Result<(), Failure> {
    driver()?.arg("--replay").run()?;
    driver()?.arg("--controls").run()
}

/// The driver, built. One build serves the replay and the hunt.
fn driver() -> Result<Tool, Failure> {
    // Naming the host as the target keeps the flags away from build scripts and macros.
    let host = host()?;
    let target = target_directory().join("fuzz");
    cargo(["build", "--release", "--quiet", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(&target)
        .args(["--target", &host])
        .env("RUSTFLAGS", COUNTING)
        .run()?;
    Ok(Tool::new(target.join(&host).join("release").join("rep-fuzz")))
}

fn host() -> Result<String, Failure> {
    let version = output("rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::Missing("rustc doesn't tell its host".to_owned()))
}
