//! The driver's commands, each made by a thread that may wait.

use crate::waking::WakingSender;
use rep_nbdk::{Attached, Backend, DeviceOptions, NbdkError};
use rep_types::VolumeNumber;
use std::time::Duration;

/// What is to be done.
pub(super) enum Job {
    /// After a pause.
    Attach(DeviceOptions, Duration),
    Detach(u32, Backend),
}

/// What it came to.
pub(super) enum Outcome {
    Attached(Result<Attached, NbdkError>),
    Detached(Result<(), NbdkError>),
}

pub(super) struct WorkerResult {
    pub(super) volume: VolumeNumber,
    pub(super) outcome: Outcome,
}

/// How a worker gives its result.
#[derive(Clone)]
pub(super) struct WorkerChannel(pub WakingSender<WorkerResult>);

impl WorkerChannel {
    /// Starts a worker. Where there can be no thread, the job has failed.
    pub(super) fn start(&self, volume: VolumeNumber, job: Job) {
        let failure = job.failed();
        let channel = self.clone();
        let thread = std::thread::Builder::new().name(format!("nbd-{volume}"));
        if let Err(source) = thread.spawn(move || channel.send(volume, job.run())) {
            self.send(volume, failure(NbdkError::Command { what: "a thread", source }));
        }
    }

    fn send(&self, volume: VolumeNumber, outcome: Outcome) {
        self.0.send(WorkerResult { volume, outcome });
    }
}

impl Job {
    fn run(self) -> Outcome {
        match self {
            Job::Attach(options, pause) => {
                std::thread::sleep(pause);
                Outcome::Attached(rep_nbdk::attach(&options))
            }
            Job::Detach(index, backend) => Outcome::Detached(rep_nbdk::detach(index, &backend)),
        }
    }

    /// How its failure is told.
    fn failed(&self) -> fn(NbdkError) -> Outcome {
        match self {
            Job::Attach(..) => |error| Outcome::Attached(Err(error)),
            Job::Detach(..) => |error| Outcome::Detached(Err(error)),
        }
    }
}
