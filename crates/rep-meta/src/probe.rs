//! What is on a disk, before `create-md` writes there.

use crate::layout::{Placement, superblock_offsets};
use crate::storage::{MetaIoError, MetaStorage};
use crate::superblock::Superblock;
use crate::superblock_codec::SuperblockError;
use crate::{META_BLOCK_SIZE, MetaBlock};

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// No metadata of `repd`.
    Nothing,
    /// Metadata of `repd` whose superblock is valid.
    Metadata(Box<Superblock>),
    /// Metadata of `repd` with neither superblock copy valid.
    Damaged,
    /// Metadata of another version of `repd`, or one that uses features this one doesn't know.
    Unknown(SuperblockError),
}

/// Looks for metadata; writes nothing.
pub fn probe(storage: &mut dyn MetaStorage, placement: Placement) -> Result<Probe, MetaIoError> {
    let mut found = Probe::Nothing;
    for offset in superblock_offsets(storage.size_bytes(), placement) {
        if offset + META_BLOCK_SIZE as u64 > storage.size_bytes() {
            continue;
        }
        let mut block = MetaBlock::zeroed();
        storage.read(offset, &mut block.0[..])?;
        found = better(found, Superblock::decode(&block.0).map(|(superblock, _)| superblock));
    }
    Ok(found)
}

fn better(found: Probe, copy: Result<Superblock, SuperblockError>) -> Probe {
    match (found, copy) {
        (Probe::Metadata(old), Ok(new)) if old.update_count >= new.update_count => Probe::Metadata(old),
        (_, Ok(new)) => Probe::Metadata(Box::new(new)),
        (found @ Probe::Metadata(_), Err(_)) | (found, Err(SuperblockError::Foreign)) => found,
        (found @ Probe::Unknown(_), Err(SuperblockError::Damaged)) => found,
        (_, Err(SuperblockError::Damaged)) => Probe::Damaged,
        (_, Err(error)) => Probe::Unknown(error),
    }
}
