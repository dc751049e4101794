//! `on-io-error = "pass-on"`: disks that fail where they are all there is, and are kept (R32).
//!
//! That a write which only the target of a resync has is marked is seen when the disks are compared; that no error is
//! answered as done, when answers are.

use crate::counters::Sometimes;
use crate::disk::Sectors;
use crate::failure::Kind;
use crate::world::World;
use rep_types::{ByteRange, ConnectionState, DiskState, OnIoError, ReplicationState};

/// Per mille of the resyncs whose source's disk fails once, sooner or later.
const STRAINED: u32 = 400;

impl World {
    /// A resync begins: its source's disk may fail at one of the next writes or reads.
    pub(crate) fn strain_source(&mut self, node: usize, volume: usize, to: ReplicationState) {
        let source = to == ReplicationState::SyncSource && !self.operator.healing;
        if !source || self.swarm.on_io_error != OnIoError::PassOn || !self.dice.misc.chance(STRAINED) {
            return;
        }
        let faults = &mut self.nodes[node].volumes[volume].faults;
        if crate::rng::mix(self.now) & 3 == 0 {
            faults.reads_once += 1;
        } else {
            faults.writes_once += 1;
        }
    }

    /// An engine keeps a disk that failed: only where it passes errors on, and there is no other good one.
    pub(crate) fn error_passed_on(&mut self, node: usize, volume: usize, write: bool, range: Option<ByteRange>) {
        let failed = range.map(Sectors::of);
        self.nodes[node].volumes[volume].data.look_again();
        for asked in self.clients.outstanding.values_mut().filter(|asked| asked.volume == volume) {
            let overlaps = |failed: Sectors| {
                let (first, count) = asked.op.sectors();
                first < failed.first + failed.count && failed.first < first + count
            };
            asked.passed_on |= failed.is_none_or(overlaps);
        }
        let Some(snapshot) = self.snapshot(node) else { return };
        let of = &snapshot.volumes[volume];
        let source = matches!(of.replication, ReplicationState::SyncSource | ReplicationState::PausedSyncS);
        self.seen(if write { Sometimes::WriteErrorPassedOn } else { Sometimes::ReadErrorPassedOn });
        if source {
            self.seen(if write { Sometimes::WriteErrorBesideTarget } else { Sometimes::ReadErrorOfSource });
        }
        let elsewhere = snapshot.connection == ConnectionState::Connected && of.peer_disk == DiskState::UpToDate;
        if self.swarm.on_io_error != OnIoError::PassOn || elsewhere && !write {
            let detail =
                format!("node {node} volume {volume} keeps a disk that failed, its peer's is {}", of.peer_disk);
            self.fail(Kind::WrongData, "I-F1", detail);
        }
    }
}
