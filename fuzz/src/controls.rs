//! The test of the test: bugs planted in targets of their own, which the fuzzer must find.

use crate::corpus;
use crate::targets::{CONTROLS, Target};
use std::process::{Command, Output};
use std::time::Instant;

/// Inputs in which a planted bug must be found; found are they in a tenth of that.
const EXECUTIONS: &str = "5000000";

/// Whether all were found, and each kept an input that shows it again.
pub fn run() -> Result<bool, String> {
    let mut all = true;
    for control in CONTROLS {
        corpus::forget_artifacts(control.name);
        let began = Instant::now();
        let hunt = fuzz(control, &["--executions", EXECUTIONS, "--seed", "1"])?;
        let inputs = corpus::artifacts(control.name);
        let found = match inputs.as_slice() {
            [input] if hunt.status.code() == Some(1) => {
                fuzz(control, &["--input", &input.display().to_string()])?.status.code() == Some(1)
            }
            _ => false,
        };
        let verdict = if found { "found" } else { "NOT FOUND" };
        println!("{:<18} {verdict} in {:.1} s: {}", control.name, began.elapsed().as_secs_f64(), control.about);
        corpus::forget_artifacts(control.name);
        all &= found;
    }
    Ok(all)
}

fn fuzz(control: &Target, words: &[&str]) -> Result<Output, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    Command::new(program).args(["--target", control.name]).args(words).output().map_err(|e| e.to_string())
}
