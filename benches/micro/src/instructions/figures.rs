//! The committed figures.

use crate::callgrind;
use serde::Deserialize;
use std::fmt::Write;

/// Where they are, from the workspace's folder.
pub const PATH: &str = "benches/instructions.toml";
/// By how much a workload may be dearer than committed, where the file doesn't say: decision 35.
const ALLOWED_EXCESS_PERCENT: f64 = 5.0;

/// What one operation of a workload takes.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Of which workload.
    pub name: String,
    /// Instructions, to a tenth.
    pub instructions: f64,
    /// Calls of the allocator, to a thousandth.
    pub allocations: f64,
}

/// What figures depend on besides the code: those of two of these don't compare.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The compiler, and for what it compiled.
    pub compiler: String,
    /// The processor as the workloads saw it.
    pub processor: String,
}

impl Origin {
    /// This program on this machine.
    pub fn here() -> Result<Origin, String> {
        Ok(Origin { compiler: env!("REP_MICRO_COMPILER").to_owned(), processor: callgrind::processor()? })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} on {}", self.compiler, self.processor)
    }
}

/// The file.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Where the figures are from.
    pub origin: Origin,
    /// By how much a workload may be dearer than committed.
    pub allowed_excess_percent: f64,
    /// The figures.
    pub workload: Vec<Figure>,
}

fn rounded(count: u64, operations: u64, steps: f64) -> f64 {
    (count as f64 / operations as f64 * steps).round() / steps
}

impl Figure {
    /// What so many operations took.
    pub fn new(name: &str, instructions: u64, allocations: u64, operations: u64) -> Figure {
        let instructions = rounded(instructions, operations, 10.0);
        Figure { name: name.to_owned(), instructions, allocations: rounded(allocations, operations, 1000.0) }
    }
}

impl Figures {
    /// Figures from there.
    pub fn new(origin: Origin, workload: Vec<Figure>, allowed_excess_percent: Option<f64>) -> Figures {
        let allowed_excess_percent = allowed_excess_percent.unwrap_or(ALLOWED_EXCESS_PERCENT);
        Figures { origin, allowed_excess_percent, workload }
    }

    /// The committed ones.
    pub fn read() -> Result<Figures, String> {
        let text = std::fs::read_to_string(PATH)
            .map_err(|e| format!("{PATH}: {e}; 'cargo xtask instructions --accept' writes it"))?;
        Figures::parse(&text)
    }

    /// The file's text.
    pub fn parse(text: &str) -> Result<Figures, String> {
        let figures: Figures = toml::from_str(text).map_err(|e| format!("{PATH}: {e}"))?;
        let allowed = figures.allowed_excess_percent;
        if (0.0..=100.0).contains(&allowed) { Ok(figures) } else { Err(format!("{PATH}: {allowed} % of excess")) }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# What an operation of each workload takes; written by 'cargo xtask instructions --accept', see docs/TESTING.md.\n\
             allowed_excess_percent = {:?}\n\n[origin]\ncompiler = \"{}\"\nprocessor = \"{}\"\n",
            self.allowed_excess_percent, self.origin.compiler, self.origin.processor
        );
        for Figure { name, instructions, allocations } in &self.workload {
            let figure = format!(
                "\n[[workload]]\nname = \"{name}\"\ninstructions = {instructions:?}\nallocations = {allocations:?}\n"
            );
            text.push_str(&figure);
        }
        text
    }

    /// Commits these instead.
    pub fn write(&self) -> Result<(), String> {
        std::fs::write(PATH, self.text()).map_err(|e| format!("{PATH}: {e}"))
    }

    /// As they stand in the documentation.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| workload | instructions | allocations |\n|---|--:|--:|\n");
        for Figure { name, instructions, allocations } in &self.workload {
            // Writing to a string doesn't fail.
            let _ = writeln!(text, "| `{name}` | {instructions:.1} | {allocations} |");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { compiler: "rustc 1.0, x86_64".to_owned(), processor: "GenuineIntel 000306c3".to_owned() }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let workload = vec![Figure::new("a/b", 12_345, 0, 100), Figure::new("c/d", 7, 1, 3)];
        assert_eq!(workload[1], Figure { name: "c/d".to_owned(), instructions: 2.3, allocations: 0.333 });
        let figures = Figures::new(origin(), workload, None);
        assert_eq!(Figures::parse(&figures.text()), Ok(figures));
    }

    #[test]
    fn nonsense_is_refused() {
        let text = Figures::new(origin(), vec![Figure::new("a/b", 1, 0, 1)], None).text();
        assert!(Figures::parse(&text).is_ok());
        assert!(
            Figures::parse(&text.replace("allowed_excess_percent = 5.0", "allowed_excess_percent = 500.0")).is_err()
        );
        assert!(Figures::parse(&text.replace("[origin]", "[origin]\nmore = 1")).is_err());
        // A file from before figures had a processor.
        assert!(Figures::parse(&text.replace("processor = ", "# processor = ")).is_err());
    }
}
