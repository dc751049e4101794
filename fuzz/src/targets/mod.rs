//! The targets: whatever takes bytes from outside.

mod config;
mod control;
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
    config::CONFIG,
    control::CONTROL_API,
];

/// The pieces of an input, each preceded by its length in two bytes; the last takes what is left.
#[allow(dead_code)] // used by targets of several parts
pub fn pieces(mut data: &[u8], count: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::with_capacity(count);
    for _ in 1..count {
        let Some((length, rest)) = data.split_first_chunk() else { break };
        let (piece, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces.push(data);
    pieces.resize(count, &[]);
    pieces
}
