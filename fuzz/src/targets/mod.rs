//! The targets: whatever takes bytes from outside.

mod config;
mod control;
mod engine;
mod metadata;
mod nbd;
mod peer;

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
    /// Longest input.
    pub length_max: usize,
    /// Most bytes it may hold at once.
    pub memory_max: usize,
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
    metadata::SUPERBLOCK,
    metadata::METADATA,
    engine::ENGINE,
    config::CONFIG,
    control::CONTROL_API,
];
