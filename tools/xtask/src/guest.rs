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
    lab.arg(release_binary("repd")).arg(release_binary("repctl")).run()
}
