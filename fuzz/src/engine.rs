//! Runs a target over and over.

use crate::coverage::{self, Reached};
use crate::random::Random;
use crate::targets::Target;
use crate::{allocator, corpus, mutate};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of so many mutations one is run as it came out; in the others checksums and the like are made right again.
const UNREPAIRED: usize = 8;

/// When to end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    executions: u64,
    until: Option<Instant>,
}

impl Limits {
    /// After this many inputs beyond the corpus.
    pub fn executions(executions: u64) -> Self {
        Limits { executions, until: None }
    }

    /// After this time.
    pub fn time(time: Duration) -> Self {
        Limits { executions: u64::MAX, until: Some(Instant::now() + time) }
    }
}

/// The input that is being run.
#[derive(Debug, Default)]
struct Input {
    /// Since when; none between two runs.
    since: Option<Instant>,
    bytes: Vec<u8>,
}

type UnderWay = Mutex<Input>;

/// A target being fuzzed.
#[derive(Debug)]
pub struct Fuzzer {
    target: &'static Target,
    random: Random,
    kept: Vec<Vec<u8>>,
    reached: Reached,
    executions: u64,
    under_way: Arc<UnderWay>,
}

impl Fuzzer {
    /// A fuzzer that does the same for the same seed and corpus.
    pub fn new(target: &'static Target, seed: u64) -> Self {
        let under_way = Arc::default();
        watch(target, Arc::clone(&under_way));
        Fuzzer {
            target,
            random: Random::new(seed),
            kept: Vec::new(),
            reached: Reached::default(),
            executions: 0,
            under_way,
        }
    }

    /// Inputs run so far.
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// Inputs that reached something new.
    pub fn kept(&self) -> &[Vec<u8>] {
        &self.kept
    }

    /// What was ever reached.
    pub fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Runs seeds, corpus and mutations; whether all went well.
    pub fn run(&mut self, limits: &Limits) -> bool {
        let mut first = (self.target.seeds)();
        first.extend(corpus::load(self.target.name));
        first.push(Vec::new());
        for input in &first {
            if !self.run_one(input) {
                return false;
            }
        }
        // Without instrumentation nothing ever looks new; the corpus is what there is to mutate.
        if self.kept.len() < first.len() {
            self.kept = first;
        }
        let (mut compared, mut input) = (Vec::new(), Vec::new());
        for execution in 0..limits.executions {
            if execution % 256 == 0 && limits.until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            let base = &self.kept[self.random.below(self.kept.len())];
            let other = &self.kept[self.random.below(self.kept.len())];
            if execution % 64 == 0 {
                compared = coverage::comparisons();
            }
            input.clear();
            input.extend_from_slice(base);
            mutate::mutate(&mut input, other, &compared, self.target.length_max, &mut self.random);
            if self.random.below(UNREPAIRED) != 0 {
                (self.target.repair)(&mut input, &mut self.random);
            }
            if !self.run_one(&input) {
                return false;
            }
        }
        true
    }

    /// Runs one input; whether it went well. Says what went wrong and keeps the input.
    pub fn run_one(&mut self, input: &[u8]) -> bool {
        self.executions += 1;
        self.begun(input);
        self.reached.before_run();
        let run = || panic::catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let (result, peak) = allocator::peak_of(run);
        let new = self.reached.after_run();
        self.ended();
        if result.is_err() {
            return self.failed(input, "panicked");
        }
        if peak > self.target.memory_max {
            return self.failed(input, &format!("took {peak} bytes, more than {}", self.target.memory_max));
        }
        if new {
            self.kept.push(input.to_vec());
        }
        true
    }

    fn begun(&self, input: &[u8]) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.bytes.clear();
        under_way.bytes.extend_from_slice(input);
        under_way.since = Some(Instant::now());
    }

    fn ended(&self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).since = None;
    }

    fn failed(&self, input: &[u8], how: &str) -> bool {
        tell(self.target.name, input, how);
        false
    }
}

fn tell(target: &str, input: &[u8], how: &str) {
    let path = corpus::artifact(target, input);
    eprintln!("target {target} {how} on {} bytes; again with:", input.len());
    eprintln!("  cargo xtask fuzz --target {target} --input {}", path.display());
}

/// Ends the process when an input takes too long, having kept it.
fn watch(target: &'static Target, under_way: Arc<UnderWay>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(target.time_max.min(Duration::from_secs(1)));
            let input = under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if input.since.is_some_and(|since| since.elapsed() > target.time_max) {
                tell(target.name, &input.bytes, "hung");
                std::process::exit(1);
            }
        }
    });
}
