//! Requests in the engine's hands: which client each is of, its pieces, and the answer put together.
//!
//! A read's buffer has two uses: the engine's, and this table's. So the answer always has a buffer of the clients'
//! zone to leave from, also when the engine hands over the data in another (read from the peer): that one comes free
//! at once, and a client that takes no answers can't keep the peer's messages from arriving.
//!
//! How the answers to pieces become the answer to a request is `rep-nbd`'s to say; here it is done, with buffers.

use super::client::Client;
use crate::data::disks::slot_of;
use rep_nbd::{PendingReply, PieceAnswer, Request, StreamStep, StreamedReply};
use rep_ring::{Key, Pool, Slab, SlotId};
use rep_types::{ByteRange, IoError, PayloadId, RequestId};

enum Reply {
    Pieces(PendingReply),
    Stream(StreamedReply<SlotId>),
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
        let reply = match StreamedReply::new(request, structured) {
            Some(stream) => Reply::Stream(stream),
            None => Reply::Pieces(PendingReply::new(request, structured)),
        };
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
        if let Some(Whole { reply: Reply::Stream(mut stream), .. }) = self.wholes.remove(whole) {
            stream.let_go(|slot| pool.release(slot));
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
        let unheard = result.is_err() && client.as_ref().is_some_and(|client| client.held);
        if let Some(client) = client.as_deref_mut().filter(|_| unheard) {
            // Without its connection the kernel keeps the request for the next daemon.
            client.break_off();
        }
        let answering = client.as_deref_mut().filter(|client| client.takes_answers() && !unheard);
        let ended = match &mut whole.reply {
            Reply::Pieces(reply) => deliver(reply.piece_done(piece.range, result), &piece, answering, pool),
            Reply::Stream(stream) => stream_on(stream, &piece, result, answering, pool),
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
        (PieceAnswer::Keep, _) => unreachable!("a read of several pieces has chunks, or is streamed"),
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

/// Goes on with an answer that leaves in order; true if the request ends with it.
fn stream_on(
    stream: &mut StreamedReply<SlotId>,
    piece: &Piece,
    result: Result<(), IoError>,
    mut client: Option<&mut Client>,
    pool: &mut Pool,
) -> bool {
    let Some(slot) = piece.slot else { unreachable!("a read's piece has a buffer") };
    stream.piece_done(piece.range, result, slot, |step| match (step, &mut client) {
        (StreamStep::Frame(frame), Some(client)) => client.answer(&frame),
        (StreamStep::Data(slot), Some(client)) => client.answer_data(Some((slot, pool.length(slot)))),
        (StreamStep::HangUp, Some(client)) => client.break_off(),
        (StreamStep::Data(slot) | StreamStep::Release(slot), _) => pool.release(slot),
        (StreamStep::Frame(_) | StreamStep::HangUp, None) => {}
    });
    stream.has_ended()
}
