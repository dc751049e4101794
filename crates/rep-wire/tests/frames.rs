//! Frames: what goes in comes out, whatever the pieces; what was damaged, repeated or lost is told.

mod support;

use proptest::prelude::*;
use rep_types::{BlockIndex, BlockRange, ByteRange, GenerationId, IoError, VolumeNumber, ZeroBlocks, ZeroMode};
use rep_wire::limits::{FORWARD_WINDOW, FRAME_WITHOUT_PAYLOAD_LENGTH_MAX, HEADER_LENGTH, RUNS_LENGTH_MAX, VOLUMES_MAX};
use rep_wire::{
    BodyError, ControlMessage, FrameError, FrameReader, FrameWriter, Message, Parsed, PayloadSum, RunsError,
    TransferId, decode_runs, encode_runs,
};
use support::any::{any_hot, any_message, runs_from};
use support::{SESSION, crc_of, frame_of, parse_first, payload_of, samples};

const ID: TransferId = TransferId(9);
const VOLUME: VolumeNumber = VolumeNumber(0);
const SUM: PayloadSum = PayloadSum::Crc32;

fn encode(message: &Message) -> Result<usize, BodyError> {
    FrameWriter::new(1, SESSION, SUM).encode(message, 0, &mut Vec::new())
}

fn reader() -> FrameReader {
    FrameReader::new(1, SESSION, SUM)
}

/// Puts a right CRC on a header that was edited, so that what lies behind the CRC is reached.
fn seal(frame: &mut [u8]) {
    let crc = crc_of(&frame[..HEADER_LENGTH - 4]);
    frame[HEADER_LENGTH - 4..HEADER_LENGTH].copy_from_slice(&crc.to_le_bytes());
}

fn seal_body(frame: &mut [u8]) {
    let crc = crc_of(&frame[HEADER_LENGTH..]);
    frame[36..40].copy_from_slice(&crc.to_le_bytes());
    seal(frame);
}

proptest! {
    #[test]
    fn every_message_comes_back(message in any_message()) {
        let bytes = frame_of(&message);
        let frame = parse_first(&bytes);
        prop_assert_eq!(&frame.message, &message);
        prop_assert_eq!(frame.consumed, bytes.len());
        prop_assert_eq!(frame.payload.map_or(0, |payload| payload.length), message.payload_length());
        prop_assert!(bytes.len() <= FRAME_WITHOUT_PAYLOAD_LENGTH_MAX);
    }

    /// The shell's loop: small frames out of one buffer, payloads skipped, bytes arriving in pieces of any size.
    #[test]
    fn a_stream_is_taken_apart_whatever_the_pieces(
        messages in proptest::collection::vec(any_message(), 1..20),
        piece in 1usize..5000,
        sums in prop_oneof![Just(PayloadSum::Crc32), Just(PayloadSum::Xxh64)],
    ) {
        let (mut writer, mut stream) = (FrameWriter::new(1, SESSION, sums), Vec::new());
        for message in &messages {
            let payload = payload_of(message);
            writer.encode(message, sums.of(&payload), &mut stream).expect("legal");
            stream.extend_from_slice(&payload);
        }
        let mut reader = FrameReader::new(1, SESSION, sums);
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        let mut awaited = None;
        for chunk in stream.chunks(piece) {
            buffer.extend_from_slice(chunk);
            loop {
                if let Some(expected) = awaited {
                    let expected: rep_wire::PayloadExpected = expected;
                    let length = expected.length as usize;
                    if buffer.len() < length {
                        break;
                    }
                    prop_assert_eq!(expected.verify(&buffer[..length]), Ok(()));
                    buffer.drain(..length);
                }
                awaited = None;
                match reader.parse(&buffer).expect("a legal stream") {
                    Parsed::Frame(frame) => {
                        buffer.drain(..frame.consumed);
                        awaited = frame.payload;
                        found.push(frame.message);
                    }
                    Parsed::Incomplete { needed } => {
                        prop_assert!(needed > buffer.len() && needed <= FRAME_WITHOUT_PAYLOAD_LENGTH_MAX);
                        break;
                    }
                }
            }
        }
        prop_assert!(buffer.is_empty() && awaited.is_none());
        prop_assert_eq!(found, messages);
    }

    #[test]
    fn any_damaged_bit_is_detected(message in any_message(), position in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = frame_of(&message);
        let index = position.index(bytes.len());
        bytes[index] ^= 1u8 << bit;
        prop_assert!(reader().parse(&bytes).is_err(), "bit {} of byte {} went unseen", bit, index);
    }

    #[test]
    fn any_damaged_payload_is_detected(sectors in 1u32..64, position in any::<prop::sample::Index>(), bit in 0..8) {
        let message = Message::ResyncData { id: ID, length: sectors * 512 };
        let expected = parse_first(&frame_of(&message)).payload.expect("a payload");
        let mut payload = payload_of(&message);
        let index = position.index(payload.len());
        payload[index] ^= 1u8 << bit;
        prop_assert_eq!(expected.verify(&payload), Err(FrameError::PayloadDamaged));
        prop_assert_eq!(expected.verify(&payload[1..]), Err(FrameError::PayloadDamaged));
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = reader().parse(&bytes);
        rep_wire::fuzz_frames(&bytes);
        rep_wire::fuzz_control(&bytes);
        rep_wire::fuzz_runs(&bytes);
        rep_wire::fuzz_opening(&bytes);
    }

    /// Bytes behind right CRCs: everything the checks behind them are there for.
    #[test]
    fn sealed_bodies_of_any_kind_never_panic(
        kind in any::<u8>(),
        payload_length in prop_oneof![Just(0u32), any::<u32>()],
        body in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut frame = frame_of(&Message::Ping { id: ID })[..HEADER_LENGTH].to_vec();
        frame[6] = kind;
        frame[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
        frame[12..16].copy_from_slice(&payload_length.to_le_bytes());
        frame.extend_from_slice(&body);
        seal_body(&mut frame);
        if let Ok(Parsed::Frame(found)) = reader().parse(&frame) {
            prop_assert_eq!(found.message.payload_length(), payload_length);
            prop_assert!(encode(&found.message).is_ok(), "accepted, yet not to be sent");
        }
    }

    #[test]
    fn edited_hot_bodies_mean_something_legal_or_are_refused(
        message in any_hot(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = frame_of(&message);
        let body_length = frame.len() - HEADER_LENGTH;
        for (position, value) in edits {
            frame[HEADER_LENGTH + position.index(body_length)] = value;
        }
        seal_body(&mut frame);
        if let Ok(Parsed::Frame(found)) = reader().parse(&frame) {
            prop_assert!(encode(&found.message).is_ok());
        }
    }

    #[test]
    fn any_bitmap_comes_back_in_parts(from in 0u64..1 << 40, lengths in proptest::collection::vec(any::<(u16, u16)>(), 0..300)) {
        let (set, end) = runs_from(from, &lengths);
        let (runs, next) = encode_runs(BlockIndex(from), set.iter().copied());
        prop_assert_eq!(next, None);
        let decoded: Result<Vec<BlockRange>, RunsError> = decode_runs(BlockIndex(from), BlockIndex(end), &runs).collect();
        prop_assert_eq!(decoded, Ok(set));
    }
}

#[test]
fn every_bit_of_every_sample_matters() {
    for (name, message) in samples() {
        let bytes = frame_of(&message);
        for index in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[index / 8] ^= 1 << (index % 8);
            assert!(reader().parse(&damaged).is_err(), "{name}: bit {index} went unseen");
        }
    }
}

#[test]
fn every_prefix_of_a_frame_asks_for_more_and_applies_nothing() {
    let bytes = frame_of(&Message::Ping { id: ID });
    let mut reader = reader();
    for length in 0..bytes.len() {
        let parsed = reader.parse(&bytes[..length]).expect("so far legal");
        let needed = if length < HEADER_LENGTH { HEADER_LENGTH } else { bytes.len() };
        assert_eq!(parsed, Parsed::Incomplete { needed });
    }
    assert!(matches!(reader.parse(&bytes), Ok(Parsed::Frame(_))));
}

#[test]
fn what_is_no_frame_is_told_by_its_first_byte() {
    assert_eq!(reader().parse(b"G"), Err(FrameError::NotAFrame));
    assert_eq!(reader().parse(b"REPO"), Err(FrameError::NotAFrame));
    assert_eq!(reader().parse(b"RE"), Ok(Parsed::Incomplete { needed: HEADER_LENGTH }));
}

#[test]
fn a_repeated_or_lost_frame_is_told() {
    let mut writer = FrameWriter::new(1, SESSION, SUM);
    let frames: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let mut out = Vec::new();
            writer.encode(&Message::Ping { id: ID }, 0, &mut out).expect("legal");
            out
        })
        .collect();
    let mut reader = reader();
    assert!(matches!(reader.parse(&frames[0]), Ok(Parsed::Frame(_))));
    assert_eq!(reader.parse(&frames[0]), Err(FrameError::OutOfSequence { expected: 2, found: 1 }));
    assert_eq!(reader.parse(&frames[2]), Err(FrameError::OutOfSequence { expected: 2, found: 3 }));
    assert!(matches!(reader.parse(&frames[1]), Ok(Parsed::Frame(_))));
}

#[test]
fn frames_of_another_session_or_version_are_told() {
    let bytes = frame_of(&Message::Ping { id: ID });
    assert_eq!(FrameReader::new(1, SESSION + 1, SUM).parse(&bytes), Err(FrameError::WrongSession));
    assert_eq!(FrameReader::new(2, SESSION, SUM).parse(&bytes), Err(FrameError::WrongVersion(1)));
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_anything_is_awaited() {
    let edited = |at: usize, value: u32| {
        let mut frame = frame_of(&Message::Ping { id: ID })[..HEADER_LENGTH].to_vec();
        frame[at..at + 4].copy_from_slice(&value.to_le_bytes());
        seal(&mut frame);
        reader().parse(&frame)
    };
    assert_eq!(edited(8, u32::MAX), Err(FrameError::BodyTooLong(u32::MAX)));
    assert_eq!(edited(8, (64 << 10) + 1), Err(FrameError::BodyTooLong((64 << 10) + 1)));
    assert_eq!(edited(12, u32::MAX), Err(FrameError::PayloadTooLong(u32::MAX)));
    assert_eq!(edited(12, (1 << 20) + 1), Err(FrameError::PayloadTooLong((1 << 20) + 1)));
}

#[test]
fn unknown_kinds_flags_and_reserved_fields_are_refused() {
    let edited = |at: usize, value: u8| {
        let mut frame = frame_of(&Message::Ping { id: ID });
        frame[at] = value;
        seal(&mut frame);
        reader().parse(&frame)
    };
    assert_eq!(edited(6, 0), Err(FrameError::UnknownKind(0)));
    assert_eq!(edited(6, 22), Err(FrameError::UnknownKind(22)));
    assert_eq!(edited(7, 1), Err(FrameError::UnknownFlags));
    assert_eq!(edited(40, 1), Err(FrameError::UnknownFlags));
    assert_eq!(edited(12, 1), Err(FrameError::Body(BodyError::PayloadMismatch)));
    assert_eq!(edited(32, 1), Err(FrameError::Body(BodyError::PayloadMismatch)));
}

#[test]
fn illegal_ranges_are_neither_sent_nor_taken() {
    let (id, volume) = (ID, VOLUME);
    let write =
        |offset, length| encode(&Message::Write { id, volume, range: ByteRange::new(offset, length), durable: false });
    assert_eq!(write(0, 0), Err(BodyError::IllegalRange));
    assert_eq!(write(1, 512), Err(BodyError::IllegalRange));
    assert_eq!(write(0, 511), Err(BodyError::IllegalRange));
    assert_eq!(write(0, (1 << 20) + 512), Err(BodyError::IllegalRange));
    assert_eq!(write(u64::MAX - 511, 512), Err(BodyError::IllegalRange));
    assert_eq!(write(1 << 63, 512), Err(BodyError::IllegalRange));
    assert!(write((1 << 63) - 1024, 512).is_ok());
    let zero = |length| {
        let range = ByteRange::new(0, length);
        encode(&Message::Zero { id, volume, range, mode: ZeroMode::Discard, durable: false })
    };
    assert!(zero(4 << 20).is_ok());
    assert_eq!(zero((4 << 20) + 512), Err(BodyError::IllegalRange));
    assert_eq!(encode(&Message::ReadReply { id, length: 0, result: Ok(()) }), Err(BodyError::IllegalRange));
    assert_eq!(encode(&Message::ReadReply { id, length: 512, result: Err(IoError::Io) }), Err(BodyError::IllegalRange));
    assert_eq!(encode(&Message::ResyncData { id, length: 0 }), Err(BodyError::IllegalRange));
    let mut frame = frame_of(&Message::Read { id, volume, range: ByteRange::new(512, 512) });
    frame[HEADER_LENGTH + 8] = 1;
    seal_body(&mut frame);
    assert_eq!(reader().parse(&frame), Err(FrameError::Body(BodyError::IllegalRange)));
}

#[test]
fn zeroes_that_dont_fit_their_range_are_neither_sent_nor_taken() {
    let with = |blocks: std::ops::Range<u32>| {
        let mut zeroes = ZeroBlocks::NONE;
        blocks.for_each(|block| zeroes.set(block));
        zeroes
    };
    let illegal = [
        (40960, with(0..10), BodyError::IllegalRuns),
        (40960, with(0..0), BodyError::IllegalRuns),
        (40960, with(9..11), BodyError::IllegalRuns),
        (40960, with(255..256), BodyError::IllegalRuns),
        (512, with(1..2), BodyError::IllegalRuns),
        (1 << 20, with(0..256), BodyError::IllegalRuns),
        (0, with(0..1), BodyError::IllegalRange),
        (513, with(0..1), BodyError::IllegalRange),
        ((1 << 20) + 512, with(0..1), BodyError::IllegalRange),
        (u32::MAX, with(0..1), BodyError::IllegalRange),
    ];
    let template = frame_of(&Message::ResyncRuns { id: ID, length: 40960, zeroes: with(0..2) });
    for (length, zeroes, error) in illegal {
        assert_eq!(encode(&Message::ResyncRuns { id: ID, length, zeroes }), Err(error), "{length} {zeroes:?}");
        // The same bytes from a peer that doesn't check, with whatever payload length they would have.
        let mut frame = template.clone();
        frame[HEADER_LENGTH + 8..HEADER_LENGTH + 12].copy_from_slice(&length.to_le_bytes());
        frame[HEADER_LENGTH + 16..].copy_from_slice(&zeroes.to_bytes());
        seal_body(&mut frame);
        assert_eq!(reader().parse(&frame), Err(FrameError::Body(error)), "{length} {zeroes:?}");
    }
    assert!(encode(&Message::ResyncRuns { id: ID, length: 1 << 20, zeroes: with(1..256) }).is_ok());
}

#[test]
fn a_payload_that_isnt_the_other_blocks_is_refused() {
    let mut zeroes = ZeroBlocks::NONE;
    zeroes.set(0);
    let message = Message::ResyncRuns { id: ID, length: 2 * 4096 + 512, zeroes };
    assert_eq!((message.payload_length(), message.buffer_length()), (4096 + 512, 2 * 4096 + 512));
    assert_eq!(message.payload_parts().collect::<Vec<_>>(), [ByteRange::new(4096, 4096 + 512)]);
    for length in [0, 512, 4096, 4096 + 1024, 2 * 4096 + 512] {
        let mut frame = frame_of(&message);
        frame[12..16].copy_from_slice(&u32::to_le_bytes(length));
        seal(&mut frame);
        assert_eq!(reader().parse(&frame), Err(FrameError::Body(BodyError::PayloadMismatch)), "{length}");
    }
    let mut frame = frame_of(&message);
    frame[HEADER_LENGTH + 12] = 1;
    seal_body(&mut frame);
    assert_eq!(reader().parse(&frame), Err(FrameError::Body(BodyError::ReservedNotZero)));
}

#[test]
fn the_sum_of_parts_is_that_of_the_whole() {
    let bytes: Vec<u8> = (0..9000u32).map(|index| index as u8).collect();
    for sums in [PayloadSum::Crc32, PayloadSum::Xxh64] {
        for cut in [0, 1, 4096, 9000] {
            let (front, behind) = bytes.split_at(cut);
            assert_eq!(sums.of_parts([front, behind].into_iter()), sums.of(&bytes));
            let (middle, end) = behind.split_at(behind.len() / 2);
            assert_eq!(sums.of_parts([front, middle, end].into_iter()), sums.of(&bytes));
        }
        assert_eq!(sums.of_parts(std::iter::empty()), sums.of(&[]));
    }
}

/// The values of their specifications, so that two versions of a library never disagree.
#[test]
fn sums_are_the_ones_everybody_knows() {
    assert_eq!(PayloadSum::Crc32.of(b"123456789"), 0xcbf4_3926);
    assert_eq!(PayloadSum::Xxh64.of(b""), 0xef46_db37_51d8_e999);
    assert_eq!(PayloadSum::Xxh64.of(b"abc"), 0x44bc_2cf5_ad77_0999);
}

/// Every bit of a payload counts, and every bit of its sum; a CRC has no high half.
#[test]
fn what_was_damaged_is_told_by_either_sum() {
    let message = Message::Write { id: ID, volume: VOLUME, range: ByteRange::new(0, 4096), durable: false };
    let payload = payload_of(&message);
    for sums in [PayloadSum::Crc32, PayloadSum::Xxh64] {
        let mut frame = Vec::new();
        FrameWriter::new(1, SESSION, sums).encode(&message, sums.of(&payload), &mut frame).expect("legal");
        let parse = |frame: &[u8]| FrameReader::new(1, SESSION, sums).parse(frame);
        let Ok(Parsed::Frame(whole)) = parse(&frame) else { panic!("a frame") };
        let expected = whole.payload.expect("a payload");
        assert_eq!(expected.verify(&payload), Ok(()));
        for bit in [0, 7, 4095 * 8, 2048 * 8 + 3] {
            let mut damaged = payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(expected.verify(&damaged), Err(FrameError::PayloadDamaged), "{sums:?} bit {bit}");
        }
        for at in [32, 35, 40, 43] {
            let mut damaged = frame.clone();
            damaged[at] ^= 1;
            seal(&mut damaged);
            match parse(&damaged) {
                Ok(Parsed::Frame(frame)) => {
                    let expected = frame.payload.expect("a payload");
                    assert_eq!(expected.verify(&payload), Err(FrameError::PayloadDamaged), "{sums:?} byte {at}");
                }
                other => {
                    assert_eq!(other, Err(FrameError::UnknownFlags), "{sums:?} byte {at}");
                    assert!(sums == PayloadSum::Crc32 && at >= 40);
                }
            }
        }
    }
}

#[test]
fn illegal_control_messages_are_neither_sent_nor_taken() {
    let volume = VOLUME;
    let refused = |message: ControlMessage| encode(&message.into()).expect_err("illegal");
    let part = |from: u64, next: Option<u64>, runs: Vec<u8>| ControlMessage::BitmapPart {
        volume,
        from: BlockIndex(from),
        next: next.map(BlockIndex),
        runs,
    };
    assert_eq!(refused(part(5, Some(5), vec![])), BodyError::IllegalBlock);
    assert_eq!(refused(part(5, Some(4), vec![])), BodyError::IllegalBlock);
    assert_eq!(refused(part(u64::MAX, None, vec![])), BodyError::IllegalBlock);
    assert_eq!(refused(part(0, Some(10), vec![9, 2])), BodyError::Runs(RunsError::BeyondEnd));
    assert_eq!(refused(part(0, None, vec![1; RUNS_LENGTH_MAX + 2])), BodyError::IllegalList);
    let out_of_sync = |first, count| refused(ControlMessage::OutOfSync { volume, first: BlockIndex(first), count });
    assert_eq!(out_of_sync(1, u64::MAX), BodyError::IllegalBlock);
    assert_eq!(out_of_sync(1 << 52, 1), BodyError::IllegalBlock);
    let history = vec![GenerationId(5); 9];
    let current = GenerationId(6);
    assert_eq!(refused(ControlMessage::ResyncGenerations { volume, current, history }), BodyError::IllegalList);
    let state = |numbers: Vec<u16>| ControlMessage::State {
        role: rep_types::Role::Primary,
        disks: numbers.into_iter().map(|number| (VolumeNumber(number), rep_types::DiskState::UpToDate)).collect(),
    };
    assert_eq!(refused(state(vec![2, 1])), BodyError::IllegalList);
    assert_eq!(refused(state(vec![1, 1])), BodyError::IllegalList);
    assert_eq!(refused(state((0..=VOLUMES_MAX as u16).collect())), BodyError::IllegalList);
}

/// The longest legal control messages fit a frame: the limits agree with each other.
#[test]
fn the_longest_control_messages_fit_a_frame() {
    let view = |number: u16| rep_wire::VolumeView {
        volume: VolumeNumber(number + 60_000),
        available_bytes: u64::MAX,
        agreed_bytes: u64::MAX,
        logical_block_bytes: u32::MAX,
        disk: rep_types::DiskState::DUnknown,
        generations: rep_types::Generations {
            current: GenerationId(u64::MAX),
            bitmap: GenerationId(u64::MAX),
            history: [GenerationId(u64::MAX); 8],
        },
        crashed_primary: true,
        prior_end: rep_wire::PriorEnd::NodeCrash,
        last_primary: true,
        out_of_sync_blocks: u64::MAX,
        word: rep_wire::OperatorWord::DiscardPeers,
        diverged_as_primary: true,
        diverged_since_unix_ms: u64::MAX,
    };
    let volumes = (0..VOLUMES_MAX as u16).map(view).collect();
    let view = rep_wire::NodeView {
        role: rep_types::Role::Primary,
        sorts_first: true,
        plan: true,
        policies: rep_types::SplitBrainPolicies::default(),
        volumes,
    };
    assert!(encode(&ControlMessage::View { round: u32::MAX, view }.into()).is_ok());
    let set = (0..1 << 20).map(|index| BlockRange::new(index * 2 + 1, 1));
    let (runs, next) = encode_runs(BlockIndex(0), set);
    assert!(runs.len() > RUNS_LENGTH_MAX - 20 && next.is_some());
    assert!(encode(&ControlMessage::BitmapPart { volume: VOLUME, from: BlockIndex(0), next, runs }.into()).is_ok());
    let done = |count: u64| {
        let results = (0..count).map(|id| (TransferId(u64::MAX - id), Err(rep_types::IoError::Unsupported))).collect();
        encode(&ControlMessage::ForwardDone { lease: u64::MAX, results }.into())
    };
    assert!(done(FORWARD_WINDOW).is_ok());
    assert_eq!(done(FORWARD_WINDOW + 1), Err(BodyError::IllegalList));
}

/// A forwarded flush is of a whole volume: a range in it stands for nothing.
#[test]
fn a_forwarded_flush_names_no_range() {
    let whole = frame_of(&Message::ForwardFlush { id: ID, volume: VOLUME });
    let body = HEADER_LENGTH;
    for at in [body + 8, body + 16, body + 22, body + 23] {
        let mut frame = whole.clone();
        frame[at] = 1;
        seal_body(&mut frame);
        assert!(matches!(reader().parse(&frame), Err(FrameError::Body(_))), "byte {at}");
    }
    assert!(reader().parse(&whole).is_ok());
}

#[test]
fn a_refused_message_leaves_the_writer_as_it_was() {
    let (mut writer, mut out) = (FrameWriter::new(1, SESSION, SUM), Vec::new());
    let illegal = Message::Read { id: ID, volume: VOLUME, range: ByteRange::new(0, 0) };
    assert_eq!(writer.encode(&illegal, 0, &mut out), Err(BodyError::IllegalRange));
    assert!(out.is_empty());
    writer.encode(&Message::Ping { id: ID }, 0, &mut out).expect("legal");
    assert_eq!(parse_first(&out).message, Message::Ping { id: ID });
}
