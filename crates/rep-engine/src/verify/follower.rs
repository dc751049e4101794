//! The verify the peer leads: its ranges are locked and read here, and what it says differs is marked.

use super::halted_by;
use crate::Engine;
use crate::action::Why;
use crate::event::Timestamp;
use crate::limits;
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Requester, Stage};
use crate::slab::Key;
use crate::snapshot::VerifySnapshot;
use crate::volume::Volume;
use rep_types::{BLOCK_SIZE, ByteRange, DigestKey, IoError, LinkCause, ReplicationState, VolumeNumber, planted};
use rep_wire::{ControlMessage, TransferId};

/// A verify the peer leads.
#[derive(Debug)]
pub(crate) struct Follows {
    /// Tells verifies apart.
    pub serial: u64,
    started: Timestamp,
    /// How far it is, in bytes; `None`: no range was asked for yet. Of ranges under way at once the one furthest on
    /// that has been compared counts, so that this may be ahead of the leader by those.
    done_bytes: Option<u64>,
    /// Bytes compared since it began or went on.
    compared_bytes: u64,
    different_blocks: u64,
}

impl Follows {
    fn compared(&mut self, range: ByteRange, different_blocks: u64) {
        self.done_bytes = self.done_bytes.max(Some(range.end()));
        self.compared_bytes += u64::from(range.length);
        self.different_blocks += different_blocks;
    }

    pub(crate) fn snapshot(&self, volume: &Volume, now: Timestamp) -> Option<VerifySnapshot> {
        let age = now.since(self.started).as_millis().max(1) as u64;
        Some(VerifySnapshot {
            total_bytes: volume.size_bytes,
            done_bytes: self.done_bytes?,
            different_bytes: self.different_blocks * BLOCK_SIZE,
            rate_bytes_per_s: self.compared_bytes * 1000 / age,
            halted_by: halted_by(volume),
        })
    }
}

impl Engine {
    /// The peer leads a verify, or ends it.
    pub(crate) fn peer_verifies(&mut self, number: VolumeNumber, running: bool) {
        let Some(index) = self.volume_index(number) else { return };
        let volume = &self.volumes[index];
        let mirrored = volume.takes_local_writes() && volume.mirrors(self.is_connected());
        match (running, volume.replication) {
            // A disk on its way out doesn't get what is written meanwhile; asked for digests, this node tells none.
            (true, _) if !mirrored => {}
            (true, ReplicationState::Established) => self.follow_verify(index),
            // Both began at the same moment: the node whose name sorts first leads.
            (true, ReplicationState::VerifyS) if !self.config.sorts_first => {
                self.stop_verify(index, Why::Peer);
                self.follow_verify(index);
            }
            (false, ReplicationState::VerifyT) => self.stop_verify(index, Why::Peer),
            _ => {}
        }
    }

    fn follow_verify(&mut self, index: usize) {
        let follows = Follows {
            serial: self.next_serial(),
            started: self.now,
            done_bytes: None,
            compared_bytes: 0,
            different_blocks: 0,
        };
        self.volumes[index].follows = Some(follows);
        self.set_replication(index, ReplicationState::VerifyT, Why::Peer);
    }

    /// The peer wants to compare a range.
    pub(crate) fn digests_asked(&mut self, id: TransferId, number: VolumeNumber, range: ByteRange, key: DigestKey) {
        let index = self.volume_index(number);
        let following = index.and_then(|index| Some((index, self.volumes[index].follows.as_ref()?.serial)));
        let Some((index, serial)) = following else {
            return self.send(ControlMessage::Digests { id, digests: Vec::new() }, None);
        };
        let aligned = range.offset.is_multiple_of(BLOCK_SIZE) && self.volumes[index].may_be_asked_for(range);
        let open = self.ops.iter().filter(|(_, op)| matches!(op.kind, OperationKind::VerifyFollow { .. })).count();
        if !aligned
            || u64::from(range.length) > limits::VERIFY_LENGTH_MAX
            || open >= limits::VERIFY_REQUESTS_ACCEPTED_MAX
        {
            return self.drop_link(LinkCause::Protocol);
        }
        let volume = &mut self.volumes[index];
        volume.verify_key = key;
        if let Some(follows) = &mut volume.follows {
            follows.done_bytes.get_or_insert(range.offset);
        }
        self.insert_operation(
            Requester::Nobody,
            index,
            range,
            None,
            OperationKind::VerifyFollow { transfer: id, serial },
        );
    }

    /// The range the peer asked for is locked: read it.
    pub(crate) fn verify_follow_locked(&mut self, key: Key, op: Operation) {
        let now = self.now;
        let volume = &self.volumes[op.volume];
        let (digest_key, readable) = (volume.verify_key, volume.local.is_some());
        if !readable {
            return self.end_operation(key, Err(IoError::Io));
        }
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.peer, op.stage, op.started) = (Leg::Open, Leg::Open, Stage::UnderWay, now);
        }
        self.digest(op, IoPurpose::VerifyRead(key), digest_key);
    }

    /// The peer has compared a range.
    pub(crate) fn digests_compared(&mut self, id: TransferId, different: &[u16]) {
        let named = |kind| matches!(kind, OperationKind::VerifyFollow { transfer, .. } if transfer == id);
        let awaited = |op: &Operation| named(op.kind) && op.local == Leg::Done;
        let Some((key, op)) = self.ops.iter().find(|(_, op)| awaited(op)).map(|(key, op)| (key, *op)) else { return };
        let blocks = op.range.blocks_touched().count;
        if different.last().is_some_and(|last| u64::from(*last) >= blocks) {
            return self.drop_link(LinkCause::Protocol);
        }
        if let Some(follows) = &mut self.volumes[op.volume].follows {
            follows.compared(op.range, different.len() as u64);
        }
        if !planted!("verify-unmarked-by-follower") {
            self.mark_different(op, different);
        }
        self.end_operation(key, Ok(()));
    }
}
