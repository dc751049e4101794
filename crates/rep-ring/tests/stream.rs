//! The two halves of a stream against each other, through a real socket: order, payloads, and nothing leaked.

use rep_ring::{Incoming, Outgoing, Pool, Received, Ring, Slab, Zone, ZoneBytes};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

enum Operation {
    Send,
    Receive,
}

/// A message here: a length byte quadruple, then that many payload bytes, each equal to the low byte of the length.
fn payload_byte(length: usize) -> u8 {
    (length % 251) as u8
}

struct Receiver {
    incoming: Incoming,
    filling: Option<rep_ring::SlotId>,
    seen: Vec<usize>,
}

impl Receiver {
    /// Parses what is there; false when it must wait for a slot.
    fn parse(&mut self, pool: &mut Pool) {
        loop {
            if self.incoming.is_filling() {
                return;
            }
            if let Some(slot) = self.filling.take() {
                self.finish(slot, pool);
            }
            let Some(head) = self.incoming.bytes().first_chunk::<4>() else { return };
            let length = u32::from_le_bytes(*head) as usize;
            let slot = pool.take(Zone::Peer, length).expect("a slot");
            self.incoming.consume(4);
            self.filling = Some(slot);
            self.incoming.fill(slot, 0, length, pool);
        }
    }

    fn finish(&mut self, slot: rep_ring::SlotId, pool: &mut Pool) {
        // SAFETY: the slot has been filled; nothing is under way.
        let bytes = unsafe { pool.bytes(slot) };
        assert!(bytes.iter().all(|byte| *byte == payload_byte(bytes.len())));
        self.seen.push(bytes.len());
        pool.release(slot);
    }
}

#[test]
fn messages_and_payloads_arrive_in_order_and_whole() {
    all_arrive(false);
}

#[test]
fn so_they_do_when_most_are_sent_at_once_and_the_rest_waits_for_room() {
    all_arrive(true);
}

fn all_arrive(at_once: bool) {
    let (mut sent_at_once, mut waited_for_room) = (0, 0);
    let mib = 1 << 20;
    let mut ring = Ring::new(64).expect("io_uring");
    let mut pool = Pool::new(ZoneBytes { client: 64 * mib, peer: 2 * mib, local: mib, meta: mib, forwarded: mib })
        .expect("memory");
    let (near, far) = UnixStream::pair().expect("a socket pair");
    let mut operations = Slab::new();
    let mut outgoing = Outgoing::new();
    let mut receiver = Receiver { incoming: Incoming::new(64 << 10), filling: None, seen: Vec::new() };
    let lengths: Vec<usize> = (0..3000).map(|n| [512, 4096, 70_000, 1, 12_345][n % 5] + n % 7).collect();
    let mut to_send = lengths.iter();
    while receiver.seen.len() < lengths.len() {
        while outgoing.queued_bytes() < mib {
            let Some(length) = to_send.next() else { break };
            let slot = pool.take(Zone::Client, *length).expect("a slot");
            pool.write(slot, 0, &vec![payload_byte(*length); *length]);
            outgoing.append_with(|bytes| bytes.extend_from_slice(&(*length as u32).to_le_bytes()));
            outgoing.append_slot(slot, 0, *length);
        }
        if at_once && outgoing.send_now(near.as_raw_fd(), &mut pool).expect("sent") {
            sent_at_once += 1;
        }
        if let Some(entry) = outgoing.next_send(near.as_raw_fd(), &pool) {
            waited_for_room += 1;
            // SAFETY: the queue and the pool outlive the loop, which ends when everything has been received.
            unsafe { ring.push(entry, operations.insert(Operation::Send)) };
        }
        if let Some(entry) = receiver.incoming.next_receive(far.as_raw_fd(), &pool) {
            // SAFETY: as above; the last receive is ended by the socket's closing below.
            unsafe { ring.push(entry, operations.insert(Operation::Receive)) };
        }
        ring.turn(Some(Duration::from_secs(5))).expect("turn");
        while let Some(completion) = ring.next_completion() {
            match operations.remove(completion.key).expect("an operation") {
                Operation::Send => outgoing.sent(completion.as_io(), &mut pool).expect("sent"),
                Operation::Receive => {
                    let received = receiver.incoming.received(completion.as_io(), completion.more_in_socket);
                    assert_eq!(received.expect("received"), Received::Bytes);
                }
            }
        }
        if !receiver.incoming.is_busy() {
            receiver.parse(&mut pool);
        }
    }
    assert_eq!(receiver.seen, lengths);
    // The socket takes less than the queue holds: both ways were gone.
    assert_eq!(sent_at_once > 0, at_once);
    assert!(waited_for_room > 0);
    while outgoing.queued_bytes() > 0 {
        ring.turn(Some(Duration::from_secs(5))).expect("turn");
        let completion = ring.next_completion().expect("the send's end");
        outgoing.sent(completion.as_io(), &mut pool).expect("sent");
    }
    assert_eq!(pool.in_use().used_bytes, 0);
}

#[test]
fn a_send_at_once_tells_that_the_connection_is_gone() {
    let mib = 1 << 20;
    let mut pool =
        Pool::new(ZoneBytes { client: mib, peer: mib, local: mib, meta: mib, forwarded: mib }).expect("memory");
    let (near, far) = UnixStream::pair().expect("a socket pair");
    let mut outgoing = Outgoing::new();
    assert!(!outgoing.send_now(near.as_raw_fd(), &mut pool).expect("nothing to send"));
    drop(far);
    outgoing.append_with(|bytes| bytes.extend_from_slice(b"anybody there?"));
    let error = outgoing.send_now(near.as_raw_fd(), &mut pool).expect_err("nobody is");
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
