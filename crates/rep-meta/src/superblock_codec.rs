//! The superblock's bytes. Two copies, each a 4 KiB block with a checksum over all of it.
//!
//! Version and checksum stand where every later version will keep them, so that an older build names a newer format
//! instead of calling it damage. An update writes copy A durably, then B; `load` makes both equal before anything is
//! built on the newer, so that a torn write can never bring back anything but the state just before it.

use crate::layout::{Layout, LayoutError, LayoutOptions, Placement, superblock_offsets};
use crate::sealed::{DeviceTag, SEQUENCE_MAX};
use crate::superblock::{BootId, DataState, Divergence, PrimaryMark, Superblock};
use crate::{META_BLOCK_SIZE, MetaBlock};
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, EXTENT_SIZE, GENERATION_HISTORY_LENGTH, GenerationId, Generations, NodeName, ResourceName, SECTOR_SIZE,
    VolumeNumber,
};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of the on-disk format this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The first bytes of a superblock.
pub(crate) const MAGIC: [u8; 8] = *b"repdMETA";

/// Why a superblock copy isn't one to go by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SuperblockError {
    /// It doesn't begin like one.
    #[error("there is no repd metadata")]
    Foreign,
    /// It does, but its checksum doesn't hold or a field can't be.
    #[error("the superblock is damaged")]
    Damaged,
    /// It is whole, of another version of the format.
    #[error("the metadata has format version {0}; this program knows version {FORMAT_VERSION}")]
    OtherVersion(u32),
    /// It is whole, but uses a feature this program doesn't know.
    #[error("the metadata uses features unknown to this program (bits {0:#x})")]
    UnknownFeatures(u64),
}

/// A superblock copy's bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SuperblockBytes {
    pub(crate) magic: [u8; 8],
    pub(crate) crc: U32,
    pub(crate) version: U32,
    pub(crate) features_incompatible: U64,
    pub(crate) features_compatible: U64,
    pub(crate) update_count: U64,
    pub(crate) copy: U32,
    pub(crate) volume: U16,
    pub(crate) data: u8,
    pub(crate) primary: u8,
    pub(crate) device_uuid: U128,
    pub(crate) attached_boot: U128,
    pub(crate) resource: [u8; 64],
    pub(crate) node: [u8; 64],
    pub(crate) available_bytes: U64,
    pub(crate) agreed_bytes: U64,
    pub(crate) current: U64,
    pub(crate) bitmap: U64,
    pub(crate) history: [U64; GENERATION_HISTORY_LENGTH],
    pub(crate) device_bytes: U64,
    pub(crate) log_offset: U64,
    pub(crate) summary_offset: U64,
    pub(crate) pages_offset: U64,
    pub(crate) log_blocks: U32,
    pub(crate) log_slots: U32,
    pub(crate) summary_blocks: U32,
    pub(crate) pages: U32,
    pub(crate) block_bytes: U32,
    pub(crate) extent_bytes: U32,
    pub(crate) placement: u8,
    pub(crate) last_primary: u8,
    pub(crate) peer_outdated: u8,
    pub(crate) diverged_as_primary: u8,
    pub(crate) finish_told: u8,
    pub(crate) every_block: u8,
    pub(crate) reserved: [u8; 2],
    pub(crate) diverged_since_unix_ms: U64,
    pub(crate) former_device_bytes: U64,
    pub(crate) agreed_block_bytes: U32,
    pub(crate) discards: u8,
    pub(crate) discards_reserved: [u8; 3],
    pub(crate) rest: [u8; SUPERBLOCK_REST],
}

/// Bytes kept for later.
const SUPERBLOCK_REST: usize = META_BLOCK_SIZE - 392;

const _: () = assert!(size_of::<SuperblockBytes>() == META_BLOCK_SIZE);

fn crc(block: &[u8; META_BLOCK_SIZE]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..8]);
    hasher.update(&block[12..]);
    hasher.finalize()
}

fn padded(name: &str) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn unpadded(bytes: &[u8; 64]) -> Option<&str> {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(length);
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    std::str::from_utf8(name).ok()
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

impl Superblock {
    /// Seals the log and bitmap blocks of this metadata.
    pub fn tag(&self) -> DeviceTag {
        DeviceTag(self.device_uuid as u64)
    }

    /// Both copies, with their offsets: A is made durable before B is written. The caller has counted
    /// `update_count` up; what is on disk becomes his state only when B is durable too.
    pub fn encode_copies(&self, layout: &Layout) -> [(u64, MetaBlock); 2] {
        let [a, b] = layout.superblock_offsets;
        [(a, self.encode(layout, 0)), (b, self.encode(layout, 1))]
    }

    pub(crate) fn encode(&self, layout: &Layout, copy: u32) -> MetaBlock {
        let mut bytes = SuperblockBytes {
            magic: MAGIC,
            crc: U32::ZERO,
            version: U32::new(FORMAT_VERSION),
            features_incompatible: U64::ZERO,
            features_compatible: U64::ZERO,
            update_count: U64::new(self.update_count),
            copy: U32::new(copy),
            volume: U16::new(self.volume.0),
            data: data_to_byte(self.data),
            primary: primary_to_byte(self.primary),
            device_uuid: U128::new(self.device_uuid),
            attached_boot: U128::new(self.attached_boot.0),
            resource: padded(self.resource.as_str()),
            node: padded(self.node.as_str()),
            available_bytes: U64::new(self.available_bytes),
            agreed_bytes: U64::new(self.agreed_bytes),
            current: U64::new(self.generations.current.0),
            bitmap: U64::new(self.generations.bitmap.0),
            history: self.generations.history.map(|id| U64::new(id.0)),
            device_bytes: U64::new(layout.device_bytes),
            log_offset: U64::new(layout.log_offset),
            summary_offset: U64::new(layout.summary_offset),
            pages_offset: U64::new(layout.pages_offset),
            log_blocks: U32::new(layout.log_blocks),
            log_slots: U32::new(layout.log_slots),
            summary_blocks: U32::new(layout.summary_blocks),
            pages: U32::new(layout.pages),
            block_bytes: U32::new(BLOCK_SIZE as u32),
            extent_bytes: U32::new(EXTENT_SIZE as u32),
            placement: placement_to_byte(layout.placement),
            last_primary: u8::from(self.last_primary),
            peer_outdated: u8::from(self.peer_outdated),
            diverged_as_primary: u8::from(self.divergence.as_primary),
            finish_told: u8::from(self.finish_told),
            every_block: u8::from(self.every_block),
            reserved: [0; 2],
            diverged_since_unix_ms: U64::new(self.divergence.since_unix_ms),
            former_device_bytes: U64::new(self.former_device_bytes),
            agreed_block_bytes: U32::new(self.agreed_block_bytes),
            discards: discards_to_byte(self.discards),
            discards_reserved: [0; 3],
            rest: [0; SUPERBLOCK_REST],
        };
        let plain: &[u8; META_BLOCK_SIZE] = zerocopy::transmute_ref!(&bytes);
        bytes.crc = U32::new(crc(plain));
        MetaBlock(Box::new(zerocopy::transmute!(bytes)))
    }

    /// Decodes a copy, with the layout it was written for.
    pub fn decode(block: &[u8; META_BLOCK_SIZE]) -> Result<(Superblock, Layout), SuperblockError> {
        let bytes: &SuperblockBytes = zerocopy::transmute_ref!(block);
        if bytes.magic != MAGIC {
            return Err(SuperblockError::Foreign);
        }
        if bytes.crc.get() != crc(block) && !planted!("superblock-crc-unchecked") {
            return Err(SuperblockError::Damaged);
        }
        if bytes.version.get() != FORMAT_VERSION {
            return Err(SuperblockError::OtherVersion(bytes.version.get()));
        }
        if bytes.features_incompatible.get() != 0 {
            return Err(SuperblockError::UnknownFeatures(bytes.features_incompatible.get()));
        }
        let layout = bytes.layout().ok_or(SuperblockError::Damaged)?;
        let superblock = bytes.superblock().ok_or(SuperblockError::Damaged)?;
        let sizes_agree =
            superblock.available_bytes == layout.available_bytes && superblock.agreed_bytes <= layout.available_bytes;
        let places_fit = former_place_fits(&superblock, &layout);
        if !sizes_agree || !places_fit || !blocks_fit(&superblock) || superblock.update_count > SEQUENCE_MAX {
            return Err(SuperblockError::Damaged);
        }
        Ok((superblock, layout))
    }
}

impl SuperblockBytes {
    /// The layout: computed anew from the size, and equal to what stands here.
    fn layout(&self) -> Option<Layout> {
        let options = LayoutOptions { log_slots: Some(self.log_slots.get()) };
        let placement = placement_from_byte(self.placement)?;
        let computed: Result<Layout, LayoutError> = Layout::with_options(self.device_bytes.get(), placement, options);
        let layout = computed.ok()?;
        let agrees = layout.log_offset == self.log_offset.get()
            && layout.summary_offset == self.summary_offset.get()
            && layout.pages_offset == self.pages_offset.get()
            && layout.log_blocks == self.log_blocks.get()
            && layout.log_slots == self.log_slots.get()
            && layout.summary_blocks == self.summary_blocks.get()
            && layout.pages == self.pages.get()
            && u64::from(self.block_bytes.get()) == BLOCK_SIZE
            && u64::from(self.extent_bytes.get()) == EXTENT_SIZE;
        agrees.then_some(layout)
    }

    fn superblock(&self) -> Option<Superblock> {
        Some(Superblock {
            device_uuid: self.device_uuid.get(),
            resource: ResourceName::new(unpadded(&self.resource)?).ok()?,
            node: NodeName::new(unpadded(&self.node)?).ok()?,
            volume: VolumeNumber(self.volume.get()),
            available_bytes: self.available_bytes.get(),
            agreed_bytes: self.agreed_bytes.get(),
            generations: Generations {
                current: GenerationId(self.current.get()),
                bitmap: GenerationId(self.bitmap.get()),
                history: self.history.map(|id| GenerationId(id.get())),
            },
            data: data_from_byte(self.data)?,
            primary: primary_from_byte(self.primary)?,
            last_primary: flag(self.last_primary)?,
            peer_outdated: flag(self.peer_outdated)?,
            finish_told: flag(self.finish_told)?,
            every_block: flag(self.every_block)?,
            divergence: Divergence {
                since_unix_ms: self.diverged_since_unix_ms.get(),
                as_primary: flag(self.diverged_as_primary)?,
            },
            attached_boot: BootId(self.attached_boot.get()),
            former_device_bytes: self.former_device_bytes.get(),
            agreed_block_bytes: self.agreed_block_bytes.get(),
            discards: discards_from_byte(self.discards)?,
            update_count: self.update_count.get(),
        })
    }
}

/// Clients' blocks aren't larger than those of the bitmap, and the volume is whole ones.
fn blocks_fit(superblock: &Superblock) -> bool {
    let bytes = u64::from(superblock.agreed_block_bytes);
    let legal = bytes.is_power_of_two() && (SECTOR_SIZE..=BLOCK_SIZE).contains(&bytes);
    bytes == 0 || legal && superblock.agreed_bytes.is_multiple_of(bytes)
}

/// Metadata that moved stood behind what had been agreed on, and before where they are now.
fn former_place_fits(superblock: &Superblock, layout: &Layout) -> bool {
    let former = superblock.former_device_bytes;
    former == 0 || {
        let [a, b] = superblock_offsets(former, Placement::Internal);
        let end = b + META_BLOCK_SIZE as u64;
        layout.placement == Placement::Internal
            && former < layout.device_bytes
            && superblock.agreed_bytes <= a
            && end <= layout.available_bytes
    }
}

fn placement_to_byte(placement: Placement) -> u8 {
    match placement {
        Placement::Internal => 0,
        Placement::External => 1,
    }
}

fn placement_from_byte(byte: u8) -> Option<Placement> {
    match byte {
        0 => Some(Placement::Internal),
        1 => Some(Placement::External),
        _ => None,
    }
}

fn data_to_byte(data: DataState) -> u8 {
    match data {
        DataState::Inconsistent => 0,
        DataState::Outdated => 1,
        DataState::Consistent => 2,
    }
}

fn data_from_byte(byte: u8) -> Option<DataState> {
    match byte {
        0 => Some(DataState::Inconsistent),
        1 => Some(DataState::Outdated),
        2 => Some(DataState::Consistent),
        _ => None,
    }
}

fn primary_to_byte(primary: PrimaryMark) -> u8 {
    match primary {
        PrimaryMark::None => 0,
        PrimaryMark::Primary => 1,
        PrimaryMark::Crashed => 2,
    }
}

fn primary_from_byte(byte: u8) -> Option<PrimaryMark> {
    match byte {
        0 => Some(PrimaryMark::None),
        1 => Some(PrimaryMark::Primary),
        2 => Some(PrimaryMark::Crashed),
        _ => None,
    }
}

fn discards_to_byte(discards: Option<bool>) -> u8 {
    match discards {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    }
}

fn discards_from_byte(byte: u8) -> Option<Option<bool>> {
    match byte {
        0 => Some(None),
        1 => Some(Some(true)),
        2 => Some(Some(false)),
        _ => None,
    }
}
