//! Internal metadata of a disk that has grown since: it stands where the disk once ended.
//!
//! Nothing on the disk says where that was, and reading all of it takes too long. Disks grow in steps, so the ends that
//! steps of a usual size would have left are looked at, the coarse ones first, up to a fixed number of reads.
//!
//! What isn't found here may still be somewhere.

use crate::layout::{Placement, superblock_offsets};
use crate::load::{CopyError, read_copy};
use crate::storage::MetaStorage;
use crate::superblock::Superblock;

/// Ends looked at, at most.
pub const FORMER_END_PROBES_MAX: usize = 4096;
/// Steps in which disks usually grow, in bytes.
const STEPS: [u64; 4] = [1 << 30, 128 << 20, 4 << 20, 1 << 20];

/// Metadata found inside a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormerEnd {
    /// What it says.
    pub superblock: Superblock,
    /// The size of the disk it was made for.
    pub device_bytes: u64,
}

/// Looks for metadata where the disk may have ended before it grew. Writes nothing; unreadable places are passed over.
pub fn find_former_end(storage: &mut dyn MetaStorage) -> Option<FormerEnd> {
    find_former_end_of(storage, |_| true)
}

/// The same for metadata that are somebody's.
pub(crate) fn find_former_end_of(
    storage: &mut dyn MetaStorage,
    is_wanted: impl Fn(&Superblock) -> bool,
) -> Option<FormerEnd> {
    let size_bytes = storage.size_bytes();
    candidates(size_bytes).find_map(|end| {
        let offset = superblock_offsets(end, Placement::Internal)[0];
        let (superblock, layout) = match read_copy(storage, offset) {
            Ok(found) => found,
            // The first copy alone may be damaged.
            Err(CopyError::Invalid(crate::SuperblockError::Damaged)) => {
                read_copy(storage, superblock_offsets(end, Placement::Internal)[1]).ok()?
            }
            Err(_) => return None,
        };
        let is_internal = layout.placement == Placement::Internal && layout.device_bytes == end;
        (is_internal && is_wanted(&superblock)).then_some(FormerEnd { superblock, device_bytes: end })
    })
}

/// Ends below the present one: those of coarse steps first; of each step, the largest and the smallest.
fn candidates(size_bytes: u64) -> impl Iterator<Item = u64> {
    let reads = (FORMER_END_PROBES_MAX / STEPS.len() / 2) as u64;
    STEPS.iter().enumerate().flat_map(move |(index, step)| {
        let coarser = index.checked_sub(1).map(|coarser| STEPS[coarser]);
        let last = size_bytes.saturating_sub(1) / step;
        let largest = (last.saturating_sub(reads) + 1..=last).rev();
        let smallest = 1..=last.saturating_sub(reads).min(reads);
        let ends = largest.chain(smallest).map(move |count| count * step);
        ends.filter(move |end| coarser.is_none_or(|coarser| !end.is_multiple_of(coarser)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CreateParameters, Identity, InitialBitmap, LayoutOptions, MemoryStorage, create};
    use rep_types::{NodeName, ResourceName, VolumeNumber};

    fn grown(from_bytes: u64, to_bytes: u64) -> MemoryStorage {
        let mut storage = MemoryStorage::new(from_bytes);
        let identity = Identity {
            resource: ResourceName::new("vz").unwrap(),
            node: NodeName::new("alpha").unwrap(),
            volume: VolumeNumber(0),
        };
        let parameters = CreateParameters {
            identity,
            device_uuid: 7,
            placement: Placement::Internal,
            device_bytes: from_bytes,
            options: LayoutOptions::default(),
            bitmap: InitialBitmap::default(),
        };
        create(&mut storage, &parameters).unwrap();
        storage.resize(to_bytes);
        storage
    }

    #[test]
    fn metadata_of_a_smaller_disk_is_found() {
        for (from, to) in [(64 << 20, 128 << 20), (3 << 30, 5 << 30), ((1 << 30) + (12 << 20), 1 << 40)] {
            let found = find_former_end(&mut grown(from, to)).unwrap();
            assert_eq!((found.device_bytes, found.superblock.device_uuid), (from, 7));
        }
    }

    #[test]
    fn neither_an_empty_disk_nor_the_present_end_is_a_former_end() {
        assert_eq!(find_former_end(&mut MemoryStorage::new(1 << 40)), None);
        assert_eq!(find_former_end(&mut MemoryStorage::new(0)), None);
        assert_eq!(find_former_end(&mut grown(64 << 20, 64 << 20)), None);
    }

    #[test]
    fn the_number_of_reads_is_bounded_whatever_the_size() {
        for size_bytes in [0, 1, 1 << 20, (1 << 20) + 1, 1 << 40, 1 << 50] {
            let ends: Vec<_> = candidates(size_bytes).collect();
            assert!(ends.len() <= FORMER_END_PROBES_MAX && ends.iter().all(|end| *end < size_bytes), "{size_bytes}");
            let different: std::collections::HashSet<_> = ends.iter().collect();
            assert_eq!(different.len(), ends.len(), "{size_bytes}");
        }
    }
}
