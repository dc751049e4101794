//! Targets with a bug planted in each: what the fuzzer itself is tested with. It must find them all.

use super::Target;
use std::time::Duration;

/// All of them.
pub const CONTROLS: &[Target] = &[
    Target {
        name: "control-panic",
        about: "a panic behind a magic number, a length and a checksum",
        run: panic_behind_checksum,
        seeds,
        ..Target::USUAL
    },
    Target {
        name: "control-hang",
        about: "a loop without an end, five right bytes deep",
        run: hang_behind_branches,
        seeds,
        time_max: Duration::from_millis(500),
        ..Target::USUAL
    },
    Target {
        name: "control-memory",
        about: "as much memory as a number in the input says",
        run: memory_by_length,
        seeds,
        ..Target::USUAL
    },
];

fn seeds() -> Vec<Vec<u8>> {
    vec![vec![0; 24]]
}

fn number<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

/// Found by the operands of comparisons alone: of random inputs one in 2^72 gets here.
fn panic_behind_checksum(data: &[u8]) {
    let (Some(magic), Some([length]), Some(crc)) = (number(data, 0), number(data, 4), number(data, 5)) else { return };
    if u32::from_be_bytes(magic) != 0x7265_7064 || usize::from(length) + 9 > data.len() || length < 3 {
        return;
    }
    let body = &data[9..9 + usize::from(length)];
    assert!(u32::from_le_bytes(crc) != crc32fast::hash(body), "the planted bug");
}

/// Found by coverage: each right byte is a branch of its own.
fn hang_behind_branches(data: &[u8]) {
    let mut depth = 0;
    for (byte, wanted) in data.iter().zip(b"drbd!") {
        if byte != wanted {
            return;
        }
        depth += 1;
        // A branch of its own for each depth, which is what coverage sees.
        match depth {
            1 => drop(std::hint::black_box(1)),
            2 => drop(std::hint::black_box(2)),
            3 => drop(std::hint::black_box(3)),
            4 => drop(std::hint::black_box(4)),
            _ => loop {
                std::hint::spin_loop();
            },
        }
    }
}

/// Found by the allocator that counts.
fn memory_by_length(data: &[u8]) {
    let Some(length) = number(data, 0).map(u32::from_le_bytes) else { return };
    if length < 1 << 28 {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(length as usize)));
    }
}
