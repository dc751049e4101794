//! Entry points for fuzzing: whatever the bytes, these return, allocate within the limits, and what they accept means
//! the same when encoded again.

use crate::frame::{FrameReader, FrameWriter, Parsed};
use crate::opening::{Opening, OpeningConfig, OpeningRandom, OpeningSide, Progress};
use crate::runs::{RunsWriter, decode_runs};
use crate::{control, legal};
use rep_types::{BlockIndex, NodeName, ResourceName};

/// A stream of frames as received. The first eight bytes are the session number, so that the fuzzer can hit it.
/// Payload bytes are skipped unchecked: they are never interpreted.
pub fn fuzz_frames(data: &[u8]) {
    let Some((session, mut rest)) = data.split_first_chunk() else { return };
    let session = u64::from_le_bytes(*session);
    let (mut reader, mut writer) = (FrameReader::new(1, session), FrameWriter::new(1, session));
    while let Ok(Parsed::Frame(frame)) = reader.parse(rest) {
        let (front, behind) = rest.split_at(frame.consumed);
        let mut again = Vec::new();
        let crc = frame.payload.map_or(0, |payload| payload.crc);
        writer.encode(&frame.message, crc, &mut again).expect("what was accepted may be sent");
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

/// What a stranger sends to a listener (first byte even) or a dialer (odd). Without the secret it never opens.
pub fn fuzz_opening(data: &[u8]) {
    let Some((side, data)) = data.split_first() else { return };
    let side = if side % 2 == 0 { OpeningSide::Listener } else { OpeningSide::Dialer };
    let Some(config) = fuzz_config() else { return };
    let mut opening = Opening::new(side, config, OpeningRandom { nonce: [7; 32], session: 7 });
    for piece in data.chunks(37) {
        match opening.receive(piece) {
            Ok(received) => assert!(!matches!(received.progress, Progress::Open(_)), "opened without the secret"),
            Err(_) => break,
        }
    }
    assert!(opening.take_outgoing().len() <= crate::limits::OPENING_LENGTH_MAX);
}

fn fuzz_config() -> Option<OpeningConfig> {
    let name = |name: &str| NodeName::new(name).ok();
    let secret = crate::opening::Secret::new([0x5a; 32]).ok();
    Some(OpeningConfig::new(ResourceName::new("r").ok()?, name("a")?, name("b")?, secret))
}
