//! How many scenarios run at once on this machine, whatever started them.
//!
//! A slot is a locked file, so it counts across threads and processes, and a scenario that was killed gives it back.

use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

/// A slot, held until dropped.
#[derive(Debug)]
pub struct Slot(#[allow(dead_code)] Vec<Flock<File>>); // held, never looked at

const SLOTS_MAX: usize = 8;

/// Waits for one slot of as many as the machine has processors.
pub fn shared() -> Slot {
    let slots = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, SLOTS_MAX);
    loop {
        for number in 0..slots {
            if let Some(lock) = try_lock(number) {
                return Slot(vec![lock]);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for all slots: for scenarios that need the machine for themselves.
pub fn exclusive() -> Slot {
    // Always in the same order, so two that wait for all can't each hold a half.
    let lock = |number| loop {
        match try_lock(number) {
            Some(lock) => return lock,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    Slot((0..SLOTS_MAX).map(lock).collect())
}

fn try_lock(number: usize) -> Option<Flock<File>> {
    let folder = PathBuf::from("/var/tmp/rep-tests-slots");
    std::fs::create_dir_all(&folder).expect("the folder of the slots");
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(number.to_string()));
    Flock::lock(file.expect("a slot's file"), FlockArg::LockExclusiveNonblock).ok()
}
