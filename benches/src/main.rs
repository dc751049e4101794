//! `cargo xtask bench`: our figures beside those of other programs, from one run on one machine.
//!
//! Absolute figures mean little on a shared machine; ratios between contenders that took turns within one run mean
//! something. So every line of the table is measured in rounds, the contenders one after the other within each round, and
//! what is told are medians over the rounds, and medians of the rounds' ratios.
//!
//! It is never part of the tests: nothing there may depend on how fast a machine is today.

mod contender;
mod cpu;
mod figures;
mod fio;
mod flame;
mod memory;
mod nbdkit;
mod ours;
mod plot;
mod qemu;
mod report;

use contender::Contender;
use figures::{Effort, GROUPS};
use fio::{LINES, Line, Sample};
use report::{Report, Row};
use std::time::Duration;

/// Bytes of every contender's volume.
const VOLUME_BYTES: u64 = 1 << 30;

/// The name of the comparison with other programs, for `--only`.
const TABLE: &str = "table";

/// What the command line says.
#[derive(Clone, Debug)]
struct Arguments {
    quick: bool,
    json: bool,
    plot: bool,
    flame: bool,
    only: Vec<String>,
    effort: Effort,
}

const USAGE: &str =
    "known: --quick --json --plot --flame --rounds N --seconds N --only NAME (table, or a group of figures)";

fn arguments() -> Result<Arguments, String> {
    let effort = Effort { rounds: 3, seconds: 5 };
    let mut parsed = Arguments { quick: false, json: false, plot: false, flame: false, only: Vec::new(), effort };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{word} needs a number"));
        match word.as_str() {
            "--quick" => parsed = Arguments { quick: true, effort: Effort { rounds: 1, seconds: 2 }, ..parsed },
            "--json" => parsed.json = true,
            "--plot" => parsed.plot = true,
            "--flame" => parsed.flame = true,
            "--rounds" => parsed.effort.rounds = number(value()?)? as usize,
            "--seconds" => parsed.effort.seconds = number(value()?)?,
            "--only" => parsed.only.push(known(value()?)?),
            _ => return Err(format!("unknown argument '{word}'; {USAGE}")),
        }
    }
    Ok(parsed)
}

fn known(name: String) -> Result<String, String> {
    let names: Vec<&str> = GROUPS.iter().map(|group| group.name).chain([TABLE]).collect();
    if names.contains(&name.as_str()) {
        Ok(name)
    } else {
        Err(format!("--only {name}: known are {}", names.join(", ")))
    }
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn main() {
    let arguments = arguments().unwrap_or_else(|problem| {
        eprintln!("bench: {problem}");
        std::process::exit(2);
    });
    if arguments.flame {
        let written = flame::draw(arguments.effort.seconds).unwrap_or_else(|problem| {
            eprintln!("bench: {problem}");
            std::process::exit(1);
        });
        return println!("written: {}", written.join(", "));
    }
    let rows = if arguments.wants(TABLE) { measure_table(arguments.effort) } else { Vec::new() };
    let mut figures = Vec::new();
    for group in GROUPS.iter().filter(|group| arguments.wants(group.name)) {
        eprintln!("{}", group.name);
        figures.extend((group.measure)(arguments.effort));
    }
    let report = Report::new(rows, figures, arguments.effort);
    if arguments.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.markdown());
    }
    // A part of the figures must not take the place of them all.
    if arguments.only.is_empty() {
        eprintln!("written: {}", report.write(arguments.quick, arguments.plot));
    }
}

/// Every line by every contender, in turns.
fn measure_table(effort: Effort) -> Vec<Row> {
    let contenders: Vec<Box<dyn Contender>> =
        vec![Box::new(ours::Ours::start()), Box::new(nbdkit::Nbdkit::start()), Box::new(qemu::Mirror::start())];
    let mut rows: Vec<Row> =
        LINES.iter().map(|line| Row::new(line.name, &names(&contenders), Some(line.bar))).collect();
    let mut copies = Row::new("resync", &names(&contenders), None);
    for contender in &contenders {
        eprintln!("filling {}", contender.name());
        fio::fill(&fio::Target::Export(contender.uri()), VOLUME_BYTES);
    }
    for round in 1..=effort.rounds {
        for (line, row) in LINES.iter().zip(&mut rows) {
            for (contender, samples) in contenders.iter().zip(&mut row.samples) {
                eprintln!("round {round} of {}: {}, {}", effort.rounds, line.name, contender.name());
                samples.push(measure(contender.as_ref(), line, effort.seconds));
            }
        }
        for (contender, samples) in contenders.iter().zip(&mut copies.samples) {
            eprintln!("round {round} of {}: resync, {}", effort.rounds, contender.name());
            samples.push(contender.resync());
        }
    }
    rows.push(copies);
    rows
}

fn names(contenders: &[Box<dyn Contender>]) -> Vec<&'static str> {
    contenders.iter().map(|contender| contender.name()).collect()
}

fn measure(contender: &dyn Contender, line: &Line, seconds: u64) -> Sample {
    let before = cpu::seconds(&contender.processes());
    let mut sample = fio::run(&fio::Target::Export(contender.uri()), line, seconds);
    sample.cpu_s = cpu::seconds(&contender.processes()) - before;
    // What one contender left to be written back must not be paid for by the next.
    std::thread::sleep(Duration::from_millis(300));
    sample
}
