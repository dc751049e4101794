//! What happens to the bytes on the link: frames arrive in pieces, and now and then one is changed, lost or repeated on
//! its way. Such a connection must end without anything of that frame, or behind it, being applied (I-F5).

use crate::codec::{self, Content};
use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::link::{Connection, End, Item};
use crate::plan::LinkFault;
use crate::swarm::ShellBug;
use crate::world::World;
use rep_engine::Event;
use rep_types::{LinkCause, SessionId};
use rep_wire::Message;

/// Per mille of messages overtaken by the next, with that bug of the shell.
const OVERTAKEN: u32 = 50;

/// Buffers kept for their memory.
const BUFFERS_MAX: usize = 64;

/// What happens to a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireFault {
    /// Some bits of one byte are changed.
    Change {
        /// Which of the frame's bytes: a random number.
        at: u32,
        /// Which bits: not 0.
        bits: u8,
        /// The next frame that carries data, and there of its payload.
        payload: bool,
    },
    /// It is lost; what follows isn't.
    Lose,
    /// It arrives twice.
    Repeat,
}

impl World {
    /// The next frame of a node suffers this.
    pub(crate) fn corrupt(&mut self, from: usize, fault: WireFault) {
        self.network.corruption[from] = Some(fault);
    }

    /// No frame suffers any more; a connection on which one has, unnoticed so far, ends. Whether there was one.
    pub(crate) fn mend_wire(&mut self) -> bool {
        self.network.corruption = [None; 2];
        let spoiled = |connection: &Connection| connection.streams.iter().any(|stream| stream.sound.is_some());
        let any = self.network.connections.values().any(spoiled);
        if any {
            self.break_link(LinkFault::Reset, 0);
        }
        any
    }

    /// An engine sends a message.
    pub(crate) fn send_message(&mut self, node: usize, session: u64, message: &Message, content: Content) {
        let Some(connection) = self.network.connections.get_mut(&session) else { return };
        if connection.ends[node] == End::Down {
            return;
        }
        let stream = &mut connection.streams[node];
        let mut bytes = self.network.buffers.pop().unwrap_or_default();
        bytes.clear();
        let content = content.as_ref().map(|content| &content[..]);
        match codec::encode(&mut stream.writer, message, content, &mut self.network.scratch, &mut bytes) {
            Ok(()) => {
                stream.frames[0] += 1;
                let payload = message.payload_length() as usize;
                self.frame_sent(node, session, bytes, payload);
            }
            Err(error) => self.fail(Kind::Crash, "boundary", format!("node {node} sends {message:?}: {error}")),
        }
    }

    fn frame_sent(&mut self, node: usize, session: u64, mut bytes: Vec<u8>, payload: usize) {
        let copies = self.suffer(node, session, &mut bytes, payload);
        for _ in 1..copies {
            self.push(node, session, Item::Bytes(bytes.clone()));
        }
        if copies == 0 {
            return;
        }
        if self.network.wire.chance(self.swarm.rare.pieces) {
            let rest = bytes.split_off(1 + self.network.wire.below(bytes.len() as u64 - 1) as usize);
            self.push(node, session, Item::Bytes(bytes));
            bytes = rest;
        }
        self.push(node, session, Item::Bytes(bytes));
    }

    /// Does to a frame what it is to suffer; says how often it arrives.
    fn suffer(&mut self, node: usize, session: u64, bytes: &mut [u8], payload: usize) -> usize {
        let waits = |fault: &WireFault| matches!(fault, WireFault::Change { payload: true, .. }) && payload == 0;
        let Some(fault) = self.network.corruption[node].filter(|fault| !waits(fault)) else { return 1 };
        let Some(connection) = self.network.connections.get_mut(&session) else { return 1 };
        self.network.corruption[node] = None;
        let stream = &mut connection.streams[node];
        let (sound, copies) = match fault {
            WireFault::Change { at, bits, payload: only } => {
                let place = if only { bytes.len() - payload..bytes.len() } else { 0..bytes.len() };
                bytes[place.start + at as usize % place.len()] ^= bits;
                (stream.frames[0] - 1, 1)
            }
            WireFault::Lose => (stream.frames[0] - 1, 0),
            WireFault::Repeat => (stream.frames[0], 2),
        };
        stream.sound = Some(stream.sound.map_or(sound, |sooner| sooner.min(sound)));
        self.seen(Sometimes::WireCorrupted);
        self.line(|| format!("[{session}] from node {node}: {fault:?} of {} bytes", bytes.len()));
        copies
    }

    /// Bytes come in: what is whole and sound goes to the engine.
    pub(crate) fn bytes_arrive(&mut self, session: u64, from: usize, bytes: Vec<u8>) {
        let to = 1 - from;
        let Some(connection) = self.network.connections.get_mut(&session) else { return };
        let spare = connection.streams[from].receiver.take(bytes);
        if spare.capacity() > 0 && self.network.buffers.len() < BUFFERS_MAX {
            self.network.buffers.push(spare);
        }
        let mut messages = 0;
        loop {
            let Some(connection) = self.network.connections.get_mut(&session) else { return };
            if connection.ends[to] != End::Up {
                return;
            }
            let stream = &mut connection.streams[from];
            match stream.receiver.next() {
                Ok(Some((message, content))) => {
                    messages += 1;
                    stream.frames[1] += 1;
                    if stream.sound.is_some_and(|sound| stream.frames[1] > sound) {
                        let detail = format!("node {to} takes {message:?} from a corrupted connection");
                        return self.fail(Kind::WrongData, "I-F5", detail);
                    }
                    self.hand_over(to, session, message, content);
                }
                Ok(None) => break,
                Err(error) => {
                    self.line(|| format!("node {to} <- [{session}] {error}"));
                    return self.drop_corrupted(to, session);
                }
            }
        }
        self.arrived_in_part(to, session, messages);
    }

    /// A sign of life, though no whole message came of it.
    fn arrived_in_part(&mut self, node: usize, session: u64, messages: u32) {
        let Some(connection) = self.network.connections.get(&session) else { return };
        let receiver = &connection.streams[1 - node].receiver;
        let (within, filling) = (receiver.is_within_frame(), receiver.is_filling());
        if within {
            self.seen(Sometimes::FrameInPieces);
        }
        if messages == 0 && filling {
            self.feed(node, Event::LinkAlive { session: SessionId(session) });
        }
    }

    /// There is no way to find the next frame: the connection is of no more use.
    fn drop_corrupted(&mut self, node: usize, session: u64) {
        let corrupted = self.network.connections.get(&session).is_some_and(|c| c.streams[1 - node].sound.is_some());
        if !corrupted {
            let detail = format!("node {node} drops session {session}, on which nothing was corrupted");
            return self.fail(Kind::WrongData, "I-F5", detail);
        }
        self.seen(Sometimes::CorruptionFound);
        self.drop_end(node, session, true);
        self.feed(node, Event::LinkDown { session: SessionId(session), cause: LinkCause::Protocol });
    }

    fn hand_over(&mut self, node: usize, session: u64, message: Message, content: Content) {
        if self.swarm.shell_bug != Some(ShellBug::ReorderFrames) {
            return self.receive(node, session, message, content);
        }
        match self.held_back[node].take().filter(|(held, ..)| *held == session) {
            None if self.dice.disk.chance(OVERTAKEN) => self.held_back[node] = Some((session, message, content)),
            None => self.receive(node, session, message, content),
            Some((_, earlier, its)) => {
                self.receive(node, session, message, content);
                self.receive(node, session, earlier, its);
            }
        }
    }
}
