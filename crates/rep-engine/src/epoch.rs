//! Epochs: intervals between two flushes that reached both disks (R3, R4, R6).
//!
//! A write belongs, when both disks have completed it, to the current epoch. Closing an epoch sends a flush to the
//! local disk and to the peer; both cover everything that had completed. When both have answered, the epoch is
//! settled: its blocks leave the set of what the peer may lose, its extents may leave the activity log (R10, I-D4), the
//! bits of what it resynced clear (R24), and the clients' FLUSH and FUA that asked for it are answered. Requests that
//! come while an epoch is being closed share the next one: group commit.
//!
//! Invariants:
//! - E1 at most one epoch is being closed;
//! - E2 `settled` < `closing` < `current`, without gaps.

use crate::event::Timestamp;
use crate::flush_habit::FlushHabit;
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Requester, Stage};
use crate::slab::Key;
use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{DiskState, EpochNumber, IoError};
use rep_wire::{Message, TransferId};

/// Who waits for an epoch to settle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FlushWaiter {
    /// A client's FLUSH of a volume, and when it came.
    Flush(Requester, usize, Timestamp),
    /// A client's FUA write; it stands in the table until then.
    Fua(Key),
}

/// The epoch being closed.
#[derive(Debug)]
struct Closing {
    epoch: EpochNumber,
    peer: Leg,
    /// Local disks that have not answered.
    local_pending: u32,
    /// The volumes whose local disk flushed.
    local_done: Vec<usize>,
    waiters: Vec<FlushWaiter>,
}

/// The epochs of a resource.
#[derive(Debug)]
pub(crate) struct Epochs {
    pub current: EpochNumber,
    settled: EpochNumber,
    closing: Option<Closing>,
    waiting: Vec<FlushWaiter>,
    /// Something completed since the last epoch was closed, or its stability isn't known.
    dirty: bool,
    /// Since when.
    dirty_since: Timestamp,
    /// Some of it isn't known to be stable.
    volatile: bool,
    /// The same of the epoch being closed.
    closing_volatile: bool,
    /// Whether clients flush after each write.
    habit: FlushHabit,
    close_again: bool,
    next_flush: u64,
    /// The flush the peer was asked for, for the epoch being closed.
    peer_flush: Option<(TransferId, Timestamp)>,
}

impl Epochs {
    pub fn new() -> Self {
        Epochs {
            current: EpochNumber(1),
            settled: EpochNumber(0),
            closing: None,
            waiting: Vec::new(),
            dirty: false,
            dirty_since: Timestamp(0),
            volatile: false,
            closing_volatile: false,
            habit: FlushHabit::default(),
            close_again: false,
            next_flush: 0,
            peer_flush: None,
        }
    }

    /// Something completed that isn't known to be stable.
    pub fn touch(&mut self, now: Timestamp) {
        self.volatile = true;
        self.make_dirty(now);
    }

    /// The legs of a client's write are closed. One that is stable calls for no flush, but for the end of its epoch at some
    /// time: its extents leave the log by it.
    pub fn write_completed(&mut self, now: Timestamp, op: &Operation) {
        self.volatile |= !op.is_stable();
        self.habit.write_completed(op.kind);
        self.make_dirty(now);
    }

    fn make_dirty(&mut self, now: Timestamp) {
        if !self.dirty {
            self.dirty = true;
            self.dirty_since = now;
        }
    }

    /// Whether all that has completed is known to be stable on both disks, so a flush has nothing to do.
    fn is_stable(&self) -> bool {
        !self.volatile && !self.closes_volatile()
    }

    /// Whether an epoch is being closed of which something isn't known to be stable: what is stable before that is would be so
    /// before what it follows (R5).
    fn closes_volatile(&self) -> bool {
        self.closing_volatile && self.closing.is_some()
    }

    /// Whether all that completed up to the end of an epoch is as stable as it will be.
    pub fn is_settled(&self, epoch: EpochNumber) -> bool {
        self.settled >= epoch
    }

    /// When an epoch that nobody closes is closed anyway.
    pub fn close_due(&self) -> Option<Timestamp> {
        (self.dirty && self.closing.is_none()).then(|| self.dirty_since.after(limits::EPOCH_AGE_MAX))
    }

    /// Since when the peer owes us the answer to a flush.
    pub fn peer_flush_since(&self) -> Option<Timestamp> {
        self.peer_flush.map(|(_, since)| since)
    }

    pub fn assert_invariants(&self) {
        match &self.closing {
            Some(closing) => {
                assert_eq!(self.settled.next(), closing.epoch, "E2: the epoch after the settled one is being closed");
                assert_eq!(closing.epoch.next(), self.current, "E2: the current epoch follows the one being closed");
            }
            None => assert_eq!(self.settled.next(), self.current, "E2: the current epoch follows the settled one"),
        }
    }
}

impl Engine {
    /// A client's FLUSH.
    pub(crate) fn client_flush(&mut self, requester: Requester, index: usize) {
        self.epochs.habit.flush_came();
        let volume = &self.volumes[index];
        let good_here = volume.is_good();
        let good_there = self.is_connected() && volume.peer_disk == DiskState::UpToDate;
        if !good_here && !good_there {
            return self.flush_without_data(requester, index, self.epochs.current);
        }
        if self.volumes[index].starved.owes(requester) {
            return self.fail_flush(requester, index, self.epochs.current);
        }
        if self.epochs.is_stable() {
            self.note_lone_flush(index);
        }
        if self.epochs.is_stable() && self.recording == 0 || planted!("flush-answered-at-once") {
            return self.answer(requester, Some(index), Ok(()), None);
        }
        self.epochs.waiting.push(FlushWaiter::Flush(requester, index, self.now));
        self.request_epoch_close();
    }

    /// A FLUSH is of this disk alone: the peer's, were it to have lost its cache, must not pass for as good (R15).
    fn note_lone_flush(&mut self, index: usize) {
        let volume = &self.volumes[index];
        if !volume.mirrors(self.is_connected()) && volume.generation_due() {
            self.restart_handshake_if_under_way();
            self.begin_lost_generation(index);
        }
    }

    /// Whether a client's write that is about to go to the disks is written through on both, so that it is stable with its
    /// answer and no flush need follow: one to disks without a volatile cache, where that costs nothing; a FUA write, or one of
    /// a client that flushes after each write. The latter only where all that completed before is stable already: what FUA's answer
    /// covers would not be (R4). None while an epoch is being closed with something that isn't stable, for it would be stable before
    /// what it follows (R5).
    pub(crate) fn writes_through(&self, key: Key, index: usize, kind: OperationKind) -> bool {
        let covers = self.epochs.is_stable() || planted!("through-beside-unstable");
        if kind.is_fua() && !covers {
            // Also where all that was answered is stable: what landed of a write that failed may not be.
            return false;
        }
        if self.answers_stable() && !planted!("promise-not-kept") {
            return true;
        }
        if self.volumes[index].has_no_cache(self.is_connected()) {
            return !self.epochs.closes_volatile() || planted!("through-beside-unstable");
        }
        let alone = || !self.ops.iter().any(|(other, op)| other != key && op.kind.is_client_write());
        let asked = kind.is_fua() || self.epochs.habit.expects_flush() && alone();
        asked && covers
    }

    /// A FUA write whose legs are done.
    pub(crate) fn fua_waits(&mut self, key: Key) {
        self.epochs.waiting.push(FlushWaiter::Fua(key));
        self.request_epoch_close();
    }

    /// Closes the current epoch, now or as soon as the one being closed has settled.
    pub(crate) fn request_epoch_close(&mut self) {
        if self.epochs.closing.is_some() {
            self.epochs.close_again = true;
        } else {
            self.close_epoch();
        }
    }

    /// Has all that has completed become stable. The epoch at whose end that is so.
    pub(crate) fn close_what_completed(&mut self) -> EpochNumber {
        if planted!("demote-without-settling") {
            return self.epochs.settled;
        }
        let current = self.epochs.current;
        if self.epochs.dirty {
            self.request_epoch_close();
            return current;
        }
        self.epochs.closing.as_ref().map_or(self.epochs.settled, |closing| closing.epoch)
    }

    fn close_epoch(&mut self) {
        let epoch = self.epochs.current;
        self.epochs.current = epoch.next();
        self.epochs.closing_volatile = self.epochs.volatile;
        (self.epochs.dirty, self.epochs.volatile) = (false, false);
        self.epochs.close_again = false;
        let mut local_pending = 0;
        let mut flushed = Vec::new();
        for index in 0..self.volumes.len() {
            let volume = &mut self.volumes[index];
            std::mem::swap(&mut volume.unflushed.current, &mut volume.unflushed.closing);
            std::mem::swap(&mut volume.in_sync.current, &mut volume.in_sync.closing);
            debug_assert!(volume.unflushed.current.is_empty() && volume.in_sync.current.is_empty());
            if planted!("flush-peer-only") {
                flushed.push(index);
            } else if volume.local.is_some() && volume.disk.takes_writes() {
                local_pending += 1;
                volume.counters.local_flushes += 1;
                self.flush_disk(index, IoPurpose::EpochFlush);
            }
        }
        let mut peer = Leg::Unused;
        if self.is_connected() && self.volumes.iter().any(|volume| volume.peer_disk.takes_writes()) {
            let id = TransferId(self.epochs.next_flush);
            self.epochs.next_flush += 1;
            peer = Leg::Done;
            if !planted!("flush-local-only") {
                self.epochs.peer_flush = Some((id, self.now));
                self.send(Message::Flush { id }, None);
                peer = Leg::Open;
            }
        }
        let waiters = std::mem::take(&mut self.epochs.waiting);
        self.epochs.closing = Some(Closing { epoch, peer, local_pending, local_done: flushed, waiters });
        self.try_settle_epoch();
    }

    /// A local disk answered the flush of the epoch being closed. A failed one has been detached by the caller.
    pub(crate) fn epoch_flushed_locally(&mut self, index: usize, result: Result<(), IoError>) {
        if let Some(closing) = &mut self.epochs.closing {
            closing.local_pending = closing.local_pending.saturating_sub(1);
            if result.is_ok() {
                closing.local_done.push(index);
            }
        }
        self.try_settle_epoch();
    }

    /// The peer answered a flush. What it says of a volume counts only while the peer's disk of it does.
    pub(crate) fn epoch_flushed_by_peer(&mut self, id: TransferId) {
        if self.epochs.peer_flush.is_some_and(|(asked, _)| asked == id) {
            self.epochs.peer_flush = None;
            if let Some(closing) = &mut self.epochs.closing {
                closing.peer = Leg::Done;
            }
            self.try_settle_epoch();
        }
    }

    /// The peer is gone: what it had not flushed has been marked by the caller.
    pub(crate) fn epoch_loses_peer(&mut self) {
        self.epochs.peer_flush = None;
        if let Some(closing) = &mut self.epochs.closing
            && closing.peer == Leg::Open
        {
            closing.peer = Leg::Failed;
        }
    }

    /// Settles the epoch being closed if both disks have answered.
    pub(crate) fn try_settle_epoch(&mut self) {
        let ready = |closing: &Closing| closing.local_pending == 0 && closing.peer.is_closed();
        if !self.epochs.closing.as_ref().is_some_and(ready) {
            return;
        }
        let Some(closing) = self.epochs.closing.take() else { return };
        self.epochs.settled = closing.epoch;
        let by_peer = closing.peer == Leg::Done;
        for index in 0..self.volumes.len() {
            let here = closing.local_done.contains(&index);
            let there = by_peer && self.volumes[index].peer_disk.takes_writes();
            self.settle_volume(index, closing.epoch, here, there);
            let volume = &self.volumes[index];
            if here && volume.disk == DiskState::UpToDate || there && volume.peer_disk == DiskState::UpToDate {
                self.note_flushed(index, closing.epoch);
            }
        }
        for waiter in closing.waiters {
            let index = match waiter {
                FlushWaiter::Flush(_, index, _) => Some(index),
                FlushWaiter::Fua(key) => self.ops.get(key).map(|op| op.volume),
            };
            let Some(index) = index else { continue };
            let volume = &self.volumes[index];
            let here = closing.local_done.contains(&index) && volume.disk == DiskState::UpToDate;
            let there = by_peer && self.is_connected() && volume.peer_disk == DiskState::UpToDate;
            let stable = here || there;
            let result = if stable { Ok(()) } else { Err(IoError::Io) };
            match waiter {
                FlushWaiter::Flush(requester, _, arrived) if stable => {
                    // Not before: a generation on a disk whose flush fails would pass for newer than the peer's good data.
                    self.note_lone_flush(index);
                    self.pacing.note_request(self.now.since(arrived), self.now);
                    self.volumes[index].stages.flush.note(self.now.since(arrived));
                    self.answer(requester, Some(index), result, None);
                }
                FlushWaiter::Flush(requester, ..) => self.flush_without_data(requester, index, closing.epoch),
                FlushWaiter::Fua(key) => self.fua_flushed(key, result),
            }
        }
        // Not before all volumes have settled: a log that wants a slot may close the next epoch at once.
        for index in 0..self.volumes.len() {
            self.kick_log(index);
        }
        let more = self.epochs.close_again || !self.epochs.waiting.is_empty();
        if more && self.epochs.closing.is_none() {
            self.close_epoch();
        }
    }

    fn settle_volume(&mut self, index: usize, epoch: EpochNumber, here: bool, by_peer: bool) {
        let volume = &mut self.volumes[index];
        if by_peer {
            volume.unflushed.closing.clear_all();
        } else if volume.mark_unflushed_closing() {
            // The peer wasn't asked, since one of the two takes its leave: what it may lose is out-of-sync (R3), and a
            // generation says so before anybody is answered (R14).
            let good = volume.is_good();
            if good && volume.generation_due() {
                self.begin_lost_generation(index);
            }
        }
        let volume = &mut self.volumes[index];
        if here && by_peer {
            volume.clear_in_sync(self.now, |sets| &mut sets.closing);
        } else {
            volume.in_sync.closing.clear_all();
        }
        if let Some(local) = &mut volume.local {
            local.log.settle(epoch);
        }
    }

    /// The last good copy of a volume is gone. What its clients want stable and no flush has been begun for may be lost by the time
    /// a copy is good again, with that one's cache (N2): it waits for data like any other.
    pub(crate) fn unflushed_without_data(&mut self, index: usize) {
        for waiter in std::mem::take(&mut self.epochs.waiting) {
            match waiter {
                FlushWaiter::Flush(requester, volume, _) if volume == index => {
                    self.flush_without_data(requester, index, self.epochs.current);
                }
                FlushWaiter::Fua(key) if self.ops.get(key).is_some_and(|op| op.volume == index) => {
                    self.fua_flushed(key, Err(IoError::Io));
                }
                other => self.epochs.waiting.push(other),
            }
        }
    }

    fn fua_flushed(&mut self, key: Key, result: Result<(), IoError>) {
        let op = self.ops.get(key);
        if result.is_ok() && op.is_some_and(|op| op.passed_on) {
            return self.end_operation(key, Err(IoError::Io));
        }
        match (op.is_some_and(|op| op.stage == Stage::Flushing), result) {
            (true, Ok(())) => self.end_operation(key, Ok(())),
            (true, Err(_)) => self.without_data(key),
            (false, _) => {}
        }
    }
}
