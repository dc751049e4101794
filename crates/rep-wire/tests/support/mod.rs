//! Messages for tests: one sample of each kind, and any message at all.
#![allow(dead_code)] // each test uses some of it

pub mod any;

use rep_types::{
    AfterOnePrimary, AfterZeroPrimaries, BlockIndex, ByBitmapOrFull, ByteRange, DiskState, GENERATION_HISTORY_LENGTH,
    GenerationId, Generations, IoError, Role, Room, RoomLimit, SplitBrainPolicies, SyncDecision, SyncRule, SyncVerdict,
    VolumeNumber, ZeroBlocks, ZeroMode,
};
use rep_wire::{
    ControlMessage, Frame, FrameReader, FrameWriter, HandoverRefusal, HandoverStep, Message, NodeView, OperatorWord,
    Parsed, PayloadSum, PriorEnd, ResizeAnswer, ResizeRefusal, ResizeStep, TransferId, VolumeView,
};

/// The session of every frame in tests.
pub const SESSION: u64 = 0x0123_4567_89ab_cdef;

/// The CRC of some bytes.
pub fn crc_of(bytes: &[u8]) -> u32 {
    PayloadSum::Crc32.of(bytes) as u32
}

/// The payload that goes with a message in tests.
pub fn payload_of(message: &Message) -> Vec<u8> {
    (0..message.payload_length()).map(|index| (index % 251) as u8).collect()
}

/// Header and body of a message as the first frame of a connection.
pub fn frame_of(message: &Message) -> Vec<u8> {
    let sum = PayloadSum::Crc32.of(&payload_of(message));
    let mut out = Vec::new();
    FrameWriter::new(1, SESSION, PayloadSum::Crc32).encode(message, sum, &mut out).expect("a legal message");
    out
}

/// The frame at the front of `bytes`, as the first of a connection.
pub fn parse_first(bytes: &[u8]) -> Frame {
    match FrameReader::new(1, SESSION, PayloadSum::Crc32).parse(bytes).expect("a legal frame") {
        Parsed::Frame(frame) => frame,
        Parsed::Incomplete { needed } => panic!("incomplete, {needed} needed of {}", bytes.len()),
    }
}

const VOLUME: VolumeNumber = VolumeNumber(3);
const ID: TransferId = TransferId(0x1122_3344_5566_7788);
const RANGE: ByteRange = ByteRange::new(0x12_3456_7000, 4096);

/// A sample of each kind of message, under the name of its golden file.
pub fn samples() -> Vec<(&'static str, Message)> {
    hot_samples()
        .into_iter()
        .chain(control_samples().into_iter().map(|(name, message)| (name, message.into())))
        .chain([("decision-blocks", ControlMessage::Decision { round: 2, decisions: decisions_about_blocks() }.into())])
        .chain([("view-repair", ControlMessage::View { round: 1, view: view_after_a_verify() }.into())])
        .chain([
            ("handover-ask", ControlMessage::Handover { step: HandoverStep::Ask }.into()),
            ("handover-cancel", ControlMessage::Handover { step: HandoverStep::Cancel }.into()),
            ("handover-agreed", ControlMessage::HandoverAnswer { refused: None }.into()),
            ("handover-failed", ControlMessage::HandoverAnswer { refused: Some(HandoverRefusal::Failed) }.into()),
            ("handover-busy", ControlMessage::HandoverAnswer { refused: Some(HandoverRefusal::Busy) }.into()),
            ("handover-primary", ControlMessage::HandoverAnswer { refused: Some(HandoverRefusal::IsPrimary) }.into()),
            (
                "handover-no-disk",
                ControlMessage::HandoverAnswer { refused: Some(HandoverRefusal::NoUpToDateDisk) }.into(),
            ),
        ])
        .collect()
}

/// A sample of each hot message.
pub fn hot_samples() -> Vec<(&'static str, Message)> {
    let (id, volume, range) = (ID, VOLUME, RANGE);
    vec![
        ("write", Message::Write { id, volume, range, durable: false }),
        ("write-durable", Message::Write { id, volume, range, durable: true }),
        ("zero-discard", Message::Zero { id, volume, range, mode: ZeroMode::Discard, durable: false }),
        ("zero-may-unmap", Message::Zero { id, volume, range, mode: ZeroMode::ZeroMayUnmap, durable: true }),
        ("zero-no-unmap", Message::Zero { id, volume, range, mode: ZeroMode::ZeroNoUnmap, durable: false }),
        ("write-ack", Message::WriteAck { id, result: Ok(()) }),
        ("write-ack-error", Message::WriteAck { id, result: Err(IoError::Io) }),
        ("flush", Message::Flush { id }),
        ("flush-ack", Message::FlushAck { id, result: Err(IoError::NoSpace) }),
        ("read", Message::Read { id, volume, range }),
        ("read-reply", Message::ReadReply { id, length: 512, result: Ok(()) }),
        ("read-reply-error", Message::ReadReply { id, length: 0, result: Err(IoError::Invalid) }),
        ("resync-request", Message::ResyncRequest { id, volume, range }),
        ("resync-data", Message::ResyncData { id, length: 4096 }),
        ("resync-zeroes", Message::ResyncZeroes { id }),
        ("resync-runs", Message::ResyncRuns { id, length: 40960, zeroes: sample_zeroes() }),
        ("resync-refused", Message::ResyncRefused { id }),
        ("resync-ack", Message::ResyncAck { id, result: Err(IoError::Unsupported) }),
        ("ping", Message::Ping { id }),
        ("pong", Message::Pong { id }),
        ("forward-write", Message::ForwardWrite { id, volume, range, fua: true }),
        ("forward-zero", Message::ForwardZero { id, volume, range, mode: ZeroMode::ZeroMayUnmap, fua: false }),
        ("forward-read", Message::ForwardRead { id, volume, range }),
        ("forward-flush", Message::ForwardFlush { id, volume }),
        ("forward-ack", Message::ForwardAck { id, result: Err(IoError::Io) }),
        ("forward-data", Message::ForwardData { id, length: 4096, result: Ok(()) }),
        ("forward-data-error", Message::ForwardData { id, length: 0, result: Err(IoError::NoSpace) }),
    ]
}

/// Of ten blocks the first and the fifth to the eighth.
fn sample_zeroes() -> ZeroBlocks {
    let mut zeroes = ZeroBlocks::NONE;
    [0, 4, 5, 6, 7].into_iter().for_each(|block| zeroes.set(block));
    zeroes
}

/// A sample of each control message, in the order of their numbers.
pub fn control_samples() -> Vec<(&'static str, ControlMessage)> {
    let volume = VOLUME;
    vec![
        ("view", ControlMessage::View { round: 1, view: sample_view() }),
        ("decision", ControlMessage::Decision { round: 2, decisions: sample_decisions() }),
        ("bitmap-request", ControlMessage::BitmapRequest { volume, from: BlockIndex(70_000) }),
        (
            "bitmap-part",
            ControlMessage::BitmapPart {
                volume,
                from: BlockIndex(10),
                next: Some(BlockIndex(500)),
                runs: vec![0, 2, 0xc8, 0x01, 1],
            },
        ),
        ("resync-start", ControlMessage::ResyncStart { volume, bitmap_generation: GenerationId(0xfeed) }),
        ("resync-ready", ControlMessage::ResyncReady { volume }),
        ("resync-finish", ControlMessage::ResyncFinish { volume }),
        (
            "resync-generations",
            ControlMessage::ResyncGenerations {
                volume,
                current: GenerationId(0xdead_beef_0bad_cafe),
                history: vec![GenerationId(7), GenerationId(6)],
            },
        ),
        ("resync-finished", ControlMessage::ResyncFinished { volume }),
        ("out-of-sync", ControlMessage::OutOfSync { volume, first: BlockIndex(1), count: 1024 }),
        (
            "state",
            ControlMessage::State {
                role: Role::Primary,
                disks: vec![(VolumeNumber(0), DiskState::UpToDate), (volume, DiskState::Diskless)],
            },
        ),
        ("promote-request", ControlMessage::PromoteRequest),
        ("promote-reply", ControlMessage::PromoteReply { granted: true }),
        ("disk-lost", ControlMessage::DiskLost { volume }),
        (
            "disk-lost-noted",
            ControlMessage::DiskLostNoted { volume, carries_on: true, generation: GenerationId(0x0123_4567_89ab_cdef) },
        ),
        ("invalidate", ControlMessage::Invalidate { volume, full: true }),
        ("new-generation", ControlMessage::NewGeneration { volume, id: GenerationId(0xabcd), clear_bitmap: true }),
        ("new-generation-done", ControlMessage::NewGenerationDone { volume }),
        ("pause-sync", ControlMessage::PauseSync { volume, paused: true }),
        ("leave", ControlMessage::Leave),
        ("leave-noted", ControlMessage::LeaveNoted { role: Role::Secondary }),
        ("verify", ControlMessage::Verify { volume, running: true }),
        ("digest-request", ControlMessage::DigestRequest { id: ID, volume, range: RANGE, key: [0xab; 32] }),
        ("digests", ControlMessage::Digests { id: ID, digests: vec![0x5a; 2 * rep_types::DIGEST_LENGTH] }),
        ("digest-done", ControlMessage::DigestDone { id: ID, different: vec![0, 255] }),
        (
            "resize",
            ControlMessage::Resize { volume, step: ResizeStep::Commit { size_bytes: 1 << 40, assume_clean: true } },
        ),
        (
            "resize-answer",
            ControlMessage::ResizeAnswer { volume, answer: ResizeAnswer::Refused(ResizeRefusal::NoRoom) },
        ),
        (
            "size",
            ControlMessage::Size {
                volume,
                agreed_bytes: 10 << 30,
                room: Room { bytes: 20 << 30, limit: RoomLimit::MetadataDevice { needed_bytes: 1 << 20 } },
            },
        ),
        (
            "resync-compare",
            ControlMessage::ResyncCompare {
                id: ID,
                volume,
                range: RANGE,
                key: [0xcd; 32],
                digests: vec![0xa5; 2 * rep_types::DIGEST_LENGTH],
            },
        ),
        ("resync-compared", ControlMessage::ResyncCompared { id: ID, different: vec![1, 254] }),
        ("handover", ControlMessage::Handover { step: HandoverStep::Go }),
        ("handover-answer", ControlMessage::HandoverAnswer { refused: Some(HandoverRefusal::HandshakeUnderWay) }),
        ("forward-begin", ControlMessage::ForwardBegin { lease: 0xfeed_f00d_dead_beef }),
        ("forward-ready", ControlMessage::ForwardReady { lease: 0xfeed_f00d_dead_beef, resumed: true }),
        (
            "forward-done",
            ControlMessage::ForwardDone {
                lease: 0xfeed_f00d_dead_beef,
                results: vec![(TransferId(1), Ok(())), (TransferId(300), Err(IoError::Io))],
            },
        ),
        ("forward-end", ControlMessage::ForwardEnd { lease: 0xfeed_f00d_dead_beef }),
        ("begin-anew", ControlMessage::BeginAnew),
    ]
}

/// Each value of each small enum stands somewhere in the samples, so that the golden bytes pin them.
fn sample_view() -> NodeView {
    let disks = [
        DiskState::Diskless,
        DiskState::Attaching,
        DiskState::Failed,
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::Consistent,
        DiskState::UpToDate,
        DiskState::DUnknown,
    ];
    let ends = [PriorEnd::LinkLoss, PriorEnd::Clean, PriorEnd::DaemonCrash, PriorEnd::NodeCrash];
    let volumes = disks.into_iter().enumerate().map(|(index, disk)| {
        let mut history = [GenerationId::NONE; GENERATION_HISTORY_LENGTH];
        history[0] = GenerationId(0x1000 + index as u64);
        VolumeView {
            volume: VolumeNumber(index as u16),
            available_bytes: 1 << 40,
            agreed_bytes: (1 << 40) - 4096,
            logical_block_bytes: 512,
            disk,
            generations: Generations { current: GenerationId(0x3000), bitmap: GenerationId(0x2000), history },
            crashed_primary: index % 2 == 0,
            prior_end: ends[index % ends.len()],
            last_primary: index % 3 == 0,
            out_of_sync_blocks: 300 * index as u64,
            word: any::WORDS[index % 3],
            diverged_as_primary: index == 5,
            diverged_since_unix_ms: 1_700_000_000_123 + index as u64,
        }
    });
    let policies = SplitBrainPolicies {
        after_0_primaries: AfterZeroPrimaries::DiscardLeastChanges,
        after_1_primary: AfterOnePrimary::DiscardSecondary,
    };
    NodeView { role: Role::Secondary, sorts_first: true, plan: false, policies, volumes: volumes.collect() }
}

/// The words that came with `REPAIR_WORD`.
fn view_after_a_verify() -> NodeView {
    let mut view = sample_view();
    view.volumes.truncate(2);
    for (volume, word) in view.volumes.iter_mut().zip([OperatorWord::RepairMine, OperatorWord::RepairPeers]) {
        volume.word = word;
    }
    view
}

fn sample_decisions() -> Vec<(VolumeNumber, SyncDecision)> {
    let rules = SyncRule::ALL.into_iter().map(|rule| SyncDecision { rule, verdict: SyncVerdict::Nothing });
    let verdicts = [
        SyncVerdict::Source(ByBitmapOrFull::ByBitmap),
        SyncVerdict::Source(ByBitmapOrFull::Full),
        SyncVerdict::Target(ByBitmapOrFull::ByBitmap),
    ]
    .into_iter()
    .chain(any::SYNC_REFUSALS[..8].iter().copied().map(SyncVerdict::Refuse))
    .map(|verdict| SyncDecision { rule: SyncRule::BothOff, verdict });
    rules.chain(verdicts).enumerate().map(|(index, decision)| (VolumeNumber(index as u16), decision)).collect()
}

/// With the feature `DISK_LIMITS`.
fn decisions_about_blocks() -> Vec<(VolumeNumber, SyncDecision)> {
    let refusals = any::SYNC_REFUSALS[8..].iter().copied().map(SyncVerdict::Refuse);
    let decisions = refusals.map(|verdict| SyncDecision { rule: SyncRule::Reconnected, verdict });
    decisions.enumerate().map(|(index, decision)| (VolumeNumber(index as u16), decision)).collect()
}
