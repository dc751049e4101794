//! Making new inputs of old ones.

use crate::random::Random;

/// Numbers that sit at the edges of things.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// A mutation of `base`, a few steps away; `other` is another input to take pieces from.
pub fn mutated(base: &[u8], other: &[u8], compared: &[[u64; 2]], length_max: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..=random.below(4) {
        step(&mut bytes, other, compared, random);
    }
    bytes.truncate(length_max);
    bytes
}

fn step(bytes: &mut Vec<u8>, other: &[u8], compared: &[[u64; 2]], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(11) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
        2 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(random.below(9) as u8).wrapping_sub(4),
        3 => overwrite(bytes, at, EDGES[random.below(EDGES.len())], random),
        4 => drop(bytes.drain(at..(at + 1 + random.below(16)).min(bytes.len()).max(at))),
        5 => insert(bytes, at, &random.next().to_le_bytes()[..1 + random.below(8)]),
        6 => {
            let piece = piece(bytes, random).to_vec();
            insert(bytes, at, &piece);
        }
        7 => insert(bytes, at, piece(other, random)),
        8 => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        _ => replace_compared(bytes, compared, random),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

fn piece<'a>(bytes: &'a [u8], random: &mut Random) -> &'a [u8] {
    let at = random.below(bytes.len());
    &bytes[at..(at + 1 + random.below(64)).min(bytes.len())]
}

/// Writes a number of 1, 2, 4 or 8 bytes, in either order of bytes.
fn overwrite(bytes: &mut [u8], at: usize, number: u64, random: &mut Random) {
    let width = 1 << random.below(4);
    let encoded = encode(number, width, random.below(2) == 0);
    for (to, from) in bytes[at..].iter_mut().zip(encoded) {
        *to = from;
    }
}

fn encode(number: u64, width: usize, big_endian: bool) -> Vec<u8> {
    let little = &number.to_le_bytes()[..width];
    if big_endian { little.iter().rev().copied().collect() } else { little.to_vec() }
}

/// Where the program compared a number of the input with another, puts the other in its place: that is how magic
/// numbers and checksums are found.
fn replace_compared(bytes: &mut [u8], compared: &[[u64; 2]], random: &mut Random) {
    if compared.is_empty() {
        return;
    }
    let mut pair = compared[random.below(compared.len())];
    if random.below(2) == 0 {
        pair.swap(0, 1);
    }
    for width in [8, 4, 2] {
        for big_endian in [false, true] {
            let (old, new) = (encode(pair[0], width, big_endian), encode(pair[1], width, big_endian));
            let start = random.below(bytes.len());
            let found = bytes[start..].windows(width).position(|window| window == old).map(|at| start + at);
            let found = found.or_else(|| bytes.windows(width).position(|window| window == old));
            if let Some(at) = found {
                bytes[at..at + width].copy_from_slice(&new);
                return;
            }
        }
    }
}
