//! Notices as log lines: exactly one a transition, at level info, and warnings for what should never be.

use rep_engine::{Notice, explain};
use rep_types::Role;
use std::fmt;
use tracing::{info, warn};

struct PeerRole(Option<Role>);

impl fmt::Display for PeerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(role) => role.fmt(f),
            None => f.write_str("Unknown"),
        }
    }
}

/// Logs a notice. The span names the resource and the peer.
pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::Role { from, to, why } => info!("role: {from} -> {to} ({})", why),
        Notice::PeerRole { from, to, why } => {
            info!("peer role: {} -> {} ({})", PeerRole(*from), PeerRole(*to), why);
        }
        Notice::Connection { from, to, why } => info!("connection: {from} -> {to} ({})", why),
        Notice::Disk { volume, from, to, why } => info!(%volume, "disk: {from} -> {to} ({})", why),
        Notice::PeerDisk { volume, from, to, why } => info!(%volume, "peer disk: {from} -> {to} ({})", why),
        Notice::Replication { volume, from, to, why } => {
            info!(%volume, "replication: {from} -> {to} ({})", why);
        }
        Notice::Decided { volume, decision, out_of_sync_bytes } => {
            info!(%volume, out_of_sync_bytes, "handshake: {}: {}", decision.rule, explain(*decision));
        }
        Notice::Refused { volume, decision } => {
            info!(%volume, "handshake: {}: {}", decision.rule, explain(*decision));
        }
        Notice::SplitBrain { volume, facts } => {
            warn!(
                %volume,
                rule = %facts.rule,
                unsettled = %facts.unsettled,
                dirty_bytes = facts.mine.dirty_bytes,
                peer_dirty_bytes = facts.peer.dirty_bytes,
                "split brain: both nodes went on apart; nothing is given up before somebody says whose data stay"
            );
        }
        Notice::DecisionMismatch { volume, mine, peer } => {
            warn!(%volume, ?mine, ?peer, "the nodes' decisions contradict each other: refused");
        }
        Notice::CrashRecovered { volume, hot_extents, out_of_sync_bytes } => {
            info!(%volume, hot_extents, out_of_sync_bytes, "crashed as Primary: what was being written is out-of-sync");
        }
        Notice::MetadataDamaged { volume } => {
            warn!(%volume, "a part of the metadata was damaged: what it covered is out-of-sync");
        }
        Notice::Archived { volume, saved_bytes } => {
            info!(%volume, saved_bytes, "split brain: this node's data are archived, now they are given up");
        }
        Notice::ArchiveFailed { volume } => {
            warn!(%volume, "split brain: this node's data could not be archived, so they aren't given up");
        }
        Notice::ResyncFinished { volume, copied_bytes, equal_bytes } => {
            info!(%volume, copied_bytes, equal_bytes, "resync: finished");
        }
        Notice::VerifyFinished { volume, different_bytes: 0, .. } => info!(%volume, "verify: finished, no difference"),
        Notice::VerifyFinished { volume, different_bytes, marked_bytes: 0 } => {
            warn!(%volume, different_bytes, "verify: the disks differed; what did has been made equal meanwhile");
        }
        Notice::VerifyFinished { volume, different_bytes, marked_bytes } => {
            warn!(%volume, different_bytes, marked_bytes, "verify: the disks differ; what does is marked out-of-sync");
        }
        Notice::BlocksGrown { volume, from_bytes, to_bytes } => info!(
            %volume,
            "logical blocks: {from_bytes} -> {to_bytes} bytes, since one of the disks needs that: partition tables and \
             file systems made with {from_bytes} may have to be made anew"
        ),
        Notice::Grown { volume, from_bytes, to_bytes } => info!(%volume, "size: {from_bytes} -> {to_bytes}"),
        Notice::FenceAnswered { answer } if answer.is_safe() => info!("fencing: {answer}, it can't go on"),
        Notice::FenceAnswered { answer } => warn!("fencing: {answer}; whether it goes on isn't known"),
        Notice::ErrorPassedOn { volume, write, range } => {
            let what = if *write { "write" } else { "read" };
            let (offset, length) = range.map_or((0, 0), |range| (range.offset, range.length));
            warn!(%volume, offset, length, "disk: a {what} failed; it holds the only good data and is kept, the error is passed on");
        }
        Notice::LossTold { volume } => warn!(
            %volume,
            "flush: answered with an error, so that clients know: what they wrote since the flush before may be lost, since \
             the only good copy lost its cache, or couldn't be flushed"
        ),
        Notice::ResyncNotAllowed { volume } => {
            warn!(%volume, "resync: the before-resync-target handler said no; nothing is overwritten, the nodes stay apart");
        }
        Notice::PrimaryIsBehind => warn!("handshake: this node is Primary, and the peer's data are newer: refused"),
        Notice::HandshakeWaits => warn!(
            "handshake: a disk has come and takes no writes of the peer's yet, since another volume's resync is under way; the peer \
             is of an older version, and would have this node fenced if the connection were closed for that. It is filled once \
             that resync has ended, or at once after 'repctl disconnect' and 'repctl connect' here"
        ),
        Notice::PeerRejoined => info!("fencing: the peer follows again"),
        Notice::Forwarding { forwards: true } => {
            info!("device: open without the role, its requests are forwarded to the peer")
        }
        Notice::Forwarding { forwards: false } => info!("device: nothing is forwarded any more"),
        Notice::IoSuspended { suspended: true } => info!("client I/O: held back"),
        Notice::IoSuspended { suspended: false } => info!("client I/O: goes on"),
    }
}
