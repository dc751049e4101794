//! Devices of the kernel's own NBD client, `/dev/nbdN`, for the volumes that are configured so. To the port the kernel is
//! one more client; here is how it comes to be one.
//!
//! ```text
//!  Absent ──offered──► Attaching ──made or taken over──► Live ──no longer offered──► Detaching ─┐
//!    ▲                   ▲  │                             │  │                                  │
//!    ├──────failed───────┼──┘                             │  │                                  │
//!    ├───────────────────┼──disconnected by somebody else─┘  │                                  │
//!    │                   └───────────connection lost─────────┘                                  │
//!    └──────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Attaching and Detaching are a [`worker`]'s: some of the driver's commands wait for answers of this very thread. So the
//! kernel's connection is served until the kernel ends it, also while Detaching.
//!
//! A device of this volume that was left behind is taken over, not made: whoever has it open never noticed (R35).

mod worker;

use crate::data::limits::REATTACH_PAUSE;
use crate::data::link;
use crate::waking;
use rep_nbd::Export;
use rep_nbdk::{Attached, Backend, DeviceOptions, Origin};
use rep_types::{NodeName, ResourceName, VolumeNumber};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tracing::{info, warn};
use worker::{Job, Outcome, WorkerChannel, WorkerResult};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Absent,
    Attaching,
    Live(u32),
    Detaching(u32),
}

/// A volume's device.
struct Volume {
    number: VolumeNumber,
    backend: Backend,
    link: PathBuf,
    offered: Option<Export>,
    state: State,
    problem: Option<String>,
}

/// The kernel's end of a new connection.
pub(super) struct KernelClient {
    pub volume: VolumeNumber,
    pub socket: OwnedFd,
}

/// The devices of a resource.
pub(super) struct KernelDevices {
    volumes: Vec<Volume>,
    channel: WorkerChannel,
    results: mpsc::Receiver<WorkerResult>,
}

impl KernelDevices {
    pub fn new(
        (resource, node): (&ResourceName, &NodeName),
        volumes: impl Iterator<Item = VolumeNumber>,
        wake: Arc<OwnedFd>,
    ) -> Self {
        let volume = |number: VolumeNumber| Volume {
            number,
            backend: Backend::new(resource.as_str(), node.as_str(), number.0),
            link: link::path(resource, number),
            offered: None,
            state: State::Absent,
            problem: None,
        };
        let (sender, results) = waking::channel(wake);
        KernelDevices { volumes: volumes.map(volume).collect(), channel: WorkerChannel(sender), results }
    }

    /// Whether there is any volume of this kind.
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }

    /// Whether a volume is of this kind.
    pub fn serves(&self, volume: VolumeNumber) -> bool {
        self.index(volume).is_some()
    }

    fn index(&self, volume: VolumeNumber) -> Option<usize> {
        self.volumes.iter().position(|own| own.number == volume)
    }

    /// Offers a volume. A device that stands keeps its size until it is offered anew.
    pub fn offer(&mut self, volume: VolumeNumber, export: &Export) {
        let Some(index) = self.index(volume) else { return };
        self.volumes[index].offered = Some(export.clone());
        self.volumes[index].problem = None;
        self.proceed(index);
    }

    /// Stops offering a volume: its device goes.
    pub fn withdraw(&mut self, volume: VolumeNumber) {
        let Some(index) = self.index(volume) else { return };
        self.volumes[index].offered = None;
        self.proceed(index);
    }

    /// Stops offering every volume. True when no device is left.
    pub fn withdraw_all(&mut self) -> bool {
        (0..self.volumes.len()).for_each(|index| {
            self.volumes[index].offered = None;
            self.proceed(index);
        });
        self.volumes.iter().all(|volume| volume.state == State::Absent)
    }

    /// Whether a volume has no device, and none is being made.
    pub fn is_absent(&self, volume: VolumeNumber) -> bool {
        self.index(volume).is_none_or(|index| self.volumes[index].state == State::Absent)
    }

    /// The device, whether it can be used, and why not; `None`: the volume isn't of this kind.
    pub fn report(&self, volume: VolumeNumber) -> Option<(Option<String>, bool, Option<String>)> {
        let volume = &self.volumes[self.index(volume)?];
        let device = match volume.state {
            State::Live(index) => Some(format!("/dev/{}", node(index))),
            _ => None,
        };
        let usable = device.is_some() && volume.offered.is_some() && volume.problem.is_none();
        Some((device, usable, volume.problem.clone()))
    }

    /// The connection of a device has ended; `goodbye`: the kernel said so itself.
    pub fn lost(&mut self, volume: VolumeNumber, goodbye: bool) {
        let Some(index) = self.index(volume) else { return };
        let volume = &mut self.volumes[index];
        let State::Live(id) = volume.state else { return };
        let Some(export) = &volume.offered else { return };
        if goodbye {
            volume.state = State::Absent;
            volume.fail(id, "the kernel took the device away".into());
            return;
        }
        info!(volume = %volume.number, "device: the kernel dropped the connection of /dev/{}: it gets another", node(id));
        self.channel.start(volume.number, Job::Attach(options(&volume.backend, export), REATTACH_PAUSE));
        volume.state = State::Attaching;
    }

    /// Takes what the workers came to; each device that was attached has a connection to be served.
    pub fn take_results(&mut self) -> Vec<KernelClient> {
        let mut clients = Vec::new();
        while let Ok(WorkerResult { volume, outcome }) = self.results.try_recv() {
            let Some(index) = self.index(volume) else { continue };
            match outcome {
                Outcome::Attached(Ok(attached)) => {
                    let socket = self.volumes[index].attached(attached);
                    clients.push(KernelClient { volume, socket });
                }
                Outcome::Attached(Err(error)) => self.volumes[index].not_attached(error.to_string()),
                Outcome::Detached(result) => self.volumes[index].detached(result.map_err(|error| error.to_string())),
            }
            self.proceed(index);
        }
        clients
    }

    /// Does what follows from a change.
    fn proceed(&mut self, index: usize) {
        let volume = &mut self.volumes[index];
        match (volume.state, &volume.offered) {
            (State::Absent, Some(export)) if volume.problem.is_none() => {
                self.channel.start(volume.number, Job::Attach(options(&volume.backend, export), Duration::ZERO));
                volume.state = State::Attaching;
            }
            (State::Live(id), None) => {
                link::remove(&volume.link, &node(id));
                self.channel.start(volume.number, Job::Detach(id, volume.backend.clone()));
                volume.state = State::Detaching(id);
            }
            _ => {}
        }
    }
}

impl Volume {
    /// The device stands; returns its connection.
    fn attached(&mut self, attached: Attached) -> OwnedFd {
        let Attached { index, origin, socket, slow_resend } = attached;
        let how = if origin == Origin::TakenOver { "taken over" } else { "made" };
        info!(volume = %self.number, "device: /dev/{} {how}", node(index));
        if let Some(error) = slow_resend {
            let setting = format!("/sys/block/{}/queue/io_timeout can't be set: {error}", node(index));
            info!(volume = %self.number, "requests in flight would wait half a minute if this daemon died: {setting}");
        }
        if let Err(error) = link::make(&self.link, &node(index)) {
            warn!(volume = %self.number, "{}: {error}", self.link.display());
        }
        self.state = State::Live(index);
        socket
    }

    fn not_attached(&mut self, error: String) {
        warn!(volume = %self.number, "no device: {error}");
        self.problem = Some(error);
        self.state = State::Absent;
    }

    fn detached(&mut self, result: Result<(), String>) {
        let State::Detaching(index) = self.state else { return };
        match result {
            Ok(()) => info!(volume = %self.number, "device: /dev/{} removed", node(index)),
            Err(error) => warn!(volume = %self.number, "the device wasn't removed: {error}"),
        }
        self.state = State::Absent;
    }

    fn fail(&mut self, index: u32, problem: String) {
        warn!(volume = %self.number, "/dev/{}: {problem}", node(index));
        link::remove(&self.link, &node(index));
        self.problem = Some(problem);
    }
}

fn options(backend: &Backend, export: &Export) -> DeviceOptions {
    DeviceOptions {
        backend: backend.clone(),
        size_bytes: export.size_bytes(),
        block_bytes: export.min_block_bytes(),
        // What the kernel doesn't know it passes over.
        flags: export.transmission_flags(false),
    }
}

/// The name of a device's node below `/dev`.
fn node(index: u32) -> String {
    format!("nbd{index}")
}
