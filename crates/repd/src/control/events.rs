//! Notices of the engine become events.

use super::split_brain::{self, Names};
use rep_control::api::{Event, format_time};
use rep_engine::{Notice, Why, explain};
use rep_types::{ResourceName, VolumeNumber};
use std::time::SystemTime;
use tokio::sync::broadcast::{self, error::RecvError};

/// Passes a resource's notices on until its data thread ends.
pub async fn forward(
    resource: ResourceName,
    names: Names,
    mut notices: broadcast::Receiver<Notice>,
    events: broadcast::Sender<Event>,
) {
    loop {
        let event = match notices.recv().await {
            Ok(notice) => event(&resource, &names, &notice),
            Err(RecvError::Lagged(missed)) => {
                let mut event = blank(&resource, "missed");
                event.reason = Some(format!("{missed} events came too fast to be told"));
                event
            }
            Err(RecvError::Closed) => return,
        };
        // Nobody listening is no error.
        let _ = events.send(event);
    }
}

fn blank(resource: &ResourceName, kind: &str) -> Event {
    Event {
        time: format_time(SystemTime::now()),
        resource: resource.to_string(),
        volume: None,
        kind: kind.to_owned(),
        from: None,
        to: None,
        reason: None,
        bytes: None,
        split_brain: None,
    }
}

/// A notice as an event.
fn event(resource: &ResourceName, names: &Names, notice: &Notice) -> Event {
    let none = |role: &Option<rep_types::Role>| role.map_or("Unknown".to_owned(), |role| role.to_string());
    let change = |kind: &str, volume: Option<VolumeNumber>, from: String, to: String, why: &Why| Event {
        volume: volume.map(|volume| volume.0),
        from: Some(from),
        to: Some(to),
        reason: Some(why.to_string()),
        ..blank(resource, kind)
    };
    let told = |kind: &str, volume: VolumeNumber, reason: Option<String>, bytes: Option<u64>| Event {
        volume: Some(volume.0),
        reason,
        bytes,
        ..blank(resource, kind)
    };
    match notice {
        Notice::Role { from, to, why } => change("role", None, from.to_string(), to.to_string(), why),
        Notice::PeerRole { from, to, why } => change("peer_role", None, none(from), none(to), why),
        Notice::Connection { from, to, why } => change("connection", None, from.to_string(), to.to_string(), why),
        Notice::Disk { volume, from, to, why } => change("disk", Some(*volume), from.to_string(), to.to_string(), why),
        Notice::PeerDisk { volume, from, to, why } => {
            change("peer_disk", Some(*volume), from.to_string(), to.to_string(), why)
        }
        Notice::Replication { volume, from, to, why } => {
            change("replication", Some(*volume), from.to_string(), to.to_string(), why)
        }
        Notice::Decided { volume, decision, out_of_sync_bytes } => {
            let words = format!("{}: {}", decision.rule, explain(*decision));
            told("decided", *volume, Some(words), Some(*out_of_sync_bytes))
        }
        Notice::Refused { volume, decision } => {
            let words = format!("{}: {}", decision.rule, explain(*decision));
            told("decided", *volume, Some(words), None)
        }
        Notice::SplitBrain { volume, facts } => {
            let facts = split_brain::volume(*volume, facts, names);
            Event { split_brain: Some(facts.clone()), ..told("split_brain", *volume, Some(facts.words()), None) }
        }
        Notice::DecisionMismatch { volume, mine, peer } => {
            let words = format!("mine {}: {:?}, peer's {}: {:?}", mine.rule, mine.verdict, peer.rule, peer.verdict);
            told("decision_mismatch", *volume, Some(words), None)
        }
        Notice::CrashRecovered { volume, hot_extents, out_of_sync_bytes } => {
            let words = format!("{hot_extents} hot extents after a crash as Primary");
            told("crash_recovered", *volume, Some(words), Some(*out_of_sync_bytes))
        }
        Notice::MetadataDamaged { volume } => told("metadata_damaged", *volume, None, None),
        Notice::Archived { volume, saved_bytes } => told("archived", *volume, None, Some(*saved_bytes)),
        Notice::ArchiveFailed { volume } => told("archive_failed", *volume, None, None),
        Notice::ResyncFinished { volume, copied_bytes, equal_bytes } => {
            let equal = (*equal_bytes > 0).then(|| format!("{equal_bytes} bytes were equal and weren't copied"));
            told("resync_finished", *volume, equal, Some(*copied_bytes))
        }
        Notice::VerifyFinished { volume, different_bytes, marked_bytes } => {
            let mended = different_bytes.saturating_sub(*marked_bytes);
            let mended = (mended > 0).then(|| format!("{mended} bytes of that were made equal meanwhile"));
            told("verify_finished", *volume, mended, Some(*different_bytes))
        }
        Notice::Grown { volume, from_bytes, to_bytes } => Event {
            from: Some(from_bytes.to_string()),
            to: Some(to_bytes.to_string()),
            ..told("grown", *volume, None, Some(*to_bytes))
        },
        Notice::BlocksGrown { volume, from_bytes, to_bytes } => Event {
            from: Some(from_bytes.to_string()),
            to: Some(to_bytes.to_string()),
            ..told("blocks_grown", *volume, None, Some(u64::from(*to_bytes)))
        },
        Notice::FenceAnswered { answer } => {
            Event { reason: Some(answer.to_string()), ..blank(resource, "fence_answered") }
        }
        Notice::ErrorPassedOn { volume, write, range } => {
            let what = if *write { "write" } else { "read" };
            let words = range.map_or(what.to_owned(), |range| format!("{what} at byte {}", range.offset));
            told("error_passed_on", *volume, Some(words), range.map(|range| u64::from(range.length)))
        }
        Notice::LossTold { volume } => told("loss_told", *volume, None, None),
        Notice::ResyncNotAllowed { volume } => told("resync_not_allowed", *volume, None, None),
        Notice::PrimaryIsBehind => blank(resource, "primary_is_behind"),
        Notice::HandshakeWaits => blank(resource, "handshake_waits"),
        Notice::PeerRejoined => blank(resource, "peer_rejoined"),
        Notice::Forwarding { forwards } => Event {
            to: Some(forwards.to_string()),
            from: Some((!forwards).to_string()),
            ..blank(resource, "forwarding")
        },
        Notice::IoSuspended { suspended } => Event {
            to: Some(suspended.to_string()),
            from: Some((!suspended).to_string()),
            ..blank(resource, "io_suspended")
        },
    }
}
