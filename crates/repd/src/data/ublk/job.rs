//! The driver's control commands, for the port's workers.

use crate::data::worker;
use rep_ublk::UblkError;
use rep_ublk::lifecycle::{self, DeviceOptions, Origin, Prepared};
use std::io;

/// What is to be done.
pub(super) enum Job {
    Prepare(DeviceOptions),
    Begin(u32, Origin),
    /// To so many bytes.
    Grow(u32, u64),
    Stop(u32),
    Delete(u32),
}

/// What it came to.
pub(super) enum Outcome {
    Prepared(Result<Box<Prepared>, UblkError>),
    Begun(Result<(), UblkError>),
    Grown(Result<u64, UblkError>),
    Stopped(Result<(), UblkError>),
    Deleted(Result<(), UblkError>),
}

impl worker::Job for Job {
    type Outcome = Outcome;
    const DRIVER: &'static str = "ublk";

    fn run(self) -> Outcome {
        match self {
            Job::Prepare(options) => Outcome::Prepared(lifecycle::prepare(&options).map(Box::new)),
            Job::Begin(id, origin) => Outcome::Begun(lifecycle::begin(id, origin)),
            Job::Grow(id, size_bytes) => Outcome::Grown(lifecycle::grow(id, size_bytes).map(|()| size_bytes)),
            Job::Stop(id) => Outcome::Stopped(lifecycle::stop(id)),
            Job::Delete(id) => Outcome::Deleted(lifecycle::delete(id)),
        }
    }

    fn failed(&self) -> fn(io::Error) -> Outcome {
        match self {
            Job::Prepare(_) => |error| Outcome::Prepared(Err(no_thread(error))),
            Job::Begin(..) => |error| Outcome::Begun(Err(no_thread(error))),
            Job::Grow(..) => |error| Outcome::Grown(Err(no_thread(error))),
            Job::Stop(_) => |error| Outcome::Stopped(Err(no_thread(error))),
            Job::Delete(_) => |error| Outcome::Deleted(Err(no_thread(error))),
        }
    }
}

fn no_thread(source: io::Error) -> UblkError {
    UblkError::Command { what: "a thread", source }
}
