//! Throws bytes at everything that reads bytes from outside: clients, the peer, the disk, the operator's files.
//!
//! ```text
//!   corpus + seeds --> mutate --> target(bytes) --> new counters hit? --> keep the input
//!                                     |
//!                                     +--> panic, hang, too much memory --> artifacts/, exit code 1
//! ```
//!
//! Which code an input reached is told by the compiler's own counters (see `coverage`), on stable Rust. Without
//! instrumentation everything works too, blindly.

mod all;
mod allocator;
mod controls;
mod corpus;
mod coverage;
mod engine;
mod mutate;
mod random;
mod row;
mod targets;
mod unreached;

use engine::{Fuzzer, Limits};
use row::Row;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use targets::{CONTROLS, TARGETS, Target};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

const USAGE: &str = "\
cargo xtask fuzz [--seconds N] [--executions N] [--target NAME] [--seed N] [--grow]
cargo xtask fuzz --target NAME --input FILE
cargo xtask fuzz --replay | --controls | --list

  --seconds N     how long each target runs (30)
  --executions N  how many inputs each target gets instead; not the slow ones, when all run
  --target NAME   only this one
  --grow          keep small inputs that reached something new in fuzz/corpus
  --input FILE    run one input, as a failure tells it
  --replay        run the corpus, and a few mutations of it that are the same every time
  --controls      targets with planted bugs, all of which must be found
  --unreached     which lines, of files in which any was reached, the target never reached";

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
    controls: bool,
    unreached: bool,
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
            "--controls" => parsed.controls = true,
            "--unreached" => parsed.unreached = true,
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
    if arguments.controls {
        return controls::run();
    }
    let named = |name: &String| TARGETS.iter().chain(CONTROLS).find(|target| target.name == name);
    let chosen = match &arguments.target {
        None => None,
        Some(name) => Some(named(name).ok_or(format!("there is no target '{name}'"))?),
    };
    match (chosen, &arguments.input) {
        (Some(target), Some(path)) => {
            let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(Fuzzer::new(target, 0).run_one(&bytes))
        }
        (None, Some(_)) => Err("--input needs --target".to_owned()),
        (Some(target), None) => {
            println!("{}", Row::HEAD);
            Ok(fuzz_one(target, arguments))
        }
        (None, None) => all::run(arguments.executions.is_some()),
    }
}

/// Runs a target and prints its row; whether nothing was found.
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
    let (executions, kept, reached) = (fuzzer.executions(), fuzzer.kept().len(), fuzzer.reached().count());
    println!("{}", Row { name: target.name, executions, took: began.elapsed(), kept, reached, seed, clean });
    if arguments.unreached {
        unreached::print(fuzzer.reached());
    }
    if arguments.grow && clean {
        corpus::grow(target.name, fuzzer.kept());
    }
    clean
}
