//! The store against a disk that may crash at any step and tear any block at its sectors.

use super::*;
use proptest::prelude::*;
use rep_meta::{
    CreateParameters, Identity, InitialBitmap, LayoutOptions, Loaded, META_BLOCK_SIZE, MemoryStorage, MetaStorage,
    PAGE_BLOCKS, Placement, create, load,
};
use rep_types::{BlockIndex, BlockRange, NodeName, ResourceName, VolumeNumber};
use std::collections::BTreeMap;

/// More than two sectors of summary, and a last page that is short.
const PAGES: u64 = 4000;
const BLOCKS: u64 = (PAGES - 1) * PAGE_BLOCKS + 500;
const DEVICE_BYTES: u64 = BLOCKS * rep_types::BLOCK_SIZE;
/// The pages the tests play on: the first, both sides of a summary sector's end, and the last.
const PLAYED: [u64; 5] = [0, 1, 1919, 1920, PAGES - 1];

fn identity() -> Identity {
    Identity {
        resource: ResourceName::new("vz").expect("a name"),
        node: NodeName::new("alpha").expect("a name"),
        volume: VolumeNumber(0),
    }
}

fn fresh(bitmap: InitialBitmap) -> MemoryStorage {
    let parameters = CreateParameters {
        identity: identity(),
        device_uuid: 77,
        placement: Placement::External,
        device_bytes: DEVICE_BYTES,
        options: LayoutOptions { log_slots: Some(4) },
        bitmap,
    };
    let mut storage = MemoryStorage::new(64 << 20);
    create(&mut storage, &parameters).expect("room enough");
    storage
}

fn load_again(storage: &mut MemoryStorage) -> Loaded {
    load(storage, &identity(), Placement::External, DEVICE_BYTES).expect("valid metadata")
}

fn runs(bitmap: &DirtyBitmap) -> Vec<BlockRange> {
    let mut from = BlockIndex(0);
    std::iter::from_fn(|| {
        let run = bitmap.next_run(from, u64::MAX)?;
        from = BlockIndex(run.end());
        Some(run)
    })
    .collect()
}

/// A volume's bitmap with its store and disk.
struct Rig {
    disk: MemoryStorage,
    bitmap: DirtyBitmap,
    store: BitmapStore,
    /// Blocks of the step under way.
    step: Vec<(u64, MetaBlock)>,
    /// Since when each run is set, by the runs that were set (whole pages count once).
    clock: u64,
    set_since: BTreeMap<u64, u64>,
    /// Per page: what was set then, or before, is durable.
    durable_since: BTreeMap<u32, u64>,
    began: (u64, Vec<u32>),
}

/// Blocks watched in each played page: enough to see what happens to a run and its neighbours.
fn watched() -> impl Iterator<Item = u64> {
    PLAYED.iter().flat_map(|page| {
        let first = page * PAGE_BLOCKS;
        (first..first + 40).chain(first + 3830..first + 3850).chain(first + PAGE_BLOCKS - 3..first + PAGE_BLOCKS)
    })
}

impl Rig {
    fn new(bitmap: InitialBitmap) -> Rig {
        let mut disk = fresh(bitmap);
        let loaded = load_again(&mut disk);
        let bitmap = DirtyBitmap::from_loaded(&loaded.bitmap, BLOCKS);
        let set_since = watched().filter(|block| bitmap.is_set(BlockIndex(*block))).map(|block| (block, 0)).collect();
        let store = BitmapStore::from_loaded(&loaded.bitmap, &loaded.layout);
        Rig {
            disk,
            bitmap,
            store,
            step: Vec::new(),
            clock: 1,
            set_since,
            durable_since: PLAYED.iter().map(|page| (*page as u32, 0)).collect(),
            began: (0, Vec::new()),
        }
    }

    fn change(&mut self, set: bool, range: BlockRange) {
        self.clock += 1;
        let before: Vec<bool> = watched().map(|block| self.bitmap.is_set(BlockIndex(block))).collect();
        if set {
            self.bitmap.set(range);
        } else {
            self.bitmap.clear(range);
        }
        for (block, before) in watched().zip(before) {
            match (before, self.bitmap.is_set(BlockIndex(block))) {
                (false, true) => drop(self.set_since.insert(block, self.clock)),
                (true, false) => drop(self.set_since.remove(&block)),
                _ => {}
            }
        }
    }

    fn begin(&mut self, scope: WriteScope<'_>) {
        if self.store.is_writing() {
            return;
        }
        self.began = (self.clock, pages_in_scope(&self.bitmap, scope));
        if !self.store.begin_write(&mut self.bitmap, scope, &mut self.step) {
            self.finished();
        }
    }

    fn proceed(&mut self) {
        if !self.store.is_writing() {
            return;
        }
        for (offset, block) in self.step.drain(..) {
            self.disk.write(offset, &block.0[..]).expect("inside");
        }
        if !self.store.write_done(&mut self.bitmap, &mut self.step) {
            self.finished();
        }
    }

    fn finished(&mut self) {
        for page in &self.began.1 {
            self.durable_since.insert(*page, self.began.0);
        }
    }

    /// What a crash leaves now, each sector of the step under way old or new.
    fn crashed(&self, mask: u64) -> MemoryStorage {
        let mut disk = self.disk.clone();
        for (index, (offset, block)) in self.step.iter().enumerate() {
            let mask = mask.rotate_left(index as u32 * 13);
            let to = disk.block_mut(*offset);
            for sector in (0..8usize).filter(|sector| mask >> sector & 1 == 1) {
                let bytes = sector * 512..(sector + 1) * 512;
                to.0[bytes.clone()].copy_from_slice(&block.0[bytes]);
            }
        }
        disk
    }

    fn check_crash(&self, mask: u64) {
        let loaded = load_again(&mut self.crashed(mask));
        assert_eq!(loaded.bitmap.damaged_pages, [] as [u32; 0], "a torn write isn't damage");
        let found = DirtyBitmap::from_loaded(&loaded.bitmap, BLOCKS);
        for (block, since) in &self.set_since {
            let page = (block / PAGE_BLOCKS) as u32;
            let needs_write = self.store.extent_needs_write(&self.bitmap, BlockIndex(*block).extent());
            if !needs_write || *since <= self.durable_since[&page] {
                assert!(found.is_set(BlockIndex(*block)), "BS-2: block {block} set at {since} is lost");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Change { set: bool, page: usize, first: u64, count: u64 },
    WholePage { set: bool, page: usize },
    BeginAll,
    BeginExtent(usize),
    Proceed,
}

fn step() -> impl Strategy<Value = Step> {
    let page = 0..PLAYED.len();
    prop_oneof![
        6 => (any::<bool>(), page.clone(), prop_oneof![0..40u64, 3830..3850u64], 1..12u64)
            .prop_map(|(set, page, first, count)| Step::Change { set, page, first, count }),
        2 => (any::<bool>(), page.clone()).prop_map(|(set, page)| Step::WholePage { set, page }),
        3 => Just(Step::BeginAll),
        2 => page.prop_map(Step::BeginExtent),
        6 => Just(Step::Proceed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_is_durably_set_survives_a_crash_at_any_step(
        all_set in any::<bool>(),
        steps in proptest::collection::vec((step(), any::<u64>()), 1..40),
    ) {
        let mut rig = Rig::new(if all_set { InitialBitmap::AllSet } else { InitialBitmap::Clean });
        for (step, mask) in steps {
            match step {
                Step::Change { set, page, first, count } => {
                    rig.change(set, BlockRange::new(PLAYED[page] * PAGE_BLOCKS + first, count));
                }
                Step::WholePage { set, page } => {
                    rig.change(set, BlockRange::new(PLAYED[page] * PAGE_BLOCKS, PAGE_BLOCKS));
                }
                Step::BeginAll => rig.begin(WriteScope::All),
                Step::BeginExtent(page) => {
                    let extent = BlockIndex(PLAYED[page] * PAGE_BLOCKS).extent();
                    rig.begin(WriteScope::Extents(&[extent]));
                }
                Step::Proceed => rig.proceed(),
            }
            rig.check_crash(mask);
        }
        while rig.store.is_writing() {
            rig.proceed();
        }
        rig.begin(WriteScope::All);
        while rig.store.is_writing() {
            rig.proceed();
        }
        prop_assert!(!rig.store.has_unsaved_changes(&rig.bitmap));
        let loaded = load_again(&mut rig.disk);
        prop_assert_eq!(runs(&DirtyBitmap::from_loaded(&loaded.bitmap, BLOCKS)), runs(&rig.bitmap));
    }

    #[test]
    fn damage_is_healed_by_the_next_write(
        summary in any::<bool>(),
        sector in 0..8usize,
        first in 0..BLOCKS,
    ) {
        let mut rig = Rig::new(InitialBitmap::Clean);
        rig.change(true, BlockRange::new(first, 1));
        rig.begin(WriteScope::All);
        while rig.store.is_writing() {
            rig.proceed();
        }
        let layout = load_again(&mut rig.disk).layout;
        let page = (first / PAGE_BLOCKS) as u32;
        let offset = if summary { layout.summary_block_offset(0) } else { layout.page_offset(page) };
        rig.disk.block_mut(offset).0[sector * 512 + 100] ^= 1;

        let loaded = load_again(&mut rig.disk);
        let mut bitmap = DirtyBitmap::from_loaded(&loaded.bitmap, BLOCKS);
        prop_assert!(bitmap.is_set(BlockIndex(first)));
        let mut store = BitmapStore::from_loaded(&loaded.bitmap, &loaded.layout);
        let damaged: Vec<u32> = loaded.bitmap.damaged_pages.clone();
        // The last sectors of the summary speak of no page.
        prop_assert_eq!(damaged.is_empty(), summary && sector as u64 * 1920 >= PAGES);
        let mut out = Vec::new();
        let mut more = store.begin_write(&mut bitmap, WriteScope::All, &mut out);
        while more {
            for (offset, block) in out.drain(..) {
                rig.disk.write(offset, &block.0[..]).expect("inside");
            }
            more = store.write_done(&mut bitmap, &mut out);
        }
        let healed = load_again(&mut rig.disk);
        prop_assert!(healed.bitmap.damaged_pages.is_empty());
        prop_assert_eq!(runs(&DirtyBitmap::from_loaded(&healed.bitmap, BLOCKS)), runs(&bitmap));
    }
}

#[test]
fn many_pages_go_in_bounded_steps() {
    let mut rig = Rig::new(InitialBitmap::Clean);
    for page in 0..300 {
        rig.bitmap.set(BlockRange::new(page * PAGE_BLOCKS + page, 1));
    }
    let mut steps = Vec::new();
    let mut more = rig.store.begin_write(&mut rig.bitmap, WriteScope::All, &mut rig.step);
    while more {
        steps.push(rig.step.len());
        rig.step.iter().for_each(|(_, block)| assert_eq!(block.0.len(), META_BLOCK_SIZE));
        rig.step.clear();
        more = rig.store.write_done(&mut rig.bitmap, &mut rig.step);
    }
    assert_eq!(steps, [64, 64, 64, 64, 44, 1]);
}

#[test]
fn whole_pages_need_the_summary_alone_and_an_unchanged_one_nothing() {
    let mut rig = Rig::new(InitialBitmap::Clean);
    rig.bitmap.set(BlockRange::new(PAGE_BLOCKS, 3 * PAGE_BLOCKS));
    assert!(rig.store.begin_write(&mut rig.bitmap, WriteScope::All, &mut rig.step));
    assert_eq!(rig.step.len(), 1);
    rig.step.clear();
    assert!(!rig.store.write_done(&mut rig.bitmap, &mut rig.step));
    assert!(!rig.store.begin_write(&mut rig.bitmap, WriteScope::All, &mut rig.step));
    rig.bitmap.clear(BlockRange::new(PAGE_BLOCKS, 3 * PAGE_BLOCKS));
    rig.bitmap.set(BlockRange::new(PAGE_BLOCKS, 3 * PAGE_BLOCKS));
    assert!(!rig.store.begin_write(&mut rig.bitmap, WriteScope::All, &mut rig.step), "there and back is no change");
}
