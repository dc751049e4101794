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
//! Attaching and Detaching are a [`job`]'s: some of the driver's commands wait for answers of this very thread. So the
//! kernel's connection is served until the kernel ends it, also while Detaching. The settings of a live device are a job's,
//! too: the kernel takes them when nothing is under way, and udev has read the device before. Its name is given after them.
//!
//! A device of this volume that was left behind is taken over, not made: whoever has it open never noticed (R35).

mod job;

use crate::data::limits::REATTACH_PAUSE;
use crate::data::link;
use crate::data::report::BlockDevice;
use crate::data::worker::{WorkerChannel, WorkerResult, device_grown};
use crate::memory::{self, Guard};
use crate::resource::DriverReport;
use crate::waking;
use job::{Job, Outcome};
use rep_nbd::Export;
use rep_nbdk::{Attached, Backend, DeviceOptions, Origin};
use rep_types::{NodeName, ResourceName, VolumeNumber};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tracing::{info, warn};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Absent,
    Attaching,
    Live(u32),
    Detaching(u32),
}

/// How far a live device's settings are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Settings {
    Due,
    UnderWay,
    Made,
}

/// A volume's device.
struct Volume {
    number: VolumeNumber,
    backend: Backend,
    link: PathBuf,
    offered: Option<Export>,
    state: State,
    settings: Settings,
    /// The size the driver was told last, in bytes.
    size_bytes: u64,
    /// The driver is having the device grow.
    growing: bool,
    problem: Option<String>,
    /// Why the device is smaller than what is offered.
    size_problem: Option<String>,
}

/// The kernel's end of a new connection.
pub(super) struct KernelClient {
    pub volume: VolumeNumber,
    pub socket: OwnedFd,
}

/// The devices of a resource.
pub(super) struct KernelDevices {
    /// Every device stays as it is, for the next daemon.
    left: bool,
    volumes: Vec<Volume>,
    guard: Guard,
    channel: WorkerChannel<Outcome>,
    results: mpsc::Receiver<WorkerResult<Outcome>>,
}

impl KernelDevices {
    /// Must be called by the thread that will serve the devices.
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
            settings: Settings::Due,
            size_bytes: 0,
            growing: false,
            problem: None,
            size_problem: None,
        };
        let (sender, results) = waking::channel(wake);
        let volumes: Vec<_> = volumes.map(volume).collect();
        let guard = (!volumes.is_empty()).then(memory::guard).unwrap_or_default();
        KernelDevices { left: false, volumes, guard, channel: WorkerChannel(sender), results }
    }

    /// Whether a volume is of this kind.
    pub fn serves(&self, volume: VolumeNumber) -> bool {
        self.index(volume).is_some()
    }

    fn index(&self, volume: VolumeNumber) -> Option<usize> {
        self.volumes.iter().position(|own| own.number == volume)
    }

    /// Offers a volume, or offers it larger: a device that stands grows where the driver can do that.
    pub fn offer(&mut self, volume: VolumeNumber, export: &Export) {
        if let Some(index) = self.index(volume) {
            self.volumes[index].offered = Some(export.clone());
            self.volumes[index].problem = None;
            self.volumes[index].size_problem = None;
            self.proceed(index);
        }
    }

    /// Leaves every device as it is to the next daemon.
    pub fn leave(&mut self) {
        self.left = true;
    }

    /// Stops offering a volume: its device goes.
    pub fn withdraw(&mut self, volume: VolumeNumber) {
        if let Some(index) = self.index(volume) {
            self.volumes[index].offered = None;
            self.proceed(index);
        }
    }

    /// Stops offering every volume. True when there is no device, or all stay for the next daemon.
    pub fn withdraw_all(&mut self) -> bool {
        (0..self.volumes.len()).for_each(|index| {
            self.volumes[index].offered = None;
            self.proceed(index);
        });
        self.left || self.volumes.iter().all(|volume| volume.state == State::Absent)
    }

    /// Whether a volume has no device, and none is being made, or it is left to the next daemon.
    pub fn is_absent(&self, volume: VolumeNumber) -> bool {
        self.left || self.index(volume).is_none_or(|index| self.volumes[index].state == State::Absent)
    }

    /// The device, whether it can be used, and why not; `None`: the volume isn't of this kind.
    pub fn report(&self, volume: VolumeNumber) -> Option<BlockDevice> {
        let volume = &self.volumes[self.index(volume)?];
        let device = match volume.state {
            State::Live(index) => Some(format!("/dev/{}", node(index))),
            _ => None,
        };
        let stands = device.is_some() && volume.settings == Settings::Made;
        let usable = stands && volume.offered.is_some() && !volume.growing && volume.problem.is_none();
        let driver = device.is_some().then(|| DriverReport {
            name: "nbd",
            features: Vec::new(),
            grows: true,
            memory_locked: self.guard.locked,
            memory_reserve: self.guard.reserve,
        });
        let (problem, size_problem) = (volume.problem.clone(), volume.size_problem.clone());
        Some(BlockDevice { device, usable, problem, size_problem, driver })
    }

    /// The connection of a device has ended; `goodbye`: the kernel said so itself.
    pub fn lost(&mut self, volume: VolumeNumber, goodbye: bool) {
        if let Some(index) = self.index(volume) {
            if self.left {
                return;
            }
            let job = self.volumes[index].lost(goodbye);
            self.start(volume, job);
        }
    }

    /// Takes what the workers came to; each device that was attached has a connection to be served.
    pub fn take_results(&mut self) -> Vec<KernelClient> {
        let mut clients = Vec::new();
        while let Ok(WorkerResult { volume, outcome }) = self.results.try_recv() {
            let Some(index) = self.index(volume) else { continue };
            let socket = self.volumes[index].take(outcome);
            clients.extend(socket.map(|socket| KernelClient { volume, socket }));
            self.proceed(index);
        }
        clients
    }

    fn proceed(&mut self, index: usize) {
        if self.left {
            return;
        }
        let job = self.volumes[index].proceed();
        self.start(self.volumes[index].number, job);
    }

    fn start(&self, volume: VolumeNumber, job: Option<Job>) {
        job.into_iter().for_each(|job| self.channel.start(volume, job));
    }
}

impl Volume {
    /// What follows from a change.
    fn proceed(&mut self) -> Option<Job> {
        match (self.state, &self.offered) {
            (State::Absent, Some(export)) if self.problem.is_none() => {
                self.state = State::Attaching;
                Some(Job::Attach(options(&self.backend, export), Duration::ZERO))
            }
            (State::Live(index), None) => {
                link::remove(&self.link, &node(index));
                self.state = State::Detaching(index);
                Some(Job::Detach(index, self.backend.clone()))
            }
            (State::Live(index), Some(_)) if self.settings == Settings::Due => {
                self.settings = Settings::UnderWay;
                Some(Job::Settle(index))
            }
            // One at a time, so that the last one counts.
            (State::Live(index), Some(export)) if !self.growing && self.size_bytes < export.size_bytes() => {
                self.growing = true;
                self.size_bytes = export.size_bytes();
                Some(Job::Grow(index, self.backend.clone(), self.size_bytes))
            }
            _ => None,
        }
    }

    /// The connection has ended.
    fn lost(&mut self, goodbye: bool) -> Option<Job> {
        // Any other state has its worker under way, which will tell.
        let State::Live(index) = self.state else { return None };
        let export = self.offered.as_ref()?;
        if goodbye {
            self.state = State::Absent;
            self.fail(index, "the kernel took the device away".into());
            return None;
        }
        info!(volume = %self.number, "device: the kernel dropped the connection of /dev/{}: it gets another", node(index));
        self.state = State::Attaching;
        Some(Job::Attach(options(&self.backend, export), REATTACH_PAUSE))
    }

    /// What a worker came to; perhaps a connection.
    fn take(&mut self, outcome: Outcome) -> Option<OwnedFd> {
        match outcome {
            Outcome::Attached(Ok(attached)) => return Some(self.attached(attached)),
            Outcome::Attached(Err(error)) => self.not_attached(error.to_string()),
            Outcome::Settled(slow_resend) => self.settled(slow_resend),
            Outcome::Grown(result) => {
                self.growing = false;
                self.size_problem = device_grown(self.number, result);
            }
            Outcome::Detached(result) => self.detached(result.map_err(|error| error.to_string())),
        }
        None
    }

    /// The device stands; returns its connection.
    fn attached(&mut self, attached: Attached) -> OwnedFd {
        let Attached { index, origin, size_bytes, socket } = attached;
        self.size_bytes = size_bytes;
        let how = if origin == Origin::TakenOver { "taken over" } else { "made" };
        info!(volume = %self.number, "device: /dev/{} {how}", node(index));
        (self.state, self.settings) = (State::Live(index), Settings::Due);
        socket
    }

    /// All is set, as far as the kernel takes it; `slow_resend`: why one setting isn't made. Now the device has its name.
    fn settled(&mut self, slow_resend: Option<std::io::Error>) {
        // One that goes again has no name, and one whose connection was lost is settled anew.
        let (State::Live(index), Settings::UnderWay) = (self.state, self.settings) else { return };
        self.settings = Settings::Made;
        if let Some(error) = slow_resend {
            let setting = format!("/sys/block/{}/queue/io_timeout can't be set: {error}", node(index));
            info!(volume = %self.number, "requests in flight would wait half a minute if this daemon died: {setting}");
        }
        if let Err(error) = link::make(&self.link, &node(index)) {
            warn!(volume = %self.number, "{}: {error}", self.link.display());
        }
        link::announce(&node(index));
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

#[cfg(test)]
mod tests {
    use super::*;
    use rep_nbd::ExportId;
    use rep_nbdk::NbdkError;

    fn volume(folder: &std::path::Path) -> Volume {
        Volume {
            number: VolumeNumber(0),
            backend: Backend::new("vz", "alpha", 0),
            link: folder.join("vz/0"),
            offered: None,
            state: State::Absent,
            settings: Settings::Due,
            size_bytes: 0,
            growing: false,
            problem: None,
            size_problem: None,
        }
    }

    fn export() -> Export {
        Export::new(ExportId(0), "vz", (1 << 20) + 100, 512).expect("an export")
    }

    fn attached() -> Outcome {
        let socket = std::fs::File::open("/dev/null").expect("a descriptor").into();
        let (origin, size_bytes) = (Origin::Added, 1 << 20);
        Outcome::Attached(Ok(Attached { index: 16, origin, size_bytes, socket }))
    }

    #[test]
    fn a_device_comes_and_goes_with_the_offer() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut volume = volume(folder.path());
        assert!(volume.proceed().is_none());
        volume.offered = Some(export());
        let Some(Job::Attach(options, Duration::ZERO)) = volume.proceed() else { panic!("{:?}", volume.state) };
        assert_eq!((options.size_bytes, options.block_bytes), (1 << 20, 512));
        assert_eq!(options.flags & 0b1, 1);
        assert!(volume.proceed().is_none(), "one worker at a time");
        assert!(volume.take(attached()).is_some() && !volume.link.is_symlink(), "served before anything else");
        assert!(matches!(volume.proceed(), Some(Job::Settle(16))));
        assert!(volume.proceed().is_none() && volume.take(Outcome::Settled(None)).is_none());
        assert!(volume.link.is_symlink() && volume.proceed().is_none());
        volume.offered = None;
        assert!(matches!(volume.proceed(), Some(Job::Detach(16, _))) && !volume.link.is_symlink());
        // Offered again before it has gone: it is made anew once it has.
        volume.offered = Some(export());
        assert!(volume.proceed().is_none());
        assert!(volume.take(Outcome::Detached(Ok(()))).is_none());
        assert!(matches!(volume.proceed(), Some(Job::Attach(..))));
    }

    #[test]
    fn an_offer_withdrawn_while_the_device_is_made_takes_it_away_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut volume = Volume { offered: Some(export()), ..volume(folder.path()) };
        assert!(volume.proceed().is_some());
        volume.offered = None;
        assert!(volume.proceed().is_none());
        assert!(volume.take(attached()).is_some());
        assert!(matches!(volume.proceed(), Some(Job::Detach(16, _))));
    }

    #[test]
    fn a_connection_that_breaks_is_replaced_and_one_that_was_ended_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut volume = Volume { offered: Some(export()), ..volume(folder.path()) };
        let stands = |volume: &mut Volume| {
            volume.take(attached());
            assert!(matches!(volume.proceed(), Some(Job::Settle(16))));
            volume.take(Outcome::Settled(None));
        };
        volume.proceed();
        stands(&mut volume);
        assert!(matches!(volume.lost(false), Some(Job::Attach(_, REATTACH_PAUSE))));
        assert!(volume.link.is_symlink(), "whoever has it open keeps its name");
        stands(&mut volume);
        assert!(volume.lost(true).is_none() && volume.state == State::Absent && !volume.link.is_symlink());
        assert!(volume.proceed().is_none() && volume.problem.is_some(), "until it is offered anew");
    }

    #[test]
    fn a_connection_lost_while_settings_are_made_has_them_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut volume = Volume { offered: Some(export()), ..volume(folder.path()) };
        volume.proceed();
        volume.take(attached());
        assert!(matches!(volume.proceed(), Some(Job::Settle(16))));
        assert!(matches!(volume.lost(false), Some(Job::Attach(..))));
        volume.take(Outcome::Settled(None));
        assert!(!volume.link.is_symlink(), "it isn't served");
        volume.take(attached());
        assert!(matches!(volume.proceed(), Some(Job::Settle(16))));
    }

    #[test]
    fn the_goodbye_of_a_device_that_goes_is_no_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut volume = Volume { state: State::Detaching(16), ..volume(folder.path()) };
        assert!(volume.lost(true).is_none() && volume.problem.is_none());
        assert_eq!(volume.state, State::Detaching(16));
    }

    #[test]
    fn a_device_that_cant_be_had_is_tried_again_only_when_it_is_offered_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut volume = Volume { offered: Some(export()), ..volume(folder.path()) };
        volume.proceed();
        assert!(volume.take(Outcome::Attached(Err(NbdkError::NoDriver))).is_none());
        assert!(volume.problem.as_ref().is_some_and(|problem| problem.contains("modprobe nbd")));
        assert!(volume.proceed().is_none());
    }
}
