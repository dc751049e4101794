//! Steps one after another, a failed one doesn't hide the next, and a table at the end. What a machine can't run is neither
//! passed nor failed, and stands last where nobody overlooks it.

use crate::process::Failure;
use std::time::{Duration, Instant};

/// How one step ended.
#[derive(Debug)]
struct Ended {
    name: &'static str,
    took: Duration,
    failure: Option<Failure>,
}

/// The steps so far.
#[derive(Debug)]
pub struct Summary {
    title: &'static str,
    began: Instant,
    steps: Vec<Ended>,
}

impl Summary {
    /// No steps yet.
    pub fn new(title: &'static str) -> Self {
        Summary { title, began: Instant::now(), steps: Vec::new() }
    }

    /// Runs a step and notes how it ended.
    pub fn step(&mut self, name: &'static str, what: impl FnOnce() -> Result<(), Failure>) {
        println!("\n=== {}: {name}", self.title);
        let began = Instant::now();
        let failure = what().err();
        match &failure {
            Some(Failure::NotHere(why)) => eprintln!("\n*** NOT RUN: {name}: {why} ***\n"),
            Some(failure) => eprintln!("=== {name} failed: {failure}"),
            None => {}
        }
        self.steps.push(Ended { name, took: began.elapsed(), failure });
    }

    /// Prints the table; fails if a step did.
    pub fn end(self) -> Result<(), Failure> {
        println!("\n=== {}: summary", self.title);
        for step in &self.steps {
            let (word, why) = match &step.failure {
                None => ("passed ", String::new()),
                Some(Failure::NotHere(_)) => ("NOT RUN", String::new()),
                Some(failure) => ("FAILED ", format!("  {failure}")),
            };
            println!("{word}  {:>6.1} s  {}{why}", step.took.as_secs_f64(), step.name);
        }
        let (mut failed, mut not_here) = (Vec::new(), Vec::new());
        for step in &self.steps {
            match &step.failure {
                None => {}
                Some(Failure::NotHere(why)) => not_here.push((step.name, why)),
                Some(_) => failed.push(step.name),
            }
        }
        println!("steps in {:.0} s:", self.began.elapsed().as_secs_f64());
        let passed = self.steps.len() - failed.len() - not_here.len();
        println!("{passed} passed, {} failed, {} not run", failed.len(), not_here.len());
        not_here.iter().for_each(|(name, why)| println!("*** NOT RUN: {name}: {why} ***"));
        if failed.is_empty() { Ok(()) } else { Err(Failure::Steps(failed)) }
    }
}
