//! Reading the metadata at attach: superblock, log, summary, and the pages the summary calls Mixed. Nothing else is
//! read, so that a 16 TiB volume attaches in a moment.
//!
//! Anything unreadable behind a valid superblock counts as damage to be survived, always towards out-of-sync. The one
//! thing written is a superblock copy that is older or damaged: it is made equal to the newer one before anything is
//! built on that.

use crate::bitmap_load::load_bitmap;
use crate::bitmap_page::LoadedBitmap;
use crate::former_end::find_former_end_of;
use crate::layout::{Layout, Placement, superblock_offsets};
use crate::log_recovery::{RecoveredLog, recover};
use crate::sealed::DeviceTag;
use crate::storage::{MetaIoError, MetaStorage, read_blocks};
use crate::superblock::Superblock;
use crate::superblock_codec::SuperblockError;
use crate::{META_BLOCK_SIZE, MetaBlock};
use rep_types::{NodeName, ResourceName, VolumeNumber};

/// Whose metadata it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The resource.
    pub resource: ResourceName,
    /// The node.
    pub node: NodeName,
    /// The volume.
    pub volume: VolumeNumber,
}

/// What `load` read: everything the engine needs to attach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The superblock; both copies on disk hold it.
    pub superblock: Superblock,
    /// Where everything lies.
    pub layout: Layout,
    /// The activity log.
    pub log: RecoveredLog,
    /// The bitmap.
    pub bitmap: LoadedBitmap,
    /// Bytes of the disk as it is now: it may have grown since the layout was made.
    pub device_bytes: u64,
    /// Bytes of the metadata device as it is now.
    pub metadata_device_bytes: u64,
}

/// Why metadata can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither place holds a superblock.
    #[error(
        "there is no repd metadata where it should be (internal: the end of the disk); run 'repctl create-md' on a new disk"
    )]
    NotMetadata,
    /// Another version of the format, or unknown features.
    #[error(transparent)]
    Unsupported(SuperblockError),
    /// No copy of the superblock is valid, though at least one was there.
    #[error("both copies of the superblock are damaged")]
    BothDamaged,
    /// Both copies are valid but aren't of the same metadata.
    #[error("the two copies of the superblock contradict each other")]
    CopiesContradict,
    /// The metadata device ends before the metadata does.
    #[error("the metadata device has {actual_bytes} bytes; its metadata needs {needed_bytes}")]
    Truncated {
        /// What it has.
        actual_bytes: u64,
        /// What it needs.
        needed_bytes: u64,
    },
    /// Another resource's.
    #[error("the metadata belongs to resource '{0}'")]
    OtherResource(ResourceName),
    /// Another node's.
    #[error("the metadata belongs to node '{0}'")]
    OtherNode(NodeName),
    /// Another volume's.
    #[error("the metadata belongs to volume {0}")]
    OtherVolume(VolumeNumber),
    /// Internal metadata where external was expected, or the reverse.
    #[error("the metadata was made for another placement (internal or external)")]
    OtherPlacement,
    /// The disk isn't the size the metadata was made for.
    #[error("the disk has {actual_bytes} bytes; its metadata was made for {expected_bytes}")]
    DeviceSizeChanged {
        /// What the metadata says.
        expected_bytes: u64,
        /// What it is.
        actual_bytes: u64,
    },
    /// The superblock can't be read or repaired.
    #[error(transparent)]
    Io(#[from] MetaIoError),
}

/// Reads the metadata of a disk of `device_bytes`. The disk may have grown since they were made (R34): internal metadata are
/// then looked for where it may have ended before.
pub fn load(
    storage: &mut dyn MetaStorage,
    identity: &Identity,
    placement: Placement,
    device_bytes: u64,
) -> Result<Loaded, LoadError> {
    let (superblock, layout) = load_superblock(storage, identity, placement, device_bytes)?;
    let tag = superblock.tag();
    let log = load_log(storage, &layout, tag);
    let bitmap = load_bitmap(storage, &layout, tag);
    let metadata_device_bytes = storage.size_bytes();
    Ok(Loaded { superblock, layout, log, bitmap, device_bytes, metadata_device_bytes })
}

/// A copy as it was found: what it holds, or why not.
pub(crate) type Copy = Result<(Superblock, Layout), CopyError>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CopyError {
    Beyond,
    Unreadable(MetaIoError),
    Invalid(SuperblockError),
}

pub(crate) fn read_copy(storage: &mut dyn MetaStorage, offset: u64) -> self::Copy {
    if offset + META_BLOCK_SIZE as u64 > storage.size_bytes() {
        return Err(CopyError::Beyond);
    }
    let mut block = MetaBlock::zeroed();
    storage.read(offset, &mut block.0[..]).map_err(CopyError::Unreadable)?;
    Superblock::decode(&block.0).map_err(CopyError::Invalid)
}

fn load_superblock(
    storage: &mut dyn MetaStorage,
    identity: &Identity,
    placement: Placement,
    device_bytes: u64,
) -> Result<(Superblock, Layout), LoadError> {
    let (copies, (superblock, layout)) = find_superblock(storage, identity, placement)?;
    check_identity(&superblock, identity)?;
    check_sizes(&layout, placement, device_bytes, storage.size_bytes())?;
    repair(storage, &copies, &superblock, &layout)?;
    let superblock = wipe_former_place(storage, superblock, &layout)?;
    Ok((superblock, layout))
}

type Found = ([self::Copy; 2], (Superblock, Layout));

/// The superblock, with both copies as they were found.
///
/// Internal metadata that move are written to the disk's new end, the superblock last, copy A first. So as long as copy B
/// never was there, a copy A that isn't whole isn't one yet, and what stands at the former end counts. Once both have
/// been there, damage to them is damage: nothing inside the data is taken for metadata then.
fn find_superblock(
    storage: &mut dyn MetaStorage,
    identity: &Identity,
    placement: Placement,
) -> Result<Found, LoadError> {
    let copies = superblock_offsets(storage.size_bytes(), placement).map(|offset| read_copy(storage, offset));
    match newest(&copies) {
        Ok(found) => Ok((copies, found)),
        Err(error) => {
            let never_there = matches!(copies[1], Err(CopyError::Invalid(SuperblockError::Foreign)));
            let not_whole =
                matches!(copies[0], Err(CopyError::Invalid(SuperblockError::Foreign | SuperblockError::Damaged)));
            let may_have_grown = placement == Placement::Internal && never_there && not_whole;
            let former = may_have_grown.then(|| at_former_end(storage, identity)).flatten();
            former.ok_or(error)
        }
    }
}

fn at_former_end(storage: &mut dyn MetaStorage, identity: &Identity) -> Option<Found> {
    let end = find_former_end_of(storage, |superblock| check_identity(superblock, identity).is_ok())?.device_bytes;
    let copies = superblock_offsets(end, Placement::Internal).map(|offset| read_copy(storage, offset));
    let found = newest(&copies).ok().filter(|(_, layout)| layout.device_bytes == end)?;
    Some((copies, found))
}

/// Metadata that have moved are to be in one place only: once clients write to where they stood, nobody may take that for
/// metadata.
fn wipe_former_place(
    storage: &mut dyn MetaStorage,
    superblock: Superblock,
    layout: &Layout,
) -> Result<Superblock, LoadError> {
    if superblock.former_device_bytes == 0 {
        return Ok(superblock);
    }
    for offset in superblock_offsets(superblock.former_device_bytes, Placement::Internal) {
        storage.write(offset, &[0; META_BLOCK_SIZE])?;
    }
    storage.flush()?;
    let wiped = Superblock { former_device_bytes: 0, update_count: superblock.update_count + 1, ..superblock };
    for (offset, block) in wiped.encode_copies(layout) {
        storage.write(offset, &block.0[..])?;
        storage.flush()?;
    }
    Ok(wiped)
}

fn newest(copies: &[self::Copy; 2]) -> Result<(Superblock, Layout), LoadError> {
    match copies {
        [Ok(a), Ok(b)] => {
            let newer = if a.0.update_count >= b.0.update_count { a } else { b };
            // External metadata grow in place: the older copy may still be of the smaller disk.
            let has_grown = newer.1.placement == Placement::External
                && newer.1.device_bytes > a.1.device_bytes.min(b.1.device_bytes);
            let same_metadata = a.0.device_uuid == b.0.device_uuid && (a.1 == b.1 || has_grown);
            if !same_metadata || (a.0.update_count == b.0.update_count && a != b) {
                return Err(LoadError::CopiesContradict);
            }
            Ok(newer.clone())
        }
        [Ok(one), Err(_)] | [Err(_), Ok(one)] => Ok(one.clone()),
        [Err(a), Err(b)] => Err(why_none(*a, *b)),
    }
}

fn why_none(a: CopyError, b: CopyError) -> LoadError {
    for error in [a, b] {
        match error {
            CopyError::Invalid(SuperblockError::OtherVersion(_) | SuperblockError::UnknownFeatures(_)) => {
                let CopyError::Invalid(error) = error else { continue };
                return LoadError::Unsupported(error);
            }
            CopyError::Unreadable(error) => return LoadError::Io(error),
            _ => {}
        }
    }
    let damaged = |error| matches!(error, CopyError::Invalid(SuperblockError::Damaged));
    if damaged(a) || damaged(b) { LoadError::BothDamaged } else { LoadError::NotMetadata }
}

fn check_identity(superblock: &Superblock, identity: &Identity) -> Result<(), LoadError> {
    if superblock.resource != identity.resource {
        return Err(LoadError::OtherResource(superblock.resource.clone()));
    }
    if superblock.node != identity.node {
        return Err(LoadError::OtherNode(superblock.node.clone()));
    }
    if superblock.volume != identity.volume {
        return Err(LoadError::OtherVolume(superblock.volume));
    }
    Ok(())
}

fn check_sizes(layout: &Layout, placement: Placement, device_bytes: u64, storage_bytes: u64) -> Result<(), LoadError> {
    if layout.placement != placement {
        return Err(LoadError::OtherPlacement);
    }
    if device_bytes < layout.device_bytes {
        return Err(LoadError::DeviceSizeChanged { expected_bytes: layout.device_bytes, actual_bytes: device_bytes });
    }
    if storage_bytes < layout.metadata_device_bytes {
        return Err(LoadError::Truncated { actual_bytes: storage_bytes, needed_bytes: layout.metadata_device_bytes });
    }
    Ok(())
}

/// Makes a copy that isn't the newest equal to it. Without this, the next update, which writes A first, could tear
/// the only copy that holds the state everything since was built on.
fn repair(
    storage: &mut dyn MetaStorage,
    copies: &[self::Copy; 2],
    superblock: &Superblock,
    layout: &Layout,
) -> Result<(), LoadError> {
    for (copy, (offset, block)) in copies.iter().zip(superblock.encode_copies(layout)) {
        let current = copy.as_ref().is_ok_and(|(found, _)| found == superblock);
        if !current {
            storage.write(offset, &block.0[..])?;
            storage.flush()?;
        }
    }
    Ok(())
}

pub(crate) fn load_log(storage: &mut dyn MetaStorage, layout: &Layout, tag: DeviceTag) -> RecoveredLog {
    let mut blocks: Vec<Option<MetaBlock>> = Vec::with_capacity(layout.log_blocks as usize);
    read_blocks(storage, layout.log_offset, layout.log_blocks, |_, block| {
        blocks.push(block.map(|block| MetaBlock(Box::new(*block))));
    });
    recover(layout, tag, blocks.iter().map(|block| block.as_ref().map(|block| &*block.0)))
}
