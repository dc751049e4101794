//! Directed runs with an operator who hands the Primary role over under open devices, to and fro and under load, while links break
//! and daemons die: clients of both nodes go on, and the history judges what they see (decision 31).
//!
//! What is looked for: a forwarded write that is done twice and brings back what was overwritten; one that is lost; a flush
//! that isn't one; an error where there was no reason for one; a request that is never answered; two Primaries.

use crate::blocks;
use crate::client::Outstanding;
use crate::counters::Sometimes;
use crate::disk::Sectors;
use crate::failure::Kind;
use crate::history::WriteRef;
use crate::plan::{ClientOp, DiskFault, LinkFault, Step};
use crate::rng::Rng;
use crate::swarm::{Beginning, MS, SECOND, Swarm, US, Weights};
use crate::world::{Due, World};
use rep_engine::{Command, CommandError, CommandOutcome, IoSuspension, Notice};
use rep_types::{ConnectionState, DiskState, IoError, Refusal, Role, SECTOR_SIZE};
use rep_wire::{ControlMessage, Message};
use std::collections::BTreeMap;

/// Per mille of the seeds that have it.
const THEMED: u32 = 250;
/// Requests around a moment at which something happens.
const REQUESTS: u64 = 10;
/// How long, and how often, an operator waits until a handover is possible.
const LOOK_PAUSE: u64 = 10 * MS;
const LOOKS_MAX: u32 = 1000;

/// What forwarding has come to in a run.
#[derive(Debug, Default)]
pub struct Handovers {
    /// The highest number each node has sent under its lease.
    sent: [u64; 2],
    /// The writes each node has sent under its lease: number, volume, where, and when first.
    writes: [BTreeMap<u64, (usize, Sectors, u64)>; 2],
    /// Which life each node's peer was in when it began to forward.
    peer_life: [u32; 2],
    /// When each node took forwarded requests back whose Primary had died.
    taken_back_at: [Option<u64>; 2],
    /// Whether a node has told the other to be Primary since it forwards.
    gave: [bool; 2],
    /// The operator had a node's waiting requests fail, and none has been done since.
    given_up: [bool; 2],
}

impl Handovers {
    /// The Primary that a node's requests went to has died: it does none of them any more.
    pub(crate) fn forget_asked(&mut self, node: usize) {
        self.writes[node].clear();
    }
}

fn has(swarm: &Swarm) -> Option<Rng> {
    let mut rng = Rng::new(swarm.seed).fork(51);
    rng.chance(THEMED).then_some(rng)
}

/// Gives a swarm what it takes, if its seed is one of those: few blocks, so that clients of both nodes meet on them.
pub fn draw(swarm: &mut Swarm) {
    let Some(mut rng) = has(swarm) else { return };
    let focus = rng.between(1, 6) as usize;
    swarm.focus_blocks.truncate(focus);
    swarm.connect_interval = rng.span(10 * MS, SECOND);
    if rng.chance(700) {
        // What happens elsewhere meanwhile is rare: roles and links are what changes.
        let client = swarm.weights.client;
        swarm.weights = Weights { client, ..Weights::default() };
        swarm.beginning = Beginning::SkipSync;
    }
    if rng.chance(200) {
        swarm.part_nodes(&mut rng, (5 * MS, 20 * MS));
    } else if rng.chance(700) {
        // A connection is back before what it took has been done.
        swarm.disk_latency = (2 * MS, rng.span(10 * MS, 60 * MS));
        swarm.link_latency = (20 * US, rng.span(100 * US, MS));
        swarm.connect_interval = 10 * MS;
    }
}

/// Puts handovers, and what is to meet them, among a run's other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let Some(mut rng) = has(swarm).map(|rng| rng.fork(1)) else { return };
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    for _ in 0..rng.between(3, 25) {
        let at = rng.pick(&times);
        let draw = rng.bits();
        steps.push((at, if rng.chance(700) { Step::Handover { draw } } else { Step::WhileForwarding { draw } }));
    }
    steps.sort_by_key(|(at, _)| *at);
}

/// What happens from a moment on, with requests around it on both nodes: times and steps.
struct Scene<'a> {
    steps: Vec<(u64, Step)>,
    rng: Rng,
    swarm: &'a Swarm,
    /// A request's way to the peer and its disk and back, at most.
    trip: u64,
}

impl Scene<'_> {
    /// The scene a draw stands for, `hands_over` at its beginning or long after that.
    fn drawn(draw: u64, swarm: &Swarm, hands_over: bool) -> Vec<(u64, Step)> {
        let mut rng = Rng::new(draw);
        let trip = 2 * swarm.link_latency.1 + swarm.disk_latency.1;
        // In the middle of it, or while requests are forwarded.
        let then = if hands_over && rng.chance(500) { rng.below(6 * trip) } else { rng.span(MS, 500 * MS) };
        let mut scene = Scene { steps: Vec::new(), rng, swarm, trip };
        if hands_over {
            scene.requests(0, trip);
        }
        scene.play(then);
        scene.steps
    }

    fn push(&mut self, at: u64, step: Step) {
        self.steps.push((at, step));
    }

    fn requests(&mut self, from: u64, span: u64) {
        for _ in 0..REQUESTS {
            let (at, request) = (from + self.rng.below(span.max(1)), request(&mut self.rng, self.swarm));
            self.push(at, request);
        }
    }

    fn play(&mut self, then: u64) {
        let trip = self.trip;
        self.requests(then.saturating_sub(trip), 2 * trip);
        let for_ns = self.rng.span(MS, 3 * SECOND);
        match self.rng.below(20) {
            0..=2 => self.push(then, Step::Link { fault: LinkFault::Reset, for_ns }),
            3 => {
                let fault = LinkFault::MuteFrom(self.rng.below(2) as usize);
                self.push(then, Step::Link { fault, for_ns });
            }
            4 | 5 => self.primary_dies(then),
            6 | 7 => self.goes_on_alone_and_dies(then),
            8 => {
                let step = if self.rng.chance(500) { Step::CloseForwarding } else { Step::GiveUpForwards };
                self.push(then, step);
            }
            9..=13 => self.link_goes_again_and_again(then),
            14 => self.disk_is_serviced(then),
            15 => {
                // Who forwards dies, and its device with it.
                let (down_ns, power) = (self.rng.span(10 * MS, 4 * SECOND), self.rng.chance(400));
                self.push(then, Step::CrashForwarder { down_ns, power });
            }
            16 | 17 => {
                // Who is about to take the role dies, or a disk fails on which that is being recorded.
                let at = self.rng.below(6 * trip);
                let (down_ns, power) = (self.rng.span(10 * MS, 4 * SECOND), self.rng.chance(400));
                let (node, volume) = (self.rng.below(2) as usize, self.rng.below(self.swarm.volumes as u64) as usize);
                let fails = Step::Disk { node, volume, fault: DiskFault::MetaOnce };
                let step = if self.rng.chance(500) { Step::CrashTaker { down_ns, power } } else { fails };
                self.push(at, step);
            }
            _ => {}
        }
        self.requests(then + for_ns, 3 * trip);
    }

    /// The Primary dies, and who forwarded to it takes the role back; or it is there again soon, and takes it.
    fn primary_dies(&mut self, then: u64) {
        let (down_ns, power) = (self.rng.span(10 * MS, 4 * SECOND), self.rng.chance(400));
        self.push(then, Step::CrashPrimary { down_ns, power });
        let node = self.rng.below(2) as usize;
        let at = then + self.rng.span(100 * MS, 6 * SECOND);
        self.push(at, Step::Promote { node });
    }

    /// It goes on alone, and dies before they meet.
    fn goes_on_alone_and_dies(&mut self, then: u64) {
        self.push(then, Step::Link { fault: LinkFault::Reset, for_ns: SECOND });
        self.requests(then, 400 * MS);
        let (down_ns, power) = (self.rng.span(10 * MS, SECOND), self.rng.chance(400));
        self.push(then + 600 * MS, Step::CrashPrimary { down_ns, power });
        for (node, after) in [(0, 3), (1, 4)] {
            self.push(then + after * SECOND, Step::Promote { node });
        }
        self.requests(then + 3 * SECOND, 2 * SECOND);
    }

    /// A connection goes, and again while what the first took is sent again.
    fn link_goes_again_and_again(&mut self, then: u64) {
        let trip = self.trip;
        for again in 0..3 {
            let at = then + again * (self.swarm.connect_interval + self.rng.below(2 * trip));
            let for_ns = self.rng.span(MS, 20 * MS);
            self.push(at, Step::Link { fault: LinkFault::Reset, for_ns });
            self.requests(at.saturating_sub(trip / 2), trip);
            self.requests(at, 2 * trip);
        }
    }

    /// The disk beside the open device is taken away, and comes back with a resync.
    fn disk_is_serviced(&mut self, then: u64) {
        let volume = self.rng.below(self.swarm.volumes as u64) as usize;
        let for_ns = self.rng.span(10 * MS, SECOND);
        self.push(then, Step::ServiceForwarder { volume, for_ns });
        self.requests(then, for_ns);
        if self.rng.chance(500) {
            self.last_disk_fails(then + for_ns / 2, volume);
        }
    }

    /// The only disk there is fails a flush, so that what was answered before is lost, and is put back: clients of both nodes are
    /// to be told.
    fn last_disk_fails(&mut self, then: u64, volume: usize) {
        let trip = self.trip;
        self.requests(then.saturating_sub(trip), trip);
        let for_ns = self.rng.span(MS, SECOND);
        self.push(then, Step::FailPrimaryFlush { volume, for_ns });
        for after in [0, SECOND, 2 * SECOND] {
            for client in 0..2 {
                let at = then + after + self.rng.below(trip.max(1));
                self.push(at, Step::Client { volume, client, op: ClientOp::Flush });
            }
        }
    }
}

fn request(rng: &mut Rng, swarm: &Swarm) -> Step {
    let first = rng.pick(&swarm.focus_blocks) * 8;
    let op = match rng.below(10) {
        0..=4 => ClientOp::Write { first, count: 8, fua: rng.chance(100) },
        5..=8 => ClientOp::Read { first, count: 8 },
        _ => ClientOp::Flush,
    };
    Step::Client { volume: rng.below(swarm.volumes as u64) as usize, client: rng.below(3) as u32, op }
}

impl World {
    /// Whether a node's device is open without its having the role.
    pub(crate) fn forwards(&self, node: usize) -> bool {
        self.snapshot(node).is_some_and(|shown| shown.role == Role::Secondary && shown.forwarding.is_some())
    }

    /// Whether a node may become Primary by something that is under way: a cluster manager doesn't promote the other then.
    pub(crate) fn takes_a_role(&self, node: usize) -> bool {
        let hands_over = |pending: &crate::operator::Pending| pending.command == Some(Command::Handover);
        let asked = self.operator.pending.values().any(|pending| pending.node == node && hands_over(pending));
        asked || self.snapshot(node).is_some_and(|shown| shown.promoting)
    }

    /// The steps of this theme.
    pub(crate) fn handover_step(&mut self, step: Step) {
        let primary = (0..2).find(|node| self.role(*node) == Role::Primary);
        let forwarder = (0..2).find(|node| self.forwards(*node));
        match (step, primary, forwarder) {
            (Step::Handover { draw }, ..) => self.hand_over_soon(draw, 0),
            (Step::WhileForwarding { draw }, _, Some(_)) => self.play(draw, false),
            (Step::CrashPrimary { down_ns, power }, Some(node), _) => self.crash(node, power, down_ns),
            (Step::CrashForwarder { down_ns, power }, _, Some(node)) => self.crash(node, power, down_ns),
            (Step::CrashTaker { down_ns, power }, ..) => {
                let mut pending = self.operator.pending.values();
                let gives =
                    pending.find(|pending| pending.command == Some(Command::Handover)).map(|pending| pending.node);
                if let Some(node) = gives {
                    self.crash(1 - node, power, down_ns);
                }
            }
            (Step::CloseForwarding, _, Some(node)) => self.demote(node, false),
            (Step::ServiceForwarder { volume, for_ns }, _, Some(node)) if self.nodes[node].volumes[volume].attached => {
                self.seen(Sometimes::ForwarderServiced);
                self.command(node, Command::Detach { volume: Self::number(volume), force: false });
                self.after(for_ns, Due::Attach { node, volume });
            }
            (Step::FailPrimaryFlush { volume, for_ns }, Some(node), _) => {
                self.break_disk(node, volume, DiskFault::FlushOnce);
                self.after(for_ns, Due::Attach { node, volume });
            }
            (Step::GiveUpForwards, ..) => {
                if let Some(node) = (0..2).find(|node| self.forwards_wait(*node)) {
                    self.command(node, Command::SuspendIo { suspended: false });
                }
            }
            _ => {}
        }
    }

    /// Hands the role over as soon as that would not be refused, as an operator does who looks at the status first; now and then
    /// without a look. Nobody Primary: then somebody is to be.
    pub(crate) fn hand_over_soon(&mut self, draw: u64, tries: u32) {
        if self.operator.healing || tries > LOOKS_MAX {
            return;
        }
        let primary = (0..2).find(|node| self.role(*node) == Role::Primary);
        let unseen = draw.is_multiple_of(8);
        if let Some(node) = primary.filter(|node| !self.nodes[*node].closing && (unseen || self.may_hand_over(*node))) {
            self.command(node, Command::Handover);
            return self.play(draw, true);
        }
        if primary.is_none() && tries % 20 == 19 {
            self.promote(((draw >> 8) + u64::from(tries / 20)) as usize % 2);
        }
        self.after(LOOK_PAUSE, Due::Handover { draw, tries: tries + 1 });
    }

    fn may_hand_over(&self, node: usize) -> bool {
        let idle = self.operator.pending.is_empty() && !self.nodes[1 - node].closing;
        let ready = |shown: rep_engine::Snapshot| {
            let mirrored = shown.volumes.iter().all(|volume| volume.peer_disk == DiskState::UpToDate);
            shown.connection == ConnectionState::Connected && shown.io_suspended.is_none() && mirrored
        };
        idle && self.snapshot(node).is_some_and(ready)
    }

    /// Plays a scene from now on.
    fn play(&mut self, draw: u64, hands_over: bool) {
        for (after, step) in Scene::drawn(draw, &self.swarm, hands_over) {
            self.after(after, Due::Scene(step));
        }
    }

    /// A handover's command is answered.
    pub(crate) fn handover_ended(&mut self, node: usize, result: &Result<CommandOutcome, CommandError>) {
        let primary = self.role(node) == Role::Primary;
        match result {
            Ok(_) if self.role(1 - node) == Role::Primary => self.seen(Sometimes::HandedOver),
            Ok(_) => {}
            Err(CommandError::PeerLost) => self.seen(Sometimes::HandoverCutShort),
            Err(CommandError::Refused(Refusal::PeerNotPromoted)) => self.seen(Sometimes::HandoverUndone),
            Err(_) => {}
        }
        match primary {
            true => self.seen(Sometimes::HandoverFailed),
            false if self.role(1 - node) != Role::Primary => self.seen(Sometimes::HandoverUnknown),
            false => {}
        }
    }

    /// A daemon is about to die.
    pub(crate) fn note_handover_dies(&mut self, node: usize) {
        let hands_over = |of: usize| {
            let mut pending = self.operator.pending.values();
            pending.any(|pending| pending.node == of && pending.command == Some(Command::Handover))
        };
        if hands_over(node) {
            self.seen(Sometimes::HandoverDied);
        } else if hands_over(1 - node) && self.snapshot(node).is_some_and(|shown| shown.promoting) {
            self.seen(Sometimes::HandoverTakenOverDied);
        }
    }

    /// A node sends a message.
    pub(crate) fn note_forwarding(&mut self, node: usize, message: &Message) {
        let id = match message {
            Message::ForwardWrite { id, volume, range, .. } | Message::ForwardZero { id, volume, range, .. } => {
                let sector = |bytes: u64| (bytes / SECTOR_SIZE) as u32;
                let sectors = Sectors { first: sector(range.offset), count: sector(u64::from(range.length)) };
                let write = (volume.0 as usize, sectors, self.now);
                self.operator.handovers.writes[node].entry(id.0).or_insert(write);
                id.0
            }
            Message::ForwardRead { id, .. } | Message::ForwardFlush { id, .. } => id.0,
            Message::ForwardAck { id, result } => return self.judge_forwarded_answer(node, id.0, result.is_ok()),
            Message::Control(control) => return self.note_forwarding_control(node, control),
            _ => return,
        };
        let sent = &mut self.operator.handovers.sent[node];
        if id <= *sent {
            self.seen(Sometimes::ForwardedAgain);
        } else {
            *sent = id;
        }
    }

    /// A Primary tells that it has done a write: that is when each disk must have it, or be marked.
    fn judge_forwarded_answer(&mut self, node: usize, id: u64, well: bool) {
        if let Some((volume, sectors, at)) = self.operator.handovers.writes[1 - node].remove(&id) {
            if well {
                self.check_answered(node, volume, sectors, at);
            }
            if self.clients.late.iter().any(|(of, _)| *of != node) {
                self.late_writes_are_done(1 - node);
            }
        }
    }

    fn note_forwarding_control(&mut self, node: usize, message: &ControlMessage) {
        match message {
            ControlMessage::ForwardReady { resumed: true, .. } => self.seen(Sometimes::ForwardResumed),
            ControlMessage::ForwardReady { resumed: false, .. } => {}
            ControlMessage::ForwardDone { results, .. } if !results.is_empty() => {
                self.seen(Sometimes::ForwardRecalled);
                for (id, result) in results {
                    self.judge_forwarded_answer(node, id.0, result.is_ok());
                }
            }
            ControlMessage::ForwardEnd { .. } => self.seen(Sometimes::ForwardingClosed),
            ControlMessage::Handover { step: rep_wire::HandoverStep::Go }
                if std::mem::replace(&mut self.operator.handovers.gave[node], true) =>
            {
                self.check_role_given_again(node);
            }
            ControlMessage::Handover { step: rep_wire::HandoverStep::Cancel } => {
                self.seen(Sometimes::HandoverCancelled);
            }
            ControlMessage::ForwardBegin { .. } => {
                self.seen(Sometimes::ForwardingBegun);
                if self.history.forked {
                    return;
                }
                let both = self.clients.outstanding.values().any(|asked| asked.node == node)
                    && self.clients.outstanding.values().any(|asked| asked.node != node);
                if both {
                    self.seen(Sometimes::ClientsOnBoth);
                }
            }
            _ => {}
        }
    }

    /// A node tells the other once more to be Primary, which may have gone on alone since: the newest data are on a disk that one of them
    /// has (H3).
    fn check_role_given_again(&mut self, node: usize) {
        let missing = (0..self.swarm.volumes).find(|volume| !self.newest_is_attached(*volume));
        if let Some(volume) = missing.filter(|_| !self.history.forked) {
            let detail = format!(
                "node {node} gives the role away again, and the newest data of volume {volume} are on no disk in reach"
            );
            self.fail(Kind::WrongData, "I-G6", detail);
        }
    }

    /// A node's notice.
    pub(crate) fn handover_notice(&mut self, node: usize, notice: &Notice) {
        match notice {
            // Numbers begin anew with each lease.
            Notice::Forwarding { forwards: true } => {
                self.operator.handovers.sent[node] = 0;
                self.operator.handovers.gave[node] = false;
                self.operator.handovers.writes[node].clear();
                self.operator.handovers.peer_life[node] = self.nodes[1 - node].life;
            }
            Notice::Connection { to: ConnectionState::Connected, .. } => self.late_writes_are_done(1 - node),
            Notice::Forwarding { forwards: false } => {
                // By force it is taken from one that has gone on alone since, and may have done them.
                if self.peer_has_died(node) || self.forces(node) {
                    self.operator.handovers.taken_back_at[node] = Some(self.now);
                    self.loss_may_be_told(node);
                }
                let waiting = self.clients.outstanding.values().any(|asked| asked.node == node);
                if waiting && self.role(node) == Role::Primary {
                    self.seen(Sometimes::ForwardsTakenBack);
                }
            }
            _ => {}
        }
    }

    /// Whether the daemon a node began to forward to has died.
    fn peer_has_died(&self, node: usize) -> bool {
        let other = &self.nodes[1 - node];
        other.life != self.operator.handovers.peer_life[node] || !other.is_up()
    }

    /// Whether requests are failing just now that were forwarded to a Primary that died, or from which the role is taken by force.
    pub(crate) fn was_taken_back_in_doubt(&self, node: usize) -> bool {
        self.operator.handovers.taken_back_at[node] == Some(self.now)
    }

    /// A write is nobody's any more. One that was forwarded may be on its way still, and be done after that.
    pub(crate) fn give_up_write(&mut self, node: usize, write: WriteRef) {
        if self.forwards(node) {
            self.clients.late.push((node, write));
        } else {
            self.history.abandon_write(write);
        }
    }

    /// What was on its way from a node has come, or never will; but its Primary may have it still to do.
    pub(crate) fn late_writes_are_done(&mut self, node: usize) {
        for (of, write) in std::mem::take(&mut self.clients.late) {
            let sectors = Sectors { first: write.first, count: write.count };
            let mut asked = self.operator.handovers.writes[of].values();
            let undone = asked.any(|(volume, at, _)| (*volume, *at) == (write.volume, sectors));
            if of == node && !undone {
                self.clients.count_blocks(write);
                self.history.abandon_write(write);
            } else {
                self.clients.late.push((of, write));
            }
        }
    }

    /// Whether a node's clients wait for a Primary that takes their requests.
    fn forwards_wait(&self, node: usize) -> bool {
        self.snapshot(node).is_some_and(|shown| shown.io_suspended == Some(IoSuspension::Forwarding))
    }

    /// I/O is resumed on a node that forwards and waits, whatever made the operator say so: what waits fails.
    pub(crate) fn note_forwards_given_up(&mut self, node: usize, command: &Command) {
        let resumes = *command == Command::SuspendIo { suspended: false };
        self.operator.handovers.given_up[node] |= resumes && self.forwards_wait(node);
    }

    /// A request on a device that forwards is answered.
    pub(crate) fn check_forwarded_answer(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        let node = asked.node;
        let writes = matches!(asked.op, ClientOp::Write { .. } | ClientOp::Zero { .. });
        if !self.forwards(node) {
            if writes && result.is_ok() && self.forwards(1 - node) && !self.is_connected(node) {
                self.seen(Sometimes::ForwardedPast);
            }
            return;
        }
        if result.is_ok() {
            self.operator.handovers.given_up[node] = false;
            return self.seen(match asked.op {
                ClientOp::Read { .. } => Sometimes::ForwardedRead,
                ClientOp::Flush => Sometimes::ForwardedFlush,
                ClientOp::Write { .. } | ClientOp::Zero { .. } => Sometimes::ForwardedWrite,
            });
        }
        self.seen(Sometimes::ForwardedError);
        let other = 1 - node;
        // The Primary's daemon has died since, or there may be no good data, or the operator wanted it.
        let died = self.peer_has_died(node);
        if writes && died && self.is_connected(node) {
            self.seen(Sometimes::ForwardInDoubt);
        }
        let ends = self.nodes[node].closing || self.nodes[other].closing;
        let excused = self.was_troubled(asked) || self.operator.handovers.given_up[node];
        let parts = self.snapshot(other).is_some_and(|shown| shown.io_suspended.is_some());
        let good = self.snapshot(other).is_some_and(|shown| shown.volumes[asked.volume].disk == DiskState::UpToDate);
        if good && !(died || ends || excused || parts || self.history.forked || self.may_be_told(asked)) {
            let detail = format!("node {node} forwards {:?} and answers {result:?}; nothing had failed", asked.op);
            self.fail(Kind::WrongData, "I-F1", detail);
        }
    }

    /// Nobody serves a device that is open: in the end somebody is made Primary.
    pub(crate) fn mend_forwarding(&mut self, gives_up: bool) {
        let Some(node) = (0..2).find(|node| self.forwards(*node)) else { return };
        if self.role(1 - node) != Role::Primary {
            if gives_up && self.snapshot(node).is_some_and(|state| blocks::is_refused(&state)) {
                // Neither node has data that are surely the newest, and the new disk's blocks are too large for this device: it is closed.
                self.command(node, Command::SuspendIo { suspended: false });
                return self.demote(node, false);
            }
            let node = if self.dice.misc.chance(500) { node } else { 1 - node };
            return self.promote(node);
        }
        if gives_up {
            self.demote(node, false);
        }
    }
}
