//! `events`: what happens, until interrupted.

use crate::Failure;
use crate::cli::{EventsArguments, Options};
use crate::output::print;
use rep_control::api::{ApiError, Event};

pub fn run(arguments: &EventsArguments, options: &Options) -> Result<(), Failure> {
    if let Some(target) = &arguments.target {
        // A name that doesn't exist would be waited for in silence.
        options.client().status(Some(&target.resource), options.timeout)?;
    }
    for event in options.client().events(options.timeout)? {
        let event = event?;
        if !is_wanted(&event, arguments) {
            continue;
        }
        let line = if options.json { serde_json::to_string(&event).unwrap_or_default() } else { event.to_string() };
        print(&(line + "\n"))?;
    }
    let error = ApiError::failed("ConnectionLost", "the daemon ended");
    Err(error.with_hint("run 'repctl events' again when it is back").into())
}

fn is_wanted(event: &Event, arguments: &EventsArguments) -> bool {
    // What was missed may have been anything.
    let kind = arguments.kinds.is_empty() || event.kind == "missed" || arguments.kinds.contains(&event.kind);
    kind && arguments.target.as_ref().is_none_or(|target| {
        let volume = target.volume.is_none() || event.volume.is_none() || event.volume == target.volume;
        event.resource == target.resource && volume
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(resource: &str, volume: Option<u16>, kind: &str) -> Event {
        let (from, to, reason, bytes) = (None, None, None, None);
        let (time, resource, kind) = ("T".into(), resource.into(), kind.into());
        Event { time, resource, volume, kind, from, to, reason, bytes, split_brain: None }
    }

    #[test]
    fn events_are_chosen_by_resource_volume_and_kind() {
        let wanted = |target: &str, kinds: &[&str], event: &Event| {
            let target = (!target.is_empty()).then(|| target.parse().unwrap());
            let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
            is_wanted(event, &EventsArguments { target, kinds })
        };
        let disk = event("vz", Some(1), "disk");
        assert!(wanted("", &[], &disk) && wanted("vz", &[], &disk) && wanted("vz/1", &["disk", "role"], &disk));
        assert!(!wanted("db", &[], &disk) && !wanted("vz/0", &[], &disk) && !wanted("vz", &["role"], &disk));
        assert!(wanted("vz/0", &[], &event("vz", None, "role")), "it concerns every volume");
        assert!(wanted("vz", &["role"], &event("vz", None, "missed")));
    }
}
