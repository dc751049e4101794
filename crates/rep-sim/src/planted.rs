//! The test of the test: one planted bug at a time, and how many seeds it takes until a checker sees it. A bug that is
//! never seen is a hole in the checkers.

use crate::failure::Failure;
use crate::plan::Plan;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub use rep_types::planted::{BUGS, plant};

/// How the hunt for a bug ended.
#[derive(Clone, Debug)]
pub struct Catch {
    /// The bug's name.
    pub name: &'static str,
    /// The seed that showed it, and how; `None`: none did.
    pub caught: Option<(u64, Failure)>,
}

/// Runs seeds from 0 on, on several threads, until one fails with this bug. Every earlier seed has run clean.
pub fn hunt(name: &'static str, seeds: u64, jobs: usize) -> Catch {
    plant(Some(name));
    let next = AtomicU64::new(0);
    let best: Mutex<Option<(u64, Failure)>> = Mutex::new(None);
    let beaten = |seed: u64| best.lock().is_ok_and(|best| best.as_ref().is_some_and(|(caught, _)| *caught < seed));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || beaten(seed) {
                        break;
                    }
                    let failure = crate::run(Plan::of(seed), false).failure;
                    if let (Some(failure), false) = (failure, beaten(seed))
                        && let Ok(mut best) = best.lock()
                    {
                        *best = Some((seed, failure));
                    }
                }
            });
        }
    });
    plant(None);
    Catch { name, caught: best.into_inner().unwrap_or_default() }
}

/// The middle of how many seeds the caught ones took.
pub fn median_seeds(catches: &[Catch]) -> Option<u64> {
    let mut seeds: Vec<u64> =
        catches.iter().filter_map(|catch| catch.caught.as_ref()).map(|(seed, _)| seed + 1).collect();
    seeds.sort_unstable();
    seeds.get(seeds.len() / 2).copied()
}
