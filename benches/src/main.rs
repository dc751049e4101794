//! `cargo xtask bench`: our figures beside those of other programs, from one run on one machine.
//!
//! Absolute figures mean little on a shared machine; ratios between contenders that took turns within one run mean
//! something. So every line of the table is measured in rounds, the contenders one after the other within each round, and
//! what is told are medians over the rounds, and medians of the rounds' ratios.
//!
//! It is never part of the tests: nothing there may depend on how fast a machine is today.

mod contender;
mod cpu;
mod fio;
mod nbdkit;
mod ours;
mod qemu;
mod report;

use contender::Contender;
use fio::{LINES, Line, Sample};
use report::{Report, Row};
use std::time::Duration;

/// Bytes of every contender's volume.
const VOLUME_BYTES: u64 = 1 << 30;

/// What the command line says.
#[derive(Clone, Copy, Debug)]
struct Arguments {
    quick: bool,
    json: bool,
    rounds: usize,
    seconds: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { quick: false, json: false, rounds: 3, seconds: 5 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--quick" => parsed = Arguments { quick: true, rounds: 1, seconds: 2, ..parsed },
            "--json" => parsed.json = true,
            "--rounds" => parsed.rounds = number()? as usize,
            "--seconds" => parsed.seconds = number()?,
            _ => return Err(format!("unknown argument '{word}'; known: --quick --json --rounds N --seconds N")),
        }
    }
    Ok(parsed)
}

fn main() {
    let arguments = arguments().unwrap_or_else(|problem| {
        eprintln!("bench: {problem}");
        std::process::exit(2);
    });
    let contenders: Vec<Box<dyn Contender>> =
        vec![Box::new(ours::Ours::start()), Box::new(nbdkit::Nbdkit::start()), Box::new(qemu::Mirror::start())];
    let mut rows: Vec<Row> = LINES.iter().map(|line| Row::new(line.name, &names(&contenders))).collect();
    let mut copies = Row::new("resync", &names(&contenders));
    for contender in &contenders {
        eprintln!("filling {}", contender.name());
        fio::fill(contender.as_ref());
    }
    for round in 1..=arguments.rounds {
        for (line, row) in LINES.iter().zip(&mut rows) {
            for (contender, samples) in contenders.iter().zip(&mut row.samples) {
                eprintln!("round {round} of {}: {}, {}", arguments.rounds, line.name, contender.name());
                samples.push(measure(contender.as_ref(), line, arguments.seconds));
            }
        }
        for (contender, samples) in contenders.iter().zip(&mut copies.samples) {
            eprintln!("round {round} of {}: resync, {}", arguments.rounds, contender.name());
            samples.push(contender.resync());
        }
    }
    rows.push(copies);
    let report = Report::new(rows, arguments.rounds, arguments.seconds);
    let written = report.write(arguments.quick);
    if arguments.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.markdown());
    }
    eprintln!("written: {written}");
}

fn names(contenders: &[Box<dyn Contender>]) -> Vec<&'static str> {
    contenders.iter().map(|contender| contender.name()).collect()
}

fn measure(contender: &dyn Contender, line: &Line, seconds: u64) -> Sample {
    let before = cpu::seconds(&contender.processes());
    let mut sample = fio::run(&contender.uri(), line, seconds);
    sample.cpu_s = cpu::seconds(&contender.processes()) - before;
    // What one contender left to be written back must not be paid for by the next.
    std::thread::sleep(Duration::from_millis(300));
    sample
}
