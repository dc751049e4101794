//! How many scenarios run at once on this machine, whatever started them.
//!
//! A slot is a locked file, so it counts across threads and processes, and a scenario that was killed gives it back.

use nix::fcntl::{Flock, FlockArg};
use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A slot, held until dropped.
#[derive(Debug)]
pub struct Slot(#[allow(dead_code)] Arc<Held>); // held, never looked at

#[derive(Debug)]
struct Held {
    _locks: Vec<Flock<File>>,
    /// Whether these are all there are.
    exclusive: bool,
}

thread_local! {
    /// What this scenario has. Another cluster of the same one needs nothing more: two that waited for a second slot, each
    /// with its first, would wait for ever.
    static HELD: RefCell<Weak<Held>> = const { RefCell::new(Weak::new()) };
}

const SLOTS_MAX: usize = 8;

/// Waits for one slot of as many as the machine has processors.
pub fn shared() -> Slot {
    held().unwrap_or_else(|| hold(vec![any_lock()], false))
}

/// Waits for all slots: for scenarios that need the machine for themselves.
pub fn exclusive() -> Slot {
    if let Some(slot) = held() {
        assert!(slot.0.exclusive, "a scenario that wants the machine for itself says so with its first cluster");
        return slot;
    }
    // Always in the same order, so two that wait for all can't each hold a half.
    let lock = |number| loop {
        match try_lock(number) {
            Some(lock) => return lock,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    hold((0..SLOTS_MAX).map(lock).collect(), true)
}

fn held() -> Option<Slot> {
    HELD.with_borrow(Weak::upgrade).map(Slot)
}

fn hold(locks: Vec<Flock<File>>, exclusive: bool) -> Slot {
    let held = Arc::new(Held { _locks: locks, exclusive });
    HELD.set(Arc::downgrade(&held));
    Slot(held)
}

fn any_lock() -> Flock<File> {
    let slots = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, SLOTS_MAX);
    loop {
        if let Some(lock) = (0..slots).find_map(try_lock) {
            return lock;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn try_lock(number: usize) -> Option<Flock<File>> {
    let folder = PathBuf::from("/var/tmp/rep-tests-slots");
    std::fs::create_dir_all(&folder).expect("the folder of the slots");
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(number.to_string()));
    Flock::lock(file.expect("a slot's file"), FlockArg::LockExclusiveNonblock).ok()
}
