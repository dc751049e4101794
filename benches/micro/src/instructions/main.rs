//! `cargo xtask instructions`: how many instructions each workload takes, by callgrind, beside the committed figures.
//!
//! Instructions don't depend on how busy or how fast a machine is, so a test may judge them; nothing here looks at a
//! clock. What else may shift them is in docs/TESTING.md.

mod allocations;
mod callgrind;
mod document;
mod figures;
mod judgement;
mod processor;

use callgrind::{Count, Spoiled, count};
use figures::{Figure, Figures, Origin};
use judgement::{Judgement, Verdict, judge, table};
use rep_micro::{WORKLOADS, Workload};
use std::process::ExitCode;

/// The committed figures are another compiler's or another processor's: nothing is known of the instructions.
const NOT_COMPARABLE: u8 = 3;

const USAGE: &str = "'cargo xtask instructions' takes '--accept' or nothing";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        [] => compare(),
        ["--accept"] => accept().map(|()| ExitCode::SUCCESS),
        [callgrind::PROCESSOR] => {
            println!("{}", processor::seen());
            Ok(ExitCode::SUCCESS)
        }
        [callgrind::RUN, name, spoiled] => run(name, spoiled).map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    ended.unwrap_or_else(|why| {
        eprintln!("instructions: {why}");
        ExitCode::FAILURE
    })
}

/// What this program does under callgrind.
fn run(name: &str, spoiled: &str) -> Result<(), String> {
    callgrind::run(workload(name)?, Spoiled::from_word(spoiled)?);
    Ok(())
}

fn workload(name: &str) -> Result<&'static Workload, String> {
    WORKLOADS.iter().find(|workload| workload.name == name).ok_or(format!("there is no workload '{name}'"))
}

fn measure(workload: &Workload, spoiled: Spoiled) -> Result<Figure, String> {
    let Count { instructions, allocations } = count(workload, spoiled)?;
    Ok(Figure::new(workload.name, instructions, allocations, callgrind::operations(workload)))
}

fn measure_all() -> Result<Vec<Figure>, String> {
    WORKLOADS.iter().map(|workload| measure(workload, Spoiled::Not)).collect()
}

fn compare() -> Result<ExitCode, String> {
    let committed = Figures::read()?;
    let here = Origin::here()?;
    let measured = measure_all()?;
    let comparable = committed.origin == here;
    let judgements = judge(&committed, &measured, comparable);
    print!("{}", table(&judgements));
    controls(&here, &measured, committed.allowed_excess_percent)?;
    let refused: Vec<&Judgement> = judgements.iter().filter(|judgement| judgement.verdict.refuses()).collect();
    if !refused.is_empty() {
        return Err(judgement::what_to_do(&refused, committed.allowed_excess_percent));
    }
    if !comparable {
        println!(
            "NOT COMPARABLE: the committed figures are of '{}', this is '{here}'. Allocations were compared, instructions \
             were not. Where this is here to stay: cargo xtask instructions --accept, on a commit that is known to be \
             good and in a commit of its own.",
            committed.origin
        );
        return Ok(ExitCode::from(NOT_COMPARABLE));
    }
    if judgements.iter().any(|judgement| judgement.verdict == Verdict::Cheaper) {
        println!(
            "Some are cheaper than the allowance is wide: 'cargo xtask instructions --accept' keeps what was won."
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The test of the test: what does its work twice, and what allocates once more, must both be refused.
fn controls(here: &Origin, measured: &[Figure], allowed_excess_percent: f64) -> Result<(), String> {
    let workload = workload(callgrind::CONTROL)?;
    let honest = measured.iter().filter(|figure| figure.name == workload.name).cloned().collect();
    let honest = Figures::new(here.clone(), honest, Some(allowed_excess_percent));
    for (spoiled, due) in [(Spoiled::Twice, Verdict::Dearer), (Spoiled::Allocates, Verdict::Allocates)] {
        let figure = measure(workload, spoiled)?;
        let verdict = judge(&honest, &[figure], true).first().map(|judgement| judgement.verdict);
        if verdict != Some(due) {
            return Err(format!(
                "{} {spoiled:?}: {verdict:?}, {due:?} is due: these counts prove nothing",
                workload.name
            ));
        }
        println!("control: {} {}: refused, as it must be", workload.name, spoiled.told());
    }
    Ok(())
}

fn accept() -> Result<(), String> {
    let measured = measure_all()?;
    let before = Figures::read().ok();
    let figures = Figures::new(Origin::here()?, measured, before.as_ref().map(|before| before.allowed_excess_percent));
    let beside = before.unwrap_or_else(|| figures.clone());
    print!("{}", table(&judge(&beside, &figures.workload, beside.origin == figures.origin)));
    figures.write()?;
    document::write(&figures)?;
    println!("written: {}, and the table in {}", figures::PATH, document::PATH);
    Ok(())
}
