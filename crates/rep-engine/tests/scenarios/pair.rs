//! Two engines on a bench: the test holds back disk operations and frames, lets them go, or fails them.
//!
//! Nothing happens by itself but what isn't held, and time passes only when told to: a scenario is an order of events.
//! After each the engines' invariants are asserted. No data is kept (the simulator does that), only metadata.

use rep_engine::{
    Action, ArchiveError, Command, CommandError, CommandOutcome, DiskSuccess, DiskTraits, Engine, EngineConfig, Event,
    FenceId, Notice, Offer, ReadInto, ResyncId, Snapshot, Timestamp, VolumeSnapshot,
};
use rep_meta::{
    BootId, CreateParameters, Identity, InitialBitmap, LayoutOptions, MemoryStorage, MetaStorage, Placement, Superblock,
};
use rep_types::{
    BLOCK_SIZE, ByteRange, CommandId, DIGEST_LENGTH, DiskState, EXTENT_SIZE, FenceAnswer, Fencing, IoError, IoId,
    LeftDevice, LinkCause, NodeName, PayloadId, ReplicationState, RequestId, ResourceName, Role, SessionId,
    VolumeNumber, ZeroBlocks,
};
use rep_wire::{ControlMessage, Message};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Bytes of a volume: four extents.
pub const DEVICE_BYTES: u64 = 4 * EXTENT_SIZE;

/// What a disk operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A read or write of data.
    Data,
    /// A flush.
    Flush,
    /// A write of metadata.
    Meta,
}

struct DiskOp {
    io: IoId,
    volume: usize,
    kind: Kind,
    work: Work,
}

enum Work {
    /// A step of an archive.
    Archive,
    Data,
    ReadNew,
    Digest(ByteRange),
    Meta(u64, rep_meta::MetaBlock),
}

enum Sent {
    /// A frame, and whether a payload goes with it.
    Frame(Message, bool),
    /// The sender closed the connection.
    End,
}

/// A node: its metadata outlive the engine.
pub struct Node {
    engine: Engine,
    metas: Vec<MemoryStorage>,
    /// Bytes of each of its disks.
    device_bytes: u64,
    /// What each is like.
    traits: DiskTraits,
    /// The device an earlier daemon left behind.
    left: Option<LeftDevice>,
    /// What clients are offered, by volume.
    offered: BTreeMap<VolumeNumber, Offer>,
    /// Blocks that are zeroes, of whatever range is read of its disks for the peer.
    zeroes: ZeroBlocks,
    /// Blocks whose content has changed behind its engine, on any of its disks.
    changed: Vec<u64>,
    boot: u128,
    /// How often the daemon has been started.
    lives: u64,
    options: EngineConfig,
    /// The question to the fence-peer handler that isn't answered.
    fence_asked: Option<FenceId>,
    /// The same to the before-resync-target handler.
    resync_asked: Option<ResyncId>,
    wants_link: bool,
    ops: VecDeque<DiskOp>,
    held: Vec<(Kind, usize)>,
    payloads: u32,
    numbers: u64,
    answers: BTreeMap<u64, Result<(), IoError>>,
    outcomes: BTreeMap<u64, Result<CommandOutcome, CommandError>>,
    /// What operators were told.
    pub notices: Vec<Notice>,
}

/// Both nodes and what is between them. Node 0's name sorts first.
pub struct Pair {
    now: u64,
    session: u64,
    /// What both nodes offer each other.
    features: u64,
    volumes: usize,
    nodes: [Node; 2],
    /// Frames on their way, by sender.
    wires: [VecDeque<(SessionId, Sent)>; 2],
    wire_held: [bool; 2],
}

fn link_up(session: u64, features: u64) -> Event {
    Event::LinkUp { session: SessionId(session), features, digest_key: Box::default() }
}

fn identity(node: usize, volume: usize) -> Identity {
    Identity {
        resource: ResourceName::new("bench").expect("a legal name"),
        node: NodeName::new(["alpha", "beta"][node]).expect("a legal name"),
        volume: VolumeNumber(volume as u16),
    }
}

fn fresh_metadata(node: usize, volume: usize) -> MemoryStorage {
    metadata_for(node, volume, DEVICE_BYTES)
}

fn metadata_for(node: usize, volume: usize, device_bytes: u64) -> MemoryStorage {
    let parameters = CreateParameters {
        identity: identity(node, volume),
        device_uuid: (node * 10 + volume + 1) as u128,
        placement: Placement::External,
        device_bytes,
        options: LayoutOptions { log_slots: Some(2) },
        bitmap: InitialBitmap::Clean,
    };
    let mut storage = MemoryStorage::new(1 << 20);
    rep_meta::create(&mut storage, &parameters).expect("there is room");
    storage
}

impl Node {
    fn new(node: usize, volumes: usize, options: &EngineConfig) -> Node {
        Node {
            engine: Node::engine(node, volumes, 1, options),
            metas: (0..volumes).map(|volume| fresh_metadata(node, volume)).collect(),
            device_bytes: DEVICE_BYTES,
            traits: DiskTraits { logical_block_bytes: 512, discards: true, volatile_cache: true },
            left: None,
            offered: BTreeMap::new(),
            zeroes: ZeroBlocks::NONE,
            changed: Vec::new(),
            boot: 1,
            lives: 1,
            options: options.clone(),
            fence_asked: None,
            resync_asked: None,
            wants_link: false,
            ops: VecDeque::new(),
            held: Vec::new(),
            payloads: 0,
            numbers: 0,
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    fn engine(node: usize, volumes: usize, life: u64, options: &EngineConfig) -> Engine {
        let config = EngineConfig {
            volumes: (0..volumes).map(|volume| VolumeNumber(volume as u16)).collect(),
            sorts_first: node == 0,
            seed: life * 1000 + node as u64,
            ..options.clone()
        };
        Engine::new(config)
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn next_payload(&mut self) -> PayloadId {
        self.payloads += 1;
        PayloadId(self.payloads)
    }
}

impl Pair {
    /// Both nodes connected, Secondary, with disks that were just created.
    pub fn just_created(volumes: usize) -> Pair {
        Pair::created(volumes, &EngineConfig::new(false, 0))
    }

    fn created(volumes: usize, options: &EngineConfig) -> Pair {
        let mut pair = Pair {
            now: 1_000_000_000,
            session: 0,
            features: rep_wire::features::ALL,
            volumes,
            nodes: [Node::new(0, volumes, options), Node::new(1, volumes, options)],
            wires: [VecDeque::new(), VecDeque::new()],
            wire_held: [false; 2],
        };
        for node in 0..2 {
            for volume in 0..volumes {
                pair.attach(node, volume);
            }
            pair.command(node, Command::Connect { discard_my_data: false });
        }
        pair.run();
        pair.connect();
        pair
    }

    /// Both nodes connected, Secondary, with the same UpToDate data.
    pub fn in_sync(volumes: usize) -> Pair {
        Pair::fenced(volumes, Fencing::DontCare)
    }

    /// The same, with fencing.
    pub fn fenced(volumes: usize, fencing: Fencing) -> Pair {
        Pair::configured(volumes, &EngineConfig { fencing, ..EngineConfig::new(false, 0) })
    }

    /// The same, with this configuration.
    pub fn configured(volumes: usize, options: &EngineConfig) -> Pair {
        let mut pair = Pair::created(volumes, options);
        pair.take_for_equal();
        pair
    }

    /// The operator takes disks that were just created for equal.
    pub fn take_for_equal(&mut self) {
        for volume in 0..self.volumes {
            let id = self.new_generation(0, volume);
            self.run();
            assert_eq!(self.outcome(0, id), Some(Ok(CommandOutcome::Done)));
        }
        assert_eq!(self.volume(1, 0).disk, DiskState::UpToDate);
    }

    /// An operator takes a volume's new disks for equal, on this node.
    pub fn new_generation(&mut self, node: usize, volume: usize) -> u64 {
        let volume = VolumeNumber(volume as u16);
        self.command(node, Command::NewGeneration { volume, clear_bitmap: true })
    }

    /// The same, with node 0 Primary.
    pub fn with_primary(volumes: usize) -> Pair {
        Pair::in_sync(volumes).promoted()
    }

    /// The same pair, alpha Primary.
    pub fn promoted(mut self) -> Pair {
        self.command(0, Command::Promote { force: false });
        self.run();
        assert_eq!(self.snapshot(0).role, Role::Primary);
        self
    }

    // ---- what the test does ----

    /// A node becomes Primary.
    pub fn promote(&mut self, node: usize) {
        let id = self.command(node, Command::Promote { force: false });
        self.run();
        assert_eq!(self.outcome(node, id), Some(Ok(CommandOutcome::Done)));
    }

    /// A node's configuration from the next life of its daemon on.
    pub fn configure(&mut self, node: usize, edit: impl FnOnce(&mut EngineConfig)) {
        edit(&mut self.nodes[node].options);
    }

    /// From now on the nodes offer each other nothing beyond the protocol's first version.
    pub fn without_features(&mut self) {
        self.features = 0;
    }

    /// A connection comes up.
    pub fn connect(&mut self) {
        self.session += 1;
        for node in 0..2 {
            assert!(self.nodes[node].wants_link, "node {node} wants no connection");
            self.feed(node, link_up(self.session, self.features));
        }
        self.run();
    }

    /// A connection comes up; the last word of the handshake, to this node's peer, doesn't arrive.
    pub fn connect_half(&mut self, joined: usize) {
        self.hold_decision_of(joined);
        self.wire_held[joined] = false;
    }

    /// The same, and nothing of what the node sends arrives from then on, until its wire is let go.
    pub fn hold_decision_of(&mut self, node: usize) {
        self.session += 1;
        for node in 0..2 {
            self.feed(node, link_up(self.session, self.features));
        }
        let decision = |sent: &(SessionId, Sent)| matches!(&sent.1, Sent::Frame(Message::Control(message), _) if matches!(**message, ControlMessage::Decision { .. }));
        while !self.wires[node].front().is_some_and(decision) {
            while self.work(0) | self.work(1) {}
            self.deliver_one(node);
            self.deliver_one(1 - node);
        }
        self.wire_held[node] = true;
        self.run();
    }

    /// The connection goes, with all that is under way on it.
    pub fn cut(&mut self) {
        self.wires.iter_mut().for_each(VecDeque::clear);
        for node in 0..2 {
            self.feed(node, Event::LinkDown { session: SessionId(self.session), cause: LinkCause::Failed });
        }
        self.run();
    }

    /// Node 0, a Primary, goes on alone and then fills node 1, which takes its generations over; the word of that is held.
    pub fn fill_without_a_last_word(&mut self) {
        self.cut();
        self.write(0, 0, 0);
        self.run();
        self.hold(1, Kind::Flush, 0);
        self.connect();
        self.hold(1, Kind::Meta, 0);
        self.let_go(1, Kind::Flush, 0);
        self.hold_wire(1);
        self.let_go(1, Kind::Meta, 0);
        assert_eq!(self.volume(1, 0).disk, DiskState::UpToDate, "node 1 has taken the generations over");
    }

    /// Of two volumes that beta lacks something of, its disk of the one has come, and waits to be told of while the resync of the other is held up.
    pub fn a_disk_comes_beside_a_resync(&mut self) {
        self.command(1, Command::Detach { volume: VolumeNumber(0), force: false });
        self.run();
        self.hold(1, Kind::Data, 1);
        self.connect();
        self.attach(1, 0);
        self.run();
        assert_eq!(self.volume(0, 1).replication, ReplicationState::SyncSource);
    }

    /// The node goes down without a word and comes up again, its disks attached, wanting a connection.
    pub fn reboot(&mut self, node: usize) {
        self.nodes[node].boot += 1;
        self.kill(node);
    }

    /// A node is installed anew: its disks are other ones, with metadata that know nothing.
    pub fn reinstall(&mut self, node: usize) {
        for volume in 0..self.volumes {
            self.nodes[node].metas[volume] = fresh_metadata(node, volume);
        }
        self.reboot(node);
    }

    /// The daemon is killed and comes up again.
    pub fn kill(&mut self, node: usize) {
        self.kill_without_disks(node);
        for volume in 0..self.volumes {
            self.attach(node, volume);
        }
        self.command(node, Command::Connect { discard_my_data: false });
        self.run();
    }

    /// The daemon is killed and comes up again; it has no disks, and wants no connection.
    pub fn kill_without_disks(&mut self, node: usize) {
        self.wires.iter_mut().for_each(VecDeque::clear);
        self.feed(1 - node, Event::LinkDown { session: SessionId(self.session), cause: LinkCause::Failed });
        let state = &mut self.nodes[node];
        state.lives += 1;
        state.engine = Node::engine(node, self.volumes, state.lives, &state.options);
        (state.fence_asked, state.resync_asked) = (None, None);
        state.ops.clear();
        state.held.clear();
    }

    /// Gives a node's engine a disk.
    pub fn attach(&mut self, node: usize, volume: usize) {
        self.try_attach(node, volume);
    }

    /// The same; see [`Self::outcome`].
    pub fn try_attach(&mut self, node: usize, volume: usize) -> u64 {
        let device_bytes = self.nodes[node].device_bytes;
        let storage = &mut self.nodes[node].metas[volume];
        let loaded = rep_meta::load(storage, &identity(node, volume), Placement::External, device_bytes);
        let loaded = Box::new(loaded.expect("good metadata"));
        let (id, boot) = (self.nodes[node].next_number(), BootId(self.nodes[node].boot));
        let volume = VolumeNumber(volume as u16);
        let Node { traits, left, .. } = self.nodes[node];
        let event = Event::Attached { id: CommandId(id), volume, loaded, boot, traits, left };
        self.feed(node, event);
        id
    }

    /// Gives a node a command; see [`Self::outcome`].
    pub fn command(&mut self, node: usize, command: Command) -> u64 {
        let id = self.nodes[node].next_number();
        self.feed(node, Event::Command { id: CommandId(id), command });
        id
    }

    /// A node's disks have logical blocks of so many bytes, from the next attach on.
    pub fn set_blocks(&mut self, node: usize, bytes: u32) {
        self.nodes[node].traits.logical_block_bytes = bytes;
    }

    /// Whether a node's disks give discarded space back, from the next attach on.
    pub fn set_discards(&mut self, node: usize, discards: bool) {
        self.nodes[node].traits.discards = discards;
    }

    /// Whether a node's disks have a volatile cache, from the next attach on.
    pub fn set_cache(&mut self, node: usize, volatile: bool) {
        self.nodes[node].traits.volatile_cache = volatile;
    }

    /// A node's disk has so many bytes and fresh metadata, from the next attach on.
    pub fn replace_disk(&mut self, node: usize, device_bytes: u64) {
        self.nodes[node].device_bytes = device_bytes;
        self.nodes[node].metas[0] = metadata_for(node, 0, device_bytes);
    }

    /// The device an earlier daemon of a node left behind.
    pub fn leave_device(&mut self, node: usize, left: Option<LeftDevice>) {
        self.nodes[node].left = left;
    }

    /// What a node offers to clients.
    pub fn offered(&self, node: usize) -> Option<Offer> {
        self.nodes[node].offered.get(&VolumeNumber(0)).copied()
    }

    /// A client's write of any range.
    pub fn write_range(&mut self, node: usize, range: ByteRange) -> u64 {
        self.ask_write(node, VolumeNumber(0), range, false)
    }

    fn ask_write(&mut self, node: usize, volume: VolumeNumber, range: ByteRange, fua: bool) -> u64 {
        let (id, payload) = (self.nodes[node].next_number(), self.nodes[node].next_payload());
        self.feed(node, Event::ClientWrite { request: RequestId(id), volume, range, payload, fua });
        id
    }

    /// A node's disks get twice their size.
    pub fn grow_disks(&mut self, node: usize) {
        self.nodes[node].device_bytes = 2 * DEVICE_BYTES;
    }

    /// The operator no longer waits for a command.
    pub fn abandon(&mut self, node: usize, id: u64) {
        self.feed(node, Event::CommandAbandoned { id: CommandId(id) });
    }

    /// A client's write of one block; see [`Self::answer`].
    pub fn write(&mut self, node: usize, volume: usize, block: u64) -> u64 {
        let range = ByteRange::new(block * BLOCK_SIZE, BLOCK_SIZE as u32);
        self.ask_write(node, VolumeNumber(volume as u16), range, false)
    }

    /// The same of volume 0 with FUA.
    pub fn write_fua(&mut self, node: usize, block: u64) -> u64 {
        let range = ByteRange::new(block * BLOCK_SIZE, BLOCK_SIZE as u32);
        self.ask_write(node, VolumeNumber(0), range, true)
    }

    /// A client's read of one block.
    pub fn read(&mut self, node: usize, volume: usize, block: u64) -> u64 {
        let (id, payload) = (self.nodes[node].next_number(), self.nodes[node].next_payload());
        let range = ByteRange::new(block * BLOCK_SIZE, BLOCK_SIZE as u32);
        let (request, volume) = (RequestId(id), VolumeNumber(volume as u16));
        self.feed(node, Event::ClientRead { request, volume, range, payload });
        id
    }

    /// A client's flush.
    pub fn flush(&mut self, node: usize, volume: usize) -> u64 {
        let id = self.nodes[node].next_number();
        self.feed(node, Event::ClientFlush { request: RequestId(id), volume: VolumeNumber(volume as u16) });
        id
    }

    /// So many clients have a node's first device open.
    pub fn open(&mut self, node: usize, openers: u32) {
        self.feed(node, Event::Openers { volume: VolumeNumber(0), count: openers });
    }

    /// From now on these operations of a node's volume aren't done.
    pub fn hold(&mut self, node: usize, kind: Kind, volume: usize) {
        self.nodes[node].held.push((kind, volume));
    }

    /// They are again; what was held is done.
    pub fn let_go(&mut self, node: usize, kind: Kind, volume: usize) {
        self.nodes[node].held.retain(|held| *held != (kind, volume));
        self.run();
    }

    /// Of what is held, the newest is done.
    pub fn let_newest_go(&mut self, node: usize, kind: Kind, volume: usize) {
        let at = self.nodes[node].ops.iter().rposition(|op| (op.kind, op.volume) == (kind, volume));
        let op = at.and_then(|at| self.nodes[node].ops.remove(at)).expect("something is held");
        self.report(node, op, Ok(()));
        self.run();
    }

    /// Of what is held, the newest fails.
    pub fn let_newest_go_wrong(&mut self, node: usize, kind: Kind, volume: usize) {
        let at = self.nodes[node].ops.iter().rposition(|op| (op.kind, op.volume) == (kind, volume));
        let op = at.and_then(|at| self.nodes[node].ops.remove(at)).expect("something is held");
        self.report(node, op, Err(IoError::Io));
        self.run();
    }

    /// A client's write fails on its node's disk.
    pub fn fail_write(&mut self, node: usize, volume: usize, block: u64) {
        self.hold(node, Kind::Data, volume);
        self.write(node, volume, block);
        self.run();
        self.fail_held(node, Kind::Data, volume);
    }

    /// What is held fails, and nothing is held any more.
    pub fn fail_held(&mut self, node: usize, kind: Kind, volume: usize) {
        self.nodes[node].held.retain(|held| *held != (kind, volume));
        let ops = std::mem::take(&mut self.nodes[node].ops);
        let (failing, others) = ops.into_iter().partition(|op| op.kind == kind && op.volume == volume);
        self.nodes[node].ops = others;
        assert!(!VecDeque::is_empty(&failing), "nothing of {kind:?} is held on node {node}");
        failing.into_iter().for_each(|op| self.report(node, op, Err(IoError::Io)));
        self.run();
    }

    /// How many of these operations are held.
    pub fn held(&self, node: usize, kind: Kind, volume: usize) -> usize {
        self.nodes[node].ops.iter().filter(|op| (op.kind, op.volume) == (kind, volume)).count()
    }

    /// What is held waits for a buffer, as its engine is told.
    pub fn queue_held(&mut self, node: usize) {
        let ios: Vec<IoId> = self.nodes[node].ops.iter().map(|op| op.io).collect();
        ios.into_iter().for_each(|io| self.feed(node, Event::DiskQueued { io }));
    }

    /// It has got one, and is with the disk.
    pub fn begin_held(&mut self, node: usize) {
        let ios: Vec<IoId> = self.nodes[node].ops.iter().map(|op| op.io).collect();
        ios.into_iter().for_each(|io| self.feed(node, Event::DiskBegun { io }));
    }

    /// Bytes a node's volume 0 has got or given by resyncs.
    pub fn copied(&self, node: usize) -> u64 {
        self.volume(node, 0).counters.resynced_bytes
    }

    /// From now on nothing this node sends arrives.
    pub fn hold_wire(&mut self, from: usize) {
        self.wire_held[from] = true;
    }

    /// It does again.
    pub fn let_wire_go(&mut self, from: usize) {
        self.wire_held[from] = false;
        self.run();
    }

    /// The messages a node has sent that haven't arrived.
    pub fn on_wire(&mut self, from: usize) -> impl Iterator<Item = &mut Message> {
        self.wires[from].iter_mut().filter_map(|(_, sent)| match sent {
            Sent::Frame(message, _) => Some(message),
            Sent::End => None,
        })
    }

    /// The payloads of those are lost, as no codec would let them.
    pub fn lose_payloads(&mut self, from: usize) {
        for (_, sent) in &mut self.wires[from] {
            if let Sent::Frame(_, carries) = sent {
                *carries = false;
            }
        }
    }

    /// These blocks are zeroes from now on, of whatever range is read of a node's disks for its peer.
    pub fn set_zeroes(&mut self, node: usize, blocks: std::ops::Range<u32>) {
        self.nodes[node].zeroes = ZeroBlocks::NONE;
        blocks.for_each(|block| self.nodes[node].zeroes.set(block));
    }

    /// Does everything that isn't held, until nothing is left.
    pub fn run(&mut self) {
        while self.deliver() | self.work(0) | self.work(1) {}
    }

    /// A block changes behind a node's engine: its digests tell.
    pub fn change_block(&mut self, node: usize, block: u64) {
        self.nodes[node].changed.push(block);
    }

    /// Lets time pass on both nodes.
    pub fn pass_time(&mut self, span: Duration) {
        self.now += span.as_nanos() as u64;
        for node in 0..2 {
            self.feed(node, Event::Timeout);
        }
        self.run();
    }

    /// The question a node's fence-peer handler has to answer.
    pub fn fence_asked(&self, node: usize) -> Option<FenceId> {
        self.nodes[node].fence_asked
    }

    /// A node's fence-peer handler ends.
    pub fn fence_answers(&mut self, node: usize, answer: FenceAnswer) {
        let id = self.nodes[node].fence_asked.take().expect("nobody asked");
        self.fence_answers_to(node, id, answer);
    }

    /// The same, to that question.
    pub fn fence_answers_to(&mut self, node: usize, id: FenceId, answer: FenceAnswer) {
        self.feed(node, Event::FenceAnswered { id, answer });
        self.run();
    }

    /// The question a node's before-resync-target handler has to answer.
    pub fn resync_asked(&self, node: usize) -> Option<ResyncId> {
        self.nodes[node].resync_asked
    }

    /// A node's before-resync-target handler ends.
    pub fn resync_answers(&mut self, node: usize, allowed: bool) {
        let id = self.nodes[node].resync_asked.take().expect("nobody asked");
        self.resync_answers_to(node, id, allowed);
    }

    /// The same, to that question.
    pub fn resync_answers_to(&mut self, node: usize, id: ResyncId, allowed: bool) {
        self.feed(node, Event::ResyncAnswered { id, allowed });
        self.run();
    }

    // ---- what the test looks at ----

    /// How a command ended, if it has.
    pub fn outcome(&self, node: usize, id: u64) -> Option<Result<CommandOutcome, CommandError>> {
        self.nodes[node].outcomes.get(&id).cloned()
    }

    /// How a client's request ended, if it has.
    pub fn answer(&self, node: usize, id: u64) -> Option<Result<(), IoError>> {
        self.nodes[node].answers.get(&id).copied()
    }

    /// A node.
    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// A node as its engine shows it.
    pub fn snapshot(&self, node: usize) -> Snapshot {
        self.nodes[node].engine.snapshot(Timestamp(self.now))
    }

    /// A volume as a node's engine shows it.
    pub fn volume(&self, node: usize, volume: usize) -> VolumeSnapshot {
        self.snapshot(node).volumes[volume].clone()
    }

    /// A volume's superblock as it is on a node's disk.
    pub fn superblock(&mut self, node: usize, volume: usize) -> Superblock {
        let device_bytes = self.nodes[node].device_bytes;
        let storage = &mut self.nodes[node].metas[volume].clone();
        let loaded = rep_meta::load(storage, &identity(node, volume), Placement::External, device_bytes);
        loaded.expect("good metadata").superblock
    }

    /// Whether both nodes hold every volume for equal and good.
    pub fn is_in_sync(&self) -> bool {
        let settled = |volume: &VolumeSnapshot| {
            let good = (volume.disk, volume.peer_disk) == (DiskState::UpToDate, DiskState::UpToDate);
            good && volume.replication == ReplicationState::Established && volume.out_of_sync_bytes == 0
        };
        (0..2).all(|node| self.snapshot(node).volumes.iter().all(settled))
    }

    /// What a node's operators were told.
    pub fn notices(&self, node: usize) -> &[Notice] {
        &self.nodes[node].notices
    }

    /// How many volumes there are.
    pub fn volumes(&self) -> usize {
        self.volumes
    }

    // ---- the bench itself ----

    fn feed(&mut self, node: usize, event: Event) {
        let mut actions = Vec::new();
        self.nodes[node].engine.handle(Timestamp(self.now), event, &mut actions);
        self.nodes[node].engine.assert_invariants();
        actions.into_iter().for_each(|action| self.perform(node, action));
    }

    fn perform(&mut self, node: usize, action: Action) {
        let state = &mut self.nodes[node];
        let mut op = |io, volume: VolumeNumber, kind, work| {
            state.ops.push_back(DiskOp { io, volume: volume.0 as usize, kind, work });
        };
        match action {
            Action::WriteDisk { io, volume, .. } | Action::ZeroDisk { io, volume, .. } => {
                op(io, volume, Kind::Data, Work::Data)
            }
            Action::ReadDisk { io, volume, into: ReadInto::Payload(_), .. } => op(io, volume, Kind::Data, Work::Data),
            Action::ReadDisk { io, volume, .. } => op(io, volume, Kind::Data, Work::ReadNew),
            Action::DigestDisk { io, volume, range, .. } => op(io, volume, Kind::Data, Work::Digest(range)),
            Action::FlushDisk { io, volume } => op(io, volume, Kind::Flush, Work::Data),
            Action::Archive { io, volume, .. } => op(io, volume, Kind::Data, Work::Archive),
            Action::WriteMeta { io, volume, offset, block } => op(io, volume, Kind::Meta, Work::Meta(offset, block)),
            Action::Send { session, message, payload } => {
                self.wires[node].push_back((session, Sent::Frame(message, payload.is_some())));
            }
            Action::WantLink { wanted } => state.wants_link = wanted,
            Action::CloseLink { session, .. } => self.wires[node].push_back((session, Sent::End)),
            Action::Complete { request, result, .. } => {
                assert_eq!(state.answers.insert(request.0, result), None, "request {} is answered twice", request.0);
            }
            Action::CommandDone { id, result } => {
                assert_eq!(state.outcomes.insert(id.0, result), None, "command {} ends twice", id.0);
            }
            Action::FencePeer { id } => state.fence_asked = Some(id),
            Action::AskBeforeResync { id, .. } => state.resync_asked = Some(id),
            Action::MeasureDisk { volume } => {
                let (device_bytes, metadata_device_bytes) = (state.device_bytes, 1 << 20);
                self.feed(node, Event::DiskMeasured { volume, device_bytes, metadata_device_bytes });
            }
            Action::Notice(notice) => state.notices.push(notice),
            Action::Export { volume, offer } => {
                let offered = &mut state.offered;
                let _ = match offer {
                    Some(offer) => offered.insert(volume, offer),
                    None => offered.remove(&volume),
                };
            }
            Action::CloseDisk { .. } | Action::DropArchive { .. } | Action::Release { .. } => {}
        }
    }

    fn deliver(&mut self) -> bool {
        let mut moved = false;
        for from in 0..2 {
            moved |= !self.wire_held[from] && self.deliver_one(from);
        }
        moved
    }

    /// Delivers the next frame a node sent, also if they are held; whether there was one.
    pub fn deliver_one(&mut self, from: usize) -> bool {
        let Some((session, sent)) = self.wires[from].pop_front() else { return false };
        let event = match sent {
            Sent::End => Event::LinkDown { session, cause: LinkCause::Closed },
            Sent::Frame(message, carries) => {
                let payload = carries.then(|| self.nodes[1 - from].next_payload());
                Event::PeerMessage { session, message, payload }
            }
        };
        self.feed(1 - from, event);
        true
    }

    fn work(&mut self, node: usize) -> bool {
        let state = &mut self.nodes[node];
        let free = |op: &DiskOp| !state.held.contains(&(op.kind, op.volume));
        let Some(at) = state.ops.iter().position(free) else { return false };
        let Some(op) = state.ops.remove(at) else { return false };
        self.report(node, op, Ok(()));
        true
    }

    fn report(&mut self, node: usize, op: DiskOp, result: Result<(), IoError>) {
        let io = op.io;
        let event = match op.work {
            Work::Meta(offset, block) => {
                if result.is_ok() {
                    self.nodes[node].metas[op.volume].write(offset, &block.0[..]).expect("within the device");
                }
                Event::MetaDone { io, result }
            }
            Work::Archive => Event::Archived { io, result: result.map_err(|_| ArchiveError::Disk) },
            Work::Digest(range) => {
                let blocks = range.blocks_touched();
                let mut digests = vec![0; blocks.count as usize * DIGEST_LENGTH];
                let changed = self.nodes[node].changed.iter();
                for block in changed.filter(|block| (blocks.first.0..blocks.end()).contains(block)) {
                    digests[(block - blocks.first.0) as usize * DIGEST_LENGTH] = 1;
                }
                Event::Digested { io, result: result.map(|()| digests) }
            }
            Work::ReadNew => {
                let payload = Some(self.nodes[node].next_payload());
                Event::DiskDone {
                    io,
                    result: result.map(|()| DiskSuccess { payload, zeroes: self.nodes[node].zeroes }),
                }
            }
            Work::Data => Event::DiskDone { io, result: result.map(|()| DiskSuccess::default()) },
        };
        self.feed(node, event);
    }
}
