//! `cargo xtask sim`: the simulator, in a build whose panics unwind; with planted bugs where they are asked for.

use crate::process::{Failure, Tool, cargo, target_directory};
use std::ffi::OsString;
use std::path::PathBuf;

/// The profile in which a panic of the engine ends the run of a seed, not the program.
const PROFILE: &str = "sim";

/// Builds the simulator and hands the arguments to it.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    let planted = rest.iter().any(|argument| argument == "--planted" || argument == "--plant");
    Tool::new(build(planted)?).args(rest).run()
}

fn build(planted: bool) -> Result<PathBuf, Failure> {
    let features: &[&str] = if planted { &["--features", "planted-bugs"] } else { &[] };
    cargo(["build", "--quiet", "--profile", PROFILE, "-p", "rep-sim", "--bin", "rep-sim"]).args(features).run()?;
    Ok(target_directory().join(PROFILE).join("rep-sim"))
}
