//! Operations under way: clients' requests and the locks of a resync, each an entry of one slab.

use crate::event::Timestamp;
use crate::slab::Key;
use rep_types::planted;
use rep_types::{ByteRange, PayloadId, RequestId, SessionId, ZeroMode};
use rep_wire::TransferId;

/// Who is told how a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Requester {
    /// A client of this node's device.
    Client(RequestId),
    /// A client of the peer's device, which forwards.
    Peer(ForwardedId),
    /// Nobody: a lock of a resync or a verify.
    Nobody,
}

/// A request the peer forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ForwardedId {
    /// The forwarding it belongs to.
    pub lease: u64,
    /// Its number there.
    pub id: TransferId,
}

/// One of the two places an operation goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leg {
    /// It doesn't go there.
    Unused,
    /// Under way.
    Open,
    /// Done well.
    Done,
    /// Answered with an error, or lost with the link or the disk.
    Failed,
}

impl Leg {
    pub fn is_closed(self) -> bool {
        self != Leg::Open
    }
}

/// What an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OperationKind {
    /// A client's write.
    Write { fua: bool },
    /// A client's discard or write-zeroes.
    Zero { mode: ZeroMode, fua: bool },
    /// A client's read.
    Read,
    /// As resync source: the peer asked for this range; locked until it acknowledges (R22).
    ResyncSource { transfer: TransferId },
    /// As resync target: this range was asked for; locked until it is written (R22).
    ResyncTarget {
        /// Which resync; a write may land after its resync has ended.
        serial: u64,
    },
    /// As resync target: this range is compared before it is pulled; locked until the source has answered.
    ResyncCompare {
        /// Which resync.
        serial: u64,
    },
    /// As resync source: the peer wants this range compared; locked until we have answered.
    ResyncCompareFor { transfer: TransferId },
    /// As leader of a verify: locked until both sides' digests have been compared.
    VerifyLead {
        /// Which verify.
        serial: u64,
    },
    /// The peer leads a verify: locked until it has compared.
    VerifyFollow {
        /// The peer's name for it.
        transfer: TransferId,
        /// Which verify.
        serial: u64,
    },
}

impl OperationKind {
    /// Whether it excludes every other operation on its range.
    pub fn is_exclusive(self) -> bool {
        let shared = matches!(self, Self::Read | Self::ResyncSource { .. }) || self.is_verify() || self.is_comparison();
        !shared && !planted!("no-overlap-check")
    }

    pub fn is_verify(self) -> bool {
        matches!(self, Self::VerifyLead { .. } | Self::VerifyFollow { .. })
    }

    /// Whether it waits for nothing: a bug to be planted.
    pub fn runs_at_once(self) -> bool {
        self.is_verify() && planted!("verify-beside-writes")
    }

    /// Whether it compares a range for a resync.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::ResyncCompare { .. } | Self::ResyncCompareFor { .. })
    }

    pub fn is_client_write(self) -> bool {
        matches!(self, Self::Write { .. } | Self::Zero { .. })
    }

    pub fn is_fua(self) -> bool {
        matches!(self, Self::Write { fua: true } | Self::Zero { fua: true, .. })
    }

    /// The same, and stable when it is answered.
    pub fn with_fua(self) -> Self {
        match self {
            Self::Write { .. } => Self::Write { fua: true },
            Self::Zero { mode, .. } => Self::Zero { mode, fua: true },
            other => other,
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Earlier operations on its range aren't done, or it is held back, or its extents aren't in the log yet.
    Waiting,
    /// Its legs are open.
    UnderWay,
    /// Both disks have it; it waits for the flush that FUA asks for.
    Flushing,
    /// Done; its answer waits, and should the data go before that, it is done again (`starved`).
    Answering,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// Who asked for it.
    pub requester: Requester,
    /// Position in the engine's list of volumes.
    pub volume: usize,
    pub kind: OperationKind,
    pub range: ByteRange,
    /// The client's buffer, or the resync's.
    pub payload: Option<PayloadId>,
    /// Earlier operations it waits for.
    pub blockers: u32,
    pub stage: Stage,
    pub local: Leg,
    pub peer: Leg,
    /// Disk operations that are out for a resync's request: its local leg is done with the last.
    pub landing: u32,
    /// Whether it holds references on its extents in the activity log.
    pub holds_log: bool,
    /// A write whose legs write through: done, it is stable where it went.
    pub written_through: bool,
    /// A write the only good disk failed at, and was kept: an error, whatever the peer answers.
    pub passed_on: bool,
    /// When it came.
    pub received: Timestamp,
    /// When it came, or what held it back for another reason than a resync was over.
    pub arrived: Timestamp,
    /// When nothing but the activity log stood in its way any more.
    pub turn: Option<Timestamp>,
    /// When its legs opened.
    pub started: Timestamp,
}

impl Operation {
    pub fn both_closed(&self) -> bool {
        self.local.is_closed() && self.peer.is_closed()
    }

    /// Whether nothing of it, now that its legs are closed, is in a volatile cache only. What landed of a write that failed
    /// may be.
    pub fn is_stable(&self) -> bool {
        self.written_through && !self.passed_on && self.local != Leg::Failed && self.peer != Leg::Failed
    }
}

/// What a disk or metadata operation was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IoPurpose {
    /// The local leg of a client's write, discard or write-zeroes.
    ClientWrite(Key),
    /// A client's read.
    ClientRead(Key),
    /// A write that came from the peer.
    PeerWrite(Key),
    /// A read for the peer's client.
    PeerRead(Key),
    /// A read for a resync.
    ResyncRead(Key),
    /// A resync's write.
    ResyncWrite(Key),
    /// Digests for a resync that compares.
    CompareRead(Key),
    /// Digests for a verify.
    VerifyRead(Key),
    /// A step of archiving what a resync will overwrite.
    Archive { serial: u64 },
    /// The flush that closes an epoch of ours.
    EpochFlush,
    /// The flush before a resync's source hands out what may be in its cache only.
    SourceFlush { serial: u64 },
    /// The flush before a disk is cleanly let go of.
    DetachFlush,
    /// A flush the peer asked for.
    PeerFlush { session: SessionId, id: TransferId },
    /// A metadata block.
    Meta(MetaPurpose),
}

impl IoPurpose {
    pub fn is_flush(self) -> bool {
        matches!(self, Self::EpochFlush | Self::PeerFlush { .. } | Self::SourceFlush { .. } | Self::DetachFlush)
    }
}

/// Which metadata block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MetaPurpose {
    /// First or second copy of the superblock.
    Superblock,
    /// A bitmap page or summary block.
    Bitmap,
    /// A transaction of the activity log.
    Log,
    /// Zeroes, where metadata stood that have moved.
    Wipe,
}

/// A disk operation under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Io {
    pub volume: usize,
    /// Which attachment of the disk it belongs to; a report for an earlier one is ignored.
    pub attachment: u32,
    pub purpose: IoPurpose,
    /// When it was given out, on the engine's [`crate::hung_disk::AwakeClock`].
    pub since: Timestamp,
    /// It waits in the shell for a buffer.
    pub queued: bool,
}
