//! Making metadata, reading it back, and naming what is wrong with it.

mod support;

use proptest::prelude::*;
use rep_meta::{
    CreateError, DataState, LoadError, LoadedPage, META_BLOCK_SIZE, MemoryStorage, MetaIoError, MetaStorage, PageState,
    Placement, Probe, Superblock, SuperblockError, create, dump, encode_page, encode_summary_block, load, probe,
};
use rep_types::{IoError, NodeName, ResourceName, VolumeNumber};
use support::{fresh, identity, load_it, parameters};

const MIB: u64 = 1 << 20;

#[test]
fn fresh_metadata_loads_as_just_created() {
    for placement in [Placement::Internal, Placement::External] {
        for device_bytes in [72 * 4096, 10 * MIB + 512, 1 << 30, 300 << 30] {
            let (mut storage, superblock, layout) = fresh(device_bytes, placement);
            let loaded = load_it(&mut storage, &layout).expect("just made");
            assert_eq!((&loaded.superblock, loaded.layout), (&superblock, layout));
            assert!(!loaded.log.damaged && loaded.log.hot.is_empty());
            assert!(loaded.bitmap.pages.iter().all(|page| *page == LoadedPage::Clean));
            assert_eq!(probe(&mut storage, placement), Ok(Probe::Metadata(Box::new(superblock))));
        }
    }
}

#[test]
fn a_disk_without_room_is_refused() {
    let mut storage = MemoryStorage::new(16 * 4096);
    let error = create(&mut storage, &parameters(8 * 4096, Placement::Internal)).expect_err("no room for data");
    assert!(matches!(error, CreateError::Layout(_)), "{error}");
    let error = create(&mut storage, &parameters(16 << 40, Placement::External)).expect_err("a tiny file");
    assert!(matches!(error, CreateError::MetadataDeviceTooSmall { actual_bytes: 65536, .. }), "{error}");
}

#[test]
fn foreign_and_empty_disks_hold_nothing() {
    let mut storage = MemoryStorage::new(MIB);
    assert_eq!(probe(&mut storage, Placement::Internal), Ok(Probe::Nothing));
    let error = load(&mut storage, &identity(), Placement::Internal, MIB).expect_err("zeroes");
    assert_eq!(error, LoadError::NotMetadata);
    storage.block_mut(MIB - 4096).0.fill(0x5a);
    assert_eq!(load(&mut storage, &identity(), Placement::Internal, MIB), Err(LoadError::NotMetadata));
    let mut tiny = MemoryStorage::new(100);
    assert_eq!(load(&mut tiny, &identity(), Placement::Internal, 100), Err(LoadError::NotMetadata));
    assert_eq!(probe(&mut tiny, Placement::External), Ok(Probe::Nothing));
}

#[test]
fn what_belongs_to_others_is_named() {
    let (mut storage, _, layout) = fresh(10 * MIB, Placement::External);
    let mut load_as = |identity| load(&mut storage, &identity, Placement::External, layout.device_bytes);
    let resource = ResourceName::new("other").expect("a name");
    let error = load_as(rep_meta::Identity { resource, ..identity() }).expect_err("another's");
    assert_eq!(error, LoadError::OtherResource(identity().resource));
    let node = NodeName::new("beta").expect("a name");
    let error = load_as(rep_meta::Identity { node, ..identity() }).expect_err("another's");
    assert_eq!(error, LoadError::OtherNode(identity().node));
    let error = load_as(rep_meta::Identity { volume: VolumeNumber(0), ..identity() }).expect_err("another's");
    assert_eq!(error, LoadError::OtherVolume(VolumeNumber(3)));
}

#[test]
fn a_disk_of_another_size_is_named_and_a_grown_one_with_external_metadata_is_not() {
    let (mut storage, _, layout) = fresh(10 * MIB, Placement::External);
    let error = load(&mut storage, &identity(), Placement::External, 9 * MIB).expect_err("shrunk");
    assert_eq!(error, LoadError::DeviceSizeChanged { expected_bytes: 10 * MIB, actual_bytes: 9 * MIB });
    let loaded = load(&mut storage, &identity(), Placement::External, 11 * MIB).expect("grown");
    assert_eq!(loaded.layout, layout);
    let (mut storage, _, _) = fresh(10 * MIB, Placement::Internal);
    let error = load(&mut storage, &identity(), Placement::Internal, 9 * MIB).expect_err("size told wrong");
    assert!(matches!(error, LoadError::DeviceSizeChanged { .. }), "{error}");
    storage.resize(9 * MIB);
    assert_eq!(load(&mut storage, &identity(), Placement::Internal, 9 * MIB), Err(LoadError::NotMetadata));
}

#[test]
fn a_disk_that_grew_is_loaded_as_it_was_until_its_metadata_have_moved() {
    let (mut storage, superblock, layout) = fresh(10 * MIB, Placement::Internal);
    storage.resize(64 * MIB);
    let load_now = |storage: &mut MemoryStorage| load(storage, &identity(), Placement::Internal, 64 * MIB);
    let loaded = load_now(&mut storage).expect("grown");
    assert_eq!((&loaded.superblock, &loaded.layout, loaded.device_bytes), (&superblock, &layout, 64 * MIB));

    // A copy A cut short at the new end isn't one yet, copy B decides nothing without a whole A before it.
    let after = layout.grown(64 * MIB, 64 * MIB).expect("room");
    let former_device_bytes = 10 * MIB;
    let available_bytes = after.available_bytes;
    let moved = Superblock { update_count: 2, available_bytes, former_device_bytes, ..superblock.clone() };
    let [(a, block_a), (b, block_b)] = moved.encode_copies(&after);
    *storage.block_mut(a) = block_a.clone();
    storage.block_mut(a).0[700] ^= 1;
    assert_eq!(load_now(&mut storage).expect("not moved yet").layout, layout);

    // A whole copy A is the move's end. What stood at the former end is gone from then on.
    *storage.block_mut(a) = block_a;
    let loaded = load_now(&mut storage).expect("moved");
    assert_eq!((loaded.layout, loaded.superblock.former_device_bytes), (after, 0));
    let former = rep_meta::superblock_offsets(10 * MIB, Placement::Internal);
    assert!(former.into_iter().all(|offset| storage.block_mut(offset).0.iter().all(|byte| *byte == 0)));

    // And damage to both copies is never mended from inside the data.
    for offset in former {
        *storage.block_mut(offset) = superblock.encode_copies(&layout)[0].1.clone();
    }
    assert_eq!(load_now(&mut storage).expect("whole").layout, after);
    storage.block_mut(a).0[700] ^= 1;
    *storage.block_mut(b) = block_b;
    storage.block_mut(b).0[700] ^= 1;
    assert_eq!(load_now(&mut storage), Err(LoadError::BothDamaged));
}

#[test]
fn external_metadata_may_be_cut_short_between_two_sizes() {
    let (mut storage, superblock, layout) = fresh(10 * MIB, Placement::External);
    storage.resize(MIB);
    let after = layout.grown(64 * MIB, MIB).expect("room");
    let grown = Superblock { update_count: 2, available_bytes: after.available_bytes, ..superblock };
    let [(a, block), _] = grown.encode_copies(&after);
    *storage.block_mut(a) = block;
    let loaded = load(&mut storage, &identity(), Placement::External, 64 * MIB).expect("the newer copy");
    assert_eq!((loaded.layout, loaded.log.damaged, loaded.bitmap.damaged_pages), (after, false, Vec::new()));
}

#[test]
fn a_cut_file_is_named() {
    let (mut storage, _, layout) = fresh(10 * MIB, Placement::External);
    storage.resize(layout.metadata_device_bytes - 4096);
    let error = load_it(&mut storage, &layout).expect_err("cut");
    assert!(matches!(error, LoadError::Truncated { .. }), "{error}");
    storage.resize(4096);
    assert!(matches!(load_it(&mut storage, &layout), Err(LoadError::Truncated { .. })));
    storage.resize(0);
    assert_eq!(load_it(&mut storage, &layout), Err(LoadError::NotMetadata));
}

/// Changes a field of both copies and makes their checksums good again.
fn forge(storage: &mut MemoryStorage, offsets: [u64; 2], change: impl Fn(&mut [u8; META_BLOCK_SIZE])) {
    for offset in offsets {
        let block = &mut storage.block_mut(offset).0;
        change(block);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&block[..8]);
        hasher.update(&block[12..]);
        let crc = hasher.finalize();
        block[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn another_format_version_and_unknown_features_are_named() {
    let (storage, _, layout) = fresh(10 * MIB, Placement::Internal);
    let mut newer = storage.clone();
    forge(&mut newer, layout.superblock_offsets, |block| block[12] = 2);
    assert_eq!(load_it(&mut newer, &layout), Err(LoadError::Unsupported(SuperblockError::OtherVersion(2))));
    assert_eq!(probe(&mut newer, Placement::Internal), Ok(Probe::Unknown(SuperblockError::OtherVersion(2))));
    let mut richer = storage;
    forge(&mut richer, layout.superblock_offsets, |block| block[16] = 4);
    assert_eq!(load_it(&mut richer, &layout), Err(LoadError::Unsupported(SuperblockError::UnknownFeatures(4))));
}

#[test]
fn two_superblocks_of_different_metadata_contradict() {
    let (mut storage, superblock, layout) = fresh(10 * MIB, Placement::External);
    let other = Superblock { device_uuid: 1, update_count: 9, ..superblock };
    let [_, (offset, block)] = other.encode_copies(&layout);
    storage.write(offset, &block.0[..]).expect("inside");
    assert_eq!(load_it(&mut storage, &layout), Err(LoadError::CopiesContradict));
}

/// A superblock update that a crash cuts short, in every way a disk may leave it.
#[test]
fn an_update_cut_short_leaves_the_old_or_the_new_superblock() {
    let (storage, old, layout) = fresh(10 * MIB, Placement::Internal);
    let new = Superblock { data: DataState::Consistent, update_count: old.update_count + 1, ..old.clone() };
    let copies = new.encode_copies(&layout);
    for written in 0..2usize {
        for mask in 0..=255u32 {
            let mut disk = storage.clone();
            for (offset, block) in &copies[..written] {
                disk.write(*offset, &block.0[..]).expect("inside");
            }
            tear(&mut disk, &copies[written], mask);
            let found = load_it(&mut disk, &layout).expect("one copy is always whole").superblock;
            assert!(found == new || (found == old && written == 0), "written {written}, mask {mask:08b}");
            // After that load both copies are equal: the next update may tear either.
            for next in 0..2 {
                let mut disk = disk.clone();
                disk.block_mut(layout.superblock_offsets[next]).0.fill(0xff);
                assert_eq!(load_it(&mut disk, &layout).expect("the other copy").superblock, found);
            }
        }
    }
}

fn tear(disk: &mut MemoryStorage, (offset, block): &(u64, rep_meta::MetaBlock), mask: u32) {
    let to = disk.block_mut(*offset);
    for sector in (0..8usize).filter(|sector| mask >> sector & 1 == 1) {
        to.0[sector * 512..][..512].copy_from_slice(&block.0[sector * 512..][..512]);
    }
}

#[test]
fn a_create_cut_short_leaves_no_metadata_or_all_of_it() {
    /// Fails after some writes.
    struct Dying(MemoryStorage, u32);
    impl MetaStorage for Dying {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }
        fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
            self.0.read(offset, buf)
        }
        fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
            self.1 = self.1.checked_sub(1).ok_or(MetaIoError(IoError::Io))?;
            self.0.write(offset, bytes)
        }
        fn flush(&mut self) -> Result<(), MetaIoError> {
            Ok(())
        }
    }
    let (old, _, layout) = fresh(10 * MIB, Placement::Internal);
    let mut again = parameters(10 * MIB, Placement::Internal);
    again.device_uuid = 42;
    let mut outcomes = [0, 0, 0];
    for writes in 0..20 {
        let mut storage = Dying(old.clone(), writes);
        let created = create(&mut storage, &again);
        match load_it(&mut storage.0, &layout) {
            Ok(loaded) if loaded.superblock.device_uuid == 42 => {
                assert!(!loaded.log.damaged && loaded.bitmap.damaged_pages.is_empty());
                outcomes[2] += 1;
            }
            Ok(_) => {
                assert!(writes < 2, "the old metadata is wiped first");
                outcomes[0] += 1;
            }
            Err(error) => {
                assert_eq!((error, created.is_err()), (LoadError::NotMetadata, true));
                outcomes[1] += 1;
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 1), "{outcomes:?}");
}

/// Counts what is read.
struct Counting(MemoryStorage, u64);

impl MetaStorage for Counting {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        self.1 += buf.len() as u64;
        self.0.read(offset, buf)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
        self.0.write(offset, bytes)
    }
    fn flush(&mut self) -> Result<(), MetaIoError> {
        Ok(())
    }
}

#[test]
fn attaching_16_tib_reads_under_a_megabyte_and_only_mixed_pages() {
    let (mut storage, superblock, layout) = fresh(16 << 40, Placement::Internal);
    let mut bits = [0; rep_meta::PAGE_WORDS];
    bits[7] = 9;
    for page in [100, 101, 139_000] {
        let block = encode_page(superblock.tag(), page, 2, &bits);
        storage.write(layout.page_offset(page), &block.0[..]).expect("inside");
        let states = (0..layout.pages.min(15360)).map(|_| PageState::Mixed);
        let first = page / 15360 * 15360;
        let states = states.enumerate().map(|(index, state)| match first + index as u32 {
            100 | 101 | 139_000 => state,
            _ => PageState::Clean,
        });
        let summary = encode_summary_block(superblock.tag(), page / 15360, 2, states);
        storage.write(layout.summary_block_offset(page / 15360), &summary.0[..]).expect("inside");
    }
    let mut counting = Counting(storage, 0);
    let loaded = load(&mut counting, &identity(), Placement::Internal, 16 << 40).expect("valid");
    let mixed = loaded.bitmap.pages.iter().filter(|page| matches!(page, LoadedPage::Mixed(_))).count();
    assert_eq!((mixed, loaded.bitmap.damaged_pages.len()), (3, 0));
    assert!(counting.1 < MIB, "{} bytes read", counting.1);
}

#[test]
fn unreadable_parts_count_as_damage_and_cost_no_more() {
    /// One block can't be read.
    struct BadBlock(MemoryStorage, u64);
    impl MetaStorage for BadBlock {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }
        fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
            let hit = (offset..offset + buf.len() as u64).contains(&self.1);
            if hit { Err(MetaIoError(IoError::Io)) } else { self.0.read(offset, buf) }
        }
        fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
            self.0.write(offset, bytes)
        }
        fn flush(&mut self) -> Result<(), MetaIoError> {
            Ok(())
        }
    }
    let (storage, superblock, layout) = fresh(1 << 30, Placement::External);
    let load_without = |offset| {
        let mut storage = BadBlock(storage.clone(), offset);
        load(&mut storage, &identity(), Placement::External, 1 << 30)
    };
    assert_eq!(load_without(0).expect("copy B").superblock, superblock);
    assert!(load_without(layout.log_block_offset(layout.log_blocks - 1)).expect("superblocks hold").log.damaged);
    let loaded = load_without(layout.summary_offset).expect("superblocks hold");
    assert!(loaded.bitmap.pages.iter().all(|page| *page == LoadedPage::AllSet));
    assert_eq!(loaded.bitmap.damaged_pages.len(), layout.pages as usize);
    assert!(!load_without(layout.page_offset(0)).expect("not even read").log.damaged);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever bytes are there: no panic, and what a superblock's checksum vouches for is all that is believed.
    #[test]
    fn arbitrary_damage_is_survived_or_named(
        internal in any::<bool>(),
        hits in proptest::collection::vec((any::<u32>(), 0..4096usize, any::<u8>(), any::<bool>()), 1..40),
    ) {
        let placement = if internal { Placement::Internal } else { Placement::External };
        let (mut storage, superblock, layout) = fresh(3 << 30, placement);
        let first = layout.log_offset.min(layout.superblock_offsets[0]);
        let blocks = (layout.metadata_device_bytes - first) / 4096;
        for (block, byte, value, fill) in hits {
            let block = storage.block_mut(first + u64::from(block) % blocks * 4096);
            if fill { block.0.fill(value) } else { block.0[byte] ^= value }
        }
        prop_assert!(!dump(&mut storage, placement).is_empty());
        match load_it(&mut storage, &layout) {
            Ok(loaded) => {
                prop_assert_eq!(loaded.superblock, superblock);
                prop_assert!(loaded.log.hot.is_empty());
                prop_assert_eq!(loaded.bitmap.pages.len(), layout.pages as usize);
            }
            Err(error) => prop_assert!(
                matches!(error, LoadError::NotMetadata | LoadError::BothDamaged), "{error}"
            ),
        }
    }

    /// A superblock whose checksum is right but whose fields are anything.
    #[test]
    fn forged_fields_never_panic(changes in proptest::collection::vec((12..400usize, any::<u8>()), 1..12)) {
        let (mut storage, _, layout) = fresh(1 << 30, Placement::External);
        forge(&mut storage, layout.superblock_offsets, |block| {
            for (at, value) in &changes {
                block[*at] = *value;
            }
        });
        prop_assert!(!dump(&mut storage, Placement::External).is_empty());
        let _ = load_it(&mut storage, &layout);
        let _ = probe(&mut storage, Placement::External);
    }
}

#[test]
fn a_dump_tells_what_is_there() {
    let (mut storage, superblock, layout) = fresh(10 * MIB, Placement::Internal);
    let text = dump(&mut storage, Placement::Internal);
    for line in ["resource          vz", "node              alpha", "volume            3", "0 hot extents", "0 blocks"]
    {
        assert!(text.contains(line), "{line:?} isn't in\n{text}");
    }
    let summary = encode_summary_block(superblock.tag(), 0, 2, [PageState::AllSet]);
    storage.write(layout.summary_offset, &summary.0[..]).expect("inside");
    storage.block_mut(layout.superblock_offsets[0]).0[700] ^= 1;
    storage.block_mut(layout.log_offset).0[40] ^= 1;
    storage.block_mut(layout.log_offset + 3 * 4096).0[40] ^= 1;
    let text = dump(&mut storage, Placement::Internal);
    let set = format!("out-of-sync       {} blocks", layout.data_blocks());
    for line in ["the superblock is damaged", "activity-log      damaged", set.as_str()] {
        assert!(text.contains(line), "{line:?} isn't in\n{text}");
    }
}
