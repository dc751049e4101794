//! The world: two nodes, the network between them, clients, an operator, and one queue of what is due.
//!
//! Everything happens on one thread in the order of the queue (time, then number), so a plan has one outcome. The
//! other files add what the world does: `shell` (actions), `storage` (disks), `network` (frames), `client`,
//! `operator`, `lifecycle` (crash, power, reinstall), `heal` (the end), `truth` and `checks` (what must hold).

use crate::client::Clients;
use crate::counters::{Counters, Sometimes};
use crate::disk::{DataDisk, MetaDisk};
use crate::failure::{Failure, Kind};
use crate::grow::{Geometry, fill_rest, placement};
use crate::history::History;
use crate::link::Network;
use crate::node::{Faults, NodeState, Payloads, VolumeDisk};
use crate::operator::Operator;
use crate::plan::{Plan, Step};
use crate::rng::Rng;
use crate::swarm::{Beginning, Swarm};
use crate::trace::Trace;
use crate::truth::Truth;
use rep_engine::{Action, Event, Timestamp};
use rep_meta::{BootId, CreateParameters, Identity, InitialBitmap, LayoutOptions, Placement};
use rep_types::{BLOCK_SIZE, NodeName, ResourceName, SECTOR_SIZE, VolumeNumber};
use std::collections::{BTreeMap, BinaryHeap};

/// Actions a run may take. Long ones take a hundredth of it.
const ACTIONS_MAX: u64 = 3_000_000;

/// What is due at some time.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the names say it
pub enum Due {
    Step(usize),
    DiskEffect { node: usize, op: u64 },
    DiskReport { node: usize, op: u64 },
    Deliver { session: u64, from: usize },
    EndUp { session: u64, node: usize },
    EndLost { session: u64, node: usize, reset: bool },
    Dial,
    Timer { node: usize },
    Restart { node: usize },
    Open { node: usize, volume: usize },
    DemoteWhenIdle { node: usize, tries: u32, then_promote: bool },
    Promote { node: usize },
    Command { node: usize, command: rep_engine::Command },
    Attach { node: usize, volume: usize },
    Abandon { node: usize, life: u32, command: u64 },
    ShutdownDone { node: usize, life: u32, down_ns: u64 },
    Begin { stage: u32 },
    ArchiveStep(crate::archive::ArchiveOp),
    Measured { node: usize, life: u32, volume: usize },
    Resize { node: usize, volume: usize },
    FenceActs { node: usize, life: u32, id: rep_engine::FenceId },
    FenceLooks { node: usize, life: u32, id: rep_engine::FenceId },
    ResyncAnswered { node: usize, life: u32, volume: usize, id: rep_engine::ResyncId },
    LookAtMarks { volume: usize, changes: u64, looks: u32 },
    Handover { draw: u64, tries: u32 },
    Newer(crate::newer::Newer),
    Scene(Step),
    Heal { round: u32 },
}

#[derive(Debug)]
struct Entry {
    at: u64,
    number: u64,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The soonest is the greatest: the heap gives it first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Streams of randomness, by purpose.
#[derive(Debug)]
pub struct Dice {
    /// Disk latencies, torn writes, lost caches.
    pub disk: Rng,
    /// Boots, identities, engine seeds.
    pub life: Rng,
    /// The operator's and the checkers' choices.
    pub misc: Rng,
    /// What disks say of their caches.
    pub caches: Rng,
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// Nanoseconds since the run began.
    pub now: u64,
    numbers: u64,
    queue: BinaryHeap<Entry>,
    /// What this run has.
    pub swarm: Swarm,
    /// What happens in it.
    pub steps: Vec<(u64, Step)>,
    /// The nodes.
    pub nodes: [NodeState; 2],
    /// The network.
    pub network: Network,
    /// The clients.
    pub clients: Clients,
    /// The model of what clients may see.
    pub history: History,
    /// What the durable metadata say.
    pub truth: Truth,
    /// Nodes' volumes whose data are about to be given up in a split brain.
    pub victims: [Vec<Option<crate::archive::Victim>>; 2],
    /// Ranges of resyncs that several disk operations make.
    pub landings: crate::thin::Landings,
    /// What was changed behind the engines, and their verifies.
    pub verifies: crate::verify::Verifies,
    /// Old images of metadata.
    pub rollback: crate::rollback::Rollback,
    /// Who knows of a split brain.
    pub apart: crate::apart::Apart,
    /// The operator.
    pub operator: Operator,
    /// Rare states.
    pub counters: Counters,
    /// The trace.
    pub trace: Trace,
    /// The first violation.
    pub failure: Option<Failure>,
    /// Randomness.
    pub dice: Dice,
    /// Whether the run has converged and ends.
    pub finished: bool,
    pub(crate) op_numbers: u64,
    storm: crate::storm::StormWatch,
    /// Actions done: a bound on engines that never come to rest.
    actions: u64,
    pub(crate) recent_messages: BTreeMap<usize, (u64, rep_wire::Message, crate::codec::Content)>,
    pub(crate) held_back: [Option<(u64, rep_wire::Message, crate::codec::Content)>; 2],
    pub(crate) compared: Vec<crate::comparing::Asked>,
    /// How each node's resync yields to clients, after its last event.
    pub(crate) paced: [rep_engine::PacingSnapshot; 2],
    spare: Vec<Action>,
}

/// The identity of a volume's metadata on a node.
pub fn identity(node: usize, volume: usize) -> Identity {
    let name = ["alpha", "beta"][node];
    Identity {
        resource: ResourceName::new("simulated").expect("a legal name"),
        node: NodeName::new(name).expect("a legal name"),
        volume: VolumeNumber(volume as u16),
    }
}

impl World {
    /// A world in which a plan is about to begin.
    pub fn new(plan: Plan, trace: bool) -> World {
        let swarm = plan.swarm;
        let rng = Rng::new(swarm.seed);
        let mut dice = Dice { disk: rng.fork(3), life: rng.fork(4), misc: rng.fork(5), caches: rng.fork(56) };
        let nodes = [0, 1].map(|node| new_node(node, &swarm, &mut dice));
        let content = |node: &NodeState, volume: usize| {
            let disk = &node.volumes[volume];
            let end = disk.geometry.clients_end(&swarm) as usize;
            disk.data.cached()[..end].to_vec()
        };
        let initial =
            (0..swarm.volumes).map(|volume| [content(&nodes[0], volume), content(&nodes[1], volume)]).collect();
        let mut world = World {
            now: 0,
            numbers: 0,
            queue: BinaryHeap::new(),
            network: Network::new(swarm.link_latency, rng.fork(6)),
            history: History::new(initial),
            truth: Truth::new(swarm.volumes),
            clients: Clients::new(swarm.volumes),
            victims: [vec![None; swarm.volumes], vec![None; swarm.volumes]],
            landings: crate::thin::Landings::new(swarm.seed),
            verifies: crate::verify::Verifies::new(swarm.volumes),
            rollback: crate::rollback::Rollback::default(),
            apart: crate::apart::Apart::default(),
            operator: Operator::default(),
            counters: Counters::default(),
            trace: Trace::new(trace),
            failure: None,
            finished: false,
            op_numbers: 0,
            storm: crate::storm::StormWatch::default(),
            actions: 0,
            recent_messages: BTreeMap::new(),
            held_back: [None, None],
            compared: Vec::new(),
            paced: Default::default(),
            spare: Vec::new(),
            steps: plan.steps,
            nodes,
            swarm,
            dice,
        };
        world.schedule_plan();
        world
    }

    fn schedule_plan(&mut self) {
        self.at(0, Due::Restart { node: 0 });
        self.at(0, Due::Restart { node: 1 });
        self.at(crate::swarm::SECOND, Due::Begin { stage: 0 });
        for (index, at) in self.steps.iter().map(|(at, _)| *at).enumerate().collect::<Vec<_>>() {
            self.at(at, Due::Step(index));
        }
        let end = self.steps.last().map_or(0, |(at, _)| *at) + 3 * crate::swarm::SECOND;
        self.at(end, Due::Heal { round: 0 });
    }

    /// Runs until the plan has ended well or something is violated.
    pub fn run(&mut self) {
        while !self.finished && self.failure.is_none() {
            let Some(entry) = self.queue.pop() else { break };
            self.now = entry.at;
            self.trace.mix(entry.at);
            self.dispatch(entry.due);
        }
        self.counters.simulated_ns = self.now;
    }

    fn dispatch(&mut self, due: Due) {
        match due {
            Due::Step(index) => self.step(index),
            Due::DiskEffect { node, op } => self.disk_effect(node, op),
            Due::DiskReport { node, op } => self.disk_report(node, op),
            Due::Deliver { session, from } => self.deliver(session, from),
            Due::EndUp { session, node } => self.end_up(session, node),
            Due::EndLost { session, node, reset } => self.end_lost(session, node, reset),
            Due::Dial => self.dial(),
            Due::Timer { node } => self.timer(node),
            Due::Restart { node } => self.start_node(node),
            Due::Open { node, volume } => self.open_device(node, volume),
            Due::DemoteWhenIdle { node, tries, then_promote } => self.demote_when_idle(node, tries, then_promote),
            Due::Promote { node } => self.promote(node),
            Due::Command { node, command } => self.command(node, command),
            Due::Attach { node, volume } => self.attach(node, volume),
            Due::Abandon { node, life, command } => self.abandon(node, life, command),
            Due::ShutdownDone { node, life, down_ns } => self.shutdown_done(node, life, down_ns),
            Due::Begin { stage } => self.begin(stage),
            Due::ArchiveStep(op) => self.archive_step(op),
            Due::Measured { node, life, volume } => self.measured(node, life, volume),
            Due::Resize { node, volume } => self.resize(node, volume),
            Due::FenceActs { node, life, id } => self.fence_acts(node, life, id),
            Due::FenceLooks { node, life, id } => self.fence_looks(node, life, id),
            Due::ResyncAnswered { node, life, volume, id } => self.resync_answered(node, life, volume, id),
            Due::LookAtMarks { volume, changes, looks } => self.look_at_marks(volume, changes, looks),
            Due::Handover { draw, tries } => self.hand_over_soon(draw, tries),
            Due::Newer(newer) => self.look_at_newer(newer),
            Due::Scene(step) if !self.operator.healing => self.do_step(step),
            Due::Scene(_) => {}
            Due::Heal { round } => self.heal(round),
        }
    }

    /// Puts something into the queue.
    pub fn at(&mut self, at: u64, due: Due) {
        self.numbers += 1;
        self.queue.push(Entry { at, number: self.numbers, due });
    }

    /// Puts something into the queue, some time from now.
    pub fn after(&mut self, span: u64, due: Due) {
        self.at(self.now + span, due);
    }

    /// Notes the first violation.
    pub fn fail(&mut self, kind: Kind, invariant: &'static str, detail: String) {
        if self.failure.is_none() {
            self.line(|| format!("VIOLATED {invariant}: {detail}"));
            self.failure = Some(Failure { kind, invariant, detail });
        }
    }

    /// A line of the trace.
    pub fn line(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    /// Counts a rare state.
    pub fn seen(&mut self, state: Sometimes) {
        self.counters.seen(state);
    }

    /// A node's clock.
    pub fn clock(&self, node: usize) -> Timestamp {
        Timestamp(self.now + self.nodes[node].skew)
    }

    /// Gives a node's engine an event and does what it asks for. Nothing happens while the daemon is dead.
    pub fn feed(&mut self, node: usize, event: Event) {
        let now = self.clock(node);
        let brought = self.brings(&event);
        let Some(engine) = self.nodes[node].engine.as_mut() else { return };
        let mut actions = std::mem::take(&mut self.spare);
        engine.handle(now, event, &mut actions);
        engine.assert_invariants();
        let pacing = engine.pacing();
        self.note_pacing(node, pacing);
        self.counters.events += 1;
        self.actions += actions.len() as u64;
        if self.actions > ACTIONS_MAX && self.failure.is_none() {
            let detail = format!("more than {ACTIONS_MAX} actions: the engines keep each other busy");
            self.fail(Kind::Liveness, "I-L4", detail);
        }
        self.nodes[node].parts = actions.iter().any(|action| matches!(action, Action::CloseLink { .. }));
        let mut noticed = false;
        for action in actions.drain(..) {
            noticed |= matches!(action, Action::Notice(_));
            if self.storm.note(self.now, &action) {
                self.fail(
                    Kind::Liveness,
                    "I-L1",
                    format!("messages to and fro, and nothing comes of them: {action:?}"),
                );
            }
            self.perform(node, action, brought);
        }
        self.spare = actions;
        self.arm_timer(node);
        if noticed {
            self.check_states(node);
        }
    }

    fn arm_timer(&mut self, node: usize) {
        let Some(engine) = &self.nodes[node].engine else { return };
        let Some(due) = engine.next_timeout() else { return };
        let due = due.0.saturating_sub(self.nodes[node].skew).max(self.now);
        if self.nodes[node].timer.is_none_or(|armed| due < armed) {
            self.nodes[node].timer = Some(due);
            self.at(due, Due::Timer { node });
        }
    }

    fn timer(&mut self, node: usize) {
        if self.nodes[node].timer != Some(self.now) {
            return;
        }
        self.nodes[node].timer = None;
        self.feed(node, Event::Timeout);
    }
}

fn new_node(node: usize, swarm: &Swarm, dice: &mut Dice) -> NodeState {
    let volumes = (0..swarm.volumes).map(|volume| new_volume(node, volume, swarm, dice, false)).collect();
    NodeState {
        engine: None,
        life: 0,
        boot: new_boot(&mut dice.life),
        skew: dice.life.below(1 << 40),
        volumes,
        ops: BTreeMap::new(),
        ops_ended: 0,
        payloads: Payloads::default(),
        parts: false,
        wants_link: false,
        timer: None,
        closing: false,
        lost_cache_at: 0,
        decided_at: 0,
        promoted_at: 0,
        down_until: 0,
    }
}

/// A boot's identity.
pub fn new_boot(rng: &mut Rng) -> BootId {
    BootId(u128::from(rng.bits()) << 64 | u128::from(rng.bits() | 1))
}

/// A disk for a node's volume, with fresh metadata. The first node's may hold data from before, the second's then
/// holds something else, so that a first sync that copies too little shows. `grown`: it has its last size already.
pub fn new_volume(node: usize, volume: usize, swarm: &Swarm, dice: &mut Dice, grown: bool) -> VolumeDisk {
    let geometry = Geometry::of(swarm, node, placement(swarm));
    let layout = if grown { geometry.after } else { geometry.before };
    let meta = fresh_metadata(node, volume, &layout, dice);
    let mut content = vec![0; (geometry.after.available_bytes / SECTOR_SIZE) as usize];
    if swarm.beginning == Beginning::FullSync {
        for block in swarm.focus_blocks.iter().filter(|block| u64::from(**block) < swarm.data_bytes / BLOCK_SIZE) {
            for sector in 0..8 {
                content[*block as usize * 8 + sector] =
                    0x8000_0000 | ((node as u32) << 24) | (*block << 3 | sector as u32);
            }
        }
    }
    fill_rest(&mut content, node, swarm, &geometry);
    VolumeDisk {
        data: DataDisk::new(content, swarm.write_back),
        meta,
        device_bytes: layout.device_bytes,
        geometry,
        attached: false,
        resync_allowed: false,
        block_bytes: swarm.blocks.bytes[node],
        not_whole_blocks: false,
        says_volatile: swarm.caches.volatile[node],
        left: None,
        told_stable: false,
        exported: None,
        openers: 0,
        refused_alone: false,
        overdue_since: None,
        faults: Faults::default(),
        rot: crate::rot::RotState::default(),
    }
}

/// What `create-md` makes for a node's volume.
pub fn fresh_metadata(node: usize, volume: usize, layout: &rep_meta::Layout, dice: &mut Dice) -> MetaDisk {
    let base = match layout.placement {
        Placement::Internal => layout.available_bytes,
        Placement::External => 0,
    };
    let mut meta = MetaDisk::new(base, layout.metadata_device_bytes);
    let parameters = CreateParameters {
        identity: identity(node, volume),
        device_uuid: u128::from(dice.life.bits()),
        placement: layout.placement,
        device_bytes: layout.device_bytes,
        options: LayoutOptions { log_slots: Some(layout.log_slots) },
        bitmap: InitialBitmap::Clean,
    };
    rep_meta::create(&mut meta, &parameters).expect("a disk of this size takes metadata");
    meta
}
