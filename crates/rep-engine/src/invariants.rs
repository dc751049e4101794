//! What must hold after every event, checked in tests and in the simulator.

use crate::Engine;
use crate::operation::Leg;
use crate::operator::Step;
use crate::volume::Volume;
use rep_meta::{DataState, PrimaryMark};
use rep_types::{BLOCK_SIZE, ConnectionState, DiskState, ReplicationState, Role};

impl Engine {
    /// Panics when an invariant doesn't hold. For tests and the simulator: after every event.
    pub fn assert_invariants(&self) {
        self.epochs.assert_invariants();
        self.assert_pacing_invariants();
        self.assert_forwarding_invariants();
        self.assert_resync_landings();
        self.assert_nobody_waits_in_vain();
        let recording = self.volumes.iter().filter(|volume| volume.recording.is_some()).count();
        assert_eq!(recording as u32, self.recording, "the count of losses being recorded");
        assert_eq!(self.fence_held, self.fence_keeps(), "clients are held back as fencing says");
        assert!(self.held.is_empty() || self.answers_wait(), "answers are held only while a loss is being settled");
        assert!(self.runnable.is_empty(), "everything runnable has been started");
        for volume in &self.volumes {
            volume.assert_invariants(self.is_connected());
        }
        self.assert_view_holds_still();
        if self.link.is_none() {
            assert!(self.ops.iter().all(|(_, op)| op.peer != Leg::Open), "a leg open without a link");
        }
        if self.role == Role::Primary && !self.is_unmarking() {
            for volume in self.volumes.iter().filter(|volume| volume.local.is_some() && volume.attaching.is_none()) {
                volume.assert_marked_primary();
            }
        }
    }
}

impl Engine {
    /// R17: from when our view is told until both have compared what follows from it, generations are as it says. What the
    /// peer decides by it would else leave out what this node knows it lacks. Who takes its leave has said so before.
    fn assert_view_holds_still(&self) {
        if self.connection == ConnectionState::Disconnecting {
            return;
        }
        for (number, told) in self.generations_told() {
            let local = self.volume_index(number).and_then(|index| self.volumes[index].local.as_ref());
            let now = local.map(|local| local.superblock().generations);
            assert!(
                now.is_none_or(|now| now == told),
                "volume {number}: {told:?} were told in a handshake, now {now:?}"
            );
        }
    }

    /// A demotion takes the mark away before the role: nothing is written for a client any more.
    fn is_unmarking(&self) -> bool {
        let step = self.transition.as_ref().and_then(|transition| transition.steps.front());
        matches!(step, Some(Step::Demote(_)))
    }
}

impl Volume {
    fn assert_invariants(&self, connected: bool) {
        self.table.assert_invariants();
        let number = self.number;
        match &self.local {
            None => assert!(
                matches!(self.disk, DiskState::Diskless | DiskState::Failed),
                "volume {number}: {} without a disk",
                self.disk
            ),
            Some(local) => {
                assert!(self.disk_block_bytes <= self.block_bytes, "volume {number}: BS-1, its disk has larger blocks");
                let whole = self.size_bytes.is_multiple_of(u64::from(self.block_bytes));
                assert!(whole, "volume {number}: BS-3, {} bytes in blocks of {}", self.size_bytes, self.block_bytes);
                local.bitmap().assert_invariants();
                local.log.assert_invariants();
                assert!(
                    local.verified.marked_bytes() <= local.bitmap().count() * BLOCK_SIZE,
                    "volume {number}: a verify counts as marked what isn't"
                );
                assert_ne!(self.disk, DiskState::Diskless, "volume {number}: Diskless with a disk");
                if self.disk == DiskState::UpToDate {
                    let data = local.superblock().data;
                    assert_eq!(
                        data,
                        DataState::Consistent,
                        "volume {number}: UpToDate, but wanted as {data:?} on disk"
                    );
                }
            }
        }
        if self.replication.is_resync() {
            assert!(self.resync.is_some(), "volume {number}: {} without a resync", self.replication);
        }
        if self.replication == ReplicationState::Off {
            assert!(self.resync.is_none(), "volume {number}: a resync without replication");
            let mirrored = !self.unflushed.current.is_empty() || !self.unflushed.closing.is_empty();
            assert!(!mirrored, "volume {number}: unflushed on a peer that is gone");
            assert_eq!(self.in_sync.count(), 0, "volume {number}: bits about to clear without a peer");
        }
        self.assert_peer_disk_followed_up();
        // R16: UpToDate on both sides, connected and established means nothing is out-of-sync (I-B10).
        let equal = self.disk == DiskState::UpToDate && self.peer_disk == DiskState::UpToDate;
        let settled = self.replication == ReplicationState::Established && self.recording.is_none();
        // A source that lets go of its disk may not have heard yet that its target is none that is UpToDate.
        let excused = self.found_different || self.growth.is_under_way() || self.detaching;
        if connected && equal && settled && !excused {
            assert_eq!(self.out_of_sync_blocks(), 0, "volume {number}: out-of-sync blocks on equal disks");
        }
    }

    /// R3, R13: once the peer's disk takes no writes, nothing goes on as if it did: what it hadn't flushed has been marked,
    /// no bit is about to clear, no range is locked for a resync that nobody pulls.
    fn assert_peer_disk_followed_up(&self) {
        if self.peer_disk.takes_writes() {
            return;
        }
        let number = self.number;
        let unflushed = self.unflushed.current.count() + self.unflushed.closing.count();
        assert_eq!(unflushed, 0, "volume {number}: unflushed on a disk of the peer's that is gone, and not marked");
        assert_eq!(self.in_sync.count(), 0, "volume {number}: bits about to clear for a disk that is gone");
        let pulled = |resync: &crate::resync::Resync| resync.is_source() && resync.peer_takes_writes();
        assert!(!self.resync.as_ref().is_some_and(pulled), "volume {number}: a resync to a disk that is gone");
    }

    /// I-D8: the Primary mark is on disk before anything is written for a client.
    fn assert_marked_primary(&self) {
        if let Some(local) = &self.local {
            let mark = local.superblock().primary;
            let number = self.number;
            assert!(mark == PrimaryMark::Primary || self.disk != DiskState::UpToDate, "volume {number}: {mark:?}");
        }
    }
}
