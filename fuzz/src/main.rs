//! Throws bytes at everything that reads bytes from outside: clients, the peer, the disk, the operator's files.
//!
//! ```text
//!   corpus + seeds --> mutate --> target(bytes) --> new counters hit? --> keep the input
//!                                     |
//!                                     +--> panic, hang, too much memory --> artifacts/, exit code 1
//! ```
//!
//! Which code an input reached is told by the compiler's own counters (see `coverage`), on stable Rust. Without
//! instrumentation everything works too, blindly: that is how the corpus is replayed by the tests.

mod allocator;
mod corpus;
mod coverage;
mod engine;
mod mutate;
mod random;
mod targets;

use engine::{Fuzzer, Limits};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

const USAGE: &str = "\
cargo xtask fuzz [--seconds N] [--executions N] [--target NAME] [--seed N] [--grow]
cargo xtask fuzz --target NAME --input FILE
cargo xtask fuzz --replay | --list

  --seconds N     how long each target runs (30)
  --executions N  how many inputs each target gets instead
  --target NAME   only this one
  --grow          keep small inputs that reached something new in fuzz/corpus
  --input FILE    run one input, as a failure tells it
  --replay        run the corpus, and a few mutations of it that are the same every time";

/// Inputs of a replay beyond the corpus, for each target.
const REPLAYED_MUTATIONS: u64 = 2000;

#[derive(Debug, Default)]
struct Arguments {
    seconds: Option<u64>,
    executions: Option<u64>,
    target: Option<String>,
    seed: Option<u64>,
    grow: bool,
    input: Option<PathBuf>,
    replay: bool,
    list: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{word}: '{text}' is no number"));
        match word.as_str() {
            "--seconds" => parsed.seconds = Some(number(value()?)?),
            "--executions" => parsed.executions = Some(number(value()?)?),
            "--seed" => parsed.seed = Some(number(value()?)?),
            "--target" => parsed.target = Some(value()?),
            "--input" => parsed.input = Some(value()?.into()),
            "--grow" => parsed.grow = true,
            "--replay" => parsed.replay = true,
            "--list" => parsed.list = true,
            _ => return Err(format!("unknown argument '{word}'\n{USAGE}")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("fuzz: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was found.
fn run(arguments: &Arguments) -> Result<bool, String> {
    if arguments.list {
        TARGETS.iter().for_each(|target| println!("{:<20} {}", target.name, target.about));
        return Ok(true);
    }
    let chosen = match &arguments.target {
        None => None,
        Some(name) => Some(TARGETS.iter().find(|t| t.name == name).ok_or(format!("there is no target '{name}'"))?),
    };
    match (chosen, &arguments.input) {
        (Some(target), Some(path)) => {
            let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(Fuzzer::new(target, 0).run_one(&bytes))
        }
        (None, Some(_)) => Err("--input needs --target".to_owned()),
        (Some(target), None) => Ok(fuzz_one(target, arguments)),
        (None, None) if arguments.replay => Ok(TARGETS.iter().filter(|t| !fuzz_one(t, arguments)).count() == 0),
        (None, None) => fuzz_all(),
    }
}

fn fuzz_one(target: &'static Target, arguments: &Arguments) -> bool {
    let seed = arguments.seed.unwrap_or(if arguments.replay { 1 } else { random::fresh_seed() });
    let began = Instant::now();
    let mut fuzzer = Fuzzer::new(target, seed);
    let limits = match (arguments.replay, arguments.executions, arguments.seconds) {
        (true, ..) => Limits::executions(REPLAYED_MUTATIONS),
        (_, Some(executions), _) => Limits::executions(executions),
        (_, None, seconds) => Limits::time(Duration::from_secs(seconds.unwrap_or(30))),
    };
    let clean = fuzzer.run(&limits);
    println!(
        "{:<20} {:>11} executions, {:>6} inputs kept, {:>6} counters hit, {:>5.1} s, seed {seed}: {}",
        target.name,
        fuzzer.executions(),
        fuzzer.kept().len(),
        fuzzer.reached(),
        began.elapsed().as_secs_f64(),
        if clean { "clean" } else { "FAILED" }
    );
    if arguments.grow && clean {
        corpus::grow(target.name, fuzzer.kept());
    }
    clean
}

/// All targets, each in a process of its own (the counters are one to a process), as many at once as there are
/// processors.
fn fuzz_all() -> Result<bool, String> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut running: Vec<Child> = Vec::new();
    let mut clean = true;
    for target in TARGETS {
        while running.len() >= jobs {
            clean &= reap(&mut running);
        }
        let command = Command::new(&program).args(std::env::args_os().skip(1)).args(["--target", target.name]).spawn();
        running.push(command.map_err(|e| e.to_string())?);
    }
    while !running.is_empty() {
        clean &= reap(&mut running);
    }
    Ok(clean)
}

/// Waits until one has ended; whether it was clean.
fn reap(running: &mut Vec<Child>) -> bool {
    loop {
        let ended = running.iter_mut().position(|child| !matches!(child.try_wait(), Ok(None)));
        if let Some(index) = ended {
            return running.swap_remove(index).wait().is_ok_and(|status| status.success());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
