//! The NBD port: listening sockets, clients, and their requests on the way through the engine.
//!
//! ```text
//!  Portal (a socket's address, the volumes offered there) ──accept──► Client ──requests──► Request ──pieces──► engine
//!                                                                       ▲                                        │
//!                                                                       └────────── replies ◄───── Complete ─────┘
//! ```
//! The kernel is a client of the same kind, without a portal to come by: see [`kernel`].
//!
//! A portal listens only while at least one of its volumes is exported: a Secondary's address refuses connections.
//! A client that takes no answers, or whose requests find no buffer, isn't received from; nobody else waits for it.
//!
//! Invariants: a request counts for its client until its last piece is answered, also when the client has gone; a
//! buffer goes to those who wait for one in the order they began to wait.

mod client;
mod kernel;
mod portal;
mod request;
mod status;
mod submit;

use super::limits::{CLIENT_DRAIN_TIME_MAX, CLIENT_STALL_TIME_MAX, CLIENTS_MAX, LISTEN_RETRY_PAUSE};
use crate::data::report::BlockDevice;
use crate::resource::DeviceOptions;
use client::Client;
use kernel::{KernelClient, KernelDevices};
use portal::Portal;
use rep_engine::{Event, Offer};
use rep_nbd::ExportCatalog;
use rep_ring::{Completion, Key, Listener, Pool, Slab, Submit};
use rep_types::{IoError, NodeName, PayloadId, RequestId, ResourceName, VolumeNumber};
use request::Requests;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

pub(super) use portal::PortalOptions;
pub(super) use status::AllocationSource;

/// An operation of this port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NbdOperation {
    Accept(Key),
    Receive(Key),
    Send(Key),
}

/// What the port needs of the thread to take requests.
pub(super) struct NbdContext<'a> {
    pub pool: &'a mut Pool,
    pub events: &'a mut Vec<Event>,
    pub allocation: &'a dyn AllocationSource,
    pub now: Instant,
    /// Nothing new is taken from clients: the peer can't keep up.
    pub paused: bool,
}

/// What everybody in the port shares.
struct Shared {
    requests: Requests,
    /// Clients that wait for a buffer, in the order they began to.
    waiting: VecDeque<Key>,
}

/// The NBD port of a resource.
pub(super) struct NbdPort {
    portals: Vec<Portal>,
    listeners: Slab<(usize, Listener)>,
    clients: Slab<Client>,
    kernel: KernelDevices,
    shared: Shared,
    listen_retry_at: Option<Instant>,
    /// Kept for its memory: the clients a turn looks at.
    keys: Vec<Key>,
}

impl NbdPort {
    /// Must be called by the thread that will serve the clients.
    pub fn new(
        (resource, node): (&ResourceName, &NodeName),
        stable: bool,
        volumes: Vec<PortalOptions>,
        wake: Arc<OwnedFd>,
    ) -> Self {
        let of_kernel = volumes.iter().filter(|volume| volume.device == DeviceOptions::NbdKernel);
        let kernel = KernelDevices::new((resource, node), of_kernel.map(|volume| volume.volume), wake);
        NbdPort {
            kernel,
            portals: Portal::group(resource, stable, volumes),
            listeners: Slab::new(),
            clients: Slab::new(),
            shared: Shared { requests: Requests::new(), waiting: VecDeque::new() },
            listen_retry_at: None,
            keys: Vec::new(),
        }
    }

    /// Offers a volume, at another size if it is offered already.
    pub fn export(&mut self, volume: VolumeNumber, offer: Offer, now: Instant) {
        let Some(portal) = self.portals.iter_mut().find(|portal| portal.serves(volume)) else { return };
        portal.offer(volume, offer);
        if let Some(export) = portal.export_of(volume) {
            self.kernel.offer(volume, export);
        }
        for (_, client) in self.clients.iter_mut().filter(|(_, client)| client.volume() == Some(volume)) {
            client.resize(offer.size_bytes);
        }
        self.listen(now);
    }

    /// Stops offering a volume; its clients are hung up on once their answers have left.
    pub fn withdraw(&mut self, volume: VolumeNumber, context: &mut NbdContext<'_>) {
        let Some(portal) = self.portals.iter_mut().find(|portal| portal.serves(volume)) else { return };
        portal.withdraw(volume);
        if self.kernel.serves(volume) {
            // The kernel hangs up by itself, once it has taken the device away.
            return self.kernel.withdraw(volume);
        }
        let portal_idle = portal.is_idle();
        let index = self.portals.iter().position(|portal| portal.serves(volume));
        for (key, client) in self.clients.iter_mut() {
            if client.volume() == Some(volume) || (portal_idle && Some(client.portal) == index) {
                client.drain(key, context.now + CLIENT_DRAIN_TIME_MAX, &mut self.shared, context.pool);
            }
        }
        self.listen(context.now);
        self.tell_openers(volume, context.events);
    }

    /// Refuses every request from here on: the daemon ends.
    pub fn refuse_requests(&mut self) {
        let clients = self.clients.iter_mut().map(|(_, client)| client);
        clients.filter(|client| client.kernel_of.is_none()).for_each(Client::refuse_requests);
    }

    /// Leaves the kernel's devices to the next daemon: nothing more is taken from the kernel, and what can't be answered
    /// well is not answered.
    pub fn leave_devices(&mut self) {
        self.kernel.leave();
        let clients = self.clients.iter_mut().map(|(_, client)| client);
        clients.filter(|client| client.kernel_of.is_some()).for_each(|client| client.held = true);
    }

    /// Opens and closes listening sockets so that they are what the exports need.
    fn listen(&mut self, now: Instant) {
        for (index, portal) in self.portals.iter_mut().enumerate().filter(|(_, portal)| portal.listens()) {
            let standing = self.listeners.iter_mut().find(|(_, (of, listener))| *of == index && !listener.is_closing());
            match (standing, portal.is_idle()) {
                (Some((_, (_, listener))), true) => {
                    listener.close();
                    portal.closed();
                }
                (None, false) => match portal.open() {
                    Ok(socket) => drop(self.listeners.insert((index, Listener::new(socket)))),
                    Err(()) => self.listen_retry_at = Some(now + LISTEN_RETRY_PAUSE),
                },
                _ => {}
            }
        }
    }

    fn openers(&self, volume: VolumeNumber) -> u32 {
        self.clients.iter().filter(|(_, client)| client.volume() == Some(volume)).count() as u32
    }

    fn tell_openers(&self, volume: VolumeNumber, events: &mut Vec<Event>) {
        events.push(Event::Openers { volume, count: self.openers(volume) });
    }

    /// Whether a volume is offered and listened for, how many clients it has, and why it isn't listened for.
    pub fn report(&self, volume: VolumeNumber) -> (bool, u32, Option<String>) {
        let Some(portal) = self.portals.iter().find(|portal| portal.serves(volume)) else { return (false, 0, None) };
        (portal.offers(volume), self.openers(volume), portal.problem())
    }

    /// The same of a device of the kernel's: its name, whether it can be used, why not. `None`: the volume has none.
    pub fn kernel_report(&self, volume: VolumeNumber) -> Option<BlockDevice> {
        self.kernel.report(volume)
    }

    /// Takes what became of devices of the kernel's.
    pub fn take_results(&mut self, now: Instant) {
        for KernelClient { volume, socket } in self.kernel.take_results() {
            let portal = self.portals.iter().position(|portal| portal.serves(volume));
            // Withdrawn meanwhile: without a connection the device is dead until it is taken away, which comes next.
            let Some(portal) = portal else { continue };
            let Some(export) = self.portals[portal].export_of(volume) else { continue };
            self.clients.insert(Client::of_kernel(portal, socket, export, now));
        }
    }

    /// A request's piece is answered. Every `Complete` of the engine comes here.
    pub fn complete(
        &mut self,
        request: RequestId,
        result: Result<(), IoError>,
        payload: Option<PayloadId>,
        pool: &mut Pool,
    ) {
        self.shared.requests.complete(request, result, payload, &mut self.clients, pool);
    }

    /// Takes a completion of one of this port's operations.
    pub fn completed(&mut self, operation: NbdOperation, completion: Completion, context: &mut NbdContext<'_>) {
        match operation {
            NbdOperation::Accept(key) => self.accepted(key, completion, context.now),
            NbdOperation::Receive(key) => {
                let Some(client) = self.clients.get_mut(key) else { return };
                client.received(key, completion, &mut self.shared, context);
                self.advance(key, context);
            }
            NbdOperation::Send(key) => {
                let Some(client) = self.clients.get_mut(key) else { return };
                client.sent(key, completion, &mut self.shared, context);
            }
        }
    }

    fn accepted(&mut self, key: Key, completion: Completion, now: Instant) {
        let Some((portal, listener)) = self.listeners.get_mut(key) else { return };
        let portal = *portal;
        match listener.accepted(completion.as_io()) {
            Ok(socket) => self.welcome(portal, socket, now),
            Err(error) if error.raw_os_error() == Some(nix::libc::ECONNABORTED) || listener.is_closing() => {}
            // Out of descriptors, most likely: what is queued stays queued for a while.
            Err(_) => {
                listener.close();
                self.portals[portal].closed();
                self.listen_retry_at = Some(now + LISTEN_RETRY_PAUSE);
            }
        }
    }

    fn welcome(&mut self, portal: usize, socket: OwnedFd, now: Instant) {
        if self.clients.len() >= CLIENTS_MAX || self.portals[portal].is_idle() {
            return; // dropping the socket is the answer
        }
        self.portals[portal].set_options(&socket);
        self.clients.insert(Client::new(portal, socket, now));
    }

    /// Takes what a client has sent, as far as it goes.
    fn advance(&mut self, key: Key, context: &mut NbdContext<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let before = client.volume();
        let catalog = self.portals[client.portal].catalog();
        client.advance(key, catalog, &mut self.shared, context);
        if let (None, Some(volume)) = (before, client.volume()) {
            self.tell_openers(volume, context.events);
        }
    }

    /// When [`NbdPort::turn`] must be called at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let deadlines = self.clients.iter().filter_map(|(_, client)| client.deadline());
        let stalls = self
            .clients
            .iter()
            .filter(|_| !self.shared.waiting.is_empty())
            .filter_map(|(_, client)| client.stalled_since().map(|since| since + CLIENT_STALL_TIME_MAX));
        deadlines.chain(stalls).chain(self.listen_retry_at).min()
    }

    /// Once a turn: what is due by the clock, what waited and can go on, then receives and sends. Whether something was
    /// sent at once: what waits for room or for a buffer may go on.
    pub fn turn(&mut self, io: &mut impl Submit<NbdOperation>, context: &mut NbdContext<'_>) -> bool {
        let mut sent = false;
        if self.listen_retry_at.is_some_and(|at| at <= context.now) {
            self.listen_retry_at = None;
            self.listen(context.now);
        }
        self.turn_listeners(io);
        let mut keys = std::mem::take(&mut self.keys);
        // Those who wait for a buffer first, in their order.
        keys.extend(self.shared.waiting.iter().copied());
        let waiting = keys.len();
        keys.extend(self.clients.iter().map(|(key, _)| key));
        for (n, key) in keys.drain(..).enumerate() {
            self.advance(key, context);
            if n >= waiting {
                sent |= self.operate(key, io, context);
            }
        }
        self.keys = keys;
        sent
    }

    fn turn_listeners(&mut self, io: &mut impl Submit<NbdOperation>) {
        let mut done = None;
        for (key, (_, listener)) in self.listeners.iter_mut() {
            if let Some(entry) = listener.next_accept() {
                // SAFETY: a listener stays until its operation has ended.
                unsafe { io.submit(entry, NbdOperation::Accept(key)) };
            } else if listener.is_closing() && !listener.is_busy() {
                done = Some(key);
            }
        }
        done.into_iter().for_each(|key| drop(self.listeners.remove(key)));
    }

    /// Sends to and receives from a client; whether something was sent at once.
    fn operate(&mut self, key: Key, io: &mut impl Submit<NbdOperation>, context: &mut NbdContext<'_>) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let contended = !self.shared.waiting.is_empty();
        let stalled = client.stalled_since().is_some_and(|since| since + CLIENT_STALL_TIME_MAX <= context.now);
        if client.deadline().is_some_and(|deadline| deadline <= context.now) || (contended && stalled) {
            client.kill(key, &mut self.shared, context.pool);
        }
        let sent = client.send_now(key, &mut self.shared, context);
        if let Some(entry) = client.next_send(context.pool) {
            // SAFETY: the client and the slots it holds stay until the operation has ended.
            unsafe { io.submit(entry, NbdOperation::Send(key)) };
        }
        if let Some(entry) = client.next_receive(context.pool, context.paused) {
            // SAFETY: as above.
            unsafe { io.submit(entry, NbdOperation::Receive(key)) };
        }
        let opened = client.opened();
        let (kernel_of, goodbye) = (client.kernel_of, client.has_left());
        if client.settle(key, &mut self.shared, context) {
            self.clients.remove(key);
            kernel_of.into_iter().for_each(|volume| self.kernel.lost(volume, goodbye));
        }
        // A client counts as an opener until its connection is gone.
        if let Some(volume) = opened.filter(|_| self.clients.get(key).is_none_or(|client| client.volume().is_none())) {
            if let Some(client) = self.clients.get_mut(key) {
                client.forget_opened();
            }
            self.tell_openers(volume, context.events);
        }
        sent
    }

    /// Ends everything; operations with the kernel come back soon. True when none is left.
    pub fn shut_down(&mut self, now: Instant, pool: &mut Pool) -> bool {
        let devices_gone = self.kernel.withdraw_all();
        for (key, client) in self.clients.iter_mut() {
            if client.kernel_of.is_none_or(|volume| self.kernel.is_absent(volume)) {
                client.drain(key, now + CLIENT_DRAIN_TIME_MAX, &mut self.shared, pool);
            }
        }
        for portal in &mut self.portals {
            portal.withdraw_all();
        }
        self.listen(now);
        devices_gone && self.listeners.is_empty() && self.clients.is_empty()
    }
}

/// The catalog of a portal, as clients ask for it.
type Catalog = ExportCatalog;
