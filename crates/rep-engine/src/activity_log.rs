//! The activity log: which 4 MiB extents may be written to.
//!
//! An extent is *hot* once a log transaction that names it is durable; only then may a write go there (R9). After a
//! crash as Primary all blocks of hot extents are out-of-sync (R11), so an extent stays hot until its writes are done
//! here and stable on the peer (R10). This decides who gets a slot and who loses it, and makes the log's blocks; it
//! doesn't know bitmaps or requests. Many extents go into one transaction; one transaction is under way at a time.
//!
//! ```text
//! cold ──acquire──► wanted ──begin_transaction──► pending ──commit_transaction──► hot
//!   ▲                                                                             │
//!   └─── begin_transaction / begin_cooling (unreferenced, settled, least recently used) ───┘
//! ```
//!
//! Invariants:
//! - AL-1 `slot_of` and the slots agree: an extent has at most one slot, and each used slot is found by its extent.
//! - AL-2 the list of idle slots holds exactly the hot slots without references, least recently released first, and
//!   their epochs never fall along it (so that the settled ones come first).
//! - AL-3 every slot is free, pending, hot, or leaving; only hot slots have references.
//! - AL-4 what a completed or torn last transaction leaves in the ring names every referenced or unsettled extent, and
//!   none that was never wanted.
//!
//! A request may need two extents while the log has few slots. What a failed `acquire` found hot is kept from eviction
//! until a transaction that began after it is durable, except from requests that came earlier: so the oldest waiting
//! request always gets on, provided waiting requests try again in order.

use crate::idle_list::IdleList;
use rep_meta::{
    DeviceTag, LOG_CONTEXT_ENTRIES, LOG_UPDATES_MAX, Layout, LogUpdate, MetaBlock, RecoveredLog, SLOT_FREE, Transaction,
};
use rep_types::planted;
use rep_types::{ByteRange, EpochNumber, ExtentIndex};
use std::collections::VecDeque;

/// Which extents are hot, wanted and evictable.
#[derive(Clone, Debug)]
pub struct ActivityLog {
    ring: Ring,
    phase: Phase,
    slots: Vec<Slot>,
    /// One an extent: [`COLD`], [`WANTED`], or its slot + 1.
    slot_of: Vec<u32>,
    free: Vec<u32>,
    idle: IdleList,
    wanted: VecDeque<Wanted>,
    hot_count: u32,
    settled: EpochNumber,
    newest_epoch: EpochNumber,
    idle_mark: u32,
    /// Counts failed acquires.
    ticket: u64,
    /// The tickets given out when the transaction under way began.
    ticket_at_begin: u64,
    /// Slots with a `kept` ticket.
    kept: Vec<u32>,
    transaction: Transaction,
    evicted: Vec<ExtentIndex>,
}

/// In `slot_of`: no slot, not wanted.
const COLD: u32 = 0;
/// In `slot_of`: in the queue of the wanted.
const WANTED: u32 = u32::MAX;

/// Where the next block of the log goes.
#[derive(Clone, Debug)]
struct Ring {
    layout: Layout,
    tag: DeviceTag,
    /// Position and sequence of the newest transaction.
    position: u32,
    previous: u64,
    /// The highest sequence ever tried.
    highest: u64,
    context_first: u32,
    damaged: bool,
}

/// How far the transaction under way has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Just attached: what the ring says has to be emptied first.
    Recovered,
    Idle,
    Begun,
    Written,
    /// A reset is being written.
    Resetting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SlotState {
    Free,
    Pending,
    Hot,
    Leaving,
}

#[derive(Clone, Debug)]
struct Slot {
    state: SlotState,
    refs: u32,
    extent: u32,
    /// The last idle mark at which it was in use.
    used_mark: u32,
    /// The newest epoch with data of it.
    epoch: EpochNumber,
    /// The failed acquire that keeps it from eviction; 0: none.
    kept: u64,
}

const FREE_SLOT: Slot =
    Slot { state: SlotState::Free, refs: 0, extent: SLOT_FREE, used_mark: 0, epoch: EpochNumber(0), kept: 0 };

#[derive(Clone, Copy, Debug)]
struct Wanted {
    extent: u32,
    ticket: u64,
}

impl ActivityLog {
    /// The log of a volume just attached. Nothing can be acquired until a reset is durable; the hot extents of the
    /// recovered log are the caller's to mark out-of-sync before.
    pub fn from_loaded(log: &RecoveredLog, layout: &Layout) -> Self {
        let slots = layout.log_slots;
        ActivityLog {
            ring: Ring {
                layout: *layout,
                tag: log.tag,
                position: log.newest_position,
                previous: log.newest_sequence,
                highest: log.highest_sequence,
                context_first: 0,
                damaged: log.damaged,
            },
            phase: Phase::Recovered,
            slots: vec![FREE_SLOT; slots as usize],
            slot_of: vec![COLD; layout.extents() as usize],
            free: (0..slots).rev().collect(),
            idle: IdleList::new(slots),
            wanted: VecDeque::new(),
            hot_count: 0,
            settled: EpochNumber(0),
            newest_epoch: EpochNumber(0),
            idle_mark: 0,
            ticket: 0,
            ticket_at_begin: 0,
            kept: Vec::new(),
            transaction: Transaction {
                sequence: 0,
                previous: 0,
                reset: false,
                slots,
                updates: Vec::with_capacity(LOG_UPDATES_MAX),
                context_first: 0,
                context: Vec::with_capacity(LOG_CONTEXT_ENTRIES),
            },
            evicted: Vec::with_capacity(LOG_UPDATES_MAX),
        }
    }

    /// From here on everything is written by this layout, which is for a larger disk and may have more slots. With
    /// `rewrite` the whole ring is appended to it, to be written to its new place; no transaction is under way.
    pub fn take_layout(&mut self, layout: &Layout, rewrite: Option<&mut Vec<(u64, MetaBlock)>>) {
        assert_eq!(self.phase, Phase::Idle, "the log moves between transactions");
        let (before, slots) = (self.slots.len() as u32, layout.log_slots);
        assert!(slots >= before, "a log that grows");
        self.slots.resize(slots as usize, FREE_SLOT);
        self.free.splice(0..0, (before..slots).rev());
        self.idle.grow(slots);
        self.slot_of.resize(layout.extents() as usize, COLD);
        self.transaction.slots = slots;
        self.ring.layout = *layout;
        let Some(out) = rewrite else { return };
        self.clear_transaction();
        self.ring.position = layout.log_blocks - 1;
        self.transaction.reset = planted!("move-forgets-hot");
        out.extend((0..layout.log_blocks).map(|_| self.encode()));
    }

    // ---- requests ----

    /// Takes a reference on each extent of the range and says true, if all are hot. Else takes none, remembers the
    /// cold ones as wanted, and says false.
    #[inline]
    pub fn acquire(&mut self, range: ByteRange) -> bool {
        let extents = range.extents();
        if !extents.clone().all(|extent| self.hot_slot(extent).is_some()) {
            self.want(range);
            return false;
        }
        for extent in extents {
            let index = self.slot_of[extent as usize] - 1;
            let slot = &mut self.slots[index as usize];
            if slot.refs == 0 {
                self.idle.remove(index);
            }
            slot.refs += 1;
            slot.kept = 0;
        }
        true
    }

    /// A write ended: drops the references `acquire` took. `epoch`: the newest its data belongs to.
    #[inline]
    pub fn release(&mut self, range: ByteRange, epoch: EpochNumber) {
        self.newest_epoch = self.newest_epoch.max(epoch);
        for extent in range.extents() {
            let index = self.hot_slot(extent).expect("a referenced extent is hot");
            let slot = &mut self.slots[index as usize];
            assert!(slot.refs > 0, "extent {extent} is released more often than acquired");
            slot.refs -= 1;
            // At least as new as any released before: the idle list stays in the order of epochs.
            slot.epoch = self.newest_epoch;
            if slot.refs == 0 {
                slot.used_mark = self.idle_mark;
                self.idle.push_back(index);
            }
        }
    }

    /// Every write of this epoch and those before is stable on both disks (or, without a peer, on this one).
    pub fn settle(&mut self, epoch: EpochNumber) {
        self.settled = self.settled.max(epoch);
    }

    /// Whether every extent of the range is hot, with no reference taken.
    #[cfg(test)]
    pub fn is_hot(&self, range: ByteRange) -> bool {
        range.extents().all(|extent| self.hot_slot(extent).is_some())
    }

    /// Forgets what waits for a slot: the requests that wanted it are gone.
    pub fn forget_wanted(&mut self) {
        for wanted in self.wanted.drain(..) {
            self.slot_of[wanted.extent as usize] = COLD;
        }
        self.ticket_at_begin = self.ticket;
        self.let_kept_go();
    }

    // ---- transactions ----

    /// Whether `begin_transaction` would begin one.
    pub fn wants_transaction(&self) -> bool {
        self.phase == Phase::Idle && !self.wanted.is_empty() && (!self.free.is_empty() || self.victim(true).is_some())
    }

    /// Whether extents are wanted that get a slot only once epochs settle: close the current one.
    pub fn wants_settling(&self) -> bool {
        let unsettled = self.idle.back().is_some_and(|slot| self.slots[slot as usize].epoch > self.settled);
        self.phase == Phase::Idle && !self.wanted.is_empty() && unsettled && !self.wants_transaction()
    }

    /// Whether a transaction (or reset) is under way.
    #[cfg(test)]
    pub fn in_transaction(&self) -> bool {
        matches!(self.phase, Phase::Begun | Phase::Written | Phase::Resetting)
    }

    /// Gives slots to up to 256 wanted extents, in the order they came; `None` when there is nothing to do or none can
    /// be had. Returns the extents that lose theirs: they can't be acquired any more, and their bitmap pages must be
    /// durable before the transaction is encoded.
    pub fn begin_transaction(&mut self) -> Option<&[ExtentIndex]> {
        if self.phase != Phase::Idle {
            return None;
        }
        self.clear_transaction();
        while self.transaction.updates.len() < LOG_UPDATES_MAX
            && let Some(wanted) = self.wanted.front().copied()
            && let Some(slot) = self.free_slot()
        {
            self.wanted.pop_front();
            self.slots[slot as usize].state = SlotState::Pending;
            self.slots[slot as usize].extent = wanted.extent;
            self.slot_of[wanted.extent as usize] = slot + 1;
            self.transaction.updates.push(LogUpdate { slot, extent: Some(ExtentIndex(wanted.extent)) });
        }
        self.begun()
    }

    /// Marks this moment: what isn't used after it is idle.
    pub fn mark_idle(&mut self) {
        self.idle_mark += 1;
    }

    /// Like `begin_transaction`, but only lets go of up to `max` (at most 256) settled extents that weren't used since
    /// the last `mark_idle`. Fewer hot extents are less to copy after a crash.
    pub fn begin_cooling(&mut self, max: usize) -> Option<&[ExtentIndex]> {
        if self.phase != Phase::Idle {
            return None;
        }
        self.clear_transaction();
        while self.transaction.updates.len() < max.min(LOG_UPDATES_MAX)
            && let Some(slot) = self.idle.front()
            && self.is_cool(slot)
        {
            self.evict(slot);
            self.slots[slot as usize].state = SlotState::Leaving;
            self.slots[slot as usize].extent = SLOT_FREE;
            self.transaction.updates.push(LogUpdate { slot, extent: None });
        }
        self.begun()
    }

    /// The transaction's block and where it goes. The evicted extents' bitmap pages are durable.
    pub fn encode_transaction(&mut self) -> (u64, MetaBlock) {
        assert_eq!(self.phase, Phase::Begun, "a transaction is encoded once, after it began");
        self.phase = Phase::Written;
        self.transaction.reset = false;
        self.encode()
    }

    /// Empties the log: appends the blocks to write to `out`; ended by `commit_transaction`. What was hot, here or in
    /// the recovered log, is durably out-of-sync or settled; nothing is referenced. A damaged ring is written anew.
    pub fn begin_reset(&mut self, out: &mut Vec<(u64, MetaBlock)>) {
        assert!(matches!(self.phase, Phase::Recovered | Phase::Idle), "no reset while {:?}", self.phase);
        assert!(self.slots.iter().all(|slot| slot.refs == 0), "a reset while extents are referenced");
        self.clear_transaction();
        while let Some(slot) = self.idle.front() {
            self.evict(slot);
            self.slots[slot as usize].state = SlotState::Free;
            self.slots[slot as usize].extent = SLOT_FREE;
            self.free.push(slot);
        }
        self.phase = Phase::Resetting;
        self.transaction.reset = true;
        let blocks = if self.ring.damaged { self.ring.layout.log_blocks } else { 1 };
        out.extend((0..blocks).map(|_| self.encode()));
    }

    /// The transaction (or reset) is durable: its extents are hot, the evicted ones' slots are free.
    pub fn commit_transaction(&mut self) {
        assert!(matches!(self.phase, Phase::Written | Phase::Resetting), "no commit while {:?}", self.phase);
        if self.phase == Phase::Resetting {
            self.ring.damaged = false;
        }
        for index in 0..self.transaction.updates.len() {
            let update = self.transaction.updates[index];
            let slot = &mut self.slots[update.slot as usize];
            if update.extent.is_some() {
                slot.state = SlotState::Hot;
                slot.epoch = self.newest_epoch;
                slot.used_mark = self.idle_mark;
                self.idle.push_back(update.slot);
                self.hot_count += 1;
            } else {
                slot.state = SlotState::Free;
                self.free.push(update.slot);
            }
        }
        self.clear_transaction();
        self.phase = Phase::Idle;
        self.let_kept_go();
    }

    // ---- what is ----

    /// Hot extents.
    pub fn hot_count(&self) -> u32 {
        self.hot_count
    }

    /// Slots.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The hot extents, in no telling order but the same for the same history.
    #[cfg(test)]
    pub fn hot_extents(&self) -> impl Iterator<Item = ExtentIndex> {
        self.slots.iter().filter(|slot| slot.state == SlotState::Hot).map(|slot| ExtentIndex(slot.extent))
    }

    /// Whether no extent is referenced and none has data of an unsettled epoch.
    #[cfg(test)]
    pub fn is_settled(&self) -> bool {
        let referenced = self.hot_count as usize != self.idle.len();
        !referenced && self.idle.back().is_none_or(|slot| self.slots[slot as usize].epoch <= self.settled)
    }

    /// Panics when an invariant doesn't hold.
    pub fn assert_invariants(&self) {
        for (index, slot) in (0u32..).zip(&self.slots) {
            let used = matches!(slot.state, SlotState::Pending | SlotState::Hot);
            assert_eq!(used, slot.extent != SLOT_FREE, "AL-1: slot {index} {slot:?}");
            if used {
                assert_eq!(self.slot_of[slot.extent as usize], index + 1, "AL-1: extent {}", slot.extent);
            }
            assert!(slot.refs == 0 || slot.state == SlotState::Hot, "AL-3: slot {index} {slot:?}");
            let idle = slot.state == SlotState::Hot && slot.refs == 0;
            assert_eq!(self.idle.contains(index), idle, "AL-2: slot {index} {slot:?}");
        }
        let taken = self.slot_of.iter().filter(|slot| **slot != COLD && **slot != WANTED).count();
        let used = self.slots.iter().filter(|slot| slot.extent != SLOT_FREE).count();
        assert_eq!(taken, used, "AL-1");
        let wanted = self.slot_of.iter().filter(|slot| **slot == WANTED).count();
        assert_eq!(wanted, self.wanted.len(), "AL-1: the queue of the wanted");
        let hot = self.slots.iter().filter(|slot| slot.state == SlotState::Hot).count();
        assert_eq!(hot, self.hot_count as usize, "AL-3");
        let free = self.slots.iter().filter(|slot| slot.state == SlotState::Free).count();
        assert_eq!(free, self.free.len(), "AL-3");
        let epochs: Vec<EpochNumber> = self.idle.iter().map(|slot| self.slots[slot as usize].epoch).collect();
        assert!(epochs.is_sorted(), "AL-2: {epochs:?}");
    }

    // ---- within ----

    #[inline]
    fn hot_slot(&self, extent: u32) -> Option<u32> {
        let slot = self.slot_of[extent as usize].wrapping_sub(1);
        // COLD wraps to the largest index and WANTED is far beyond the slots: neither is found.
        let found = self.slots.get(slot as usize)?;
        (found.state == SlotState::Hot).then_some(slot)
    }

    #[cold]
    fn want(&mut self, range: ByteRange) {
        let extents = range.extents();
        let count = extents.end() - extents.start() + 1;
        assert!(count <= self.capacity(), "a request needs {count} extents; the log has {} slots", self.capacity());
        self.ticket += 1;
        for extent in extents {
            if let Some(slot) = self.hot_slot(extent) {
                if self.slots[slot as usize].kept == 0 {
                    self.slots[slot as usize].kept = self.ticket;
                    self.kept.push(slot);
                }
            } else if self.slot_of[extent as usize] == COLD {
                self.slot_of[extent as usize] = WANTED;
                self.wanted.push_back(Wanted { extent, ticket: self.ticket });
            }
        }
    }

    /// A slot for the first of the wanted.
    fn free_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = self.victim(self.transaction.updates.is_empty())?;
        self.evict(slot);
        Some(slot)
    }

    /// The slot to take next: the least recently used that nobody keeps. With `also_kept`, else the one kept by the
    /// latest request, if that isn't the one the first of the wanted is for.
    fn victim(&self, also_kept: bool) -> Option<u32> {
        let settled = |slot: &u32| self.slots[*slot as usize].epoch <= self.settled || planted!("evict-unsettled");
        let kept = |slot: &u32| self.slots[*slot as usize].kept;
        let mut candidates = self.idle.iter().take_while(settled);
        let first_ticket = self.wanted.front()?.ticket;
        let unkept = candidates.find(|slot| kept(slot) == 0);
        unkept.or_else(|| {
            let others = self.idle.iter().take_while(settled).filter(|slot| kept(slot) != first_ticket);
            others.max_by_key(kept).filter(|_| also_kept)
        })
    }

    fn is_cool(&self, slot: u32) -> bool {
        let slot = &self.slots[slot as usize];
        slot.epoch <= self.settled && slot.used_mark < self.idle_mark && slot.kept == 0
    }

    /// Takes an idle slot's extent away from it.
    fn evict(&mut self, index: u32) {
        self.idle.remove(index);
        let slot = &mut self.slots[index as usize];
        slot.kept = 0;
        self.hot_count -= 1;
        self.slot_of[slot.extent as usize] = COLD;
        self.evicted.push(ExtentIndex(slot.extent));
    }

    fn clear_transaction(&mut self) {
        self.transaction.updates.clear();
        self.evicted.clear();
    }

    fn begun(&mut self) -> Option<&[ExtentIndex]> {
        if self.transaction.updates.is_empty() {
            return None;
        }
        self.phase = Phase::Begun;
        self.ticket_at_begin = self.ticket;
        Some(&self.evicted)
    }

    fn let_kept_go(&mut self) {
        let (slots, until) = (&mut self.slots, self.ticket_at_begin);
        self.kept.retain(|index| {
            let slot = &mut slots[*index as usize];
            if slot.kept <= until {
                slot.kept = 0;
            }
            slot.kept != 0
        });
    }

    /// The block of the transaction at the ring's next position, with the next window of the slot table.
    fn encode(&mut self) -> (u64, MetaBlock) {
        let ring = &mut self.ring;
        let slots = self.slots.len() as u32;
        let window = (LOG_CONTEXT_ENTRIES as u32).min(slots);
        ring.position = (ring.position + 1) % ring.layout.log_blocks;
        ring.highest += 1;
        self.transaction.sequence = ring.highest;
        self.transaction.previous = ring.previous;
        self.transaction.context_first = ring.context_first;
        self.transaction.context.clear();
        let (first, all) = (ring.context_first, &self.slots);
        let forgets = self.transaction.reset && planted!("move-forgets-hot");
        let extent = |index: u32| if forgets { SLOT_FREE } else { all[((first + index) % slots) as usize].extent };
        let content = (0..window).map(extent);
        self.transaction.context.extend(content);
        ring.previous = ring.highest;
        ring.context_first = (first + window) % slots;
        (ring.layout.log_block_offset(ring.position), self.transaction.encode(ring.tag, ring.position))
    }
}

#[cfg(test)]
#[path = "activity_log_tests.rs"]
mod tests;
