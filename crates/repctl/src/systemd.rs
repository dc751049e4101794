//! What is asked of systemd, where it runs: whether it has a unit, whether that is active, and to start or stop it.

use crate::program::{self, Ended, NoEnd};
use rep_control::api::ApiError;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a question may take.
const QUESTION_PATIENCE: Duration = Duration::from_secs(10);

/// How a unit stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum UnitState {
    /// There is none, or no systemd.
    #[default]
    Absent,
    Inactive,
    Active,
}

/// The unit that keeps a node Primary while it is active. A resource's name needs no escaping in it.
pub fn primary_unit(resource: &str) -> String {
    format!("repd-primary@{resource}.service")
}

/// How a unit stands on this machine.
pub fn state(unit: &str) -> UnitState {
    match unit {
        _ if !runs() || !asked(&["systemctl", "cat", "--", unit]) => UnitState::Absent,
        _ if is_active(unit) => UnitState::Active,
        _ => UnitState::Inactive,
    }
}

/// Whether a unit is active.
pub fn is_active(unit: &str) -> bool {
    asked(&["systemctl", "is-active", "--quiet", "--", unit])
}

/// The mount unit of a path, where systemd runs and has one.
pub fn mount_unit(path: &Path) -> Option<String> {
    if !runs() {
        return None;
    }
    let words = ["systemd-escape", "--path", "--suffix=mount", path.to_str()?];
    let escaped = program::run(&words, Instant::now() + QUESTION_PATIENCE).ok()?;
    let unit = escaped.stdout.trim().to_owned();
    (escaped.is_well() && state(&unit) != UnitState::Absent).then_some(unit)
}

fn runs() -> bool {
    Path::new("/run/systemd/system").exists()
}

fn asked(words: &[&str]) -> bool {
    program::run(words, Instant::now() + QUESTION_PATIENCE).is_ok_and(|ended| ended.is_well())
}

/// Runs a program that must end well by a deadline; `reason` names its failure.
pub fn carry_out<S: AsRef<OsStr>>(reason: &str, words: &[S], patience: Duration) -> Result<Ended, ApiError> {
    let line: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    let line = line.join(" ");
    match program::run(words, Instant::now() + patience) {
        Ok(ended) if ended.is_well() => Ok(ended),
        Ok(ended) => Err(ApiError::failed(reason, format!("'{line}': {}", ended.complaint()))),
        Err(NoEnd::NotRun(error)) => Err(ApiError::failed(reason, format!("'{line}' can't be run: {error}"))),
        Err(NoEnd::TimedOut) => Err(ApiError::timed_out(format!("'{line}' wasn't done in time"))),
    }
}
