//! The committed figures.

use serde::Deserialize;
use std::fmt::Write;

/// Where they are, from the workspace's folder.
pub const PATH: &str = "benches/instructions.toml";
/// What made this program.
pub const COMPILER: &str = env!("REP_MICRO_COMPILER");
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

/// The file.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The compiler the figures are of, and for what it compiled.
    pub compiler: String,
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
    /// Figures of this compiler.
    pub fn new(workload: Vec<Figure>, allowed_excess_percent: Option<f64>) -> Figures {
        let allowed_excess_percent = allowed_excess_percent.unwrap_or(ALLOWED_EXCESS_PERCENT);
        Figures { compiler: COMPILER.to_owned(), allowed_excess_percent, workload }
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
             compiler = \"{}\"\nallowed_excess_percent = {:?}\n",
            self.compiler, self.allowed_excess_percent
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

    #[test]
    fn what_is_written_is_what_is_read() {
        let workload = vec![Figure::new("a/b", 12_345, 0, 100), Figure::new("c/d", 7, 1, 3)];
        assert_eq!(workload[1], Figure { name: "c/d".to_owned(), instructions: 2.3, allocations: 0.333 });
        let figures = Figures::new(workload, None);
        assert_eq!(Figures::parse(&figures.text()), Ok(figures));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Figures::parse("compiler = 'x'\nallowed_excess_percent = 500.0\nworkload = []").is_err());
        assert!(Figures::parse("compiler = 'x'\nallowed_excess_percent = 5.0\nworkload = []\nmore = 1").is_err());
    }
}
