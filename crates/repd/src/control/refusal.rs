//! A refusal in the words of how things stand: what to do next depends on that.

use rep_control::api::{ApiError, Verb};
use rep_engine::{Snapshot, VolumeSnapshot};
use rep_types::{ConnectionState, DiskState, Refusal, Role, Room, RoomLimit};

/// The same refusal, with a better word where the state knows one.
pub fn explained(error: ApiError, verb: Verb, name: &str, engine: &Snapshot) -> ApiError {
    if verb == Verb::Resize
        && let Some(volume) = engine.volumes.iter().find(|volume| volume.can_grow_to_bytes().is_none())
        && let Some(message) = no_room(&error, volume)
    {
        let hint = format!("enlarge what is too small, then run 'repctl resize {name}' again");
        return ApiError { message, ..error }.with_hint(hint);
    }
    let better = if verb == Verb::Disconnect && error.is_refusal(Refusal::OnlyGoodCopy) {
        Some((
            "the Primary has its data from the other node's disk alone: without the connection its clients get errors",
            format!("run 'repctl attach {name}' on the Primary and let it resync, or demote it first"),
        ))
    } else if verb == Verb::Primary && error.is_refusal(Refusal::SplitBrain) {
        Some(apart(name, engine))
    } else if error.is_refusal(Refusal::NoUpToDateDisk) {
        no_good_disk(name, engine)
    } else if error.is_refusal(Refusal::OnlyGoodCopy) && !any(engine, |volume| volume.disk, DiskState::UpToDate) {
        let message = "the peer has no UpToDate copy that could take the place of this one";
        Some((message, format!("see 'repctl status {name}'")))
    } else if error.is_refusal(Refusal::DirectionNeeded) && !both_good(engine) {
        Some(("neither copy is UpToDate", "say whose data stays with --from NODE".to_owned()))
    } else {
        None
    };
    match better {
        Some((message, hint)) => ApiError { message: message.to_owned(), ..error }.with_hint(hint),
        None => error,
    }
}

/// Which disk keeps a volume from growing, with the sizes.
fn no_room(error: &ApiError, volume: &VolumeSnapshot) -> Option<String> {
    let about_room = [
        Refusal::DiskNotGrown,
        Refusal::PeerDiskNotGrown,
        Refusal::DisksNotGrown,
        Refusal::MetadataTooSmall,
        Refusal::PeerMetadataTooSmall,
    ];
    if !about_room.into_iter().any(|refusal| error.is_refusal(refusal)) {
        return None;
    }
    let of = |whose: &str, room: Option<Room>| match room {
        None => format!("what {whose} disk has room for isn't known"),
        Some(Room { bytes, limit: RoomLimit::GrownTooLittle { needed_bytes } }) => format!(
            "{whose} disk has room for {bytes} bytes; it has grown by less than its metadata need, to {needed_bytes} bytes \
             at least"
        ),
        Some(Room { bytes, limit: RoomLimit::MetadataDevice { needed_bytes } }) => {
            format!("{whose} disk has room for {bytes} bytes as long as its meta-disk has less than {needed_bytes}")
        }
        Some(Room { bytes, limit: RoomLimit::Largest }) => {
            format!("{whose} disk has room for {bytes} bytes; nothing larger than 1 PiB is replicated")
        }
        Some(Room { bytes, limit: RoomLimit::Disk }) => format!("{whose} disk has room for {bytes} bytes"),
    };
    let (size, here, there) = (volume.size_bytes, of("this node's", volume.room), of("the peer's", volume.peer_room));
    Some(format!("volume {} has {size} bytes and can't grow: {here}, {there}", volume.number))
}

fn any(engine: &Snapshot, disk: impl Fn(&VolumeSnapshot) -> DiskState, state: DiskState) -> bool {
    engine.volumes.iter().any(|volume| disk(volume) == state)
}

fn both_good(engine: &Snapshot) -> bool {
    let good = |volume: &VolumeSnapshot| (volume.disk, volume.peer_disk) == (DiskState::UpToDate, DiskState::UpToDate);
    engine.volumes.iter().all(good)
}

/// Why a node in split brain isn't promoted, and what is to be done: the same in status and in the answer to `primary`.
fn apart(name: &str, engine: &Snapshot) -> (&'static str, String) {
    let what = match engine.apart_from {
        Some(Role::Primary) => {
            "split brain: both nodes went on apart, and the peer was Primary when they met last; promoted too, clients would \
             write to both copies"
        }
        _ => {
            "split brain: both nodes went on apart, and nobody has said whose data stays; the peer may be Primary by now, and \
             this copy lacks what was written there"
        }
    };
    let next = format!(
        "see 'repctl split-brain {name} show' and settle it with 'repctl split-brain {name} resolve --keep NODE', or use \
         --force to have clients go on with this node's data all the same"
    );
    (what, next)
}

/// Why there is no UpToDate disk in reach, and what may be done about it.
fn no_good_disk(name: &str, engine: &Snapshot) -> Option<(&'static str, String)> {
    let force =
        "--force makes this copy the one to keep, and what the peer wrote later is lost or ends in a split brain";
    let connected = engine.connection == ConnectionState::Connected;
    let good_there = |volume: &VolumeSnapshot| connected && volume.peer_disk == DiskState::UpToDate;
    // Of several volumes those that stand in the way.
    let lacks = |state| engine.volumes.iter().any(|volume| volume.disk == state && !good_there(volume));
    Some(match engine.connection {
        _ if lacks(DiskState::Diskless) => (
            "a disk of this node isn't attached, and no UpToDate one of the peer's is in reach",
            match connected {
                true => format!(
                    "run 'repctl attach {name}', or, if that disk is lost and the peer's copy is the one to keep, 'repctl \
                     primary {name} --force' there"
                ),
                false => format!("run 'repctl attach {name}'"),
            },
        ),
        ConnectionState::Connected if lacks(DiskState::Inconsistent) => (
            "neither node has an UpToDate disk",
            format!(
                "run 'repctl new-generation {name} --clear-bitmap' if both disks are blank, or 'repctl primary {name} \
                 --force' here if this is the disk whose data is to be kept"
            ),
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
    fn what_to_do_is_told_of_the_volume_that_stands_in_the_way() {
        let volume = |disk, peer_disk| VolumeSnapshot { disk, peer_disk, ..fixture::volume() };
        let filled = volume(DiskState::Inconsistent, DiskState::UpToDate);
        let missing = volume(DiskState::Diskless, DiskState::Consistent);
        let engine = fixture::engine(Role::Secondary, ConnectionState::Connected, filled.clone());
        let engine = Snapshot { volumes: vec![filled, missing], ..engine };
        let told = said(Refusal::NoUpToDateDisk, &engine);
        assert!(told.contains("isn't attached") && told.contains("repctl attach vz"), "{told}");
        assert!(told.contains("repctl primary vz --force' there"), "{told}");
    }

    #[test]
    fn a_promotion_in_split_brain_is_told_what_happened_and_what_to_do() {
        for (met, words) in
            [(Role::Primary, "the peer was Primary when"), (Role::Secondary, "the peer may be Primary by now")]
        {
            let seen = Snapshot { apart_from: Some(met), ..engine(ConnectionState::StandAlone, DiskState::UpToDate) };
            let told = said(Refusal::SplitBrain, &seen);
            for word in [words, "split brain", "split-brain vz show", "split-brain vz resolve --keep NODE", "--force"] {
                assert!(told.contains(word), "{word}: {told}");
            }
        }
        // Of anything else that is refused for a split brain that isn't the question.
        let connect = explained(
            ApiError::refused(Refusal::SplitBrain, "vz"),
            Verb::Connect,
            "vz",
            &engine(ConnectionState::SplitBrain, DiskState::UpToDate),
        );
        assert!(!connect.sentence().contains("--force"), "{}", connect.sentence());
    }

    #[test]
    fn a_disk_without_room_is_named_with_its_size() {
        let room = |bytes, limit| Some(Room { bytes, limit });
        let volume = VolumeSnapshot {
            size_bytes: 1000,
            room: room(5000, RoomLimit::Disk),
            peer_room: room(1000, RoomLimit::MetadataDevice { needed_bytes: 77 }),
            ..fixture::volume()
        };
        let engine = fixture::engine(Role::Primary, ConnectionState::Connected, volume);
        let refused = ApiError::refused(Refusal::PeerMetadataTooSmall, "vz");
        let told = explained(refused, Verb::Resize, "vz", &engine);
        for word in
            ["1000 bytes and can't grow", "this node's disk has room for 5000", "less than 77", "repctl resize vz"]
        {
            assert!(told.sentence().contains(word), "{word}: {}", told.sentence());
        }
        assert_eq!((told.reason.as_str(), told.exit_code), ("PeerMetadataTooSmall", 10));
    }

    #[test]
    fn nothing_is_said_to_be_good_that_is_not() {
        let blank = engine(ConnectionState::Connected, DiskState::Inconsistent);
        assert!(said(Refusal::OnlyGoodCopy, &blank).starts_with("the peer has no UpToDate copy"));
        assert!(said(Refusal::DirectionNeeded, &blank).starts_with("neither copy is UpToDate"));
        assert_eq!(said(Refusal::IsPrimary, &blank), "this node is Primary; run 'repctl secondary vz' first");
    }
}
