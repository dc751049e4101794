//! Entry points for fuzzing: whatever the bytes, these return, allocate within the limits, and what they accept means
//! the same when encoded again.

use crate::frame::{FrameReader, FrameWriter, Parsed};
use crate::limits::FRAME_WITHOUT_PAYLOAD_LENGTH_MAX;
use crate::opening::{Opening, OpeningConfig, OpeningRandom, OpeningSide, Progress, Received, Secret};
use crate::payload_sum::PayloadSum;
use crate::runs::{RunsWriter, decode_runs};
use crate::{control, legal};
use rep_types::{BlockIndex, NodeName, ResourceName};

/// The sum that [`fuzz_frames`] takes for agreed on, by the session number.
pub fn fuzzed_sums(session: u64) -> PayloadSum {
    if session & 1 == 0 { PayloadSum::Crc32 } else { PayloadSum::Xxh64 }
}

/// A stream of frames as received. The first eight bytes are the session number, so that the fuzzer can hit it.
/// Payload bytes are checked and skipped: they are never interpreted.
pub fn fuzz_frames(data: &[u8]) {
    let Some((session, mut rest)) = data.split_first_chunk() else { return };
    let session = u64::from_le_bytes(*session);
    let sums = fuzzed_sums(session);
    let (mut reader, mut writer) = (FrameReader::new(1, session, sums), FrameWriter::new(1, session, sums));
    loop {
        let frame = match reader.parse(rest) {
            Ok(Parsed::Frame(frame)) => frame,
            Ok(Parsed::Incomplete { needed }) => {
                assert!(
                    needed > rest.len() && needed <= FRAME_WITHOUT_PAYLOAD_LENGTH_MAX,
                    "asks for more, not for all"
                );
                return;
            }
            Err(_) => return,
        };
        let (front, behind) = rest.split_at(frame.consumed);
        if let Some((payload, bytes)) = frame.payload.zip(behind.get(..frame.message.payload_length() as usize)) {
            let _ = payload.verify(bytes);
        }
        let mut again = Vec::new();
        let sum = frame.payload.map_or(0, |payload| payload.sum);
        writer.encode(&frame.message, sum, &mut again).expect("what was accepted may be sent");
        assert!(again.len() <= front.len(), "the canonical form is the shortest");
        rest = behind.get(frame.message.payload_length() as usize..).unwrap_or_default();
    }
}

/// The body of a control message.
pub fn fuzz_control(data: &[u8]) {
    let Ok(message) = control::decode(data) else { return };
    let _ = legal::check(&message.clone().into());
    if let Ok(again) = control::encode(&message) {
        assert_eq!(control::decode(&again).as_ref(), Ok(&message));
    }
}

/// Bitmap runs from block 0.
pub fn fuzz_runs(data: &[u8]) {
    let runs: Result<Vec<_>, _> = decode_runs(BlockIndex(0), BlockIndex(u64::MAX), data).collect();
    let Ok(runs) = runs else { return };
    let mut writer = RunsWriter::new(BlockIndex(0));
    if runs.into_iter().all(|run| writer.push(run)) {
        assert_eq!(writer.finish(), data, "a bitmap has one code");
    }
}

/// What a stranger sends; the first byte chooses whom to (see [`fuzz_opening_side`]). With a secret it never opens.
pub fn fuzz_opening(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let (side, config) = fuzz_opening_side(*choice & 3);
    let proof_needed = config.secret.is_some();
    let mut opening = Opening::new(side, config, OpeningRandom { nonce: [7; 32], session: 7 });
    for piece in data.chunks(37) {
        match opening.receive(piece) {
            Ok(Received { progress: Progress::Open(agreed), consumed }) => {
                assert!(!proof_needed, "opened without the secret");
                assert!(consumed <= piece.len() && agreed.session_from_peer == 7);
                break;
            }
            Ok(Received { progress: Progress::Waiting, consumed }) => assert_eq!(consumed, piece.len()),
            Err(error) => {
                assert_eq!(opening.receive(piece), Err(error), "an error is final");
                break;
            }
        }
    }
    assert!(opening.take_outgoing().len() <= crate::limits::OPENING_LENGTH_MAX);
}

/// A side of an opening: bit 0 set is the dialer, bit 1 has no secret, bit 2 is node b, which the others expect.
pub fn fuzz_opening_side(choice: u8) -> (OpeningSide, OpeningConfig) {
    let side = if choice & 1 == 0 { OpeningSide::Listener } else { OpeningSide::Dialer };
    let name = |name: &str| NodeName::new(name).expect("a legal name");
    let (node, peer) = if choice & 4 == 0 { (name("a"), name("b")) } else { (name("b"), name("a")) };
    let secret = (choice & 2 == 0).then(|| Secret::new([0x5a; 32]).expect("a legal secret"));
    let resource = ResourceName::new("r").expect("a legal name");
    // Offers nothing, so that a proof in the corpus stays one whatever features come.
    (side, OpeningConfig { features: 0, ..OpeningConfig::new(resource, node, peer, secret) })
}
