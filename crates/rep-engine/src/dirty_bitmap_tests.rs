//! The dirty bitmap against a naive set of blocks.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Three pages and a bit: every kind of page and the short last one.
const BLOCKS: u64 = 3 * PAGE_BLOCKS + 777;

#[derive(Clone, Debug)]
enum Step {
    Set(u64, u64),
    Clear(u64, u64),
    SetAll,
    ClearAll,
    Resize(u64),
    Take(u32),
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        12 => (0..BLOCKS, 0..200u64),
        1 => (0..BLOCKS + 100, 0..2 * PAGE_BLOCKS),
        2 => (0..4u64).prop_map(|page| (page * PAGE_BLOCKS, PAGE_BLOCKS)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => range().prop_map(|(first, count)| Step::Set(first, count)),
        8 => range().prop_map(|(first, count)| Step::Clear(first, count)),
        1 => Just(Step::SetAll),
        1 => Just(Step::ClearAll),
        1 => (1..BLOCKS).prop_map(Step::Resize),
        2 => (0..4u32).prop_map(Step::Take),
    ]
}

fn runs_of_model(model: &BTreeSet<u64>) -> Vec<BlockRange> {
    let mut runs: Vec<BlockRange> = Vec::new();
    for block in model {
        match runs.last_mut() {
            Some(run) if run.end() == *block => run.count += 1,
            _ => runs.push(BlockRange::new(*block, 1)),
        }
    }
    runs
}

fn runs_of(bitmap: &DirtyBitmap) -> Vec<BlockRange> {
    bitmap.runs_of(BlockRange::new(0, bitmap.volume_blocks()))
}

fn apply(bitmap: &mut DirtyBitmap, model: &mut BTreeSet<u64>, step: &Step) {
    let inside = |first: u64, count: u64, bitmap: &DirtyBitmap| first..(first + count).min(bitmap.volume_blocks());
    match *step {
        Step::Set(first, count) => {
            let added = inside(first, count, bitmap).filter(|block| model.insert(*block)).count() as u64;
            assert_eq!(bitmap.set(BlockRange::new(first, count)), added);
        }
        Step::Clear(first, count) => {
            let removed = inside(first, count, bitmap).filter(|block| model.remove(block)).count() as u64;
            assert_eq!(bitmap.clear(BlockRange::new(first, count)), removed);
        }
        Step::SetAll => {
            bitmap.set_all();
            model.extend(0..bitmap.volume_blocks());
        }
        Step::ClearAll => {
            bitmap.clear_all();
            model.clear();
        }
        Step::Resize(blocks) => {
            bitmap.resize(blocks);
            model.retain(|block| *block < blocks);
        }
        Step::Take(page) => {
            if page < bitmap.page_count() {
                bitmap.take_changes(page);
                assert!(!bitmap.unsaved_sets().contains(page) && !bitmap.unsaved_clears().contains(page));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn behaves_like_a_set_of_blocks(
        steps in proptest::collection::vec(step(), 1..25),
        looks in proptest::collection::vec((0..BLOCKS + 9, 0..5000u64), 20),
    ) {
        let (mut bitmap, mut model) = (DirtyBitmap::new(BLOCKS), BTreeSet::new());
        for step in &steps {
            apply(&mut bitmap, &mut model, step);
            bitmap.assert_invariants();
            prop_assert_eq!(bitmap.count(), model.len() as u64);
            prop_assert_eq!(bitmap.is_empty(), model.is_empty());
        }
        prop_assert_eq!(runs_of(&bitmap), runs_of_model(&model));
        for (first, count) in looks {
            prop_assert_eq!(bitmap.is_set(BlockIndex(first)), model.contains(&first));
            prop_assert_eq!(bitmap.any_set(BlockRange::new(first, count)), model.range(first..first + count).next().is_some());
            let next = model.range(first..).next().copied();
            let run = bitmap.next_run(BlockIndex(first), count.max(1));
            prop_assert_eq!(run.map(|run| run.first.0), next);
            if let Some(run) = run {
                let length = (run.first.0..).take_while(|block| model.contains(block)).count() as u64;
                prop_assert_eq!(run.count, length.min(count.max(1)));
            }
        }
    }

    #[test]
    fn a_union_holds_both(mine in proptest::collection::vec(step(), 0..6), theirs in proptest::collection::vec(step(), 0..6)) {
        let (mut a, mut model) = (DirtyBitmap::new(BLOCKS), BTreeSet::new());
        let (mut b, mut other) = (DirtyBitmap::new(BLOCKS), BTreeSet::new());
        mine.iter().for_each(|step| apply(&mut a, &mut model, step));
        theirs.iter().for_each(|step| apply(&mut b, &mut other, step));
        a.union(&b);
        a.assert_invariants();
        model.extend(other.into_iter().filter(|block| *block < a.volume_blocks()));
        prop_assert_eq!(runs_of(&a), runs_of_model(&model));
    }

    #[test]
    fn changes_are_marked_where_they_happen(first in 0..BLOCKS, count in 1..200u64) {
        let mut bitmap = DirtyBitmap::new(BLOCKS);
        let range = BlockRange::new(first, count);
        let touched: Vec<u32> = parts(BLOCKS, range).map(|part| part.page).collect();
        bitmap.set(range);
        prop_assert_eq!(bitmap.unsaved_sets().iter().collect::<Vec<_>>(), touched.clone());
        touched.iter().for_each(|page| assert!(bitmap.take_changes(*page)));
        bitmap.set(range);
        prop_assert!(bitmap.unsaved_sets().is_empty(), "nothing was newly set");
        bitmap.clear(range);
        prop_assert_eq!(bitmap.unsaved_clears().iter().collect::<Vec<_>>(), touched);
    }
}

#[test]
fn memory_follows_what_is_dirty() {
    let blocks = (16u64 << 40) / rep_types::BLOCK_SIZE;
    let mut bitmap = DirtyBitmap::new(blocks);
    bitmap.set_all();
    assert_eq!((bitmap.count(), bitmap.pages_allocated()), (blocks, 0));
    bitmap.clear(BlockRange::new(blocks / 2, 1));
    assert_eq!((bitmap.count(), bitmap.pages_allocated()), (blocks - 1, 1));
    assert_eq!(bitmap.next_run(BlockIndex(0), u64::MAX), Some(BlockRange::new(0, blocks / 2)));
    bitmap.clear_all();
    assert_eq!((bitmap.count(), bitmap.pages_allocated()), (0, 0));
    assert_eq!(bitmap.next_run(BlockIndex(0), u64::MAX), None);
}

#[test]
fn what_lies_past_the_end_is_ignored_without_overflow() {
    let mut bitmap = DirtyBitmap::new(100);
    assert_eq!(bitmap.set(BlockRange::new(u64::MAX, u64::MAX)), 0);
    assert_eq!(bitmap.set(BlockRange::new(90, u64::MAX)), 10);
    assert!(!bitmap.is_set(BlockIndex(u64::MAX)) && bitmap.any_set(BlockRange::new(99, u64::MAX)));
    assert_eq!(bitmap.next_run(BlockIndex(u64::MAX), 1), None);
}

#[test]
fn loaded_bits_past_the_end_are_cut_and_damage_is_marked() {
    let loaded = LoadedBitmap {
        tag: rep_meta::DeviceTag(1),
        highest_sequence: 0,
        pages: vec![LoadedPage::AllSet, LoadedPage::Mixed(Box::new([u64::MAX; PAGE_WORDS])), LoadedPage::AllSet],
        damaged_pages: vec![1, 2],
    };
    let bitmap = DirtyBitmap::from_loaded(&loaded, PAGE_BLOCKS + 10);
    bitmap.assert_invariants();
    assert_eq!(bitmap.count(), PAGE_BLOCKS + 10);
    assert_eq!(bitmap.unsaved_sets().iter().collect::<Vec<_>>(), [1]);
}
