//! Connections come up, carry frames, and go: what `rep-peer` does for `repd`, on the simulated link.

use crate::codec::Content;
use crate::counters::Sometimes;
use crate::link::{Connection, End, Item};
use crate::plan::LinkFault;
use crate::swarm::{MS, ShellBug, US};
use crate::world::{Due, World};
use rep_engine::Event;
use rep_types::{LinkCause, SessionId};
use rep_wire::Message;

/// Which of two nodes dials: the one whose name sorts first.
const DIALER: usize = 0;

impl World {
    /// An engine wants a connection, or no longer does.
    pub(crate) fn want_link(&mut self, node: usize, wanted: bool) {
        self.nodes[node].wants_link = wanted;
        if wanted {
            self.dial_soon(MS);
        }
    }

    /// Has the dialer try, unless a try is in the queue.
    pub(crate) fn dial_soon(&mut self, span: u64) {
        if !self.network.dialing {
            self.network.dialing = true;
            self.after(span, Due::Dial);
        }
    }

    pub(crate) fn dial(&mut self) {
        self.network.dialing = false;
        let dialer = &self.nodes[DIALER];
        if !dialer.is_up() || !dialer.wants_link || self.network.live_session(DIALER).is_some() {
            return;
        }
        let listener = &self.nodes[1 - DIALER];
        let open = self.network.passes(0, self.now) && self.network.passes(1, self.now);
        if !open || !listener.is_up() || !listener.wants_link {
            return self.dial_soon(self.swarm.connect_interval.max(100 * MS));
        }
        self.network.sessions += 1;
        let session = self.network.sessions;
        self.network
            .connections
            .insert(session, Connection::new(session, crate::comparing::features_of(self.swarm.seed)));
        for node in 0..2 {
            let span = self.network.delay() + self.network.delay();
            self.after(span, Due::EndUp { session, node });
        }
    }

    /// One side has authenticated the other.
    pub(crate) fn end_up(&mut self, session: u64, node: usize) {
        let Some(connection) = self.network.connections.get(&session) else { return };
        if connection.ends[node] != End::Pending {
            return;
        }
        if !self.nodes[node].is_up() || !self.nodes[node].wants_link {
            return self.drop_end(node, session, true);
        }
        let older: Vec<u64> = self.network.connections.range(..session).map(|(older, _)| *older).collect();
        for old in older {
            self.replace_end(node, old);
        }
        if let Some(connection) = self.network.connections.get_mut(&session) {
            connection.ends[node] = End::Up;
        }
        self.line(|| format!("node {node} <- LinkUp {session}"));
        let features = crate::comparing::features_of(self.swarm.seed);
        let digest_key = Box::new([crate::rng::mix(session << 1 | node as u64) as u8; 32]);
        self.feed(node, Event::LinkUp { session: SessionId(session), features, digest_key });
    }

    /// A new connection took an old one's place on this side. What had arrived on the old one may still be told.
    fn replace_end(&mut self, node: usize, session: u64) {
        let Some(connection) = self.network.connections.get_mut(&session) else { return };
        if std::mem::replace(&mut connection.ends[node], End::Down) != End::Up {
            return;
        }
        let stream = &mut connection.streams[1 - node];
        let mut stale = None;
        if let Some((_, Item::Bytes(bytes))) = stream.items.pop_front() {
            drop(stream.receiver.take(bytes));
            stale = stream.receiver.next().ok().flatten();
        }
        self.seen(Sometimes::LinkReplaced);
        if let Some((message, content)) = stale {
            self.seen(Sometimes::StaleFrame);
            self.receive(node, session, message, content);
        }
    }

    pub(crate) fn push(&mut self, node: usize, session: u64, item: Item) {
        if let Some(at) = self.network.push(session, node, item, self.now) {
            self.at(at, Due::Deliver { session, from: node });
        }
    }

    /// Something has arrived at the other side, unless the network holds it back.
    pub(crate) fn deliver(&mut self, session: u64, from: usize) {
        let to = 1 - from;
        if !self.network.passes(from, self.now) {
            return self.at(self.network.muted_until[from], Due::Deliver { session, from });
        }
        let Some(connection) = self.network.connections.get_mut(&session) else { return };
        if connection.ends[to] == End::Pending {
            return self.after(50 * US, Due::Deliver { session, from });
        }
        if connection.streams[from].items.front().is_none_or(|(at, _)| *at > self.now) {
            return;
        }
        let Some((_, item)) = connection.streams[from].items.pop_front() else { return };
        match (connection.ends[to], item) {
            (End::Down, Item::Bytes(_)) => self.reset_sender(session, from),
            (End::Down, Item::Fin) => self.network.sweep(),
            (_, Item::Fin) => {
                // If all that was sent before has arrived.
                let heard = connection.begins_anew[from] && connection.streams[from].sound.is_none();
                self.network.hears_of_begin_anew = heard.then_some(to);
                self.end_lost(session, to, false);
                self.network.hears_of_begin_anew = None;
            }
            (_, Item::Bytes(bytes)) => self.bytes_arrive(session, from, bytes),
        }
    }

    /// A frame met a closed socket: its sender is told, if the network lets it and a kernel is there to tell.
    fn reset_sender(&mut self, session: u64, from: usize) {
        if self.nodes[1 - from].is_up() && self.network.passes(1 - from, self.now) {
            let span = self.network.delay();
            self.after(span, Due::EndLost { session, node: from, reset: true });
        }
    }

    /// A whole message has been received.
    pub(crate) fn receive(&mut self, node: usize, session: u64, message: Message, mut sectors: Content) {
        if self.swarm.shell_bug == Some(ShellBug::StaleFrame) {
            self.receive_stale(node, session, &message, &sectors);
        }
        self.count_message(&message);
        self.line(|| format!("node {node} <- [{session}] {message:?}"));
        if self.swarm.shell_bug == Some(ShellBug::SwapPayload)
            && let Some(sectors) = &mut sectors
            && self.dice.disk.chance(30)
        {
            *sectors = std::rc::Rc::new(vec![0xdead; sectors.len()]);
        }
        let resync = matches!(message, Message::ResyncData { .. } | Message::ResyncRuns { .. });
        let payload = sectors.map(|sectors| self.give(node, sectors, resync));
        let lost = Self::tells_of_lost_disk(&message) && self.network.session_of_engine(node) == Some(session);
        self.feed(node, Event::PeerMessage { session: SessionId(session), message, payload });
        if lost {
            self.note_lost_disk(node, session);
        }
    }

    /// With that bug of the shell: what an old connection brought last comes again, under the name of the new one, when
    /// the two have joined. Sooner it would be out of turn, and end the connection.
    fn receive_stale(&mut self, node: usize, session: u64, message: &Message, content: &Content) {
        let due = self.recent_messages.get(&node).is_some_and(|(of, ..)| *of < session) && self.is_connected(node);
        if let Some((_, stale, its)) = due.then(|| self.recent_messages.remove(&node)).flatten() {
            let resync = matches!(stale, Message::ResyncData { .. } | Message::ResyncRuns { .. });
            let payload = its.map(|sectors| self.give(node, sectors, resync));
            self.line(|| format!("node {node} <- [{session}] {stale:?}, which is stale"));
            self.feed(node, Event::PeerMessage { session: SessionId(session), message: stale, payload });
        }
        if message.payload_length() > 0 {
            self.recent_messages.insert(node, (session, message.clone(), content.clone()));
        }
    }

    fn count_message(&mut self, message: &Message) {
        match message {
            Message::Read { .. } => self.seen(Sometimes::RemoteRead),
            Message::WriteAck { result: Err(_), .. } => self.seen(Sometimes::NegativeAck),
            Message::ResyncZeroes { .. } => self.seen(Sometimes::ResyncZeroes),
            Message::ResyncRuns { .. } => self.seen(Sometimes::ResyncRuns),
            Message::ResyncRefused { .. } => self.seen(Sometimes::ResyncRefused),
            Message::Control(control) if matches!(**control, rep_wire::ControlMessage::DiskLost { .. }) => {
                self.seen(Sometimes::DiskLostUnderPrimary);
            }
            _ => {}
        }
    }

    /// One side learns that the connection is gone.
    pub(crate) fn end_lost(&mut self, session: u64, node: usize, reset: bool) {
        let Some(connection) = self.network.connections.get_mut(&session) else { return };
        if connection.ends[node] == End::Down {
            return;
        }
        let was = std::mem::replace(&mut connection.ends[node], End::Down);
        if connection.streams[1 - node].receiver.is_within_frame() {
            self.seen(Sometimes::FrameCutShort);
        }
        self.network.sweep();
        if was == End::Up {
            self.runs_cut(node, Sometimes::RunsLinkLost);
            let cause = if reset { LinkCause::Failed } else { LinkCause::Closed };
            self.line(|| format!("node {node} <- LinkDown {session} {cause:?}"));
            self.feed(node, Event::LinkDown { session: SessionId(session), cause });
        }
        self.dial_soon(self.swarm.connect_interval);
    }

    /// An engine ends a connection.
    pub(crate) fn close_link(&mut self, node: usize, session: u64, cause: LinkCause) {
        self.count_close(cause);
        if let Some(connection) = self.network.connections.get_mut(&session) {
            connection.begins_anew[node] = cause == LinkCause::Restart;
        }
        self.drop_end(node, session, true);
    }

    /// This side lets go of a connection; with `told`, the other is told so.
    pub(crate) fn drop_end(&mut self, node: usize, session: u64, told: bool) {
        let Some(connection) = self.network.connections.get_mut(&session) else { return };
        if std::mem::replace(&mut connection.ends[node], End::Down) == End::Down {
            return;
        }
        if told {
            self.push(node, session, Item::Fin);
        } else {
            self.network.cut(session, node);
        }
        self.network.sweep();
        self.dial_soon(self.swarm.connect_interval);
    }

    /// Every connection of a node whose daemon died; a node without power tells nobody.
    pub(crate) fn drop_connections(&mut self, node: usize, told: bool) {
        let sessions: Vec<u64> = self.network.connections.keys().copied().collect();
        for session in sessions {
            self.drop_end(node, session, told);
        }
    }

    /// Breaks the link.
    pub(crate) fn break_link(&mut self, fault: LinkFault, for_ns: u64) {
        let until = self.now + for_ns;
        match fault {
            LinkFault::Reset => self.reset_link(until),
            LinkFault::MuteBoth => self.network.muted_until = self.network.muted_until.map(|old| old.max(until)),
            LinkFault::MuteFrom(node) => {
                let old = &mut self.network.muted_until[node];
                *old = (*old).max(until);
            }
        }
    }

    fn reset_link(&mut self, until: u64) {
        let sessions: Vec<u64> = self.network.connections.keys().copied().collect();
        for session in sessions {
            for node in 0..2 {
                self.network.cut(session, node);
                let span = self.network.delay() + self.network.rng.below(20 * MS);
                self.after(span, Due::EndLost { session, node, reset: true });
            }
        }
        self.network.muted_until = self.network.muted_until.map(|old| old.max(until));
    }
}
