//! The driver's commands, for the port's workers.

use crate::data::worker;
use rep_nbdk::{Attached, Backend, DeviceOptions, NbdkError};
use std::io;
use std::time::Duration;

/// What is to be done.
pub(super) enum Job {
    /// After a pause.
    Attach(DeviceOptions, Duration),
    /// What is served by now has its settings made.
    Settle(u32),
    /// To so many bytes.
    Grow(u32, Backend, u64),
    Detach(u32, Backend),
}

/// What it came to.
pub(super) enum Outcome {
    Attached(Result<Attached, NbdkError>),
    /// And why requests come back late when this daemon dies, if so.
    Settled(Option<io::Error>),
    Grown(Result<u64, NbdkError>),
    Detached(Result<(), NbdkError>),
}

impl worker::Job for Job {
    type Outcome = Outcome;
    const DRIVER: &'static str = "nbd";

    fn run(self) -> Outcome {
        match self {
            Job::Attach(options, pause) => {
                std::thread::sleep(pause);
                Outcome::Attached(rep_nbdk::attach(&options))
            }
            Job::Settle(index) => Outcome::Settled(rep_nbdk::settle(index)),
            Job::Grow(index, backend, size_bytes) => {
                Outcome::Grown(rep_nbdk::grow(index, &backend, size_bytes).map(|()| size_bytes))
            }
            Job::Detach(index, backend) => Outcome::Detached(rep_nbdk::detach(index, &backend)),
        }
    }

    fn failed(&self) -> fn(io::Error) -> Outcome {
        match self {
            Job::Attach(..) => |error| Outcome::Attached(Err(no_thread(error))),
            Job::Settle(_) => |error| Outcome::Settled(Some(error)),
            Job::Grow(..) => |error| Outcome::Grown(Err(no_thread(error))),
            Job::Detach(..) => |error| Outcome::Detached(Err(no_thread(error))),
        }
    }
}

fn no_thread(source: io::Error) -> NbdkError {
    NbdkError::Command { what: "a thread", source }
}
