//! The engine's state as operators see it.

use crate::Engine;
use crate::event::Timestamp;
use crate::resync::PacingSnapshot;
use crate::snapshot::{IoSuspension, Snapshot, VolumeSnapshot};
use crate::volume::Volume;
use rep_types::{BLOCK_SIZE, Role};

impl Engine {
    /// How resyncs yield to this node's clients. Cheap: for whoever looks after every event.
    pub fn pacing(&self) -> PacingSnapshot {
        self.pacing.snapshot()
    }

    /// Whether the metadata of every volume say that this node was Primary last.
    fn was_primary_last(&self) -> bool {
        let was = |volume: &Volume| volume.local.as_ref().is_some_and(|local| local.superblock().last_primary);
        self.volumes.iter().all(was)
    }

    /// The state as operators see it.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let io_suspended = if self.suspended {
            Some(IoSuspension::Operator)
        } else if self.fence_holds() {
            Some(IoSuspension::Fencing)
        } else if self.forwards_wait() {
            Some(IoSuspension::Forwarding)
        } else if self.data_is_awaited() {
            Some(IoSuspension::NoData)
        } else {
            (self.recording > 0).then_some(IoSuspension::RecordingLoss)
        };
        let promotion_refused = match self.role {
            Role::Primary => None,
            Role::Secondary => self.promotion_refusal(false).or_else(|| self.fence_refusal()),
        };
        Snapshot {
            role: self.role,
            peer_role: self.peer_role,
            connection: self.connection,
            io_suspended,
            resync_refused: self.resync_refused,
            fence: self.fence_snapshot(),
            last_primary: self.was_primary_last(),
            forwarding: self.forwarding_snapshot(),
            promoting: self.is_changing_role(),
            peer_forwards: self.role == Role::Primary && self.peer_forwards(),
            promotion_refused,
            apart_from: self.peer_met.filter(|_| self.apart),
            pacing: (self.role == Role::Primary).then(|| self.pacing.snapshot()),
            volumes: (0..self.volumes.len())
                .map(|index| VolumeSnapshot {
                    waits_for_data: self.is_starved(index),
                    disk_unanswered: self.unanswered_for(index, now),
                    old_operations: self.old_operations(index),
                    volatile_cache: self.volumes[index].offered_bytes.map(|_| !self.answers_stable()),
                    ..volume_snapshot(&self.volumes[index], now)
                })
                .collect(),
        }
    }
}

fn volume_snapshot(volume: &Volume, now: Timestamp) -> VolumeSnapshot {
    let local = volume.local.as_ref();
    VolumeSnapshot {
        number: volume.number,
        size_bytes: volume.size_bytes,
        block_bytes: volume.block_bytes,
        discards: volume.discards(),
        volatile_cache: None,
        room: local.map(|local| local.room()),
        peer_room: volume.growth.peer_room,
        growing: volume.growth.is_under_way(),
        openers: volume.openers,
        disk: volume.disk,
        peer_disk: volume.peer_disk,
        disk_unanswered: None,
        old_operations: 0,
        waits_for_data: false,
        replication: volume.replication,
        out_of_sync_bytes: volume.out_of_sync_blocks() * BLOCK_SIZE,
        resync: volume.resync_snapshot(now),
        archived_bytes: volume.archived_bytes(),
        verify: volume.verify_snapshot(now),
        verify_run: volume.verify_run(now),
        last_decision: volume.last_decision,
        split_brain: volume.split_brain(),
        compares: volume.compares,
        peer_generations: volume.peer_told.map(|told| told.generations),
        peer_out_of_sync_bytes: volume.peer_told.map_or(0, |told| told.out_of_sync_blocks * BLOCK_SIZE),
        divergence: local
            .map(|local| local.superblock())
            .filter(|own| !own.generations.bitmap.is_none())
            .map(|own| own.divergence),
        peer_divergence: volume.peer_told.map(|told| told.divergence),
        generations: local.map(|local| local.superblock().generations),
        hot_extents: local.map_or(0, |local| local.log.hot_count()),
        hot_extents_max: local.map_or(0, |local| local.log.capacity()),
        counters: volume.counters,
    }
}
