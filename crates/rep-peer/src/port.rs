//! The port: dials or listens while a connection is wanted, lets one authenticated connection at a time speak.

use crate::backoff::Backoff;
use crate::connection::{Connection, Sent, Step};
use crate::limits::{DRAIN_TIME_MAX, OPENING_TIME_MAX, OPENINGS_MAX, REFUSED_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::problem::LinkProblem;
use crate::socket;
use crate::sums;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use rep_ring::{Completion, Key, Listener, Pool, Slab, SlotId, Submit, opcode, types};
use rep_types::{DigestKey, LinkCause, NodeName, ResourceName, SessionId};
use rep_wire::{Agreed, Message, Opening, OpeningConfig, OpeningRandom, OpeningSide, Secret};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Who is linked with whom, where and how.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The resource.
    pub resource: ResourceName,
    /// This node.
    pub node: NodeName,
    /// The other.
    pub peer: NodeName,
    /// The shared secret, if any.
    pub secret: Option<Secret>,
    /// This node's address.
    pub listen: SocketAddr,
    /// The other's.
    pub peer_address: SocketAddr,
    /// The longest pause between two attempts to connect.
    pub connect_interval: Duration,
}

/// An operation of this port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerOperation {
    /// A listening socket's.
    Accept(Key),
    /// A dialling socket's.
    Connect(Key),
    /// A connection's.
    Receive(Key),
    /// A connection's.
    Send(Key),
    /// Taking another operation back.
    Cancel,
}

/// What the port tells.
#[derive(Debug)]
pub enum PeerEvent {
    /// An authenticated connection stands; an older one ended by this.
    LinkUp {
        /// Its number, larger than any before.
        session: SessionId,
        /// What both nodes offer (`rep_wire::features`).
        features: u64,
        /// Random, of this connection.
        digest_key: Box<DigestKey>,
    },
    /// The connection is gone.
    LinkDown {
        /// Which.
        session: SessionId,
        /// Why.
        cause: LinkCause,
    },
    /// Bytes went over the connection, though no whole message came of it.
    Alive {
        /// On which connection.
        session: SessionId,
    },
    /// A whole, checked message.
    Message {
        /// On which connection.
        session: SessionId,
        /// What.
        message: Message,
        /// What came with it; the receiver has its one use.
        payload: Option<SlotId>,
    },
}

struct Dial {
    socket: OwnedFd,
    /// What the kernel reads: in a box, because this may move.
    address: Box<SockaddrStorage>,
    operation: Option<Key>,
    deadline: Instant,
    given_up: bool,
    cancelled: bool,
}

/// The link to the peer.
pub struct PeerPort {
    options: PeerOptions,
    dials: bool,
    wanted: bool,
    /// When to try next; `None` while an attempt or a connection is under way.
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// The same after connections that ended in a refusal: they come about at once, and say the same again.
    refused: Backoff,
    listeners: Slab<Listener>,
    dialings: Slab<Dial>,
    connections: Slab<Connection>,
    current: Option<(SessionId, Key)>,
    last_session: u64,
    send_times: Vec<Duration>,
    problem: Option<LinkProblem>,
    /// The problem that was logged last.
    told: String,
    untold: bool,
    /// Kept for its memory: the connections a turn looks at.
    keys: Vec<Key>,
    /// What this node offers its peer.
    features: u64,
}

impl PeerPort {
    /// A port that wants no connection yet.
    pub fn new(options: PeerOptions) -> Self {
        PeerPort {
            dials: options.node < options.peer,
            wanted: false,
            retry_at: None,
            backoff: Backoff::new(options.connect_interval),
            refused: Backoff::new(options.connect_interval.min(REFUSED_PAUSE_MAX)),
            listeners: Slab::new(),
            dialings: Slab::new(),
            connections: Slab::new(),
            current: None,
            last_session: 0,
            send_times: Vec::new(),
            problem: None,
            told: String::new(),
            untold: false,
            keys: Vec::new(),
            features: sums::offered_features(),
            options,
        }
    }

    /// Whether a connection is wanted. One that stands stays until it is closed.
    pub fn want(&mut self, wanted: bool, now: Instant) {
        self.wanted = wanted;
        self.backoff.reset();
        self.refused.reset();
        if wanted {
            self.retry_at = Some(now);
            return;
        }
        self.retry_at = None;
        self.problem = None;
        self.listeners.iter_mut().for_each(|(_, listener)| listener.close());
        self.dialings.iter_mut().for_each(|(_, dial)| dial.given_up = true);
    }

    /// Why there is no connection although one is wanted.
    pub fn problem(&self) -> Option<&LinkProblem> {
        self.problem.as_ref().filter(|_| self.wanted && self.current.is_none())
    }

    /// A problem that hasn't been told yet and is another than the last that was: to be logged.
    pub fn new_problem(&mut self) -> Option<&str> {
        if !std::mem::take(&mut self.untold) {
            return None;
        }
        let problem = self.problem.as_ref()?.to_string();
        if problem == self.told {
            return None;
        }
        self.told = problem;
        Some(&self.told)
    }

    fn fails(&mut self, problem: LinkProblem) {
        self.problem = Some(problem);
        self.untold = true;
    }

    /// How long the gathered sends took that have ended since this was asked last: from when they were handed to the
    /// kernel until it had all of them.
    pub fn send_times(&mut self) -> impl Iterator<Item = Duration> + '_ {
        self.send_times.drain(..)
    }

    /// Bytes waiting to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.current.and_then(|(_, key)| self.connections.get(key)).map_or(0, Connection::queued_bytes)
    }

    /// Queues a message on this connection; dropped when it is gone. Takes over one use of the payload.
    pub fn send(&mut self, session: SessionId, message: &Message, payload: Option<SlotId>, pool: &mut Pool) {
        let current = self.current.filter(|(current, _)| *current == session);
        match current.and_then(|(_, key)| self.connections.get_mut(key)) {
            Some(connection) => connection.send(message, payload, pool),
            None => payload.into_iter().for_each(|slot| pool.release(slot)),
        }
    }

    /// Ends this connection after what is queued has left. Nothing more is told of it.
    pub fn close(&mut self, session: SessionId, cause: LinkCause, now: Instant, pool: &mut Pool) {
        // The peer, which was refused as well, may have been the first to close it, and what is lost is dialled at once.
        let is_last = session == SessionId(self.last_session) && self.last_session > 0;
        let closed = self.current.take_if(|(current, _)| *current == session);
        if let Some(connection) = closed.and_then(|(_, key)| self.connections.get_mut(key)) {
            connection.drain(now + DRAIN_TIME_MAX, pool);
        }
        if cause == LinkCause::Refused && is_last && self.wanted && self.current.is_none() {
            self.dialings.iter_mut().for_each(|(_, dial)| dial.given_up = true);
            self.retry_at = Some(now + self.refused.pause());
        } else if closed.is_some() {
            self.try_again(now);
        }
    }

    /// Ends everything; operations with the kernel come back soon. True when none is left.
    pub fn shut_down(&mut self, now: Instant, pool: &mut Pool) -> bool {
        if self.wanted {
            self.want(false, now);
        }
        self.current = None;
        for (_, connection) in self.connections.iter_mut() {
            match connection.session() {
                Some(_) => connection.drain(now + DRAIN_TIME_MAX, pool),
                None if connection.is_opening() => connection.kill(pool),
                None => {}
            }
        }
        self.listeners.is_empty() && self.dialings.is_empty() && self.connections.is_empty()
    }

    fn try_again(&mut self, now: Instant) {
        if self.wanted && self.current.is_none() && self.retry_at.is_none() {
            self.retry_at = Some(now + self.backoff.pause());
        }
    }

    /// When [`PeerPort::turn`] must be called at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let connections = self.connections.iter().filter_map(|(_, connection)| connection.deadline());
        let dialings = self.dialings.iter().filter(|(_, dial)| !dial.given_up).map(|(_, dial)| dial.deadline);
        connections.chain(dialings).chain(self.retry_at).min()
    }

    /// Takes a completion of one of this port's operations.
    pub fn completed(
        &mut self,
        operation: PeerOperation,
        completion: Completion,
        now: Instant,
        pool: &mut Pool,
        events: &mut Vec<PeerEvent>,
    ) {
        match operation {
            PeerOperation::Accept(key) => self.accepted(key, completion, now, pool),
            PeerOperation::Connect(key) => self.connected(key, completion, now, pool),
            PeerOperation::Receive(key) => {
                let Some(connection) = self.connections.get_mut(key) else { return };
                let session = connection.session();
                let result = connection.received(completion);
                self.went(key, result, now, pool, events);
                let events_before = events.len();
                self.parse(key, now, pool, events);
                if events.len() == events_before {
                    self.alive(key, session, events);
                }
            }
            PeerOperation::Send(key) => {
                let Some(connection) = self.connections.get_mut(key) else { return };
                let session = connection.session();
                match connection.sent(completion, pool) {
                    Ok(began) => {
                        self.send_times.extend(began.map(|began| now.saturating_duration_since(began)));
                        self.alive(key, session, events);
                    }
                    Err(problem) => self.send_failed(key, problem, now, pool, events),
                }
            }
            PeerOperation::Cancel => {}
        }
    }

    fn send_failed(
        &mut self,
        key: Key,
        problem: LinkProblem,
        now: Instant,
        pool: &mut Pool,
        events: &mut Vec<PeerEvent>,
    ) {
        // What the peer sent before it went is still to be received; that also finds the end.
        match self.connections.get_mut(key) {
            Some(connection) if connection.session().is_some() => connection.stop_sending(),
            _ => self.went(key, Err(problem), now, pool, events),
        }
    }

    /// A sign of life of the current connection: some of a long message came in, or the socket took some of a queue.
    fn alive(&self, key: Key, session: Option<SessionId>, events: &mut Vec<PeerEvent>) {
        let Some(session) = session.filter(|_| self.current.is_some_and(|(_, current)| current == key)) else { return };
        if self.connections.get(key).is_some_and(|connection| connection.queued_bytes() > 0 || connection.is_filling())
        {
            events.push(PeerEvent::Alive { session });
        }
    }

    fn accepted(&mut self, key: Key, completion: Completion, now: Instant, pool: &mut Pool) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        let accepted = listener.accepted(completion.as_io());
        if listener.is_closing() {
            self.listeners.remove(key);
            return;
        }
        match accepted {
            Ok(socket) => self.begin_opening(socket, OpeningSide::Listener, now, pool),
            Err(error) if error.raw_os_error() == Some(nix::libc::ECONNABORTED) => {}
            Err(error) => {
                self.fails(LinkProblem::Listen { address: self.options.listen, error });
                self.listeners.remove(key);
                self.retry_at = Some(now + RETRY_PAUSE_MIN * 20);
            }
        }
    }

    fn connected(&mut self, key: Key, completion: Completion, now: Instant, pool: &mut Pool) {
        let Some(dial) = self.dialings.remove(key) else { return };
        match completion.as_io() {
            _ if !self.wanted => {}
            Ok(_) => self.begin_opening(dial.socket, OpeningSide::Dialer, now, pool),
            Err(error) => {
                let error = if dial.given_up { io::ErrorKind::TimedOut.into() } else { error };
                self.fails(LinkProblem::Dial { address: self.options.peer_address, error });
                self.try_again(now);
            }
        }
    }

    fn begin_opening(&mut self, socket: OwnedFd, side: OpeningSide, now: Instant, pool: &mut Pool) {
        let mut random = OpeningRandom { nonce: [0; 32], session: 0 };
        let mut session = [0; 8];
        let ready = socket::set_options(&socket).and_then(|()| {
            getrandom::fill(&mut random.nonce).and_then(|()| getrandom::fill(&mut session)).map_err(io::Error::other)
        });
        if let Err(error) = ready {
            self.fails(LinkProblem::Failed(error));
            return self.try_again(now);
        }
        random.session = u64::from_ne_bytes(session);
        let PeerOptions { resource, node, peer, secret, .. } = self.options.clone();
        let config = OpeningConfig { features: self.features, ..OpeningConfig::new(resource, node, peer, secret) };
        let opening = Opening::new(side, config, random);
        self.make_place(pool);
        self.connections.insert(Connection::new(socket, opening, now + OPENING_TIME_MAX));
    }

    /// The oldest opening gives way when there are too many.
    fn make_place(&mut self, pool: &mut Pool) {
        let openings = || self.connections.iter().filter(|(_, connection)| connection.is_opening());
        if openings().count() < OPENINGS_MAX {
            return;
        }
        let oldest = openings().min_by_key(|(_, connection)| connection.deadline()).map(|(key, _)| key);
        if let Some(connection) = oldest.and_then(|key| self.connections.get_mut(key)) {
            connection.kill(pool);
        }
    }

    /// Takes an operation's result: an error ends the connection.
    fn went(
        &mut self,
        key: Key,
        result: Result<(), LinkProblem>,
        now: Instant,
        pool: &mut Pool,
        events: &mut Vec<PeerEvent>,
    ) {
        let Err(problem) = result else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.is_dead() {
            return;
        }
        // The peer is told why an opening failed.
        if matches!(problem, LinkProblem::Opening(_)) {
            connection.drain(now + DRAIN_TIME_MAX, pool);
        } else {
            connection.kill(pool);
        }
        let cause = match problem {
            LinkProblem::Frame(_) => LinkCause::Protocol,
            LinkProblem::Closed => LinkCause::Closed,
            _ => LinkCause::Failed,
        };
        match self.current.take_if(|(_, current)| *current == key) {
            Some((session, _)) => {
                events.push(PeerEvent::LinkDown { session, cause });
                self.backoff.reset();
                // What broke the protocol once will do it again; a lost link is tried again at once.
                self.retry_at = match cause {
                    LinkCause::Protocol => None,
                    _ => self.wanted.then_some(now),
                };
            }
            // An older connection's end, or an attempt's while a connection stands, is of no interest.
            None if self.current.is_some() => return,
            None => {}
        }
        self.fails(problem);
        self.try_again(now);
    }

    fn parse(&mut self, key: Key, now: Instant, pool: &mut Pool, events: &mut Vec<PeerEvent>) {
        while let Some(connection) = self.connections.get_mut(key) {
            let session = connection.session();
            match (connection.parse(pool), session) {
                (Ok(Step::Wait), _) => return,
                (Ok(Step::Agreed(agreed)), _) => self.opened(key, agreed, now, pool, events),
                (Ok(Step::Message(message, payload)), Some(session)) => {
                    events.push(PeerEvent::Message { session, message, payload });
                }
                (Ok(Step::Message(..)), None) => unreachable!("frames only come on an open connection"),
                (Err(problem), _) => return self.went(key, Err(problem), now, pool, events),
            }
        }
    }

    fn opened(&mut self, key: Key, agreed: Agreed, now: Instant, pool: &mut Pool, events: &mut Vec<PeerEvent>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !self.wanted {
            connection.kill(pool);
            return;
        }
        let mut digest_key = Box::<DigestKey>::default();
        if getrandom::fill(digest_key.as_mut_slice()).is_err() {
            connection.kill(pool);
            return;
        }
        self.last_session += 1;
        let session = SessionId(self.last_session);
        connection.open(session, agreed);
        self.problem = None;
        self.told.clear();
        self.retry_at = None;
        self.backoff.reset();
        if let Some((_, older)) = self.current.replace((session, key))
            && let Some(older) = self.connections.get_mut(older)
        {
            older.drain(now, pool);
        }
        events.push(PeerEvent::LinkUp { session, features: agreed.features, digest_key });
    }

    /// Once a turn: what is due by the clock, then receives and sends. Whether something was sent at once: buffers may
    /// have come free that others wait for.
    pub fn turn(
        &mut self,
        io: &mut impl Submit<PeerOperation>,
        now: Instant,
        pool: &mut Pool,
        events: &mut Vec<PeerEvent>,
    ) -> bool {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.attempt(now);
        }
        self.turn_listeners(io);
        self.turn_dialings(io, now);
        self.turn_connections(io, now, pool, events)
    }

    fn attempt(&mut self, now: Instant) {
        let PeerOptions { listen, peer_address, .. } = self.options;
        if self.dials {
            if self.current.is_some() || self.connections.iter().any(|(_, connection)| connection.is_opening()) {
                return;
            }
            match socket::dialing(listen, peer_address) {
                Ok(socket) => {
                    let address = Box::new(SockaddrStorage::from(peer_address));
                    let deadline = now + OPENING_TIME_MAX;
                    self.dialings.insert(Dial {
                        socket,
                        address,
                        operation: None,
                        deadline,
                        given_up: false,
                        cancelled: false,
                    });
                }
                Err(error) => {
                    self.fails(LinkProblem::Dial { address: peer_address, error });
                    self.try_again(now);
                }
            }
        } else if self.listeners.iter().all(|(_, listener)| listener.is_closing()) {
            match socket::listening(listen) {
                Ok(socket) => drop(self.listeners.insert(Listener::new(socket))),
                Err(error) => {
                    self.fails(LinkProblem::Listen { address: listen, error });
                    self.try_again(now);
                }
            }
        }
    }

    fn turn_listeners(&mut self, io: &mut impl Submit<PeerOperation>) {
        let mut done = None;
        for (key, listener) in self.listeners.iter_mut() {
            if let Some(entry) = listener.next_accept() {
                // SAFETY: a listener stays until its operation has ended.
                unsafe { io.submit(entry, PeerOperation::Accept(key)) };
            } else if listener.is_closing() && !listener.is_busy() {
                done = Some(key);
            }
        }
        done.into_iter().for_each(|key| drop(self.listeners.remove(key)));
    }

    fn turn_dialings(&mut self, io: &mut impl Submit<PeerOperation>, now: Instant) {
        for (key, dial) in self.dialings.iter_mut() {
            match dial.operation {
                None => {
                    let socket = types::Fd(dial.socket.as_raw_fd());
                    let entry = opcode::Connect::new(socket, dial.address.as_ptr(), dial.address.len()).build();
                    // SAFETY: socket and address stay until the operation has ended.
                    dial.operation = Some(unsafe { io.submit(entry, PeerOperation::Connect(key)) });
                }
                Some(operation) if !dial.cancelled && (dial.given_up || dial.deadline <= now) => {
                    (dial.given_up, dial.cancelled) = (true, true);
                    let entry = opcode::AsyncCancel::new(operation.to_bits()).build();
                    // SAFETY: it names no memory.
                    unsafe { io.submit(entry, PeerOperation::Cancel) };
                }
                Some(_) => {}
            }
        }
    }

    fn turn_connections(
        &mut self,
        io: &mut impl Submit<PeerOperation>,
        now: Instant,
        pool: &mut Pool,
        events: &mut Vec<PeerEvent>,
    ) -> bool {
        let mut sent = false;
        let mut keys = std::mem::take(&mut self.keys);
        keys.extend(self.connections.iter().map(|(key, _)| key));
        for key in keys.drain(..) {
            // A slot it waited for may have come free.
            self.parse(key, now, pool, events);
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if connection.deadline().is_some_and(|deadline| deadline <= now) {
                let was_opening = connection.is_opening();
                connection.kill(pool);
                if was_opening && self.current.is_none() {
                    self.fails(LinkProblem::OpeningTooSlow);
                }
                self.try_again(now);
            }
            sent |= self.operate(key, io, now, pool, events);
        }
        self.keys = keys;
        sent
    }

    /// Sends and receives; whether something was sent at once.
    fn operate(
        &mut self,
        key: Key,
        io: &mut impl Submit<PeerOperation>,
        now: Instant,
        pool: &mut Pool,
        events: &mut Vec<PeerEvent>,
    ) -> bool {
        let sent = self.send_now(key, now, pool, events);
        let Some(connection) = self.connections.get_mut(key) else { return sent };
        if let Some(entry) = connection.next_send(pool) {
            // SAFETY: the connection and the slots it holds stay until the operation has ended.
            unsafe { io.submit(entry, PeerOperation::Send(key)) };
        }
        if let Some(entry) = connection.next_receive(pool) {
            // SAFETY: as above.
            unsafe { io.submit(entry, PeerOperation::Receive(key)) };
        }
        if connection.settle(pool) {
            self.connections.remove(key);
        }
        sent
    }

    /// Sends what a connection's socket has room for; whether there was anything.
    fn send_now(&mut self, key: Key, now: Instant, pool: &mut Pool, events: &mut Vec<PeerEvent>) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let session = connection.session();
        match connection.send_now(pool) {
            Ok(Sent::Nothing) => return false,
            Ok(Sent::Some) => self.alive(key, session, events),
            Ok(Sent::All { began }) => self.send_times.extend(began.map(|began| began.elapsed())),
            Err(problem) => self.send_failed(key, problem, now, pool, events),
        }
        true
    }
}
