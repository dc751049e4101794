//! `wait`: for scripts.

use crate::Failure;
use crate::cli::{Options, WaitArguments, WaitState};
use rep_control::api::{ApiError, ErrorKind, ResourceStatus};
use rep_types::{ConnectionState, DiskState, Refusal};
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

pub fn run(arguments: &WaitArguments, options: &Options) -> Result<(), Failure> {
    let deadline = Instant::now() + options.timeout;
    loop {
        let seen = look(&arguments.target.resource, options, deadline);
        let status = match seen {
            // The daemon may be on its way up.
            Err(error) if error.error == ErrorKind::NoDaemon && Instant::now() < deadline => None,
            Err(error) => return Err(error.into()),
            Ok(status) => Some(status),
        };
        if status.as_ref().is_some_and(|status| has_come(status, arguments.state)) {
            return Ok(());
        }
        if let Some(refusal) = status.as_ref().and_then(never_by_itself) {
            return Err(ApiError::refused(refusal, &arguments.target.resource).into());
        }
        if Instant::now() >= deadline {
            let verdict = status.map_or_else(|| "no daemon".to_owned(), |status| status.verdict);
            let message = format!("{} isn't {} yet: {verdict}", arguments.target, state_word(arguments.state));
            return Err(ApiError::timed_out(message).with_hint("--timeout waits longer").into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// The state of one resource.
pub fn look(resource: &str, options: &Options, deadline: Instant) -> Result<ResourceStatus, ApiError> {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(200));
    let status = options.client().status(Some(resource), left)?;
    let missing = || ApiError::failed("BadAnswer", "the daemon's answer lacks the resource");
    status.resources.into_iter().next().ok_or_else(missing)
}

fn state_word(state: WaitState) -> &'static str {
    match state {
        WaitState::Connected => "connected",
        WaitState::Synced => "synced",
    }
}

fn has_come(status: &ResourceStatus, state: WaitState) -> bool {
    match state {
        WaitState::Connected => status.connection == ConnectionState::Connected,
        WaitState::Synced => is_synced(status),
    }
}

/// Whether both replicas are known to be identical.
pub fn is_synced(status: &ResourceStatus) -> bool {
    let connected = status.connection == ConnectionState::Connected;
    connected
        && status.volumes.iter().all(|volume| {
            let current = volume.disk == DiskState::UpToDate && volume.peer_disk == DiskState::UpToDate;
            current && volume.resync.is_none() && volume.out_of_sync_bytes == 0
        })
}

/// States that only an operator ends: waiting for more would be in vain.
pub fn never_by_itself(status: &ResourceStatus) -> Option<Refusal> {
    match status.connection {
        ConnectionState::SplitBrain => Some(Refusal::SplitBrain),
        ConnectionState::UnrelatedData => Some(Refusal::UnrelatedData),
        _ => None,
    }
}
