//! The driver's control commands, each made by a thread that may wait.

use crate::waking::WakingSender;
use rep_types::VolumeNumber;
use rep_ublk::UblkError;
use rep_ublk::lifecycle::{self, DeviceOptions, Origin, Prepared};

/// What is to be done.
pub(super) enum Job {
    Prepare(DeviceOptions),
    Begin(u32, Origin),
    Stop(u32),
    Delete(u32),
}

/// What it came to.
pub(super) enum Outcome {
    /// With the size requests are checked against.
    Prepared(Result<(Box<Prepared>, u64), UblkError>),
    Begun(Result<(), UblkError>),
    Stopped(Result<(), UblkError>),
    Deleted(Result<(), UblkError>),
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
        let thread = std::thread::Builder::new().name(format!("ublk-{volume}"));
        if let Err(source) = thread.spawn(move || channel.send(volume, job.run())) {
            self.send(volume, failure(UblkError::Command { what: "a thread", source }));
        }
    }

    fn send(&self, volume: VolumeNumber, outcome: Outcome) {
        self.0.send(WorkerResult { volume, outcome });
    }
}

impl Job {
    fn run(self) -> Outcome {
        match self {
            Job::Prepare(options) => Outcome::Prepared(
                lifecycle::prepare(&options).map(|prepared| (Box::new(prepared), options.limits.size_bytes)),
            ),
            Job::Begin(id, origin) => Outcome::Begun(lifecycle::begin(id, origin)),
            Job::Stop(id) => Outcome::Stopped(lifecycle::stop(id)),
            Job::Delete(id) => Outcome::Deleted(lifecycle::delete(id)),
        }
    }

    /// How its failure is told.
    fn failed(&self) -> fn(UblkError) -> Outcome {
        match self {
            Job::Prepare(_) => |error| Outcome::Prepared(Err(error)),
            Job::Begin(..) => |error| Outcome::Begun(Err(error)),
            Job::Stop(_) => |error| Outcome::Stopped(Err(error)),
            Job::Delete(_) => |error| Outcome::Deleted(Err(error)),
        }
    }
}
