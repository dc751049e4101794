//! Whatever ends the demo, nothing stays behind: daemons are killed, the directory is removed.

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What has to go.
#[derive(Default)]
pub struct Cleanup {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    daemons: Vec<i32>,
    directory: Option<PathBuf>,
}

impl Cleanup {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A daemon runs.
    pub fn started(&self, pid: u32) {
        self.with(|inner| inner.daemons.push(pid as i32));
    }

    /// A daemon has been waited for: its number may be somebody else's from now on.
    pub fn ended(&self, pid: u32) {
        self.with(|inner| inner.daemons.retain(|known| *known != pid as i32));
    }

    /// The directory isn't to be kept.
    pub fn remove_at_end(&self, directory: &Path) {
        self.with(|inner| inner.directory = Some(directory.to_owned()));
    }

    /// Does it.
    pub fn run(&self) {
        self.with(|inner| {
            for pid in inner.daemons.drain(..) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            if let Some(directory) = inner.directory.take() {
                let _ = std::fs::remove_dir_all(directory);
            }
        });
    }
}

/// From now on Ctrl-C and the like clean up first. Called before any other thread starts, so that every thread
/// leaves these signals to the one that waits for them.
pub fn watch(cleanup: Arc<Cleanup>) {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    if signals.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            cleanup.run();
            crate::output::tell("repctl: the demo was interrupted; everything it started has ended");
            std::process::exit(128 + signal as i32);
        }
    });
}
