//! How things stand, in one sentence an operator understands: the worst first.

use super::handover;
use super::resource::Resource;
use super::silence;
use super::split_brain;
use super::status::{Seen, suspension_words};
use rep_control::api::format_bytes;
use rep_engine::{FenceSnapshot, IoSuspension, Side, Snapshot, SplitBrainFacts, VolumeSnapshot};
use rep_types::{ConnectionState, DiskState, FenceAnswer, ReplicationState, Role, SyncRefusal, SyncVerdict};
use repd::resource::ResourceReport;

/// The names a sentence is made with.
struct Names<'a> {
    resource: &'a str,
    peer: &'a str,
    address: String,
}

/// The sentence of a resource.
pub fn sentence(seen: &Seen, resource: &Resource) -> String {
    let config = resource.config();
    let peer = config.peer_of(resource.node.as_str());
    let names = Names {
        resource: resource.name(),
        peer: peer.map_or("the peer", |peer| peer.name.as_str()),
        address: peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
    };
    words(seen, &names)
}

fn words(seen: &Seen, names: &Names<'_>) -> String {
    let sentence = state_words(seen, names);
    match (seen.device_waits, &seen.down) {
        (false, _) => sentence,
        (true, None) if for_a_disk(seen) => format!(
            "{sentence}; a device was left behind: its requests wait for a disk of this node, since what clients were answered \
             may be on it alone: run 'repctl attach {name}', or, to go on with the peer's data, 'repctl primary {name}'",
            name = names.resource
        ),
        (true, None) => {
            format!("{sentence}; a device was left behind: its requests wait until this node may be Primary")
        }
        (true, Some(_)) => format!(
            "{sentence}; a device was left behind: its requests wait until the resource is up, by 'repctl up {}'",
            names.resource
        ),
    }
}

/// Whether this node may be Primary on the peer's data, and isn't by itself since a disk of its own isn't there.
fn for_a_disk(seen: &Seen) -> bool {
    seen.report.as_ref().filter(|_| seen.fresh).is_some_and(|report| {
        let engine = &report.engine;
        engine.role == Role::Secondary
            && engine.promotion_refused.is_none()
            && engine.volumes.iter().any(|volume| volume.disk == DiskState::Diskless)
    })
}

fn state_words(seen: &Seen, names: &Names<'_>) -> String {
    if let Some(reason) = &seen.down {
        return match reason {
            Some(reason) => reason.clone(),
            None => format!("down: run 'repctl up {}'", names.resource),
        };
    }
    let Some(report) = seen.report.as_deref().filter(|_| seen.fresh) else {
        return "its data thread doesn't answer; its disk may hang, look at the kernel's log".into();
    };
    let sentence = unsettled(report, names)
        .map(|sentence| with_what_waits(sentence, &report.engine, names))
        .or_else(|| silence::words(&report.engine, names.resource, names.peer))
        .or_else(|| no_data(&report.engine, names))
        .or_else(|| seen.problems.values().next().map(|problem| format!("no disk: {problem}")))
        .or_else(|| export_problem(report))
        .or_else(|| fencing(&report.engine, names))
        .or_else(|| handover::verdict((names.resource, names.peer), &report.engine))
        .or_else(|| report.engine.io_suspended.map(|why| format!("client I/O waits: {}", suspension_words(why))))
        .or_else(|| resync(&report.engine, names))
        .or_else(|| verify(&report.engine, names))
        .unwrap_or_else(|| link(report, names));
    match size_problem(report, names) {
        Some(problem) => format!("{sentence}; {problem}"),
        None => sentence,
    }
}

/// Nodes that refused each other.
fn unsettled(report: &ResourceReport, names: &Names<'_>) -> Option<String> {
    let (name, peer) = (names.resource, names.peer);
    match report.engine.connection {
        ConnectionState::SplitBrain if archive_problem(report).is_some() => Some(format!(
            "split brain, and it isn't settled: this node's data could not be archived before they would be given up ({}); \
             make room or mend archive-dir, then 'repctl split-brain {name} resolve' again",
            archive_problem(report).unwrap_or_default()
        )),
        ConnectionState::SplitBrain => Some(went_apart(&report.engine, names)),
        ConnectionState::UnrelatedData => Some(format!(
            "unrelated data: {peer} holds data with no common past; on the node whose data may go, all of it, run 'repctl down \
             {name}', 'repctl create-md {name} --force', 'repctl up {name}', on the other 'repctl connect {name}'"
        )),
        ConnectionState::StandAlone if report.engine.resync_refused => Some(format!(
            "the before-resync-target handler did not want this disk overwritten from {peer}; nothing was; see repd's log, then \
             run 'repctl connect {name}'"
        )),
        ConnectionState::StandAlone | ConnectionState::Connecting => refused(report).map(|refusal| {
            let why = refusal.as_refusal().to_string().replace("RES", name);
            let hint = match refusal {
                SyncRefusal::WouldOverwritePrimary => format!("; run 'repctl secondary {name}' first"),
                _ => String::new(),
            };
            format!("refused at the handshake with {peer}: {why}{hint}; then run 'repctl connect {name}'")
        }),
        _ => None,
    }
}

/// Who has to give up its data is demoted first, and isn't while requests wait.
fn with_what_waits(sentence: String, engine: &Snapshot, names: &Names<'_>) -> String {
    let lasts = |why: &IoSuspension| {
        matches!(why, IoSuspension::Operator | IoSuspension::Fencing | IoSuspension::NoData)
            && engine.role == Role::Primary
    };
    match engine.io_suspended.filter(lasts) {
        Some(why) => format!(
            "{sentence}; client I/O waits: {}; if this node is to be demoted, run 'repctl resume-io {}' first",
            suspension_words(why),
            names.resource
        ),
        None => sentence,
    }
}

/// What the last handshake refused, while that stands. Nodes that one's disk keeps apart for its blocks go on meeting where a device
/// was left behind; what else they meet about says itself.
fn refused(report: &ResourceReport) -> Option<SyncRefusal> {
    let for_blocks =
        |refusal: &SyncRefusal| matches!(refusal, SyncRefusal::PeerBlocksTooLarge | SyncRefusal::BlocksTooLarge);
    let alone = report.engine.connection == ConnectionState::StandAlone;
    refusal(&report.engine).filter(|refusal| alone || for_blocks(refusal))
}

/// A split brain: how far each went, and why nobody has settled it.
fn went_apart(engine: &Snapshot, names: &Names<'_>) -> String {
    let (name, peer) = (names.resource, names.peer);
    let facts = || engine.volumes.iter().filter_map(|volume| volume.split_brain);
    let sum = |bytes: fn(&SplitBrainFacts) -> u64| facts().map(|of| bytes(&of)).fold(0, u64::saturating_add);
    let (mine, theirs) = (sum(|of| of.mine.dirty_bytes), sum(|of| of.peer.dirty_bytes));
    let why = facts().find_map(|of| split_brain::why(of.unsettled)).map_or(String::new(), |why| format!("; {why}"));
    format!(
        "split brain: this node and {peer} went on apart, {} changed here, {} on {peer}{why}; see 'repctl split-brain {name} show'",
        format_bytes(mine),
        format_bytes(theirs)
    )
}

/// Why what a split brain's victim holds could not be saved.
fn archive_problem(report: &ResourceReport) -> Option<&str> {
    report.volumes.iter().find_map(|volume| volume.archive_problem.as_deref())
}

/// A Primary whose clients get errors, or wait for data.
fn no_data(engine: &Snapshot, names: &Names<'_>) -> Option<String> {
    let (name, peer) = (names.resource, names.peer);
    let good = |volume: &VolumeSnapshot| DiskState::UpToDate == volume.disk || DiskState::UpToDate == volume.peer_disk;
    let volume = engine.volumes.iter().find(|volume| !good(volume)).filter(|_| engine.role == Role::Primary)?;
    let back = match engine.connection {
        ConnectionState::StandAlone => format!("run 'repctl connect {name}'"),
        ConnectionState::Connected => format!("run 'repctl attach {name}' on the node that has good data"),
        _ => format!("they go on when {peer} is back"),
    };
    let without = format!("this disk is {}, and no good one of {peer} is in reach", volume.disk);
    if !volume.waits_for_data {
        return Some(format!("clients get errors: {without}; {back}"));
    }
    let own = match volume.disk {
        DiskState::Diskless | DiskState::Failed => {
            format!(", or this disk, if nobody went on without it ('repctl attach {name}')")
        }
        _ => String::new(),
    };
    let back = match engine.connection {
        ConnectionState::StandAlone | ConnectionState::Connected => back,
        _ => format!("it goes on when {peer} is back{own}"),
    };
    Some(format!("client I/O waits: {without}; {back}; to have what waits fail instead, run 'repctl resume-io {name}'"))
}

/// Clients that wait until the peer is known not to go on, and what ends that.
fn fencing(engine: &Snapshot, names: &Names<'_>) -> Option<String> {
    engine.io_suspended.filter(|why| *why == IoSuspension::Fencing)?;
    let (name, peer) = (names.resource, names.peer);
    let way_out = format!(
        "they go on when {peer} is back or fenced; if you are certain that {peer} is down, run 'repctl resume-io {name}'"
    );
    Some(match engine.fence {
        Some(FenceSnapshot::Failed(FenceAnswer::NoHandler)) => format!(
            "client I/O waits: {peer} is lost, and no fence-peer handler is configured to make sure that it doesn't go on; {way_out}"
        ),
        Some(FenceSnapshot::Failed(why)) => format!(
            "client I/O waits: {peer} is lost and may go on ({why}); the fence-peer handler is asked again every few \
             seconds; {way_out}"
        ),
        _ => format!(
            "client I/O waits: {peer} is lost, the fence-peer handler makes sure that it doesn't go on; {way_out}"
        ),
    })
}

fn refusal(engine: &Snapshot) -> Option<SyncRefusal> {
    engine.volumes.iter().find_map(|volume| match volume.last_decision?.verdict {
        SyncVerdict::Refuse(refusal) => Some(refusal),
        _ => None,
    })
}

fn export_problem(report: &ResourceReport) -> Option<String> {
    let problem = report.volumes.iter().find_map(|volume| Some((&volume.device, volume.export_problem.as_ref()?)));
    problem.map(|(device, problem)| format!("{device} can't be offered: {problem}"))
}

/// A device that didn't grow with its volume works as before; but who waits for the room must know.
fn size_problem(report: &ResourceReport, names: &Names<'_>) -> Option<String> {
    let problem = report.volumes.iter().find_map(|volume| volume.size_problem.as_ref())?;
    let name = names.resource;
    Some(format!("{problem}: it gets the volume's size by 'repctl secondary {name}' and 'repctl primary {name}'"))
}

fn resync(engine: &Snapshot, names: &Names<'_>) -> Option<String> {
    if let Some(saved) = engine.volumes.iter().find_map(|volume| volume.archived_bytes) {
        return Some(format!(
            "settling a split brain: this node's data are being archived, {} so far",
            format_bytes(saved)
        ));
    }
    let volume = engine.volumes.iter().find(|volume| volume.replication.is_resync())?;
    let percent = percent(volume);
    let peer = names.peer;
    let equal = volume.resync.and_then(|resync| resync.compared).map_or_else(String::new, |compared| {
        format!(
            ", of {} compared {} were equal",
            format_bytes(compared.compared_bytes),
            format_bytes(compared.equal_bytes)
        )
    });
    Some(match volume.replication {
        ReplicationState::SyncTarget => format!("resyncing from {peer}: {percent} %{equal}"),
        ReplicationState::SyncSource => format!("resyncing {peer}: {percent} %{equal}"),
        _ => format!("resync paused at {percent} %: run 'repctl resume-sync {}'", names.resource),
    })
}

/// Disks that are being compared, on either node.
fn verify(engine: &Snapshot, names: &Names<'_>) -> Option<String> {
    let runs =
        |volume: &&VolumeSnapshot| matches!(volume.replication, ReplicationState::VerifyS | ReplicationState::VerifyT);
    let volume = engine.volumes.iter().find(runs)?;
    let (name, peer) = (names.resource, names.peer);
    let Some(verify) = volume.verify else { return Some(format!("comparing with {peer}")) };
    let done = u128::from(verify.done_bytes.min(verify.total_bytes)) * 100;
    let percent = done.checked_div(u128::from(verify.total_bytes)).unwrap_or(100);
    let differ = match verify.different_bytes {
        0 => String::new(),
        different => format!(", {} differ so far", format_bytes(different)),
    };
    Some(match verify.halted_by {
        None => format!("comparing with {peer}: {percent} %{differ}"),
        Some(Side::Local) => {
            format!("comparing with {peer} halted at {percent} %{differ}: run 'repctl resume-sync {name}'")
        }
        Some(Side::Peer) => {
            format!("comparing with {peer} halted at {percent} %{differ}: run 'repctl resume-sync {name}' on {peer}")
        }
    })
}

fn percent(volume: &VolumeSnapshot) -> u64 {
    let resync = volume.resync.unwrap_or(rep_engine::ResyncSnapshot {
        total_bytes: 0,
        done_bytes: 0,
        copied_bytes: 0,
        compared: None,
        started: Default::default(),
        rate_bytes_per_s: 0,
    });
    let done = u128::from(resync.done_bytes.min(resync.total_bytes)) * 100;
    done.checked_div(u128::from(resync.total_bytes)).map_or(0, |percent| percent as u64)
}

/// What there is to say when nothing is wrong with the disk or the data.
fn link(report: &ResourceReport, names: &Names<'_>) -> String {
    let (name, peer) = (names.resource, names.peer);
    let behind = match out_of_sync(&report.engine) {
        0 => String::new(),
        differing => format!("; {} to resync", format_bytes(differing)),
    };
    match report.engine.connection {
        ConnectionState::Connected => connected(&report.engine, names),
        ConnectionState::Connecting if diskless(&report.engine) => {
            let hints = bare(&report.engine).map(|volume| silence::attach_words(&report.engine, volume, name));
            format!("this node has no disk: {}; and no connection to {peer}", hints.unwrap_or_default())
        }
        ConnectionState::Connecting => match &report.link.problem {
            Some(problem) => link_problem(problem, &behind, names),
            None => format!("connecting to {peer} ({}){behind}", names.address),
        },
        ConnectionState::Disconnecting => format!("leaving {peer}{behind}"),
        _ if diskless(&report.engine) => format!("neither disk nor connection: run 'repctl up {name}'"),
        _ => format!("not connected: run 'repctl connect {name}'{behind}"),
    }
}

fn bare(engine: &Snapshot) -> Option<&VolumeSnapshot> {
    engine.volumes.iter().find(|volume| matches!(volume.disk, DiskState::Diskless | DiskState::Failed))
}

fn diskless(engine: &Snapshot) -> bool {
    bare(engine).is_some()
}

/// Why there is no connection. What the system says of a failed dial is worded as operators know it from elsewhere.
fn link_problem(problem: &str, behind: &str, names: &Names<'_>) -> String {
    let dialled = format!("the peer can't be reached at {}: ", names.address);
    let Some(reason) = problem.strip_prefix(&dialled) else {
        return format!("no connection to {}: {problem}{behind}", names.peer);
    };
    let reason = reason.split(" (os error").next().unwrap_or(reason).to_lowercase();
    let hint = match reason.as_str() {
        "connection refused" => format!("; see that repd runs there and 'repctl connect {}' was run", names.resource),
        _ => String::new(),
    };
    format!("peer not reachable: {reason} ({}){behind}{hint}", names.address)
}

fn connected(engine: &Snapshot, names: &Names<'_>) -> String {
    let (name, peer) = (names.resource, names.peer);
    let numbered = |volume: &VolumeSnapshot| match engine.volumes.len() {
        1 => String::new(),
        _ => format!("volume {}: ", volume.number),
    };
    for volume in &engine.volumes {
        let part = numbered(volume);
        match (volume.disk, volume.peer_disk) {
            (DiskState::UpToDate, DiskState::UpToDate) if volume.out_of_sync_bytes == 0 || volume.growing => {}
            (DiskState::Inconsistent, DiskState::Inconsistent) => {
                return format!(
                    "{part}neither disk has data yet: run 'repctl new-generation {name} --clear-bitmap' if both are blank, \
                     or 'repctl primary {name} --force' on the node whose data is to be kept"
                );
            }
            (DiskState::Diskless | DiskState::Failed, _) => {
                let on = if engine.role == Role::Primary { format!("; I/O goes to {peer}") } else { String::new() };
                let attach = silence::attach_words(engine, volume, name);
                return format!("{part}this node has no disk{on}: {attach}");
            }
            (_, DiskState::Diskless | DiskState::Failed) => {
                return format!("{part}{peer} has no disk: run 'repctl attach {name}' there");
            }
            (DiskState::UpToDate, DiskState::UpToDate) => {
                return format!(
                    "{part}{} are out-of-sync: run 'repctl resync {name}'",
                    format_bytes(volume.out_of_sync_bytes)
                );
            }
            (own, other) => return format!("{part}this disk is {own}, that of {peer} is {other}"),
        }
    }
    let can_grow = |volume: &VolumeSnapshot| volume.can_grow_to_bytes().map(|size| (numbered(volume), size));
    match engine.volumes.iter().find_map(can_grow) {
        Some((part, size)) => {
            format!("in sync; {part}both disks have room for {}: run 'repctl resize {name}'", format_bytes(size))
        }
        None => "in sync".into(),
    }
}

fn out_of_sync(engine: &Snapshot) -> u64 {
    engine.volumes.iter().map(|volume| volume.out_of_sync_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::{engine, volume};
    use rep_engine::{ApartSide, ComparedSnapshot, ResyncSnapshot, Timestamp, Unsettled, VerifySnapshot};
    use rep_types::{GenerationId, SyncDecision, SyncRule, VolumeNumber};
    use repd::resource::VolumeReport;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn report(connection: ConnectionState, volume: VolumeSnapshot) -> ResourceReport {
        ResourceReport {
            engine: engine(Role::Primary, connection, volume),
            now: Timestamp(0),
            link: Default::default(),
            volumes: Vec::new(),
            pool: Default::default(),
        }
    }

    fn said(report: ResourceReport) -> String {
        let seen = Seen {
            report: Some(Arc::new(report)),
            fresh: true,
            down: None,
            problems: BTreeMap::new(),
            device_waits: false,
        };
        said_of(&seen)
    }

    fn said_of(seen: &Seen) -> String {
        words(seen, &Names { resource: "vz", peer: "beta", address: "192.168.255.2:7788".into() })
    }

    #[test]
    fn all_is_well() {
        assert_eq!(said(report(ConnectionState::Connected, volume())), "in sync");
    }

    #[test]
    fn a_device_that_kept_its_size_is_told_beside_the_rest() {
        let volumes = vec![VolumeReport {
            number: VolumeNumber(0),
            device: "/dev/ublkb0".into(),
            exported: true,
            clients: 0,
            export_problem: None,
            size_problem: Some("/dev/ublkb0 keeps its size".into()),
            driver: None,
            archive_problem: None,
            disk: None,
            stages: Default::default(),
        }];
        assert_eq!(
            said(ResourceReport { volumes, ..report(ConnectionState::Connected, volume()) }),
            "in sync; /dev/ublkb0 keeps its size: it gets the volume's size by 'repctl secondary vz' and 'repctl primary vz'"
        );
    }

    #[test]
    fn a_resync_says_from_where_and_how_far() {
        let resync = ResyncSnapshot {
            total_bytes: 1000,
            done_bytes: 429,
            copied_bytes: 0,
            compared: None,
            started: Timestamp(0),
            rate_bytes_per_s: 1,
        };
        let target = VolumeSnapshot { replication: ReplicationState::SyncTarget, resync: Some(resync), ..volume() };
        assert_eq!(said(report(ConnectionState::Connected, target.clone())), "resyncing from beta: 42 %");
        let compared = ComparedSnapshot { compared_bytes: 8192, equal_bytes: 4096 };
        let compares =
            VolumeSnapshot { resync: Some(ResyncSnapshot { compared: Some(compared), ..resync }), ..target.clone() };
        assert_eq!(
            said(report(ConnectionState::Connected, compares)),
            "resyncing from beta: 42 %, of 8.00 KiB compared 4.00 KiB were equal"
        );
        let paused = VolumeSnapshot { replication: ReplicationState::PausedSyncT, ..target };
        assert_eq!(
            said(report(ConnectionState::Connected, paused)),
            "resync paused at 42 %: run 'repctl resume-sync vz'"
        );
    }

    #[test]
    fn a_verify_says_how_far_on_both_nodes_and_when_it_is_halted() {
        let verify = VerifySnapshot {
            total_bytes: 1000,
            done_bytes: 429,
            different_bytes: 0,
            rate_bytes_per_s: 1,
            halted_by: None,
        };
        let told = |replication, verify| {
            said(report(ConnectionState::Connected, VolumeSnapshot { replication, verify, ..volume() }))
        };
        assert_eq!(told(ReplicationState::VerifyS, Some(verify)), "comparing with beta: 42 %");
        assert_eq!(told(ReplicationState::VerifyT, Some(verify)), "comparing with beta: 42 %");
        assert_eq!(told(ReplicationState::VerifyT, None), "comparing with beta");
        let found = VerifySnapshot { different_bytes: 4096, ..verify };
        assert_eq!(told(ReplicationState::VerifyS, Some(found)), "comparing with beta: 42 %, 4.00 KiB differ so far");
        let halted = |side| VerifySnapshot { halted_by: Some(side), ..verify };
        assert_eq!(
            told(ReplicationState::VerifyS, Some(halted(Side::Local))),
            "comparing with beta halted at 42 %: run 'repctl resume-sync vz'"
        );
        assert_eq!(
            told(ReplicationState::VerifyT, Some(halted(Side::Peer))),
            "comparing with beta halted at 42 %: run 'repctl resume-sync vz' on beta"
        );
    }

    #[test]
    fn an_unreachable_peer_is_named_with_the_reason() {
        let mut lost = report(ConnectionState::Connecting, VolumeSnapshot { out_of_sync_bytes: 3 << 20, ..volume() });
        lost.link.problem =
            Some("the peer can't be reached at 192.168.255.2:7788: Connection refused (os error 111)".into());
        assert_eq!(
            said(lost),
            "peer not reachable: connection refused (192.168.255.2:7788); 3.00 MiB to resync; see that repd runs there and \
             'repctl connect vz' was run"
        );
    }

    #[test]
    fn other_problems_of_the_link_are_passed_on() {
        let mut lost = report(ConnectionState::Connecting, volume());
        lost.link.problem = Some("the peer knows another secret".into());
        assert_eq!(said(lost), "no connection to beta: the peer knows another secret");
    }

    #[test]
    fn split_brain_and_refusals_come_first() {
        let side =
            |dirty_bytes| ApartSide { since_unix_ms: 0, was_primary: false, dirty_bytes, generation: GenerationId(7) };
        let (mine, peer) = (side(4096), side(8192));
        let split = |unsettled| {
            let facts = SplitBrainFacts { rule: SyncRule::SplitBrainBitmap, mine, peer, unsettled };
            let volume = VolumeSnapshot { split_brain: Some(facts), ..volume() };
            let mut split = report(ConnectionState::SplitBrain, volume);
            split.link.problem = Some("whatever".into());
            said(split)
        };
        assert_eq!(
            split(Unsettled::NoPolicy),
            "split brain: this node and beta went on apart, 4.00 KiB changed here, 8.00 KiB on beta; see 'repctl split-brain vz \
             show'"
        );
        assert!(
            split(Unsettled::PoliciesDiffer).contains("; no policy was applied, for the nodes told different ones")
        );
        let verdict = SyncVerdict::Refuse(SyncRefusal::PeerDiskTooSmall);
        let decision = Some(SyncDecision { rule: SyncRule::JustCreatedPeer, verdict });
        let refused = report(ConnectionState::StandAlone, VolumeSnapshot { last_decision: decision, ..volume() });
        assert_eq!(
            said(refused),
            "refused at the handshake with beta: the peer's disk is smaller than the volume; give it a larger disk; \
             then run 'repctl connect vz'"
        );
    }

    #[test]
    fn what_waits_is_told_beside_a_split_brain() {
        let split = |role| {
            let mut split = report(ConnectionState::SplitBrain, volume());
            (split.engine.role, split.engine.io_suspended) = (role, Some(IoSuspension::Fencing));
            said(split)
        };
        let told = split(Role::Primary);
        assert!(told.contains("; client I/O waits: the peer is gone"), "{told}");
        assert!(told.ends_with("; if this node is to be demoted, run 'repctl resume-io vz' first"), "{told}");
        assert!(!split(Role::Secondary).contains("resume-io"));
    }

    #[test]
    fn a_primary_without_good_data_says_so_first() {
        let target = VolumeSnapshot { disk: DiskState::Inconsistent, peer_disk: DiskState::DUnknown, ..volume() };
        let mut lost = report(ConnectionState::Connecting, target);
        lost.link.problem = Some("whatever".into());
        assert!(said(lost).starts_with("clients get errors: this disk is Inconsistent, and no good one of beta"));
    }

    #[test]
    fn clients_that_wait_for_data_are_told_of_with_both_ways_out() {
        let bare = VolumeSnapshot {
            disk: DiskState::Diskless,
            peer_disk: DiskState::DUnknown,
            waits_for_data: true,
            ..volume()
        };
        let told = said(report(ConnectionState::Connecting, bare));
        assert!(told.starts_with("client I/O waits: this disk is Diskless"), "{told}");
        assert!(
            told.contains("when beta is back, or this disk, if nobody went on without it ('repctl attach vz')"),
            "{told}"
        );
        assert!(told.ends_with("run 'repctl resume-io vz'"), "{told}");
    }

    #[test]
    fn a_missing_disk_is_told_also_without_a_connection() {
        let bare = VolumeSnapshot { disk: DiskState::Diskless, peer_disk: DiskState::DUnknown, ..volume() };
        for (connection, verb) in [(ConnectionState::Connecting, "attach"), (ConnectionState::StandAlone, "up")] {
            let mut report = report(connection, bare.clone());
            report.engine.role = Role::Secondary;
            assert!(said(report).contains(&format!("repctl {verb} vz")));
        }
    }

    #[test]
    fn requests_that_wait_for_a_takeover_are_told() {
        let waits = "a device was left behind: its requests wait until";
        let seen = |down, report| Seen { report, fresh: true, down, problems: BTreeMap::new(), device_waits: true };
        let down = said_of(&seen(Some(Some("no metadata".to_owned())), None));
        assert_eq!(down, format!("no metadata; {waits} the resource is up, by 'repctl up vz'"));
        let mut alone = report(ConnectionState::Connecting, volume());
        alone.link.problem = Some("the peer knows another secret".into());
        let up = said_of(&seen(None, Some(Arc::new(alone))));
        assert_eq!(
            up,
            format!("no connection to beta: the peer knows another secret; {waits} this node may be Primary")
        );
        let bare = VolumeSnapshot { disk: DiskState::Diskless, ..volume() };
        let mut bare = report(ConnectionState::Connected, bare);
        bare.engine.role = Role::Secondary;
        let bare = said_of(&seen(None, Some(Arc::new(bare))));
        for word in ["wait for a disk of this node", "repctl attach vz", "repctl primary vz"] {
            assert!(bare.contains(word), "{word}: {bare}");
        }
    }

    #[test]
    fn down_and_stuck_are_told() {
        let down = |reason: Option<&str>| Seen {
            report: None,
            fresh: true,
            down: Some(reason.map(str::to_owned)),
            problems: BTreeMap::new(),
            device_waits: false,
        };
        assert_eq!(said_of(&down(None)), "down: run 'repctl up vz'");
        assert_eq!(said_of(&down(Some("no metadata"))), "no metadata");
        let stuck = Seen { report: None, fresh: false, down: None, problems: BTreeMap::new(), device_waits: false };
        assert!(said_of(&stuck).contains("doesn't answer"));
    }
}
