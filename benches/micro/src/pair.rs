//! Two engines, connected and in sync, the first Primary; then one of them alone, with its shell and its peer played by
//! a workload. No data, no clock: every operation succeeds at once.

use rep_engine::{Action, Command, CommandOutcome, DiskSuccess, DiskTraits, Engine, EngineConfig, Event, Timestamp};
use rep_meta::{BootId, CreateParameters, Identity, InitialBitmap, LayoutOptions, MemoryStorage, Placement};
use rep_types::{CommandId, NodeName, PayloadId, ResourceName, Role, SessionId, VolumeNumber};
use std::collections::VecDeque;

/// The one volume.
pub const VOLUME: VolumeNumber = VolumeNumber(0);
/// The one connection.
pub const SESSION: SessionId = SessionId(1);
/// Bytes of the volume.
const DEVICE_BYTES: u64 = 1 << 30;
/// Bytes of the metadata device.
const META_BYTES: u64 = 8 << 20;
/// What passes between one event and the next.
const STEP_NS: u64 = 1_000;

/// An engine and what it asked for last.
#[derive(Debug)]
pub struct Node {
    engine: Engine,
    now: Timestamp,
    /// To be emptied before the next event.
    pub actions: Vec<Action>,
}

impl Node {
    fn new(node: u64) -> Node {
        Node { engine: Engine::new(EngineConfig::new(node == 0, node)), now: Timestamp(1), actions: Vec::new() }
    }

    /// Feeds an event; what is to be done is added to `actions`.
    pub fn feed(&mut self, event: Event) {
        self.now = Timestamp(self.now.0 + STEP_NS);
        self.engine.handle(self.now, event, &mut self.actions);
    }
}

/// The event that ends what an action began; `None` where nothing follows or somebody else has to answer.
pub fn done(action: &Action) -> Option<Event> {
    match *action {
        Action::WriteDisk { io, .. } | Action::ReadDisk { io, .. } | Action::FlushDisk { io, .. } => {
            Some(Event::DiskDone { io, result: Ok(DiskSuccess::default()) })
        }
        Action::WriteMeta { io, .. } => Some(Event::MetaDone { io, result: Ok(()) }),
        Action::MeasureDisk { volume } => {
            Some(Event::DiskMeasured { volume, device_bytes: DEVICE_BYTES, metadata_device_bytes: META_BYTES })
        }
        _ => None,
    }
}

/// The Primary and the Secondary of a pair in sync.
pub fn in_sync() -> [Node; 2] {
    let mut pair = Pair { nodes: [Node::new(0), Node::new(1)], events: VecDeque::new(), commands: 0, done: 0 };
    for node in 0..2 {
        pair.attach(node);
        pair.command(node, Command::Connect { discard_my_data: false });
    }
    for node in 0..2 {
        let features = rep_wire::features::ALL;
        pair.events.push_back((node, Event::LinkUp { session: SESSION, features, digest_key: Box::default() }));
    }
    pair.run();
    pair.command(0, Command::NewGeneration { volume: VOLUME, clear_bitmap: true });
    pair.command(0, Command::Promote { force: false });
    assert_eq!(pair.done, pair.commands, "every command has ended");
    let [primary, secondary] = &pair.nodes;
    let roles = [primary, secondary].map(|node| node.engine.snapshot(node.now).role);
    assert_eq!(roles, [Role::Primary, Role::Secondary]);
    pair.nodes
}

/// Both nodes, while they come together.
struct Pair {
    nodes: [Node; 2],
    events: VecDeque<(usize, Event)>,
    commands: u64,
    done: u64,
}

impl Pair {
    fn attach(&mut self, node: usize) {
        let identity = Identity {
            resource: ResourceName::new("micro").expect("a legal name"),
            node: NodeName::new(["alpha", "beta"][node]).expect("a legal name"),
            volume: VOLUME,
        };
        let mut storage = MemoryStorage::new(META_BYTES);
        let parameters = CreateParameters {
            identity: identity.clone(),
            device_uuid: node as u128 + 1,
            placement: Placement::External,
            device_bytes: DEVICE_BYTES,
            options: LayoutOptions::default(),
            bitmap: InitialBitmap::Clean,
        };
        rep_meta::create(&mut storage, &parameters).expect("there is room");
        let loaded = rep_meta::load(&mut storage, &identity, Placement::External, DEVICE_BYTES);
        self.commands += 1;
        let event = Event::Attached {
            id: CommandId(self.commands),
            volume: VOLUME,
            loaded: Box::new(loaded.expect("good metadata")),
            boot: BootId(1),
            traits: DiskTraits { logical_block_bytes: 512, discards: true, volatile_cache: true },
            left: None,
        };
        self.events.push_back((node, event));
        self.run();
    }

    fn command(&mut self, node: usize, command: Command) {
        self.commands += 1;
        self.events.push_back((node, Event::Command { id: CommandId(self.commands), command }));
        self.run();
    }

    fn run(&mut self) {
        while let Some((node, event)) = self.events.pop_front() {
            self.nodes[node].feed(event);
            for action in std::mem::take(&mut self.nodes[node].actions) {
                self.perform(node, action);
            }
        }
    }

    fn perform(&mut self, node: usize, action: Action) {
        if let Some(event) = done(&action) {
            return self.events.push_back((node, event));
        }
        match action {
            Action::Send { session, message, payload } => {
                let payload = payload.map(|_| PayloadId(0));
                self.events.push_back((1 - node, Event::PeerMessage { session, message, payload }));
            }
            Action::CommandDone { result, .. } => {
                assert_eq!(result, Ok(CommandOutcome::Done), "both nodes come together");
                self.done += 1;
            }
            Action::CloseLink { cause, .. } => panic!("the connection ended: {cause:?}"),
            _ => {}
        }
    }
}
