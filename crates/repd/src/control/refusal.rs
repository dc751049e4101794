//! A refusal in the words of how things stand: what to do next depends on that.

use rep_control::api::{ApiError, Verb};
use rep_engine::{Snapshot, VolumeSnapshot};
use rep_types::{ConnectionState, DiskState, Refusal};

/// The same refusal, with a better word where the state knows one.
pub fn explained(error: ApiError, verb: Verb, name: &str, engine: &Snapshot) -> ApiError {
    let better = if verb == Verb::Disconnect && error.reason == format!("{:?}", Refusal::OnlyGoodCopy) {
        Some((
            "the Primary has its data from the other node's disk alone: without the connection its clients get errors",
            format!("run 'repctl attach {name}' on the Primary and let it resync, or demote it first"),
        ))
    } else if error.reason == format!("{:?}", Refusal::NoUpToDateDisk) {
        no_good_disk(name, engine)
    } else if error.reason == format!("{:?}", Refusal::OnlyGoodCopy)
        && !any(engine, |volume| volume.disk, DiskState::UpToDate)
    {
        let message = "the peer has no UpToDate copy that could take the place of this one";
        Some((message, format!("see 'repctl status {name}'")))
    } else if error.reason == format!("{:?}", Refusal::DirectionNeeded) && !both_good(engine) {
        Some(("neither copy is UpToDate", "say whose data stays with --from NODE".to_owned()))
    } else {
        None
    };
    match better {
        Some((message, hint)) => ApiError { message: message.to_owned(), ..error }.with_hint(hint),
        None => error,
    }
}

fn any(engine: &Snapshot, disk: impl Fn(&VolumeSnapshot) -> DiskState, state: DiskState) -> bool {
    engine.volumes.iter().any(|volume| disk(volume) == state)
}

fn both_good(engine: &Snapshot) -> bool {
    let good = |volume: &VolumeSnapshot| (volume.disk, volume.peer_disk) == (DiskState::UpToDate, DiskState::UpToDate);
    engine.volumes.iter().all(good)
}

/// Why there is no UpToDate disk in reach, and what may be done about it.
fn no_good_disk(name: &str, engine: &Snapshot) -> Option<(&'static str, String)> {
    let force =
        "--force makes this copy the one to keep, and what the peer wrote later is lost or ends in a split brain";
    Some(match engine.connection {
        ConnectionState::Connected if any(engine, |volume| volume.disk, DiskState::Inconsistent) => (
            "neither node has an UpToDate disk",
            format!(
                "run 'repctl new-generation {name} --clear-bitmap' if both disks are blank, or 'repctl primary {name} \
                 --force' here if this is the disk whose data is to be kept"
            ),
        ),
        _ if any(engine, |volume| volume.disk, DiskState::Diskless) => (
            "this node has no disk attached, and no UpToDate one of the peer is in reach",
            format!("run 'repctl attach {name}'"),
        ),
        ConnectionState::SplitBrain => {
            ("the nodes diverged (split brain)", format!("see 'repctl split-brain {name} show'; {force}"))
        }
        ConnectionState::StandAlone => (
            "this node can't know whether the peer holds newer data",
            format!("run 'repctl connect {name}' first; {force}"),
        ),
        ConnectionState::Connecting => (
            "this node can't know whether the peer holds newer data",
            format!("wait for it with 'repctl wait {name} connected'; {force}"),
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture;
    use rep_types::Role;

    fn engine(connection: ConnectionState, disk: DiskState) -> Snapshot {
        let volume = VolumeSnapshot { disk, peer_disk: DiskState::DUnknown, ..fixture::volume() };
        fixture::engine(Role::Secondary, connection, volume)
    }

    fn said(refusal: Refusal, engine: &Snapshot) -> String {
        explained(ApiError::refused(refusal, "vz"), Verb::Primary, "vz", engine).sentence()
    }

    #[test]
    fn what_to_do_about_a_missing_good_disk_depends_on_the_state() {
        use ConnectionState::{Connected, Connecting, SplitBrain, StandAlone};
        let told = [
            (Connected, DiskState::Inconsistent, "new-generation vz"),
            (Connecting, DiskState::Consistent, "repctl wait vz connected"),
            (Connecting, DiskState::Diskless, "repctl attach vz"),
            (StandAlone, DiskState::Outdated, "repctl connect vz"),
            (SplitBrain, DiskState::Consistent, "split-brain vz show"),
        ];
        for (connection, disk, words) in told {
            let sentence = said(Refusal::NoUpToDateDisk, &engine(connection, disk));
            assert!(sentence.contains(words), "{sentence}");
        }
    }

    #[test]
    fn nothing_is_said_to_be_good_that_is_not() {
        let blank = engine(ConnectionState::Connected, DiskState::Inconsistent);
        assert!(said(Refusal::OnlyGoodCopy, &blank).starts_with("the peer has no UpToDate copy"));
        assert!(said(Refusal::DirectionNeeded, &blank).starts_with("neither copy is UpToDate"));
        assert_eq!(said(Refusal::IsPrimary, &blank), "this node is Primary; run 'repctl secondary vz' first");
    }
}
