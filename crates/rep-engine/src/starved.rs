//! No good data in reach: this node's disk is gone, and the peer or the peer's disk is too (R32).
//!
//! With `on-no-data = "io-error"` client I/O is answered with an error, unless this node's disk holds everything and only the word of that
//! is still being written, which takes a moment. With `"suspend-io"` it waits in any case:
//!
//! ```text
//!  no disk takes it, or the one that had it went ──► waits ──── good data again ───► begins anew, from the gate
//!                                                      └── resume-io, the end, or no word: answered with an error
//! ```
//!
//! What waits was never answered, and stands in the overlap table as before: nothing that touches the same sectors
//! has gone past it, so doing it again (a leg may have been done on a disk that no longer counts) changes nothing
//! else. It is kept in no queue of its own beyond the clients' requests, whose number their windows bound.
//!
//! An answer that waits for a loss to be durable is no answer yet: should the data go meanwhile, the request waits for
//! data like any other. So it keeps its place in the table until it is answered (`Stage::Answering`).
//!
//! Invariants:
//! - N1 nothing waits on a volume that has good data, or for nothing, once an event has been handled;
//! - N2 a FLUSH ends well only if nothing it covers was lost: no flush failed under it, which is final (R32), and the copy
//!   clients go on with, when there had been none, lost no cache. The next FLUSH of a client is told, whichever that is; and
//!   where the peer forwards, the next of a client there as well: nobody there hears what is told here, nor the other way round.

use crate::Engine;
use crate::action::Notice;
use crate::engine::Held;
use crate::operation::{Leg, OperationKind, Requester, Stage};
use crate::slab::Key;
use crate::volume::Volume;
use rep_types::planted;
use rep_types::{DiskState, EpochNumber, IoError, OnNoData, Role, SyncDecision, SyncVerdict, VolumeNumber};
use rep_wire::PriorEnd;
use std::collections::VecDeque;

/// What waits on a volume for good data.
#[derive(Debug, Default)]
pub(crate) struct Starved {
    operations: VecDeque<Key>,
    flushes: Vec<Requester>,
    /// The operator had what waited fail, and what comes until there is data again fails too.
    waived: bool,
    /// What clients here are owed.
    here: Word,
    /// What clients of the peer's device are, which forwards.
    there: Word,
}

/// What clients are owed: whichever of them flushes next is told.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    /// What was to be made stable is lost, with no other good copy in reach, and none of them has been told.
    owed: bool,
    /// The epoch of the newest write that was answered, to whomever, and that no flush which counts has covered.
    unstable_since: Option<EpochNumber>,
}

impl Word {
    fn is_flushed(&mut self, epoch: EpochNumber) {
        self.unstable_since = self.unstable_since.filter(|since| *since > epoch);
    }
}

impl Starved {
    /// Clients come who were answered nothing yet.
    pub fn owes_nothing(&mut self) {
        (self.here, self.there) = (Word::default(), Word::default());
    }

    /// The same, of those whose requests the peer forwarded.
    pub fn owes_nothing_there(&mut self) {
        self.there = Word::default();
    }

    fn word(&mut self, requester: Requester) -> &mut Word {
        if matches!(requester, Requester::Peer(_)) && !planted!("told-once-for-both") {
            &mut self.there
        } else {
            &mut self.here
        }
    }

    fn words(&mut self) -> [&mut Word; 2] {
        [&mut self.here, &mut self.there]
    }

    /// Whether who asks is to be told that something is lost.
    pub fn owes(&mut self, requester: Requester) -> bool {
        self.word(requester).owed
    }

    /// Whether clients here are to be told.
    pub fn owes_here(&self) -> bool {
        self.here.owed
    }

    /// Whether clients of the peer's device are to be told.
    pub fn owes_there(&self) -> bool {
        self.there.owed
    }

    /// Clients here are to be told.
    pub fn owe_here(&mut self) {
        self.here.owed = true;
    }

    /// The copy clients go on with has lost its cache, and what was in it only: one of them is owed that word (N2).
    pub fn cache_lost(&mut self) {
        for word in self.words() {
            if word.unstable_since.take().is_some() && !planted!("lost-cache-untold") {
                word.owed = true;
            }
        }
    }

    /// Whether anything waits.
    pub fn waits(&self) -> bool {
        !self.operations.is_empty() || !self.flushes.is_empty()
    }

    /// Whether data that are there change nothing.
    pub fn is_at_rest(&self) -> bool {
        !self.waits() && !self.waived
    }
}

impl Volume {
    /// Whether a write begun now would reach good data.
    pub fn has_good_data(&self, connected: bool) -> bool {
        let here = self.takes_local_writes() && self.disk == DiskState::UpToDate;
        here || self.mirrors(connected) && self.peer_disk == DiskState::UpToDate
    }
}

impl Engine {
    /// Whether client I/O without good data waits on this volume instead of failing: the operator wants it so, or the disk here is as good
    /// as good, and has a word of that to write.
    fn waits_for_data(&self, index: usize) -> bool {
        let soon = self.volumes[index].adopting.is_some();
        (self.suspends_without_data() || soon) && self.may_wait_for_data(index)
    }

    /// Whether it waits because the operator wants it so.
    fn is_suspended_without_data(&self, index: usize) -> bool {
        self.suspends_without_data() && self.may_wait_for_data(index)
    }

    fn may_wait_for_data(&self, index: usize) -> bool {
        self.role == Role::Primary && !self.demoting && !self.volumes[index].starved.waived
    }

    /// N1.
    pub(crate) fn assert_nobody_waits_in_vain(&self) {
        for (index, volume) in self.volumes.iter().enumerate().filter(|(_, volume)| volume.starved.waits()) {
            let number = volume.number;
            assert!(!volume.has_good_data(self.is_connected()), "volume {number}: clients wait beside good data");
            assert!(self.waits_for_data(index), "volume {number}: clients wait for nothing");
        }
    }

    fn suspends_without_data(&self) -> bool {
        self.config.on_no_data == OnNoData::SuspendIo
    }

    /// Whether this volume's clients wait for good data.
    pub(crate) fn is_starved(&self, index: usize) -> bool {
        let volume = &self.volumes[index];
        let good = volume.is_good() || self.is_connected() && volume.peer_disk == DiskState::UpToDate;
        self.is_suspended_without_data(index) && (!good || volume.starved.waits())
    }

    /// Whether any volume's clients do.
    pub(crate) fn data_is_awaited(&self) -> bool {
        (0..self.volumes.len()).any(|index| self.is_starved(index))
    }

    /// No disk takes this request, or none that counts has it: it waits, or fails.
    pub(crate) fn without_data(&mut self, key: Key) {
        let Some(op) = self.ops.get_mut(key) else { return };
        let index = op.volume;
        if op.kind.is_client_write() && planted!("starved-answered") {
            return self.end_operation(key, Ok(()));
        }
        if !self.waits_for_data(index) {
            return self.end_operation(key, Err(IoError::Io));
        }
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.peer, op.stage, op.passed_on) = (Leg::Unused, Leg::Unused, Stage::Waiting, false);
            op.turn = None;
        }
        self.volumes[index].starved.operations.push_back(key);
    }

    /// A FLUSH of what was written up to an epoch, which no disk that counts has done.
    pub(crate) fn flush_without_data(&mut self, requester: Requester, index: usize, epoch: EpochNumber) {
        if self.volumes[index].starved.owes(requester) || !self.waits_for_data(index) {
            return self.fail_flush(requester, index, epoch);
        }
        self.volumes[index].starved.flushes.push(requester);
    }

    /// A FLUSH is an error: whatever becomes of what was written up to an epoch, its clients have been told.
    pub(crate) fn fail_flush(&mut self, requester: Requester, index: usize, epoch: EpochNumber) {
        let volume = &mut self.volumes[index];
        let word = volume.starved.word(requester);
        let owed = std::mem::take(&mut word.owed);
        word.is_flushed(epoch);
        if owed {
            let volume = volume.number;
            self.notice(Notice::LossTold { volume });
        }
        self.answer(requester, Some(index), Err(IoError::Io), None);
    }

    /// A flush failed. Where no other disk has what it was to make stable, a client is owed that word (N2).
    pub(crate) fn note_flush_lost(&mut self, index: usize) {
        let volume = &self.volumes[index];
        let elsewhere = self.is_connected() && volume.peer_disk == DiskState::UpToDate;
        if self.is_suspended_without_data(index) && !elsewhere {
            self.volumes[index].starved.words().into_iter().for_each(|word| word.owed = true);
        }
    }

    /// A client's write is on a good disk, and will be answered.
    pub(crate) fn note_unstable(&mut self, index: usize) {
        let since = Some(self.epochs.current);
        self.volumes[index].starved.words().into_iter().for_each(|word| word.unstable_since = since);
    }

    /// What was written up to an epoch has been covered by a flush that counts.
    pub(crate) fn note_flushed(&mut self, index: usize, epoch: EpochNumber) {
        self.volumes[index].starved.words().into_iter().for_each(|word| word.is_flushed(epoch));
    }

    /// The peer is about to be told that it joins us. Where clients had no good disk, the copy they go on with is decided; if
    /// its cache was lost, what they were answered may be gone with it, though they live on. Noted before the peer hears the
    /// decision: once it has joined, no view of it tells any more.
    pub(crate) fn note_caches_lost(&mut self, decisions: &[(VolumeNumber, SyncDecision)]) {
        let handshake = self.link.as_ref().and_then(|link| link.handshake.as_ref());
        let Some((mine, peer)) = handshake.and_then(|handshake| handshake.views()) else { return };
        if self.role != Role::Primary {
            return;
        }
        for volume in self.volumes.iter_mut().filter(|volume| !volume.is_good()) {
            let Some((_, decision)) = decisions.iter().find(|(number, _)| *number == volume.number) else { continue };
            let source = if matches!(decision.verdict, SyncVerdict::Source(_)) { mine } else { peer };
            if source.volumes.iter().any(|v| v.volume == volume.number && v.prior_end == PriorEnd::NodeCrash) {
                volume.starved.cache_lost();
            }
        }
    }

    /// There is good data again: what waited begins anew. Or there will be none: it fails.
    pub(crate) fn progress_starved(&mut self, index: usize) -> bool {
        let connected = self.is_connected();
        let volume = &mut self.volumes[index];
        if volume.starved.is_at_rest() {
            return false;
        }
        let fed = volume.has_good_data(connected) && !planted!("starved-forgotten");
        if fed {
            volume.starved.waived = false;
        }
        if !volume.starved.waits() {
            return false;
        }
        if !fed {
            let in_vain = !self.waits_for_data(index) && !planted!("starved-forgotten");
            if in_vain {
                self.fail_starved(index);
            }
            return in_vain;
        }
        let volume = &mut self.volumes[index];
        let operations = std::mem::take(&mut volume.starved.operations);
        for key in operations {
            let write = self.ops.get(key).is_some_and(|op| op.kind.is_client_write());
            if write && planted!("starved-write-dropped") {
                self.end_operation(key, Ok(()));
            } else {
                self.runnable.push_back(key);
            }
        }
        for requester in std::mem::take(&mut self.volumes[index].starved.flushes) {
            self.client_flush(requester, index);
        }
        self.tell_suspension();
        true
    }

    /// Whether clients wait for data may have changed.
    pub(crate) fn tell_starvation(&mut self) {
        if self.suspends_without_data() {
            self.tell_suspension();
        }
    }

    /// What waits for data fails now, and what comes until there is some as well.
    pub(crate) fn let_starved_fail(&mut self) {
        for index in 0..self.volumes.len() {
            if !self.is_starved(index) && !self.volumes[index].starved.waits() {
                continue;
            }
            self.volumes[index].starved.waived = true;
            self.fail_starved(index);
        }
        self.tell_suspension();
    }

    fn fail_starved(&mut self, index: usize) {
        for key in std::mem::take(&mut self.volumes[index].starved.operations) {
            self.end_operation(key, Err(IoError::Io));
        }
        for requester in std::mem::take(&mut self.volumes[index].starved.flushes) {
            self.fail_flush(requester, index, self.epochs.current);
        }
    }

    // ---- answers that wait ----

    /// Keeps an operation that is done in the table until its answer may go. Says whether it does.
    pub(crate) fn answers_later(&mut self, key: Key) -> bool {
        if !self.answers_wait() {
            return false;
        }
        let Some(op) = self.ops.get_mut(key) else { return false };
        if !(op.kind.is_client_write() || op.kind == OperationKind::Read) {
            return false;
        }
        op.stage = Stage::Answering;
        let (requester, volume) = (op.requester, Some(op.volume));
        self.held.push(Held { requester, key: Some(key), volume, result: Ok(()), payload: None });
        true
    }

    /// A volume's answers that are held while its last good data go: no disk that counts has those writes. They wait for
    /// data, or become errors.
    pub(crate) fn fail_held(&mut self, index: usize) {
        for mut held in std::mem::take(&mut self.held) {
            let again = held.volume == Some(index) && held.result.is_ok() && self.waits_for_data(index);
            match held.key {
                Some(key) if again => self.without_data(key),
                None if again => self.flush_without_data(held.requester, index, self.epochs.current),
                _ => {
                    if held.volume == Some(index) {
                        held.result = Err(IoError::Io);
                    }
                    self.held.push(held);
                }
            }
        }
    }
}
