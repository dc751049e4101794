//! What a run did: always a hash (same seed, same trace: I-S1), and readable lines when asked for.

use crate::rng::mix;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    /// Whether lines are kept.
    pub on: bool,
    /// The lines.
    pub lines: Vec<String>,
    hash: u64,
}

impl Trace {
    /// An empty trace.
    pub fn new(on: bool) -> Self {
        Trace { on, lines: Vec::new(), hash: 0x7265_7064 }
    }

    /// Adds a value to the hash.
    pub fn mix(&mut self, value: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ value);
    }

    /// The hash of all so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds a line; the text is made only when lines are kept.
    pub fn line(&mut self, now: u64, text: impl FnOnce() -> String) {
        if self.on {
            let (seconds, rest) = (now / 1_000_000_000, now % 1_000_000_000);
            self.lines.push(format!("{seconds:>4}.{:06} {}", rest / 1000, text()));
        }
    }
}
