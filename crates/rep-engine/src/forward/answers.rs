//! What the Primary answers to forwarded requests, what it remembers of them on a new connection, and what is in doubt when it
//! doesn't.

use super::queue::{Asked, Forward};
use crate::Engine;
use crate::action::Action;
use rep_types::planted;
use rep_types::{DiskState, IoError, LinkCause, PayloadId, SyncDecision, SyncRule, VolumeNumber};
use rep_wire::TransferId;

impl Engine {
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
        (forwarding.ready, forwarding.waived) = (session, false);
        forwarding.rewind();
        self.tell_suspension();
    }

    /// The peer has forgotten what it was asked. Writes sent before may have been done, and overwritten since: either is true. They
    /// fail before it is asked anew: should that be all it hears for now, it remembers the lease the next time, and not them.
    pub(crate) fn fail_doubtful(&mut self) {
        let Some(forwarding) = &mut self.forwarding else { return };
        let parted = std::mem::take(&mut forwarding.parted);
        for debt in forwarding.debts.iter_mut().filter(|debt| parted && debt.answered > debt.stable) {
            debt.owes_flush_error = true;
        }
        let below = std::mem::take(&mut forwarding.doubt_below);
        if planted!("forwarded-twice") {
            return;
        }
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

    /// The peer has told its state on this connection, and before that what it remembers, if anything (FD1).
    pub(crate) fn forwarding_hears(&mut self) {
        let session = self.session();
        if let Some(forwarding) = &mut self.forwarding {
            forwarding.heard_on = session;
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
            return self.drop_link(LinkCause::Protocol);
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
            Asked::Range(kind) if forward.writes() => debt.answered += u64::from(result.is_ok() && !kind.is_fua()),
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
        volume.is_good() || self.is_connected() && volume.peer_disk == DiskState::UpToDate
    }
}
