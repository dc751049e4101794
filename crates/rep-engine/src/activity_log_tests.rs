//! The activity log against a naive model, and its ring on a disk that tears the last write.

use super::*;
use proptest::prelude::*;
use rep_meta::{META_BLOCK_SIZE, Placement};
use rep_types::EXTENT_SIZE;
use std::collections::{BTreeMap, BTreeSet};

const EXTENTS: u32 = 12;

fn layout(slots: u32) -> Layout {
    let options = rep_meta::LayoutOptions { log_slots: Some(slots) };
    Layout::with_options(u64::from(EXTENTS) * EXTENT_SIZE, Placement::External, options).expect("a legal size")
}

fn damaged_log() -> RecoveredLog {
    let ring: [Option<&[u8; META_BLOCK_SIZE]>; 4] = [None; 4];
    rep_meta::recover(&layout(2), DeviceTag(5), ring)
}

/// A log with its ring on a disk.
struct Rig {
    layout: Layout,
    log: ActivityLog,
    ring: Vec<MetaBlock>,
    in_flight: Vec<(u64, MetaBlock)>,
    /// References and newest epoch per extent.
    data: BTreeMap<u32, (u32, u64)>,
    settled: u64,
    wanted_ever: BTreeSet<u32>,
    held: Vec<ByteRange>,
}

impl Rig {
    /// A log over a ring of garbage, as after damage: reset writes it all.
    fn new(slots: u32) -> Rig {
        let layout = layout(slots);
        let ring = vec![MetaBlock::zeroed(); layout.log_blocks as usize];
        let blocks = ring.iter().map(|block| Some(&*block.0));
        let recovered = rep_meta::recover(&layout, DeviceTag(5), blocks);
        assert!(recovered.damaged);
        let mut rig = Rig {
            layout,
            log: ActivityLog::from_loaded(&recovered, &layout),
            ring,
            in_flight: Vec::new(),
            data: BTreeMap::new(),
            settled: 0,
            wanted_ever: BTreeSet::new(),
            held: Vec::new(),
        };
        rig.reset();
        rig.commit();
        rig
    }

    fn position(&self, offset: u64) -> usize {
        ((offset - self.layout.log_offset) / META_BLOCK_SIZE as u64) as usize
    }

    fn reset(&mut self) {
        self.log.begin_reset(&mut self.in_flight);
    }

    fn commit(&mut self) {
        for (offset, block) in std::mem::take(&mut self.in_flight) {
            let position = self.position(offset);
            self.ring[position] = block;
        }
        self.log.commit_transaction();
    }

    /// The ring after a crash that left the sectors of `mask` of each write in flight.
    fn torn(&self, mask: u64) -> Vec<MetaBlock> {
        let mut ring = self.ring.clone();
        for (index, (offset, block)) in self.in_flight.iter().enumerate() {
            let mask = mask.rotate_left(index as u32 * 11);
            let to = &mut ring[self.position(*offset)];
            for sector in (0..8usize).filter(|sector| mask >> sector & 1 == 1) {
                let bytes = sector * 512..(sector + 1) * 512;
                to.0[bytes.clone()].copy_from_slice(&block.0[bytes]);
            }
        }
        ring
    }

    fn recover(&self, ring: &[MetaBlock]) -> RecoveredLog {
        rep_meta::recover(&self.layout, DeviceTag(5), ring.iter().map(|block| Some(&*block.0)))
    }

    /// AL-4.
    fn check_recovery(&self, mask: u64) {
        let recovered = self.recover(&self.torn(mask));
        assert!(!recovered.damaged, "a torn last write isn't damage");
        let hot: BTreeSet<u32> = recovered.hot.iter().map(|extent| extent.0).collect();
        for (extent, (refs, epoch)) in &self.data {
            if *refs > 0 || *epoch > self.settled {
                assert!(hot.contains(extent), "AL-4: extent {extent} is lost: {hot:?}");
            }
        }
        assert!(hot.is_subset(&self.wanted_ever), "AL-4: {hot:?} of {:?}", self.wanted_ever);
    }

    fn acquire(&mut self, range: ByteRange) {
        self.wanted_ever.extend(range.extents());
        let all_hot = self.log.is_hot(range);
        assert_eq!(self.log.acquire(range), all_hot);
        if all_hot {
            self.held.push(range);
            for extent in range.extents() {
                self.data.entry(extent).or_default().0 += 1;
            }
        }
    }

    fn release(&mut self, which: usize, epoch: u64) {
        if self.held.is_empty() {
            return;
        }
        let range = self.held.swap_remove(which % self.held.len());
        self.log.release(range, EpochNumber(epoch));
        for extent in range.extents() {
            let data = self.data.get_mut(&extent).expect("held");
            data.0 -= 1;
            data.1 = data.1.max(epoch);
        }
    }

    fn begin(&mut self, cooling: bool) {
        let wants = self.log.wants_transaction();
        let in_transaction = self.log.in_transaction();
        let evicted = if cooling { self.log.begin_cooling(3) } else { self.log.begin_transaction() };
        assert!(cooling || wants == evicted.is_some(), "wants_transaction tells what begin_transaction does");
        let Some(evicted) = evicted.map(<[ExtentIndex]>::to_vec) else { return };
        assert!(!in_transaction);
        for extent in evicted {
            let (refs, epoch) = self.data.get(&extent.0).copied().unwrap_or_default();
            assert!(refs == 0 && epoch <= self.settled, "{extent} is evicted in use");
            assert!(!self.log.is_hot(ByteRange::new(u64::from(extent.0) * EXTENT_SIZE, 512)));
        }
        let write = self.log.encode_transaction();
        self.in_flight.push(write);
    }

    /// The node goes down and comes back: what was in use is the caller's to mark, then the log is emptied.
    fn crash(&mut self, mask: u64) {
        self.ring = self.torn(mask);
        self.in_flight.clear();
        self.held.clear();
        self.data.clear();
        self.log = ActivityLog::from_loaded(&self.recover(&self.ring), &self.layout);
        self.settled = 0;
        self.reset();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Acquire(u32, bool),
    Release(usize),
    NextEpoch,
    Settle,
    Begin,
    MarkIdle,
    Cool,
    Commit,
    Crash(u64),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..EXTENTS, any::<bool>()).prop_map(|(extent, two)| Step::Acquire(extent, two)),
        6 => any::<usize>().prop_map(Step::Release),
        2 => Just(Step::NextEpoch),
        3 => Just(Step::Settle),
        5 => Just(Step::Begin),
        1 => Just(Step::MarkIdle),
        1 => Just(Step::Cool),
        6 => Just(Step::Commit),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Forget),
    ]
}

/// The 4 KiB at an extent's end, and with `two` also the first of the next one.
fn range_at(extent: u32, two: bool) -> ByteRange {
    let two = two && extent + 1 < EXTENTS;
    ByteRange::new(u64::from(extent + 1) * EXTENT_SIZE - 4096, if two { 8192 } else { 4096 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_happens_the_ring_names_what_is_in_use(
        slots in 2..=EXTENTS,
        steps in proptest::collection::vec((step(), any::<u64>()), 1..120),
    ) {
        let mut rig = Rig::new(slots);
        let mut epoch = 1;
        for (step, mask) in steps {
            match step {
                Step::Acquire(extent, two) => rig.acquire(range_at(extent, two)),
                Step::Release(which) => rig.release(which, epoch),
                Step::NextEpoch => epoch += 1,
                Step::Settle => {
                    rig.settled = rig.settled.max(epoch - 1);
                    rig.log.settle(EpochNumber(epoch - 1));
                }
                Step::Begin => rig.begin(false),
                Step::MarkIdle => rig.log.mark_idle(),
                Step::Cool => rig.begin(true),
                Step::Commit => if !rig.in_flight.is_empty() { rig.commit() },
                Step::Crash(mask) => rig.crash(mask),
                Step::Forget => rig.log.forget_wanted(),
            }
            rig.log.assert_invariants();
            rig.check_recovery(mask);
        }
    }

    #[test]
    fn every_request_gets_its_extents_in_the_end(
        slots in 2..5u32,
        requests in proptest::collection::vec((0..EXTENTS, any::<bool>()), 1..60),
    ) {
        let mut rig = Rig::new(slots);
        let mut waiting: VecDeque<ByteRange> = requests.into_iter().map(|(extent, two)| range_at(extent, two)).collect();
        let mut epoch = 1;
        for _ in 0..4 * waiting.len() {
            // Each waiting request tries again in order; what is acquired ends at once, in the current epoch.
            waiting.retain(|range| {
                let acquired = rig.log.acquire(*range);
                if acquired {
                    rig.log.release(*range, EpochNumber(epoch));
                }
                !acquired
            });
            if rig.log.wants_settling() {
                rig.log.settle(EpochNumber(epoch));
                epoch += 1;
            }
            if rig.log.begin_transaction().is_some() {
                let write = rig.log.encode_transaction();
                rig.in_flight.push(write);
                rig.commit();
            }
            rig.log.assert_invariants();
        }
        prop_assert!(waiting.is_empty(), "{waiting:?} wait for ever");
    }

    #[test]
    fn rot_anywhere_needed_is_damage_and_never_a_smaller_set(
        transactions in 0..12u32,
        hit in 0..4 * META_BLOCK_SIZE,
        bit in 0..8u32,
    ) {
        let mut rig = Rig::new(3);
        for extent in 0..transactions {
            rig.log.settle(EpochNumber(0));
            rig.acquire(range_at(extent % EXTENTS, false));
            rig.begin(false);
            if !rig.in_flight.is_empty() {
                rig.commit();
            }
        }
        let whole = rig.recover(&rig.ring);
        rig.ring[hit / META_BLOCK_SIZE].0[hit % META_BLOCK_SIZE] ^= 1 << bit;
        let rotten = rig.recover(&rig.ring);
        prop_assert!(rotten.damaged || rotten.hot == whole.hot);
    }
}

#[test]
fn nothing_is_hot_before_the_reset_is_durable() {
    let mut log = ActivityLog::from_loaded(&damaged_log(), &layout(2));
    assert!(!log.acquire(range_at(0, false)));
    assert!(log.begin_transaction().is_none());
    let mut out = Vec::new();
    log.begin_reset(&mut out);
    assert_eq!(out.len(), 4, "a damaged ring is written anew");
    assert!(!log.acquire(range_at(0, false)));
    log.commit_transaction();
    assert_eq!(log.begin_transaction(), Some(&[][..]));
    log.encode_transaction();
    log.commit_transaction();
    assert!(log.acquire(range_at(0, false)));
}

#[test]
fn two_tries_at_the_same_block_are_never_mistaken_for_one() {
    let mut rig = Rig::new(4);
    rig.acquire(range_at(1, false));
    rig.begin(false);
    rig.commit();
    rig.acquire(range_at(1, false));
    // A first try that leaves its even sectors, then, after the crash, the reset leaves its odd ones.
    rig.acquire(range_at(5, false));
    rig.begin(false);
    rig.crash(0b0101_0101);
    let recovered = rig.recover(&rig.torn(0b1010_1010));
    assert!(!recovered.damaged);
    assert_eq!(recovered.hot, [ExtentIndex(1)]);
}

#[test]
fn a_wide_log_is_recovered_from_its_windows() {
    let extents = 3000u32;
    let options = rep_meta::LayoutOptions { log_slots: Some(2000) };
    let layout = Layout::with_options(u64::from(extents) * EXTENT_SIZE, Placement::External, options).expect("legal");
    assert_eq!(layout.log_blocks, 5);
    let mut rig = Rig {
        layout,
        log: ActivityLog::from_loaded(&damaged_log(), &layout),
        ring: vec![MetaBlock::zeroed(); 5],
        in_flight: Vec::new(),
        data: BTreeMap::new(),
        settled: 0,
        wanted_ever: BTreeSet::new(),
        held: Vec::new(),
    };
    rig.reset();
    rig.commit();
    for round in 0..40u32 {
        for extent in 0..180 {
            rig.acquire(ByteRange::new(u64::from((round * 173 + extent * 7) % extents) * EXTENT_SIZE, 4096));
        }
        rig.begin(false);
        if !rig.in_flight.is_empty() {
            rig.check_recovery(u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            rig.commit();
        }
        let recovered = rig.recover(&rig.ring);
        let mut hot: Vec<ExtentIndex> = rig.log.hot_extents().collect();
        hot.sort_unstable();
        assert_eq!(recovered.hot, hot);
    }
    assert!(rig.log.hot_count() > 1500);
    while !rig.held.is_empty() {
        rig.release(0, 1);
    }
    rig.reset();
    rig.commit();
    assert_eq!(rig.recover(&rig.ring).hot, [], "a reset frees the slots outside its window too");
}

#[test]
fn a_block_the_disk_never_wrote_breaks_the_chain() {
    let mut rig = Rig::new(4);
    for extent in 0..3 {
        let before = rig.ring.clone();
        rig.acquire(range_at(extent, false));
        rig.begin(false);
        rig.commit();
        if extent == 1 {
            // The disk said it was durable, and kept the old block.
            rig.ring = before;
        }
    }
    assert!(rig.recover(&rig.ring).damaged);
}

#[test]
fn cooling_leaves_what_was_used_since_the_mark() {
    let mut rig = Rig::new(4);
    for extent in 0..3 {
        rig.acquire(range_at(extent, false));
    }
    rig.begin(false);
    rig.commit();
    assert!(rig.log.begin_cooling(9).is_none(), "nothing is idle before a mark");
    rig.log.mark_idle();
    rig.acquire(range_at(1, false));
    rig.release(0, 1);
    assert_eq!(rig.log.begin_cooling(9), Some(&[ExtentIndex(0), ExtentIndex(2)][..]));
    rig.log.encode_transaction();
    rig.log.commit_transaction();
    assert_eq!(rig.log.hot_extents().collect::<Vec<_>>(), [ExtentIndex(1)]);
    assert!(!rig.log.is_settled());
    rig.log.settle(EpochNumber(1));
    assert!(rig.log.is_settled());
}
