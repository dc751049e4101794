//! `cargo xtask instructions`: what the data path's pieces cost, in instructions, beside the committed figures.

use crate::packages;
use crate::process::{Failure, Tool, cargo, release_binary};
use std::ffi::OsString;

/// What the counting program ends with where the committed figures are another compiler's or another processor's.
const NOT_COMPARABLE: i32 = 3;

/// Counts and compares, or (`--accept`) commits what it counts.
pub fn run(rest: &[OsString]) -> Result<(), Failure> {
    packages::install(packages::COUNTED)?;
    match count(rest) {
        // It has said so, and nothing was found wrong.
        Err(Failure::Ended { code: Some(NOT_COMPARABLE), .. }) => Ok(()),
        ended => ended,
    }
}

/// The step of `cargo xtask test`. Where there is no valgrind it isn't run, which is a failure if it must be; figures of
/// another compiler or processor are no failure anywhere.
pub fn step(must: bool) -> Result<(), Failure> {
    packages::install(packages::COUNTED).map_err(|why| {
        let why = format!("no valgrind ({why}): whether the data path has become dearer isn't known");
        if must { Failure::Missing(why) } else { Failure::NotHere(why) }
    })?;
    match count(&[]) {
        Err(Failure::Ended { code: Some(NOT_COMPARABLE), .. }) => Err(Failure::NotHere(
            "the committed figures are another compiler's or processor's: allocations were compared, instructions weren't".to_owned(),
        )),
        ended => ended,
    }
}

fn count(arguments: &[OsString]) -> Result<(), Failure> {
    cargo(["build", "--release", "--quiet", "-p", "rep-micro", "--bin", "rep-instructions"]).run()?;
    Tool::new(release_binary("rep-instructions")).args(arguments).run()
}
