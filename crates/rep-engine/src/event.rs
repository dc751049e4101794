//! What comes in: the closed set of events. Everything the engine learns, it learns here.

use crate::command::Command;
use rep_meta::{BootId, Loaded};
use rep_types::{
    ByteRange, CommandId, DigestKey, FenceAnswer, IoError, IoId, LeftDevice, LinkCause, PayloadId, RequestId,
    SessionId, VolumeNumber, ZeroBlocks, ZeroMode,
};
use rep_wire::Message;

/// A moment of the shell's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment plus a span.
    pub fn after(self, span: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The span since an earlier moment; zero if that lies ahead.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How a disk operation ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskSuccess {
    /// For a [`crate::Action::ReadDisk`] into [`crate::ReadInto::NewPayload`]: the buffer that now holds the data.
    /// The engine owns it from here on and releases it.
    pub payload: Option<PayloadId>,
    /// For such a read: which of its blocks are zeroes. A shell that doesn't look names none.
    pub zeroes: ZeroBlocks,
}

/// Why a step of an archive failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveError {
    /// The volume's disk could not be read.
    Disk,
    /// The archive could not be written.
    Archive,
}

/// Names a question to the fence-peer handler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FenceId(pub u64);

/// Names a question to the before-resync-target handler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ResyncId(pub u64);

/// What a backing device is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskTraits {
    /// Bytes of a logical block: what offsets and lengths must be multiples of.
    pub logical_block_bytes: u32,
    /// Whether it gives discarded space back, and reads as zeroes there.
    pub discards: bool,
    /// Whether it may have a volatile cache, so that a write that must be stable costs more than another.
    pub volatile_cache: bool,
}

/// An event.
#[derive(Debug)]
pub enum Event {
    // ---- a client of the device ----
    /// A write. `range` is at most `REQUEST_LENGTH_MAX` long; the payload holds exactly its bytes and stays as it is
    /// until the engine releases it (R8).
    ClientWrite {
        /// Named in `Action::Complete`.
        request: RequestId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// The bytes.
        payload: PayloadId,
        /// Force unit access.
        fua: bool,
    },
    /// A discard or write-zeroes, at most `ZERO_LENGTH_MAX` long.
    ClientZero {
        /// Named in `Action::Complete`.
        request: RequestId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// How.
        mode: ZeroMode,
        /// Force unit access.
        fua: bool,
    },
    /// A read into `payload`, which the shell allocated; at most `REQUEST_LENGTH_MAX` long.
    ClientRead {
        /// Named in `Action::Complete`.
        request: RequestId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// The buffer to fill.
        payload: PayloadId,
    },
    /// A flush: covers every write of the volume completed before it, on whatever connection (R4).
    ClientFlush {
        /// Named in `Action::Complete`.
        request: RequestId,
        /// Which volume.
        volume: VolumeNumber,
    },
    /// The number of clients that have the device open changed.
    Openers {
        /// Which volume.
        volume: VolumeNumber,
        /// How many now.
        count: u32,
    },

    // ---- the local disk ----
    /// The operator attached a disk and its metadata has been read by `rep_meta::load`.
    Attached {
        /// Answered by `Action::CommandDone`.
        id: CommandId,
        /// Which volume.
        volume: VolumeNumber,
        /// What was read.
        loaded: Box<Loaded>,
        /// The boot this node is in.
        boot: BootId,
        /// What the backing device is like.
        traits: DiskTraits,
        /// The device of this volume that an earlier daemon left behind, for whoever has it open.
        left: Option<LeftDevice>,
    },
    /// An operation that was asked for waits for a buffer: nothing has been asked of its disk yet. Followed by `DiskBegun`, or
    /// by its end.
    DiskQueued {
        /// Which.
        io: IoId,
    },
    /// An operation that had waited for a buffer has been given to its disk.
    DiskBegun {
        /// Which.
        io: IoId,
    },
    /// A data operation ended.
    DiskDone {
        /// Which.
        io: IoId,
        /// How.
        result: Result<DiskSuccess, IoError>,
    },
    /// An [`crate::Action::DigestDisk`] ended: `DIGEST_LENGTH` bytes for each block of the range.
    Digested {
        /// Which.
        io: IoId,
        /// The digests.
        result: Result<Vec<u8>, IoError>,
    },
    /// A step of an archive ended.
    Archived {
        /// Which.
        io: IoId,
        /// How.
        result: Result<(), ArchiveError>,
    },
    /// A metadata write ended; on success it is durable.
    MetaDone {
        /// Which.
        io: IoId,
        /// How.
        result: Result<(), IoError>,
    },

    /// A disk that is attached has been measured.
    DiskMeasured {
        /// Which volume.
        volume: VolumeNumber,
        /// Bytes of the disk.
        device_bytes: u64,
        /// Bytes of the metadata device; of the disk, when it holds them.
        metadata_device_bytes: u64,
    },

    // ---- the peer ----
    /// An authenticated connection stands; its session is larger than any before. An older session ends by this.
    LinkUp {
        /// Names the connection.
        session: SessionId,
        /// What both nodes offer (`rep_wire::features`).
        features: u64,
        /// Random, of this connection: the key of every digest this node asks for on it.
        digest_key: Box<DigestKey>,
    },
    /// The connection is gone.
    LinkDown {
        /// Which.
        session: SessionId,
        /// Why.
        cause: LinkCause,
    },
    /// Bytes went over the connection, though no whole frame arrived: part of one came in, or the socket took more
    /// of what waits to be sent. A sign of life on a slow link.
    LinkAlive {
        /// On which connection.
        session: SessionId,
    },
    /// A whole, checked frame arrived. If the message carries a payload, `payload` is that many bytes, and the engine
    /// owns it from here on.
    PeerMessage {
        /// On which connection.
        session: SessionId,
        /// What.
        message: Message,
        /// The bytes that came with it.
        payload: Option<PayloadId>,
    },

    // ---- the operator, the clock ----
    /// A command.
    Command {
        /// Answered by `Action::CommandDone`.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// The operator (or a deadline) no longer waits for this command. It is answered `TimedOut` if it hadn't been.
    CommandAbandoned {
        /// Which.
        id: CommandId,
    },
    /// The fence-peer handler has ended, or could not be run.
    FenceAnswered {
        /// Which question it was for.
        id: FenceId,
        /// What it found, or did.
        answer: FenceAnswer,
    },
    /// The before-resync-target handler has ended, or could not be run.
    ResyncAnswered {
        /// Which question it was for.
        id: ResyncId,
        /// Whether this node's disk may be overwritten.
        allowed: bool,
    },
    /// The moment told by `Engine::next_timeout` has come. Harmless when early.
    Timeout,
}
