//! The link: connections as two ordered streams of bytes, which may be cut, muted, and left half open.
//!
//! A connection has two ends. An end comes up when its shell has authenticated the peer, which needn't be at the same
//! moment on both sides, and goes down when its engine closes it, its daemon dies, or the network says so. Frames sent
//! to an end that is down are lost; their sender learns of it if the network lets him.

use crate::codec::{self, Receiver};
use crate::rng::Rng;
use rep_wire::FrameWriter;
use std::collections::{BTreeMap, VecDeque};

/// An end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Not authenticated yet.
    Pending,
    /// The engine knows it.
    Up,
    /// Gone.
    Down,
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Item {
    /// A frame, or a part of one.
    Bytes(Vec<u8>),
    /// The other side closed.
    Fin,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Stream {
    /// What is in flight, with its time of arrival.
    pub items: VecDeque<(u64, Item)>,
    /// The sender's end.
    pub writer: FrameWriter,
    /// The receiver's end.
    pub receiver: Receiver,
    /// Frames sent, and frames received whole.
    pub frames: [u64; 2],
    /// How many frames at most may be received, since what follows was corrupted.
    pub sound: Option<u64>,
    /// Whether it has been cut: nothing sent from then on arrives.
    pub cut: bool,
}

impl Stream {
    fn new(session: u64, from: usize, features: u64) -> Stream {
        let (writer, reader) = codec::direction(session, from, features);
        Stream {
            items: VecDeque::new(),
            writer,
            receiver: Receiver::new(reader),
            frames: [0; 2],
            sound: None,
            cut: false,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// The two ends, by node.
    pub ends: [End; 2],
    /// What is in flight, by the node that sent it.
    pub streams: [Stream; 2],
    /// Whether a node's engine has closed it to begin anew.
    pub begins_anew: [bool; 2],
}

impl Connection {
    /// A connection neither end of which is up yet.
    pub fn new(session: u64, features: u64) -> Connection {
        let streams = [0, 1].map(|from| Stream::new(session, from, features));
        Connection { ends: [End::Pending; 2], streams, begins_anew: [false; 2] }
    }
}

/// The network between the nodes.
#[derive(Debug)]
pub struct Network {
    /// Connections of which anything is left, by session.
    pub connections: BTreeMap<u64, Connection>,
    /// Until when nothing gets out of a node.
    pub muted_until: [u64; 2],
    /// The last session's number.
    pub sessions: u64,
    /// Whether the dialer has a try in the queue.
    pub dialing: bool,
    /// Shortest and longest delay of a frame.
    pub latency: (u64, u64),
    /// Randomness of the link.
    pub rng: Rng,
    /// Randomness of what happens to bytes.
    pub wire: Rng,
    /// Memory for frames.
    pub buffers: Vec<Vec<u8>>,
    /// Memory for payloads.
    pub scratch: Vec<u8>,
    /// Who hears right now that the peer's engine has closed their connection, to begin anew.
    pub hears_of_begin_anew: Option<usize>,
    /// What is to happen to a frame of a node.
    pub corruption: [Option<crate::wire::WireFault>; 2],
}

impl Network {
    /// A network without connections.
    pub fn new(latency: (u64, u64), rng: Rng) -> Self {
        Network {
            connections: BTreeMap::new(),
            muted_until: [0; 2],
            sessions: 0,
            dialing: false,
            latency,
            wire: rng.fork(1),
            rng,
            buffers: Vec::new(),
            scratch: Vec::new(),
            hears_of_begin_anew: None,
            corruption: [None; 2],
        }
    }

    /// Whether what this node sends gets through.
    pub fn passes(&self, from: usize, now: u64) -> bool {
        self.muted_until[from] <= now
    }

    /// A delay.
    pub fn delay(&mut self) -> u64 {
        self.rng.between(self.latency.0, self.latency.1)
    }

    /// The session of a node's live end, if it has one.
    pub fn live_session(&self, node: usize) -> Option<u64> {
        self.connections.iter().rev().find(|(_, c)| c.ends[node] != End::Down).map(|(session, _)| *session)
    }

    /// The session a node's engine has, if it has one: not one whose other side isn't authenticated yet.
    pub fn session_of_engine(&self, node: usize) -> Option<u64> {
        self.connections.iter().rev().find(|(_, c)| c.ends[node] == End::Up).map(|(session, _)| *session)
    }

    /// Puts something into a stream; says when it arrives.
    pub fn push(&mut self, session: u64, from: usize, item: Item, now: u64) -> Option<u64> {
        let delay = self.delay();
        let stream = &mut self.connections.get_mut(&session)?.streams[from];
        if stream.cut {
            return None;
        }
        let at = stream.items.back().map_or(0, |(at, _)| *at).max(now + delay);
        stream.items.push_back((at, item));
        Some(at)
    }

    /// Cuts a stream: what hasn't arrived is lost, but for a random beginning of it, which may end within a frame.
    pub fn cut(&mut self, session: u64, from: usize) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        connection.streams[from].cut = true;
        let items = &mut connection.streams[from].items;
        if !items.is_empty() {
            let keep = self.rng.below(items.len() as u64 + 1) as usize;
            items.truncate(keep);
            if let Some((_, Item::Bytes(bytes))) = items.back_mut()
                && self.wire.chance(500)
            {
                bytes.truncate(1 + self.wire.below(bytes.len() as u64) as usize);
            }
        }
    }

    /// Forgets connections nothing can come from any more.
    pub fn sweep(&mut self) {
        self.connections
            .retain(|_, c| c.ends != [End::Down, End::Down] || c.streams.iter().any(|s| !s.items.is_empty()));
    }
}
