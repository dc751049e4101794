//! Any legal message, for property tests.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rep_types::{
    AfterOnePrimary, AfterZeroPrimaries, BlockIndex, BlockRange, ByBitmapOrFull, ByteRange, DiskState,
    GENERATION_HISTORY_LENGTH, GenerationId, Generations, IoError, REQUEST_LENGTH_MAX, Role, Room, RoomLimit,
    SplitBrainPolicies, SyncDecision, SyncRefusal, SyncRule, SyncVerdict, VolumeNumber, ZERO_LENGTH_MAX, ZeroBlocks,
    ZeroMode,
};
use rep_wire::{
    ControlMessage, HandoverRefusal, HandoverStep, Message, NodeView, OperatorWord, PriorEnd, ResizeAnswer,
    ResizeRefusal, ResizeStep, TransferId, VolumeView, encode_runs,
};
use std::collections::BTreeMap;

pub const SYNC_REFUSALS: [SyncRefusal; 10] = [
    SyncRefusal::SplitBrain,
    SyncRefusal::UnrelatedData,
    SyncRefusal::PeerDiskTooSmall,
    SyncRefusal::DiskTooSmall,
    SyncRefusal::BothPrimary,
    SyncRefusal::WouldOverwritePrimary,
    SyncRefusal::WouldOverwritePeerPrimary,
    SyncRefusal::NoGoodData,
    SyncRefusal::PeerBlocksTooLarge,
    SyncRefusal::BlocksTooLarge,
];

const DISKS: [DiskState; 8] = [
    DiskState::Diskless,
    DiskState::Attaching,
    DiskState::Failed,
    DiskState::Inconsistent,
    DiskState::Outdated,
    DiskState::Consistent,
    DiskState::UpToDate,
    DiskState::DUnknown,
];
pub const WORDS: [OperatorWord; 5] = [
    OperatorWord::None,
    OperatorWord::DiscardMine,
    OperatorWord::DiscardPeers,
    OperatorWord::RepairMine,
    OperatorWord::RepairPeers,
];
const AFTER_0: [AfterZeroPrimaries; 5] = [
    AfterZeroPrimaries::Disconnect,
    AfterZeroPrimaries::DiscardYoungerPrimary,
    AfterZeroPrimaries::DiscardOlderPrimary,
    AfterZeroPrimaries::DiscardZeroChanges,
    AfterZeroPrimaries::DiscardLeastChanges,
];
const AFTER_1: [AfterOnePrimary; 3] =
    [AfterOnePrimary::Disconnect, AfterOnePrimary::Consensus, AfterOnePrimary::DiscardSecondary];
const ENDS: [PriorEnd; 4] = [PriorEnd::LinkLoss, PriorEnd::Clean, PriorEnd::DaemonCrash, PriorEnd::NodeCrash];

fn any_id() -> impl Strategy<Value = TransferId> {
    any::<u64>().prop_map(TransferId)
}

fn any_volume() -> impl Strategy<Value = VolumeNumber> + Clone {
    any::<u16>().prop_map(VolumeNumber)
}

fn any_range(length_max: u32) -> impl Strategy<Value = ByteRange> {
    (1..=length_max / 512, 0..(i64::MAX as u64) / 512).prop_map(|(sectors, first)| {
        let last_start = (i64::MAX as u64) / 512 - u64::from(sectors);
        ByteRange::new(first.min(last_start) * 512, sectors * 512)
    })
}

fn any_result() -> impl Strategy<Value = Result<(), IoError>> {
    select(vec![
        Ok(()),
        Err(IoError::Io),
        Err(IoError::NoSpace),
        Err(IoError::Invalid),
        Err(IoError::NotPrimary),
        Err(IoError::Unsupported),
    ])
}

fn any_length() -> impl Strategy<Value = u32> {
    (1..=REQUEST_LENGTH_MAX / 512).prop_map(|sectors| sectors * 512)
}

/// Any hot message.
pub fn any_hot() -> impl Strategy<Value = Message> {
    let modes = select(vec![ZeroMode::Discard, ZeroMode::ZeroMayUnmap, ZeroMode::ZeroNoUnmap]);
    prop_oneof![
        (any_id(), any_volume(), any_range(REQUEST_LENGTH_MAX), any::<bool>())
            .prop_map(|(id, volume, range, durable)| Message::Write { id, volume, range, durable }),
        (any_id(), any_volume(), any_range(ZERO_LENGTH_MAX), modes, any::<bool>())
            .prop_map(|(id, volume, range, mode, durable)| Message::Zero { id, volume, range, mode, durable }),
        (any_id(), any_result()).prop_map(|(id, result)| Message::WriteAck { id, result }),
        any_id().prop_map(|id| Message::Flush { id }),
        (any_id(), any_result()).prop_map(|(id, result)| Message::FlushAck { id, result }),
        (any_id(), any_volume(), any_range(REQUEST_LENGTH_MAX)).prop_map(|(id, volume, range)| Message::Read {
            id,
            volume,
            range
        }),
        (any_id(), any_length(), any_result()).prop_map(|(id, length, result)| {
            let length = if result.is_ok() { length } else { 0 };
            Message::ReadReply { id, length, result }
        }),
        (any_id(), any_volume(), any_range(REQUEST_LENGTH_MAX))
            .prop_map(|(id, volume, range)| Message::ResyncRequest { id, volume, range }),
        (any_id(), any_length()).prop_map(|(id, length)| Message::ResyncData { id, length }),
        any_id().prop_map(|id| Message::ResyncZeroes { id }),
        any_runs(),
        any_id().prop_map(|id| Message::ResyncRefused { id }),
        (any_id(), any_result()).prop_map(|(id, result)| Message::ResyncAck { id, result }),
        any_id().prop_map(|id| Message::Ping { id }),
        any_id().prop_map(|id| Message::Pong { id }),
        any_forwarded(),
    ]
}

/// Of any range some blocks, and not all.
fn any_runs() -> impl Strategy<Value = Message> {
    let lengths = (2..=2048u32).prop_filter("more than a block", |sectors| *sectors > 8);
    (any_id(), lengths, any::<[u8; ZeroBlocks::LENGTH]>(), any::<prop::sample::Index>()).prop_map(
        |(id, sectors, bits, data)| {
            let (drawn, blocks) = (ZeroBlocks::from_bytes(bits), sectors.div_ceil(8));
            let data = data.index(blocks as usize) as u32;
            let mut zeroes = ZeroBlocks::NONE;
            zeroes.set((data + 1) % blocks);
            (0..blocks).filter(|block| *block != data && drawn.contains(*block)).for_each(|block| zeroes.set(block));
            Message::ResyncRuns { id, length: sectors * 512, zeroes }
        },
    )
}

fn any_forwarded() -> impl Strategy<Value = Message> {
    let modes = select(vec![ZeroMode::Discard, ZeroMode::ZeroMayUnmap, ZeroMode::ZeroNoUnmap]);
    prop_oneof![
        (any_id(), any_volume(), any_range(REQUEST_LENGTH_MAX), any::<bool>())
            .prop_map(|(id, volume, range, fua)| Message::ForwardWrite { id, volume, range, fua }),
        (any_id(), any_volume(), any_range(ZERO_LENGTH_MAX), modes, any::<bool>())
            .prop_map(|(id, volume, range, mode, fua)| Message::ForwardZero { id, volume, range, mode, fua }),
        (any_id(), any_volume(), any_range(REQUEST_LENGTH_MAX))
            .prop_map(|(id, volume, range)| { Message::ForwardRead { id, volume, range } }),
        (any_id(), any_volume()).prop_map(|(id, volume)| Message::ForwardFlush { id, volume }),
        (any_id(), any_result()).prop_map(|(id, result)| Message::ForwardAck { id, result }),
        (any_id(), any_length(), any_result()).prop_map(|(id, length, result)| {
            let length = if result.is_ok() { length } else { 0 };
            Message::ForwardData { id, length, result }
        }),
    ]
}

fn any_handover() -> impl Strategy<Value = ControlMessage> {
    let refusals = [
        HandoverRefusal::NoUpToDateDisk,
        HandoverRefusal::Busy,
        HandoverRefusal::HandshakeUnderWay,
        HandoverRefusal::IsPrimary,
        HandoverRefusal::Failed,
    ];
    prop_oneof![
        select(vec![HandoverStep::Ask, HandoverStep::Go, HandoverStep::Cancel])
            .prop_map(|step| ControlMessage::Handover { step }),
        proptest::option::of(select(refusals.to_vec())).prop_map(|refused| ControlMessage::HandoverAnswer { refused }),
        any::<u64>().prop_map(|lease| ControlMessage::ForwardBegin { lease }),
        any::<(u64, bool)>().prop_map(|(lease, resumed)| ControlMessage::ForwardReady { lease, resumed }),
        (any::<u64>(), vec((any_id(), any_result()), 0..40))
            .prop_map(|(lease, results)| ControlMessage::ForwardDone { lease, results }),
        any::<u64>().prop_map(|lease| ControlMessage::ForwardEnd { lease }),
    ]
}

fn any_generation() -> impl Strategy<Value = GenerationId> {
    prop_oneof![0u64..3, any::<u64>()].prop_map(GenerationId)
}

fn any_block() -> impl Strategy<Value = BlockIndex> {
    (0u64..1 << 50).prop_map(BlockIndex)
}

fn any_role() -> impl Strategy<Value = Role> {
    select(vec![Role::Primary, Role::Secondary])
}

prop_compose! {
    fn any_generations()(
        current in any_generation(),
        bitmap in any_generation(),
        history in vec(any_generation(), GENERATION_HISTORY_LENGTH),
    ) -> Generations {
        Generations { current, bitmap, history: history.try_into().expect("as many as the history is long") }
    }
}

prop_compose! {
    fn any_volume_view()(
        sizes in any::<(u64, u64, u32)>(),
        disk in select(DISKS.to_vec()),
        generations in any_generations(),
        (crashed_primary, last_primary, diverged_as_primary) in any::<(bool, bool, bool)>(),
        prior_end in select(ENDS.to_vec()),
        (out_of_sync_blocks, diverged_since_unix_ms) in any::<(u64, u64)>(),
        word in select(WORDS.to_vec()),
    ) -> VolumeView {
        let (available_bytes, agreed_bytes, logical_block_bytes) = sizes;
        VolumeView {
            volume: VolumeNumber(0),
            available_bytes,
            agreed_bytes,
            logical_block_bytes,
            disk,
            generations,
            crashed_primary,
            prior_end,
            last_primary,
            out_of_sync_blocks,
            word,
            diverged_as_primary,
            diverged_since_unix_ms,
        }
    }
}

/// Values by volume, in the volumes' order.
fn by_volume<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = BTreeMap<VolumeNumber, T>> {
    proptest::collection::btree_map(any_volume(), value, 0..20)
}

prop_compose! {
    fn any_view()(
        role in any_role(),
        (sorts_first, plan) in any::<(bool, bool)>(),
        (after_0_primaries, after_1_primary) in (select(AFTER_0.to_vec()), select(AFTER_1.to_vec())),
        volumes in by_volume(any_volume_view()),
    ) -> NodeView {
        let number = |(volume, view): (VolumeNumber, VolumeView)| VolumeView { volume, ..view };
        let policies = SplitBrainPolicies { after_0_primaries, after_1_primary };
        NodeView { role, sorts_first, plan, policies, volumes: volumes.into_iter().map(number).collect() }
    }
}

fn any_decision() -> impl Strategy<Value = SyncDecision> {
    let extent = || select(vec![ByBitmapOrFull::ByBitmap, ByBitmapOrFull::Full]);
    let verdict = prop_oneof![
        Just(SyncVerdict::Nothing),
        extent().prop_map(SyncVerdict::Source),
        extent().prop_map(SyncVerdict::Target),
        select(SYNC_REFUSALS.to_vec()).prop_map(SyncVerdict::Refuse),
    ];
    (select(SyncRule::ALL.to_vec()), verdict).prop_map(|(rule, verdict)| SyncDecision { rule, verdict })
}

/// Set runs in order, as gaps and lengths from `from`, and the block after the last.
pub fn runs_from(from: u64, lengths: &[(u16, u16)]) -> (Vec<BlockRange>, u64) {
    let mut position = from;
    let mut runs = Vec::new();
    for (clear, set) in lengths {
        let run = BlockRange::new(position + u64::from(*clear) + 1, u64::from(*set) + 1);
        position = run.end();
        runs.push(run);
    }
    (runs, position)
}

prop_compose! {
    fn any_bitmap_part()(
        volume in any_volume(),
        from in 0u64..1 << 50,
        lengths in vec(any::<(u16, u16)>(), 0..200),
        more in proptest::option::of(1u64..1000),
    ) -> ControlMessage {
        let (set, end) = runs_from(from, &lengths);
        let (runs, _) = encode_runs(BlockIndex(from), set);
        ControlMessage::BitmapPart { volume, from: BlockIndex(from), next: more.map(|more| BlockIndex(end + more)), runs }
    }
}

fn any_volume_message() -> impl Strategy<Value = ControlMessage> {
    (any_volume(), any::<bool>(), any_generation(), 0..11).prop_map(|(volume, flag, id, which)| match which {
        0 => ControlMessage::ResyncReady { volume },
        1 => ControlMessage::ResyncFinish { volume },
        2 => ControlMessage::ResyncFinished { volume },
        3 => ControlMessage::DiskLost { volume },
        4 => ControlMessage::DiskLostNoted { volume, carries_on: flag, generation: id },
        5 => ControlMessage::Invalidate { volume, full: flag },
        6 => ControlMessage::NewGenerationDone { volume },
        7 => ControlMessage::PauseSync { volume, paused: flag },
        8 => ControlMessage::NewGeneration { volume, id, clear_bitmap: flag },
        9 => ControlMessage::ResyncStart { volume, bitmap_generation: id },
        _ => ControlMessage::PromoteReply { granted: flag },
    })
}

fn any_comparison() -> impl Strategy<Value = ControlMessage> {
    let id = || any::<u64>().prop_map(TransferId);
    prop_oneof![
        (id(), any_volume(), any_range(REQUEST_LENGTH_MAX), any::<[u8; 32]>())
            .prop_map(|(id, volume, range, key)| ControlMessage::DigestRequest { id, volume, range, key }),
        (id(), 0..=256usize, any::<u8>()).prop_map(|(id, blocks, byte)| ControlMessage::Digests {
            id,
            digests: vec![byte; blocks * rep_types::DIGEST_LENGTH]
        }),
        (id(), proptest::collection::btree_set(0..256u16, 0..9), any::<bool>()).prop_map(|(id, different, resync)| {
            let different = different.into_iter().collect();
            match resync {
                true => ControlMessage::ResyncCompared { id, different },
                false => ControlMessage::DigestDone { id, different },
            }
        }),
        (id(), any_volume(), any_range(REQUEST_LENGTH_MAX), any::<[u8; 32]>(), 0..=256usize).prop_map(
            |(id, volume, range, key, blocks)| ControlMessage::ResyncCompare {
                id,
                volume,
                range,
                key,
                digests: vec![key[0]; blocks * rep_types::DIGEST_LENGTH]
            }
        ),
    ]
}

fn any_room() -> impl Strategy<Value = Room> {
    let limit = prop_oneof![
        Just(RoomLimit::Disk),
        any::<u64>().prop_map(|needed_bytes| RoomLimit::GrownTooLittle { needed_bytes }),
        any::<u64>().prop_map(|needed_bytes| RoomLimit::MetadataDevice { needed_bytes }),
        Just(RoomLimit::Largest),
    ];
    (any::<u64>(), limit).prop_map(|(bytes, limit)| Room { bytes, limit })
}

fn any_resize() -> impl Strategy<Value = ControlMessage> {
    let step = prop_oneof![
        Just(ResizeStep::Ask),
        any::<u64>().prop_map(|size_bytes| ResizeStep::Prepare { size_bytes }),
        (any::<u64>(), any::<bool>())
            .prop_map(|(size_bytes, assume_clean)| ResizeStep::Commit { size_bytes, assume_clean }),
    ];
    let answer = prop_oneof![
        any_room().prop_map(ResizeAnswer::Room),
        Just(ResizeAnswer::Prepared),
        Just(ResizeAnswer::Refused(ResizeRefusal::ResyncUnderWay)),
    ];
    prop_oneof![
        (any_volume(), step).prop_map(|(volume, step)| ControlMessage::Resize { volume, step }),
        (any_volume(), answer).prop_map(|(volume, answer)| ControlMessage::ResizeAnswer { volume, answer }),
        (any_volume(), any::<u64>(), any_room()).prop_map(|(volume, agreed_bytes, room)| ControlMessage::Size {
            volume,
            agreed_bytes,
            room
        }),
    ]
}

/// Any control message.
pub fn any_control() -> impl Strategy<Value = ControlMessage> {
    prop_oneof![
        (any::<u32>(), any_view()).prop_map(|(round, view)| ControlMessage::View { round, view }),
        (any::<u32>(), by_volume(any_decision())).prop_map(|(round, decisions)| ControlMessage::Decision {
            round,
            decisions: decisions.into_iter().collect()
        }),
        (any_volume(), any_block()).prop_map(|(volume, from)| ControlMessage::BitmapRequest { volume, from }),
        any_bitmap_part(),
        any_resize(),
        any_handover(),
        (any_volume(), any_generation(), vec(any_generation(), 0..=GENERATION_HISTORY_LENGTH))
            .prop_map(|(volume, current, history)| ControlMessage::ResyncGenerations { volume, current, history }),
        (any_volume(), any_block(), 0u64..1 << 40).prop_map(|(volume, first, count)| ControlMessage::OutOfSync {
            volume,
            first,
            count
        }),
        (any_role(), by_volume(select(DISKS.to_vec())))
            .prop_map(|(role, disks)| ControlMessage::State { role, disks: disks.into_iter().collect() }),
        any_role().prop_map(|role| ControlMessage::LeaveNoted { role }),
        (any_volume(), any::<bool>()).prop_map(|(volume, running)| ControlMessage::Verify { volume, running }),
        any_comparison(),
        select(vec![ControlMessage::PromoteRequest, ControlMessage::Leave, ControlMessage::BeginAnew]),
        any_volume_message(),
    ]
}

/// Any message.
pub fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![any_hot(), any_control().prop_map(Message::from)]
}
