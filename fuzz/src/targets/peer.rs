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
    seeds: || vec![vec![0; 64]],
    length_max: 8 << 10,
    memory_max: 4 << 20,
};

/// Inside a frame.
pub const CONTROL: Target = Target {
    name: "peer-control",
    about: "control messages of the peer link",
    run: rep_wire::fuzz_control,
    seeds: || (0..40).map(|kind| vec![kind; 24]).collect(),
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
