//! The receiving half of a stream: many small messages a receive, large payloads straight into their slot.
//!
//! Bytes arrive in a buffer, from which the owner parses. When a message is followed by a payload the owner names a
//! slot for it ([`Incoming::fill`]): what has arrived is copied there, and what hasn't is received into it directly,
//! with the buffer behind it for what follows.

use crate::pool::{Pool, SlotId};
use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use nix::libc;
use std::io;
use std::os::fd::RawFd;

/// `IORING_RECVSEND_POLL_FIRST`: the socket is expected to be empty, don't try before it isn't.
const POLL_FIRST: u16 = 1;

/// A payload of at least this many bytes is worth a receive of its own.
const LARGE_BYTES: usize = 32 << 10;
/// Room for what surrounds large payloads, in bytes: little of one comes to lie in the buffer and must be copied.
const ROOM_BESIDE_LARGE: usize = 4 << 10;

#[derive(Clone, Copy, Debug)]
struct Fill {
    slot: SlotId,
    offset: usize,
    end: usize,
}

/// What the kernel reads and writes: in a box, because the stream itself may move.
struct Message {
    header: libc::msghdr,
    vectors: [libc::iovec; 2],
}

/// How a receive ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// There are new bytes.
    Bytes,
    /// The other side will send no more.
    End,
}

/// The receiving half of a stream socket.
pub struct Incoming {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    fill: Option<Fill>,
    message: Box<Message>,
    busy: bool,
    expect_empty: bool,
    /// The latest payload was a large one: most likely the next is too.
    large: bool,
    /// A slot the owner has given up while it was being filled.
    abandoned: Option<SlotId>,
}

impl Incoming {
    /// A stream with a buffer of this many bytes, more than the longest message without its payload.
    pub fn new(buffer_bytes: usize) -> Self {
        // SAFETY: all zeroes are a valid `msghdr` and valid, empty `iovec`s.
        let message = unsafe { std::mem::zeroed() };
        Incoming {
            buffer: vec![0; buffer_bytes].into_boxed_slice(),
            start: 0,
            end: 0,
            fill: None,
            message: Box::new(message),
            busy: false,
            expect_empty: false,
            large: false,
            abandoned: None,
        }
    }

    /// Takes over what another, smaller stream half of the same socket has received and not consumed.
    pub fn take_over(&mut self, other: &mut Incoming) {
        assert!(!self.busy && !other.busy && other.fill.is_none(), "a receive is under way");
        let bytes = other.bytes();
        self.end = bytes.len();
        self.buffer[..bytes.len()].copy_from_slice(bytes);
        (other.start, other.end) = (0, 0);
    }

    /// Bytes that arrived and aren't consumed. Empty while a slot is being filled.
    pub fn bytes(&self) -> &[u8] {
        match self.fill {
            Some(_) => &[],
            None => &self.buffer[self.start..self.end],
        }
    }

    /// Bytes the buffer holds at most.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Lets go of the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        assert!(self.fill.is_none() && count <= self.end - self.start, "consumed more than there is");
        self.start += count;
        if self.start == self.end && !self.busy {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Has the next `length` bytes go to a slot, from `offset` on. True when they all are there already; otherwise
    /// [`Incoming::is_filling`] tells when they are. The slot must stay in use until then.
    pub fn fill(&mut self, slot: SlotId, offset: usize, length: usize, pool: &mut Pool) -> bool {
        assert!(!self.busy, "what is under way would go elsewhere");
        let count = length.min(self.end - self.start);
        pool.write(slot, offset, &self.buffer[self.start..self.start + count]);
        self.consume(count);
        self.large = length >= LARGE_BYTES;
        if count < length {
            self.fill = Some(Fill { slot, offset: offset + count, end: offset + length });
        }
        count == length
    }

    /// The owner gives up the slot that is being filled, with its one use. Nothing more may be received.
    pub fn release_when_idle(&mut self, slot: SlotId) {
        self.abandoned = Some(slot);
    }

    /// Lets go of everything. Not while an operation is with the kernel.
    pub fn clear(&mut self, pool: &mut Pool) {
        assert!(!self.busy, "the kernel still writes here");
        self.abandoned.take().into_iter().for_each(|slot| pool.release(slot));
        self.fill = None;
        (self.start, self.end) = (0, 0);
    }

    /// Whether a slot is being filled.
    pub fn is_filling(&self) -> bool {
        self.fill.is_some()
    }

    /// Whether an operation is with the kernel.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// The next receive, unless one is under way or there is no room. The caller must submit it and hand the result
    /// to [`Incoming::received`].
    pub fn next_receive(&mut self, socket: RawFd, pool: &Pool) -> Option<Entry> {
        if self.busy {
            return None;
        }
        self.make_room();
        let room = &mut self.buffer[self.end..];
        let room_max = if self.large { ROOM_BESIDE_LARGE } else { usize::MAX };
        let room_length = room.len().min(room_max);
        let room = &mut room[..room_length];
        if room.is_empty() {
            return None;
        }
        self.busy = true;
        let hint = if self.expect_empty { POLL_FIRST } else { 0 };
        let room = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        let Some(fill) = self.fill else {
            let receive = opcode::Recv::new(types::Fd(socket), room.iov_base.cast(), room.iov_len as u32);
            return Some(receive.ioprio(hint).build());
        };
        let into = pool.start_of(fill.slot).wrapping_add(fill.offset);
        let message = &mut *self.message;
        message.vectors = [libc::iovec { iov_base: into.cast(), iov_len: fill.end - fill.offset }, room];
        message.header.msg_iov = message.vectors.as_mut_ptr();
        message.header.msg_iovlen = message.vectors.len() as _;
        Some(opcode::RecvMsg::new(types::Fd(socket), &mut message.header).ioprio(hint).build())
    }

    fn make_room(&mut self) {
        if self.start > 0 && (self.start == self.end || self.buffer.len() - self.end < self.buffer.len() / 2) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Takes a receive's result. `more`: whether the socket is known to hold more.
    pub fn received(&mut self, result: io::Result<usize>, more: bool) -> io::Result<Received> {
        self.busy = false;
        let mut count = match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Received::Bytes),
            other => other?,
        };
        if count == 0 {
            return Ok(Received::End);
        }
        self.expect_empty = !more;
        if let Some(fill) = &mut self.fill {
            let taken = count.min(fill.end - fill.offset);
            fill.offset += taken;
            count -= taken;
            if fill.offset == fill.end {
                self.fill = None;
            }
        }
        self.end += count;
        Ok(Received::Bytes)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.busy {
            // The kernel may still write there: neither is ever freed.
            std::mem::forget(std::mem::take(&mut self.buffer));
            // SAFETY: all zeroes are valid, as in `new`.
            let empty = Box::new(unsafe { std::mem::zeroed() });
            std::mem::forget(std::mem::replace(&mut self.message, empty));
        }
    }
}
