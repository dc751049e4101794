//! What the peer sends, or somebody who pretends to be the peer.

use super::Target;

/// Before the proof.
pub const OPENING: Target = Target {
    name: "peer-opening",
    about: "what a stranger sends before the proof",
    run: rep_wire::fuzz_opening,
    seeds: || vec![vec![0; 64], vec![1; 64]],
    length_max: 4 << 10,
    memory_max: 1 << 20,
};

/// After it.
pub const FRAMES: Target = Target {
    name: "peer-frames",
    about: "frames of the peer link",
    run: rep_wire::fuzz_frames,
    seeds: frames,
    length_max: 8 << 10,
    memory_max: 4 << 20,
};

/// Inside a frame.
pub const CONTROL: Target = Target {
    name: "peer-control",
    about: "control messages of the peer link",
    run: rep_wire::fuzz_control,
    seeds: bodies,
    length_max: 4 << 10,
    memory_max: 4 << 20,
};

/// Inside a control message.
pub const BITMAP_RUNS: Target = Target {
    name: "peer-bitmap-runs",
    about: "run lengths of a bitmap",
    run: rep_wire::fuzz_runs,
    seeds: || vec![vec![1, 2, 3], vec![0x80, 0x80, 1, 5]],
    length_max: 4 << 10,
    memory_max: 1 << 20,
};

/// Bytes of a frame before its body.
const FRAME_HEAD: usize = 48;
/// Where a frame names its session.
const SESSION: std::ops::Range<usize> = 16..24;

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
