//! Sealed sectors: what log, summary and bitmap blocks are made of.
//!
//! A disk may tear a 4 KiB write at its 512-byte sectors. Each sector therefore says by itself what it is, where it
//! belongs, to which write it belongs, and whether its bytes are whole. So a block that mixes an old and a new write
//! (torn: every sector valid, sequences differ) is told from one that rotted (a sector invalid), and the valid
//! sectors of either can still be used.
//!
//! ```text
//! 0        4      8          16         24           32                      512
//! | magic  | crc  | sequence | position | device tag | 480 bytes of content  |
//! ```

use crate::{META_BLOCK_SIZE, MetaBlock};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;
/// Sectors of a metadata block.
pub(crate) const SECTORS: usize = META_BLOCK_SIZE / SECTOR;
/// Bytes of content in a sector.
pub(crate) const SECTOR_CONTENT: usize = SECTOR - size_of::<SealHeader>();
/// Bytes of content in a block.
pub(crate) const BLOCK_CONTENT: usize = SECTORS * SECTOR_CONTENT;

/// No sequence is larger, so that counting on from one that was read never overflows.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 62;

/// Tells the blocks of one `create-md` from those of another: the low half of the device's uuid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceTag(pub u64);

/// What a sealed sector belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Log,
    Summary,
    Bitmap,
}

impl Kind {
    /// The magic, as it reads in a hex dump.
    pub(crate) const fn magic(self) -> [u8; 4] {
        match self {
            Kind::Log => *b"rpAL",
            Kind::Summary => *b"rpSM",
            Kind::Bitmap => *b"rpBM",
        }
    }
}

/// The head of a sealed sector.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SealHeader {
    pub(crate) magic: [u8; 4],
    /// CRC-32 of the sector with these four bytes left out.
    pub(crate) crc: U32,
    pub(crate) sequence: U64,
    /// Number of the sector in its region: block × 8 + sector.
    pub(crate) position: U64,
    pub(crate) device_tag: U64,
}

/// What seals a block: everything of the header that all its sectors share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seal {
    pub(crate) kind: Kind,
    pub(crate) tag: DeviceTag,
    /// Number of the block in its region.
    pub(crate) block: u32,
    pub(crate) sequence: u64,
}

fn sector_crc(sector: &[u8; SECTOR]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sector[..4]);
    hasher.update(&sector[8..]);
    hasher.finalize()
}

fn position(block: u32, sector: usize) -> u64 {
    u64::from(block) * SECTORS as u64 + sector as u64
}

/// Seals content into a block.
pub(crate) fn seal_block(seal: Seal, content: &[u8; BLOCK_CONTENT]) -> MetaBlock {
    let mut block = MetaBlock::zeroed();
    let (sectors, _) = block.0.as_chunks_mut::<SECTOR>();
    let (contents, _) = content.as_chunks::<SECTOR_CONTENT>();
    for (index, (sector, content)) in sectors.iter_mut().zip(contents).enumerate() {
        let mut header = SealHeader {
            magic: seal.kind.magic(),
            crc: U32::ZERO,
            sequence: U64::new(seal.sequence),
            position: U64::new(position(seal.block, index)),
            device_tag: U64::new(seal.tag.0),
        };
        let (head, body) = sector.split_at_mut(size_of::<SealHeader>());
        body.copy_from_slice(content);
        head.copy_from_slice(header.as_bytes());
        header.crc = U32::new(sector_crc(sector));
        sector[4..8].copy_from_slice(header.crc.as_bytes());
    }
    block
}

/// A sector whose seal holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenedSector<'a> {
    pub(crate) sequence: u64,
    pub(crate) content: &'a [u8; SECTOR_CONTENT],
}

/// What opening a block looks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) kind: Kind,
    pub(crate) tag: DeviceTag,
    pub(crate) block: u32,
}

/// Opens a block: each sector that is valid and in its place, `None` for any other.
pub(crate) fn open_block(block: &[u8; META_BLOCK_SIZE], expected: Expected) -> [Option<OpenedSector<'_>>; SECTORS] {
    let (sectors, _) = block.as_chunks::<SECTOR>();
    std::array::from_fn(|index| open_sector(sectors.get(index)?, expected, index))
}

fn open_sector(sector: &[u8; SECTOR], expected: Expected, index: usize) -> Option<OpenedSector<'_>> {
    let (header, content) = SealHeader::ref_from_prefix(sector).ok()?;
    let belongs = header.magic == expected.kind.magic()
        && header.position.get() == position(expected.block, index)
        && header.device_tag.get() == expected.tag.0
        && header.sequence.get() <= SEQUENCE_MAX;
    if !belongs || header.crc.get() != sector_crc(sector) {
        return None;
    }
    Some(OpenedSector { sequence: header.sequence.get(), content: content.try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEAL: Seal = Seal { kind: Kind::Bitmap, tag: DeviceTag(7), block: 3, sequence: 9 };
    const EXPECTED: Expected = Expected { kind: Kind::Bitmap, tag: DeviceTag(7), block: 3 };

    fn content(seed: u8) -> [u8; BLOCK_CONTENT] {
        std::array::from_fn(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
    }

    #[test]
    fn what_is_sealed_opens() {
        let content = content(1);
        let block = seal_block(SEAL, &content);
        for (index, sector) in open_block(&block.0, EXPECTED).iter().enumerate() {
            let sector = sector.expect("sealed");
            assert_eq!(sector.sequence, 9);
            assert_eq!(&sector.content[..], &content[index * SECTOR_CONTENT..][..SECTOR_CONTENT]);
        }
    }

    #[test]
    fn another_kind_place_or_device_does_not_open() {
        let block = seal_block(SEAL, &content(1));
        for wrong in [
            Expected { kind: Kind::Log, ..EXPECTED },
            Expected { block: 4, ..EXPECTED },
            Expected { tag: DeviceTag(8), ..EXPECTED },
        ] {
            assert!(open_block(&block.0, wrong).iter().all(Option::is_none), "{wrong:?}");
        }
    }

    #[test]
    fn a_sector_in_a_neighbours_place_does_not_open() {
        let mut block = seal_block(SEAL, &content(1));
        block.0.copy_within(0..SECTOR, SECTOR);
        let opened = open_block(&block.0, EXPECTED);
        assert!(opened[0].is_some() && opened[1].is_none());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_closes_exactly_its_sector(byte in 0..META_BLOCK_SIZE, bit in 0..8u32) {
            let mut block = seal_block(SEAL, &content(2));
            block.0[byte] ^= 1 << bit;
            for (index, sector) in open_block(&block.0, EXPECTED).iter().enumerate() {
                prop_assert_eq!(sector.is_some(), index != byte / SECTOR);
            }
        }
    }
}
