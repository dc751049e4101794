//! A line of the table that tells how targets did.

use std::fmt;
use std::time::Duration;

/// How a target did.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub executions: u64,
    pub took: Duration,
    /// Inputs that reached something new.
    pub kept: usize,
    /// Counters ever hit.
    pub reached: usize,
    pub seed: u64,
    pub clean: bool,
}

impl Row {
    /// The line above.
    pub const HEAD: &str =
        "target              executions  seconds  executions/s  corpus  counters                  seed  verdict";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, executions, kept, reached, seed, .. } = self;
        let seconds = self.took.as_secs_f64();
        let rate = *executions as f64 / seconds;
        let verdict = if self.clean { "clean" } else { "FAILED" };
        write!(
            f,
            "{name:<18} {executions:>11}  {seconds:>7.1}  {rate:>12.0}  {kept:>6}  {reached:>8}  {seed:>20}  {verdict}"
        )
    }
}
