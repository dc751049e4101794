//! What the peer asks of this node's disk: writes, reads, flushes.
//!
//! - A write is acknowledged from the disk's completion, never on receipt (R2).
//! - The Primary keeps overlapping operations apart, so two writes of one session never overlap here (R7). Requests of
//!   an ended session may still be on their way to the disk when the next begins; the handshake and a promotion wait
//!   until they have landed (`peer_requests_landed`).
//! - While this node's is the only disk (the Primary is Diskless, or its disk isn't ready), a write is marked
//!   out-of-sync for the peer, under the activity log like a Primary's own.

use crate::action::{Action, ReadInto};
use crate::operation::IoPurpose;
use crate::slab::Key;
use crate::volume::LogWaiter;
use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{
    ByteRange, DiskState, IoError, PayloadId, REQUEST_LENGTH_MAX, SessionId, VolumeNumber, ZERO_LENGTH_MAX, ZeroMode,
};
use rep_wire::{Message, TransferId};

/// What the peer asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerRequestKind {
    Write { payload: PayloadId },
    Zero { mode: ZeroMode },
    Read,
}

/// A request of the peer under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerRequest {
    pub session: SessionId,
    pub id: TransferId,
    pub volume: usize,
    pub range: ByteRange,
    pub kind: PeerRequestKind,
    pub durable: bool,
    /// Whether no other disk gets this write: true to its end, also when the peer has got a disk meanwhile.
    pub alone: bool,
    /// Whether its disk operation has been given out.
    pub submitted: bool,
    /// Whether it holds references in the activity log.
    pub holds_log: bool,
}

/// A flush the peer asked for.
#[derive(Debug)]
pub(crate) struct PeerFlush {
    pub id: TransferId,
    pub local_pending: u32,
    pub failed: bool,
}

impl Engine {
    /// A write, discard or read from the peer.
    pub(crate) fn peer_asks(
        &mut self,
        id: TransferId,
        volume: VolumeNumber,
        range: ByteRange,
        kind: PeerRequestKind,
        durable: bool,
    ) {
        let Some(session) = self.link.as_ref().map(|link| link.session) else { return };
        let only = |index: usize| self.volumes[index].is_only_disk() && !self.peer_brings_disk(volume);
        let alone = self.volume_index(volume).is_some_and(only);
        let request = |volume| PeerRequest {
            session,
            id,
            volume,
            range,
            kind,
            durable,
            alone,
            submitted: false,
            holds_log: false,
        };
        let Some(index) = self.volume_index(volume) else {
            return self.refuse_peer_request(request(0), IoError::Invalid);
        };
        let length_max =
            if matches!(kind, PeerRequestKind::Zero { .. }) { ZERO_LENGTH_MAX } else { REQUEST_LENGTH_MAX };
        let legal = self.volumes[index].may_be_asked_for(range) && range.length <= length_max;
        if !legal || !self.is_serving_peer() || self.peer_requests.len() >= limits::PEER_REQUESTS_MAX {
            return self.refuse_peer_request(request(index), IoError::Invalid);
        }
        let key = self.peer_requests.insert(request(index));
        if kind == PeerRequestKind::Read { self.start_peer_read(key) } else { self.start_peer_write(key) }
    }

    fn refuse_peer_request(&mut self, request: PeerRequest, error: IoError) {
        let id = request.id;
        let message = match request.kind {
            PeerRequestKind::Read => Message::ReadReply { id, length: 0, result: Err(error) },
            PeerRequestKind::Write { payload } => {
                self.release(Some(payload));
                Message::WriteAck { id, result: Err(error) }
            }
            PeerRequestKind::Zero { .. } => Message::WriteAck { id, result: Err(error) },
        };
        self.send(message, None);
    }

    fn start_peer_read(&mut self, key: Key) {
        let Some(request) = self.peer_requests.get(key).copied() else { return };
        let volume = &self.volumes[request.volume];
        if volume.disk != DiskState::UpToDate || volume.local.is_none() {
            return self.end_peer_request(key, Err(IoError::Io), None);
        }
        let number = volume.number;
        self.mark_submitted(key);
        let io = self.new_io(request.volume, IoPurpose::PeerRead(key));
        self.out.push(Action::ReadDisk { io, volume: number, range: request.range, into: ReadInto::NewPayload });
    }

    fn mark_submitted(&mut self, key: Key) {
        if let Some(request) = self.peer_requests.get_mut(key) {
            request.submitted = true;
        }
    }

    /// Starts a write from the peer, or starts it over after a wait.
    pub(crate) fn start_peer_write(&mut self, key: Key) {
        let Some(request) = self.peer_requests.get(key).copied() else { return };
        if request.submitted {
            return;
        }
        let standing = self.link.as_ref().is_some_and(|link| link.round > 1);
        let volume = &mut self.volumes[request.volume];
        if !volume.takes_peer_writes(standing) {
            return self.end_peer_request(key, Err(IoError::Io), None);
        }
        if request.alone && volume.disk != DiskState::UpToDate {
            // No generation can begin on data that aren't good.
            return self.end_peer_request(key, Err(IoError::Io), None);
        }
        if request.alone {
            // Before any wait: the peer may bring a disk meanwhile, and what that lacks is decided by what is marked.
            if !planted!("only-disk-unmarked") {
                self.mark_for_peer(request.volume, request.range);
            }
            let volume = &mut self.volumes[request.volume];
            if volume.recording.is_some() || volume.generation_due() {
                self.gated_peer.push_back(key);
                // During a handshake none may begin (R17): the request waits for its end.
                let told = self.view_is_told() && !planted!("generation-in-handshake");
                if self.volumes[request.volume].recording.is_none() && !told {
                    self.begin_generation(request.volume);
                }
                return;
            }
            let Some(disk) = &mut volume.local else { return };
            if !request.holds_log && !disk.log.acquire(request.range) {
                volume.log_waiters.push_back(LogWaiter::PeerRequest(key));
                return self.kick_log(request.volume);
            }
            if let Some(request) = self.peer_requests.get_mut(key) {
                request.holds_log = true;
            }
        }
        self.submit_peer_write(key, request);
    }

    fn submit_peer_write(&mut self, key: Key, request: PeerRequest) {
        if planted!("peer-acks-on-receipt") {
            self.send(Message::WriteAck { id: request.id, result: Ok(()) }, None);
        }
        self.mark_submitted(key);
        let io = self.new_io(request.volume, IoPurpose::PeerWrite(key));
        let (volume, range, durable) = (self.volumes[request.volume].number, request.range, request.durable);
        let action = match request.kind {
            PeerRequestKind::Write { payload } => {
                self.volumes[request.volume].counters.received_bytes += u64::from(range.length);
                Action::WriteDisk { io, volume, range, payload, payload_offset: 0, durable }
            }
            PeerRequestKind::Zero { mode } => Action::ZeroDisk { io, volume, range, mode, durable },
            PeerRequestKind::Read => return,
        };
        self.out.push(action);
    }

    /// The disk is done with a request of the peer. A failed disk has been detached by the caller.
    pub(crate) fn end_peer_request(&mut self, key: Key, result: Result<(), IoError>, data: Option<PayloadId>) {
        let Some(request) = self.peer_requests.remove(key) else { return self.release(data) };
        let epoch = self.epochs.current;
        let volume = &mut self.volumes[request.volume];
        if request.holds_log {
            if let Some(disk) = &mut volume.local {
                disk.log.release(request.range, epoch);
            }
            self.epochs.touch(self.now);
        } else if result.is_ok() && request.kind != PeerRequestKind::Read && volume.replication.is_target() {
            // A whole block the Primary wrote on both disks needs no resync any more (R23).
            volume.note_covered(request.range);
        }
        if let PeerRequestKind::Write { payload } = request.kind {
            self.release(Some(payload));
        }
        let current = self.link.as_ref().is_some_and(|link| link.session == request.session);
        if current {
            let id = request.id;
            if request.kind == PeerRequestKind::Read {
                let length = if result.is_ok() { request.range.length } else { 0 };
                self.volumes[request.volume].counters.sent_bytes += u64::from(length);
                self.send(Message::ReadReply { id, length, result }, data.filter(|_| result.is_ok()));
            } else {
                self.send(Message::WriteAck { id, result }, None);
            }
        }
        self.release(data);
        self.kick_log(request.volume);
    }

    /// Whether everything earlier sessions asked of the disk has landed.
    pub(crate) fn peer_requests_landed(&self) -> bool {
        self.peer_requests.is_empty()
    }

    // ---- flushes the peer asks for ----

    /// The peer asks for a flush. Several at once are served one after another.
    pub(crate) fn peer_asks_flush(&mut self, id: TransferId) {
        let Some(link) = &mut self.link else { return };
        if link.peer_flush.is_some() {
            if link.peer_flushes_waiting.len() < 64 {
                link.peer_flushes_waiting.push_back(id);
            }
            return;
        }
        let session = link.session;
        link.peer_flush = Some(PeerFlush { id, local_pending: 0, failed: false });
        let mut pending = 0;
        for index in 0..self.volumes.len() {
            let volume = &mut self.volumes[index];
            if volume.local.is_some() && volume.disk.takes_writes() && !planted!("peer-flush-not-done") {
                if volume.replication.is_target() {
                    std::mem::swap(&mut volume.in_sync.current, &mut volume.in_sync.peer_flush);
                }
                pending += 1;
                volume.counters.local_flushes += 1;
                self.flush_disk(index, IoPurpose::PeerFlush { session, id });
            }
        }
        if let Some(flush) = self.link.as_mut().and_then(|link| link.peer_flush.as_mut()) {
            flush.local_pending = pending;
            flush.failed = pending == 0 && !planted!("peer-flush-not-done");
        }
        self.try_answer_peer_flush();
    }

    /// A local disk ended a flush the peer had asked for.
    pub(crate) fn peer_flushed_locally(
        &mut self,
        index: usize,
        session: SessionId,
        id: TransferId,
        result: Result<(), IoError>,
    ) {
        let Some(link) = self.link.as_mut().filter(|link| link.session == session) else { return };
        let Some(flush) = link.peer_flush.as_mut().filter(|flush| flush.id == id) else { return };
        flush.local_pending = flush.local_pending.saturating_sub(1);
        flush.failed |= result.is_err();
        if result.is_ok() {
            self.volumes[index].clear_in_sync(self.now, |sets| &mut sets.peer_flush);
        }
        self.try_answer_peer_flush();
    }

    /// Answers the flush the peer asked for when the disks have done it, and what it says is no news to our metadata.
    pub(crate) fn try_answer_peer_flush(&mut self) {
        if self.recording > 0 {
            return;
        }
        let Some(link) = &mut self.link else { return };
        let Some(flush) = link.peer_flush.take_if(|flush| flush.local_pending == 0) else { return };
        let next = link.peer_flushes_waiting.pop_front();
        let result = if flush.failed { Err(IoError::Io) } else { Ok(()) };
        self.send(Message::FlushAck { id: flush.id, result }, None);
        if let Some(id) = next {
            self.peer_asks_flush(id);
        }
    }
}
