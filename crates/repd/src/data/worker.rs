//! Commands of a driver of the kernel's, each made by a thread that may wait. What a driver's commands are, and what they
//! come to, is its port's: see [`Job`].

use crate::waking::WakingSender;
use rep_types::VolumeNumber;
use std::fmt::Display;
use std::io;
use tracing::{info, warn};

/// A command of a driver.
pub(super) trait Job: Send + 'static {
    /// What it comes to.
    type Outcome: Send + 'static;
    /// The driver's name, for the thread's.
    const DRIVER: &'static str;

    /// Makes it.
    fn run(self) -> Self::Outcome;

    /// How it is told that there can be no thread for it.
    fn failed(&self) -> fn(io::Error) -> Self::Outcome;
}

/// Tells what a device's growing came to; returns the problem, if it is one.
pub(super) fn device_grown(volume: VolumeNumber, result: Result<u64, impl Display>) -> Option<String> {
    match result {
        Ok(size_bytes) => {
            info!(%volume, "device: has {size_bytes} bytes now");
            None
        }
        Err(error) => {
            warn!(%volume, "the device doesn't grow: {error}");
            Some(error.to_string())
        }
    }
}

/// What became of a volume's command.
pub(super) struct WorkerResult<O> {
    pub volume: VolumeNumber,
    pub outcome: O,
}

/// How a worker gives its result.
pub(super) struct WorkerChannel<O>(pub WakingSender<WorkerResult<O>>);

impl<O: Send + 'static> WorkerChannel<O> {
    /// Starts a worker. Where there can be no thread, the job has failed.
    pub fn start<J: Job<Outcome = O>>(&self, volume: VolumeNumber, job: J) {
        let failed = job.failed();
        let sender = self.0.clone();
        let thread = std::thread::Builder::new().name(format!("{}-{volume}", J::DRIVER));
        if let Err(source) = thread.spawn(move || sender.send(WorkerResult { volume, outcome: job.run() })) {
            self.0.send(WorkerResult { volume, outcome: failed(source) });
        }
    }
}
