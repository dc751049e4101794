//! The operator: commands at random times, and the arbiter that keeps a pair from splitting unless the run is to.
//!
//! The arbiter stands for the cluster manager: it never makes a node Primary while the other may be, nor one whose
//! data it knows to be old. It is told by `truth`, not by an engine. Everything else the engines must refuse
//! themselves.

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::{DiskFault, Step};
use crate::swarm::{Beginning, MS, SECOND};
use crate::world::{Due, World};
use rep_engine::{Command, CommandError, CommandOutcome, Event, Side};
use rep_types::{CommandId, ConnectionState, Refusal, Role};
use std::collections::BTreeMap;

/// How long an operator waits for a command.
const PATIENCE: u64 = 30 * SECOND;

/// How long a command to give a copy up may take to have its effect: patience, and the longest a disk hangs.
const GIVING_UP_LASTS: u64 = 95 * SECOND;
/// Per mille of the promotions without a look at the node that is away, in runs where data may fork.
const CARELESS: u32 = 100;
/// Per mille of the forwarders whose device is closed that leave their peer with it.
const LEAVES: u32 = 250;

/// A command not answered yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// To which node.
    pub node: usize,
    /// What; `None`: an attach.
    pub command: Option<Command>,
    /// The volume of an attach.
    pub attaches: Option<usize>,
}

impl Pending {
    /// Whether it is a promotion by force.
    fn forces(&self) -> bool {
        self.command == Some(Command::Promote { force: true })
    }
}

/// The operator.
#[derive(Debug, Default)]
pub struct Operator {
    next: u64,
    /// Commands not answered yet.
    pub pending: BTreeMap<u64, Pending>,
    /// The plan is over; everything is being healed.
    pub healing: bool,
    /// A promotion was forced against the arbiter: the lineage may fork.
    pub forced: bool,
    /// A node went on with the operator's word in the place of fencing.
    pub fencing_overridden: bool,
    /// An engine has told of a split brain.
    pub split_brain: [bool; 2],
    /// Until when an operator's word to give a node's copy up may still take effect, by volume and node.
    pub giving_up: Vec<[u64; 2]>,
    /// Archives can be written again.
    pub archives_mended: bool,
    /// How far the end has come.
    pub heal_stage: u32,
    /// The end has begun anew once: what was on its way when the network was mended has cost the connection after all.
    pub heals_anew: bool,
    /// What the nodes called out-of-sync in the last round, and the last round in which it had become less.
    pub heal_progress: (u64, u32),
    /// What each node's operator has been answered.
    pub answered: [crate::outcomes::Answered; 2],
    /// What forwarding has come to.
    pub handovers: crate::handover::Handovers,
    /// The life of each node's daemon in which a forced promotion was abandoned.
    pub forces_late: [Option<u32>; 2],
}

impl World {
    /// A node's role as its engine shows it; Secondary while the daemon is dead.
    pub fn role(&self, node: usize) -> Role {
        self.snapshot(node).map_or(Role::Secondary, |snapshot| snapshot.role)
    }

    /// Whether a node's engine says it is connected.
    pub fn is_connected(&self, node: usize) -> bool {
        self.snapshot(node).is_some_and(|snapshot| snapshot.connection == ConnectionState::Connected)
    }

    /// Gives a node a command, and waits for its end for a while.
    pub(crate) fn command(&mut self, node: usize, command: Command) {
        if !self.nodes[node].is_up() || self.would_waive(node, &command) {
            return;
        }
        self.note_forwards_given_up(node, &command);
        self.outcome_is_open(node, &command);
        let id = self.next_command(node, Some(command.clone()));
        self.line(|| format!("node {node} command {id}: {command:?}"));
        self.feed(node, Event::Command { id: CommandId(id), command });
    }

    fn next_command(&mut self, node: usize, command: Option<Command>) -> u64 {
        self.operator.next += 1;
        let id = self.operator.next;
        self.operator.pending.insert(id, Pending { node, command, attaches: None });
        let life = self.nodes[node].life;
        self.after(PATIENCE, Due::Abandon { node, life, command: id });
        id
    }

    /// A name for an attach.
    pub(crate) fn next_attach(&mut self, node: usize, volume: usize) -> u64 {
        let id = self.next_command(node, None);
        if let Some(pending) = self.operator.pending.get_mut(&id) {
            pending.attaches = Some(volume);
        }
        id
    }

    /// The operator no longer waits: the engine must answer at once.
    pub(crate) fn abandon(&mut self, node: usize, life: u32, command: u64) {
        if self.nodes[node].life != life || !self.operator.pending.contains_key(&command) {
            return;
        }
        self.seen(Sometimes::CommandAbandoned);
        let detaches = |pending: &Pending| matches!(pending.command, Some(Command::Detach { .. }));
        if self.operator.pending.get(&command).is_some_and(detaches) {
            self.seen(Sometimes::DetachAbandoned);
        }
        if self.operator.pending.get(&command).is_some_and(Pending::forces) {
            // What changes durable state goes on to its end, and nobody waits for it.
            self.operator.forces_late[node] = Some(life);
        }
        self.line(|| format!("node {node} abandons command {command}"));
        self.feed(node, Event::CommandAbandoned { id: CommandId(command) });
        if let Some(pending) = self.operator.pending.get(&command) {
            let detail = format!("node {node} doesn't answer the abandoned {:?}", pending.command);
            self.fail(Kind::Liveness, "I-L3", detail);
        }
    }

    pub(crate) fn command_done(&mut self, node: usize, id: u64, result: Result<CommandOutcome, CommandError>) {
        let Some(pending) = self.operator.pending.remove(&id) else {
            return self.fail(Kind::Crash, "answer", format!("node {node} ends command {id} twice"));
        };
        if let Err(CommandError::Refused(refusal)) = result {
            self.seen(Sometimes::CommandRefused);
            if let Some(volume) = pending.attaches {
                let disk = &mut self.nodes[node].volumes[volume];
                disk.attached = false;
                disk.not_whole_blocks = refusal == Refusal::NotWholeBlocks;
            }
            match (refusal, &pending.command) {
                (Refusal::DiskHangs, _) => self.seen(Sometimes::AttachedTooEarly),
                (Refusal::DeviceIsOpen, _) => self.seen(Sometimes::DemoteWhileOpen),
                (Refusal::DiskNotGrown | Refusal::PeerDiskNotGrown | Refusal::DisksNotGrown, _) => {
                    self.seen(Sometimes::NotGrown);
                }
                (refusal, Some(Command::Promote { .. })) => self.count_refused_promotion(refusal),
                _ => {}
            }
        }
        if let Some(command) = &pending.command {
            self.check_outcome(node, command, &result);
        }
        match (&pending.command, &result) {
            (Some(Command::Outdate { volume }), Ok(_)) => self.check_outdated(node, volume.0 as usize),
            (Some(Command::Verify { volume, repair_from }), Ok(_)) => {
                self.verify_granted(node, volume.0 as usize, *repair_from);
            }
            _ => {}
        }
        if pending.command == Some(Command::Handover) {
            self.handover_ended(node, &result);
        }
        if let (Some(Command::Resize { .. }), Ok(_)) = (&pending.command, &result) {
            self.seen(Sometimes::Resized);
        }
        if matches!(pending.command, Some(Command::Demote | Command::Shutdown | Command::Disconnect { .. })) {
            // With its device a node's clients are gone, and what they were owed.
            let has_device = self.role(node) == Role::Primary || self.forwards(node);
            if result.is_ok() && !has_device {
                self.forget_owed(node);
            }
            self.nodes[node].closing = false;
            // Refused: the clients are back.
            for volume in 0..self.swarm.volumes {
                self.after(MS, Due::Open { node, volume });
            }
        }
    }

    /// Whoever promotes the peer on that word relies on it: it must be durable (R31).
    fn check_outdated(&mut self, node: usize, volume: usize) {
        self.seen(Sometimes::Outdated);
        let data = self.durable(node, volume).map(|loaded| loaded.superblock.data);
        if data == Some(rep_meta::DataState::Inconsistent) {
            self.seen(Sometimes::OutdatedInconsistent);
        }
        if data == Some(rep_meta::DataState::Consistent) {
            self.fail(
                Kind::WrongData,
                "I-G5",
                format!("node {node} calls volume {volume} outdated, its metadata don't"),
            );
        }
    }

    /// Forgets the commands of a daemon that died.
    pub(crate) fn forget_commands(&mut self, node: usize) {
        self.operator.pending.retain(|_, pending| pending.node != node);
    }

    /// Gives the engine a disk it doesn't have.
    pub(crate) fn attach(&mut self, node: usize, volume: usize) {
        let state = &self.nodes[node];
        if !state.is_up() || state.volumes[volume].attached {
            return;
        }
        if state.in_flight(volume) > 0 {
            return self.attach_early(node, volume);
        }
        let Some(loaded) = self.load_for_attach(node, volume) else { return };
        self.truth_refresh(node, volume);
        self.nodes[node].volumes[volume].attached = true;
        let id = CommandId(self.next_attach(node, volume));
        let boot = self.nodes[node].boot;
        self.line(|| format!("node {node} attaches vol {volume}: {:?} log {:?}", loaded.superblock, loaded.log.hot));
        let (traits, left) = self.traits_of(node, volume);
        let volume = Self::number(volume);
        let event = Event::Attached { id, volume, loaded, boot, traits, left };
        self.feed(node, event);
    }

    /// How the pair begins: both empty, or one holds the data.
    pub(crate) fn begin(&mut self, stage: u32) {
        if stage == 0 {
            if !self.is_connected(0) || !self.is_connected(1) || self.would_leave_no_room_for_the_peer() {
                if !self.operator.healing {
                    self.after(100 * MS, Due::Begin { stage: 0 });
                }
                return;
            }
            if !(0..self.swarm.volumes).any(|volume| self.truth_just_created(volume)) {
                return;
            }
            match self.swarm.beginning {
                Beginning::SkipSync => {
                    for volume in 0..self.swarm.volumes {
                        let command = Command::NewGeneration { volume: Self::number(volume), clear_bitmap: true };
                        self.after(volume as u64 * 300 * MS, Due::Command { node: 0, command });
                    }
                    self.after(700 * MS, Due::Begin { stage: 1 });
                }
                Beginning::FullSync => self.command(0, Command::Promote { force: true }),
            }
        } else {
            self.promote(0);
        }
    }

    /// Whether the first node, begun now, would take its volume for as large as its own disk, since the other's, which is smaller, isn't
    /// attached: who does that has the other refused from then on.
    fn would_leave_no_room_for_the_peer(&self) -> bool {
        (0..self.swarm.volumes).any(|volume| {
            let [here, there] = [0, 1].map(|node| &self.nodes[node].volumes[volume]);
            let room = |disk: &crate::node::VolumeDisk| disk.geometry.before.available_bytes;
            !there.attached && room(there) < room(here)
        })
    }

    fn promoting(&self, node: usize) -> bool {
        let promotes = |command: &Option<Command>| matches!(command, Some(Command::Promote { .. }));
        self.operator.pending.values().any(|pending| pending.node == node && promotes(&pending.command))
    }

    /// Whether a node is being promoted by force.
    pub(crate) fn forces(&self, node: usize) -> bool {
        self.operator.pending.values().any(|pending| pending.node == node && pending.forces())
    }

    /// Whether one of the nodes has the newest data of a volume on a disk that is attached; or there are none yet.
    pub(crate) fn newest_is_attached(&self, volume: usize) -> bool {
        let held = |node: usize| self.truth.is_current(node, volume) && self.nodes[node].volumes[volume].attached;
        self.truth_just_created(volume) || held(0) || held(1)
    }

    /// Whether the arbiter lets a node become Primary.
    pub(crate) fn may_promote(&mut self, node: usize) -> bool {
        let other = 1 - node;
        if self.promoting(other) || self.takes_a_role(other) || self.takes_a_role(node) {
            return false;
        }
        if self.is_connected(node) && self.is_connected(other) {
            // The engine refuses beside a Primary that lives, but one that doesn't answer in time it takes for dead.
            if self.role(other) == Role::Primary && !self.swarm.may_fork && !self.is_guarded() {
                return false;
            }
            // On one of the two the newest data must be: a generation that is on a disk nobody has now was never used,
            // but going on beside it would be a fork.
            return self.history.forked || (0..self.swarm.volumes).all(|volume| self.newest_is_attached(volume));
        }
        if self.is_guarded() {
            return !self.goes_by_its_image(node);
        }
        let current = (0..self.swarm.volumes).all(|volume| self.truth.is_current(node, volume));
        self.role(other) != Role::Primary && (current || self.is_careless())
    }

    /// Now and then an operator doesn't ask whether the node that is away has gone on.
    fn is_careless(&mut self) -> bool {
        let careless = self.swarm.may_fork && self.dice.misc.chance(CARELESS);
        if careless {
            (self.operator.forced, self.history.forked) = (true, true);
        }
        careless
    }

    /// A node may be forced without harm: the other isn't Primary, and this one has all that was answered. Nothing is on its way to
    /// a disk the other has let go of at once: that it went on alone may land there later.
    fn may_force(&self, node: usize) -> bool {
        let attached = |volume: usize| self.nodes[node].volumes[volume].attached;
        let at_rest = |volume| self.nodes[1 - node].in_flight(volume) == 0;
        let complete = |volume| {
            attached(volume) && self.truth.is_current(node, volume) && self.is_full(node, volume) && at_rest(volume)
        };
        let changes = self.promoting(1 - node) || self.takes_a_role(1 - node) || self.takes_a_role(node);
        !changes && self.role(1 - node) != Role::Primary && (0..self.swarm.volumes).all(complete)
    }

    pub(crate) fn is_good(&self, node: usize, volume: usize) -> bool {
        self.truth.is_current(node, volume) && self.is_full(node, volume) && !self.is_being_given_up(node, volume)
    }

    /// Whether the operator has told a node to give its copy up not long ago.
    pub(crate) fn is_being_given_up(&self, node: usize, volume: usize) -> bool {
        self.operator.giving_up.get(volume).is_some_and(|until| until[node] > self.now)
    }

    fn give_up(&mut self, node: usize, volume: usize, command: Command) {
        let told = if matches!(
            command,
            Command::InvalidatePeer { .. } | Command::ResyncFull { from: Some(Side::Local), .. }
        ) {
            1 - node
        } else {
            node
        };
        self.will_be_given_up(told, volume);
        self.command(node, command);
    }

    /// A node's copy is about to be given up on the operator's word.
    pub(crate) fn will_be_given_up(&mut self, node: usize, volume: usize) {
        self.operator.giving_up.resize(self.swarm.volumes, [0; 2]);
        self.operator.giving_up[volume][node] = self.now + GIVING_UP_LASTS;
    }

    /// Does a step of the plan, if it makes sense now.
    pub(crate) fn step(&mut self, index: usize) {
        let step = self.steps[index].1;
        if !matches!(step, Step::Client { .. }) {
            self.line(|| format!("step {index}: {step:?}"));
        }
        self.do_step(step);
    }

    pub(crate) fn do_step(&mut self, step: Step) {
        match step {
            Step::Client { volume, client, op } => self.client(volume, client, op),
            Step::Rare(fault) => self.rare(fault),
            Step::Promote { node } => self.promote(node),
            Step::ForcePromote { node } => self.force_promote(node),
            Step::Demote { node } => self.demote(node, false),
            Step::DemoteWhileOpen { node } => self.command(node, Command::Demote),
            Step::Switch => {
                if let Some(node) = (0..2).find(|node| self.role(*node) == Role::Primary) {
                    self.demote(node, true);
                }
            }
            Step::Connect { node } => self.command(node, Command::Connect { discard_my_data: false }),
            Step::Disconnect { node, force } => self.command(node, Command::Disconnect { force }),
            Step::Plan { node } => {
                let discard_my_data = self.dice.misc.chance(300);
                self.command(node, Command::Plan { discard_my_data });
            }
            Step::Crash { node, down_ns } => self.crash(node, false, down_ns),
            Step::PowerLoss { node, down_ns } => self.crash(node, true, down_ns),
            Step::PowerLossBoth { down_ns } => {
                self.crash(0, true, down_ns[0]);
                self.crash(1, true, down_ns[1]);
            }
            Step::Shutdown { node, down_ns } => self.shutdown(node, down_ns),
            Step::Reinstall { node, down_ns } => {
                if (0..self.swarm.volumes).all(|volume| self.is_good(1 - node, volume)) {
                    self.reinstall(node, down_ns);
                }
            }
            Step::Busy(step) => self.busy(step),
            Step::Crossed(step) => self.cross(step),
            Step::Newer { draw } => self.newer(draw),
            Step::Handover { .. }
            | Step::WhileForwarding { .. }
            | Step::ServiceForwarder { .. }
            | Step::FailPrimaryFlush { .. }
            | Step::CrashTaker { .. }
            | Step::CrashForwarder { .. }
            | Step::CloseForwarding
            | Step::GiveUpForwards
            | Step::CrashPrimary { .. } => self.handover_step(step),
            Step::Link { fault, for_ns } => self.break_link(fault, for_ns),
            Step::Disk { node, volume, fault } => self.break_disk(node, volume, fault),
            Step::Suspend { node, for_ns } => {
                self.command(node, Command::SuspendIo { suspended: true });
                self.after(for_ns, Due::Command { node, command: Command::SuspendIo { suspended: false } });
            }
            _ => self.volume_step(step),
        }
    }

    fn volume_step(&mut self, step: Step) {
        match step {
            Step::Attach { node, volume } => self.attach(node, volume),
            Step::GrowDisk { node, volume } => self.grow_disk(node, volume),
            Step::Resize { node, volume } => self.resize(node, volume),
            Step::DetachAtOnce { node, volume } => self.detach_at_once(node, volume),
            Step::Detach { node, volume } => {
                self.command(node, Command::Detach { volume: Self::number(volume), force: false })
            }
            Step::Resync { node, volume } => self.command(node, Command::Resync { volume: Self::number(volume) }),
            Step::ResyncFull { node, volume } => {
                let from = match [self.is_good(node, volume), self.is_good(1 - node, volume)] {
                    [true, _] => Some(Side::Local),
                    [_, true] => Some(Side::Peer),
                    _ => None,
                };
                let command = Command::ResyncFull { volume: Self::number(volume), from };
                if from.is_some() {
                    self.give_up(node, volume, command);
                }
            }
            Step::Pause { node, volume, for_ns } => {
                let volume = Self::number(volume);
                self.command(node, Command::PauseSync { volume, paused: true });
                self.after(for_ns, Due::Command { node, command: Command::PauseSync { volume, paused: false } });
            }
            Step::Invalidate { node, volume } if self.is_good(1 - node, volume) => {
                self.give_up(node, volume, Command::Invalidate { volume: Self::number(volume) });
            }
            Step::InvalidatePeer { node, volume } if self.is_good(node, volume) => {
                self.give_up(node, volume, Command::InvalidatePeer { volume: Self::number(volume) });
            }
            Step::Verify { node, volume } => {
                self.command(node, Command::Verify { volume: Self::number(volume), repair_from: None });
            }
            Step::StopVerify { node, volume } => {
                self.command(node, Command::StopVerify { volume: Self::number(volume) });
            }
            Step::Outdate { node, volume } if self.is_good(1 - node, volume) => {
                self.command(node, Command::Outdate { volume: Self::number(volume) });
            }
            _ => {}
        }
    }

    pub(crate) fn promote(&mut self, node: usize) {
        if self.promote_apart(node) {
            return;
        }
        if self.may_promote(node) {
            if self.role(1 - node) == Role::Primary && !self.is_guarded() {
                (self.operator.forced, self.history.forked) = (true, true);
            }
            self.command(node, Command::Promote { force: false });
        }
    }

    fn force_promote(&mut self, node: usize) {
        let harmless = self.may_force(node);
        if self.swarm.may_fork || harmless {
            if !harmless {
                self.operator.forced = true;
                self.history.forked = true;
            }
            self.command(node, Command::Promote { force: true });
        }
    }

    /// Closes the device, waits for its requests, and demotes; then perhaps promotes the other.
    pub(crate) fn demote(&mut self, node: usize, then_promote: bool) {
        if self.nodes[node].is_up() && !self.nodes[node].closing {
            self.nodes[node].closing = true;
            self.demote_when_idle(node, 0, then_promote);
        }
    }

    pub(crate) fn demote_when_idle(&mut self, node: usize, tries: u32, then_promote: bool) {
        if !self.nodes[node].is_up() || !self.nodes[node].closing {
            return;
        }
        if tries < 400 && self.clients.outstanding.values().any(|asked| asked.node == node) {
            return self.after(25 * MS, Due::DemoteWhenIdle { node, tries: tries + 1, then_promote });
        }
        for volume in 0..self.swarm.volumes {
            self.nodes[node].volumes[volume].openers = 0;
            self.feed(node, Event::Openers { volume: Self::number(volume), count: 0 });
        }
        // A forwarder's device also goes with its connection.
        let leaves = !self.operator.healing && self.forwards(node) && self.dice.misc.chance(LEAVES);
        self.command(node, if leaves { Command::Disconnect { force: false } } else { Command::Demote });
        if then_promote {
            self.after(200 * MS, Due::Promote { node: 1 - node });
        }
    }

    pub(crate) fn break_disk(&mut self, node: usize, volume: usize, fault: DiskFault) {
        let now = self.now;
        let faults = &mut self.nodes[node].volumes[volume].faults;
        match fault {
            DiskFault::ReadOnce => faults.reads_once += 1,
            DiskFault::WriteOnce => faults.writes_once += 1,
            DiskFault::FlushOnce => faults.flushes_once += 1,
            DiskFault::MetaOnce => faults.metas_once += 1,
            DiskFault::WritesSticky => faults.writes_sticky = true,
            DiskFault::AllSticky => (faults.reads_sticky, faults.writes_sticky) = (true, true),
            DiskFault::Hang { for_ns } => faults.hangs_until = now + for_ns,
        }
    }
}
