//! The loop.

use super::Inbox;
use super::archive::{ArchiveOptions, Archives};
use super::attach::AttachResult;
use super::buffers::Buffers;
use super::commands::Commands;
use super::disks::{DiskContext, Disks, payload_of, slot_of};
use super::ending::Ending;
use super::io::{Io, Operation};
use super::limits::{LOOK_PAYLOAD_BYTES_MAX, LOOK_TIME, PEER_QUEUE_BYTES_MAX, RING_ENTRIES};
use super::nbd::{AllocationSource, NbdContext, NbdPort, PortalOptions};
use super::patience::Patience;
use super::ublk::{UblkContext, UblkPort};
use super::wake_ups;
use crate::resource::{ControlRequest, DeviceOptions, MEMORY_BYTES_LEAST, MetaPlacement, ResourceOptions, SpawnError};
use crate::scheduling::Scheduling;
use crate::waking::{self, WakingSender};
use rep_disk::Disk;
use rep_engine::{Action, Engine, EngineConfig, Event, Latencies, Notice, Timestamp};
use rep_meta::Identity;
use rep_peer::{PeerEvent, PeerOptions, PeerPort};
use rep_ring::{Completion, Ring, Slab, opcode, types};
use rep_types::{DiskState, VolumeNumber};
use rep_wire::Secret;
use std::io as std_io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use tracing::{error, info, trace};

/// A volume, as it was configured.
pub(super) struct VolumeConfig {
    pub number: VolumeNumber,
    pub identity: Identity,
    pub disk: PathBuf,
    pub meta: MetaPlacement,
    pub device: String,
    pub device_options: DeviceOptions,
    /// The state the engine told last: whether the local file system may be asked about holes.
    pub state: DiskState,
}

pub(super) struct DataThread {
    pub io: Io,
    pub buffers: Buffers,
    pub engine: Engine,
    pub disks: Disks,
    pub peer: PeerPort,
    pub nbd: NbdPort,
    pub ublk: UblkPort,
    pub volumes: Vec<VolumeConfig>,
    pub commands: Commands,
    pub archives: Archives,
    pub attach_sender: WakingSender<AttachResult>,
    pub attach_results: mpsc::Receiver<AttachResult>,
    pub inbox: mpsc::Receiver<ControlRequest>,
    pub notices: broadcast::Sender<Notice>,
    /// Takes the questions to the fence-peer handler.
    pub fence: tokio::sync::mpsc::UnboundedSender<rep_engine::FenceId>,
    /// Takes those to the before-resync-target handler.
    pub resync: tokio::sync::mpsc::UnboundedSender<(rep_engine::ResyncId, rep_types::VolumeNumber)>,
    pub wake: Arc<OwnedFd>,
    pub ending: Option<Ending>,
    /// The kernel's devices outlive this thread, and somebody has one open.
    pub devices_left: bool,
    pub now: Instant,
    /// How long gathered sends to the peer took.
    pub sent: Latencies,
    pub events: Vec<Event>,
    pub actions: Vec<Action>,
    patience: Patience,
    scheduling: Scheduling,
    /// Something was sent to the peer since the last wait.
    sent_to_peer: bool,
    /// There was a large payload since the last wait.
    moved_much: bool,
    begun: Instant,
    batch: Vec<Event>,
    peer_events: Vec<PeerEvent>,
}

fn engine_config(options: &ResourceOptions) -> std_io::Result<EngineConfig> {
    let mut seed = [0; 8];
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let clock_origin_unix_ms = unix.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    getrandom::fill(&mut seed).map_err(std_io::Error::other)?;
    Ok(EngineConfig {
        volumes: options.volumes.iter().map(|volume| volume.number).collect(),
        sorts_first: options.node < options.peer,
        seed: u64::from_ne_bytes(seed),
        clock_origin_unix_ms,
        ..options.engine.clone()
    })
}

fn peer_options(options: &ResourceOptions) -> std_io::Result<PeerOptions> {
    let secret = options.secret.as_ref().map(|secret| Secret::new(secret.0.as_slice())).transpose();
    Ok(PeerOptions {
        resource: options.name.clone(),
        node: options.node.clone(),
        peer: options.peer.clone(),
        secret: secret.map_err(std_io::Error::other)?,
        listen: options.listen,
        peer_address: options.peer_address,
        connect_interval: options.connect_interval,
    })
}

impl DataThread {
    pub fn new(options: ResourceOptions, inbox: Inbox) -> Result<Self, SpawnError> {
        let ring = Ring::new(RING_ENTRIES)?;
        let buffers = Buffers::new(options.memory_bytes_max.max(MEMORY_BYTES_LEAST), &ring)?;
        let (attach_sender, attach_results) = waking::channel(inbox.wake.clone());
        let engine = Engine::new(engine_config(&options)?);
        let peer = PeerPort::new(peer_options(&options)?);
        wake_ups::measure();
        let volumes = options.volumes.iter().map(|volume| VolumeConfig {
            number: volume.number,
            identity: Identity { resource: options.name.clone(), node: options.node.clone(), volume: volume.number },
            disk: volume.disk.clone(),
            meta: volume.meta.clone(),
            device: volume.device.to_string(),
            device_options: volume.device.clone(),
            state: DiskState::Diskless,
        });
        let volumes: Vec<_> = volumes.collect();
        let ublk = UblkPort::new(
            (&options.name, &options.node),
            options.volumes.iter().filter(|volume| volume.device == DeviceOptions::Ublk).map(|volume| volume.number),
            inbox.wake.clone(),
        );
        let archive = ArchiveOptions {
            resource: options.name.clone(),
            node: options.node.clone(),
            peer: options.peer.clone(),
            directory: options.archive_dir.clone(),
        };
        let sockets = options.volumes.into_iter().filter(|volume| volume.device != DeviceOptions::Ublk);
        let portals = sockets.map(|volume| PortalOptions {
            volume: volume.number,
            device: volume.device,
            listen_fd: volume.listen_fd,
        });
        let names = (&options.name, &options.node);
        let nbd = NbdPort::new(names, options.engine.stable, portals.collect(), inbox.wake.clone());
        let now = Instant::now();
        Ok(DataThread {
            io: Io { ring, operations: Slab::new() },
            buffers,
            engine,
            disks: Disks::new(volumes.iter().map(|volume| volume.number)),
            peer,
            nbd,
            ublk,
            volumes,
            commands: Commands::new(),
            archives: Archives::new(archive, inbox.wake.clone()),
            attach_sender,
            attach_results,
            inbox: inbox.requests,
            notices: inbox.notices,
            fence: inbox.fence,
            resync: inbox.resync,
            wake: inbox.wake,
            ending: None,
            devices_left: false,
            now,
            sent: Latencies::default(),
            events: Vec::new(),
            actions: Vec::new(),
            patience: Patience::default(),
            scheduling: Scheduling::default(),
            sent_to_peer: false,
            moved_much: false,
            begun: now,
            batch: Vec::new(),
            peer_events: Vec::new(),
        })
    }

    /// The moment on the engine's clock.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp((self.now - self.begun).as_nanos() as u64)
    }

    /// Turns until the thread is told to end and everything has come back.
    pub fn run(&mut self) {
        self.wait_for_wake();
        loop {
            self.settle();
            if self.reap() {
                continue;
            }
            if self.has_ended() {
                return;
            }
            self.wait();
            self.now = Instant::now();
            self.reap();
            self.check_clock();
        }
    }

    /// Hands over what is to be done and waits for what completes.
    fn wait(&mut self) {
        let timeout = self.next_timeout().map(|at| at.saturating_duration_since(self.now));
        let small = !std::mem::take(&mut self.moved_much);
        let hurried = self.scheduling.follow();
        let sent = std::mem::take(&mut self.sent_to_peer);
        if sent && small && !hurried && self.patience.wants(self.now) {
            survive(self.io.ring.hand_over());
            if self.io.ring.has_completions() {
                // This node's own disk was as quick as that: the peer is still waited for.
                self.sent_to_peer = true;
                return;
            }
            let worth_it = wake_ups::look_time();
            if worth_it > LOOK_TIME {
                self.scheduling.give_way_soon();
            }
            let ring = &mut self.io.ring;
            let time_max = timeout.unwrap_or(Duration::MAX).min(worth_it);
            self.patience.look(time_max, wake_ups::gap_of(worth_it), || ring.has_news());
        }
        survive(self.io.ring.turn(timeout));
        // Before anything of this turn needs memory.
        self.scheduling.follow();
    }

    /// Takes what has completed; whether there was anything.
    fn reap(&mut self) -> bool {
        let mut any = false;
        while let Some(completion) = self.io.ring.next_completion() {
            self.completed(completion);
            any = true;
        }
        any
    }

    /// Has every event decided and every decision carried out, and the ports do what follows.
    fn settle(&mut self) {
        loop {
            self.decide();
            // What goes to the peer has left before this node's own disk is worked on: both work at the same time.
            let sent = self.turn_ports();
            let mut context = DiskContext { io: &mut self.io, buffers: &mut self.buffers, events: &mut self.events };
            self.disks.run_ready(&mut context);
            if self.events.is_empty() && !self.disks.has_ready() && !sent {
                return;
            }
        }
    }

    fn decide(&mut self) {
        while !self.events.is_empty() {
            // A disk in memory was worked on since: what that took shows in no other clock.
            self.now = Instant::now();
            let now = self.timestamp();
            let mut batch = std::mem::replace(&mut self.events, std::mem::take(&mut self.batch));
            for event in batch.drain(..) {
                trace!(?event);
                self.moved_much |= payload_bytes(&event, &self.buffers) > LOOK_PAYLOAD_BYTES_MAX;
                self.engine.handle(now, event, &mut self.actions);
            }
            self.batch = batch;
            self.perform_actions();
        }
    }

    fn perform_actions(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            trace!(?action);
            self.perform(action);
        }
        self.actions = actions;
    }

    /// Has the ports do what follows. Whether something was sent at once: then there may be more to do.
    fn turn_ports(&mut self) -> bool {
        self.disks.start_waiting(&mut DiskContext {
            io: &mut self.io,
            buffers: &mut self.buffers,
            events: &mut self.events,
        });
        let mut sent = self.peer.turn(&mut self.io, self.now, &mut self.buffers.pool, &mut self.peer_events);
        self.sent_to_peer |= sent;
        self.take_peer_events();
        self.peer.send_times().for_each(|took| self.sent.note(took));
        if let Some(problem) = self.peer.new_problem() {
            info!("link: {problem}");
        }
        let allocation = Allocation { disks: &self.disks, volumes: &self.volumes };
        let mut context = NbdContext {
            pool: &mut self.buffers.pool,
            events: &mut self.events,
            allocation: &allocation,
            now: self.now,
            paused: self.peer.queued_bytes() > PEER_QUEUE_BYTES_MAX,
        };
        sent |= self.nbd.turn(&mut self.io, &mut context);
        let mut context = UblkContext {
            pool: &mut self.buffers.pool,
            events: &mut self.events,
            paused: self.devices_left || self.peer.queued_bytes() > PEER_QUEUE_BYTES_MAX,
        };
        self.ublk.turn(&mut self.io, &mut context);
        sent
    }

    fn take_peer_events(&mut self) {
        self.events.extend(self.peer_events.drain(..).map(|event| match event {
            PeerEvent::LinkUp { session, features, digest_key } => Event::LinkUp { session, features, digest_key },
            PeerEvent::LinkDown { session, cause } => Event::LinkDown { session, cause },
            PeerEvent::Alive { session } => Event::LinkAlive { session },
            PeerEvent::Message { session, message, payload } => {
                Event::PeerMessage { session, message, payload: payload.map(payload_of) }
            }
        }));
    }

    fn completed(&mut self, completion: Completion) {
        match self.io.operations.get(completion.key) {
            Some(Operation::Disk(_)) => {
                let mut context =
                    DiskContext { io: &mut self.io, buffers: &mut self.buffers, events: &mut self.events };
                self.disks.completed(completion, &mut context);
            }
            Some(Operation::Peer(operation)) => {
                let operation = *operation;
                self.io.operations.remove(completion.key);
                let (pool, events) = (&mut self.buffers.pool, &mut self.peer_events);
                self.peer.completed(operation, completion, self.now, pool, events);
                self.take_peer_events();
            }
            Some(Operation::Nbd(operation)) => {
                let operation = *operation;
                self.io.operations.remove(completion.key);
                let allocation = Allocation { disks: &self.disks, volumes: &self.volumes };
                let mut context = NbdContext {
                    pool: &mut self.buffers.pool,
                    events: &mut self.events,
                    allocation: &allocation,
                    now: self.now,
                    paused: self.peer.queued_bytes() > PEER_QUEUE_BYTES_MAX,
                };
                self.nbd.completed(operation, completion, &mut context);
            }
            Some(Operation::Ublk(operation)) => {
                let operation = *operation;
                self.io.operations.remove(completion.key);
                let mut context = UblkContext {
                    pool: &mut self.buffers.pool,
                    events: &mut self.events,
                    paused: self.devices_left || self.peer.queued_bytes() > PEER_QUEUE_BYTES_MAX,
                };
                self.ublk.completed(operation, completion, &mut context);
            }
            Some(Operation::Wake) => {
                self.io.operations.remove(completion.key);
                self.wait_for_wake();
                self.take_attach_results();
                self.take_archive_outcomes();
                self.ublk.take_results();
                self.nbd.take_results(self.now);
                self.take_requests();
            }
            None => unreachable!("a completion nobody waits for: {completion:?}"),
        }
    }

    /// Reads the event counter others wake this thread by.
    fn wait_for_wake(&mut self) {
        // Eight bytes for as long as the process lives: the last read of a thread that ends never comes back.
        static COUNTERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let entry = opcode::Read::new(types::Fd(self.wake.as_raw_fd()), COUNTERS.as_ptr().cast(), 8).build();
        // SAFETY: the memory is static and nobody looks at it; the descriptor lives as long as this.
        unsafe { self.io.push(entry, Operation::Wake) };
    }

    fn check_clock(&mut self) {
        if self.engine.next_timeout().is_some_and(|at| at <= self.timestamp()) {
            self.events.push(Event::Timeout);
        }
        self.check_command_deadlines();
    }

    fn next_timeout(&self) -> Option<Instant> {
        let engine = self.engine.next_timeout().map(|at| self.begun + Duration::from_nanos(at.0));
        let ports = [engine, self.peer.next_timeout(), self.nbd.next_timeout()];
        let own = [self.commands.next_deadline(), self.ending.as_ref().map(Ending::deadline)];
        ports.into_iter().chain(own).flatten().min()
    }
}

/// How much data an event brings or asks for.
fn payload_bytes(event: &Event, buffers: &Buffers) -> usize {
    match event {
        Event::ClientWrite { range, .. } | Event::ClientRead { range, .. } => range.length as usize,
        Event::PeerMessage { payload: Some(payload), .. } => buffers.pool.length(slot_of(*payload)),
        _ => 0,
    }
}

/// Without a ring there is nothing this thread could do, not even tell its clients.
pub(super) fn survive(result: std_io::Result<()>) {
    if let Err(error) = result {
        error!("the ring failed: {error}");
        std::process::abort();
    }
}

/// The disks, for those who ask what is allocated.
pub(super) struct Allocation<'a> {
    pub disks: &'a Disks,
    pub volumes: &'a [VolumeConfig],
}

impl AllocationSource for Allocation<'_> {
    fn current_disk(&self, volume: VolumeNumber) -> Option<&Disk> {
        let config = self.volumes.iter().find(|config| config.number == volume)?;
        let open = self.disks.get(volume).filter(|_| config.state.may_serve_reads())?;
        Some(&open.data)
    }
}
