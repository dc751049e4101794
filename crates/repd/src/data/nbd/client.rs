//! A client's connection.
//!
//! ```text
//!  Negotiating ──GO──► Serving ──DISC──► (answers what is in flight) ─┐
//!      │                  ├──withdrawn──► Draining ──queue empty──────┤
//!      └──too slow, error─┴──error────────────────────────────────────┴─► Dead ──operations ended──► dropped
//! ```

use super::portal::volume_of;
use super::submit::Cut;
use super::{Catalog, NbdContext, Shared, status};
use crate::data::limits::{
    CLIENT_BUFFER_BYTES, CLIENT_DRAIN_TIME_MAX, CLIENT_QUEUE_BYTES_MAX, CLIENT_REQUESTS_MAX, NEGOTIATION_TIME_MAX,
};
use nix::sys::socket::{Shutdown, shutdown};
use rep_nbd::{
    Command, Export, Frame, Negotiated, Negotiation, NegotiationStep, Parsed, Request, TlsPolicy, Transmission,
};
use rep_ring::{Completion, Entry, Incoming, Key, Outgoing, Pool, Received, SlotId};
use rep_types::{ByteRange, VolumeNumber};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

/// A client in transmission.
pub(super) struct Serving {
    pub volume: VolumeNumber,
    pub transmission: Transmission,
    block_bytes: u32,
    /// The request that is being put to the engine.
    cut: Option<Cut>,
}

impl Serving {
    fn new(export: &Export, negotiated: &Negotiated) -> Self {
        Serving {
            volume: volume_of(negotiated.export),
            transmission: Transmission::new(export, negotiated),
            block_bytes: export.min_block_bytes(),
            cut: None,
        }
    }
}

enum Phase {
    Negotiating { negotiation: Box<Negotiation>, deadline: Instant },
    Serving(Box<Serving>),
    Draining { deadline: Instant },
    Dead,
}

/// Whether there may be more to do at once.
#[derive(PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Wait,
}

pub(super) struct Client {
    pub portal: usize,
    socket: OwnedFd,
    pub incoming: Incoming,
    outgoing: Outgoing,
    phase: Phase,
    /// The volume, if this is the kernel's end of a device.
    pub kernel_of: Option<VolumeNumber>,
    /// It said goodbye.
    left: bool,
    /// The kernel's end of a device that the next daemon takes over: nothing more is taken from it, and it hears of no failure.
    pub held: bool,
    /// Requests whose last answer hasn't been queued.
    requests: u32,
    /// Bytes of pieces the engine has.
    pub piece_bytes: usize,
    /// The volume this client was counted as an opener of.
    opened: Option<VolumeNumber>,
    /// When bytes last moved, in either direction.
    progress: Instant,
}

impl Client {
    pub fn new(portal: usize, socket: OwnedFd, now: Instant) -> Self {
        let negotiation = Box::new(Negotiation::new(TlsPolicy::Off));
        let mut client = Self::in_phase(
            portal,
            socket,
            Phase::Negotiating { negotiation, deadline: now + NEGOTIATION_TIME_MAX },
            now,
        );
        client.outgoing.append_with(|out| out.extend_from_slice(&Negotiation::greeting()));
        client
    }

    /// The kernel's end of a device: there was nothing to negotiate. It counts as no opener: it is there, used or not.
    pub fn of_kernel(portal: usize, socket: OwnedFd, export: &Export, now: Instant) -> Self {
        let negotiated = Negotiated { export: export.id(), structured: false, block_status: false };
        let serving = Serving::new(export, &negotiated);
        let kernel_of = Some(serving.volume);
        Client { kernel_of, ..Self::in_phase(portal, socket, Phase::Serving(Box::new(serving)), now) }
    }

    fn in_phase(portal: usize, socket: OwnedFd, phase: Phase, now: Instant) -> Self {
        Client {
            portal,
            socket,
            incoming: Incoming::new(CLIENT_BUFFER_BYTES),
            outgoing: Outgoing::new(),
            phase,
            kernel_of: None,
            left: false,
            held: false,
            requests: 0,
            piece_bytes: 0,
            opened: None,
            progress: now,
        }
    }

    /// The volume it has open.
    pub fn volume(&self) -> Option<VolumeNumber> {
        match &self.phase {
            Phase::Serving(serving) => Some(serving.volume),
            _ => None,
        }
    }

    pub fn opened(&self) -> Option<VolumeNumber> {
        self.opened
    }

    pub fn forget_opened(&mut self) {
        self.opened = None;
    }

    pub fn resize(&mut self, size_bytes: u64) {
        if let Phase::Serving(serving) = &mut self.phase {
            serving.transmission.resize(size_bytes);
        }
    }

    /// Whether it said goodbye.
    pub fn has_left(&self) -> bool {
        self.left
    }

    pub fn refuse_requests(&mut self) {
        if let Phase::Serving(serving) = &mut self.phase {
            serving.transmission.stop();
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Negotiating { deadline, .. } | Phase::Draining { deadline } => Some(deadline),
            Phase::Serving(_) | Phase::Dead => None,
        }
    }

    /// Since when it holds buffers without taking or sending anything.
    pub fn stalled_since(&self) -> Option<Instant> {
        (self.incoming.is_filling() || self.outgoing.queued_bytes() > 0).then_some(self.progress)
    }

    /// Whether answers still reach it.
    pub fn takes_answers(&self) -> bool {
        !matches!(self.phase, Phase::Dead)
    }

    pub fn answer(&mut self, frame: &Frame) {
        self.outgoing.append_with(|out| frame.append_to(out));
    }

    /// Queues a read's data; takes over one use of the buffer.
    pub fn answer_data(&mut self, data: Option<(SlotId, usize)>) {
        data.into_iter().for_each(|(slot, length)| self.outgoing.append_slot(slot, 0, length));
    }

    pub fn piece_ended(&mut self, range: ByteRange) {
        self.piece_bytes -= range.length as usize;
    }

    pub fn request_ended(&mut self) {
        self.requests -= 1;
    }

    /// Ends without a word: there is no other way to tell that a streamed read failed.
    pub fn break_off(&mut self) {
        // It fails for a connection that the client has ended already. The end is then received.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Whether nothing more is taken from it for the moment.
    pub fn is_full(&self) -> bool {
        self.requests >= CLIENT_REQUESTS_MAX || self.outgoing.queued_bytes() > CLIENT_QUEUE_BYTES_MAX
    }

    pub fn queued_bytes(&self) -> usize {
        self.outgoing.queued_bytes()
    }

    /// Takes what it has sent, as far as it goes.
    pub fn advance(&mut self, key: Key, catalog: &Catalog, shared: &mut Shared, context: &mut NbdContext<'_>) {
        loop {
            if self.incoming.is_busy() || self.incoming.is_filling() {
                return;
            }
            let flow = match &mut self.phase {
                Phase::Negotiating { .. } => self.negotiate(key, catalog, shared, context),
                Phase::Serving(_) => self.serve(key, shared, context),
                Phase::Draining { .. } | Phase::Dead => Flow::Wait,
            };
            if flow == Flow::Wait {
                return;
            }
        }
    }

    fn negotiate(&mut self, key: Key, catalog: &Catalog, shared: &mut Shared, context: &mut NbdContext<'_>) -> Flow {
        let Phase::Negotiating { negotiation, .. } = &mut self.phase else { return Flow::Wait };
        let mut input = self.incoming.bytes();
        let before = input.len();
        let mut step = NegotiationStep::NeedMore;
        self.outgoing.append_with(|out| step = negotiation.receive(catalog, &mut input, out));
        let taken = before - input.len();
        self.incoming.consume(taken);
        match step {
            NegotiationStep::NeedMore => Flow::Wait,
            NegotiationStep::Replied => Flow::More,
            NegotiationStep::Transmission(negotiated) => self.open(&negotiated, catalog),
            NegotiationStep::StartTls | NegotiationStep::Aborted | NegotiationStep::Failed(_) => {
                self.drain(key, context.now + CLIENT_DRAIN_TIME_MAX, shared, context.pool);
                Flow::Wait
            }
        }
    }

    fn open(&mut self, negotiated: &Negotiated, catalog: &Catalog) -> Flow {
        let Some(export) = catalog.get(negotiated.export) else { return Flow::Wait };
        let serving = Serving::new(export, negotiated);
        self.opened = Some(serving.volume);
        self.phase = Phase::Serving(Box::new(serving));
        Flow::More
    }

    fn serve(&mut self, key: Key, shared: &mut Shared, context: &mut NbdContext<'_>) -> Flow {
        let full = self.is_full();
        let Phase::Serving(serving) = &mut self.phase else { return Flow::Wait };
        if let Some(mut cut) = serving.cut.take() {
            let (volume, mut ended) = (serving.volume, false);
            let flow = cut.advance(key, volume, &mut ended, self, shared, context);
            let Phase::Serving(serving) = &mut self.phase else { return Flow::Wait };
            serving.cut = (!ended).then_some(cut);
            return flow;
        }
        if full || context.paused || self.left || self.held {
            return Flow::Wait;
        }
        let mut input = self.incoming.bytes();
        let before = input.len();
        let parsed = match serving.transmission.next(&mut input) {
            // A payload is never asked of the parser: it goes straight to its buffer.
            Parsed::Payload { .. } | Parsed::NeedMore => None,
            other => Some(other),
        };
        let taken = before - input.len();
        match parsed {
            None => {
                self.incoming.consume(taken);
                Flow::Wait
            }
            Some(Parsed::Request(request)) => self.request(taken, request, key, shared, context),
            Some(Parsed::Write(request)) => self.begin(taken, request, key, shared),
            Some(Parsed::Reject { frame, .. }) => {
                self.incoming.consume(taken);
                self.answer(&frame);
                Flow::More
            }
            Some(Parsed::Disconnect) => {
                self.left = true;
                Flow::Wait
            }
            Some(Parsed::Broken(_) | Parsed::Payload { .. } | Parsed::NeedMore) => {
                self.kill(key, shared, context.pool);
                Flow::Wait
            }
        }
    }

    fn request(
        &mut self,
        taken: usize,
        request: Request,
        key: Key,
        shared: &mut Shared,
        context: &NbdContext<'_>,
    ) -> Flow {
        let Phase::Serving(serving) = &mut self.phase else { return Flow::Wait };
        match request.command {
            Command::Cache => {
                self.incoming.consume(taken);
                self.answer(&Frame::Simple { cookie: request.cookie, result: Ok(()) });
                Flow::More
            }
            Command::BlockStatus { .. } => {
                let (volume, block_bytes) = (serving.volume, serving.block_bytes);
                self.incoming.consume(taken);
                let source = context.allocation;
                self.outgoing.append_with(|out| status::answer(source, volume, &request, block_bytes, out));
                Flow::More
            }
            _ => self.begin(taken, request, key, shared),
        }
    }

    fn begin(&mut self, taken: usize, request: Request, key: Key, shared: &mut Shared) -> Flow {
        let Phase::Serving(serving) = &mut self.phase else { return Flow::Wait };
        self.incoming.consume(taken);
        let whole = shared.requests.begin(key, &request, serving.transmission.structured());
        serving.cut = Some(Cut::new(request, whole));
        self.requests += 1;
        Flow::More
    }

    /// A piece of a write is there.
    pub fn payload_received(&mut self, length: u32) {
        if let Phase::Serving(serving) = &mut self.phase {
            serving.transmission.payload_received(length);
        }
    }

    pub fn received(&mut self, key: Key, completion: Completion, shared: &mut Shared, context: &mut NbdContext<'_>) {
        self.progress = context.now;
        let received = self.incoming.received(completion.as_io(), completion.more_in_socket);
        if !matches!(received, Ok(Received::Bytes)) {
            self.kill(key, shared, context.pool);
        }
    }

    pub fn sent(&mut self, key: Key, completion: Completion, shared: &mut Shared, context: &mut NbdContext<'_>) {
        self.progress = context.now;
        if self.outgoing.sent(completion.as_io(), context.pool).is_err() {
            self.kill(key, shared, context.pool);
        }
    }

    /// Sends what the socket has room for; whether it took anything.
    pub fn send_now(&mut self, key: Key, shared: &mut Shared, context: &mut NbdContext<'_>) -> bool {
        if matches!(self.phase, Phase::Dead) {
            return false;
        }
        match self.outgoing.send_now(self.socket.as_raw_fd(), context.pool) {
            Ok(false) => return false,
            Ok(true) => self.progress = context.now,
            Err(_) => self.kill(key, shared, context.pool),
        }
        true
    }

    /// The send of what the socket had no room for.
    pub fn next_send(&mut self, pool: &Pool) -> Option<Entry> {
        match self.phase {
            Phase::Dead => None,
            _ => self.outgoing.next_send(self.socket.as_raw_fd(), pool),
        }
    }

    pub fn next_receive(&mut self, pool: &Pool, paused: bool) -> Option<Entry> {
        let takes = match &self.phase {
            Phase::Negotiating { .. } => true,
            Phase::Serving(serving) => match &serving.cut {
                Some(cut) => cut.is_filling(),
                None => !self.left && !self.held && !paused && !self.is_full(),
            },
            Phase::Draining { .. } | Phase::Dead => false,
        };
        if !takes {
            return None;
        }
        self.incoming.next_receive(self.socket.as_raw_fd(), pool)
    }

    /// Sends what is queued, takes nothing more, and ends.
    pub fn drain(&mut self, key: Key, deadline: Instant, shared: &mut Shared, pool: &mut Pool) {
        if matches!(self.phase, Phase::Negotiating { .. } | Phase::Serving(_)) {
            self.let_go_of_request(key, shared, pool);
            self.phase = Phase::Draining { deadline };
        }
    }

    /// Ends at once. What the kernel still has comes back soon.
    pub fn kill(&mut self, key: Key, shared: &mut Shared, pool: &mut Pool) {
        self.let_go_of_request(key, shared, pool);
        self.phase = Phase::Dead;
        self.break_off();
    }

    fn let_go_of_request(&mut self, key: Key, shared: &mut Shared, pool: &mut Pool) {
        shared.waiting.retain(|waiting| *waiting != key);
        let Phase::Serving(serving) = &mut self.phase else { return };
        let Some(cut) = serving.cut.take() else { return };
        if let Some(slot) = cut.let_go(shared, pool) {
            // The kernel may still be filling it; then it goes when that has ended.
            if self.incoming.is_busy() { self.incoming.release_when_idle(slot) } else { pool.release(slot) }
        }
    }

    /// At the end of a turn: whether the connection is gone for good.
    pub fn settle(&mut self, key: Key, shared: &mut Shared, context: &mut NbdContext<'_>) -> bool {
        let finished = match &self.phase {
            Phase::Draining { .. } => self.outgoing.queued_bytes() == 0,
            Phase::Serving(_) => self.left && self.requests == 0 && self.outgoing.queued_bytes() == 0,
            Phase::Negotiating { .. } | Phase::Dead => false,
        };
        if finished {
            self.kill(key, shared, context.pool);
        }
        if self.takes_answers() || self.incoming.is_busy() || self.outgoing.is_busy() {
            return false;
        }
        self.outgoing.clear(context.pool);
        self.incoming.clear(context.pool);
        true
    }
}
