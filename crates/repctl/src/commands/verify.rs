//! `verify`: comparing both disks, and waiting for what it finds.

use super::resync::{Progress, ProgressView};
use super::{verb, wait};
use crate::Failure;
use crate::cli::{Options, VerifyArguments};
use crate::output::{print, print_json};
use crate::terminal::bytes;
use rep_control::api::{ApiError, ResourceStatus, Verb, VerbRequest};
use rep_types::ReplicationState;
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

pub fn run(arguments: &VerifyArguments, options: &Options) -> Result<(), Failure> {
    let request =
        VerbRequest { repair_from: arguments.repair_from.clone(), stop: arguments.stop, ..Default::default() };
    let answer = verb::ask(&arguments.target, Verb::Verify, request, options)?;
    if !arguments.wait {
        return if options.json { print_json(&answer) } else { Ok(()) };
    }
    let resource = &arguments.target.resource;
    follow(resource, options)?;
    let found = found(arguments, options)?;
    if found == 0 {
        return if options.json { print_json(&answer) } else { print("the disks are the same\n") };
    }
    if arguments.repair_from.is_some() {
        until_repaired(resource, options)?;
        let message = format!("{} differed and were made equal\n", bytes(found));
        return if options.json { print_json(&answer) } else { print(&message) };
    }
    let message = format!("{} differ between the two disks; they are marked out-of-sync", bytes(found));
    let hint = format!(
        "to copy them from the node that is right: 'repctl verify {resource} --repair-from NODE', or 'repctl resync \
         {resource}', which copies from the Primary"
    );
    Err(ApiError::failed("DisksDiffer", message).with_hint(hint).into())
}

/// Waits until no verify runs.
fn follow(resource: &str, options: &Options) -> Result<(), ApiError> {
    let mut view = ProgressView::new("verify", options.json);
    loop {
        let status = wait::look(resource, options, Instant::now() + options.timeout)?;
        match progress(&status) {
            Some(progress) => view.show(&progress),
            None => break,
        }
        std::thread::sleep(PAUSE);
    }
    view.finish();
    Ok(())
}

fn progress(status: &ResourceStatus) -> Option<Progress> {
    let runs = |volume: &&rep_control::api::VolumeStatus| {
        matches!(volume.replication, ReplicationState::VerifyS | ReplicationState::VerifyT) || volume.verify.is_some()
    };
    let running: Vec<_> = status.volumes.iter().filter(runs).map(|volume| volume.verify).collect();
    let sum = |part: fn(&rep_control::api::VerifyStatus) -> u64| running.iter().flatten().map(part).sum();
    (!running.is_empty()).then(|| Progress {
        total_bytes: sum(|verify| verify.total_bytes),
        done_bytes: sum(|verify| verify.done_bytes),
        rate_bytes_per_s: sum(|verify| verify.rate_bytes_per_s),
    })
}

fn found(arguments: &VerifyArguments, options: &Options) -> Result<u64, ApiError> {
    let detail = options.client().detail(&arguments.target.resource, options.timeout)?;
    let wanted = |number: u16| arguments.target.volume.is_none_or(|volume| volume == number);
    let volumes = detail.volumes.iter().filter(|volume| wanted(volume.number));
    Ok(volumes.map(|volume| volume.verify_found_bytes).sum())
}

fn until_repaired(resource: &str, options: &Options) -> Result<(), ApiError> {
    let deadline = Instant::now() + options.timeout;
    loop {
        let status = wait::look(resource, options, deadline)?;
        if wait::is_synced(&status) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(ApiError::timed_out(format!("the repair isn't done yet: {}", status.verdict)));
        }
        std::thread::sleep(PAUSE);
    }
}
