//! Two engines with a bad link between them: frames that are whole and checked, and yet say what no engine of ours
//! would say. An engine may drop the link over it; it may not panic or break its own invariants.
//!
//! Disks are kept by the input too: what is in flight completes when, and how, the input says.

use super::Target;
use super::image::Image;
use super::metadata::{fresh, identity};
use rep_engine::{Action, Command, DiskSuccess, DiskTraits, Engine, EngineConfig, Event, ReadInto, Side, Timestamp};
use rep_meta::{BootId, Identity, InitialBitmap, MetaStorage, Placement, load};
use rep_types::{
    BLOCK_SIZE, ByteRange, CommandId, DIGEST_LENGTH, IoError, LinkCause, NodeName, PayloadId, RequestId, SessionId,
    VolumeNumber, ZeroBlocks, ZeroMode,
};
use rep_wire::{FrameReader, FrameWriter, Message, Parsed, PayloadSum};
use std::collections::VecDeque;
use std::sync::OnceLock;

/// The target.
pub const ENGINE: Target = Target {
    name: "engine",
    about: "two engines, their disks and operators, and frames that lie",
    run,
    seeds,
    length_max: 2 << 10,
    memory_max: 64 << 20,
    slow: true,
    ..Target::USUAL
};

const VOLUME: VolumeNumber = VolumeNumber(0);
/// Bytes of each disk: small, because the invariants look at every block after every event.
const DEVICE_BYTES: u64 = 16 << 20;
/// Events one step of the input may lead to.
const EVENTS_MAX: usize = 400;
/// Blocks clients work on: few, so that they meet.
const BLOCKS: u64 = 16;

struct Node {
    engine: Engine,
    metadata: Image,
    identity: Identity,
    /// What was asked of the disk and hasn't been answered.
    pending: VecDeque<Event>,
    /// Sent to the other node and not arrived.
    sent: VecDeque<Message>,
    wants_link: bool,
    exported: bool,
}

struct World {
    nodes: [Node; 2],
    session: Option<SessionId>,
    now: Timestamp,
    count: u64,
}

fn identities() -> [Identity; 2] {
    ["alpha", "beta"].map(|name| Identity { node: NodeName::new(name).expect("a name"), ..identity() })
}

/// Fresh metadata of both nodes, made once.
fn images() -> &'static [Image; 2] {
    static IMAGES: OnceLock<[Image; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| {
        identities().map(|identity| fresh(identity, InitialBitmap::Clean, Placement::External, DEVICE_BYTES, None))
    })
}

impl World {
    fn new() -> World {
        let node = |sorts_first: bool, metadata: &Image, identity: Identity| Node {
            engine: Engine::new(EngineConfig::new(sorts_first, 7)),
            metadata: metadata.clone(),
            identity,
            pending: VecDeque::new(),
            sent: VecDeque::new(),
            wants_link: false,
            exported: false,
        };
        let [alpha, beta] = identities();
        let nodes = [node(true, &images()[0], alpha), node(false, &images()[1], beta)];
        World { nodes, session: None, now: Timestamp(0), count: 0 }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn new_payload(&mut self) -> PayloadId {
        PayloadId(self.next() as u32)
    }

    fn handle(&mut self, at: usize, event: Event) {
        let mut actions = Vec::new();
        self.now = Timestamp(self.now.0 + 1000);
        self.nodes[at].engine.handle(self.now, event, &mut actions);
        self.nodes[at].engine.assert_invariants();
        for action in actions {
            self.perform(at, action);
        }
    }

    fn perform(&mut self, at: usize, action: Action) {
        let done = |io| Event::DiskDone { io, result: Ok(DiskSuccess::default()) };
        match action {
            Action::WriteDisk { io, .. } | Action::ZeroDisk { io, .. } | Action::FlushDisk { io, .. } => {
                self.nodes[at].pending.push_back(done(io));
            }
            Action::ReadDisk { io, into, .. } => {
                let payload = matches!(into, ReadInto::NewPayload).then(|| self.new_payload());
                // Every fourth read is all zeroes, every other one has a run of them.
                let words = match self.count % 4 {
                    0 => [0xff; ZeroBlocks::LENGTH],
                    1 => [0; ZeroBlocks::LENGTH],
                    _ => std::array::from_fn(|byte| if byte % 4 < 2 { 0xff } else { 0 }),
                };
                let success = DiskSuccess { payload, zeroes: ZeroBlocks::from_bytes(words) };
                self.nodes[at].pending.push_back(Event::DiskDone { io, result: Ok(success) });
            }
            Action::DigestDisk { io, range, .. } => {
                // Every other block is another on the other node.
                let digest = |block: u64| [(block & 1) as u8 * at as u8; DIGEST_LENGTH];
                let digests = (0..range.blocks_touched().count).flat_map(digest).collect();
                self.nodes[at].pending.push_back(Event::Digested { io, result: Ok(digests) });
            }
            Action::WriteMeta { io, offset, block, .. } => {
                self.nodes[at].metadata.write(offset, &block.0[..]).expect("inside the metadata");
                self.nodes[at].pending.push_back(Event::MetaDone { io, result: Ok(()) });
            }
            Action::Send { session, message, .. } if self.session == Some(session) => {
                self.nodes[at].sent.push_back(message);
            }
            Action::WantLink { wanted } => self.nodes[at].wants_link = wanted,
            Action::CloseLink { session, .. } if self.session == Some(session) => self.cut(Some(1 - at)),
            Action::Export { offer, .. } => self.nodes[at].exported = offer.is_some(),
            _ => {}
        }
    }

    /// The connection is gone; `told` (or both) learn of it.
    fn cut(&mut self, told: Option<usize>) {
        let Some(session) = self.session.take() else { return };
        self.nodes.iter_mut().for_each(|node| node.sent.clear());
        for at in [0, 1] {
            if told.is_none_or(|told| told == at) {
                self.handle(at, Event::LinkDown { session, cause: LinkCause::Closed });
            }
        }
    }

    fn connect(&mut self) {
        if self.nodes.iter().all(|node| node.wants_link) {
            self.cut(None);
            let session = SessionId(self.next());
            self.session = Some(session);
            self.handle(0, link_up(session));
            if self.session == Some(session) {
                self.handle(1, link_up(session));
            }
        }
    }

    fn arrive(&mut self, at: usize, message: Message) {
        let Some(session) = self.session else { return };
        let payload = (message.payload_length() > 0).then(|| self.new_payload());
        self.handle(at, Event::PeerMessage { session, message, payload });
    }

    fn deliver(&mut self, from: usize) -> bool {
        let message = self.nodes[from].sent.pop_front();
        message.map(|message| self.arrive(1 - from, message)).is_some()
    }

    fn complete(&mut self, at: usize, fails: bool) -> bool {
        let Some(event) = self.nodes[at].pending.pop_front() else { return false };
        let event = match event {
            Event::DiskDone { io, .. } if fails => Event::DiskDone { io, result: Err(IoError::Io) },
            Event::MetaDone { io, .. } if fails => Event::MetaDone { io, result: Err(IoError::Io) },
            Event::Digested { io, .. } if fails => Event::Digested { io, result: Err(IoError::Io) },
            event => event,
        };
        self.handle(at, event);
        true
    }

    /// Lets everything under way happen.
    fn settle(&mut self) {
        for _ in 0..EVENTS_MAX {
            let moved = (0..2).map(|at| self.complete(at, false) | self.deliver(at)).fold(false, |any, one| any | one);
            if !moved {
                return;
            }
        }
    }

    /// What a disk says of itself: another thing now and then.
    fn traits(&self) -> DiskTraits {
        let logical_block_bytes = if self.count.is_multiple_of(11) { 4096 } else { 512 };
        let (discards, volatile_cache) = (self.count.is_multiple_of(5), !self.count.is_multiple_of(3));
        DiskTraits { logical_block_bytes, discards, volatile_cache }
    }

    fn attach(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Ok(loaded) = load(&mut node.metadata, &node.identity, Placement::External, DEVICE_BYTES) else { return };
        let id = CommandId(self.next());
        let event = Event::Attached {
            id,
            volume: VOLUME,
            loaded: Box::new(loaded),
            boot: BootId(9),
            traits: self.traits(),
            left: None,
        };
        self.handle(at, event);
    }

    fn command(&mut self, at: usize, command: Command) {
        let id = CommandId(self.next());
        self.handle(at, Event::Command { id, command });
    }

    fn client(&mut self, at: usize, kind: u8, place: u8) {
        if !self.nodes[at].exported {
            return;
        }
        let offset = u64::from(place) % BLOCKS * BLOCK_SIZE + u64::from(place & 1) * 512;
        let range = ByteRange::new(offset, if place & 2 == 0 { 4096 } else { 512 });
        let (request, volume, payload, fua) = (RequestId(self.next()), VOLUME, self.new_payload(), place & 128 != 0);
        let event = match kind % 4 {
            0 => Event::ClientWrite { request, volume, range, payload, fua },
            1 => Event::ClientRead { request, volume, range, payload },
            2 => Event::ClientZero { request, volume, range, mode: ZeroMode::ZeroMayUnmap, fua },
            _ => Event::ClientFlush { request, volume },
        };
        self.handle(at, event);
    }

    fn pass_time(&mut self, at: usize) {
        if let Some(due) = self.nodes[at].engine.next_timeout() {
            self.now = self.now.max(due);
        }
        self.handle(at, Event::Timeout);
    }
}

/// Of every seventh connection nothing beyond the protocol's version is agreed on, as with an older node; of others not all.
fn link_up(session: SessionId) -> Event {
    let features = match session.0 {
        number if number.is_multiple_of(7) => 0,
        number if number.is_multiple_of(5) => rep_wire::features::ALL & number,
        _ => rep_wire::features::ALL,
    };
    Event::LinkUp { session, features, digest_key: Box::default() }
}

fn commands(number: u8) -> Command {
    let volume = VOLUME;
    match number % 18 {
        0 => Command::Connect { discard_my_data: false },
        1 => Command::Connect { discard_my_data: true },
        2 => Command::Plan { discard_my_data: number >= 18 },
        3 => Command::Disconnect { force: false },
        4 => Command::Disconnect { force: true },
        5 => Command::Promote { force: false },
        6 => Command::Promote { force: true },
        7 => Command::Demote,
        8 => Command::Resync { volume },
        9 => Command::ResyncFull { volume, from: Some(Side::Local) },
        10 => Command::PauseSync { volume, paused: true },
        11 => Command::PauseSync { volume, paused: false },
        12 => Command::Invalidate { volume },
        13 => Command::InvalidatePeer { volume },
        14 => Command::Outdate { volume },
        15 => Command::NewGeneration { volume, clear_bitmap: true },
        16 => Command::SuspendIo { suspended: false },
        _ => Command::Detach { volume, force: number >= 18 },
    }
}

const HEADER: usize = 48;

/// A message whose body is the input's, if that is legal at all.
fn message(kind: u8, payload_length: u32, body: &[u8]) -> Option<Message> {
    let mut frame = [&b"REPF"[..], &1_u16.to_le_bytes(), &[kind, 0], &(body.len() as u32).to_le_bytes()].concat();
    frame.extend(payload_length.to_le_bytes());
    frame.extend(7_u64.to_le_bytes());
    frame.extend(1_u64.to_le_bytes());
    frame.extend(0_u32.to_le_bytes());
    frame.extend(crc32fast::hash(body).to_le_bytes());
    frame.extend(0_u32.to_le_bytes());
    frame.extend(crc32fast::hash(&frame).to_le_bytes());
    frame.extend(body);
    match FrameReader::new(1, 7, PayloadSum::Crc32).parse(&frame) {
        Ok(Parsed::Frame(frame)) => Some(frame.message),
        _ => None,
    }
}

/// A message like this one, with some bytes of its body changed.
fn changed(original: &Message, at: u8, by: u8) -> Option<Message> {
    let mut frame = Vec::new();
    FrameWriter::new(1, 7, PayloadSum::Crc32).encode(original, 0, &mut frame).ok()?;
    let payload_length = u32::from_le_bytes(frame.get(12..16)?.try_into().ok()?);
    let kind = *frame.get(6)?;
    let body = frame.get_mut(HEADER..)?;
    let place = usize::from(at) % body.len().max(1);
    *body.get_mut(place)? ^= by;
    message(kind, payload_length, body)
}

fn run(data: &[u8]) {
    let mut world = World::new();
    for at in [0, 1] {
        world.attach(at);
        world.settle();
    }
    let mut input = data;
    while let [what, a, b, rest @ ..] = input {
        input = rest;
        let (at, a, b) = (usize::from(what >> 6 & 1), *a, *b);
        match what & 15 {
            0 | 1 => drop(world.deliver(at)),
            2 | 3 => drop(world.complete(at, false)),
            4 => drop(world.complete(at, true)),
            5 => world.pass_time(at),
            6..=8 => world.client(at, a, b),
            9 | 10 => world.command(at, commands(a)),
            11 => world.connect(),
            12 => world.cut(None),
            13 => world.attach(at),
            14 => {
                let lie = world.nodes[at].sent.pop_front().and_then(|message| changed(&message, a, b));
                lie.into_iter().for_each(|message| world.arrive(1 - at, message));
            }
            _ => {
                let (body, rest) = input.split_at(usize::from(b).min(input.len()));
                input = rest;
                message(a, 0, body).into_iter().for_each(|message| world.arrive(at, message));
            }
        }
        if what & 0x80 == 0 {
            world.settle();
        }
    }
    world.settle();
}

/// Steps, three bytes each: both connect, a generation, alpha is Primary, then something of everything.
fn seeds() -> Vec<Vec<u8>> {
    const B: u8 = 0x40;
    const CONNECT: [[u8; 3]; 4] = [[9, 0, 0], [9 | B, 0, 0], [11, 0, 0], [5, 0, 0]];
    const PRIMARY: [[u8; 3]; 2] = [[9, 15, 0], [9, 5, 0]];
    const WORK: [[u8; 3]; 6] = [[6, 0, 0], [6, 0, 9], [7, 1, 4], [8, 2, 6], [6, 3, 0], [6, 0, 130]];
    const APART: [[u8; 3]; 4] = [[12, 0, 0], [6, 0, 3], [6, 0, 8], [11, 0, 0]];
    const LIES: [[u8; 3]; 6] =
        [[0x86, 0, 1], [14, 0, 1], [0x86, 0, 5], [14, 9, 0x80], [14 | B, 3, 3], [0x8e, 20, 0xff]];
    let start = [&CONNECT[..], &PRIMARY].concat();
    let stories = [
        start.clone(),
        [&start[..], &WORK].concat(),
        [&start[..], &WORK, &APART].concat(),
        [&start[..], &WORK, &APART, &LIES].concat(),
        [&start[..], &[[9, 9, 0], [9, 10, 0], [9, 11, 0]], &WORK].concat(),
        [&start[..], &[[9 | B, 12, 0]], &WORK, &[[9, 7, 0], [9 | B, 5, 0]]].concat(),
        [&start[..], &[[12, 0, 0], [9 | B, 6, 0], [6 | B, 0, 2], [6, 0, 4], [11, 0, 0], [9 | B, 7, 0], [9 | B, 1, 0]]]
            .concat(),
        [&start[..], &WORK, &[[0x86, 0, 3], [4, 0, 0], [6, 0, 7], [13, 0, 0]]].concat(),
        [&start[..], &WORK, &[[9, 3, 0], [9, 17, 0], [13, 0, 0], [9, 0, 0], [11, 0, 0]]].concat(),
    ];
    stories.iter().map(|story| story.concat()).collect()
}
