//! The targets: whatever takes bytes from outside.

mod config;
mod control;
mod controls;
mod engine;
mod image;
mod metadata;
mod nbd;
mod peer;
mod superblock;

use crate::random::Random;
use std::time::Duration;

pub use controls::CONTROLS;

/// A target.
#[derive(Debug)]
pub struct Target {
    /// Its name, and its folder in the corpus.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Takes an input; panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with, valid ones among them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes right again what a mutation made wrong and random bytes would never get right: checksums, mostly. Called
    /// for most inputs, not for all.
    pub repair: fn(&mut [u8], &mut Random),
    /// Longest input.
    pub length_max: usize,
    /// Most bytes it may hold at once.
    pub memory_max: usize,
    /// An input that takes longer than this hangs.
    pub time_max: Duration,
    /// Whether an input is so much work that `--executions` doesn't count for it.
    pub slow: bool,
}

impl Target {
    /// What most have in common.
    const USUAL: Target = Target {
        name: "",
        about: "",
        run: |_| {},
        seeds: Vec::new,
        repair: |_, _| {},
        length_max: 4 << 10,
        memory_max: 4 << 20,
        time_max: Duration::from_secs(10),
        slow: false,
    };
}

/// All of them.
pub const TARGETS: &[Target] = &[
    nbd::HANDSHAKE,
    nbd::REQUESTS,
    nbd::CLIENT,
    peer::OPENING,
    peer::FRAMES,
    peer::CONTROL,
    peer::BITMAP_RUNS,
    superblock::SUPERBLOCK,
    metadata::METADATA,
    engine::ENGINE,
    config::CONFIG,
    control::CONTROL_API,
];
