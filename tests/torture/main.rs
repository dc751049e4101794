//! Tortures two real daemons: kills, freezes, cuts, corrupts, fails disks and takes the power away, in an order that a
//! seed determines, and judges after each what is left: every write that was answered against a ledger, and both disks
//! byte by byte. `cargo xtask torture` builds and runs it; docs/TESTING.md tells what its figures say.

mod controls;
mod cycle;
mod plan;
mod run;
mod strike;
mod tally;
mod volume;
mod world;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use plan::Plan;
use rep_tests::random::Random;
use rep_tests::tools;
use run::Length;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use world::Subject;

const USAGE: &str = "\
cargo xtask torture [--minutes N | --cycles N] [--seed N] [--cycle N] [--only KIND[,KIND]...] [--no-controls]
cargo xtask torture --plant BUG [...]
cargo xtask torture --list

  --minutes N       how long (10); the controls come on top
  --seconds N       the same, finer
  --cycles N        how many instead
  --seed N          the same faults in the same order as another run
  --cycle N         only this one of the seed's cycles
  --volumes N       how many the resource has, up to 8; without it half of the time or cycles go to one, half to two
  --only KIND,...   only these faults; --list names them
  --no-controls     without what must be found
  --controls        only what must be found
  --plant BUG       a daemon with this planted bug is tortured; finding it is a failure of the daemon, exit code 1";

#[derive(Clone, Debug, Default)]
struct Arguments {
    time: Option<Duration>,
    cycles: Option<u64>,
    seed: Option<u64>,
    cycle: Option<u64>,
    volumes: Option<usize>,
    only: Vec<String>,
    no_controls: bool,
    only_controls: bool,
    plant: Option<String>,
    /// The daemon that planted bugs are in; `cargo xtask torture` builds it.
    planted_daemon: Option<PathBuf>,
    list: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{word}: '{text}' is no number"));
        match word.as_str() {
            "--minutes" => parsed.time = Some(Duration::from_secs(60 * number(value()?)?)),
            "--seconds" => parsed.time = Some(Duration::from_secs(number(value()?)?)),
            "--cycles" => parsed.cycles = Some(number(value()?)?),
            "--seed" => parsed.seed = Some(number(value()?)?),
            "--cycle" => parsed.cycle = Some(number(value()?)?),
            "--volumes" => parsed.volumes = Some(number(value()?)? as usize),
            "--only" => parsed.only = value()?.split(',').map(str::to_owned).collect(),
            "--plant" => parsed.plant = Some(value()?),
            "--planted-daemon" => parsed.planted_daemon = Some(value()?.into()),
            "--no-controls" => parsed.no_controls = true,
            "--controls" => parsed.only_controls = true,
            "--list" => parsed.list = true,
            _ => return Err(format!("unknown argument '{word}'\n{USAGE}")),
        }
    }
    if let Some(unknown) = parsed.only.iter().find(|name| !plan::kinds().any(|kind| kind == *name)) {
        return Err(format!("there is no fault '{unknown}'; --list names them"));
    }
    if parsed.volumes.is_some_and(|volumes| !(1..=8).contains(&volumes)) {
        return Err("--volumes: 1 to 8".to_owned());
    }
    if parsed.plant.is_some() && parsed.planted_daemon.is_none() {
        return Err("--plant needs a daemon that bugs can be planted in; 'cargo xtask torture' builds it".to_owned());
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("torture: {problem}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        plan::kinds().for_each(|kind| println!("{kind}"));
        return ExitCode::SUCCESS;
    }
    if !tools::root_or_not_run("the torture (network namespaces, mounts)") {
        return ExitCode::SUCCESS;
    }
    mounts_of_our_own();
    controls::disks_fail_as_told();
    let seed = arguments.seed.unwrap_or_else(|| Random::fresh_seed() % 1_000_000);
    let clean = arguments.only_controls || torture(&arguments, seed);
    let with_controls = !arguments.no_controls && arguments.plant.is_none() && arguments.cycle.is_none();
    if clean && (!with_controls || controlled(&arguments, seed)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is mounted here is seen by nobody else and goes with this process, however it ends.
fn mounts_of_our_own() {
    unshare(CloneFlags::CLONE_NEWNS).expect("mounts of our own");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("mounts of our own");
}

/// The run itself, or both of them; whether it found nothing.
fn torture(arguments: &Arguments, seed: u64) -> bool {
    if let Some(volumes) = arguments.volumes {
        return torture_volumes(arguments, seed, volumes);
    }
    let time = arguments.time.or_else(|| arguments.cycles.is_none().then_some(Duration::from_secs(600)));
    let half = Arguments {
        time: time.map(|time| time / 2),
        cycles: arguments.cycles.map(|cycles| cycles.div_ceil(2)),
        ..arguments.clone()
    };
    [1, 2].into_iter().all(|volumes| torture_volumes(&half, seed, volumes))
}

fn torture_volumes(arguments: &Arguments, seed: u64, volumes: usize) -> bool {
    let began = Instant::now();
    println!("torture with --seed {seed} --volumes {volumes}");
    let mut subject = Subject { volumes, ..Subject::default() };
    if let Some(bug) = &arguments.plant {
        subject.daemon.program = arguments.planted_daemon.clone();
        subject.daemon.environment = vec![("REPD_PLANTED_BUG".to_owned(), bug.clone())];
    }
    let (first, length) = match arguments.cycle {
        Some(cycle) => (cycle.max(1) - 1, Length { cycles: Some(arguments.cycles.unwrap_or(1)), time: arguments.time }),
        None => {
            let default = arguments.cycles.is_none().then_some(Duration::from_secs(600));
            (0, Length { cycles: arguments.cycles, time: arguments.time.or(default) })
        }
    };
    let tally = run::run(&subject, length, |cycle| Plan::of(seed, first + cycle, volumes, &arguments.only));
    println!("\ntorture with --seed {seed} --volumes {volumes}, {:.0} s\n{tally}\n", began.elapsed().as_secs_f64());
    tally.violations.is_empty()
}

/// The controls; whether each was found.
fn controlled(arguments: &Arguments, seed: u64) -> bool {
    if arguments.planted_daemon.is_none() {
        println!("control: no daemon with planted bugs was built: not run");
    }
    let controls = controls::run_all(seed, arguments.planted_daemon.as_deref());
    let passed = controls.iter().filter(|control| control.passed()).count();
    println!("controls: {passed} of {} as they must be", controls.len());
    passed == controls.len()
}
