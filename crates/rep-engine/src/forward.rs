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
//! and that is what an error says (I-R4).
//!
//! Invariants:
//! - FW1 a node that forwards is Secondary, or about to be (a handover);
//! - FW2 numbers of unanswered requests that have been sent lie less than `FORWARD_WINDOW` apart; at most
//!   `FORWARD_WRITES_MAX` writes with a payload are out on a connection;
//! - FW3 nothing waits that could be sent, once an event has been handled;
//! - FW4 a request is answered once.

use crate::Engine;
use crate::action::{Action, Notice};
use crate::command::{CommandError, CommandOutcome};
use crate::event::Timestamp;
use crate::operation::{OperationKind, Requester};
use crate::operator::Progress;
use rep_types::planted;
use rep_types::{
    ByteRange, IoError, PayloadId, Refusal, RequestId, Role, SessionId, SyncDecision, SyncRule, VolumeNumber,
};
use rep_wire::limits::{FORWARD_WINDOW, FORWARD_WRITES_MAX};
use rep_wire::{ControlMessage, Message, TransferId, features};
use std::collections::VecDeque;

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// A read, write, discard or write-zeroes.
    Range(OperationKind),
    /// A flush, and how many writes of the volume had been answered when it came.
    Flush { covers: u64 },
}

/// A request that isn't answered.
#[derive(Clone, Copy, Debug)]
struct Forward {
    request: RequestId,
    volume: usize,
    range: ByteRange,
    payload: Option<PayloadId>,
    asked: Asked,
    received: Timestamp,
}

impl Forward {
    fn is_read(&self) -> bool {
        self.asked == Asked::Range(OperationKind::Read)
    }

    fn writes(&self) -> bool {
        matches!(self.asked, Asked::Range(kind) if kind.is_client_write())
    }

    /// Whether its bytes take room at the Primary until it is answered.
    fn carries_payload(&self) -> bool {
        self.writes() && self.payload.is_some()
    }
}

/// What of a volume's writes its clients were answered, and what a flush has covered.
#[derive(Clone, Copy, Default, Debug)]
struct Debt {
    answered: u64,
    stable: u64,
    /// Something answered that no flush covered may be lost, and no client has been told (N2).
    owes_flush_error: bool,
}

/// A forwarding.
#[derive(Debug)]
pub(crate) struct Forwarding {
    lease: u64,
    /// Unanswered requests in the order they came; `None`: answered out of turn. The front is unanswered.
    table: VecDeque<Option<Forward>>,
    /// The number of the front.
    first: u64,
    unanswered: usize,
    /// Numbers below this have been sent on some connection.
    sent_end: u64,
    /// Numbers below this have been sent on this one.
    cursor: u64,
    /// Writes out on this connection.
    writes_out: usize,
    /// The connection on which the Primary was told of this forwarding...
    begun: Option<SessionId>,
    /// ...and has said that requests may come.
    ready: Option<SessionId>,
    /// The Primary hands the role over to us: it is sent nothing more.
    pub paused: bool,
    /// On this connection the peer has shown that it remembers what it was asked.
    remembered_on: Option<SessionId>,
    /// Since these were sent a peer that doesn't remember them may have answered others something newer.
    doubt_below: u64,
    /// A peer that doesn't remember has written alone: what was answered and no flush covered may be lost.
    parted: bool,
    /// The operator had what waited fail, and what comes until requests flow again fails too.
    waived: bool,
    debts: Vec<Debt>,
}

impl Forwarding {
    fn new(lease: u64, volumes: usize) -> Self {
        Forwarding {
            lease,
            table: VecDeque::new(),
            first: 1,
            unanswered: 0,
            sent_end: 1,
            cursor: 1,
            writes_out: 0,
            begun: None,
            ready: None,
            paused: false,
            remembered_on: None,
            doubt_below: 0,
            parted: false,
            waived: false,
            debts: vec![Debt::default(); volumes],
        }
    }

    fn push(&mut self, forward: Forward) {
        self.table.push_back(Some(forward));
        self.unanswered += 1;
    }

    fn get(&self, id: TransferId) -> Option<&Forward> {
        let at = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        self.table.get(at)?.as_ref()
    }

    /// Takes a request out.
    fn take(&mut self, id: TransferId) -> Option<Forward> {
        let at = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        let forward = self.table.get_mut(at)?.take()?;
        self.unanswered -= 1;
        if forward.carries_payload() && id.0 < self.cursor {
            self.writes_out -= 1;
        }
        while let Some(None) = self.table.front() {
            self.table.pop_front();
            self.first += 1;
        }
        self.cursor = self.cursor.max(self.first);
        Some(forward)
    }

    /// The next request that may be sent now.
    fn next(&mut self) -> Option<(TransferId, Forward)> {
        loop {
            let id = self.cursor.max(self.first);
            let distance = id - self.first;
            let forward = *self.table.get(usize::try_from(distance).ok()?)?;
            let Some(forward) = forward else {
                self.cursor = id + 1;
                continue;
            };
            let no_room = forward.carries_payload() && self.writes_out >= FORWARD_WRITES_MAX;
            if distance >= FORWARD_WINDOW || no_room {
                return None;
            }
            self.cursor = id + 1;
            self.sent_end = self.sent_end.max(self.cursor);
            self.writes_out += usize::from(forward.carries_payload());
            return Some((TransferId(id), forward));
        }
    }

    /// Every request is sent anew, from the oldest on.
    fn rewind(&mut self) {
        (self.cursor, self.writes_out) = (self.first, 0);
    }

    /// The peer on this connection remembers what it was asked: nothing is in doubt.
    fn is_remembered(&mut self, session: Option<SessionId>) {
        (self.remembered_on, self.doubt_below, self.parted) = (session, 0, false);
    }

    /// Since when the oldest request that was sent has been waiting.
    pub fn owed_since(&self) -> Option<Timestamp> {
        let oldest = self.table.front().and_then(|front| front.as_ref());
        oldest.filter(|_| self.ready.is_some() && self.first < self.cursor).map(|forward| forward.received)
    }

    pub fn assert_invariants(&self, flows_on: Option<SessionId>) {
        assert!(self.table.front().is_none_or(Option::is_some), "the front of the forwarded requests is unanswered");
        let unanswered = self.table.iter().flatten().count();
        assert_eq!(unanswered, self.unanswered, "the count of unanswered forwarded requests");
        assert!(self.first <= self.cursor && self.cursor <= self.sent_end, "numbers of forwarded requests in order");
        let sent = usize::try_from(self.cursor - self.first).unwrap_or(usize::MAX);
        let out = self.table.iter().take(sent).flatten().filter(|forward| forward.carries_payload()).count();
        assert!(out == self.writes_out && out <= FORWARD_WRITES_MAX, "FW2: {out} writes out, {}", self.writes_out);
        if flows_on.is_some() && self.ready == flows_on && !self.paused {
            let next = self.table.get(sent).copied().flatten();
            let held = |forward: Forward| {
                sent as u64 >= FORWARD_WINDOW || forward.carries_payload() && self.writes_out >= FORWARD_WRITES_MAX
            };
            assert!(next.is_none_or(held), "FW3: a request waits that could be sent");
        }
    }
}

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
            self.volumes[index].starved.owes_flush_error |= debt.owes_flush_error || unstable && forwarding.parted;
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
            self.out.push(Action::Export { volume: volume.number, size_bytes: None });
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
            debt.owes_flush_error |= volume.starved.owes_flush_error;
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
        let Some(forwarding) = self.forwarding.as_mut().filter(|forwarding| !forwarding.waived) else {
            return Err(IoError::Io);
        };
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
        let link = self.link.as_ref().filter(|link| link.features & features::HANDOVER != 0)?;
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
            let flowed = forwarding.ready.take().is_some();
            (forwarding.begun, forwarding.ready) = (None, None);
            if flowed {
                self.tell_suspension();
            }
            return false;
        };
        if forwarding.begun != Some(session) {
            (forwarding.begun, forwarding.ready, forwarding.paused) = (Some(session), None, false);
            if forwarding.remembered_on != Some(session) {
                forwarding.doubt_below = forwarding.sent_end;
            }
            let lease = forwarding.lease;
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

    // ---- answers ----

    /// The Primary says that requests may come.
    pub(crate) fn forward_ready(&mut self, lease: u64, resumed: bool) {
        let session = self.session();
        let Some(forwarding) = &mut self.forwarding else { return };
        if forwarding.lease != lease || forwarding.begun != session || forwarding.ready == session {
            return;
        }
        if resumed {
            forwarding.is_remembered(session);
        }
        forwarding.remembered_on = session;
        for debt in forwarding.debts.iter_mut().filter(|debt| forwarding.parted && debt.answered > debt.stable) {
            debt.owes_flush_error = true;
        }
        forwarding.rewind();
        let doubt_below = std::mem::take(&mut forwarding.doubt_below);
        if !planted!("forwarded-twice") {
            self.fail_doubtful(doubt_below);
        }
        let Some(forwarding) = &mut self.forwarding else { return };
        (forwarding.ready, forwarding.waived, forwarding.parted) = (session, false, false);
        self.tell_suspension();
    }

    /// Writes sent before may have been done, and overwritten since: either is true.
    fn fail_doubtful(&mut self, below: u64) {
        let Some(forwarding) = &self.forwarding else { return };
        for id in (forwarding.first..below).map(TransferId) {
            let Some(forwarding) = &mut self.forwarding else { return };
            if forwarding.get(id).is_some_and(Forward::writes)
                && let Some(forward) = forwarding.take(id)
            {
                self.fail_forward(forward);
            }
        }
    }

    /// A handshake has ended. Unless it found that nobody wrote alone, what was sent before is in doubt, until the peer shows that
    /// it remembers.
    pub(crate) fn forwarding_met(&mut self, decisions: &[(VolumeNumber, SyncDecision)]) {
        let session = self.session();
        let Some(forwarding) = self.forwarding.as_mut().filter(|forwarding| forwarding.remembered_on != session) else {
            return;
        };
        let equal = |(_, decision): &(VolumeNumber, SyncDecision)| {
            matches!(decision.rule, SyncRule::Reconnected | SyncRule::CrashedPrimary | SyncRule::BothOff)
        };
        if !decisions.iter().all(equal) {
            (forwarding.doubt_below, forwarding.parted) = (forwarding.sent_end, true);
        }
    }

    /// The connection is gone, or the handover to us came to nothing.
    pub(crate) fn forwarding_goes_on(&mut self) {
        if let Some(forwarding) = &mut self.forwarding {
            forwarding.paused = false;
        }
    }

    /// The Primary tells what became of requests, also of those it was asked on an earlier connection.
    pub(crate) fn forward_done(&mut self, lease: u64, results: Vec<(TransferId, Result<(), IoError>)>) {
        let session = self.session();
        let Some(forwarding) = self.forwarding.as_mut().filter(|forwarding| forwarding.lease == lease) else {
            return;
        };
        forwarding.is_remembered(session);
        for (id, result) in results {
            let known = self.forwarding.as_ref().and_then(|forwarding| forwarding.get(id));
            if known.is_some_and(|forward| !forward.is_read()) {
                self.finish_forward(id, result, None);
            }
        }
    }

    /// The Primary answered a request.
    pub(crate) fn forward_answered(
        &mut self,
        id: TransferId,
        result: Result<(), IoError>,
        data: Option<(u32, Option<PayloadId>)>,
    ) {
        let payload = data.and_then(|(_, payload)| payload);
        let session = self.session();
        let Some(forwarding) = &self.forwarding else { return self.release(payload) };
        if forwarding.ready != session || id.0 >= forwarding.cursor {
            // Late, of a forwarding that has ended; or an answer to nothing.
            return self.release(payload);
        }
        let Some(forward) = forwarding.get(id) else { return self.release(payload) };
        let fits = match data {
            None => !forward.is_read(),
            Some(_) if !forward.is_read() => false,
            Some((length, payload)) => result.is_err() || length == forward.range.length && payload.is_some(),
        };
        if !fits {
            self.release(payload);
            return self.drop_link(rep_types::LinkCause::Protocol);
        }
        self.finish_forward(id, result, payload);
    }

    fn finish_forward(&mut self, id: TransferId, mut result: Result<(), IoError>, data: Option<PayloadId>) {
        let index = self.forwarding.as_ref().and_then(|forwarding| forwarding.get(id)).map(|forward| forward.volume);
        if index.is_some_and(|index| !self.good_data_is_in_reach(index)) {
            // The answer was on its way when the disk that had it went here: no disk that counts has it (R32).
            result = result.and(Err(IoError::Io));
        }
        let Some(forwarding) = &mut self.forwarding else { return self.release(data) };
        let Some(forward) = forwarding.take(id) else { return self.release(data) };
        let debt = &mut forwarding.debts[forward.volume];
        let counters = &mut self.volumes[forward.volume].counters;
        match forward.asked {
            Asked::Flush { covers } => {
                if debt.owes_flush_error || result.is_err() {
                    (result, debt.owes_flush_error, debt.stable) = (Err(IoError::Io), false, debt.answered);
                } else {
                    debt.stable = debt.stable.max(covers);
                }
            }
            Asked::Range(_) if forward.writes() => debt.answered += u64::from(result.is_ok()),
            Asked::Range(_) if result.is_ok() => {
                counters.read_bytes += u64::from(forward.range.length);
                counters.received_bytes += u64::from(forward.range.length);
            }
            Asked::Range(_) => {}
        }
        if forward.writes() {
            counters.written_bytes += u64::from(forward.range.length);
        }
        let payload = match (forward.is_read(), data) {
            (true, Some(data)) if result.is_ok() => {
                self.release(forward.payload);
                Some(data)
            }
            (true, data) => {
                self.release(data);
                forward.payload
            }
            (false, data) => {
                self.release(forward.payload);
                self.release(data);
                None
            }
        };
        self.out.push(Action::Complete { request: forward.request, result, payload });
    }

    fn good_data_is_in_reach(&self, index: usize) -> bool {
        let volume = &self.volumes[index];
        volume.is_good() || self.is_connected() && volume.peer_disk == rep_types::DiskState::UpToDate
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
