//! `rep-sim`: runs seeds, prints what failed and the command that shows it again. `cargo xtask sim` starts it.
//!
//! Exit codes: 0 every seed ran clean · 1 a planted bug was not caught · 2 wrong usage · 3 with `--require-all`, a rare
//! state was never reached · 20 a crash (panic or assertion) · 21 liveness · 22 wrong data.

use rep_sim::counters::Counters;
use rep_sim::{Failure, Kind, Outcome, Plan, ShellBug, Swarm};
use std::cell::Cell;
use std::io::{IsTerminal, Write, stderr};
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const USAGE: &str = "\
usage: rep-sim [--seeds N | --seeds A..B] [--jobs J] [--keep-going]   runs seeds (default 0..1000)
       rep-sim --fresh N [--jobs J] [--keep-going]                    runs N seeds nobody has run yet, and says which (nightly)
       rep-sim --seed N [--only I,J,...] [--quiet]                    runs one seed and prints what happened
       rep-sim --seed N --minimize                                    leaves steps out while it fails the same way
       rep-sim ... --shell-bug NAME                                   with a deliberate fault of the simulated shell
       rep-sim ... --require-all                                      a rare state never reached is an error (nightly)
       rep-sim --list-shell-bugs
       rep-sim --planted [--seeds N] [--jobs J]                       hunts planted bugs (built with that feature)
       rep-sim ... --plant NAME                                       with one planted bug";

/// What the command line asks for.
#[derive(Clone, Debug)]
struct Options {
    seeds: Range<u64>,
    seed: Option<u64>,
    only: Option<Vec<usize>>,
    jobs: usize,
    minimize: bool,
    quiet: bool,
    keep_going: bool,
    shell_bug: Option<(String, ShellBug)>,
    require_all: bool,
    planted: bool,
    plant: Option<String>,
}

/// The exit code for rare states never reached.
const UNREACHED: u8 = 3;

thread_local! {
    /// The seed this thread runs: a panic that ends the process still names it.
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list-shell-bugs") {
        ShellBug::ALL.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let Some(options) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if options.planted {
        return hunt_all(&options);
    }
    if !plant(&options) {
        return ExitCode::from(2);
    }
    announce_panics(&options);
    match options.seed {
        Some(seed) if options.minimize => minimize(seed, &options),
        Some(seed) => show(seed, &options),
        None => run_many(&options),
    }
}

fn parse(arguments: &[String]) -> Option<Options> {
    let jobs = std::thread::available_parallelism().map_or(2, |jobs| jobs.get());
    let mut options = Options {
        seeds: 0..1000,
        seed: None,
        only: None,
        jobs,
        minimize: false,
        quiet: false,
        keep_going: false,
        shell_bug: None,
        require_all: false,
        planted: false,
        plant: None,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seeds" => options.seeds = parse_seeds(rest.next()?)?,
            "--fresh" => options.seeds = fresh_seeds(rest.next()?.parse().ok()?)?,
            "--seed" => options.seed = Some(rest.next()?.parse().ok()?),
            "--only" => options.only = Some(rest.next()?.split(',').filter_map(|index| index.parse().ok()).collect()),
            "--jobs" => options.jobs = rest.next()?.parse().ok().filter(|jobs| *jobs > 0)?,
            "--minimize" => options.minimize = true,
            "--quiet" => options.quiet = true,
            "--keep-going" => options.keep_going = true,
            "--require-all" => options.require_all = true,
            "--planted" => options.planted = true,
            "--plant" => options.plant = Some(rest.next()?.clone()),
            "--shell-bug" => {
                let name = rest.next()?;
                options.shell_bug = Some((name.clone(), ShellBug::named(name)?));
            }
            _ => return None,
        }
    }
    Some(options)
}

fn parse_seeds(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((first, end)) => Some(first.parse().ok()?..end.parse().ok()?),
        None => Some(0..text.parse().ok()?),
    }
}

/// Seeds from the clock on: two runs share none unless one begins before the other could have ended.
#[expect(clippy::disallowed_methods, reason = "it names the seeds; what they run has no clock but their own")]
fn fresh_seeds(count: u64) -> Option<Range<u64>> {
    /// More than are run in a second.
    const SEEDS_A_SECOND: u64 = 1 << 16;
    let first = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs().checked_mul(SEEDS_A_SECOND)?;
    let seeds = first..first.checked_add(count)?;
    println!("seeds {}..{}", seeds.start, seeds.end);
    Some(seeds)
}

fn plan(seed: u64, options: &Options) -> Plan {
    let mut swarm = Swarm::of(seed);
    swarm.shell_bug = options.shell_bug.as_ref().map(|(_, bug)| *bug);
    let plan = Plan::for_swarm(swarm);
    match &options.only {
        Some(kept) => plan.only(kept),
        None => plan,
    }
}

fn run(seed: u64, options: &Options, trace: bool) -> Outcome {
    RUNNING.set(Some(seed));
    let outcome = rep_sim::run(plan(seed, options), trace);
    RUNNING.set(None);
    outcome
}

/// The command that shows a failure again.
fn reproduce(seed: u64, options: &Options) -> String {
    let bug = options.shell_bug.as_ref().map_or(String::new(), |(name, _)| format!(" --shell-bug {name}"));
    let only = options.only.as_ref().map_or(String::new(), |kept| {
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        format!(" --only {}", kept.join(","))
    });
    let plant = options.plant.as_ref().map_or(String::new(), |name| format!(" --plant {name}"));
    format!("cargo xtask sim --seed {seed}{only}{bug}{plant}")
}

#[cfg(feature = "planted-bugs")]
fn plant(options: &Options) -> bool {
    let known = rep_sim::planted::plant(options.plant.as_deref());
    if !known {
        rep_sim::planted::BUGS.iter().for_each(|(name, what)| eprintln!("{name:32} {what}"));
    }
    known
}

#[cfg(not(feature = "planted-bugs"))]
fn plant(options: &Options) -> bool {
    if options.plant.is_some() {
        eprintln!("{NOT_PLANTED}");
    }
    options.plant.is_none()
}

#[cfg(not(feature = "planted-bugs"))]
const NOT_PLANTED: &str = "this build has no planted bugs: 'cargo xtask sim --planted' makes one that has";

/// Hunts every planted bug; says how many seeds each took.
#[cfg(feature = "planted-bugs")]
fn hunt_all(options: &Options) -> ExitCode {
    use rep_sim::planted::{BUGS, hunt, median_seeds};
    std::panic::set_hook(Box::new(|_| {}));
    let mut catches = Vec::with_capacity(BUGS.len());
    for (name, what) in BUGS {
        let catch = hunt(name, options.seeds.end, options.jobs);
        match &catch.caught {
            Some((seed, failure)) => println!("{:>6}  {name:30} {:12} {what}", seed + 1, failure.invariant),
            None => println!(" never  {name:30} {:12} {what}", "-"),
        }
        catches.push(catch);
    }
    let missed = catches.iter().filter(|catch| catch.caught.is_none()).count();
    let median = median_seeds(&catches).unwrap_or(0);
    println!("{} planted bugs, {missed} not caught in {} seeds; median {median}", catches.len(), options.seeds.end);
    ExitCode::from(u8::from(missed > 0))
}

#[cfg(not(feature = "planted-bugs"))]
fn hunt_all(_options: &Options) -> ExitCode {
    eprintln!("{NOT_PLANTED}");
    ExitCode::from(2)
}

/// Shipped builds abort on a panic: say which seed it was first, and end with the code of a crash.
fn announce_panics(options: &Options) {
    let options = options.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let Some(seed) = RUNNING.get() else { return eprintln!("{panic}") };
        if cfg!(panic = "abort") {
            eprintln!("seed {seed}: Crash: panic: {panic}\n  reproduce: {}", reproduce(seed, &options));
            std::process::exit(i32::from(Kind::Crash.exit_code()));
        } else if options.seed.is_some() && !options.quiet {
            eprintln!("{panic}");
        }
    }));
}

fn show(seed: u64, options: &Options) -> ExitCode {
    let outcome = run(seed, options, !options.quiet);
    outcome.trace.lines.iter().for_each(|line| println!("{line}"));
    match outcome.failure {
        None => {
            println!("seed {seed}: clean, trace hash {:016x}", outcome.trace.hash());
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("seed {seed}: {failure}\n  reproduce: {}", reproduce(seed, options));
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn run_many(options: &Options) -> ExitCode {
    let next = AtomicU64::new(options.seeds.start);
    let stop = AtomicBool::new(false);
    let totals: Mutex<(Counters, Vec<(u64, Failure)>)> = Mutex::default();
    let watched = stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                let mut counters = Counters::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.seeds.end {
                        break;
                    }
                    let outcome = run(seed, options, false);
                    counters.add(&outcome.counters);
                    if watched {
                        show_progress(seed, &options.seeds);
                    }
                    if let Some(failure) = outcome.failure {
                        let line = if watched { "\r" } else { "" };
                        eprintln!("{line}seed {seed}: {failure}\n  reproduce: {}", reproduce(seed, options));
                        stop.store(!options.keep_going, Ordering::Relaxed);
                        let mut totals = totals.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        totals.1.push((seed, failure));
                    }
                }
                totals.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).0.add(&counters);
            });
        }
    });
    let (counters, failures) = totals.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    summarize(options, &counters, failures)
}

/// On a terminal: how far a long run is, in a line that the next one takes the place of.
fn show_progress(seed: u64, seeds: &Range<u64>) {
    const EVERY: u64 = 100;
    let (begun, all) = (seed - seeds.start + 1, seeds.end - seeds.start);
    if begun.is_multiple_of(EVERY) || begun == all {
        // Nobody to see it is no reason to end.
        let _ = write!(stderr(), "\r{begun} of {all} seeds{}", if begun == all { "\n" } else { "" });
    }
}

fn summarize(options: &Options, counters: &Counters, mut failures: Vec<(u64, Failure)>) -> ExitCode {
    let seeds = options.seeds.end.saturating_sub(options.seeds.start);
    for (name, count) in counters.rows() {
        let never = if count == 0 { "   <- never reached" } else { "" };
        println!("{count:>12}  {name}{never}");
    }
    let hours = counters.simulated_ns / 3_600_000_000_000;
    println!("{seeds} seeds, {} events, {hours} simulated hours, {} failed", counters.events, failures.len());
    failures.sort_by_key(|(seed, _)| *seed);
    let mut tally = std::collections::BTreeMap::<(Kind, &str), (u64, u64)>::new();
    for (seed, failure) in &failures {
        tally.entry((failure.kind, failure.invariant)).or_insert((0, *seed)).0 += 1;
    }
    for ((kind, invariant), (count, first)) in tally {
        println!("{count:>12}  {kind:?} {invariant}, first seed {first}");
    }
    let worst = failures.iter().map(|(_, failure)| failure.kind).max();
    let unreached = counters.rows().iter().filter(|(_, count)| *count == 0).count();
    if worst.is_none() && options.require_all && unreached > 0 {
        println!("{unreached} rare states were never reached: a hole in the simulator");
        return ExitCode::from(UNREACHED);
    }
    worst.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code()))
}

/// Runs this program on a subset of the steps: a process of its own, since a panic may end it. Says which invariant
/// was violated, with the exit code.
fn violated(seed: u64, options: &Options, kept: &[usize]) -> Option<(String, i32)> {
    let program = std::env::current_exe().ok()?;
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string(), "--quiet", "--only", &kept.join(",")]);
    if let Some((name, _)) = &options.shell_bug {
        command.args(["--shell-bug", name]);
    }
    if let Some(name) = &options.plant {
        command.args(["--plant", name]);
    }
    let output = command.output().ok()?;
    let code = output.status.code().filter(|code| *code != 0)?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let line = said.lines().find(|line| line.starts_with("seed "))?;
    Some((line.split(": ").skip(1).take(2).collect::<Vec<_>>().join(": "), code))
}

fn minimize(seed: u64, options: &Options) -> ExitCode {
    let steps = plan(seed, &Options { only: None, ..options.clone() }).steps.len();
    let all: Vec<usize> = (0..steps).collect();
    let Some(wanted) = violated(seed, options, &all) else {
        println!("seed {seed} doesn't fail");
        return ExitCode::SUCCESS;
    };
    let kept = rep_sim::minimize::minimize(steps, |kept| violated(seed, options, kept).as_ref() == Some(&wanted));
    println!("{}: {} of {steps} steps are left", wanted.0, kept.len());
    let smaller = Options { only: Some(kept), ..options.clone() };
    println!("  reproduce: {}", reproduce(seed, &smaller));
    ExitCode::from(u8::try_from(wanted.1).unwrap_or(Kind::Crash.exit_code()))
}
