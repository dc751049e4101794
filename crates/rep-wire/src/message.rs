//! The messages of the peer link, as values. How they become bytes is `frame.rs` and `docs/PROTOCOL.md`.
//!
//! Hot messages are variants of [`Message`] with fixed layouts; everything rare is a [`ControlMessage`], encoded by
//! the one codec module. User data never stands in a message: a message that carries some (`carries_payload`) is
//! followed by it in the same frame, and the shell hands it on as a `PayloadId`.

use crate::view::NodeView;
use rep_types::{
    BlockIndex, ByteRange, DigestKey, DiskState, GenerationId, IoError, Role, Room, SyncDecision, VolumeNumber,
    ZeroBlocks, ZeroMode, ZeroRun,
};
use serde::{Deserialize, Serialize};

/// A transfer in flight on the link, named by the node that started it; unique per direction and session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct TransferId(pub u64);

/// A message of the peer link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Primary → peer: write these bytes (payload of `range.length` follows). `durable`: stable before the answer.
    Write {
        /// Named in the answer.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// Whether the answer means stable (`durability = "stable"`).
        durable: bool,
    },
    /// Primary → peer: make the range zeroes.
    Zero {
        /// Named in the answer.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// How.
        mode: ZeroMode,
        /// Whether the answer means stable.
        durable: bool,
    },
    /// Answer to `Write` and `Zero`, from the disk's completion (R2). An error is a negative answer (R1).
    WriteAck {
        /// The write answered.
        id: TransferId,
        /// What the disk said.
        result: Result<(), IoError>,
    },
    /// Flush every volume's disk; what the sender has seen acknowledged must be stable before the answer (R6).
    Flush {
        /// Named in the answer.
        id: TransferId,
    },
    /// Answer to `Flush`.
    FlushAck {
        /// The flush answered.
        id: TransferId,
        /// What the disks said.
        result: Result<(), IoError>,
    },
    /// Read for a client of the sender (R27).
    Read {
        /// Named in the answer.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// Answer to `Read`: on success the payload follows (`length` bytes of it).
    ReadReply {
        /// The read answered.
        id: TransferId,
        /// Payload bytes; 0 with an error.
        length: u32,
        /// What the disk said.
        result: Result<(), IoError>,
    },
    /// Target → source: send me this range.
    ResyncRequest {
        /// Named in the answers.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// Source → target: here it is (payload of `length` bytes follows). The source keeps the range locked until `ResyncAck`.
    ResyncData {
        /// The request answered.
        id: TransferId,
        /// Payload bytes.
        length: u32,
    },
    /// Source → target: the range reads as zeroes.
    ResyncZeroes {
        /// The request answered.
        id: TransferId,
    },
    /// Source → target: these blocks of the range read as zeroes, the others follow, in order. Only with
    /// [`crate::features::RESYNC_RUNS`].
    ResyncRuns {
        /// The request answered.
        id: TransferId,
        /// Bytes of the range, the zeroes included.
        length: u32,
        /// Which of its blocks are zeroes: some, and not all.
        zeroes: ZeroBlocks,
    },
    /// Source → target: the range could not be read; it stays out-of-sync.
    ResyncRefused {
        /// The request answered.
        id: TransferId,
    },
    /// Target → source: the range has been written (or not).
    ResyncAck {
        /// The request it ends.
        id: TransferId,
        /// What the target's disk said.
        result: Result<(), IoError>,
    },
    /// Are you there?
    Ping {
        /// Named in the answer.
        id: TransferId,
    },
    /// I am.
    Pong {
        /// The ping answered.
        id: TransferId,
    },
    /// Forwarder → Primary: write these bytes for a client of mine (payload of `range.length` follows). Only with
    /// [`crate::features::HANDOVER`], as all of these.
    ForwardWrite {
        /// Its number: consecutive among all a forwarder sends, and the same when it is sent again.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// Force unit access.
        fua: bool,
    },
    /// Forwarder → Primary: make the range zeroes for a client of mine.
    ForwardZero {
        /// Its number.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// How.
        mode: ZeroMode,
        /// Force unit access.
        fua: bool,
    },
    /// Forwarder → Primary: read for a client of mine.
    ForwardRead {
        /// Its number.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// Forwarder → Primary: flush for a client of mine.
    ForwardFlush {
        /// Its number.
        id: TransferId,
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Answer to `ForwardWrite`, `ForwardZero` and `ForwardFlush`: what the client is to be told.
    ForwardAck {
        /// The request answered.
        id: TransferId,
        /// What came of it.
        result: Result<(), IoError>,
    },
    /// Answer to `ForwardRead`: on success the payload follows.
    ForwardData {
        /// The request answered.
        id: TransferId,
        /// Payload bytes; 0 with an error.
        length: u32,
        /// What came of it.
        result: Result<(), IoError>,
    },
    /// Everything that isn't hot.
    Control(Box<ControlMessage>),
}

impl Message {
    /// The number of bytes of user data that follow this message in its frame.
    pub fn payload_length(&self) -> u32 {
        match self {
            Message::Write { range, .. } | Message::ForwardWrite { range, .. } => range.length,
            Message::ReadReply { length, .. }
            | Message::ResyncData { length, .. }
            | Message::ForwardData { length, .. } => *length,
            Message::ResyncRuns { length, zeroes, .. } => zeroes.data_length(*length),
            _ => 0,
        }
    }

    /// Where in the buffer a sender has it in the payload lies, in the order of the wire: mostly all of the buffer is the
    /// payload, but of `ResyncRuns` it is the whole range, of which only the data travel.
    pub fn payload_parts(&self) -> impl Iterator<Item = ByteRange> + use<> {
        let (zeroes, length) = match self {
            Message::ResyncRuns { length, zeroes, .. } => (*zeroes, *length),
            _ => (ZeroBlocks::NONE, self.payload_length()),
        };
        zeroes.runs(ByteRange::new(0, length)).filter(|run: &ZeroRun| !run.zero).map(|run| run.range)
    }

    /// Bytes of the buffer a sender has the payload in.
    pub fn buffer_length(&self) -> u32 {
        match self {
            Message::ResyncRuns { length, .. } => *length,
            _ => self.payload_length(),
        }
    }
}

impl From<ControlMessage> for Message {
    fn from(message: ControlMessage) -> Message {
        Message::Control(Box::new(message))
    }
}

/// What is rare on the peer link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControlMessage {
    /// How this node sees itself: opens a handshake, in both directions (R17). `round` tells handshakes of one session apart.
    View {
        /// Counts handshakes of this session, from 1.
        round: u32,
        /// The view.
        view: NodeView,
    },
    /// What this node decided from both views; the peer must have come to the mirror image.
    Decision {
        /// The handshake it ends.
        round: u32,
        /// One decision a volume, in the order of the volumes' numbers.
        decisions: Vec<(VolumeNumber, SyncDecision)>,
    },
    /// Send me your bitmap from this block on.
    BitmapRequest {
        /// Which volume.
        volume: VolumeNumber,
        /// First block wanted.
        from: BlockIndex,
    },
    /// A part of the sender's bitmap.
    BitmapPart {
        /// Which volume.
        volume: VolumeNumber,
        /// First block this part speaks of.
        from: BlockIndex,
        /// First block of the next part; `None`: the bitmap ends here.
        next: Option<BlockIndex>,
        /// Run lengths: see docs/PROTOCOL.md, "Bitmap runs".
        runs: Vec<u8>,
    },
    /// Source → target: my bitmap generation is durable; take it as your current one, be Inconsistent, then say ready.
    ResyncStart {
        /// Which volume.
        volume: VolumeNumber,
        /// The source's bitmap generation.
        bitmap_generation: GenerationId,
    },
    /// Target → source: durably Inconsistent with that generation and the united bitmap (R21).
    ResyncReady {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Target → source: nothing is out-of-sync, everything is flushed; may I take over your generations? (R25)
    ResyncFinish {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Source → target: yes, these.
    ResyncGenerations {
        /// Which volume.
        volume: VolumeNumber,
        /// The source's current generation.
        current: GenerationId,
        /// The source's history, newest first.
        history: Vec<GenerationId>,
    },
    /// Target → source: durable, I am UpToDate (R25).
    ResyncFinished {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Blocks the sender knows to differ, beyond what the receiver knows.
    OutOfSync {
        /// Which volume.
        volume: VolumeNumber,
        /// First block.
        first: BlockIndex,
        /// How many.
        count: u64,
    },
    /// The sender's role and disks are now these.
    State {
        /// The sender's role.
        role: Role,
        /// The sender's disks.
        disks: Vec<(VolumeNumber, DiskState)>,
    },
    /// I want to become Primary.
    PromoteRequest,
    /// Answer: whether the peer agrees (it doesn't when it is Primary, or wants to be and its name sorts first).
    PromoteReply {
        /// Whether the sender may promote.
        granted: bool,
    },
    /// Primary → peer: my disk of this volume is gone; make a generation, durably, and go on alone for me (R15, R32).
    DiskLost {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Answer to `DiskLost`.
    DiskLostNoted {
        /// Which volume.
        volume: VolumeNumber,
        /// Whether the peer's disk is UpToDate and carries on.
        carries_on: bool,
        /// The generation it carries on with. Sent again, unasked, whenever that one makes way for a newer: a Primary
        /// without a disk must know what its clients have seen.
        generation: GenerationId,
    },
    /// Give your data up: be Inconsistent with every block out-of-sync, then a new handshake follows.
    ///
    /// Not `full`: only the blocks both know to differ are given up.
    Invalidate {
        /// Which volume.
        volume: VolumeNumber,
        /// Whether every block is given up.
        full: bool,
    },
    /// Both start this generation, the receiver first, with clean bitmaps if told (skips the initial sync). Without a generation: the
    /// answer of a node that can't now.
    NewGeneration {
        /// Which volume.
        volume: VolumeNumber,
        /// The new current generation; [`GenerationId::NONE`]: nothing was begun.
        id: GenerationId,
        /// Whether both sides clear their bitmaps.
        clear_bitmap: bool,
    },
    /// Answer to `NewGeneration`: it is durable.
    NewGenerationDone {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Resync of this volume is paused, or goes on, by the sender's operator.
    PauseSync {
        /// Which volume.
        volume: VolumeNumber,
        /// Whether it pauses.
        paused: bool,
    },
    /// I leave cleanly (R31).
    Leave,
    /// Answer to `Leave`: noted durably; the sender of this is `role`.
    LeaveNoted {
        /// The answering node's role: a Secondary that leaves a Primary marks itself Outdated.
        role: Role,
    },
    /// Online verify of this volume begins, or ends; the sender leads it.
    Verify {
        /// Which volume.
        volume: VolumeNumber,
        /// Begins, or ends.
        running: bool,
    },
    /// Lock this range against writes, read it, and tell the digest of each block of it.
    DigestRequest {
        /// Named in the answers.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where; at most 1 MiB.
        range: ByteRange,
        /// The digests' key: random, so that no data can be made to collide.
        key: DigestKey,
    },
    /// Answer to `DigestRequest`; the range stays locked until `DigestDone`.
    Digests {
        /// The request answered.
        id: TransferId,
        /// `DIGEST_LENGTH` bytes for each block touched; empty: the range couldn't be read.
        digests: Vec<u8>,
    },
    /// Both have been compared: the range may be unlocked.
    DigestDone {
        /// The request it ends.
        id: TransferId,
        /// The blocks that differ, by their distance from the range's first, in ascending order.
        different: Vec<u16>,
    },
    /// A step of making the volume larger (R34); the sender leads.
    Resize {
        /// Which volume.
        volume: VolumeNumber,
        /// What is to be done.
        step: ResizeStep,
    },
    /// Answer to `Resize`; that a commit was done is told by `Size`.
    ResizeAnswer {
        /// Which volume.
        volume: VolumeNumber,
        /// What came of the step.
        answer: ResizeAnswer,
    },
    /// The sender's durable metadata say this size, and its disk has room for so much. Sent when either has changed.
    Size {
        /// Which volume.
        volume: VolumeNumber,
        /// The size remembered; 0: none.
        agreed_bytes: u64,
        /// What the sender's disk has room for.
        room: Room,
    },
    /// Target → source: these are my digests of a range that may differ; what of it does? The source locks the range
    /// against writes, reads it and compares. Only with [`crate::features::RESYNC_BY_DIGESTS`].
    ResyncCompare {
        /// Named in the answer, which may also be `ResyncRefused`.
        id: TransferId,
        /// Where.
        volume: VolumeNumber,
        /// Where; at most 1 MiB.
        range: ByteRange,
        /// The digests' key: random, so that no data can be made to collide.
        key: DigestKey,
        /// `DIGEST_LENGTH` bytes for each block touched.
        digests: Vec<u8>,
    },
    /// Answer to `ResyncCompare`: the other blocks of the range are equal.
    ResyncCompared {
        /// The request answered.
        id: TransferId,
        /// The blocks that differ, by their distance from the range's first, in ascending order.
        different: Vec<u16>,
    },
    /// A step of handing the Primary role over, by the Primary whose operator wants that. Only with
    /// [`crate::features::HANDOVER`], as all that follow.
    Handover {
        /// Which.
        step: HandoverStep,
    },
    /// Answer to `Handover`.
    HandoverAnswer {
        /// `None`: agreed. That it was done is told by `State`.
        refused: Option<HandoverRefusal>,
    },
    /// Forwarder → Primary: I forward what my clients ask from now on.
    ForwardBegin {
        /// Names this forwarding, whatever connections and Primaries come and go under it. Random.
        lease: u64,
    },
    /// Answer to `ForwardBegin`: requests may come.
    ForwardReady {
        /// Which.
        lease: u64,
        /// Whether the Primary remembers what it was asked under this name: then a request that comes again isn't done again.
        resumed: bool,
    },
    /// Primary → forwarder: the answers of requests done, whether or not they were told before. Sent when a connection has
    /// come about, before anything that was done later could be on its way, and for what ends before `ForwardBegin`.
    ForwardDone {
        /// Under which name.
        lease: u64,
        /// Request and result, at most `FORWARD_WINDOW`.
        results: Vec<(TransferId, Result<(), IoError>)>,
    },
    /// Forwarder → Primary: my device has been closed.
    ForwardEnd {
        /// Which forwarding ends.
        lease: u64,
    },
    /// I close this connection to begin anew: nothing has happened to me. Only with [`crate::features::BEGIN_ANEW`].
    BeginAnew,
}

/// A step of handing the role over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HandoverStep {
    /// Could you be Primary? A receiver that forwards sends no more requests until it hears how it ended.
    Ask,
    /// I am Secondary: be Primary.
    Go,
    /// It comes to nothing: I stay what I am.
    Cancel,
}

/// Why a node doesn't take the role over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HandoverRefusal {
    /// Its disk isn't UpToDate.
    NoUpToDateDisk,
    /// Another command hasn't ended there.
    Busy,
    /// A handshake is under way.
    HandshakeUnderWay,
    /// It is Primary itself.
    IsPrimary,
    /// It could not become Primary.
    Failed,
}

/// A step of making a volume larger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResizeStep {
    /// Measure your disk and tell what it has room for.
    Ask,
    /// Make your metadata fit a volume of this size.
    Prepare {
        /// Bytes.
        size_bytes: u64,
    },
    /// The metadata of both have room: mark the new area, unless told not to, then remember the size, durably.
    Commit {
        /// Bytes.
        size_bytes: u64,
        /// The new area is the same on both disks already.
        assume_clean: bool,
    },
}

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResizeAnswer {
    /// To `Ask`.
    Room(Room),
    /// To `Prepare`: there is room, durably.
    Prepared,
    /// The state doesn't allow it.
    Refused(ResizeRefusal),
}

/// Why a node doesn't do a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResizeRefusal {
    /// Its disk is gone, or isn't UpToDate.
    NoUpToDateDisk,
    /// A handshake is under way.
    HandshakeUnderWay,
    /// A resync is under way.
    ResyncUnderWay,
    /// Its disk, or the device of its metadata, has no room.
    NoRoom,
}
