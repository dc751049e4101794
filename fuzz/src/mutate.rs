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

/// Takes `bytes` a few steps away from what they were; `other` is another input to take pieces from.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], compared: &[[u64; 2]], length_max: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        step(bytes, other, compared, random);
    }
    bytes.truncate(length_max);
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
    let encoded = encode(number, random.below(2) == 0);
    for (to, from) in bytes[at..].iter_mut().zip(digits(&encoded, width)) {
        *to = *from;
    }
}

/// A number's bytes, and which order they are in.
struct Encoded {
    bytes: [u8; 8],
    big_endian: bool,
}

fn encode(number: u64, big_endian: bool) -> Encoded {
    let bytes = if big_endian { number.to_be_bytes() } else { number.to_le_bytes() };
    Encoded { bytes, big_endian }
}

/// The lowest `width` bytes of a number.
fn digits(number: &Encoded, width: usize) -> &[u8] {
    if number.big_endian { &number.bytes[8 - width..] } else { &number.bytes[..width] }
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
    let start = random.below(bytes.len());
    for width in [8, 4, 2] {
        for big_endian in [false, true] {
            let (old, new) = (encode(pair[0], big_endian), encode(pair[1], big_endian));
            let (old, new) = (digits(&old, width), digits(&new, width));
            let found = memchr::memmem::find(&bytes[start..], old).map(|at| start + at);
            if let Some(at) = found.or_else(|| memchr::memmem::find(bytes, old)) {
                bytes[at..at + width].copy_from_slice(new);
                return;
            }
        }
    }
}
