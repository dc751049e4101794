//! Whole turns of the engine: from a client's request to its answer, with its disk and its peer played.
//!
//! ```text
//! ClientWrite ─► [WriteDisk, Send Write] ─► DiskDone, PeerMessage WriteAck ─► [Release, Complete]
//! ```
//!
//! Clients work on 64 MiB, whose extents are hot and whose unflushed blocks are known after a while: from then on
//! nothing is made durable, and nothing should be allocated.

use crate::pair::{self, Node, SESSION, VOLUME};
use rep_engine::{Action, Event};
use rep_types::{BLOCK_SIZE, ByteRange, PayloadId, RequestId};
use rep_wire::{Message, TransferId};

/// Requests under way at once in [`write_at_depth`].
pub const DEPTH: u64 = 32;
/// Blocks that clients work on (64 MiB).
const BLOCKS: u64 = 1 << 14;
/// Steps from block to block: odd, so that every block comes once before one comes again.
const STRIDE: u64 = 4099;

/// A node, what its shell owes it, and how often it did what was asked.
#[derive(Debug)]
struct Rig {
    node: Node,
    owed: Vec<Event>,
    ending: Vec<Event>,
    requests: u64,
    answers: u64,
}

impl Rig {
    fn new(node: Node) -> Rig {
        // Room for more than is ever owed: what is allocated shall be the engine's.
        let [owed, ending] = [4 * DEPTH as usize; 2].map(Vec::with_capacity);
        Rig { node, owed, ending, requests: 0, answers: 0 }
    }

    fn range(&self) -> ByteRange {
        ByteRange::new(self.requests * STRIDE % BLOCKS * BLOCK_SIZE, BLOCK_SIZE as u32)
    }

    fn begin(&mut self, request: impl FnOnce(RequestId, ByteRange) -> Event) {
        self.requests += 1;
        let event = request(RequestId(self.requests), self.range());
        self.feed(event);
    }

    /// Feeds an event and keeps what follows from it for later.
    fn feed(&mut self, event: Event) {
        self.node.feed(event);
        for action in self.node.actions.drain(..) {
            match &action {
                Action::Complete { result: Ok(()), .. }
                | Action::Send { message: Message::WriteAck { result: Ok(()), .. }, .. } => self.answers += 1,
                Action::Send { message: Message::Write { id, .. }, .. } => {
                    let message = Message::WriteAck { id: *id, result: Ok(()) };
                    self.owed.push(Event::PeerMessage { session: SESSION, message, payload: None });
                }
                Action::Release { .. } => {}
                other => self.owed.extend(pair::done(other).or_else(|| panic!("a turn in peace asks for {other:?}"))),
            }
        }
    }

    /// Everything ends that was begun.
    fn end(&mut self) {
        while !self.owed.is_empty() {
            let mut ending = std::mem::replace(&mut self.owed, std::mem::take(&mut self.ending));
            ending.drain(..).for_each(|event| self.feed(event));
            self.ending = ending;
        }
        assert_eq!(self.answers, self.requests, "everything asked for was answered well, once");
    }
}

/// Ready when every block has been written once.
fn ready(mut turn: impl FnMut() + 'static, blocks: u64) -> Box<dyn FnMut()> {
    (0..BLOCKS / blocks).for_each(|_| turn());
    Box::new(turn)
}

fn client_write(request: RequestId, range: ByteRange) -> Event {
    Event::ClientWrite { request, volume: VOLUME, range, payload: PayloadId(1), fua: false }
}

fn writes(depth: u64) -> Box<dyn FnMut()> {
    let [primary, _] = pair::in_sync();
    let mut rig = Rig::new(primary);
    let turn = move || {
        (0..depth).for_each(|_| rig.begin(client_write));
        rig.end();
    };
    ready(turn, depth)
}

/// A client's 4 KiB write on a connected Primary, from the request to its answer.
pub fn write() -> Box<dyn FnMut()> {
    writes(1)
}

/// The same, 32 of them under way at once.
pub fn write_at_depth() -> Box<dyn FnMut()> {
    writes(DEPTH)
}

/// The same write on the Secondary, from the message to the acknowledgement.
pub fn peer_write() -> Box<dyn FnMut()> {
    let [_, secondary] = pair::in_sync();
    let mut rig = Rig::new(secondary);
    let write = |request: RequestId, range| {
        let message = Message::Write { id: TransferId(request.0), volume: VOLUME, range, durable: false };
        Event::PeerMessage { session: SESSION, message, payload: Some(PayloadId(1)) }
    };
    let turn = move || {
        rig.begin(write);
        rig.end();
    };
    ready(turn, 1)
}

/// A client's 4 KiB read on the Primary.
pub fn read() -> Box<dyn FnMut()> {
    let [primary, _] = pair::in_sync();
    let mut rig = Rig::new(primary);
    let read = |request, range| Event::ClientRead { request, volume: VOLUME, range, payload: PayloadId(1) };
    let turn = move || {
        rig.begin(read);
        rig.end();
    };
    ready(turn, 1)
}
