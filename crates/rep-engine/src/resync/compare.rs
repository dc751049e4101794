//! Comparing before copying: where marks cover far more than what differs, the target first asks by digests.
//!
//! ```text
//!     target                                source
//!   lock, read, digest
//!        ├────────── ResyncCompare ─────────►│ lock, read, digest, compare
//!        │◄───────── ResyncCompared ─────────┤ unlock
//! unlock │   equal blocks: as if just copied; the others: pulled, as ever
//! ```
//!
//! A block that is equal has been made so by nobody knows whom, so its bit clears as late as that of one that was
//! copied: with the next flush of both disks (S2). The locks hold back clients' writes on the node that is Primary, so
//! that what is compared is of one moment; a write that came between is mirrored, and is as equal afterwards as before.
//!
//! When it is done follows from what marked the blocks ([`compares`]). Whether it pays shows soon: a range of which little
//! was equal lets the next one be copied unasked, then the next two, four, up to [`limits::RESYNC_UNASKED_MAX`]; one of
//! which something was equal ends that. So a blank disk costs a look at a few of a thousand blocks, and a
//! disk that holds nearly everything is nearly only read.

use crate::event::Timestamp;
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Stage as OperationStage};
use crate::resync::{Kept, Resync};
use crate::slab::Key;
use crate::sync_decision::SyncSide;
use crate::verify::{different_blocks, digests_length};
use crate::volume::Volume;
use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, BlockRange, ByBitmapOrFull, ByteRange, DigestKey, DiskState, IoError, LinkCause, REQUEST_LENGTH_MAX,
    Role, SyncDecision, SyncVerdict, VolumeNumber,
};
use rep_wire::{ControlMessage, Message, PriorEnd, TransferId, features};
use std::collections::VecDeque;

/// Whether a resync that follows from this decision compares before it copies, told from both nodes' views, so that both
/// know. Bits that say what was written while the nodes were apart are exact: that is copied. Others say what may
/// differ:
///
/// - after a Primary's crash, or after it lost its disk, every block of every hot extent;
/// - where the resync is a full one, everything: the two may have held the same all along. Not for the first resync of
///   all, since a disk that was never filled holds nothing;
/// - where a resync was interrupted, what it left, of whichever kind.
pub(crate) fn compares(decision: SyncDecision, mine: SyncSide<'_>, peer: SyncSide<'_>) -> bool {
    let (extent, source, target) = match decision.verdict {
        SyncVerdict::Source(extent) => (extent, mine, peer),
        SyncVerdict::Target(extent) => (extent, peer, mine),
        SyncVerdict::Nothing | SyncVerdict::Refuse(_) => return false,
    };
    let counts_from = source.view.generations.bitmap;
    let first_of_all = !counts_from.is_none() && !counts_from.is_real();
    let coarse = extent == ByBitmapOrFull::Full || target.view.disk == DiskState::Inconsistent;
    has_marked_hot_extents(source) || has_marked_hot_extents(target) || (coarse && !first_of_all)
}

/// Whether a disk that a Primary had written to was attached without having been left cleanly, and hasn't met the peer's since. One that
/// lives through the loss of its disk doesn't count as crashed.
fn has_marked_hot_extents(side: SyncSide<'_>) -> bool {
    let left_open = matches!(side.view.prior_end, PriorEnd::DaemonCrash | PriorEnd::NodeCrash);
    side.view.crashed_primary || side.role == Role::Primary && left_open
}

/// A range the target asked about.
#[derive(Debug)]
struct Asked {
    key: Key,
    digest_key: DigestKey,
    digests: Vec<u8>,
}

/// What a resync knows of comparing.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Target: ranges are asked about before they are pulled.
    wanted: bool,
    /// Target: so many are pulled unasked before the next is asked about.
    unasked: u32,
    /// Target: so many were the last time.
    back_off: u32,
    /// Target: what was found to differ and is to be pulled.
    different: VecDeque<BlockRange>,
    /// Source: what the target asked about, until it is answered.
    asked: Vec<Asked>,
    /// Bytes compared.
    pub compared_bytes: u64,
    /// Of these, bytes that were equal.
    pub equal_bytes: u64,
}

impl Comparison {
    pub(super) fn new(wanted: bool) -> Self {
        Comparison { wanted, ..Comparison::default() }
    }

    /// Whether the next range is asked about first.
    pub(super) fn is_next(&mut self) -> bool {
        if self.unasked > 0 {
            self.unasked -= 1;
            return false;
        }
        self.wanted
    }

    /// Source: a question whose turn it is.
    pub(super) fn note_asked(&mut self, key: Key, compare: Option<(DigestKey, Vec<u8>)>) {
        self.asked.extend(compare.map(|(digest_key, digests)| Asked { key, digest_key, digests }));
    }

    /// Books what a comparison found; whether it paid.
    fn note(&mut self, blocks: u64, equal: u64) {
        self.compared_bytes += blocks * BLOCK_SIZE;
        self.equal_bytes += equal * BLOCK_SIZE;
        let paid = equal * limits::RESYNC_EQUAL_SHARE_MIN >= blocks;
        self.back_off = if paid { 0 } else { (2 * self.back_off).clamp(1, limits::RESYNC_UNASKED_MAX) };
        self.unasked = self.back_off;
    }
}

impl Resync {
    /// Source: requests that aren't answered.
    pub(super) fn open_requests(&self) -> usize {
        self.serving.len() + self.kept.len()
    }

    /// Whether this resync compares, or did.
    pub(super) fn comparing(&self) -> bool {
        self.comparison.wanted || self.comparison.compared_bytes > 0
    }
}

impl Volume {
    /// The next run that was found to differ and still is out-of-sync. What is left of a longer one stays on the list.
    pub(super) fn next_different(&mut self) -> Option<BlockRange> {
        loop {
            let resync = self.resync.as_mut()?;
            let run = resync.comparison.different.pop_front()?;
            let (fresh, rest) = self.fresh_part(run)?;
            if let Some(resync) = self.resync.as_mut().filter(|_| rest.count > 0) {
                resync.comparison.different.push_front(rest);
            }
            if fresh.count > 0 {
                return Some(fresh);
            }
        }
    }

    /// The first blocks of a run, if they still are out-of-sync and nobody has made them equal since; and what follows.
    fn fresh_part(&self, run: BlockRange) -> Option<(BlockRange, BlockRange)> {
        let local = self.local.as_ref()?;
        let is_fresh = |block: u64| {
            let block = BlockRange::new(block, 1);
            local.bitmap().any_set(block) && !self.in_sync.contains_any(block)
        };
        let fresh = (run.first.0..run.end()).take_while(|block| is_fresh(*block)).count() as u64;
        let behind = run.first.0 + fresh.max(1);
        Some((BlockRange::new(run.first.0, fresh), BlockRange::new(behind, run.end() - behind)))
    }
}

impl Engine {
    /// Whether a target that has just become one asks before it pulls.
    pub(super) fn target_compares(&self, index: usize) -> bool {
        let volume = &self.volumes[index];
        let every_block = volume.local.as_ref().is_some_and(|local| local.superblock().every_block);
        volume.compares && !every_block && self.agreed_on(features::RESYNC_BY_DIGESTS)
    }

    // ---- the target ----

    /// The range is locked: read it.
    pub(crate) fn resync_compare_locked(&mut self, key: Key, op: Operation) {
        let Some(digest_key) = self.link.as_ref().map(|link| link.digest_key) else {
            return self.end_operation(key, Err(IoError::Io));
        };
        self.digest_for_resync(key, op, digest_key);
    }

    fn digest_for_resync(&mut self, key: Key, op: Operation, digest_key: DigestKey) {
        let now = self.now;
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.stage, op.started) = (Leg::Open, OperationStage::UnderWay, now);
        }
        self.digest(op, IoPurpose::CompareRead(key), digest_key);
    }

    /// Our own digests of a range are there.
    pub(crate) fn compare_read_done(&mut self, key: Key, digests: Vec<u8>) {
        let Some(op) = self.ops.get_mut(key) else { return };
        op.local = Leg::Done;
        let op = *op;
        match op.kind {
            OperationKind::ResyncCompare { .. } => self.ask_to_compare(key, op, digests),
            OperationKind::ResyncCompareFor { transfer } => self.answer_comparison(key, op, transfer, &digests),
            _ => {}
        }
    }

    fn ask_to_compare(&mut self, key: Key, op: Operation, digests: Vec<u8>) {
        let Some(digest_key) = self.link.as_ref().map(|link| link.digest_key) else { return };
        let now = self.now;
        if let Some(op) = self.ops.get_mut(key) {
            (op.peer, op.started) = (Leg::Open, now);
        }
        let (id, volume) = (TransferId(key.0), self.volumes[op.volume].number);
        self.send(ControlMessage::ResyncCompare { id, volume, range: op.range, key: digest_key, digests }, None);
        if planted!("compared-before-answer") {
            self.volumes[op.volume].in_sync.current.set(op.range.blocks_touched());
        }
    }

    /// The source has compared a range.
    pub(crate) fn resync_compared(&mut self, id: TransferId, different: &[u16]) {
        let key = Key(id.0);
        let Some(op) = self.ops.get(key).copied() else { return };
        let OperationKind::ResyncCompare { .. } = op.kind else { return };
        let blocks = op.range.blocks_touched();
        let inside = different.last().is_none_or(|last| u64::from(*last) < blocks.count);
        if op.peer != Leg::Open || !inside {
            return self.drop_link(LinkCause::Protocol);
        }
        let runs = self.note_compared(op, different);
        if let Some(resync) = &mut self.volumes[op.volume].resync {
            resync.requests = resync.requests.saturating_sub(1);
            resync.comparison.different.extend(runs);
        }
        self.end_operation(key, Ok(()));
    }

    // ---- the source ----

    /// The target wants a range compared with its digests.
    pub(crate) fn resync_compare_asked(
        &mut self,
        id: TransferId,
        number: VolumeNumber,
        range: ByteRange,
        digest_key: DigestKey,
        digests: Vec<u8>,
    ) {
        let Some(index) = self.volume_index(number).filter(|index| self.serves_resync(*index)) else {
            return self.send(Message::ResyncRefused { id }, None);
        };
        let size = self.volumes[index].size_bytes;
        let whole_blocks = range.offset.is_multiple_of(BLOCK_SIZE)
            && (range.end().is_multiple_of(BLOCK_SIZE) || range.end() == size)
            && self.volumes[index].may_be_asked_for(range);
        let serving = self.volumes[index].resync.as_ref().map_or(0, Resync::open_requests);
        if !whole_blocks
            || range.length > REQUEST_LENGTH_MAX
            || digests.len() != digests_length(range, size)
            || serving >= limits::RESYNC_REQUESTS_ACCEPTED_MAX
        {
            return self.drop_link(LinkCause::Protocol);
        }
        self.keep_request(index, Kept { id, range, since: self.now, compare: Some((digest_key, digests)) });
    }

    /// The range is locked: read it.
    pub(crate) fn resync_compare_for_locked(&mut self, key: Key, op: Operation) {
        let asked =
            |resync: &Resync| resync.comparison.asked.iter().find(|asked| asked.key == key).map(|a| a.digest_key);
        match self.volumes[op.volume].resync.as_ref().and_then(asked) {
            Some(digest_key) => self.digest_for_resync(key, op, digest_key),
            None => self.end_operation(key, Err(IoError::Io)),
        }
    }

    fn answer_comparison(&mut self, key: Key, op: Operation, id: TransferId, ours: &[u8]) {
        let Some(resync) = &mut self.volumes[op.volume].resync else { return };
        resync.serving.retain(|(_, serving)| *serving != key);
        let Some(at) = resync.comparison.asked.iter().position(|asked| asked.key == key) else { return };
        let theirs = resync.comparison.asked.swap_remove(at).digests;
        let different = different_blocks(ours, &theirs);
        self.note_compared(op, &different);
        self.send(ControlMessage::ResyncCompared { id, different }, None);
        self.end_operation(key, Ok(()));
    }

    // ---- both ----

    /// What was equal counts as made equal; returns the runs that weren't.
    fn note_compared(&mut self, op: Operation, different: &[u16]) -> Vec<BlockRange> {
        let now = self.now;
        let blocks = op.range.blocks_touched();
        let (equal, runs) = split(blocks, different);
        let volume = &mut self.volumes[op.volume];
        for run in &equal {
            volume.in_sync.current.set(*run);
        }
        let count: u64 = equal.iter().map(|run| run.count).sum();
        if let Some(resync) = &mut volume.resync {
            resync.comparison.note(blocks.count, count);
            resync.note_settled(count * BLOCK_SIZE, now);
        }
        if planted!("compared-not-flushed") {
            volume.clear_in_sync(now, |sets| &mut sets.current);
        }
        if count > 0 {
            self.epochs.touch(now);
        }
        runs
    }
}

/// The runs of a range that are equal and those that aren't.
fn split(blocks: BlockRange, different: &[u16]) -> (Vec<BlockRange>, Vec<BlockRange>) {
    let (mut equal, mut unequal) = (Vec::new(), Vec::<BlockRange>::new());
    let mut from = blocks.first.0;
    let shift = u64::from(planted!("compared-wrong-block"));
    for block in different {
        let block = (blocks.first.0 + u64::from(*block) + shift).min(blocks.end() - 1);
        if block > from {
            equal.push(BlockRange::new(from, block - from));
        }
        match unequal.last_mut().filter(|run| run.end() == block) {
            Some(run) => run.count += 1,
            None => unequal.push(BlockRange::new(block, 1)),
        }
        from = block + 1;
    }
    if blocks.end() > from {
        equal.push(BlockRange::new(from, blocks.end() - from));
    }
    (equal, unequal)
}

impl Resync {
    /// Books blocks that are done without having been copied.
    fn note_settled(&mut self, bytes: u64, now: Timestamp) {
        self.refused = false;
        self.note_rate(bytes, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u64) -> BlockRange {
        BlockRange::new(first, count)
    }

    #[test]
    fn a_range_is_split_into_what_is_equal_and_what_isnt() {
        let whole = run(100, 8);
        assert_eq!(split(whole, &[]), (vec![whole], vec![]));
        assert_eq!(split(whole, &[0, 1, 7]), (vec![run(102, 5)], vec![run(100, 2), run(107, 1)]));
        assert_eq!(split(whole, &[3]), (vec![run(100, 3), run(104, 4)], vec![run(103, 1)]));
        assert_eq!(split(whole, &[0, 1, 2, 3, 4, 5, 6, 7]), (vec![], vec![whole]));
    }

    #[test]
    fn a_disk_that_holds_nothing_is_soon_filled_unasked_and_one_that_does_is_asked_again() {
        let mut comparison = Comparison::new(true);
        let mut asked = 0;
        for _ in 0..10_000 {
            if comparison.is_next() {
                asked += 1;
                comparison.note(64, 1);
            }
        }
        assert!((10_000 / 128..10_000 / 32).contains(&asked), "{asked}");
        while !comparison.is_next() {}
        comparison.note(64, 60);
        assert!(comparison.is_next());
        assert!(!Comparison::new(false).is_next());
    }
}
