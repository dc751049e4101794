//! What the peer sends, or somebody who pretends to be the peer.

use super::Target;
use crate::random::Random;
use rep_wire::{Opening, OpeningRandom, fuzzed_sums};

/// Before the proof.
pub const OPENING: Target = Target {
    name: "peer-opening",
    about: "what a stranger sends before the proof",
    run: rep_wire::fuzz_opening,
    seeds: openings,
    repair: repair_opening,
    memory_max: 1 << 20,
    ..Target::USUAL
};

/// After it.
pub const FRAMES: Target = Target {
    name: "peer-frames",
    about: "frames of the peer link",
    run: rep_wire::fuzz_frames,
    seeds: frames,
    repair: repair_frames,
    length_max: 8 << 10,
    ..Target::USUAL
};

/// Inside a frame.
pub const CONTROL: Target = Target {
    name: "peer-control",
    about: "control messages of the peer link",
    run: rep_wire::fuzz_control,
    seeds: bodies,
    ..Target::USUAL
};

/// Inside a control message.
pub const BITMAP_RUNS: Target = Target {
    name: "peer-bitmap-runs",
    about: "run lengths of a bitmap",
    run: rep_wire::fuzz_runs,
    seeds: || vec![vec![1, 2, 3], vec![0x80, 0x80, 1, 5]],
    memory_max: 1 << 20,
    ..Target::USUAL
};

/// Bytes of a frame before its body.
const FRAME_HEAD: usize = 48;
/// Where a frame names its session.
const SESSION: std::ops::Range<usize> = 16..24;
/// Bytes of an opening message before its body.
const ENVELOPE: usize = 12;

/// The golden frames of rep-wire.
fn golden() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/rep-wire/tests/golden");
    let mut paths: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    paths.sort();
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.map(|text| text.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()).collect()
}

/// Each as the first frame of its session, which the target wants to be told first.
fn frames() -> Vec<Vec<u8>> {
    let golden = golden();
    assert!(golden.len() > 10, "the golden frames are where they were");
    golden.iter().filter_map(|frame| Some([frame.get(SESSION)?, frame].concat())).collect()
}

fn bodies() -> Vec<Vec<u8>> {
    let bodies = golden().into_iter().filter_map(|frame| frame.get(FRAME_HEAD..).map(<[u8]>::to_vec));
    bodies.filter(|body| !body.is_empty()).collect()
}

/// What a real peer says to each side, with the secret and without: its hello, then a proof, none of which is right
/// where there is a secret; and every reason to refuse.
fn openings() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0; 64], vec![1; 64]];
    for choice in 0..4 {
        let hello = peers_hello(choice);
        for proof in [&[][..], &[0x11; 32], &[0x11; 31]] {
            seeds.push([&[choice][..], &hello, &message(2, proof)].concat());
        }
        seeds.push([&[choice][..], &hello, &hello].concat());
        for reason in 0..=9 {
            seeds.push([&[choice][..], &message(3, &[reason, 0, 1, 0, 2, 0])].concat());
        }
    }
    seeds
}

/// The hello of the peer that the target, told this choice, expects.
fn peers_hello(choice: u8) -> Vec<u8> {
    let side = |choice: u8, nonce: u8| {
        let (side, config) = rep_wire::fuzz_opening_side(choice);
        Opening::new(side, config, OpeningRandom { nonce: [nonce; 32], session: u64::from(nonce) })
    };
    // Bit 2 makes it the peer's names, bit 0 the other side.
    let (mut own, mut peer) = (side(choice, 7), side(choice ^ 5, 9));
    // A listener speaks when it was spoken to.
    let _ = peer.receive(&own.take_outgoing());
    peer.take_outgoing()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&b"REPO"[..], &[kind, 0], &(body.len() as u16).to_le_bytes(), &[0; 4], body].concat();
    message.insert(0, 0);
    repair_opening(&mut message, &mut Random::new(0));
    message.split_off(1)
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, number: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&number);
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Now and then something is left as it is, so that each check is met by what only it refuses.
fn mostly(random: &mut Random) -> bool {
    random.below(24) != 0
}

/// Lengths that fit and checksums of all opening messages.
fn repair_opening(data: &mut [u8], random: &mut Random) {
    let Some(mut rest) = data.get_mut(1..) else { return };
    while rest.len() >= ENVELOPE {
        let room = rest.len() - ENVELOPE;
        let mut length = usize::from(u16::from_le_bytes([rest[6], rest[7]]));
        if length > room && mostly(random) {
            length = room;
            put(rest, 6, (room as u16).to_le_bytes());
        }
        let Some(body) = rest.get(ENVELOPE..ENVELOPE + length) else { return };
        let crc = crc32fast::hash(&[&rest[..8], body].concat());
        if mostly(random) {
            put(rest, 8, crc.to_le_bytes());
        }
        rest = &mut rest[ENVELOPE + length..];
    }
}

/// The same of all frames, their session and their numbers.
fn repair_frames(data: &mut [u8], random: &mut Random) {
    let Some((&mut session, mut rest)) = data.split_first_chunk_mut::<8>() else { return };
    let sums = fuzzed_sums(u64::from_le_bytes(session));
    let mut sequence = 1_u64;
    while rest.len() >= FRAME_HEAD {
        let room = rest.len() - FRAME_HEAD;
        let mut length = get_u32(rest, 8) as usize;
        if length > room && mostly(random) {
            length = room;
            put(rest, 8, (room as u32).to_le_bytes());
        }
        let Some(body) = rest.get(FRAME_HEAD..).and_then(|behind| behind.get(..length)) else { return };
        let body_crc = crc32fast::hash(body);
        let payload = rest[FRAME_HEAD + length..].get(..get_u32(rest, 12) as usize).unwrap_or_default();
        let payload_sum = if payload.is_empty() { 0 } else { sums.of(payload) };
        let end = FRAME_HEAD + length + payload.len();
        for (at, number) in [(32, payload_sum as u32), (36, body_crc), (40, (payload_sum >> 32) as u32)] {
            if mostly(random) {
                put(rest, at, number.to_le_bytes());
            }
        }
        if mostly(random) {
            put(rest, 16, session);
            put(rest, 24, sequence.to_le_bytes());
        }
        if mostly(random) {
            let crc = crc32fast::hash(&rest[..FRAME_HEAD - 4]);
            put(rest, FRAME_HEAD - 4, crc.to_le_bytes());
        }
        sequence += 1;
        rest = &mut rest[end..];
    }
}
