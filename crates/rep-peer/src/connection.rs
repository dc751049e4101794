//! One connection, from its first byte to its last.
//!
//! ```text
//!   Opening ──proved──► Open ──close──► Draining ──queue empty──► Dead ──operations ended──► dropped
//!      └──error, too slow──► Draining      └──error, end──────────► Dead
//! ```
//! `Dead` waits only for the kernel to hand back what it was given.

use crate::limits::{OPENING_BUFFER_BYTES, RECEIVE_BUFFER_BYTES};
use crate::problem::LinkProblem;
use nix::sys::socket::{Shutdown, shutdown};
use rep_ring::{Completion, Entry, Incoming, Outgoing, Pool, Received, SlotId, Zone};
use rep_types::SessionId;
use rep_wire::{Agreed, FrameReader, FrameWriter, Message, Opening, Parsed, PayloadExpected, Progress};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

/// A frame whose payload isn't there yet.
struct Partial {
    message: Message,
    expected: PayloadExpected,
    /// Where it goes; `None` while no slot is free.
    slot: Option<SlotId>,
}

struct Open {
    session: SessionId,
    reader: FrameReader,
    writer: FrameWriter,
    partial: Option<Partial>,
}

enum Phase {
    Opening { opening: Box<Opening>, deadline: Instant },
    Open(Box<Open>),
    Draining { deadline: Instant },
    Dead,
}

/// What became of received bytes.
pub(crate) enum Step {
    /// More must be received, or a slot must come free.
    Wait,
    /// The opening has ended well: call [`Connection::open`], then parse on.
    Agreed(Agreed),
    /// A whole frame.
    Message(Message, Option<SlotId>),
}

/// What became of an attempt to send at once.
pub(crate) enum Sent {
    /// There was nothing to send, or no room for any of it.
    Nothing,
    /// The socket took some of it.
    Some,
    /// It took all, of what began to be sent then.
    All { began: Option<Instant> },
}

pub(crate) struct Connection {
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: Outgoing,
    phase: Phase,
    sends: bool,
    /// When the gathered send under way began.
    send_began: Option<Instant>,
}

impl Connection {
    pub fn new(socket: OwnedFd, opening: Opening, deadline: Instant) -> Self {
        let mut connection = Connection {
            socket,
            incoming: Incoming::new(OPENING_BUFFER_BYTES),
            outgoing: Outgoing::new(),
            phase: Phase::Opening { opening: Box::new(opening), deadline },
            sends: true,
            send_began: None,
        };
        connection.queue_opening();
        connection
    }

    fn queue_opening(&mut self) {
        if let Phase::Opening { opening, .. } = &mut self.phase {
            let bytes = opening.take_outgoing();
            self.outgoing.append_with(|out| out.extend_from_slice(&bytes));
        }
    }

    /// From here on frames. What was received behind the opening is kept.
    pub fn open(&mut self, session: SessionId, agreed: Agreed) {
        let mut incoming = Incoming::new(RECEIVE_BUFFER_BYTES);
        incoming.take_over(&mut self.incoming);
        self.incoming = incoming;
        let (reader, writer) = (agreed.reader(), agreed.writer());
        self.phase = Phase::Open(Box::new(Open { session, reader, writer, partial: None }));
    }

    /// A send failed: nothing more is sent.
    pub fn stop_sending(&mut self) {
        self.sends = false;
    }

    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening { .. })
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    pub fn session(&self) -> Option<SessionId> {
        match &self.phase {
            Phase::Open(open) => Some(open.session),
            _ => None,
        }
    }

    pub fn queued_bytes(&self) -> usize {
        self.outgoing.queued_bytes()
    }

    /// Whether a payload is coming in.
    pub fn is_filling(&self) -> bool {
        self.incoming.is_filling()
    }

    /// When it must have come further.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Opening { deadline, .. } | Phase::Draining { deadline } => Some(deadline),
            Phase::Open(_) | Phase::Dead => None,
        }
    }

    /// Queues a message. Takes over one use of the payload.
    pub fn send(&mut self, message: &Message, payload: Option<SlotId>, pool: &mut Pool) {
        let (Phase::Open(open), true) = (&mut self.phase, self.sends) else {
            payload.into_iter().for_each(|slot| pool.release(slot));
            return;
        };
        let length = message.buffer_length() as usize;
        assert_eq!(length, payload.map_or(0, |slot| pool.length(slot)), "the payload is as long as its message says");
        let parts = || message.payload_parts().map(|part| part.offset as usize..part.end() as usize);
        let sum = payload.map_or(0, |slot| {
            // SAFETY: the payload of a message is complete: received, or read, before it came here; a disk write that
            // uses it at the same time only reads it.
            let bytes = unsafe { pool.bytes(slot) };
            open.writer.sums().of_parts(parts().map(|part| &bytes[part]))
        });
        let mut legal = true;
        self.outgoing.append_with(|out| legal = open.writer.encode(message, sum, out).is_ok());
        assert!(legal, "a message that may not be sent: {message:?}");
        let Some(slot) = payload else { return };
        for part in parts() {
            // Each part holds the slot until it has left.
            pool.retain(slot);
            self.outgoing.append_slot(slot, part.start, part.len());
        }
        pool.release(slot);
    }

    /// Sends what the socket has room for.
    pub fn send_now(&mut self, pool: &mut Pool) -> Result<Sent, LinkProblem> {
        if self.is_dead() || !self.sends || self.outgoing.is_busy() || self.outgoing.queued_bytes() == 0 {
            return Ok(Sent::Nothing);
        }
        self.send_began.get_or_insert_with(Instant::now);
        let took = self.outgoing.send_now(self.socket.as_raw_fd(), pool).map_err(LinkProblem::Failed)?;
        Ok(match self.outgoing.queued_bytes() {
            0 => Sent::All { began: self.send_began.take() },
            _ if took => Sent::Some,
            _ => Sent::Nothing,
        })
    }

    /// The send of what the socket had no room for.
    pub fn next_send(&mut self, pool: &Pool) -> Option<Entry> {
        if self.is_dead() || !self.sends {
            return None;
        }
        self.outgoing.next_send(self.socket.as_raw_fd(), pool)
    }

    pub fn next_receive(&mut self, pool: &Pool) -> Option<Entry> {
        match &self.phase {
            Phase::Opening { .. } => {}
            Phase::Open(open) if open.partial.as_ref().is_none_or(|partial| partial.slot.is_some()) => {}
            _ => return None,
        }
        self.incoming.next_receive(self.socket.as_raw_fd(), pool)
    }

    /// A send has ended; `Some`: the gathered one is done, and when it began.
    pub fn sent(&mut self, completion: Completion, pool: &mut Pool) -> Result<Option<Instant>, LinkProblem> {
        self.outgoing.sent(completion.as_io(), pool).map_err(LinkProblem::Failed)?;
        Ok(if self.outgoing.is_under_way() { None } else { self.send_began.take() })
    }

    pub fn received(&mut self, completion: Completion) -> Result<(), LinkProblem> {
        match self.incoming.received(completion.as_io(), completion.more_in_socket) {
            Ok(Received::Bytes) => Ok(()),
            Ok(Received::End) => Err(LinkProblem::Closed),
            Err(error) => Err(LinkProblem::Failed(error)),
        }
    }

    /// The next thing in what was received.
    pub fn parse(&mut self, pool: &mut Pool) -> Result<Step, LinkProblem> {
        if self.incoming.is_busy() || self.incoming.is_filling() {
            return Ok(Step::Wait);
        }
        match &mut self.phase {
            Phase::Opening { opening, .. } => {
                let received = opening.receive(self.incoming.bytes());
                self.queue_opening();
                let received = received?;
                self.incoming.consume(received.consumed);
                Ok(match received.progress {
                    Progress::Waiting => Step::Wait,
                    Progress::Open(agreed) => Step::Agreed(agreed),
                })
            }
            Phase::Open(open) => parse_frame(open, &mut self.incoming, pool),
            Phase::Draining { .. } | Phase::Dead => Ok(Step::Wait),
        }
    }

    /// Sends what is queued, takes nothing more, and ends.
    pub fn drain(&mut self, deadline: Instant, pool: &mut Pool) {
        self.let_go_of_partial(pool);
        self.phase = Phase::Draining { deadline };
    }

    /// Ends at once. What the kernel still has comes back soon.
    pub fn kill(&mut self, pool: &mut Pool) {
        self.let_go_of_partial(pool);
        self.phase = Phase::Dead;
        // It fails for a connection that the peer has ended already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    fn let_go_of_partial(&mut self, pool: &mut Pool) {
        let Phase::Open(open) = &mut self.phase else { return };
        let Some(slot) = open.partial.take().and_then(|partial| partial.slot) else { return };
        // The kernel may still be filling it; then it goes when that has ended.
        if self.incoming.is_busy() { self.incoming.release_when_idle(slot) } else { pool.release(slot) }
    }

    /// After every completion and at the end of a turn: whether the connection is gone for good.
    pub fn settle(&mut self, pool: &mut Pool) -> bool {
        if matches!(self.phase, Phase::Draining { .. }) && (self.outgoing.queued_bytes() == 0 || !self.sends) {
            self.kill(pool);
        }
        if !self.is_dead() || self.incoming.is_busy() || self.outgoing.is_busy() {
            return false;
        }
        self.outgoing.clear(pool);
        self.incoming.clear(pool);
        true
    }
}

fn parse_frame(open: &mut Open, incoming: &mut Incoming, pool: &mut Pool) -> Result<Step, LinkProblem> {
    if open.partial.is_none() {
        let frame = match open.reader.parse(incoming.bytes())? {
            Parsed::Incomplete { .. } => return Ok(Step::Wait),
            Parsed::Frame(frame) => frame,
        };
        incoming.consume(frame.consumed);
        let Some(expected) = frame.payload else { return Ok(Step::Message(frame.message, None)) };
        open.partial = Some(Partial { message: frame.message, expected, slot: None });
    }
    finish_partial(open, incoming, pool)
}

fn finish_partial(open: &mut Open, incoming: &mut Incoming, pool: &mut Pool) -> Result<Step, LinkProblem> {
    let Some(mut partial) = open.partial.take() else { return Ok(Step::Wait) };
    let length = partial.expected.length as usize;
    let whole = match partial.slot {
        Some(_) => true,
        None => {
            let forwarded = matches!(partial.message, Message::ForwardWrite { .. });
            let zone = if forwarded { Zone::Forwarded } else { Zone::Peer };
            partial.slot = pool.take(zone, length);
            partial.slot.is_some_and(|slot| incoming.fill(slot, 0, length, pool))
        }
    };
    let (true, Some(slot)) = (whole, partial.slot) else {
        open.partial = Some(partial);
        return Ok(Step::Wait);
    };
    // SAFETY: the slot is filled; nothing writes to it any more.
    if let Err(error) = partial.expected.verify(unsafe { pool.bytes(slot) }) {
        pool.release(slot);
        return Err(error.into());
    }
    Ok(Step::Message(partial.message, Some(slot)))
}
