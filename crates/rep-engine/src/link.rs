//! The connection to the peer: its life, its messages, and the watch over whether the peer still answers.
//!
//! ```text
//! StandAlone ──connect──► Connecting ──link up, handshake──► Connected
//!     ▲                     ▲   │ refused                      │ link lost
//!     │ disconnect          │   ▼                              ▼
//! Disconnecting          SplitBrain / UnrelatedData        Connecting
//! ```
//!
//! A silent peer is told apart from a slow one: when an answer is due for `timeout`, or the link has been idle for
//! `ping-interval`, a ping goes out; anything received (whole frames, or bytes of one) within `ping-timeout` is a sign
//! of life. A peer that lives but whose disk answers nothing for `ko-count` × `timeout` is dropped as well (I-L2).

use crate::action::{Action, Why};
use crate::event::Timestamp;
use crate::handshake::Handshake;
use crate::peer_requests::{PeerFlush, PeerRequestKind};
use crate::{Engine, limits};
use rep_types::{ByteRange, ConnectionState, DigestKey, DiskState, LinkCause, PayloadId, ReplicationState, SessionId};
use rep_wire::{ControlMessage, Message, TransferId};
use std::collections::VecDeque;

/// A standing connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub session: SessionId,
    /// What both nodes offer.
    pub features: u64,
    /// The key of the digests we ask for.
    pub digest_key: DigestKey,
    pub last_received: Timestamp,
    /// The ping that is out, and since when.
    ping: Option<Timestamp>,
    next_ping: u64,
    /// The handshake under way; `None` once it has ended.
    pub handshake: Option<Handshake>,
    /// Handshakes begun on this connection.
    pub round: u32,
    pub peer_flush: Option<PeerFlush>,
    pub peer_flushes_waiting: VecDeque<TransferId>,
    next_stall_check: Timestamp,
}

impl Link {
    /// Whether a ping is out that isn't answered.
    pub fn is_pinged(&self) -> bool {
        self.ping.is_some()
    }

    /// Whether both nodes offered this: one of [`rep_wire::features`].
    pub fn agreed_on(&self, feature: u64) -> bool {
        self.features & feature != 0
    }
}

impl Engine {
    /// The same of the connection that stands.
    pub(crate) fn agreed_on(&self, feature: u64) -> bool {
        self.link.as_ref().is_some_and(|link| link.agreed_on(feature))
    }

    pub(crate) fn link_up(&mut self, session: SessionId, features: u64, digest_key: DigestKey) {
        if self.link.as_ref().is_some_and(|link| link.session >= session) {
            return;
        }
        if self.link.is_some() {
            self.drop_link(LinkCause::Replaced);
        }
        if !matches!(self.connection, ConnectionState::Connecting | ConnectionState::SplitBrain) {
            self.out.push(Action::CloseLink { session, cause: LinkCause::Refused });
            return;
        }
        self.link = Some(Link {
            session,
            features,
            digest_key,
            last_received: self.now,
            ping: None,
            next_ping: 0,
            handshake: None,
            round: 0,
            peer_flush: None,
            peer_flushes_waiting: VecDeque::new(),
            next_stall_check: self.now.after(limits::STALL_CHECK_INTERVAL),
        });
        self.begin_handshake();
    }

    pub(crate) fn link_down(&mut self, session: SessionId, cause: LinkCause) {
        if self.link.as_ref().is_some_and(|link| link.session == session) {
            self.lose_link(cause);
        }
    }

    pub(crate) fn link_alive(&mut self, session: SessionId) {
        if let Some(link) = self.link.as_mut().filter(|link| link.session == session) {
            link.last_received = self.now;
            link.ping = None;
        }
    }

    /// Ends the connection from this side.
    pub(crate) fn drop_link(&mut self, cause: LinkCause) {
        if cause == LinkCause::Restart && self.says_begin_anew() {
            self.send(ControlMessage::BeginAnew, None);
        }
        if let Some(link) = &self.link {
            self.out.push(Action::CloseLink { session: link.session, cause });
            self.lose_link(cause);
        }
    }

    /// The connection is gone: everything that hung on it is settled (R13, R16).
    fn lose_link(&mut self, cause: LinkCause) {
        let Some(link) = self.link.take() else { return };
        let why = Why::LinkLost(cause);
        self.handshake_lost(link.handshake);
        if self.connection == ConnectionState::Connected {
            self.set_connection(ConnectionState::Connecting, why);
        }
        self.fence_loses_peer(cause);
        let left_by_primary = self.peer_may_be_primary();
        self.set_peer_role(None, why);
        self.epoch_loses_peer();
        // One volume may hold back another's answers: none goes out before each of them has begun to record its loss.
        self.recording += 1;
        for index in 0..self.volumes.len() {
            self.volumes[index].parts(left_by_primary);
            self.stop_resync(index, why);
            self.set_replication(index, ReplicationState::Off, why);
            self.set_peer_disk(index, DiskState::DUnknown, why);
            self.volumes[index].resync_paused_there = false;
            self.volumes[index].growth.forget_peer();
            self.replica_lost(index);
        }
        self.recording_ended();
        self.try_settle_epoch();
        self.transition_loses_link(cause);
        self.open_gate();
    }

    pub(crate) fn peer_message(&mut self, session: SessionId, message: Message, payload: Option<PayloadId>) {
        let Some(link) = self.link.as_mut().filter(|link| link.session == session) else {
            return self.release(payload);
        };
        link.last_received = self.now;
        link.ping = None;
        match message {
            Message::Write { id, volume, range, durable } => match payload {
                Some(payload) => self.peer_asks(id, volume, range, PeerRequestKind::Write { payload }, durable),
                None => self.drop_link(LinkCause::Protocol),
            },
            Message::Zero { id, volume, range, mode, durable } => {
                self.peer_asks(id, volume, range, PeerRequestKind::Zero { mode }, durable)
            }
            Message::Read { id, volume, range } => self.peer_asks(id, volume, range, PeerRequestKind::Read, false),
            Message::WriteAck { id, result } => self.peer_leg_done(id, result),
            Message::Flush { id } => self.peer_asks_flush(id),
            Message::FlushAck { id, result } => {
                if result.is_err() {
                    self.peer_flush_failed();
                }
                self.epoch_flushed_by_peer(id)
            }
            Message::ReadReply { id, result, .. } => self.remote_read_done(id, result, payload),
            Message::ResyncRequest { id, volume, range } => self.resync_requested(id, volume, range),
            Message::ResyncData { id, length } => self.resync_data(id, length, payload),
            Message::ResyncZeroes { id } => self.resync_zeroes(id),
            Message::ResyncRuns { id, length, zeroes } => self.resync_runs(id, length, zeroes, payload),
            Message::ResyncRefused { id } => self.resync_refused(id),
            Message::ResyncAck { id, result } => self.resync_acknowledged(id, result),
            Message::Ping { id } => self.send(Message::Pong { id }, None),
            Message::Pong { id } => {
                self.peer_puts_answer_off();
                self.peer_has_heard_of(id);
            }
            Message::Control(message) => self.control_message(*message),
            message => self.forwarding_message(message, payload),
        }
    }

    /// Requests of a device that is open where the role isn't, and their answers.
    fn forwarding_message(&mut self, message: Message, payload: Option<PayloadId>) {
        use crate::forwarded::ForwardedKind::{Flush, Range};
        use crate::operation::OperationKind::{Read, Write, Zero};
        let none = ByteRange::new(0, 0);
        match message {
            Message::ForwardWrite { id, volume, range, fua } => match payload {
                Some(_) => self.peer_forwarded(id, volume, range, Range(Write { fua }), payload),
                None => self.drop_link(LinkCause::Protocol),
            },
            Message::ForwardZero { id, volume, range, mode, fua } => {
                self.peer_forwarded(id, volume, range, Range(Zero { mode, fua }), None)
            }
            Message::ForwardRead { id, volume, range } => self.peer_forwarded(id, volume, range, Range(Read), None),
            Message::ForwardFlush { id, volume } => self.peer_forwarded(id, volume, none, Flush, None),
            Message::ForwardAck { id, result } => self.forward_answered(id, result, None),
            Message::ForwardData { id, length, result } => {
                self.forward_answered(id, result, Some((length, payload)));
            }
            _ => unreachable!("dispatched by the link"),
        }
    }

    /// Messages that aren't hot.
    fn control_message(&mut self, message: ControlMessage) {
        match message {
            ControlMessage::View { round, view } => self.peer_view(round, view),
            ControlMessage::Decision { round, decisions } => self.peer_decision(round, decisions),
            ControlMessage::PromoteReply { granted } => self.promotion_answered(granted),
            ControlMessage::PromoteRequest => self.promotion_asked(),
            ControlMessage::Leave => self.peer_leaves(),
            ControlMessage::BeginAnew => self.drop_link(LinkCause::Restart),
            ControlMessage::LeaveNoted { role } => self.leave_noted(role),
            ControlMessage::State { role, disks } => self.peer_state(role, disks),
            ControlMessage::Handover { step } if self.is_connected() => self.handover_asked(step),
            ControlMessage::HandoverAnswer { refused } => self.handover_answered(refused),
            ControlMessage::ForwardBegin { lease } => self.forward_begun(lease),
            ControlMessage::ForwardReady { lease, resumed } => self.forward_ready(lease, resumed),
            ControlMessage::ForwardDone { lease, results } => self.forward_done(lease, results),
            ControlMessage::ForwardEnd { lease } => self.forward_ended(lease),
            // It is out of turn, or a leave has crossed it: whoever asks sees the connection go.
            ControlMessage::Handover { .. } => {}
            other => self.volume_message(other),
        }
    }

    /// Control messages that speak of one volume.
    fn volume_message(&mut self, message: ControlMessage) {
        if !self.is_serving_peer() {
            return self.drop_link(LinkCause::Protocol);
        }
        match message {
            ControlMessage::BitmapRequest { volume, from } => self.bitmap_requested(volume, from),
            ControlMessage::BitmapPart { volume, from, next, runs } => self.bitmap_part(volume, from, next, &runs),
            ControlMessage::ResyncStart { volume, bitmap_generation } => self.resync_start(volume, bitmap_generation),
            ControlMessage::ResyncReady { volume } => self.resync_ready(volume),
            ControlMessage::ResyncFinish { volume } => self.resync_finish_asked(volume),
            ControlMessage::ResyncGenerations { volume, current, history } => {
                self.resync_generations(volume, current, &history)
            }
            ControlMessage::ResyncFinished { volume } => self.resync_finished(volume),
            ControlMessage::OutOfSync { volume, first, count } => self.told_out_of_sync(volume, first, count),
            ControlMessage::DiskLost { volume } => self.peer_lost_its_disk(volume),
            ControlMessage::DiskLostNoted { volume, carries_on, generation } => {
                self.disk_lost_noted(volume, carries_on, generation)
            }
            ControlMessage::Invalidate { volume, full } => self.invalidated_by_peer(volume, full),
            ControlMessage::Verify { volume, running } => self.peer_verifies(volume, running),
            ControlMessage::DigestRequest { id, volume, range, key } => self.digests_asked(id, volume, range, key),
            ControlMessage::Digests { id, digests } => self.digests_told(id, digests),
            ControlMessage::DigestDone { id, different } => self.digests_compared(id, &different),
            ControlMessage::ResyncCompare { id, volume, range, key, digests } => {
                self.resync_compare_asked(id, volume, range, key, digests)
            }
            ControlMessage::ResyncCompared { id, different } => self.resync_compared(id, &different),
            ControlMessage::NewGeneration { volume, id, clear_bitmap } => {
                self.peer_starts_generation(volume, id, clear_bitmap)
            }
            ControlMessage::NewGenerationDone { volume } => self.peer_started_generation(volume),
            ControlMessage::PauseSync { volume, paused } => self.peer_pauses(volume, paused),
            ControlMessage::Resize { volume, step } => self.resize_asked(volume, step),
            ControlMessage::ResizeAnswer { volume, answer } => self.resize_answered(volume, answer),
            ControlMessage::Size { volume, agreed_bytes, room } => self.peer_size(volume, agreed_bytes, room),
            ControlMessage::View { .. }
            | ControlMessage::Decision { .. }
            | ControlMessage::State { .. }
            | ControlMessage::PromoteRequest
            | ControlMessage::PromoteReply { .. }
            | ControlMessage::Leave
            | ControlMessage::BeginAnew
            | ControlMessage::LeaveNoted { .. }
            | ControlMessage::Handover { .. }
            | ControlMessage::HandoverAnswer { .. }
            | ControlMessage::ForwardBegin { .. }
            | ControlMessage::ForwardReady { .. }
            | ControlMessage::ForwardDone { .. }
            | ControlMessage::ForwardEnd { .. } => unreachable!("dispatched by the link"),
        }
    }

    /// When the watch over the link has something to do.
    pub(crate) fn link_timeout(&self) -> Option<Timestamp> {
        let link = self.link.as_ref()?;
        let ping = match link.ping {
            Some(since) => since.max(link.last_received).after(self.config.ping_timeout),
            None => link.last_received.after(self.config.ping_interval),
        };
        let stalls =
            (!self.ops.is_empty() || self.epochs.peer_flush_since().is_some() || self.forwards_since().is_some())
                .then_some(link.next_stall_check);
        let handshake = link.handshake.as_ref().map(|handshake| handshake.deadline);
        [Some(ping), stalls, handshake].into_iter().flatten().min()
    }

    pub(crate) fn check_link(&mut self) {
        let (now, config) = (self.now, &self.config);
        let Some(link) = &mut self.link else { return };
        if let Some(since) = link.ping {
            if since.max(link.last_received).after(config.ping_timeout) <= now {
                return self.drop_link(LinkCause::PingTimeout);
            }
        } else if link.last_received.after(config.ping_interval) <= now {
            return self.ping();
        }
        if link.handshake.as_ref().is_some_and(|handshake| handshake.deadline <= now) {
            return self.handshake_takes_too_long();
        }
        if link.next_stall_check <= now {
            link.next_stall_check = now.after(limits::STALL_CHECK_INTERVAL);
            self.check_stalls();
        }
    }

    /// Since when the peer owes this node's clients an answer.
    fn forwards_since(&self) -> Option<Timestamp> {
        self.forwarding.as_ref().and_then(crate::forward::Forwarding::owed_since)
    }

    /// Asks for a sign of life within `ping-timeout`, if that isn't under way.
    pub(crate) fn ping(&mut self) {
        if self.link.as_ref().is_some_and(|link| link.ping.is_none()) {
            self.ping_anew();
        }
    }

    /// The same, also while another is under way: the answer comes after everything that the peer said to what it was told before.
    pub(crate) fn ping_anew(&mut self) -> Option<TransferId> {
        let now = self.now;
        let link = self.link.as_mut()?;
        link.ping.get_or_insert(now);
        let id = TransferId(link.next_ping);
        link.next_ping += 1;
        self.send(Message::Ping { id }, None);
        Some(id)
    }

    /// Looks at what the peer owes us.
    fn check_stalls(&mut self) {
        let Some(link) = &self.link else { return };
        let (received, pinged) = (link.last_received, link.ping.is_some());
        let Some(oldest) = self.peer_owes_since() else {
            // What is forwarded may wait for much there; but the peer is to live.
            let silent = |since: Timestamp| since.max(received).after(self.config.timeout) <= self.now;
            if self.forwards_since().is_some_and(silent) && !pinged {
                self.ping();
            }
            return;
        };
        if oldest.after(self.config.timeout * self.config.ko_count) <= self.now {
            self.drop_link(LinkCause::DiskStalled);
        } else if oldest.max(received).after(self.config.timeout) <= self.now && !pinged {
            self.ping();
        }
    }
}
