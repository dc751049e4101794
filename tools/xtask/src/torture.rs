//! `cargo xtask torture`: real daemons, killed, cut off, corrupted and robbed of their power, for as long as is asked; then
//! the controls, which must be found.

use crate::packages;
use crate::process::{Failure, Tool, cargo, release_binary, target_directory};
use crate::test::build_daemons;
use std::ffi::OsString;
use std::path::PathBuf;

/// The short form in `cargo xtask test`: this many seconds, then the controls.
pub const SHORT_SECONDS: &str = "60";

/// Builds everything and hands the arguments to the harness.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    packages::install(packages::TESTED)?;
    build_daemons()?;
    run_built(rest)
}

/// The same, where the daemons are built already.
pub fn run_built(rest: &[OsString]) -> Result<(), Failure> {
    cargo(["build", "--release", "--quiet", "-p", "rep-tests", "--bin", "rep-torture"]).run()?;
    let harness = Tool::new(release_binary("rep-torture")).env("REP_TESTS_BIN_DIR", target_directory().join("release"));
    let told = |word: &str| rest.iter().any(|told| told == word);
    let plants = told("--plant") || !told("--no-controls") && !told("--list");
    let harness = if plants { harness.arg("--planted-daemon").arg(planted_daemon()?) } else { harness };
    harness.args(rest).run()
}

/// A daemon that bugs can be planted in. It lies in a folder of its own, so that it is never taken for the true one, and
/// is hardly optimised: nobody measures it.
fn planted_daemon() -> Result<PathBuf, Failure> {
    let target = target_directory().join("planted");
    let profile = ["build", "--quiet", "--profile", "sim", "-p", "repd", "--features", "planted-bugs", "--target-dir"];
    let hardly = |tool: Tool| tool.env("CARGO_PROFILE_SIM_OPT_LEVEL", "1").env("CARGO_PROFILE_SIM_DEBUG", "0");
    hardly(cargo(profile).arg(&target)).run()?;
    Ok(target.join("sim").join("repd"))
}
