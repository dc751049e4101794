//! The way of a client's request: arrival, order, log, both legs, answer.
//!
//! ```text
//! client ─► overlap table ─► gate ─► activity log ─┬─► local disk ─┐
//!            (R7)            (R13)    (R9)         └─► peer ───────┴─► epoch ─► answer (R1, R3)
//! ```
//!
//! Every step may make a request wait; the one that ends the waiting puts it back on the list of runnable requests
//! and it starts over from the gate, so no decision taken before the wait is used after it.

use crate::action::{Action, ReadInto};
use crate::operation::{IoPurpose, Leg, Operation, OperationKind, Requester, Stage};
use crate::slab::Key;
use crate::volume::LogWaiter;
use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{ByteRange, DiskState, IoError, PayloadId, RequestId, Role, VolumeNumber, ZERO_LENGTH_MAX, ZeroMode};
use rep_wire::{ControlMessage, Message, TransferId};

impl Engine {
    pub(crate) fn client_write(
        &mut self,
        request: RequestId,
        volume: VolumeNumber,
        range: ByteRange,
        payload: PayloadId,
        fua: bool,
    ) {
        let kind = OperationKind::Write { fua };
        if let Err(error) = self.enter(request, volume, range, Some(payload), kind) {
            self.release(Some(payload));
            self.answer(Requester::Client(request), None, Err(error), None);
        }
    }

    pub(crate) fn client_zero(
        &mut self,
        request: RequestId,
        volume: VolumeNumber,
        range: ByteRange,
        mode: ZeroMode,
        fua: bool,
    ) {
        if let Err(error) = self.enter(request, volume, range, None, OperationKind::Zero { mode, fua }) {
            self.answer(Requester::Client(request), None, Err(error), None);
        }
    }

    pub(crate) fn client_read(
        &mut self,
        request: RequestId,
        volume: VolumeNumber,
        range: ByteRange,
        payload: PayloadId,
    ) {
        if let Err(error) = self.enter(request, volume, range, Some(payload), OperationKind::Read) {
            self.answer(Requester::Client(request), None, Err(error), Some(payload));
        }
    }

    pub(crate) fn client_flush_request(&mut self, request: RequestId, volume: VolumeNumber) {
        let requester = Requester::Client(request);
        match self.volume_index(volume) {
            Some(index) if self.forwarding.is_some() => self.forward_flush(request, index),
            _ if self.role != Role::Primary || self.demoting => {
                self.answer(requester, None, Err(IoError::NotPrimary), None)
            }
            Some(index) => self.client_flush(requester, index),
            None => self.answer(requester, None, Err(IoError::Invalid), None),
        }
    }

    /// Checks a request and puts it into the table, or among those that are forwarded.
    fn enter(
        &mut self,
        request: RequestId,
        volume: VolumeNumber,
        range: ByteRange,
        payload: Option<PayloadId>,
        kind: OperationKind,
    ) -> Result<(), IoError> {
        let index = self.volume_index(volume).ok_or(IoError::Invalid)?;
        if self.forwarding.is_none() && (self.role != Role::Primary || self.demoting) {
            return Err(IoError::NotPrimary);
        }
        if !self.is_legal_request(index, range) {
            return Err(IoError::Invalid);
        }
        if self.forwarding.is_some() {
            return self.forward_request(request, index, range, payload, kind);
        }
        self.insert_operation(Requester::Client(request), index, range, payload, kind);
        Ok(())
    }

    pub(crate) fn is_legal_request(&self, index: usize, range: ByteRange) -> bool {
        let volume = &self.volumes[index];
        range.is_legal(volume.size_bytes) && range.is_whole(volume.block_bytes) && range.length <= ZERO_LENGTH_MAX
    }

    /// Puts an operation into the table; it runs at once if nothing stands in its way.
    pub(crate) fn insert_operation(
        &mut self,
        requester: Requester,
        index: usize,
        range: ByteRange,
        payload: Option<PayloadId>,
        kind: OperationKind,
    ) -> Key {
        let key = self.ops.insert(Operation {
            requester,
            volume: index,
            kind,
            range,
            payload,
            blockers: 0,
            stage: Stage::Waiting,
            local: Leg::Unused,
            peer: Leg::Unused,
            holds_log: false,
            written_through: false,
            passed_on: false,
            landing: 0,
            received: self.now,
            arrived: self.now,
            turn: None,
            started: self.now,
        });
        let blockers = self.volumes[index].table.insert(key, range, kind.is_exclusive());
        if blockers == 0 || kind.runs_at_once() {
            self.runnable.push_back(key);
        }
        if let Some(op) = self.ops.get_mut(key) {
            op.blockers = blockers;
        }
        key
    }

    /// Starts an operation nothing earlier stands in the way of.
    pub(crate) fn start_operation(&mut self, key: Key) {
        let Some(op) = self.ops.get(key).copied() else { return };
        if op.stage != Stage::Waiting || (op.blockers > 0 && !op.kind.runs_at_once()) {
            return;
        }
        match op.kind {
            OperationKind::ResyncSource { transfer } => return self.resync_source_locked(key, op, transfer),
            OperationKind::ResyncTarget { .. } => return self.resync_target_locked(key, op),
            OperationKind::ResyncCompare { .. } => return self.resync_compare_locked(key, op),
            OperationKind::ResyncCompareFor { .. } => return self.resync_compare_for_locked(key, op),
            OperationKind::VerifyLead { serial } => return self.verify_locked(key, op, serial),
            OperationKind::VerifyFollow { .. } => return self.verify_follow_locked(key, op),
            _ => {}
        }
        if self.io_waits() {
            self.gated.push_back(key);
        } else if op.kind == OperationKind::Read {
            self.start_read(key, op);
        } else {
            self.start_write(key, op);
        }
    }

    /// Whether client I/O is held back.
    pub(crate) fn io_waits(&self) -> bool {
        self.answers_wait() || self.suspended
    }

    /// Whether answers are held back: a loss isn't durable, or the lost peer may go on.
    pub(crate) fn answers_wait(&self) -> bool {
        self.recording > 0 || self.fence_held || self.fence_holds()
    }

    /// Lets held-back I/O go on, if nothing holds it back any more.
    pub(crate) fn open_gate(&mut self) {
        if !self.io_waits() {
            for key in self.gated.drain(..) {
                // What held it back until now was no resync.
                if let Some(op) = self.ops.get_mut(key) {
                    op.arrived = self.now;
                }
                self.runnable.push_back(key);
            }
        }
        if self.recording == 0 {
            let waiting: Vec<Key> = self.gated_peer.drain(..).collect();
            for key in waiting {
                self.start_peer_write(key);
            }
        }
    }

    fn start_read(&mut self, key: Key, op: Operation) {
        let connected = self.is_connected();
        let volume = &mut self.volumes[op.volume];
        let number = volume.number;
        if volume.reads_locally(op.range) {
            let io = self.new_io(op.volume, IoPurpose::ClientRead(key));
            self.set_legs(key, Leg::Open, Leg::Unused);
            // A client of the peer's brings no buffer along.
            let into = op.payload.map_or(ReadInto::NewPayload, ReadInto::Payload);
            self.out.push(Action::ReadDisk { io, volume: number, range: op.range, into });
        } else if connected && volume.peer_disk == DiskState::UpToDate {
            self.set_legs(key, Leg::Unused, Leg::Open);
            self.send(Message::Read { id: TransferId(key.0), volume: number, range: op.range }, None);
        } else {
            self.without_data(key);
        }
    }

    fn start_write(&mut self, key: Key, op: Operation) {
        let connected = self.is_connected();
        let handshaking = self.handshake_under_way();
        let volume = &mut self.volumes[op.volume];
        let mirrored = volume.mirrors(connected);
        let local = volume.takes_local_writes();
        let good_local = local && volume.disk == DiskState::UpToDate;
        let good_peer = mirrored && volume.peer_disk == DiskState::UpToDate;
        if !good_local && !good_peer {
            return self.without_data(key);
        }
        if local && !mirrored && volume.generation_due() && !planted!("lone-write-without-generation") {
            // The peer will lack this write: the generation comes first (R13, R15). During a handshake generations
            // stand still (R17), so the write waits for its end.
            self.gated.push_back(key);
            if !handshaking {
                self.begin_generation(op.volume);
            }
            return;
        }
        if local {
            if let Some(op) = self.ops.get_mut(key) {
                op.turn.get_or_insert(self.now);
            }
            let Some(disk) = &mut volume.local else { return };
            let logged = !planted!("skip-log-write");
            if logged && !op.holds_log && !disk.log.acquire(op.range) {
                volume.log_waiters.push_back(LogWaiter::Operation(key));
                return self.kick_log(op.volume);
            }
            if let Some(op) = self.ops.get_mut(key) {
                op.holds_log = logged;
            }
        }
        if !mirrored && !planted!("lone-write-unmarked") {
            self.mark_for_peer(op.volume, op.range);
        }
        let lost = planted!("zero-not-mirrored") && matches!(op.kind, OperationKind::Zero { .. });
        self.open_write_legs(key, op, local, mirrored && !lost);
    }

    /// The peer's disk won't get this range now: marks it, and tells a target whose bitmap may have travelled already.
    pub(crate) fn mark_for_peer(&mut self, index: usize, range: ByteRange) {
        let blocks = range.blocks_touched();
        let volume = &mut self.volumes[index];
        volume.mark_out_of_sync(blocks);
        if volume.resync.as_ref().is_some_and(|resync| resync.is_source()) {
            let (volume, first) = (volume.number, blocks.first);
            self.send(ControlMessage::OutOfSync { volume, first, count: blocks.count }, None);
        }
    }

    fn open_write_legs(&mut self, key: Key, op: Operation, local: bool, mirrored: bool) {
        let leg = |used| if used { Leg::Open } else { Leg::Unused };
        self.set_legs(key, leg(local), leg(mirrored));
        if let Some(op) = self.ops.get(key).copied() {
            self.note_submitted(&op, local);
        }
        let volume = self.volumes[op.volume].number;
        let (range, durable) = (op.range, self.writes_through(key, op.volume, op.kind));
        if let Some(op) = self.ops.get_mut(key) {
            op.written_through = durable;
        }
        let durable = durable && !planted!("through-in-name-only");
        if mirrored {
            let id = TransferId(key.0);
            let message = match op.kind {
                OperationKind::Zero { mode, .. } => Message::Zero { id, volume, range, mode, durable },
                _ => Message::Write { id, volume, range, durable },
            };
            self.send(message, op.payload);
        }
        if local {
            let io = self.new_io(op.volume, IoPurpose::ClientWrite(key));
            let action = match (op.kind, op.payload) {
                (OperationKind::Zero { mode, .. }, _) => Action::ZeroDisk { io, volume, range, mode, durable },
                (_, Some(payload)) => Action::WriteDisk { io, volume, range, payload, payload_offset: 0, durable },
                (_, None) => unreachable!("a client's write has a payload"),
            };
            self.out.push(action);
        }
        let counters = &mut self.volumes[op.volume].counters;
        counters.written_bytes += u64::from(range.length);
        if mirrored && op.payload.is_some() {
            counters.sent_bytes += u64::from(range.length);
        }
    }

    fn set_legs(&mut self, key: Key, local: Leg, peer: Leg) {
        let now = self.now;
        if let Some(op) = self.ops.get_mut(key) {
            (op.local, op.peer, op.stage, op.started) = (local, peer, Stage::UnderWay, now);
        }
    }

    /// The local leg of a client's write ended. A failed disk has been detached by the caller.
    pub(crate) fn local_leg_done(&mut self, key: Key) {
        if let Some(op) = self.ops.get_mut(key)
            && op.local == Leg::Open
        {
            op.local = Leg::Done;
            let (volume, took) = (op.volume, self.now.since(op.started));
            self.volumes[volume].stages.local.note(took);
            self.end_write_if_closed(key);
        }
    }

    /// The peer answered a client's write.
    pub(crate) fn peer_leg_done(&mut self, id: TransferId, result: Result<(), IoError>) {
        let key = Key(id.0);
        let Some(op) = self.ops.get_mut(key) else { return };
        if op.peer != Leg::Open || !op.kind.is_client_write() {
            return;
        }
        if result.is_ok() {
            op.peer = Leg::Done;
            let (volume, took) = (op.volume, self.now.since(op.started));
            self.volumes[volume].stages.peer.note(took);
        } else {
            // A negative answer counts as answered, marks the blocks and takes the peer's disk out of UpToDate (R1).
            let index = op.volume;
            self.peer_disk_lost(index, DiskState::Failed);
        }
        self.end_write_if_closed(key);
    }

    /// Ends a write whose legs are both closed.
    pub(crate) fn end_write_if_closed(&mut self, key: Key) {
        let Some(op) = self.ops.get(key).copied() else { return };
        let early = planted!("answer-before-peer") && op.local == Leg::Done
            || planted!("answer-before-disk") && op.peer == Leg::Done;
        if op.stage != Stage::UnderWay || !(op.both_closed() || early) {
            return;
        }
        let (local, peer) = (op.local == Leg::Done, op.peer == Leg::Done);
        self.note_completed(key, op);
        if op.passed_on {
            return self.answer_passed_on(key);
        }
        // Only a disk with good data counts: what an Inconsistent one alone has would be overwritten by its source.
        let volume = &self.volumes[op.volume];
        let good_here = local && volume.disk == DiskState::UpToDate;
        // A peer one of the two has taken leave of calls its data Outdated by now.
        let good_there = peer && self.is_connected() && volume.peer_disk == DiskState::UpToDate;
        if !good_here && !good_there && !planted!("inconsistent-disk-counts") {
            return self.without_data(key);
        }
        if op.written_through {
            return self.end_operation(key, Ok(()));
        }
        if op.kind.is_fua() && !planted!("fua-not-flushed") {
            // Nobody is answered before it is stable, so nobody is owed a word should it be lost until then.
            if let Some(op) = self.ops.get_mut(key) {
                op.stage = Stage::Flushing;
            }
            return self.fua_waits(key);
        }
        self.note_unstable(op.volume);
        self.end_operation(key, Ok(()));
    }

    /// Books a write whose legs are closed: the epoch it belongs to, the log's references, bits that may clear.
    fn note_completed(&mut self, key: Key, op: Operation) {
        let epoch = self.epochs.current;
        self.epochs.write_completed(self.now, &op);
        let (local, peer) = (op.local == Leg::Done, op.peer == Leg::Done);
        let volume = &mut self.volumes[op.volume];
        if op.holds_log {
            if let Some(disk) = &mut volume.local {
                disk.log.release(op.range, epoch);
            }
            if let Some(op) = self.ops.get_mut(key) {
                op.holds_log = false;
            }
        }
        if local && peer {
            if !op.written_through {
                volume.unflushed.current.set(op.range.blocks_touched());
            }
            volume.note_covered(op.range);
            if volume.unflushed.current.pages_allocated() > limits::UNFLUSHED_PAGES_MAX {
                self.request_epoch_close();
            }
        }
        self.kick_log(op.volume);
    }

    /// Takes an operation out of the table and answers it.
    pub(crate) fn end_operation(&mut self, key: Key, result: Result<(), IoError>) {
        if result.is_ok() && self.answers_later(key) {
            return;
        }
        let Some(op) = self.remove_operation(key) else { return };
        if op.kind == OperationKind::Read || op.kind.is_client_write() {
            self.note_answered(&op);
            self.pacing.note_request(self.now.since(op.arrived), self.now);
        }
        if op.kind == OperationKind::Read {
            if result.is_ok() {
                self.volumes[op.volume].counters.read_bytes += u64::from(op.range.length);
            }
            self.answer(op.requester, Some(op.volume), result, op.payload);
        } else if op.kind.is_client_write() {
            self.release(op.payload);
            self.answer(op.requester, Some(op.volume), result, None);
        } else {
            self.release(op.payload);
        }
    }

    /// Takes an operation out of the table; what waited for it alone becomes runnable.
    pub(crate) fn remove_operation(&mut self, key: Key) -> Option<Operation> {
        let op = self.ops.remove(key)?;
        let volume = &mut self.volumes[op.volume];
        if op.holds_log
            && let Some(disk) = &mut volume.local
        {
            disk.log.release(op.range, self.epochs.current);
        }
        let mut unblocked = std::mem::take(&mut self.unblocked);
        volume.table.remove(key, op.range, &mut unblocked);
        for later in unblocked.drain(..) {
            if let Some(op) = self.ops.get_mut(later) {
                op.blockers -= 1;
                if op.blockers == 0 {
                    self.runnable.push_back(later);
                }
            }
        }
        self.unblocked = unblocked;
        Some(op)
    }

    /// A client's local read ended well.
    pub(crate) fn local_read_done(&mut self, key: Key, new: Option<PayloadId>) {
        let awaited = |op: &&mut Operation| op.kind == OperationKind::Read && op.local == Leg::Open;
        let Some(op) = self.ops.get_mut(key).filter(awaited) else { return self.release(new) };
        if new.is_some() {
            op.payload = new;
        }
        self.end_operation(key, Ok(()));
    }

    /// The peer answered a client's read.
    pub(crate) fn remote_read_done(&mut self, id: TransferId, result: Result<(), IoError>, payload: Option<PayloadId>) {
        let key = Key(id.0);
        let awaited = |op: &Operation| op.kind == OperationKind::Read && op.peer == Leg::Open;
        let Some(op) = self.ops.get_mut(key).filter(|op| awaited(op)) else {
            return self.release(payload);
        };
        let whole = payload.is_some() && result.is_ok();
        if !whole {
            let (index, range) = (op.volume, op.range);
            self.release(payload);
            // An error of a peer whose disk is good all the same says something of the request.
            let volume = &self.volumes[index];
            if volume.peer_disk == DiskState::UpToDate && !volume.reads_locally(range) {
                return self.end_operation(key, Err(IoError::Io));
            }
            return self.without_data(key);
        }
        let given = std::mem::replace(&mut op.payload, payload);
        let length = u64::from(op.range.length);
        let index = op.volume;
        self.volumes[index].counters.received_bytes += length;
        self.release(given);
        self.end_operation(key, Ok(()));
    }
}
