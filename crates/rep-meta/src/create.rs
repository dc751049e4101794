//! `create-md`: fresh metadata. The superblocks are wiped first and written last, so that a half-made one is none.

use crate::layout::{Layout, LayoutError, LayoutOptions, Placement};
use crate::load::Identity;
use crate::log_block::{LOG_CONTEXT_ENTRIES, SLOT_FREE, Transaction};
use crate::sealed::DeviceTag;
use crate::storage::{MetaIoError, MetaStorage};
use crate::summary::{PAGES_PER_SUMMARY_BLOCK, PageState, encode_summary_block};
use crate::superblock::{BootId, DataState, Divergence, PrimaryMark, Superblock};
use crate::{META_BLOCK_SIZE, MetaBlock};
use rep_types::Generations;

/// What the fresh bitmap says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InitialBitmap {
    /// No block out-of-sync: the first sync is decided by the handshake (just created: full).
    #[default]
    Clean,
    /// Every block out-of-sync.
    AllSet,
}

/// What to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateParameters {
    /// Whose it is.
    pub identity: Identity,
    /// Random.
    pub device_uuid: u128,
    /// Where the metadata goes.
    pub placement: Placement,
    /// Bytes of the backing device (when internal: of the storage).
    pub device_bytes: u64,
    /// Beyond the size.
    pub options: LayoutOptions,
    /// What the bitmap says.
    pub bitmap: InitialBitmap,
}

/// Why metadata wasn't created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreateError {
    /// The disk is too small or too large.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The metadata device is too small.
    #[error("the metadata device has {actual_bytes} bytes; this disk needs {needed_bytes}")]
    MetadataDeviceTooSmall {
        /// What it has.
        actual_bytes: u64,
        /// What it needs.
        needed_bytes: u64,
    },
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] MetaIoError),
}

/// Writes fresh metadata over whatever is there and says what it wrote. The caller has asked `probe` before.
pub fn create(
    storage: &mut dyn MetaStorage,
    parameters: &CreateParameters,
) -> Result<(Superblock, Layout), CreateError> {
    let layout = Layout::with_options(parameters.device_bytes, parameters.placement, parameters.options)?;
    if storage.size_bytes() < layout.metadata_device_bytes {
        return Err(CreateError::MetadataDeviceTooSmall {
            actual_bytes: storage.size_bytes(),
            needed_bytes: layout.metadata_device_bytes,
        });
    }
    let superblock = fresh_superblock(parameters, &layout);
    for offset in layout.superblock_offsets {
        storage.write(offset, &[0; META_BLOCK_SIZE])?;
    }
    storage.flush()?;
    for (offset, block) in fresh_log(&layout, superblock.tag()) {
        storage.write(offset, &block.0[..])?;
    }
    for (offset, block) in fresh_summary(&layout, superblock.tag(), parameters.bitmap) {
        storage.write(offset, &block.0[..])?;
    }
    storage.flush()?;
    for (offset, block) in superblock.encode_copies(&layout) {
        storage.write(offset, &block.0[..])?;
        storage.flush()?;
    }
    Ok((superblock, layout))
}

fn fresh_superblock(parameters: &CreateParameters, layout: &Layout) -> Superblock {
    Superblock {
        device_uuid: parameters.device_uuid,
        resource: parameters.identity.resource.clone(),
        node: parameters.identity.node.clone(),
        volume: parameters.identity.volume,
        available_bytes: layout.available_bytes,
        agreed_bytes: 0,
        agreed_block_bytes: 0,
        discards: None,
        generations: Generations::JUST_CREATED,
        data: DataState::Inconsistent,
        primary: PrimaryMark::None,
        last_primary: false,
        peer_outdated: false,
        finish_told: false,
        every_block: false,
        divergence: Divergence::default(),
        attached_boot: BootId::NONE,
        former_device_bytes: 0,
        update_count: 1,
    }
}

/// A ring in which every block is a whole transaction, so that recovery has nothing to doubt.
fn fresh_log(layout: &Layout, tag: DeviceTag) -> impl Iterator<Item = (u64, MetaBlock)> {
    let window = LOG_CONTEXT_ENTRIES.min(layout.log_slots as usize);
    (0..layout.log_blocks).map(move |position| {
        let transaction = Transaction {
            sequence: u64::from(position) + 1,
            previous: u64::from(position),
            reset: true,
            slots: layout.log_slots,
            updates: Vec::new(),
            context_first: 0,
            context: vec![SLOT_FREE; window],
        };
        (layout.log_block_offset(position), transaction.encode(tag, position))
    })
}

fn fresh_summary(layout: &Layout, tag: DeviceTag, bitmap: InitialBitmap) -> impl Iterator<Item = (u64, MetaBlock)> {
    let state = match bitmap {
        InitialBitmap::Clean => PageState::Clean,
        InitialBitmap::AllSet => PageState::AllSet,
    };
    (0..layout.summary_blocks).map(move |index| {
        let pages = (layout.pages - index * PAGES_PER_SUMMARY_BLOCK).min(PAGES_PER_SUMMARY_BLOCK);
        let states = std::iter::repeat_n(state, pages as usize);
        (layout.summary_block_offset(index), encode_summary_block(tag, index, 1, states))
    })
}
