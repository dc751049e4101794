//! A device that stays open where the Primary role has left: its requests are forwarded to the peer.
//!
//! ```text
//!  client ─► queue ──ForwardWrite, …──► peer, Primary: a request like its own clients' ──ForwardAck, …──► client
//!             ▲  └ while no Primary is in reach, requests wait here
//!             └── sent again, under the same number, on the next connection
//! ```
//!
//! A forwarding begins with a handover (`handover`) and ends when the device is closed, or when this node is Primary again:
//! then what is unanswered becomes its own clients' again. It has a random name, the *lease*, under which the Primary remembers
//! what it was asked (`forwarded`), so that a request that comes again isn't done again.
//!
//! A request that was sent and isn't answered may have been done. Doing it again is safe as long as nobody was answered
//! something newer on those sectors, for that would come back. A Primary that remembers tells what it did, before anything newer
//! leaves it (FD1 in `forwarded`); so who takes the role back from one that died does what is unanswered again. Once somebody
//! who doesn't remember has been Primary, or has gone on alone, a write that was sent is *in doubt* and fails: either is true,
//! and that is what an error says (I-R4). It fails before that Primary hears the lease, or it would pass for one that remembers.
//!
//! Invariants:
//! - FW1 a node that forwards is Secondary, or about to be (a handover);
//! - FW2 numbers of unanswered requests that have been sent lie less than `FORWARD_WINDOW` apart; at most
//!   `FORWARD_WRITES_MAX` writes with a payload are out on a connection;
//! - FW3 nothing waits that could be sent, once an event has been handled;
//! - FW4 a request is answered once.

mod answers;
mod queue;

pub(crate) use queue::Forwarding;

use crate::Engine;
use crate::action::{Action, Notice};
use crate::command::{CommandError, CommandOutcome};
use crate::operation::{OperationKind, Requester};
use crate::operator::Progress;
use queue::{Asked, Forward};
use rep_types::planted;
use rep_types::{ByteRange, IoError, PayloadId, Refusal, RequestId, Role, SessionId};
use rep_wire::{ControlMessage, Message, TransferId, features};

impl Engine {
    // ---- beginning and end ----

    /// New requests wait from now on.
    pub(crate) fn begin_forwarding(&mut self) {
        let lease = self.generations.make().0;
        self.forwarding = Some(Forwarding::new(lease, self.volumes.len()));
        self.notice(Notice::Forwarding { forwards: true });
        self.tell_suspension();
    }

    /// This node is, or stays, Primary: what waits becomes its own clients' again, in order.
    pub(crate) fn take_back_forwards(&mut self) {
        let Some(forwarding) = self.forwarding.take() else { return };
        self.notice(Notice::Forwarding { forwards: false });
        for index in 0..self.volumes.len() {
            let debt = forwarding.debts[index];
            let unstable = debt.answered > debt.stable;
            if debt.owes_flush_error || unstable && forwarding.parted {
                self.volumes[index].starved.owe_here();
            }
            if unstable {
                self.note_unstable(index);
            }
        }
        let doubt_below = if planted!("forwarded-twice") { 0 } else { forwarding.doubt_below };
        for (id, forward) in (forwarding.first..).zip(forwarding.table) {
            let Some(forward) = forward else { continue };
            let requester = Requester::Client(forward.request);
            match forward.asked {
                Asked::Range(kind) if kind.is_client_write() && id < doubt_below => {
                    self.fail_forward(forward);
                }
                Asked::Range(kind) => {
                    self.insert_operation(requester, forward.volume, forward.range, forward.payload, kind);
                }
                Asked::Flush { .. } => self.client_flush(requester, forward.volume),
            }
        }
        self.tell_suspension();
    }

    /// The device is closed, or taken away: nobody forwards any more.
    fn end_forwarding(&mut self) {
        self.fail_forwards();
        let Some(forwarding) = self.forwarding.take() else { return };
        for volume in &mut self.volumes {
            volume.offered_bytes = None;
            self.out.push(Action::Export { volume: volume.number, offer: None });
        }
        if self.is_serving_peer() && forwarding.begun == self.session() {
            self.send(ControlMessage::ForwardEnd { lease: forwarding.lease }, None);
        }
        self.notice(Notice::Forwarding { forwards: false });
        self.tell_suspension();
    }

    /// `secondary` on a node that forwards: ends that, unless somebody has the device open.
    pub(crate) fn close_forwarding(&mut self) -> Result<CommandOutcome, CommandError> {
        let Some(forwarding) = &self.forwarding else { return Ok(CommandOutcome::Done) };
        if self.volumes.iter().any(|volume| volume.openers > 0) {
            return Err(CommandError::Refused(Refusal::DeviceIsOpen));
        }
        if forwarding.unanswered > 0 {
            let waits = self.forwards_wait();
            return Err(CommandError::Refused(if waits { Refusal::IoSuspended } else { Refusal::Busy }));
        }
        self.end_forwarding();
        Ok(CommandOutcome::Done)
    }

    /// The daemon ends: what is under way is answered if the Primary does so; the rest isn't answered well.
    pub(crate) fn poll_stop_forwarding(&mut self) -> Progress {
        let abandoned = self.transition.as_ref().is_some_and(|transition| transition.abandoned);
        let unanswered = self.forwarding.as_ref().is_some_and(|forwarding| forwarding.unanswered > 0);
        if unanswered && !self.forwards_wait() && !abandoned {
            return Progress::Waits;
        }
        self.end_forwarding();
        Progress::Done
    }

    /// What waits fails now, and what comes until requests flow again as well.
    pub(crate) fn let_forwards_fail(&mut self) {
        // One that is being handed over ends by itself.
        if self.role == Role::Secondary
            && self.forwards_wait()
            && let Some(forwarding) = &mut self.forwarding
        {
            forwarding.waived = true;
            self.fail_forwards();
            self.tell_suspension();
        }
    }

    fn fail_forwards(&mut self) {
        let Some(forwarding) = &mut self.forwarding else { return };
        let table = std::mem::take(&mut forwarding.table);
        forwarding.first += table.len() as u64;
        forwarding.unanswered = 0;
        forwarding.cursor = forwarding.first;
        forwarding.sent_end = forwarding.sent_end.max(forwarding.first);
        forwarding.writes_out = 0;
        table.into_iter().flatten().for_each(|forward| self.fail_forward(forward));
    }

    fn fail_forward(&mut self, forward: Forward) {
        let returned = forward.payload.filter(|_| forward.is_read());
        self.release(forward.payload.filter(|_| !forward.is_read()));
        let (request, result) = (forward.request, Err(IoError::Io));
        self.out.push(Action::Complete { request, result, payload: returned });
    }

    /// This node's role changes: what its clients are owed goes along.
    pub(crate) fn forwarding_takes_debts(&mut self) {
        let Some(forwarding) = &mut self.forwarding else { return };
        for (debt, volume) in forwarding.debts.iter_mut().zip(&self.volumes) {
            debt.owes_flush_error |= volume.starved.owes_here();
        }
    }

    // ---- requests ----

    pub(crate) fn forward_request(
        &mut self,
        request: RequestId,
        volume: usize,
        range: ByteRange,
        payload: Option<PayloadId>,
        kind: OperationKind,
    ) -> Result<(), IoError> {
        let received = self.now;
        let stable = self.answers_stable() && !planted!("forwarded-promise-forgotten");
        let Some(forwarding) = self.forwarding.as_mut().filter(|forwarding| !forwarding.waived) else {
            return Err(IoError::Io);
        };
        // Who asks will not flush: the Primary, which may have promised its own clients less, is asked for as much.
        let kind = if stable { kind.with_fua() } else { kind };
        forwarding.push(Forward { request, volume, range, payload, asked: Asked::Range(kind), received });
        Ok(())
    }

    pub(crate) fn forward_flush(&mut self, request: RequestId, volume: usize) {
        let received = self.now;
        let Some(forwarding) = &mut self.forwarding else { return };
        let asked = Asked::Flush { covers: forwarding.debts[volume].answered };
        let forward = Forward { request, volume, range: ByteRange::new(0, 0), payload: None, asked, received };
        if forwarding.waived { self.fail_forward(forward) } else { forwarding.push(forward) }
    }

    fn session(&self) -> Option<SessionId> {
        self.link.as_ref().map(|link| link.session)
    }

    /// The connection on which a Primary takes requests, if there is one.
    fn primary_in_reach(&self) -> Option<SessionId> {
        let link = self.link.as_ref().filter(|link| link.agreed_on(features::HANDOVER))?;
        let reached = self.is_connected() && self.role == Role::Secondary && self.peer_role == Some(Role::Primary);
        reached.then_some(link.session)
    }

    /// Whether this node's clients wait because no Primary takes what they ask.
    pub(crate) fn forwards_wait(&self) -> bool {
        let Some(forwarding) = &self.forwarding else { return false };
        let session = self.primary_in_reach();
        session.is_none() || forwarding.ready != session || forwarding.paused
    }

    /// Sends what may be sent.
    pub(crate) fn progress_forwarding(&mut self) -> bool {
        if self.forwarding.is_none() {
            return false;
        }
        let session = self.primary_in_reach();
        let Some(forwarding) = &mut self.forwarding else { return false };
        let Some(session) = session else {
            forwarding.begun = None;
            if forwarding.ready.take().is_some() {
                self.tell_suspension();
            }
            return false;
        };
        if forwarding.begun != Some(session) {
            if forwarding.awaits_memory(session) && !planted!("forwarded-twice") {
                return false;
            }
            (forwarding.begun, forwarding.ready, forwarding.paused) = (Some(session), None, false);
            let lease = forwarding.lease;
            if forwarding.remembered_on != Some(session) {
                forwarding.doubt_below = forwarding.sent_end;
                self.fail_doubtful();
            }
            self.send(ControlMessage::ForwardBegin { lease }, None);
            return true;
        }
        if forwarding.ready != Some(session) || forwarding.paused || self.suspended {
            return false;
        }
        let mut sent = false;
        while let Some((id, forward)) = self.forwarding.as_mut().and_then(Forwarding::next) {
            self.send_forward(id, forward);
            sent = true;
        }
        sent
    }

    fn send_forward(&mut self, id: TransferId, forward: Forward) {
        let volume = self.volumes[forward.volume].number;
        let range = forward.range;
        let message = match forward.asked {
            Asked::Range(OperationKind::Read) => Message::ForwardRead { id, volume, range },
            Asked::Range(OperationKind::Write { fua }) => Message::ForwardWrite { id, volume, range, fua },
            Asked::Range(OperationKind::Zero { mode, fua }) => Message::ForwardZero { id, volume, range, mode, fua },
            Asked::Flush { .. } => Message::ForwardFlush { id, volume },
            Asked::Range(_) => unreachable!("no client asks for a lock"),
        };
        let payload = forward.payload.filter(|_| forward.writes());
        if payload.is_some() {
            self.volumes[forward.volume].counters.sent_bytes += u64::from(range.length);
        }
        self.send(message, payload);
    }

    /// What operators are shown.
    pub(crate) fn forwarding_snapshot(&self) -> Option<crate::snapshot::ForwardingSnapshot> {
        self.forwarding.as_ref().map(|forwarding| crate::snapshot::ForwardingSnapshot {
            waits: self.forwards_wait(),
            requests: forwarding.unanswered,
        })
    }

    pub(crate) fn assert_forwarding_invariants(&self) {
        let Some(forwarding) = &self.forwarding else { return };
        assert!(self.role == Role::Secondary || self.is_handing_over(), "FW1: a Primary forwards");
        forwarding.assert_invariants(self.primary_in_reach().filter(|_| !self.suspended));
    }
}
