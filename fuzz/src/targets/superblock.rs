//! One superblock: its bytes may be anything.

use super::Target;
use super::metadata::{fresh, identity};
use crate::random::Random;
use rep_meta::{InitialBitmap, Layout, LayoutOptions, META_BLOCK_SIZE, MetaStorage, Placement, Superblock};

/// The target. What an input leaves out of the block is zero.
pub const SUPERBLOCK: Target = Target {
    name: "superblock",
    about: "a superblock",
    run,
    seeds,
    repair,
    length_max: META_BLOCK_SIZE,
    memory_max: 1 << 20,
    ..Target::USUAL
};

type Block = [u8; META_BLOCK_SIZE];

fn block_of(data: &[u8]) -> Block {
    let mut block = [0; META_BLOCK_SIZE];
    block.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    block
}

fn run(data: &[u8]) {
    if let Ok((superblock, layout)) = Superblock::decode(&block_of(data)) {
        for (_, again) in superblock.encode_copies(&layout) {
            assert_eq!(Superblock::decode(&again.0), Ok((superblock.clone(), layout)));
        }
    }
}

/// Of disks from one block to the largest there may be.
fn seeds() -> Vec<Vec<u8>> {
    let mut image = fresh(identity(), InitialBitmap::Clean, Placement::External, 256 << 20, None);
    let mut block = [0; META_BLOCK_SIZE];
    image.read(0, &mut block).expect("the first superblock");
    let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut seeds = vec![block[..used].to_vec(), vec![0; 16]];
    for (placement, device_bytes) in [(0, 1_u64 << 20), (0, 3 << 40), (1, 4096), (1, 1 << 50), (1, (1 << 50) + 1)] {
        let mut seed = seeds[0].clone();
        put(&mut seed, field::DEVICE_BYTES, &device_bytes.to_le_bytes());
        seed[field::PLACEMENT] = placement;
        repair_layout(&mut seed);
        seal(&mut seed);
        seeds.push(seed);
    }
    for (at, byte) in [(field::VERSION, 2), (field::FEATURES, 1), (field::DATA, 2), (field::DATA + 1, 2)] {
        let mut seed = seeds[0].clone();
        seed[at] = byte;
        seal(&mut seed);
        seeds.push(seed);
    }
    seeds
}

/// Where the fields stand, see `docs/FORMAT.md`.
mod field {
    pub const CRC: usize = 8;
    pub const VERSION: usize = 12;
    pub const FEATURES: usize = 16;
    pub const DATA: usize = 46;
    pub const AVAILABLE_BYTES: usize = 208;
    pub const DEVICE_BYTES: usize = 304;
    pub const LOG_OFFSET: usize = 312;
    pub const SUMMARY_OFFSET: usize = 320;
    pub const PAGES_OFFSET: usize = 328;
    pub const LOG_BLOCKS: usize = 336;
    pub const LOG_SLOTS: usize = 340;
    pub const SUMMARY_BLOCKS: usize = 344;
    pub const PAGES: usize = 348;
    pub const PLACEMENT: usize = 360;
    pub const END: usize = 376;
}

fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    data[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The checksum, and often the layout that belongs to the disk's size.
fn repair(data: &mut [u8], random: &mut Random) {
    if random.below(2) == 0 {
        repair_layout(data);
    }
    seal(data);
}

fn seal(data: &mut [u8]) {
    if data.len() < field::VERSION {
        return;
    }
    let block = block_of(data);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..field::CRC]);
    crc.update(&block[field::VERSION..]);
    put(data, field::CRC, &crc.finalize().to_le_bytes());
}

/// Writes what follows from size, placement and slots; nothing if there is no such layout.
fn repair_layout(data: &mut [u8]) {
    let Some(fields) = data.get(..field::END) else { return };
    let number = |at: usize| fields[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let placement = if fields[field::PLACEMENT] == 0 { Placement::Internal } else { Placement::External };
    let options = LayoutOptions { log_slots: Some(number(field::LOG_SLOTS) as u32) };
    let Ok(layout) = Layout::with_options(number(field::DEVICE_BYTES), placement, options) else { return };
    for (at, offset) in [
        (field::AVAILABLE_BYTES, layout.available_bytes),
        (field::LOG_OFFSET, layout.log_offset),
        (field::SUMMARY_OFFSET, layout.summary_offset),
        (field::PAGES_OFFSET, layout.pages_offset),
    ] {
        put(data, at, &offset.to_le_bytes());
    }
    for (at, count) in [
        (field::LOG_BLOCKS, layout.log_blocks),
        (field::LOG_SLOTS, layout.log_slots),
        (field::SUMMARY_BLOCKS, layout.summary_blocks),
        (field::PAGES, layout.pages),
    ] {
        put(data, at, &count.to_le_bytes());
    }
}
