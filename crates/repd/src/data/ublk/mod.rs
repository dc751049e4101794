//! The ublk port: block devices of this kernel, `/dev/ublkbN`, for the volumes that are configured so.
//!
//! ```text
//!  Absent ──offered──► Preparing ──made or taken over──► Starting ──► Live ──no longer offered──► Stopping ──► Closing ──► Deleting ─┐
//!    ▲                     └─failed─┐                        └─failed─────────────────────────────►┘                                │
//!    └──────────────────────────────┴──────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Each arrow between the states is a [`job`]'s: the driver's control commands wait, some of them for this very
//! thread. While Starting, Live, Stopping and Closing, requests are answered.
//!
//! A device of this volume whose server died is taken over, not made: whoever has it open never noticed (R35). A daemon that
//! ends leaves an open device in the same way, once what was under way is answered.
//!
//! Invariants: a device is closed only when the kernel has every request back; a request is committed exactly once.

mod job;
mod serving;

use super::link;
use crate::data::report::BlockDevice;
use crate::data::worker::{WorkerChannel, WorkerResult, device_grown};
use crate::memory::{self, Guard};
use crate::resource::DriverReport;
use crate::waking;
use job::{Job, Outcome};
use rep_engine::{Event, Offer};
use rep_ring::{Completion, Pool, Submit};
use rep_types::{IoError, NodeName, PayloadId, RequestId, ResourceName, VolumeNumber};
use rep_ublk::lifecycle::{DeviceOptions, Origin, Prepared};
use rep_ublk::{DeviceLimits, Features, Fingerprint, Tag, limits};
use serving::{Place, Serving};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use tracing::{info, warn};

/// Marks the ids of this port's requests: a slab's keys, which the NBD port uses, never have this bit.
const REQUEST_MARK: u64 = 1 << 63;

/// An operation of this port: a fetch, or a commit that became one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct UblkOperation {
    volume: u16,
    tag: Tag,
}

/// What the port needs of the thread to take requests.
pub(super) struct UblkContext<'a> {
    pub pool: &'a mut Pool,
    pub events: &'a mut Vec<Event>,
    /// Nothing new is taken from clients: the peer can't keep up.
    pub paused: bool,
}

enum State {
    Absent,
    Preparing,
    Starting(Serving),
    Live(Serving),
    Stopping(Serving),
    Closing(Serving),
    Deleting(u32),
}

impl State {
    fn serving(&mut self) -> Option<&mut Serving> {
        match self {
            State::Starting(serving) | State::Live(serving) | State::Stopping(serving) | State::Closing(serving) => {
                Some(serving)
            }
            State::Absent | State::Preparing | State::Deleting(_) => None,
        }
    }
}

/// A volume's device.
struct Volume {
    number: VolumeNumber,
    fingerprint: Fingerprint,
    link: PathBuf,
    offered: Option<DeviceLimits>,
    state: State,
    /// The driver is having the device grow.
    growing: bool,
    problem: Option<String>,
    /// Why the device is smaller than what is offered.
    size_problem: Option<String>,
    /// What the driver said it can do, when the device was made or taken over.
    features: Features,
}

/// The ublk port of a resource.
pub(super) struct UblkPort {
    guard: Guard,
    /// Every device stays as it is, for the next daemon.
    left: bool,
    volumes: Vec<Volume>,
    channel: WorkerChannel<Outcome>,
    results: mpsc::Receiver<WorkerResult<Outcome>>,
}

impl UblkPort {
    /// Must be called by the thread that will serve the devices.
    pub fn new(
        (resource, node): (&ResourceName, &NodeName),
        volumes: impl Iterator<Item = VolumeNumber>,
        wake: Arc<OwnedFd>,
    ) -> Self {
        let volume = |number: VolumeNumber| Volume {
            number,
            fingerprint: Fingerprint::new(resource.as_str(), node.as_str(), number.0),
            link: link::path(resource, number),
            offered: None,
            state: State::Absent,
            growing: false,
            problem: None,
            size_problem: None,
            features: Features::default(),
        };
        let volumes: Vec<_> = volumes.map(volume).collect();
        let guard = (!volumes.is_empty()).then(memory::guard).unwrap_or_default();
        let (sender, results) = waking::channel(wake);
        UblkPort { guard, left: false, volumes, channel: WorkerChannel(sender), results }
    }

    /// Offers a volume, or offers it larger: a device that stands grows where the driver can do that.
    pub fn export(&mut self, volume: VolumeNumber, offer: Offer) {
        let Some(index) = self.index(volume) else { return };
        let Offer { size_bytes, block_bytes, discards, volatile_cache } = offer;
        let limits = DeviceLimits { size_bytes, logical_block_bytes: block_bytes, volatile_cache, discards };
        self.volumes[index].offered = Some(limits);
        self.volumes[index].problem = None;
        self.volumes[index].size_problem = None;
        self.proceed(index);
    }

    /// Leaves every device as it is to the next daemon: what isn't answered yet and can't be answered well is not answered
    /// any more. Nothing new must be admitted from now on ([`UblkContext::paused`]).
    pub fn leave(&mut self) {
        self.left = true;
    }

    /// Stops offering a volume: its device goes.
    pub fn withdraw(&mut self, volume: VolumeNumber) {
        let Some(index) = self.index(volume) else { return };
        self.volumes[index].offered = None;
        self.proceed(index);
    }

    fn index(&self, volume: VolumeNumber) -> Option<usize> {
        self.volumes.iter().position(|own| own.number == volume)
    }

    /// The device, whether it can be used, and why not; `None`: the volume isn't of this kind.
    pub fn report(&self, volume: VolumeNumber) -> Option<BlockDevice> {
        let volume = &self.volumes[self.index(volume)?];
        let device = match &volume.state {
            State::Live(serving) => Some(format!("/dev/{}", node(serving.id()))),
            _ => None,
        };
        let usable = device.is_some() && volume.offered.is_some() && !volume.growing && volume.problem.is_none();
        let driver = device.is_some().then(|| DriverReport {
            name: "ublk",
            features: volume.features.names(),
            grows: volume.features.has(Features::UPDATE_SIZE),
            memory_locked: self.guard.locked,
            memory_reserve: self.guard.reserve,
        });
        let (problem, size_problem) = (volume.problem.clone(), volume.size_problem.clone());
        Some(BlockDevice { device, usable, problem, size_problem, driver })
    }

    /// Whether a request of the engine is one of this port's.
    pub fn is_own(request: RequestId) -> bool {
        request.0 & REQUEST_MARK != 0
    }

    /// The engine answered a request.
    pub fn complete(
        &mut self,
        request: RequestId,
        result: Result<(), IoError>,
        payload: Option<PayloadId>,
        pool: &mut Pool,
    ) {
        let index = usize::from((request.0 >> 32) as u16);
        let tag = Tag { queue: (request.0 >> 16) as u16, tag: request.0 as u16 };
        let serving = self.volumes.get_mut(index).and_then(|volume| volume.state.serving());
        let Some(serving) = serving else { unreachable!("a device outlives its requests: {request}") };
        if self.left && result.is_err() {
            return serving.leave_unanswered(tag, payload, pool);
        }
        serving.complete(tag, result, payload, pool);
    }

    /// Takes a completion of one of this port's operations.
    pub fn completed(&mut self, operation: UblkOperation, completion: Completion, context: &mut UblkContext<'_>) {
        let index = usize::from(operation.volume);
        let Some(volume) = self.volumes.get_mut(index) else { return };
        let going = matches!(volume.state, State::Stopping(_) | State::Closing(_));
        let Some(serving) = volume.state.serving() else { return };
        if completion.result == 0 {
            serving.fetched(operation.tag, context);
            return;
        }
        serving.aborted(operation.tag);
        if !going && volume.problem.is_none() {
            warn!(volume = %volume.number, error = completion.result, "the kernel took the device away");
            volume.problem = Some("the kernel took the device away".into());
        }
        self.proceed(index);
    }

    /// Once a turn: what waited and can go on, then fetches and commits.
    pub fn turn(&mut self, io: &mut impl Submit<UblkOperation>, context: &mut UblkContext<'_>) {
        for (index, volume) in self.volumes.iter_mut().enumerate() {
            let Some(serving) = volume.state.serving() else { continue };
            serving.admit_waiting(context);
            while let Some((tag, entry)) = serving.next_entry() {
                // SAFETY: an entry names no memory; the device stays open until the kernel has given it back.
                unsafe { io.submit(entry, UblkOperation { volume: index as u16, tag }) };
            }
        }
    }

    /// Takes what the workers came to.
    pub fn take_results(&mut self) {
        while let Ok(WorkerResult { volume, outcome }) = self.results.try_recv() {
            if let Some(index) = self.index(volume) {
                self.take_result(index, outcome);
                self.proceed(index);
            }
        }
    }

    fn take_result(&mut self, index: usize, outcome: Outcome) {
        let volume = &mut self.volumes[index];
        let state = std::mem::replace(&mut volume.state, State::Absent);
        volume.state = match (state, outcome) {
            (State::Preparing, Outcome::Prepared(Ok(prepared))) => {
                let Prepared { device, origin, size_bytes, features } = *prepared;
                volume.features = features;
                let id = device.id();
                self.channel.start(volume.number, Job::Begin(id, origin));
                let place = Place { number: volume.number, index: index as u16 };
                State::Starting(Serving::new(place, device, origin, size_bytes))
            }
            (State::Preparing, Outcome::Prepared(Err(error))) => {
                warn!(volume = %volume.number, "no device: {error}");
                volume.problem = Some(error.to_string());
                State::Absent
            }
            (State::Starting(serving), Outcome::Begun(Ok(()))) => {
                let how = if serving.origin() == Origin::TakenOver { "taken over" } else { "made" };
                let features = volume.features;
                info!(volume = %volume.number, "device: /dev/ublkb{} {how} (the driver has {features})", serving.id());
                if let Err(error) = link::make(&volume.link, &node(serving.id())) {
                    warn!(volume = %volume.number, "{}: {error}", volume.link.display());
                }
                link::announce(&node(serving.id()));
                State::Live(serving)
            }
            (state, Outcome::Grown(result)) => {
                volume.growing = false;
                volume.size_problem = device_grown(volume.number, result);
                state
            }
            (State::Starting(serving), Outcome::Begun(Err(error))) => {
                warn!(volume = %volume.number, "no device: {error}");
                volume.problem = Some(error.to_string());
                self.channel.start(volume.number, Job::Stop(serving.id()));
                State::Stopping(serving)
            }
            (State::Stopping(serving), Outcome::Stopped(result)) => {
                if let Err(error) = result {
                    warn!(volume = %volume.number, "the device wasn't stopped: {error}");
                }
                State::Closing(serving)
            }
            (State::Deleting(id), Outcome::Deleted(result)) => {
                match result {
                    Ok(()) => info!(volume = %volume.number, "device: /dev/ublkb{id} removed"),
                    Err(error) => warn!(volume = %volume.number, "the device wasn't removed: {error}"),
                }
                State::Absent
            }
            (state, _) => state,
        };
    }

    /// Does what follows from a change.
    fn proceed(&mut self, index: usize) {
        if self.left {
            return;
        }
        let volume = &mut self.volumes[index];
        let state = std::mem::replace(&mut volume.state, State::Absent);
        volume.state = match (state, volume.offered) {
            (State::Absent, Some(limits)) if volume.problem.is_none() => {
                let (queues, depth) = (limits::QUEUES, limits::QUEUE_DEPTH);
                let options = DeviceOptions { fingerprint: volume.fingerprint, limits, queues, depth };
                self.channel.start(volume.number, Job::Prepare(options));
                State::Preparing
            }
            (State::Live(serving), None) => {
                link::remove(&volume.link, &node(serving.id()));
                self.channel.start(volume.number, Job::Stop(serving.id()));
                State::Stopping(serving)
            }
            // One at a time, so that the last one counts.
            (State::Live(mut serving), Some(limits)) if !volume.growing && serving.size_bytes() < limits.size_bytes => {
                serving.grow(limits.size_bytes);
                volume.growing = true;
                self.channel.start(volume.number, Job::Grow(serving.id(), limits.size_bytes));
                State::Live(serving)
            }
            (State::Closing(serving), _) if serving.is_idle() => {
                let id = serving.id();
                drop(serving);
                self.channel.start(volume.number, Job::Delete(id));
                State::Deleting(id)
            }
            (state, _) => state,
        };
    }

    /// Removes every device. True when none is there, or when all stay and every answer is on its way to the kernel.
    pub fn shut_down(&mut self) -> bool {
        if self.left {
            return self
                .volumes
                .iter_mut()
                .filter_map(|volume| volume.state.serving())
                .all(|serving| serving.is_told());
        }
        (0..self.volumes.len()).for_each(|index| {
            self.volumes[index].offered = None;
            self.proceed(index);
        });
        self.volumes.iter().all(|volume| matches!(volume.state, State::Absent))
    }
}

/// The name of a device's node below `/dev`.
fn node(id: u32) -> String {
    format!("ublkb{id}")
}

/// A request as the engine knows it.
fn request_id(volume: u16, tag: Tag) -> RequestId {
    RequestId(REQUEST_MARK | u64::from(volume) << 32 | u64::from(tag.queue) << 16 | u64::from(tag.tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rep_ring::Slab;

    #[test]
    fn ids_of_the_two_ports_never_meet() {
        let mut slab = Slab::new();
        let mut key = slab.insert(());
        for _ in 0..1000 {
            slab.remove(key);
            key = slab.insert(());
            assert!(!UblkPort::is_own(RequestId(key.to_bits())));
        }
        let own = request_id(65535, Tag { queue: 65535, tag: 4095 });
        assert!(UblkPort::is_own(own));
        assert_ne!(own, request_id(65535, Tag { queue: 65534, tag: 4095 }));
    }
}
