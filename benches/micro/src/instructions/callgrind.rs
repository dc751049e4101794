//! Runs a workload under callgrind and reads what it counted.
//!
//! Each runs in a process of its own, so that none sees the heap another left, with an environment of nothing, so that the
//! stack begins in the same place. Only what happens within [`measured_runs`] is counted: making the workload ready isn't.

use crate::allocations;
use rep_micro::Workload;
use std::path::PathBuf;
use std::process::Command;

/// Tells this program that it is the one that runs under callgrind.
pub const RUN: &str = "--under-callgrind";
/// Tells this program to say what it sees of the processor, which isn't the same under valgrind.
pub const PROCESSOR: &str = "--processor";
/// The workload the controls spoil: the one that must not allocate.
pub const CONTROL: &str = "engine/write";
/// How many operations are counted, about.
const OPERATIONS: u64 = 4096;
/// Runs before these, so that buffers have grown.
const WARMING_RUNS: u64 = 64;
/// The function that is counted, as callgrind looks for it in the program's symbols.
const COUNTED: &str = "*measured_runs*";

/// What is done to a workload so that its figures must be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoiled {
    /// Nothing.
    Not,
    /// Everything is done twice.
    Twice,
    /// Each run allocates a byte besides.
    Allocates,
}

impl Spoiled {
    const ALL: [Spoiled; 3] = [Spoiled::Not, Spoiled::Twice, Spoiled::Allocates];

    fn word(self) -> &'static str {
        match self {
            Spoiled::Not => "as-it-is",
            Spoiled::Twice => "twice",
            Spoiled::Allocates => "allocates",
        }
    }

    /// The one that is called so.
    pub fn from_word(word: &str) -> Result<Spoiled, String> {
        Spoiled::ALL.into_iter().find(|spoiled| spoiled.word() == word).ok_or(format!("'{word}' is no way to spoil it"))
    }

    /// What is told of it.
    pub fn told(self) -> &'static str {
        match self {
            Spoiled::Not => "as it is",
            Spoiled::Twice => "done twice",
            Spoiled::Allocates => "with one allocation more",
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    /// Instructions.
    pub instructions: u64,
    /// Allocations, by the program itself.
    pub allocations: u64,
}

/// What is counted: all else is outside of it.
#[inline(never)]
fn measured_runs(work: &mut dyn FnMut(), runs: u64) {
    for _ in 0..runs {
        work();
    }
}

fn runs(workload: &Workload) -> u64 {
    OPERATIONS.div_ceil(workload.operations)
}

/// How many operations are counted.
pub fn operations(workload: &Workload) -> u64 {
    runs(workload) * workload.operations
}

/// The process under callgrind: makes the workload ready, runs it, and prints how often it allocated.
pub fn run(workload: &Workload, spoiled: Spoiled) {
    let mut work = (workload.prepare)();
    (0..WARMING_RUNS).for_each(|_| work());
    let mut spoiling = || {
        work();
        match spoiled {
            Spoiled::Not => {}
            Spoiled::Twice => work(),
            Spoiled::Allocates => drop(std::hint::black_box(Box::new(0u8))),
        }
    };
    let before = allocations::so_far();
    // The honest run is counted without anything between.
    match spoiled {
        Spoiled::Not => measured_runs(&mut *work, runs(workload)),
        _ => measured_runs(&mut spoiling, runs(workload)),
    }
    println!("{}", allocations::so_far() - before);
}

/// Where callgrind's own output is kept, for `callgrind_annotate`.
pub fn kept(name: &str, spoiled: Spoiled) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))?;
    let target = program.ancestors().nth(2).ok_or("this program lies in no target folder")?.join("instructions");
    std::fs::create_dir_all(&target).map_err(|e| format!("{}: {e}", target.display()))?;
    Ok(target.join(format!("{}.{}.callgrind", name.replace('/', "-"), spoiled.word())))
}

/// Runs this program under valgrind, and returns what it said.
fn under_valgrind(options: &[String], arguments: &[&str]) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--quiet").args(options).arg(program).args(arguments);
    valgrind.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let ended = valgrind.output().map_err(|e| format!("could not start valgrind: {e}"))?;
    if !ended.status.success() {
        let told = String::from_utf8_lossy(&ended.stderr);
        return Err(format!("{} under valgrind: {}\n{told}", arguments.join(" "), ended.status));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned())
}

/// The processor that workloads see here.
pub fn processor() -> Result<String, String> {
    under_valgrind(&["--tool=none".to_owned()], &[PROCESSOR])
}

/// Counts a workload.
pub fn count(workload: &Workload, spoiled: Spoiled) -> Result<Count, String> {
    let out = kept(workload.name, spoiled)?;
    let options = [
        "--tool=callgrind".to_owned(),
        format!("--toggle-collect={COUNTED}"),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let told = under_valgrind(&options, &[RUN, workload.name, spoiled.word()])?;
    let allocations = told.parse().map_err(|e| format!("{} said '{told}': {e}", workload.name))?;
    let text = std::fs::read_to_string(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let instructions = instructions(&text);
    let instructions = instructions.ok_or(format!("{}: callgrind didn't see {COUNTED}", workload.name))?;
    Ok(Count { instructions, allocations })
}

/// The sum in callgrind's output. `None` when there is none: then the function that is counted wasn't found.
fn instructions(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"))?;
    total.trim().parse().ok().filter(|total| *total > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counted_is_no_figure() {
        assert_eq!(instructions("version: 1\nfn=work\n1 100\nsummary: 290\n\ntotals: 290\n"), Some(290));
        assert_eq!(instructions("version: 1\ntotals: 0\n"), None);
        assert_eq!(instructions(""), None);
    }

    #[test]
    fn the_control_is_a_workload_and_every_word_is_known() {
        assert!(rep_micro::WORKLOADS.iter().any(|workload| workload.name == CONTROL));
        Spoiled::ALL.iter().for_each(|spoiled| assert_eq!(Spoiled::from_word(spoiled.word()), Ok(*spoiled)));
    }

    /// Each does what it says it does: it asserts so itself.
    #[test]
    fn every_workload_runs() {
        for workload in rep_micro::WORKLOADS {
            let mut work = (workload.prepare)();
            measured_runs(&mut *work, 3);
        }
    }
}
