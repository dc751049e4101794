//! The sending half of a stream: what is queued during a turn leaves in one gathered send.
//!
//! Mostly the socket has room for all of it, and a plain call that doesn't wait hands it over at once: the other side
//! begins while this one goes on, and no completion has to be waited for (decision 29). What it has no room for waits
//! with the ring.
//!
//! Queued are bytes (copied: headers) and parts of slots (referred to: payloads). One batch is with the kernel while
//! the next is gathered, so a slow receiver makes batches larger, not more. A slot is held until its last byte was
//! taken by the socket.

use crate::pool::{Pool, SlotId};
use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use nix::libc;
use std::io;
use std::os::fd::RawFd;
use std::ptr;

/// The most pieces one send may have (the kernel's `UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;
/// Room for headers that is kept between batches, in bytes.
const HEADER_BYTES_KEPT: usize = 256 << 10;

#[derive(Clone, Copy, Debug)]
enum Piece {
    Bytes { start: usize, length: usize },
    Slot { slot: SlotId, offset: usize, length: usize },
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Batch {
    fn append_bytes(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let added = self.bytes.len() - start;
        match self.pieces.last_mut() {
            Some(Piece::Bytes { length, .. }) => *length += added,
            _ if added > 0 => self.pieces.push(Piece::Bytes { start, length: added }),
            _ => {}
        }
        added
    }
}

/// What the kernel reads: in a box, because the queue itself may move.
struct Message {
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

/// The sending half of a stream socket.
pub struct Outgoing {
    gathering: Batch,
    flying: Batch,
    message: Box<Message>,
    /// Pieces of `flying` that are sent from end to end.
    sent: usize,
    busy: bool,
    queued_bytes: usize,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::new()
    }
}

impl Outgoing {
    /// Nothing queued.
    pub fn new() -> Self {
        // SAFETY: all zeroes is a valid `msghdr`: no name, no pieces, no control data.
        let header = unsafe { std::mem::zeroed() };
        Outgoing {
            gathering: Batch::default(),
            flying: Batch::default(),
            message: Box::new(Message { header, vectors: Vec::new() }),
            sent: 0,
            busy: false,
            queued_bytes: 0,
        }
    }

    /// Bytes queued and not yet taken by the socket.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether a gathered send has begun and the socket hasn't taken all of it.
    pub fn is_under_way(&self) -> bool {
        !self.flying.pieces.is_empty()
    }

    /// Whether an operation is with the kernel.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Queues the bytes `write` appends.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.queued_bytes += self.gathering.append_bytes(write);
    }

    /// Queues a part of a slot. Takes over one use of it, which ends when the bytes are sent.
    pub fn append_slot(&mut self, slot: SlotId, offset: usize, length: usize) {
        self.gathering.pieces.push(Piece::Slot { slot, offset, length });
        self.queued_bytes += length;
    }

    /// Hands the socket as much as it has room for, unless a send is under way; whether it took anything. An error
    /// means the connection is gone; the queue is to be cleared.
    pub fn send_now(&mut self, socket: RawFd, pool: &mut Pool) -> io::Result<bool> {
        let mut took = false;
        while !self.busy && self.point_at_rest(pool) {
            // SAFETY: the header and its vectors live in the box; they name queued bytes and slots in use.
            let count = unsafe {
                libc::sendmsg(socket, &raw const self.message.header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
            };
            let result = usize::try_from(count).map_err(|_| io::Error::last_os_error());
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                other => self.account(other, pool)?,
            }
            took = true;
        }
        Ok(took)
    }

    /// The next send, if there is something to send and none is under way. The caller must submit it and hand the
    /// result to [`Outgoing::sent`].
    pub fn next_send(&mut self, socket: RawFd, pool: &Pool) -> Option<Entry> {
        if self.busy || !self.point_at_rest(pool) {
            return None;
        }
        self.busy = true;
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
        Some(opcode::SendMsg::new(types::Fd(socket), &self.message.header).flags(flags).build())
    }

    /// Has the message name what is to be sent next; false: there is nothing.
    fn point_at_rest(&mut self, pool: &Pool) -> bool {
        if self.sent == self.message.vectors.len() {
            if self.gathering.pieces.is_empty() {
                return false;
            }
            self.start_batch(pool);
        }
        let message = &mut *self.message;
        let rest = &mut message.vectors[self.sent..];
        message.header.msg_iov = rest.as_mut_ptr();
        message.header.msg_iovlen = rest.len().min(PIECES_MAX) as _;
        true
    }

    fn start_batch(&mut self, pool: &Pool) {
        std::mem::swap(&mut self.gathering, &mut self.flying);
        self.sent = 0;
        let Batch { bytes, pieces } = &self.flying;
        self.message.vectors.clear();
        self.message.vectors.extend(pieces.iter().map(|piece| match *piece {
            Piece::Bytes { start, length } => {
                libc::iovec { iov_base: bytes[start..start + length].as_ptr().cast_mut().cast(), iov_len: length }
            }
            Piece::Slot { slot, offset, length } => {
                libc::iovec { iov_base: pool.start_of(slot).wrapping_add(offset).cast(), iov_len: length }
            }
        }));
    }

    /// Takes a send's result. An error means the connection is gone; the queue is to be cleared.
    pub fn sent(&mut self, result: io::Result<usize>, pool: &mut Pool) -> io::Result<()> {
        self.busy = false;
        self.account(result, pool)
    }

    fn account(&mut self, result: io::Result<usize>, pool: &mut Pool) -> io::Result<()> {
        let mut count = match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.queued_bytes -= count;
        while count > 0 {
            let vector = &mut self.message.vectors[self.sent];
            if count < vector.iov_len {
                vector.iov_base = vector.iov_base.wrapping_byte_add(count);
                vector.iov_len -= count;
                return Ok(());
            }
            count -= vector.iov_len;
            self.finish_piece(pool);
        }
        Ok(())
    }

    fn finish_piece(&mut self, pool: &mut Pool) {
        if let Piece::Slot { slot, .. } = self.flying.pieces[self.sent] {
            pool.release(slot);
        }
        self.sent += 1;
        if self.sent == self.flying.pieces.len() {
            self.flying.pieces.clear();
            self.flying.bytes.clear();
            self.flying.bytes.shrink_to(HEADER_BYTES_KEPT);
            self.message.vectors.clear();
            self.sent = 0;
        }
    }

    /// Lets go of everything queued. Not while an operation is with the kernel.
    pub fn clear(&mut self, pool: &mut Pool) {
        assert!(!self.busy, "the kernel still reads these bytes");
        let unsent = self.flying.pieces.drain(..).skip(self.sent);
        for piece in unsent.chain(self.gathering.pieces.drain(..)) {
            if let Piece::Slot { slot, .. } = piece {
                pool.release(slot);
            }
        }
        self.flying.bytes.clear();
        self.gathering.bytes.clear();
        self.message.vectors.clear();
        self.message.header.msg_iov = ptr::null_mut();
        self.sent = 0;
        self.queued_bytes = 0;
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.busy {
            // The kernel may still read the bytes and the message: they are never freed.
            std::mem::forget(std::mem::take(&mut self.flying.bytes));
            // SAFETY: all zeroes is a valid `msghdr`.
            let empty = Message { header: unsafe { std::mem::zeroed() }, vectors: Vec::new() };
            std::mem::forget(std::mem::replace(&mut self.message, Box::new(empty)));
        }
    }
}
