//! What an operator is told of a handover, and of the device it leaves behind: what came of it, and what to do.

use rep_control::api::{ApiError, ErrorKind, format_bytes};
use rep_engine::Snapshot;
use rep_types::{ConnectionState, Role};
use std::time::Duration;

/// The resource and the other node.
type Names<'a> = (&'a str, &'a str);

/// It has been done.
pub fn words((_, peer): Names<'_>, engine: &Snapshot, took: Duration) -> String {
    let took_ms = took.as_millis();
    let so = match engine.forwarding {
        Some(_) => "the device stays here as long as it is open, and its requests are forwarded",
        None => "nothing is forwarded",
    };
    format!("{peer} is Primary; {so} (they waited for {took_ms} ms at most)")
}

/// It has failed, or nobody waits for it any more: how things stand now, and what comes next.
pub fn failed(error: ApiError, (name, peer): Names<'_>, engine: &Snapshot) -> ApiError {
    if error.error == ErrorKind::Refused && engine.role == Role::Primary && engine.forwarding.is_none() {
        // Nothing was begun, or all is as it was: the refusal has said all there is.
        return error;
    }
    let connected = engine.connection == ConnectionState::Connected;
    let peer_is_primary = connected && engine.peer_role == Some(Role::Primary);
    let (stands, next) = if engine.role == Role::Primary {
        let stands = "this node is Primary, and what its clients ask goes on here";
        (stands.to_owned(), format!("see 'repctl status {name}', then try again"))
    } else if peer_is_primary {
        let stands = format!("{peer} has become Primary all the same, and takes the requests of the device here");
        (stands, format!("'repctl handover {name}' there hands the role back"))
    } else if connected {
        let stands = "neither node is Primary, and the requests of the device here wait".to_owned();
        (stands, format!("run 'repctl primary {name}' on the node that shall be"))
    } else {
        let stands = format!(
            "the role was given up here, whether {peer} has it can't be known now, and the requests of the device wait"
        );
        let next = format!(
            "they go on when {peer} is back as Primary; if you are certain that it is down, run 'repctl primary {name}' here"
        );
        (stands, next)
    };
    let message = format!("{}; {stands}", error.message);
    ApiError { message, ..error }.with_hint(next)
}

/// A device that is open where the role isn't, and what it waits for.
pub fn verdict((name, peer): Names<'_>, engine: &Snapshot) -> Option<String> {
    if engine.peer_forwards && engine.io_suspended.is_none() {
        let how = engine.volumes.iter().map(|volume| volume.out_of_sync_bytes).sum::<u64>();
        let marked = if how > 0 { format!(", {} aren't in sync", format_bytes(how)) } else { String::new() };
        return Some(format!(
            "serves {peer}'s device too, which is open there{marked}; 'repctl handover {name}' hands the role back"
        ));
    }
    let forwarding = engine.forwarding?;
    if engine.role == Role::Primary || engine.promoting {
        return Some(format!(
            "the role is being handed over; requests of the device wait for that ({})",
            forwarding.requests
        ));
    }
    if !forwarding.waits {
        return Some(format!("the device is open here, and its requests are forwarded to {peer}, which is Primary"));
    }
    let waits = format!("the device is open here and its requests wait ({}): ", forwarding.requests);
    Some(match (engine.connection, engine.peer_role) {
        (ConnectionState::Connected, Some(Role::Primary)) => format!("{waits}{peer} is about to take them"),
        (ConnectionState::Connected, _) => {
            format!("{waits}neither node is Primary; run 'repctl primary {name}' on either")
        }
        (ConnectionState::StandAlone, _) => format!("{waits}run 'repctl connect {name}'"),
        _ => format!(
            "{waits}they go on when {peer} is back; if you are certain that it is down, run 'repctl primary {name}' here; to \
             have them fail instead, 'repctl resume-io {name}'"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use rep_engine::ForwardingSnapshot;
    use rep_types::Refusal;

    fn told(error: ApiError, role: Role, connection: ConnectionState, peer_role: Option<Role>) -> (String, String) {
        let forwarding = (role == Role::Secondary).then_some(ForwardingSnapshot { waits: true, requests: 2 });
        let engine = Snapshot { peer_role, forwarding, ..fixture::engine(role, connection, fixture::volume()) };
        let error = failed(error, ("vz", "beta"), &engine);
        (error.message.clone(), error.hint.unwrap_or_default())
    }

    #[test]
    fn a_failure_says_how_things_stand_and_what_comes_next() {
        let lost = || ApiError::failed("PeerLost", "the connection was lost");
        let (message, hint) = told(lost(), Role::Primary, ConnectionState::Connecting, None);
        assert!(message.contains("lost; this node is Primary") && hint.contains("try again"), "{message} {hint}");
        let (message, hint) = told(lost(), Role::Secondary, ConnectionState::Connecting, None);
        assert!(message.contains("can't be known") && hint.contains("certain that it is down"), "{message} {hint}");
        let (message, hint) = told(lost(), Role::Secondary, ConnectionState::Connected, Some(Role::Primary));
        assert!(message.contains("all the same") && hint.contains("hands the role back"), "{message} {hint}");
        let (message, hint) = told(lost(), Role::Secondary, ConnectionState::Connected, Some(Role::Secondary));
        assert!(message.contains("neither node") && hint.contains("'repctl primary vz'"), "{message} {hint}");
        let refused = ApiError::refused(Refusal::PeerNotUpToDate, "vz");
        let before = refused.message.clone();
        assert_eq!(told(refused, Role::Primary, ConnectionState::Connected, Some(Role::Secondary)).0, before);
    }
}
