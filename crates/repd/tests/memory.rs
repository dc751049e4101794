//! ```text
//!   8 clients × 128 writes of 1 MiB ──► alpha (Primary) ──► a link that stands still ──x── beta
//! ```
//! Nothing of what clients send may be taken in without a limit because the peer takes nothing: alpha's memory stays
//! what it was given. When clients and link have gone every buffer is free again, and the nodes find together.
//!
//! A file, and so a process, of its own: it measures the memory of the whole process.

mod common;

use common::{Node, pair, wait_for, wait_in_sync};
use rep_engine::Command;
use rep_nbd::blocking_client::{BlockingClient, ClientError};
use rep_types::ConnectionState;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MIB: usize = 1 << 20;
const SIZE: u64 = 64 << 20;
const CLIENTS: usize = 8;
const DEPTH: usize = 128;
/// What the process may use beside both nodes' pools: clients, tables, stacks, the C library's arenas.
const BESIDE_POOLS: usize = 128 * MIB;

/// A link that can be made to stand still, and to break.
struct Link {
    address: SocketAddr,
    stalled: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Link {
    fn to(peer: SocketAddr) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let (stalled, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let link = Link { address, stalled: stalled.clone(), ends: ends.clone() };
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // One that is refused is dialled again.
                let Ok(far) = TcpStream::connect(peer) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let stalled = stalled.clone();
                    std::thread::spawn(move || carry(from, to, &stalled));
                }
                ends.lock().expect("no panic").extend([near, far]);
            }
        });
        link
    }

    fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    /// Breaks what stands, and carries again from now on.
    fn cut(&self) {
        self.stalled.store(false, Ordering::SeqCst);
        for end in self.ends.lock().expect("no panic").drain(..) {
            let _ = end.shutdown(Shutdown::Both); // one that has ended already
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, stalled: &AtomicBool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut bytes) {
        while stalled.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Sends as much as it may; ends with an error when the connection is taken away.
fn write_much(mut client: BlockingClient<UnixStream>, index: usize, answered: &AtomicUsize) -> Result<(), ClientError> {
    client.set_depth(DEPTH);
    let data = vec![index as u8 + 1; MIB];
    for n in 0..DEPTH {
        // No two clients write the same place at a time: requests that overlap wait for each other, and nothing of them
        // would queue for the peer.
        let offset = (n * CLIENTS + index) * MIB % (SIZE as usize / 2);
        client.submit_write(offset as u64, &data, false)?;
    }
    while let Some(completion) = client.reap()? {
        completion.result.expect("a write that went well");
        answered.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

#[test]
fn a_peer_that_takes_nothing_costs_no_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut nodes = pair(&directory, SIZE);
    let link = Link::to(nodes[1].address());
    nodes[0].reach_peer_at(link.address);
    nodes.iter_mut().for_each(Node::up);
    nodes[0].command(Command::Promote { force: true });
    wait_in_sync([&nodes[0], &nodes[1]]);

    let before = resident_bytes();
    let limit: usize = nodes.iter().map(|node| node.report().pool.total_bytes).sum::<usize>() + BESIDE_POOLS;
    assert!(limit < CLIENTS * DEPTH * MIB / 2, "the limit says something: {limit}");
    let answered = AtomicUsize::new(0);
    link.stall();
    let (mut most, mut most_queued) = (0, 0);
    let (mut last, mut calm) = (0, 0);
    std::thread::scope(|scope| {
        let mut sockets = Vec::new();
        for index in 0..CLIENTS {
            let client = nodes[0].client();
            sockets.push(client.stream().try_clone().expect("a socket"));
            let answered = &answered;
            scope.spawn(move || write_much(client, index, answered));
        }
        wait_for("a queue for the peer", &[&nodes[0]], |reports| {
            let report = &reports[0];
            assert!(report.pool.used_bytes <= report.pool.total_bytes);
            assert!(report.link.queued_bytes <= report.pool.total_bytes + MIB, "{}", report.link.queued_bytes);
            most = most.max(resident_bytes().saturating_sub(before));
            most_queued = most_queued.max(report.link.queued_bytes);
            calm = if last == report.pool.used_bytes { calm + 1 } else { 0 };
            last = report.pool.used_bytes;
            // The sockets take no more, and nothing more is taken in for a while; or the peer was given up.
            (most_queued > 8 * MIB && calm > 50) || report.engine.connection != ConnectionState::Connected
        });
        assert!(answered.load(Ordering::SeqCst) < CLIENTS * DEPTH, "nobody answers for the peer");
        sockets.into_iter().for_each(|socket| socket.shutdown(Shutdown::Both).expect("a connection"));
    });
    assert!(most_queued > MIB, "the link did stand still: {most_queued}");
    assert!(most < limit, "{most} bytes more than before, of {limit}");
    link.cut();
    wait_in_sync([&nodes[0], &nodes[1]]);
    wait_for("every buffer's end", &[&nodes[0], &nodes[1]], |reports| {
        reports.iter().all(|report| report.pool.used_bytes == 0)
    });
    nodes.iter_mut().for_each(|node| drop(node.stop().expect("a clean end")));
}
