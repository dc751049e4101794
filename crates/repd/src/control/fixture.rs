//! States to word, for the tests of the modules beside this.

use rep_engine::{Counters, Snapshot, VolumeSnapshot};
use rep_types::{ConnectionState, DiskState, ReplicationState, Role, VolumeNumber};

/// A volume in sync.
pub fn volume() -> VolumeSnapshot {
    VolumeSnapshot {
        number: VolumeNumber(0),
        block_bytes: 512,
        discards: true,
        volatile_cache: None,
        size_bytes: 1 << 30,
        room: None,
        peer_room: None,
        growing: false,
        openers: 0,
        disk: DiskState::UpToDate,
        disk_unanswered: None,
        old_operations: 0,
        peer_disk: DiskState::UpToDate,
        waits_for_data: false,
        replication: ReplicationState::Established,
        out_of_sync_bytes: 0,
        resync: None,
        archived_bytes: None,
        verify: None,
        verify_run: None,
        last_decision: None,
        split_brain: None,
        compares: false,
        peer_generations: None,
        peer_out_of_sync_bytes: 0,
        divergence: None,
        peer_divergence: None,
        generations: None,
        hot_extents: 0,
        hot_extents_max: 0,
        counters: Counters::default(),
    }
}

/// A resource with one volume.
pub fn engine(role: Role, connection: ConnectionState, volume: VolumeSnapshot) -> Snapshot {
    let (peer_role, io_suspended, promotion_refused) = (None, None, None);
    Snapshot {
        role,
        peer_role,
        connection,
        io_suspended,
        resync_refused: false,
        fence: None,
        last_primary: true,
        forwarding: None,
        promoting: false,
        peer_forwards: false,
        promotion_refused,
        apart_from: None,
        pacing: None,
        volumes: vec![volume],
    }
}
