//! One node: its disks, which outlive everything but a reinstall, and its daemon, which may be dead.

use crate::disk::{DataDisk, MetaDisk, Sectors};
use rep_engine::Engine;
use rep_meta::{BootId, MetaBlock};
use rep_types::{IoId, PayloadId};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A buffer of the shell's pool.
#[derive(Clone, Debug)]
pub struct Payload {
    /// One number a sector.
    pub sectors: Rc<Vec<u32>>,
    /// Whether it came with resync data.
    pub resync: bool,
}

/// The buffers the engine of a node owns.
#[derive(Debug, Default)]
pub struct Payloads {
    next: u32,
    held: BTreeMap<u32, Payload>,
}

impl Payloads {
    /// Gives the engine a buffer.
    pub fn give(&mut self, payload: Payload) -> PayloadId {
        self.next += 1;
        self.held.insert(self.next, payload);
        PayloadId(self.next)
    }

    /// The buffer, if the engine owns it.
    pub fn get(&self, id: PayloadId) -> Option<&Payload> {
        self.held.get(&id.0)
    }

    /// The buffer, to be filled by a read.
    pub fn get_mut(&mut self, id: PayloadId) -> Option<&mut Payload> {
        self.held.get_mut(&id.0)
    }

    /// Takes a buffer back; `None` when the engine didn't own it.
    pub fn take_back(&mut self, id: PayloadId) -> Option<Payload> {
        self.held.remove(&id.0)
    }

    /// How many the engine owns.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The daemon died.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}

/// Faults a disk has been told to have.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // the names say it
pub struct Faults {
    pub reads_once: u32,
    pub writes_once: u32,
    pub flushes_once: u32,
    pub metas_once: u32,
    pub reads_sticky: bool,
    pub writes_sticky: bool,
    pub hangs_until: u64,
}

/// What an operation does.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the names say it
pub enum OpKind {
    Write {
        sectors: Sectors,
        values: Rc<Vec<u32>>,
        durable: bool,
    },
    Zero {
        sectors: Sectors,
        durable: bool,
    },
    /// `clashes`: a write of the same sectors was under way at the same time; what is read is anything. `digests`: each
    /// block's digest is told instead of the data.
    Read {
        sectors: Sectors,
        into: Option<PayloadId>,
        values: Vec<u32>,
        clashes: bool,
        digests: bool,
    },
    Flush {
        covers_later: bool,
    },
    Meta {
        offset: u64,
        block: MetaBlock,
    },
}

impl OpKind {
    /// The sectors of data it touches.
    pub fn sectors(&self) -> Option<Sectors> {
        match self {
            OpKind::Write { sectors, .. } | OpKind::Zero { sectors, .. } | OpKind::Read { sectors, .. } => {
                Some(*sectors)
            }
            OpKind::Flush { .. } | OpKind::Meta { .. } => None,
        }
    }

    /// Whether it changes data.
    pub fn writes_data(&self) -> bool {
        matches!(self, OpKind::Write { .. } | OpKind::Zero { .. })
    }
}

/// An operation in flight on a disk.
#[derive(Clone, Debug)]
pub struct DiskOp {
    /// As the engine names it.
    pub io: IoId,
    /// Which volume.
    pub volume: usize,
    /// What.
    pub kind: OpKind,
    /// What brought it.
    pub brought: crate::thin::Brought,
    /// Whether the disk has done it; only the report is missing.
    pub done: Option<Result<(), rep_types::IoError>>,
}

/// A volume's disk on one node.
#[derive(Debug)]
pub struct VolumeDisk {
    /// Data.
    pub data: DataDisk,
    /// Metadata.
    pub meta: MetaDisk,
    /// Bytes of the backing device.
    pub device_bytes: u64,
    /// How it is laid out, before and after it has grown.
    pub geometry: crate::grow::Geometry,
    /// Whether the engine has it: from `Attached` to `CloseDisk`.
    pub attached: bool,
    /// Whether the before-resync-target handler has allowed the resync decided last.
    pub resync_allowed: bool,
    /// Bytes of a logical block.
    pub block_bytes: u32,
    /// Its last attach was refused, since the size it remembers isn't whole blocks.
    pub not_whole_blocks: bool,
    /// Whether it says that it may have a volatile cache; it always has one.
    pub says_volatile: bool,
    /// The device that its last daemon left behind.
    pub left: Option<rep_types::LeftDevice>,
    /// What the engine offers to clients.
    pub exported: Option<rep_engine::Offer>,
    /// Whether they were told of no volatile cache.
    pub told_stable: bool,
    /// Clients that have it open.
    pub openers: u32,
    /// A client has heard of an error since the link went and this disk alone was there, Inconsistent.
    pub refused_alone: bool,
    /// Since when its engine should have given it up for its silence.
    pub overdue_since: Option<u64>,
    /// What is broken.
    pub faults: Faults,
    /// What happens to its metadata at rest.
    pub rot: crate::rot::RotState,
}

/// A node.
#[derive(Debug)]
pub struct NodeState {
    /// The daemon's engine; `None` while it is dead.
    pub engine: Option<Engine>,
    /// Counts lives of the daemon.
    pub life: u32,
    /// The boot the node is in.
    pub boot: BootId,
    /// Added to the simulation's clock for this node's.
    pub skew: u64,
    /// Disks.
    pub volumes: Vec<VolumeDisk>,
    /// Operations in flight.
    pub ops: BTreeMap<u64, DiskOp>,
    /// Disk operations ended before everything was healed.
    pub ops_ended: u64,
    /// Buffers.
    pub payloads: Payloads,
    /// With what its engine is doing just now it ends the connection.
    pub parts: bool,
    /// Whether the engine wants a connection.
    pub wants_link: bool,
    /// When the earliest timer that stands in the queue is due.
    pub timer: Option<u64>,
    /// The operator is closing the device: no new requests.
    pub closing: bool,
    /// When a cache of it was last lost: with the power, or to a failed flush.
    pub lost_cache_at: u64,
    /// When its last handshake ended.
    pub decided_at: u64,
    /// When it last became Primary.
    pub promoted_at: u64,
    /// The operator wants it down for now (a step restarts it).
    pub down_until: u64,
}

impl NodeState {
    /// Operations in flight on a volume.
    pub fn in_flight(&self, volume: usize) -> usize {
        self.ops.values().filter(|op| op.volume == volume).count()
    }

    /// Whether the daemon lives.
    pub fn is_up(&self) -> bool {
        self.engine.is_some()
    }
}
