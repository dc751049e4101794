//! The engine: holds the parts, hands each event to the feature it belongs to, and keeps the rare work moving.
//!
//! Nothing is decided here. Features are files: `write_path`, `read_path`, `epoch`, `peer_requests`, `metadata`,
//! `attach`, `link`, `handshake`, `resync/…`, `role`, `fencing`, `generation`, `loss`, `starved`, `resize`,
//! `relocation`, `handover`, `forward`, `forwarded`, `hung_disk`, `operator`.
//!
//! Rare work (attach, handshake, start and end of a resync, change of role) is written as steps that look at the state
//! and go on when what they wait for has become true. `progress` polls them after every event; nobody registers a
//! continuation, so nothing is lost when a disk or the link goes in the middle: the next poll sees that it has.

use crate::action::{Action, Notice, Why};
use crate::command::Side;
use crate::config::EngineConfig;
use crate::epoch::Epochs;
use crate::event::{Event, Timestamp};
use crate::fencing::Fence;
use crate::forward::Forwarding;
use crate::forwarded::Forwarded;
use crate::generation::GenerationSource;
use crate::hung_disk::AwakeClock;
use crate::link::Link;
use crate::operation::{Io, IoPurpose, Operation, Requester};
use crate::operator::Transition;
use crate::peer_requests::PeerRequest;
use crate::resync::Pacing;
use crate::slab::{Key, Slab};
use crate::volume::Volume;
use rep_types::planted;
use rep_types::{
    ConnectionState, DiskState, FenceAnswer, IoError, IoId, PayloadId, ReplicationState, Role, VolumeNumber,
};
use rep_wire::Message;
use std::collections::VecDeque;

/// An answer that waits until a loss is durable (R14), or the lost peer can't go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub requester: Requester,
    /// The operation, where it stays in the table until it is answered: it may have to be done again (`starved`).
    pub key: Option<Key>,
    /// The volume it is about; `None` for a request that names none.
    pub volume: Option<usize>,
    pub result: Result<(), IoError>,
    pub payload: Option<PayloadId>,
}

/// The engine of one resource on one node.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) now: Timestamp,
    /// The time this engine's shell was awake for.
    pub(crate) awake: AwakeClock,
    pub(crate) out: Vec<Action>,
    pub(crate) role: Role,
    pub(crate) peer_role: Option<Role>,
    pub(crate) connection: ConnectionState,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) link: Option<Link>,
    pub(crate) ops: Slab<Operation>,
    pub(crate) peer_requests: Slab<PeerRequest>,
    pub(crate) ios: Slab<Io>,
    pub(crate) epochs: Epochs,
    /// Operations nothing earlier stands in the way of; started at the end of the event.
    pub(crate) runnable: VecDeque<Key>,
    /// Client operations held back while I/O waits.
    pub(crate) gated: VecDeque<Key>,
    /// Writes from the peer held back while a generation is being written.
    pub(crate) gated_peer: VecDeque<Key>,
    pub(crate) held: Vec<Held>,
    /// Volumes with a loss being recorded.
    pub(crate) recording: u32,
    pub(crate) suspended: bool,
    pub(crate) transition: Option<Transition>,
    pub(crate) generations: GenerationSource,
    pub(crate) unblocked: Vec<Key>,
    pub(crate) next_cooling: Timestamp,
    /// When disks are looked at next for operations that don't come back.
    pub(crate) next_disk_check: Timestamp,
    /// When disks are measured next.
    pub(crate) next_measure: Timestamp,
    /// We agreed to the peer's promotion; until then we don't promote ourselves.
    pub(crate) promotion_granted_until: Option<Timestamp>,
    /// The peer asked to be Primary while a disk is being attached here: it is answered with that, or by then without.
    pub(crate) promotion_asked_until: Option<Timestamp>,
    /// Became Primary without the peer, and hasn't met it since.
    pub(crate) promoted_alone: bool,
    /// Clients were offered devices without a volatile cache (see `caches`).
    pub(crate) promised_stable: bool,
    /// The nodes were found to have gone on apart, and haven't joined since, whatever became of the connection.
    pub(crate) apart: bool,
    /// The peer's role as it told it when the nodes met last.
    pub(crate) peer_met: Option<Role>,
    /// Being demoted: no client request is taken any more.
    pub(crate) demoting: bool,
    /// A split brain's resolution came to nothing because this node's data could not be archived.
    pub(crate) archive_refused: bool,
    /// The before-resync-target handler said no, and nobody has asked for a connection since.
    pub(crate) resync_refused: bool,
    /// What is known of whether the peer can go on without us.
    pub(crate) fence: Fence,
    /// What the handler said last, since the peer was lost.
    pub(crate) fence_said: Option<FenceAnswer>,
    /// Clients are being held back for it.
    pub(crate) fence_held: bool,
    /// The peer was kept from going on, which may be taken back once it follows again.
    pub(crate) unfence_due: bool,
    /// Operators were told that client I/O waits.
    pub(crate) told_suspended: bool,
    /// The device is open here and its requests are forwarded, or about to be.
    pub(crate) forwarding: Option<Forwarding>,
    /// What is remembered of the requests the peer forwards.
    pub(crate) forwarded: Option<Forwarded>,
    /// How fast resyncs may go, for our clients' sake.
    pub(crate) pacing: Pacing,
    pub(crate) serial: u64,
}

impl Engine {
    /// An engine with nothing attached, StandAlone, Secondary.
    pub fn new(config: EngineConfig) -> Self {
        let volumes = config.volumes.iter().map(|number| Volume::new(*number)).collect();
        let generations = GenerationSource::new(config.seed);
        let pacing = Pacing::new(config.pace);
        Engine {
            config,
            now: Timestamp(0),
            awake: AwakeClock::default(),
            out: Vec::new(),
            role: Role::Secondary,
            peer_role: None,
            connection: ConnectionState::StandAlone,
            volumes,
            link: None,
            ops: Slab::new(),
            peer_requests: Slab::new(),
            ios: Slab::new(),
            epochs: Epochs::new(),
            runnable: VecDeque::new(),
            gated: VecDeque::new(),
            gated_peer: VecDeque::new(),
            held: Vec::new(),
            recording: 0,
            suspended: false,
            transition: None,
            generations,
            unblocked: Vec::new(),
            next_cooling: Timestamp(0),
            next_disk_check: Timestamp(0),
            next_measure: Timestamp(0),
            promotion_granted_until: None,
            promotion_asked_until: None,
            promoted_alone: false,
            promised_stable: false,
            apart: false,
            peer_met: None,
            demoting: false,
            archive_refused: false,
            resync_refused: false,
            fence: Fence::Apart,
            fence_said: None,
            fence_held: false,
            unfence_due: false,
            told_suspended: false,
            forwarding: None,
            forwarded: None,
            pacing,
            serial: 0,
        }
    }

    /// Takes an event; appends what is to be done to `actions`. `now` never goes back.
    pub fn handle(&mut self, now: Timestamp, event: Event, actions: &mut Vec<Action>) {
        self.awake.advance(now.since(self.now));
        self.now = self.now.max(now);
        std::mem::swap(&mut self.out, actions);
        self.dispatch(event);
        self.progress();
        std::mem::swap(&mut self.out, actions);
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::ClientWrite { request, volume, range, payload, fua } => {
                self.client_write(request, volume, range, payload, fua)
            }
            Event::ClientZero { request, volume, range, mode, fua } => {
                self.client_zero(request, volume, range, mode, fua)
            }
            Event::ClientRead { request, volume, range, payload } => self.client_read(request, volume, range, payload),
            Event::ClientFlush { request, volume } => self.client_flush_request(request, volume),
            Event::Openers { volume, count } => {
                if let Some(index) = self.volume_index(volume) {
                    self.volumes[index].openers = count;
                }
            }
            Event::Attached { id, volume, loaded, boot, traits, left } => {
                self.attached(id, volume, *loaded, boot, traits, left)
            }
            Event::DiskQueued { io } => self.disk_queued(io),
            Event::DiskBegun { io } => self.disk_begun(io),
            Event::DiskDone { io, result } => self.disk_done(io, result),
            Event::Digested { io, result } => self.digested(io, result),
            Event::Archived { io, result } => self.archived(io, result),
            Event::MetaDone { io, result } => self.meta_done(io, result),
            Event::DiskMeasured { volume, device_bytes, metadata_device_bytes } => {
                self.disk_measured(volume, device_bytes, metadata_device_bytes)
            }
            Event::LinkUp { session, features, digest_key } => self.link_up(session, features, *digest_key),
            Event::LinkDown { session, cause } => self.link_down(session, cause),
            Event::LinkAlive { session } => self.link_alive(session),
            Event::PeerMessage { session, message, payload } => self.peer_message(session, message, payload),
            Event::Command { id, command } => self.command(id, command),
            Event::CommandAbandoned { id } => self.command_abandoned(id),
            Event::FenceAnswered { id, answer } => self.fence_answered(id, answer),
            Event::ResyncAnswered { id, allowed } => self.resync_answered(id, allowed),
            Event::Timeout => self.check_timers(),
        }
    }

    /// Does what has become possible, until nothing more has.
    fn progress(&mut self) {
        loop {
            while let Some(key) = self.runnable.pop_front() {
                self.start_operation(key);
            }
            let mut moved = false;
            let connected = self.is_connected();
            let mut all_at_rest = true;
            for index in 0..self.volumes.len() {
                if self.volumes[index].is_at_rest(connected) {
                    self.assert_at_rest(index);
                } else {
                    all_at_rest = false;
                    moved |= self.progress_volume(index);
                }
            }
            if !all_at_rest || self.told_suspended {
                self.tell_starvation();
            }
            moved |= self.progress_handshake();
            moved |= self.progress_grant();
            moved |= self.progress_transition();
            moved |= self.progress_fence();
            moved |= self.progress_forwarding();
            if !moved && self.runnable.is_empty() {
                break;
            }
        }
    }

    /// Does what has become possible of one volume.
    pub(crate) fn progress_volume(&mut self, index: usize) -> bool {
        self.drive_metadata(index);
        self.progress_recording(index)
            | self.answer_disk_lost(index)
            | self.progress_attach(index)
            | self.progress_relocation(index)
            | self.progress_growth(index)
            | self.progress_resync(index)
            | self.progress_verify(index)
            | self.progress_repair(index)
            | self.progress_starved(index)
    }

    // ---- small helpers every feature uses ----

    pub(crate) fn volume_index(&self, number: VolumeNumber) -> Option<usize> {
        self.volumes.iter().position(|volume| volume.number == number)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection == ConnectionState::Connected && self.link.is_some()
    }

    /// Whether requests of the peer are served: also while either side takes its leave.
    pub(crate) fn is_serving_peer(&self) -> bool {
        self.link.is_some() && matches!(self.connection, ConnectionState::Connected | ConnectionState::Disconnecting)
    }

    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.out.push(Action::Notice(notice));
    }

    pub(crate) fn release(&mut self, payload: Option<PayloadId>) {
        if let Some(payload) = payload {
            self.out.push(Action::Release { payload });
        }
    }

    /// Sends on the standing connection; without one the message (and nothing else) is dropped.
    pub(crate) fn send(&mut self, message: impl Into<Message>, payload: Option<PayloadId>) {
        if let Some(link) = &self.link {
            self.out.push(Action::Send { session: link.session, message: message.into(), payload });
        }
    }

    pub(crate) fn new_io(&mut self, index: usize, purpose: IoPurpose) -> IoId {
        let attachment = self.volumes[index].attachment;
        let since = self.awake.now();
        IoId(self.ios.insert(Io { volume: index, attachment, purpose, since, queued: false }).0)
    }

    /// Flushes a disk, one flush at a time: of two at once one may fail and lose what the cache held, and the other then
    /// end well without it, and be heard of first (I-D6).
    pub(crate) fn flush_disk(&mut self, index: usize, purpose: IoPurpose) {
        let volume = &mut self.volumes[index];
        volume.flushes.push_back(purpose);
        if volume.flushes.len() == 1 {
            self.next_flush(index);
        }
    }

    /// A flush ended well: the next one may begin.
    pub(crate) fn flush_ended(&mut self, index: usize) {
        self.volumes[index].flushes.pop_front();
        self.next_flush(index);
    }

    fn next_flush(&mut self, index: usize) {
        let volume = &self.volumes[index];
        let Some(purpose) = volume.flushes.front().copied() else { return };
        let number = volume.number;
        let io = self.new_io(index, purpose);
        self.out.push(Action::FlushDisk { io, volume: number });
    }

    /// Answers a client, or keeps the answer until a loss is durable (R14) and the lost peer can't go on (F1).
    pub(crate) fn answer(
        &mut self,
        requester: Requester,
        volume: Option<usize>,
        result: Result<(), IoError>,
        payload: Option<PayloadId>,
    ) {
        // That something failed needn't wait for the peer: it promises nothing.
        let waits = self.recording > 0 || (result.is_ok() && self.answers_wait());
        if waits && !planted!("answer-not-held") {
            self.held.push(Held { requester, key: None, volume, result, payload });
        } else {
            self.tell(requester, result, payload);
        }
    }

    /// Tells who asked how it ended.
    fn tell(&mut self, requester: Requester, result: Result<(), IoError>, payload: Option<PayloadId>) {
        match requester {
            Requester::Client(request) => self.out.push(Action::Complete { request, result, payload }),
            Requester::Peer(forwarded) => self.answer_forwarded(forwarded, result, payload),
            Requester::Nobody => self.release(payload),
        }
    }

    pub(crate) fn set_connection(&mut self, to: ConnectionState, why: Why) {
        let from = std::mem::replace(&mut self.connection, to);
        self.follow_apart();
        if from != to {
            self.notice(Notice::Connection { from, to, why });
        }
    }

    pub(crate) fn set_role(&mut self, to: Role, why: Why) {
        let from = std::mem::replace(&mut self.role, to);
        if to == Role::Primary {
            self.volumes.iter_mut().for_each(|volume| volume.keep_from_repair(Side::Local));
        }
        if from != to {
            self.forwarding_takes_debts();
            self.volumes.iter_mut().for_each(|volume| volume.starved.owes_nothing());
            self.notice(Notice::Role { from, to, why });
        }
    }

    pub(crate) fn set_peer_role(&mut self, to: Option<Role>, why: Why) {
        let from = std::mem::replace(&mut self.peer_role, to);
        if to == Some(Role::Primary) {
            self.volumes.iter_mut().for_each(|volume| volume.keep_from_repair(Side::Peer));
        }
        if from != to {
            self.notice(Notice::PeerRole { from, to, why });
        }
    }

    pub(crate) fn set_disk(&mut self, index: usize, to: DiskState, why: Why) {
        let volume = &mut self.volumes[index];
        let (number, from) = (volume.number, std::mem::replace(&mut volume.disk, to));
        if from != to {
            self.notice(Notice::Disk { volume: number, from, to, why });
        }
    }

    pub(crate) fn set_peer_disk(&mut self, index: usize, to: DiskState, why: Why) {
        let volume = &mut self.volumes[index];
        let (number, from) = (volume.number, std::mem::replace(&mut volume.peer_disk, to));
        if matches!(to, DiskState::Diskless | DiskState::Failed) {
            volume.forget_compared();
        }
        if from != to {
            self.notice(Notice::PeerDisk { volume: number, from, to, why });
        }
    }

    pub(crate) fn set_replication(&mut self, index: usize, to: ReplicationState, why: Why) {
        let volume = &mut self.volumes[index];
        let (number, from) = (volume.number, std::mem::replace(&mut volume.replication, to));
        if from != to {
            self.notice(Notice::Replication { volume: number, from, to, why });
        }
    }
}
