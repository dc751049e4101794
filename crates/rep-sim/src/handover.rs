//! Directed runs with an operator who hands the Primary role over under open devices, to and fro and under load, while links break
//! and daemons die: clients of both nodes go on, and the history judges what they see (decision 31).
//!
//! What is looked for: a forwarded write that is done twice and brings back what was overwritten; one that is lost; a flush
//! that isn't one; an error where there was no reason for one; a request that is never answered; two Primaries.

use crate::client::Outstanding;
use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::history::WriteRef;
use crate::plan::{ClientOp, LinkFault, Step};
use crate::rng::Rng;
use crate::swarm::{Beginning, MS, SECOND, Swarm, US, Weights};
use crate::world::World;
use rep_engine::{Command, IoSuspension, Notice};
use rep_types::{ConnectionState, DiskState, IoError, Role};
use rep_wire::{ControlMessage, Message};

/// Per mille of the seeds that have it.
const THEMED: u32 = 250;
/// Requests around a moment at which something happens.
const REQUESTS: u64 = 10;

/// What forwarding has come to in a run.
#[derive(Debug, Default)]
pub struct Handovers {
    /// The highest number each node has sent under its lease.
    sent: [u64; 2],
    /// Which life each node's peer was in when it began to forward.
    peer_life: [u32; 2],
    /// When each node took forwarded requests back whose Primary had died.
    taken_back_at: [Option<u64>; 2],
    /// The operator had waiting requests fail.
    given_up: bool,
    /// A copy was taken away by the operator: there may be no good data in reach.
    data_taken: bool,
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
        if rng.chance(600) {
            steps.push((at, Step::Handover));
        }
        // Something happens while it is under way, or while requests are forwarded.
        let then = at + rng.span(MS, 500 * MS);
        scene(steps, &mut rng, swarm, then);
    }
    steps.sort_by_key(|(at, _)| *at);
}

/// What happens at a moment, with requests around it on both nodes.
fn scene(steps: &mut Vec<(u64, Step)>, rng: &mut Rng, swarm: &Swarm, then: u64) {
    let trip = 2 * swarm.link_latency.1 + swarm.disk_latency.1;
    let requests = |steps: &mut Vec<(u64, Step)>, rng: &mut Rng, from: u64, span: u64| {
        for _ in 0..REQUESTS {
            steps.push((from + rng.below(span.max(1)), request(rng, swarm)));
        }
    };
    requests(steps, rng, then.saturating_sub(trip), 2 * trip);
    let for_ns = rng.span(MS, 3 * SECOND);
    match rng.below(16) {
        0..=2 => steps.push((then, Step::Link { fault: LinkFault::Reset, for_ns })),
        3 => steps.push((then, Step::Link { fault: LinkFault::MuteFrom(rng.below(2) as usize), for_ns })),
        4 | 5 => {
            // The Primary dies, and who forwarded to it takes the role back; or it is there again soon, and takes it.
            let (down_ns, power) = (rng.span(10 * MS, 4 * SECOND), rng.chance(400));
            steps.push((then, Step::CrashPrimary { down_ns, power }));
            let node = rng.below(2) as usize;
            steps.push((then + rng.span(100 * MS, 6 * SECOND), Step::Promote { node }));
        }
        6 | 7 => {
            // It goes on alone, and dies before they meet.
            steps.push((then, Step::Link { fault: LinkFault::Reset, for_ns: SECOND }));
            requests(steps, rng, then, 400 * MS);
            let (down_ns, power) = (rng.span(10 * MS, SECOND), rng.chance(400));
            steps.push((then + 600 * MS, Step::CrashPrimary { down_ns, power }));
            for (node, after) in [(0, 3), (1, 4)] {
                steps.push((then + after * SECOND, Step::Promote { node }));
            }
            requests(steps, rng, then + 3 * SECOND, 2 * SECOND);
        }
        8 => steps.push((then, if rng.chance(500) { Step::CloseForwarding } else { Step::GiveUpForwards })),
        9..=14 => {
            // A connection goes, and again while what the first took is sent again.
            for again in 0..3 {
                let at = then + again * (swarm.connect_interval + rng.below(2 * trip));
                steps.push((at, Step::Link { fault: LinkFault::Reset, for_ns: rng.span(MS, 20 * MS) }));
                requests(steps, rng, at.saturating_sub(trip / 2), trip);
                requests(steps, rng, at, 2 * trip);
            }
        }
        _ => {}
    }
    requests(steps, rng, then + for_ns, 3 * trip);
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
        match (step, primary) {
            (Step::Handover, Some(node)) if !self.nodes[node].closing => self.command(node, Command::Handover),
            (Step::CrashPrimary { down_ns, power }, Some(node)) => self.crash(node, power, down_ns),
            (Step::CloseForwarding, _) => {
                if let Some(node) = (0..2).find(|node| self.forwards(*node)) {
                    self.demote(node, false);
                }
            }
            (Step::GiveUpForwards, _) => {
                let waits = |node: &usize| {
                    self.snapshot(*node).is_some_and(|shown| shown.io_suspended == Some(IoSuspension::Forwarding))
                };
                if let Some(node) = (0..2).find(waits) {
                    self.operator.handovers.given_up = true;
                    self.command(node, Command::SuspendIo { suspended: false });
                }
            }
            _ => {}
        }
    }

    /// A command may leave clients without good data.
    pub(crate) fn note_data_taken(&mut self, command: &Command) {
        self.operator.handovers.data_taken |= matches!(
            command,
            Command::Detach { .. }
                | Command::Invalidate { .. }
                | Command::InvalidatePeer { .. }
                | Command::ResyncFull { .. }
                | Command::Outdate { .. }
        );
    }

    /// A node sends a message.
    pub(crate) fn note_forwarding(&mut self, node: usize, message: &Message) {
        let id = match message {
            Message::ForwardWrite { id, .. }
            | Message::ForwardZero { id, .. }
            | Message::ForwardRead { id, .. }
            | Message::ForwardFlush { id, .. } => id.0,
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

    fn note_forwarding_control(&mut self, node: usize, message: &ControlMessage) {
        match message {
            ControlMessage::ForwardReady { resumed: true, .. } => self.seen(Sometimes::ForwardResumed),
            ControlMessage::ForwardReady { resumed: false, .. } => {}
            ControlMessage::ForwardDone { results, .. } if !results.is_empty() => self.seen(Sometimes::ForwardRecalled),
            ControlMessage::ForwardEnd { .. } => self.seen(Sometimes::ForwardingClosed),
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

    /// A node's notice.
    pub(crate) fn handover_notice(&mut self, node: usize, notice: &Notice) {
        match notice {
            // Numbers begin anew with each lease.
            Notice::Forwarding { forwards: true } => {
                self.operator.handovers.sent[node] = 0;
                self.operator.handovers.peer_life[node] = self.nodes[1 - node].life;
            }
            Notice::Connection { to: ConnectionState::Connected, .. } => self.late_writes_are_done(1 - node),
            Notice::Forwarding { forwards: false } => {
                if self.peer_has_died(node) {
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

    /// Whether requests are failing just now that were forwarded to a Primary that died.
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

    /// What was on its way from a node has come, or never will.
    pub(crate) fn late_writes_are_done(&mut self, node: usize) {
        for (of, write) in std::mem::take(&mut self.clients.late) {
            if of == node {
                self.history.abandon_write(write);
            } else {
                self.clients.late.push((of, write));
            }
        }
    }

    /// A request on a device that forwards is answered.
    pub(crate) fn check_forwarded_answer(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        let node = asked.node;
        if !self.forwards(node) {
            return;
        }
        if result.is_ok() {
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
        let ends = self.nodes[node].closing || self.nodes[other].closing;
        let excused =
            self.operator.disks_failed || self.operator.handovers.data_taken || self.operator.handovers.given_up;
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
            let node = if self.dice.misc.chance(500) { node } else { 1 - node };
            return self.promote(node);
        }
        if gives_up {
            self.demote(node, false);
        }
    }
}
