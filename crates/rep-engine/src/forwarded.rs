//! What the peer forwards: requests of its clients, which this node, as Primary, serves like those of its own.
//!
//! Each goes the way of a client's request from the overlap table on; only its answer is a message. What became of it is
//! remembered under the forwarder's lease, whatever connections come and go and whatever role this node has, until the forwarder
//! can't ask for it any more: its numbers are consecutive, and those of unanswered requests lie within a window.
//!
//! Invariants:
//! - FD1 before anything newer on the same sectors leaves for the forwarder (a mirrored write, a block of a resync), the answer
//!   of what was done before has: at once where the connection stands; as the first message of the next one where it doesn't.
//!   The overlap table keeps the newer from beginning before the older has been answered;
//! - FD2 a request that writes or flushes is done once under its number; a read may be done again.

use crate::Engine;
use crate::operation::{ForwardedId, OperationKind, Requester};
use rep_types::planted;
use rep_types::{
    ByteRange, IoError, LinkCause, PayloadId, REQUEST_LENGTH_MAX, Role, SessionId, VolumeNumber, ZERO_LENGTH_MAX,
};
use rep_wire::limits::FORWARD_WINDOW;
use rep_wire::{ControlMessage, Message, TransferId, features};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ForwardedKind {
    /// A read, write, discard or write-zeroes.
    Range(OperationKind),
    /// A flush of a volume.
    Flush,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing is known of that number.
    Unknown,
    /// Being done.
    UnderWay {
        /// The bytes a read brings; `None`: it is none.
        reads: Option<u32>,
    },
    /// Done, and what the forwarder was, or would have been, told.
    Done(Result<(), IoError>),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    id: u64,
    state: State,
}

/// What is remembered under a lease.
#[derive(Debug)]
pub(crate) struct Forwarded {
    lease: u64,
    /// The connection on which its requests may come.
    begun_on: Option<SessionId>,
    /// The connection on which all that is remembered has been told.
    told_on: Option<SessionId>,
    /// By number, modulo the window.
    slots: Box<[Slot]>,
}

impl Forwarded {
    fn new(lease: u64) -> Self {
        let slots = vec![Slot { id: 0, state: State::Unknown }; FORWARD_WINDOW as usize];
        Forwarded { lease, begun_on: None, told_on: None, slots: slots.into_boxed_slice() }
    }

    fn slot(&mut self, id: TransferId) -> &mut Slot {
        &mut self.slots[(id.0 % FORWARD_WINDOW) as usize]
    }

    fn results(&self) -> Vec<(TransferId, Result<(), IoError>)> {
        let done = |slot: &Slot| match slot.state {
            State::Done(result) => Some((TransferId(slot.id), result)),
            State::Unknown | State::UnderWay { .. } => None,
        };
        self.slots.iter().filter_map(done).collect()
    }
}

impl Engine {
    /// Whether the peer's device is open and its requests come here.
    pub(crate) fn peer_forwards(&self) -> bool {
        let session = self.link.as_ref().map(|link| link.session);
        let begun = self.forwarded.as_ref().and_then(|forwarded| forwarded.begun_on);
        begun.is_some() && begun == session
    }

    /// The peer forwards from now on. A node that isn't Primary, or is ceasing to be it, isn't meant: the peer asks anew.
    pub(crate) fn forward_begun(&mut self, lease: u64) {
        let Some(session) = self.link.as_ref().map(|link| link.session) else { return };
        if !self.is_serving_peer() {
            return self.drop_link(LinkCause::Protocol);
        }
        if self.role != Role::Primary || self.demoting {
            return;
        }
        let resumed = self.forwarded.as_ref().is_some_and(|forwarded| forwarded.lease == lease);
        if !resumed {
            // Its clients were answered before, by the peer as Primary: what was lost since is owed to them all the same.
            self.forwarded = Some(Forwarded::new(lease));
        }
        if let Some(forwarded) = &mut self.forwarded {
            (forwarded.begun_on, forwarded.told_on) = (Some(session), Some(session));
        }
        self.send(ControlMessage::ForwardReady { lease, resumed }, None);
    }

    /// The peer's device has been closed.
    pub(crate) fn forward_ended(&mut self, lease: u64) {
        if self.forwarded.as_ref().is_some_and(|forwarded| forwarded.lease == lease) {
            self.forwarded = None;
            self.volumes.iter_mut().for_each(|volume| volume.starved.owes_nothing_there());
        }
    }

    /// A connection has come about: what was done while there was none is told first (FD1).
    pub(crate) fn tell_forwarded(&mut self) {
        let Some(link) = self.link.as_ref().filter(|link| link.agreed_on(features::HANDOVER)) else { return };
        let session = Some(link.session);
        let Some(forwarded) = self.forwarded.as_mut().filter(|forwarded| forwarded.told_on != session) else { return };
        forwarded.told_on = session;
        let (lease, results) = (forwarded.lease, forwarded.results());
        self.send(ControlMessage::ForwardDone { lease, results }, None);
    }

    /// A request of the peer's clients.
    pub(crate) fn peer_forwarded(
        &mut self,
        id: TransferId,
        volume: VolumeNumber,
        range: ByteRange,
        kind: ForwardedKind,
        payload: Option<PayloadId>,
    ) {
        if !self.peer_forwards() {
            self.release(payload);
            return self.drop_link(LinkCause::Protocol);
        }
        if self.role != Role::Primary || self.demoting {
            // It isn't done, and not answered: the peer asks whoever is Primary next.
            return self.release(payload);
        }
        let reads = (kind == ForwardedKind::Range(OperationKind::Read)).then_some(range.length);
        let Some(forwarded) = &mut self.forwarded else { return self.release(payload) };
        let lease = forwarded.lease;
        let slot = forwarded.slot(id);
        if slot.id > id.0 || id.0 == 0 {
            self.release(payload);
            return self.drop_link(LinkCause::Protocol);
        }
        match slot.state {
            State::Done(result) if slot.id == id.0 => {
                self.release(payload);
                return self.send(Message::ForwardAck { id, result }, None);
            }
            // It is answered when it is done.
            State::UnderWay { .. } if slot.id == id.0 => return self.release(payload),
            _ => *slot = Slot { id: id.0, state: State::UnderWay { reads } },
        }
        let requester = Requester::Peer(ForwardedId { lease, id });
        let Some(index) = self.volume_index(volume) else {
            self.release(payload);
            return self.answer(requester, None, Err(IoError::Invalid), None);
        };
        let ForwardedKind::Range(kind) = kind else { return self.forwarded_flush(requester, index) };
        let longest = if matches!(kind, OperationKind::Zero { .. }) { ZERO_LENGTH_MAX } else { REQUEST_LENGTH_MAX };
        if !range.is_legal(self.volumes[index].size_bytes) || range.length > longest {
            self.release(payload);
            return self.answer(requester, None, Err(IoError::Invalid), None);
        }
        if kind.is_client_write() && planted!("forwarded-answered-early") {
            self.send(Message::ForwardAck { id, result: Ok(()) }, None);
        }
        self.insert_operation(requester, index, range, payload, kind);
    }

    fn forwarded_flush(&mut self, requester: Requester, index: usize) {
        if planted!("forwarded-flush-not-done") {
            return self.answer(requester, Some(index), Ok(()), None);
        }
        self.client_flush(requester, index);
    }

    /// A request of the peer's clients is done.
    pub(crate) fn answer_forwarded(
        &mut self,
        forwarded_id: ForwardedId,
        result: Result<(), IoError>,
        payload: Option<PayloadId>,
    ) {
        let ForwardedId { lease, id } = forwarded_id;
        let (serving, session) = (self.is_serving_peer(), self.link.as_ref().map(|link| link.session));
        let known = self.forwarded.as_mut().filter(|forwarded| forwarded.lease == lease);
        let Some(forwarded) = known.filter(|forwarded| forwarded.slots[(id.0 % FORWARD_WINDOW) as usize].id == id.0)
        else {
            return self.release(payload);
        };
        let begun = forwarded.begun_on == session;
        let told = forwarded.told_on == session;
        let slot = forwarded.slot(id);
        let reads = match slot.state {
            State::UnderWay { reads } => reads,
            State::Unknown | State::Done(_) => None,
        };
        let forgets = reads.is_some() || planted!("forwarded-again");
        slot.state = if forgets { State::Unknown } else { State::Done(result) };
        match (serving && told, begun, reads) {
            // It is told with all the others when a connection has come about.
            (false, ..) | (true, false, Some(_)) => {}
            (true, true, Some(length)) => {
                let data = payload.filter(|_| result.is_ok());
                let (length, result) =
                    if data.is_some() { (length, result) } else { (0, result.and(Err(IoError::Io))) };
                self.send(Message::ForwardData { id, length, result }, data);
            }
            (true, true, None) => self.send(Message::ForwardAck { id, result }, None),
            (true, false, None) => {
                self.send(ControlMessage::ForwardDone { lease, results: vec![(id, result)] }, None);
            }
        }
        self.release(payload);
    }
}
