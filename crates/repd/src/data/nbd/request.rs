//! Requests in the engine's hands: which client each is of, its pieces, and the answer put together.
//!
//! A read's buffer has two uses: the engine's, and this table's. So the answer always has a buffer of the clients'
//! zone to leave from, also when the engine hands over the data in another (read from the peer): that one comes free
//! at once, and a client that takes no answers can't keep the peer's messages from arriving.
//!
//! A read of several pieces that must be answered in one go is streamed: its head leaves with the first piece, the
//! others follow in order. No buffer is kept for one that has none yet, so readers can't block each other. A piece that
//! fails behind the head can only be told by hanging up.

use super::client::Client;
use crate::data::disks::slot_of;
use rep_nbd::{Command, Frame, NbdError, PendingReply, PieceAnswer, Request};
use rep_ring::{Key, Pool, Slab, SlotId};
use rep_types::{ByteRange, IoError, PayloadId, REQUEST_LENGTH_MAX, RequestId};

enum Reply {
    Pieces(PendingReply),
    Stream(Stream),
}

/// A read whose answer leaves in order.
struct Stream {
    cookie: u64,
    /// What precedes the data.
    head: Frame,
    /// The next byte to leave.
    next: u64,
    range: ByteRange,
    /// Pieces that came early, with their offsets.
    early: Vec<(u64, SlotId)>,
    failure: Option<IoError>,
    pieces_left: u32,
}

/// A client's request.
struct Whole {
    client: Key,
    reply: Reply,
    /// Pieces the engine has.
    outstanding: u32,
    /// The rest of its pieces will never come: the client has gone.
    orphaned: bool,
}

/// A piece of it, as the engine knows it.
struct Piece {
    whole: Key,
    range: ByteRange,
    /// A read's buffer.
    slot: Option<SlotId>,
}

pub(super) struct Requests {
    wholes: Slab<Whole>,
    pieces: Slab<Piece>,
}

impl Requests {
    pub fn new() -> Self {
        Requests { wholes: Slab::new(), pieces: Slab::new() }
    }

    /// Begins a request.
    pub fn begin(&mut self, client: Key, request: &Request, structured: bool) -> Key {
        let reply = match request.command {
            Command::Read { unfragmented } if request.range.length > REQUEST_LENGTH_MAX => {
                stream(request, structured, unfragmented)
            }
            _ => None,
        };
        let reply = reply.map_or_else(|| Reply::Pieces(PendingReply::new(request, structured)), Reply::Stream);
        self.wholes.insert(Whole { client, reply, outstanding: 0, orphaned: false })
    }

    /// Names a piece for the engine. A read's buffer: one use of it, beside the engine's.
    pub fn piece(&mut self, whole: Key, range: ByteRange, slot: Option<SlotId>) -> RequestId {
        if let Some(whole) = self.wholes.get_mut(whole) {
            whole.outstanding += 1;
        }
        RequestId(self.pieces.insert(Piece { whole, range, slot }).to_bits())
    }

    /// The client has gone before it had sent all of this request.
    pub fn orphan(&mut self, whole: Key, pool: &mut Pool) {
        let Some(entry) = self.wholes.get_mut(whole) else { return };
        entry.orphaned = true;
        if entry.outstanding == 0 {
            self.remove(whole, pool);
        }
    }

    fn remove(&mut self, whole: Key, pool: &mut Pool) {
        if let Some(Whole { reply: Reply::Stream(stream), .. }) = self.wholes.remove(whole) {
            stream.early.into_iter().for_each(|(_, slot)| pool.release(slot));
        }
    }

    /// The engine answered a piece.
    pub fn complete(
        &mut self,
        request: RequestId,
        result: Result<(), IoError>,
        payload: Option<PayloadId>,
        clients: &mut Slab<Client>,
        pool: &mut Pool,
    ) {
        let Some(piece) = self.pieces.remove(Key::from_bits(request.0)) else {
            unreachable!("a request that was answered twice, or never made: {request}");
        };
        if let Some(given) = payload.map(slot_of) {
            take_data(given, &piece, result, pool);
        }
        let Some(whole) = self.wholes.get_mut(piece.whole) else { unreachable!("a whole outlives its pieces") };
        whole.outstanding -= 1;
        let mut client = clients.get_mut(whole.client);
        if let Some(client) = &mut client {
            client.piece_ended(piece.range);
        }
        let answering = client.as_deref_mut().filter(|client| client.takes_answers());
        let ended = match &mut whole.reply {
            Reply::Pieces(reply) => deliver(reply.piece_done(piece.range, result), &piece, answering, pool),
            Reply::Stream(stream) => stream.piece_done(&piece, result, answering, pool),
        };
        if ended && let Some(client) = client {
            client.request_ended();
        }
        if ended || (whole.orphaned && whole.outstanding == 0) {
            self.remove(piece.whole, pool);
        }
    }
}

/// The engine gives back the buffer it was given, or another with the data.
fn take_data(given: SlotId, piece: &Piece, result: Result<(), IoError>, pool: &mut Pool) {
    if let Some(own) = piece.slot.filter(|own| *own != given && result.is_ok()) {
        // SAFETY: both are at rest: the one holds what was received; on the other no operation is under way any
        // more, since the engine went to read elsewhere.
        unsafe { pool.copy(given, own) };
    }
    pool.release(given);
}

/// Hands an answer to the client; true if the request ends with it.
fn deliver(answer: PieceAnswer, piece: &Piece, client: Option<&mut Client>, pool: &mut Pool) -> bool {
    let release = |pool: &mut Pool| piece.slot.into_iter().for_each(|slot| pool.release(slot));
    let own = piece.slot.map(|slot| (slot, piece.range.length as usize));
    match (answer, client) {
        (_, None) | (PieceAnswer::Wait, _) => release(pool),
        (PieceAnswer::Keep, _) => unreachable!("what would be kept is streamed"),
        (PieceAnswer::Chunk(frame) | PieceAnswer::LastChunk(frame) | PieceAnswer::Joined(frame), Some(client)) => {
            client.answer(&frame);
            client.answer_data(own);
        }
        (PieceAnswer::ChunkAndEnd(frame, end), Some(client)) => {
            client.answer(&frame);
            client.answer_data(own);
            client.answer(&end);
        }
        (PieceAnswer::End(frame), Some(client)) => {
            client.answer(&frame);
            release(pool);
        }
    }
    answer.ends()
}

/// The stream of a long read that may not be cut into chunks.
fn stream(request: &Request, structured: bool, unfragmented: bool) -> Option<Stream> {
    let (cookie, ByteRange { offset, length }) = (request.cookie, request.range);
    let head = match (structured, unfragmented) {
        (true, false) => return None,
        (true, true) => Frame::Data { cookie, offset, length, done: true },
        (false, _) => Frame::Simple { cookie, result: Ok(()) },
    };
    let pieces_left = request.pieces().len() as u32;
    Some(Stream { cookie, head, next: offset, range: request.range, early: Vec::new(), failure: None, pieces_left })
}

impl Stream {
    /// True if the request ends with it.
    fn piece_done(
        &mut self,
        piece: &Piece,
        result: Result<(), IoError>,
        mut client: Option<&mut Client>,
        pool: &mut Pool,
    ) -> bool {
        self.pieces_left -= 1;
        self.failure = self.failure.or(result.err());
        match (piece.slot, self.failure, &mut client) {
            (Some(slot), None, Some(client)) => {
                self.early.push((piece.range.offset, slot));
                self.send_in_order(client, pool);
            }
            (slot, _, _) => slot.into_iter().for_each(|slot| pool.release(slot)),
        }
        if let (Some(error), 0, Some(client)) = (self.failure, self.pieces_left, client) {
            self.fail(error, client);
        }
        self.pieces_left == 0
    }

    fn send_in_order(&mut self, client: &mut Client, pool: &Pool) {
        while let Some(index) = self.early.iter().position(|(offset, _)| *offset == self.next) {
            let (_, slot) = self.early.swap_remove(index);
            if self.next == self.range.offset {
                client.answer(&self.head);
            }
            let length = pool.length(slot);
            client.answer_data(Some((slot, length)));
            self.next += length as u64;
        }
    }

    fn fail(&self, error: IoError, client: &mut Client) {
        if self.next > self.range.offset {
            return client.break_off();
        }
        let (cookie, error) = (self.cookie, NbdError::from(error));
        client.answer(&match self.head {
            Frame::Data { offset, .. } => {
                Frame::ErrorAt { cookie, error, offset, message: "the disks failed the request" }
            }
            _ => Frame::Simple { cookie, result: Err(error) },
        });
    }
}
