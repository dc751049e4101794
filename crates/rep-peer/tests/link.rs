//! Two ports on loopback, each with its own ring: connecting, messages with payloads through a small pool, wrong
//! secrets, strangers, and coming back after a loss.

use rep_peer::{PeerEvent, PeerOperation, PeerOptions, PeerPort};
use rep_ring::{Completion, Entry, Key, Pool, Ring, Slab, SlotId, Submit, Zone, ZoneBytes};
use rep_types::{ByteRange, LinkCause, NodeName, ResourceName, SessionId, VolumeNumber};
use rep_wire::{Message, Secret, TransferId};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

struct Io {
    ring: Ring,
    operations: Slab<PeerOperation>,
}

impl Submit<PeerOperation> for Io {
    unsafe fn submit(&mut self, entry: Entry, operation: PeerOperation) -> Key {
        let key = self.operations.insert(operation);
        // SAFETY: handed on.
        unsafe { self.ring.push(entry, key) };
        key
    }
}

struct Node {
    io: Io,
    pool: Pool,
    port: PeerPort,
    events: Vec<PeerEvent>,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address")
}

fn pair(secrets: [Option<&str>; 2]) -> (Node, Node, SocketAddr) {
    let address = free_address();
    let node = |own: &str, peer: &str, secret: Option<&str>| {
        let mib = 1 << 20;
        let name = |name: &str| NodeName::new(name).expect("a name");
        let options = PeerOptions {
            resource: ResourceName::new("vz").expect("a name"),
            node: name(own),
            peer: name(peer),
            secret: secret.map(|secret| Secret::new(secret).expect("a secret")),
            listen: if own == "alpha" { free_address() } else { address },
            peer_address: address,
            connect_interval: Duration::from_millis(200),
        };
        let mut node = Node {
            io: Io { ring: Ring::new(64).expect("io_uring"), operations: Slab::new() },
            pool: Pool::new(ZoneBytes { client: 16 * mib, peer: 2 * mib, local: mib, meta: mib, forwarded: mib })
                .expect("memory"),
            port: PeerPort::new(options),
            events: Vec::new(),
        };
        node.port.want(true, Instant::now());
        node
    };
    (node("alpha", "beta", secrets[0]), node("beta", "alpha", secrets[1]), address)
}

impl Node {
    fn turn(&mut self) {
        let now = Instant::now();
        self.port.turn(&mut self.io, now, &mut self.pool, &mut self.events);
        self.io.ring.turn(Some(Duration::from_millis(2))).expect("turn");
        while let Some(completion) = self.io.ring.next_completion() {
            self.completed(completion);
        }
    }

    fn completed(&mut self, completion: Completion) {
        let operation = self.io.operations.remove(completion.key).expect("an operation");
        self.port.completed(operation, completion, Instant::now(), &mut self.pool, &mut self.events);
    }

    fn session(&self) -> Option<SessionId> {
        self.events.iter().rev().find_map(|event| match event {
            PeerEvent::LinkUp { session, .. } => Some(*session),
            _ => None,
        })
    }

    fn payload(&mut self, length: u32, seed: u8) -> SlotId {
        let slot = self.pool.take(Zone::Client, length as usize).expect("a slot");
        let bytes: Vec<u8> = (0..length).map(|n| (n as u8).wrapping_mul(7).wrapping_add(seed)).collect();
        self.pool.write(slot, 0, &bytes);
        slot
    }

    fn write(&mut self, id: u64, length: u32) {
        let session = self.session().expect("a session");
        let slot = self.payload(length, id as u8);
        let range = ByteRange::new(id * 4096, length);
        let message = Message::Write { id: TransferId(id), volume: VolumeNumber(0), range, durable: false };
        self.port.send(session, &message, Some(slot), &mut self.pool);
    }
}

fn run_until(nodes: &mut [&mut Node], what: &str, mut done: impl FnMut(&mut [&mut Node]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done(nodes) {
        assert!(Instant::now() < deadline, "not in time: {what}");
        nodes.iter_mut().for_each(|node| node.turn());
    }
}

fn connect(alpha: &mut Node, beta: &mut Node) {
    run_until(&mut [alpha, beta], "a connection", |nodes| nodes.iter().all(|node| node.session().is_some()));
}

#[test]
fn messages_arrive_whole_in_order_and_through_a_small_pool() {
    let (mut alpha, mut beta, _) = pair([Some("hush"), Some("hush")]);
    connect(&mut alpha, &mut beta);
    let lengths = [4096, 512, 1 << 20, 65536, 4096, 300_032, 4096, 1 << 20];
    for id in 0..200 {
        let length = lengths[id as usize % lengths.len()];
        while alpha.port.queued_bytes() > 4 << 20 {
            run_until(&mut [&mut alpha, &mut beta], "room in the queue", {
                let mut turns = 0;
                move |nodes| {
                    take_writes(nodes[1]);
                    turns += 1;
                    turns > 3
                }
            });
        }
        alpha.write(id, length);
    }
    let session = alpha.session().expect("a session");
    alpha.port.send(session, &Message::Ping { id: TransferId(9) }, None, &mut alpha.pool);
    run_until(&mut [&mut alpha, &mut beta], "the last message", |nodes| {
        take_writes(nodes[1]);
        nodes[1].events.iter().any(|event| matches!(event, PeerEvent::Message { message: Message::Ping { .. }, .. }))
    });
    run_until(&mut [&mut alpha, &mut beta], "the send's end", |nodes| nodes[0].port.queued_bytes() == 0);
    assert_eq!((alpha.pool.in_use().used_bytes, beta.pool.in_use().used_bytes), (0, 0));
    assert_eq!(beta.events.iter().filter(|event| matches!(event, PeerEvent::Message { .. })).count(), 201);
}

/// Checks and frees the payloads that arrived; the ids must count up.
fn take_writes(node: &mut Node) {
    let mut expected = 0;
    for event in &mut node.events {
        let PeerEvent::Message { message: Message::Write { id, range, .. }, payload, .. } = event else { continue };
        assert_eq!(id.0, expected);
        expected += 1;
        let Some(slot) = payload.take() else { continue };
        // SAFETY: a delivered payload is complete.
        let bytes = unsafe { node.pool.bytes(slot) };
        assert_eq!(bytes.len(), range.length as usize);
        let seed = id.0 as u8;
        assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == (n as u8).wrapping_mul(7).wrapping_add(seed)));
        node.pool.release(slot);
    }
}

#[test]
fn a_wrong_secret_is_told_on_both_nodes_and_no_link_comes_up() {
    let (mut alpha, mut beta, _) = pair([Some("hush"), Some("hash")]);
    run_until(&mut [&mut alpha, &mut beta], "the problem on both", |nodes| {
        nodes.iter().all(|node| node.port.problem().is_some_and(|problem| problem.to_string().contains("secret")))
    });
    assert!(alpha.events.is_empty() && beta.events.is_empty());
}

#[test]
fn strangers_do_not_keep_the_peer_out() {
    let (mut alpha, mut beta, address) = pair([None, None]);
    alpha.port.want(false, Instant::now());
    run_until(&mut [&mut beta], "listening", |_| TcpStream::connect(address).is_ok());
    let mut strangers: Vec<TcpStream> = Vec::new();
    for n in 0..40 {
        let mut stranger = TcpStream::connect(address).expect("connect");
        if n % 3 == 0 {
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        }
        strangers.push(stranger);
        beta.turn();
    }
    alpha.port.want(true, Instant::now());
    connect(&mut alpha, &mut beta);
}

#[test]
fn a_lost_link_comes_back_and_what_was_sent_before_is_delivered_first() {
    let (mut alpha, mut beta, _) = pair([None, None]);
    connect(&mut alpha, &mut beta);
    let session = alpha.session().expect("a session");
    alpha.write(0, 65536);
    alpha.port.close(session, LinkCause::Restart, Instant::now(), &mut alpha.pool);
    run_until(&mut [&mut alpha, &mut beta], "another session", |nodes| {
        nodes.iter().all(|node| node.session() == Some(SessionId(2)))
    });
    // How often a sign of life is told depends on how the bytes arrive; everything else has its place.
    let told: Vec<_> = beta.events.iter().filter(|event| !matches!(event, PeerEvent::Alive { .. })).collect();
    let [
        PeerEvent::LinkUp { session: SessionId(1), .. },
        PeerEvent::Message { session: SessionId(1), .. },
        PeerEvent::LinkDown { session: SessionId(1), cause: LinkCause::Closed },
        PeerEvent::LinkUp { session: SessionId(2), .. },
    ] = told[..]
    else {
        panic!("up, write, down, up: {told:?}");
    };
    take_writes(&mut beta);
}

/// Nodes that refuse each other connect without trouble, and would do so as fast as they can: whoever closes first, the pauses
/// grow to a second, or to `connect-interval`, which is shorter here.
#[test]
fn who_was_refused_comes_back_at_growing_pauses() {
    let (mut alpha, mut beta, _) = pair([None, None]);
    let mut pauses = Vec::new();
    for session in 1..=12 {
        run_until(&mut [&mut alpha, &mut beta], "another session", |nodes| {
            nodes.iter().all(|node| node.session() == Some(SessionId(session)))
        });
        if session % 2 == 0 {
            beta.port.close(SessionId(session), LinkCause::Refused, Instant::now(), &mut beta.pool);
            run_until(&mut [&mut alpha, &mut beta], "alpha hears of it", |nodes| {
                let down =
                    |event: &PeerEvent| matches!(event, PeerEvent::LinkDown { session: of, .. } if of.0 == session);
                nodes[0].events.iter().any(down)
            });
        }
        let now = Instant::now();
        alpha.port.close(SessionId(session), LinkCause::Refused, now, &mut alpha.pool);
        pauses.push(alpha.port.next_timeout().expect("a next time").saturating_duration_since(now));
        beta.port.close(SessionId(session), LinkCause::Refused, now, &mut beta.pool);
    }
    assert!(pauses.is_sorted() && pauses[11] == Duration::from_millis(200), "{pauses:?}");
    // The operator's word is heard at once.
    alpha.port.want(true, Instant::now());
    assert!(alpha.port.next_timeout().is_some_and(|at| at <= Instant::now()));
}

#[test]
fn everything_ends_when_told_to() {
    let (mut alpha, mut beta, _) = pair([None, None]);
    connect(&mut alpha, &mut beta);
    run_until(&mut [&mut alpha, &mut beta], "the end", |nodes| {
        let now = Instant::now();
        nodes.iter_mut().map(|node| node.port.shut_down(now, &mut node.pool)).filter(|ended| *ended).count() == 2
    });
    assert!(alpha.io.operations.is_empty() && beta.io.operations.is_empty());
}

#[test]
fn a_peer_that_is_not_there_is_a_problem_with_its_address() {
    let (mut alpha, _, address) = pair([None, None]);
    run_until(&mut [&mut alpha], "the problem", |nodes| nodes[0].port.problem().is_some());
    let problem = alpha.port.problem().expect("a problem").to_string();
    assert!(problem.contains(&address.to_string()) && problem.contains("refused"), "{problem}");
}
