//! What goes out: the closed set of actions. Everything the engine wants done, it asks for here.

use crate::command::{CommandError, CommandOutcome};
use crate::config::ArchiveScope;
use crate::event::{FenceId, ResyncId};
use crate::split_brain::SplitBrainFacts;
use rep_meta::MetaBlock;
use rep_types::{
    ByteRange, CommandId, ConnectionState, DigestKey, DiskState, FenceAnswer, Generations, IoError, IoId, LinkCause,
    PayloadId, ReplicationState, RequestId, Role, SessionId, SyncDecision, VolumeNumber, ZeroMode,
};
use rep_wire::Message;
use std::fmt;

/// Where a read puts its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadInto {
    /// Into this buffer, which the shell gave with the client's read.
    Payload(PayloadId),
    /// Into a buffer the shell takes from its pool; named in `DiskSuccess::payload`. When the pool is empty the
    /// shell starts the read as soon as a buffer comes free.
    NewPayload,
}

/// What clients are offered of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Its size in bytes, whole blocks.
    pub size_bytes: u64,
    /// What offsets and lengths must be multiples of: what both disks can do. A power of two from 512 to 4096.
    pub block_bytes: u32,
    /// Whether discards are offered: both disks give the space back.
    pub discards: bool,
    /// Whether a volatile cache is told of: what is answered may be lost until a flush. It stays so while the device is offered.
    pub volatile_cache: bool,
}

/// What an archive is told of when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArchiveHead {
    /// Bytes of the volume.
    pub size_bytes: u64,
    /// What will be in it.
    pub scope: ArchiveScope,
    /// The generations of the data that are saved.
    pub generations: Generations,
    /// The generations of the data that stay.
    pub survivor: Generations,
}

/// A step of archiving a volume's data as they are on the disk now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveStep {
    /// Begin a new archive.
    Begin(ArchiveHead),
    /// Copy a range from the disk; begins on a block, at most `REQUEST_LENGTH_MAX` long.
    Copy(ByteRange),
    /// Make it whole and stable. It counts only when this has ended well.
    Finish,
}

/// An action. The shell does them in the order given: in particular messages leave in this order, and a disk
/// operation may start as soon as it is met (the engine itself waits where one must be durable before another).
#[derive(Debug)]
pub enum Action {
    // ---- the local disk ----
    /// Write the payload. `durable`: stable (`RWF_DSYNC`) before `DiskDone`.
    WriteDisk {
        /// Named in `DiskDone`.
        io: IoId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// What.
        payload: PayloadId,
        /// Where in the payload it begins: whole blocks.
        payload_offset: u32,
        /// Whether it must be stable.
        durable: bool,
    },
    /// Make the range zeroes.
    ZeroDisk {
        /// Named in `DiskDone`.
        io: IoId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// How.
        mode: ZeroMode,
        /// Whether it must be stable.
        durable: bool,
    },
    /// Read.
    ReadDisk {
        /// Named in `DiskDone`.
        io: IoId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// Into what.
        into: ReadInto,
    },
    /// Read the range and tell each block's digest: the first `DIGEST_LENGTH` bytes of its BLAKE3 under this key. The
    /// bytes themselves aren't kept. Ends with `Digested`.
    DigestDisk {
        /// Named in `Digested`.
        io: IoId,
        /// Where.
        volume: VolumeNumber,
        /// Where; begins on a block.
        range: ByteRange,
        /// The key.
        key: Box<DigestKey>,
    },
    /// Make everything whose `DiskDone` came before this action stable.
    FlushDisk {
        /// Named in `DiskDone`.
        io: IoId,
        /// Which volume.
        volume: VolumeNumber,
    },
    /// A step of archiving a volume; ends with `Archived`. Copies may be under way side by side, the other steps are
    /// alone.
    Archive {
        /// Named in `Archived`.
        io: IoId,
        /// Which volume.
        volume: VolumeNumber,
        /// What.
        step: ArchiveStep,
    },
    /// The archive begun last isn't wanted any more: what there is of it goes. Steps of it in flight still report and
    /// are ignored.
    DropArchive {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Write a metadata block at an absolute offset of the metadata device; durable before `MetaDone`.
    WriteMeta {
        /// Named in `MetaDone`.
        io: IoId,
        /// Which volume.
        volume: VolumeNumber,
        /// Byte offset on the metadata device.
        offset: u64,
        /// The bytes.
        block: MetaBlock,
    },
    /// Tell the size of the disk and of its metadata device as they are now; ends with `DiskMeasured`.
    MeasureDisk {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// The volume is detached: nothing more will be asked of its disk. Operations in flight still report and are
    /// ignored; the shell lets go of the disk when the last has.
    CloseDisk {
        /// Which volume.
        volume: VolumeNumber,
    },

    // ---- the peer ----
    /// Send a message, and the payload right after it if it carries one: of the buffer, `Message::payload_parts`. The
    /// shell keeps the bytes until they are sent, also past `Release`.
    Send {
        /// On which connection; dropped if that one is gone.
        session: SessionId,
        /// What.
        message: Message,
        /// The bytes that go with it.
        payload: Option<PayloadId>,
    },
    /// Whether a connection is wanted: the shell dials or listens, and keeps retrying, while it is.
    WantLink {
        /// Wanted or not.
        wanted: bool,
    },
    /// End this connection. `LinkDown` for it need not follow; the engine has let go of it already.
    CloseLink {
        /// Which.
        session: SessionId,
        /// Why.
        cause: LinkCause,
    },

    // ---- clients ----
    /// Answer a client's request. For a read, on success `payload` holds the data: the shell owns it again (it may be
    /// another than the one it gave). A read that fails gives back one of the two as well.
    Complete {
        /// Which.
        request: RequestId,
        /// How.
        result: Result<(), IoError>,
        /// A read's buffer.
        payload: Option<PayloadId>,
    },
    /// The engine needs this buffer no more. The shell frees it once no system call uses it either.
    Release {
        /// Which.
        payload: PayloadId,
    },
    /// Offer the device, or stop offering it, or offer it larger than it is offered now. Precedes the `CommandDone` of the promotion or demotion.
    Export {
        /// Which volume.
        volume: VolumeNumber,
        /// As what; `None`: stop offering it. Its blocks stay the same while it is offered.
        offer: Option<Offer>,
    },

    // ---- the operator ----
    /// A command ended.
    CommandDone {
        /// Which.
        id: CommandId,
        /// How.
        result: Result<CommandOutcome, CommandError>,
    },
    /// Make sure that the peer can't go on: run the fence-peer handler. It is asked one question at a time; a new one
    /// takes the place of one that isn't answered. Ends with `FenceAnswered`, in bounded time.
    FencePeer {
        /// Named in `FenceAnswered`.
        id: FenceId,
    },
    /// A resync is about to overwrite this node's disk: run the before-resync-target handler. Ends with
    /// `ResyncAnswered`, in bounded time. Asked only where the configuration says so.
    AskBeforeResync {
        /// Named in `ResyncAnswered`.
        id: ResyncId,
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Something operators want to know: one log line, one event.
    Notice(Notice),
}

/// Why a state changed, in words for a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// A command: the operator's, or of a daemon that comes up, ends, or takes a device over.
    Command,
    /// The disk was attached.
    Attached,
    /// The disk failed.
    DiskError,
    /// The disk didn't answer within `disk-timeout`.
    DiskTimeout,
    /// The metadata could not be written.
    MetadataError,
    /// A connection came up and its handshake began.
    LinkUp,
    /// The handshake ended.
    Handshake,
    /// The connection went.
    LinkLost(LinkCause),
    /// The peer said so.
    Peer,
    /// A resync ended.
    ResyncDone,
    /// A verify ended.
    VerifyDone,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Command => "command",
            Why::Attached => "attached",
            Why::DiskError => "disk error",
            Why::DiskTimeout => "the disk didn't answer within disk-timeout",
            Why::MetadataError => "metadata error",
            Why::LinkUp => "link up",
            Why::Handshake => "handshake",
            Why::LinkLost(cause) => return cause.fmt(f),
            Why::Peer => "the peer said so",
            Why::ResyncDone => "resync done",
            Why::VerifyDone => "verify done",
        })
    }
}

/// A notice.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // each variant is a state with its old value, its new one and the reason
pub enum Notice {
    Role {
        from: Role,
        to: Role,
        why: Why,
    },
    PeerRole {
        from: Option<Role>,
        to: Option<Role>,
        why: Why,
    },
    Connection {
        from: ConnectionState,
        to: ConnectionState,
        why: Why,
    },
    Disk {
        volume: VolumeNumber,
        from: DiskState,
        to: DiskState,
        why: Why,
    },
    PeerDisk {
        volume: VolumeNumber,
        from: DiskState,
        to: DiskState,
        why: Why,
    },
    Replication {
        volume: VolumeNumber,
        from: ReplicationState,
        to: ReplicationState,
        why: Why,
    },
    /// The handshake decided.
    Decided {
        volume: VolumeNumber,
        decision: SyncDecision,
        out_of_sync_bytes: u64,
    },
    /// The handshake decided that the nodes stay apart.
    Refused {
        volume: VolumeNumber,
        decision: SyncDecision,
    },
    /// A handshake found that both nodes went on apart, and left it to the operator.
    SplitBrain {
        volume: VolumeNumber,
        facts: SplitBrainFacts,
    },
    /// The two nodes' decisions don't mirror each other: a bug or a damaged peer; refused (R17).
    DecisionMismatch {
        volume: VolumeNumber,
        mine: SyncDecision,
        peer: SyncDecision,
    },
    /// After a crash as Primary, this much was marked from the activity log (R11).
    CrashRecovered {
        volume: VolumeNumber,
        hot_extents: u64,
        out_of_sync_bytes: u64,
    },
    /// A part of the metadata was damaged; what it covered counts as out-of-sync.
    MetadataDamaged {
        volume: VolumeNumber,
    },
    /// This node's data, about to be given up in a split brain, have been saved: so many bytes of them.
    Archived {
        volume: VolumeNumber,
        saved_bytes: u64,
    },
    /// They could not be saved, so they aren't given up.
    ArchiveFailed {
        volume: VolumeNumber,
    },
    /// A resync ended, with what it copied.
    ResyncFinished {
        volume: VolumeNumber,
        copied_bytes: u64,
        /// What was found equal and not copied.
        equal_bytes: u64,
    },
    /// An online verify came to its end, with what it found to differ.
    VerifyFinished {
        volume: VolumeNumber,
        different_bytes: u64,
        /// Of that, what is still marked: the rest has been made equal since it was found.
        marked_bytes: u64,
    },
    /// The volume has grown, and clients are offered its new size.
    Grown {
        volume: VolumeNumber,
        from_bytes: u64,
        to_bytes: u64,
    },
    /// The volume's logical blocks are larger than they were: one of the disks needs that.
    BlocksGrown {
        volume: VolumeNumber,
        from_bytes: u32,
        to_bytes: u32,
    },
    /// The fence-peer handler has ended.
    FenceAnswered {
        answer: FenceAnswer,
    },
    /// The only good disk failed at a read or a write, and is kept: who asked hears of the error.
    ErrorPassedOn {
        volume: VolumeNumber,
        /// A write, else a read.
        write: bool,
        /// Where; `None`: it isn't known any more.
        range: Option<ByteRange>,
    },
    /// A FLUSH was answered with an error, by which clients are told that what they wrote and hadn't flushed may be lost: the
    /// only good copy lost its cache, or failed a flush (R32).
    LossTold {
        volume: VolumeNumber,
    },
    /// The before-resync-target handler doesn't want this node's disk overwritten: the nodes stay apart.
    ResyncNotAllowed {
        volume: VolumeNumber,
    },
    /// This node is Primary, and the peer's data are newer: a handshake refused to overwrite what its clients are served from.
    PrimaryIsBehind,
    /// Our view, which tells of a disk that has come, waits for what is under way on other volumes, and the connection isn't closed for it:
    /// the peer is Primary, of an older version, and would have this node fenced.
    HandshakeWaits,
    /// A peer that was kept from going on follows again, with the same data.
    PeerRejoined,
    /// The device is open where the role isn't, and its requests are forwarded; or that has ended.
    Forwarding {
        forwards: bool,
    },
    /// Client I/O waits, or goes on.
    IoSuspended {
        suspended: bool,
    },
}
