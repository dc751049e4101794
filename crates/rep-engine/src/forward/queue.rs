//! The requests that wait or have been forwarded, by their numbers, and what is known of them.

use crate::event::Timestamp;
use crate::operation::OperationKind;
use rep_types::{ByteRange, PayloadId, RequestId, SessionId};
use rep_wire::TransferId;
use rep_wire::limits::{FORWARD_WINDOW, FORWARD_WRITES_MAX};
use std::collections::VecDeque;

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// A read, write, discard or write-zeroes.
    Range(OperationKind),
    /// A flush, and how many writes of the volume had been answered when it came.
    Flush { covers: u64 },
}

/// A request that isn't answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forward {
    pub request: RequestId,
    pub volume: usize,
    pub range: ByteRange,
    pub payload: Option<PayloadId>,
    pub asked: Asked,
    pub received: Timestamp,
}

impl Forward {
    pub fn is_read(&self) -> bool {
        self.asked == Asked::Range(OperationKind::Read)
    }

    pub fn writes(&self) -> bool {
        matches!(self.asked, Asked::Range(kind) if kind.is_client_write())
    }

    /// Whether its bytes take room at the Primary until it is answered.
    pub fn carries_payload(&self) -> bool {
        self.writes() && self.payload.is_some()
    }
}

/// What of a volume's writes its clients were answered, and what a flush has covered.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Debt {
    pub answered: u64,
    pub stable: u64,
    /// Something answered that no flush covered may be lost, and no client has been told (N2).
    pub owes_flush_error: bool,
}

/// A forwarding.
#[derive(Debug)]
pub(crate) struct Forwarding {
    pub lease: u64,
    /// Unanswered requests in the order they came; `None`: answered out of turn. The front is unanswered.
    pub table: VecDeque<Option<Forward>>,
    /// The number of the front.
    pub first: u64,
    pub unanswered: usize,
    /// Numbers below this have been sent on some connection.
    pub sent_end: u64,
    /// Numbers below this have been sent on this one.
    pub cursor: u64,
    /// Writes out on this connection.
    pub writes_out: usize,
    /// The connection on which the Primary was told of this forwarding...
    pub begun: Option<SessionId>,
    /// ...and has said that requests may come.
    pub ready: Option<SessionId>,
    /// The Primary hands the role over to us: it is sent nothing more.
    pub paused: bool,
    /// On this connection the peer has shown that it remembers what it was asked.
    pub remembered_on: Option<SessionId>,
    /// On this connection the peer has told its state, before which it tells what it remembers.
    pub heard_on: Option<SessionId>,
    /// Since these were sent a peer that doesn't remember them may have answered others something newer.
    pub doubt_below: u64,
    /// A peer that doesn't remember has written alone: what was answered and no flush covered may be lost.
    pub parted: bool,
    /// The operator had what waited fail, and what comes until requests flow again fails too.
    pub waived: bool,
    pub debts: Vec<Debt>,
}

impl Forwarding {
    pub fn new(lease: u64, volumes: usize) -> Self {
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
            heard_on: None,
            doubt_below: 0,
            parted: false,
            waived: false,
            debts: vec![Debt::default(); volumes],
        }
    }

    pub fn push(&mut self, forward: Forward) {
        self.table.push_back(Some(forward));
        self.unanswered += 1;
    }

    pub fn get(&self, id: TransferId) -> Option<&Forward> {
        let at = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        self.table.get(at)?.as_ref()
    }

    /// Takes a request out.
    pub fn take(&mut self, id: TransferId) -> Option<Forward> {
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
    pub fn next(&mut self) -> Option<(TransferId, Forward)> {
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
    pub fn rewind(&mut self) {
        (self.cursor, self.writes_out) = (self.first, 0);
    }

    /// The peer on this connection remembers what it was asked: nothing is in doubt.
    pub fn is_remembered(&mut self, session: Option<SessionId>) {
        (self.remembered_on, self.doubt_below, self.parted) = (session, 0, false);
    }

    /// Whether something hangs on the peer's memory, and it isn't known yet if that holds on this connection.
    pub fn awaits_memory(&self, session: SessionId) -> bool {
        let hangs = self.parted || self.sent_end > self.first;
        hangs && ![self.remembered_on, self.heard_on].contains(&Some(session))
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
