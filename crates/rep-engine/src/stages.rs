//! Where the time of clients' requests goes: a histogram for each part of their way, always on.
//!
//! ```text
//!                                        ┌─ local ─► local_done ──┐
//! received ── queue ─► its turn ── log ──┤                        ├─► completed
//!                                        └─ peer ──► peer_acked ──┘
//! ```

use crate::Engine;
use crate::latencies::Latencies;
use crate::operation::{Operation, OperationKind};
use rep_types::VolumeNumber;

/// How long each part took, of one volume's requests, since the resource came up. As exact as the moments the engine is
/// told: what begins and ends within one turn of the data path's loop took no time.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct StageLatencies {
    /// Of writes: until nothing stood in the way, neither an earlier request on the range nor I/O held back.
    pub queue: Latencies,
    /// Of writes: until their extents were in the activity log.
    pub log: Latencies,
    /// Of writes: this node's disk.
    pub local: Latencies,
    /// Of writes: the link to the peer, its disk, and back.
    pub peer: Latencies,
    /// FLUSHes, from received to completed.
    pub flush: Latencies,
    /// Writes, discards and write-zeroes, from received to completed.
    pub write: Latencies,
    /// Reads, from received to completed.
    pub read: Latencies,
}

impl StageLatencies {
    /// All of them, by the names operators see.
    pub fn by_name(&self) -> [(&'static str, &Latencies); 7] {
        [
            ("queue", &self.queue),
            ("log", &self.log),
            ("local", &self.local),
            ("peer", &self.peer),
            ("flush", &self.flush),
            ("write", &self.write),
            ("read", &self.read),
        ]
    }
}

impl Engine {
    /// Where the time of a volume's requests went.
    pub fn latencies(&self, volume: VolumeNumber) -> Option<&StageLatencies> {
        self.volume_index(volume).map(|index| &*self.volumes[index].stages)
    }

    /// A write's legs open.
    pub(crate) fn note_submitted(&mut self, op: &Operation, local: bool) {
        let turn = op.turn.unwrap_or(self.now);
        let stages = &mut self.volumes[op.volume].stages;
        stages.queue.note(turn.since(op.received));
        if local {
            stages.log.note(self.now.since(turn));
        }
    }

    /// A request is answered.
    pub(crate) fn note_answered(&mut self, op: &Operation) {
        let took = self.now.since(op.received);
        let stages = &mut self.volumes[op.volume].stages;
        if op.kind == OperationKind::Read {
            stages.read.note(took);
        } else if op.kind.is_client_write() {
            stages.write.note(took);
        }
    }
}
