//! The simulated shell: does what an engine asks for. The counterpart of `repd`'s data thread.

use crate::counters::Sometimes;
use crate::disk::Sectors;
use crate::failure::Kind;
use crate::node::{OpKind, Payload};
use crate::rng::mix;
use crate::swarm::MS;
use crate::thin::{self, Brought};
use crate::world::{Due, World};
use rep_engine::{Action, Notice, Offer, ReadInto, Why};
use rep_types::{ConnectionState, DiskState, LinkCause, PayloadId, ReplicationState, Role};
use std::rc::Rc;

/// What is written of a buffer: all of it, but where a range comes in runs.
fn values_for(sectors: Sectors, all: &Rc<Vec<u32>>, offset: u32, brought: Brought) -> Option<Rc<Vec<u32>>> {
    let (first, count) = ((offset / 512) as usize, sectors.count as usize);
    if first == 0 && count == all.len() {
        return Some(Rc::clone(all));
    }
    let part = all.get(first..first + count).filter(|_| matches!(brought, Brought::InRuns(_)))?;
    Some(Rc::new(part.to_vec()))
}

impl World {
    /// Does one action of a node's engine.
    pub(crate) fn perform(&mut self, node: usize, action: Action, brought: Brought) {
        self.digest(node, &action);
        match action {
            Action::WriteDisk { io, volume, range, payload, payload_offset, durable } => {
                let Some(Payload { sectors: all, resync }) = self.owned(node, payload) else { return };
                let sectors = Sectors::of(range);
                if durable && !resync && !self.swarm.stable {
                    self.note_through();
                }
                let brought = if resync { brought } else { Brought::Nothing };
                let Some(values) = values_for(sectors, &all, payload_offset, brought) else {
                    let detail = format!("node {node} writes {range:?} from {} sectors", all.len());
                    return self.fail(Kind::WrongData, "I-R7", detail);
                };
                self.submit(node, io, volume.0 as usize, OpKind::Write { sectors, values, durable }, brought);
            }
            Action::ZeroDisk { io, volume, range, durable, .. } => {
                let kind = OpKind::Zero { sectors: Sectors::of(range), durable };
                self.submit(node, io, volume.0 as usize, kind, brought);
            }
            Action::ReadDisk { io, volume, range, into } => {
                let into = match into {
                    ReadInto::Payload(payload) => Some(payload),
                    ReadInto::NewPayload => None,
                };
                let kind = OpKind::Read {
                    sectors: Sectors::of(range),
                    into,
                    values: Vec::new(),
                    clashes: false,
                    digests: false,
                };
                self.submit(node, io, volume.0 as usize, kind, Brought::Nothing);
            }
            Action::DigestDisk { io, volume, range, .. } => {
                let sectors = Sectors::of(range);
                let kind = OpKind::Read { sectors, into: None, values: Vec::new(), clashes: false, digests: true };
                self.submit(node, io, volume.0 as usize, kind, Brought::Nothing);
            }
            Action::FlushDisk { io, volume } => {
                let covers_later = self.dice.disk.chance(500);
                self.submit(node, io, volume.0 as usize, OpKind::Flush { covers_later }, Brought::Nothing);
            }
            Action::WriteMeta { io, volume, offset, block } => {
                self.submit(node, io, volume.0 as usize, OpKind::Meta { offset, block }, Brought::Nothing);
            }
            Action::Archive { io, volume, step } => self.archive(node, io, volume.0 as usize, step),
            Action::DropArchive { volume } => self.drop_archive(node, volume.0 as usize),
            Action::MeasureDisk { volume } => {
                let (life, volume) = (self.nodes[node].life, volume.0 as usize);
                self.after(MS, Due::Measured { node, life, volume });
            }
            Action::CloseDisk { volume } => {
                self.note_unsettled(node);
                self.nodes[node].volumes[volume.0 as usize].attached = false;
                self.disk_away(node, volume.0 as usize);
            }
            Action::Send { session, message, payload } => {
                self.note_comparison(node, &message);
                self.note_forwarding(node, &message);
                self.verify_sends(node, session.0, &message);
                self.send(node, session.0, &message, payload);
            }
            Action::WantLink { wanted } => self.want_link(node, wanted),
            Action::CloseLink { session, cause } => self.close_link(node, session.0, cause),
            Action::Complete { request, result, payload } => self.complete(node, request.0, result, payload),
            Action::Release { payload } => {
                if self.nodes[node].payloads.take_back(payload).is_none() {
                    self.fail(Kind::Crash, "payload", format!("node {node} releases {payload} it doesn't own"));
                }
            }
            Action::Export { volume, offer } => self.export(node, volume.0 as usize, offer),
            Action::CommandDone { id, result } => self.command_done(node, id.0, result),
            Action::FencePeer { id } => self.fence_asked(node, id),
            Action::AskBeforeResync { id, volume } => self.resync_asked(node, volume.0 as usize, id),
            Action::Notice(notice) => self.notice(node, notice),
        }
    }

    fn owned(&mut self, node: usize, id: PayloadId) -> Option<Payload> {
        let payload = self.nodes[node].payloads.get(id).cloned();
        if payload.is_none() {
            self.fail(Kind::Crash, "payload", format!("node {node} uses {id} it doesn't own"));
        }
        payload
    }

    fn send(&mut self, node: usize, session: u64, message: &rep_wire::Message, payload: Option<PayloadId>) {
        let sectors = match payload {
            None => None,
            Some(id) => match self.owned(node, id) {
                Some(payload) => Some(payload.sectors),
                None => return,
            },
        };
        let length = sectors.as_ref().map_or(0, |sectors| sectors.len() as u32 * 512);
        if length != message.buffer_length() {
            let detail = format!("node {node} sends {message:?} with {length} bytes");
            return self.fail(Kind::WrongData, "I-R7", detail);
        }
        sectors.iter().for_each(|sectors| self.check_thin(node, message, sectors));
        let whole = message.payload_length() == length;
        let content = sectors.map(|all| if whole { all } else { Rc::new(thin::payload_of(message, &all)) });
        self.send_message(node, session, message, content);
    }

    fn export(&mut self, node: usize, volume: usize, offer: Option<Offer>) {
        self.line(|| format!("node {node} vol {volume}: export {offer:?}"));
        self.check_offered(node, volume, offer.map(|offer| offer.size_bytes));
        if let Some(offer) = offer {
            self.note_told_of_cache(node, volume, offer);
            self.check_offered_blocks(node, volume, offer);
        }
        self.nodes[node].volumes[volume].exported = offer;
        if offer.is_some() {
            self.after(MS, Due::Open { node, volume });
        } else {
            self.nodes[node].volumes[volume].openers = 0;
        }
    }

    fn notice(&mut self, node: usize, notice: Notice) {
        self.line(|| format!("node {node} notice {notice:?}"));
        self.fence_notice(node, &notice);
        self.apart_notice(node, &notice);
        self.note_timed_out(node, &notice);
        self.verify_notice(node, &notice);
        self.note_starved(node, &notice);
        self.check_refused_alone(node, &notice);
        self.handover_notice(node, &notice);
        self.outcome_notice(node, &notice);
        match notice {
            Notice::Role { to: Role::Primary, .. } => {
                self.spoil_image(node);
                self.became_primary(node);
            }
            // Its device is gone, and with it who was owed a word; also where nobody waits for the demotion any more.
            Notice::Role { to: Role::Secondary, .. } if !self.forwards(node) => self.forget_owed(node),
            Notice::Connection { to: ConnectionState::StandAlone, why: Why::Handshake, .. } => self.refused(node),
            Notice::Connection {
                to: ConnectionState::SplitBrain | ConnectionState::UnrelatedData,
                why: Why::Handshake,
                ..
            } => {
                self.refused(node);
                self.seen(Sometimes::SplitBrain);
                self.split_brain_seen(node);
            }
            Notice::Replication { volume, from, to, .. } => self.replication_changed(node, volume.0 as usize, from, to),
            Notice::Decided { volume, decision, .. } => {
                self.counters.rule(decision.rule);
                self.forget_permission(node, volume.0 as usize);
                self.nodes[node].decided_at = self.now;
                self.check_older(node, volume.0 as usize, decision);
                self.note_victim(node, volume.0 as usize, decision);
                self.decided(node, volume.0 as usize, decision);
            }
            Notice::Disk { volume, from, to: DiskState::UpToDate, .. } => {
                self.note_filled(node, volume.0 as usize, from);
                self.copy_troubled(volume.0 as usize);
                // Whatever it takes for its own by now must be there.
                self.nodes[node].volumes[volume.0 as usize].data.look_again();
            }
            Notice::Disk { volume, from: DiskState::UpToDate, .. } => self.copy_troubled(volume.0 as usize),
            Notice::DecisionMismatch { mine, peer, .. } => {
                let detail = format!("node {node} decided {mine:?}, its peer {peer:?}");
                self.fail(Kind::WrongData, "I-G1", detail);
            }
            Notice::CrashRecovered { hot_extents, .. } => {
                self.seen(Sometimes::CrashRecovered);
                if hot_extents > 0 {
                    self.seen(Sometimes::HotAtCrash);
                }
            }
            Notice::ErrorPassedOn { volume, write, range } => {
                self.error_passed_on(node, volume.0 as usize, write, range);
            }
            Notice::ResyncNotAllowed { .. } => self.seen(Sometimes::ResyncNotAllowed),
            Notice::PrimaryIsBehind => self.seen(Sometimes::PrimaryIsBehind),
            Notice::Grown { .. } => self.seen(Sometimes::Grown),
            Notice::BlocksGrown { .. } => self.seen(Sometimes::BlocksGrown),
            Notice::MetadataDamaged { volume } => self.check_damaged(node, volume.0 as usize),
            Notice::ResyncFinished { volume, copied_bytes, .. } => {
                self.seen(Sometimes::ResyncFinished);
                self.resync_finished(node, volume.0 as usize, copied_bytes);
            }
            Notice::VerifyFinished { volume, different_bytes, marked_bytes } => {
                self.verify_marks(node, volume.0 as usize, different_bytes, marked_bytes);
                self.verify_finished(node, volume.0 as usize, different_bytes);
            }
            _ => {}
        }
    }

    /// A handshake ended in a refusal.
    fn refused(&mut self, node: usize) {
        self.seen(Sometimes::DecisionRefused);
        let Some(snapshot) = self.snapshot(node) else { return };
        for decision in snapshot.volumes.iter().filter_map(|volume| volume.last_decision) {
            self.counters.rule(decision.rule);
        }
    }

    fn replication_changed(&mut self, node: usize, volume: usize, from: ReplicationState, to: ReplicationState) {
        self.strain_source(node, volume, to);
        if to.is_resync() && !from.is_resync() {
            self.seen(Sometimes::ResyncStarted);
            if self.snapshot(node).is_some_and(|s| s.role == Role::Primary) && to.is_target() {
                self.seen(Sometimes::PrimaryWasTarget);
            }
        }
        if from.is_target() && !to.is_target() {
            // Whose overwriting never began keeps its data, and may write to them again.
            self.victims[node][volume] = None;
        }
        if from.is_resync() && to == ReplicationState::Off {
            self.seen(Sometimes::ResyncInterrupted);
        }
    }

    /// What an engine shows of itself.
    pub fn snapshot(&self, node: usize) -> Option<rep_engine::Snapshot> {
        let engine = self.nodes[node].engine.as_ref()?;
        Some(engine.snapshot(self.clock(node)))
    }

    pub(crate) fn count_close(&mut self, cause: LinkCause) {
        match cause {
            LinkCause::PingTimeout => self.seen(Sometimes::PingTimeout),
            LinkCause::DiskStalled => self.seen(Sometimes::DiskStalled),
            _ => {}
        }
    }

    /// Adds an action to the trace's hash (and some to its lines).
    fn digest(&mut self, node: usize, action: &Action) {
        let value = match action {
            Action::WriteDisk { io, range, payload, .. } => mix(io.0 ^ range.offset) ^ u64::from(payload.0),
            Action::ZeroDisk { io, range, .. } | Action::ReadDisk { io, range, .. } => mix(io.0 ^ range.offset) ^ 1,
            Action::FlushDisk { io, .. } => mix(io.0) ^ 2,
            Action::WriteMeta { io, offset, .. } => mix(io.0 ^ offset) ^ 3,
            Action::Complete { request, result, .. } => mix(request.0) ^ u64::from(result.is_ok()),
            Action::Release { payload } => mix(u64::from(payload.0)) ^ 4,
            Action::Send { session, message, .. } => mix(session.0) ^ u64::from(message.payload_length()),
            Action::CommandDone { id, .. } => mix(id.0) ^ 5,
            Action::Archive { io, .. } => mix(io.0) ^ 7,
            _ => 6,
        };
        self.trace.mix(value ^ ((node as u64) << 63));
        if self.trace.on && !matches!(action, Action::Notice(_) | Action::Release { .. } | Action::Export { .. }) {
            self.line(|| format!("node {node} -> {action:?}"));
        }
    }

    /// A payload for the engine.
    pub(crate) fn give(&mut self, node: usize, sectors: Rc<Vec<u32>>, resync: bool) -> PayloadId {
        self.nodes[node].payloads.give(Payload { sectors, resync })
    }
}
