//! Block devices of this kernel outlive the daemon: what must be known before they go, and how the next daemon takes
//! over what was left behind (R35).
//!
//! A daemon that finds a device of one of its volumes is, to whoever has that device open, the Primary it always was. So it
//! becomes Primary again as soon as it may: when the peer has told that its data is good, or when this disk has all
//! there is. Where neither is so, requests wait; none ever fails for it.
//!
//! That begins whenever the resource comes up, once for each data thread: with the daemon, or hours later by `repctl up`, when the disk
//! wasn't there before, or `start = "down"`. Until then, and until it has ended, the status says that requests wait.

use super::holders::holder;
use super::resource::{Life, Report, Resource, Running, lock};
use rep_control::api::ApiError;
use rep_control::config::{Device, Fencing};
use rep_engine::{Command, Snapshot, VolumeSnapshot};
use rep_nbdk::Backend;
use rep_types::{ConnectionState, DiskState, Refusal, Role, VolumeNumber};
use rep_ublk::{Fingerprint, lifecycle};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The pause between two looks at whether this node may be Primary.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The pause before a fence-peer handler that could not make sure is asked again.
const FENCE_PAUSE: Duration = Duration::from_secs(10);
/// How long one promotion may take.
const PROMOTION_DEADLINE: Duration = Duration::from_secs(30);

/// How long a status waits to be told of a device.
const ASK_DEADLINE: Duration = Duration::from_millis(500);

/// How far a data thread is with devices that were left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Takeover {
    /// Its resource hasn't been up yet.
    #[default]
    NotBegun,
    /// The kernel is asked for them.
    Looking,
    /// There is one, and its requests wait for this node to be Primary.
    Waiting,
    /// There is none, or they are answered.
    Over,
}

impl Takeover {
    /// Begins it. False when it had begun: it begins once.
    fn begin(&mut self) -> bool {
        let first = *self == Takeover::NotBegun;
        if first {
            *self = Takeover::Looking;
        }
        first
    }
}

/// What is to be done about a device that was left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Done,
    Wait,
    /// For a disk of this node, or for the operator's word that the peer's is as good. `refused`: a promotion would be, without it.
    WaitForDisk {
        refused: bool,
    },
    Promote {
        force: bool,
    },
}

/// Since when the connection stands as it does.
struct Standing {
    connection: ConnectionState,
    since: Instant,
}

impl Standing {
    fn begun(connection: ConnectionState, since: Instant) -> Self {
        Standing { connection, since }
    }

    /// Whether the peer could have connected by now if it were there. One that is looked for anew has its chance anew.
    fn is_alone(&mut self, connection: ConnectionState, now: Instant, patience: Duration) -> bool {
        if connection != self.connection {
            *self = Standing::begun(connection, now);
        }
        now.duration_since(self.since) >= patience
    }
}

/// `alone`: see [`Standing::is_alone`].
fn next_step(engine: &Snapshot, alone: bool, fencing: Fencing) -> Step {
    let whole = |disk: DiskState| matches!(disk, DiskState::Consistent | DiskState::UpToDate);
    match engine.promotion_refused {
        _ if engine.role == Role::Primary => Step::Done,
        None if engine.volumes.iter().any(|volume| may_be_behind(volume, fencing)) => {
            Step::WaitForDisk { refused: false }
        }
        None => Step::Promote { force: false },
        Some(Refusal::NoUpToDateDisk | Refusal::LetNewerGo)
            if engine.volumes.iter().any(|volume| volume.disk == DiskState::Diskless) =>
        {
            Step::WaitForDisk { refused: true }
        }
        // That asks the fence-peer handler.
        Some(Refusal::PeerNotFenced) if alone => Step::Promote { force: false },
        // Every write that was ever answered is on this disk, for its daemon died and not its node. The peer isn't
        // there to say whether it went on; if it did, both will see it when they meet (I-G3). Who has fencing wants
        // to know first: there only the peer or the operator ends the wait. So it is where the role had been handed over: the peer did go on.
        Some(Refusal::NoUpToDateDisk)
            if alone
                && engine.last_primary
                && fencing == Fencing::DontCare
                && engine.connection == ConnectionState::Connecting
                && engine.volumes.iter().all(|volume| whole(volume.disk)) =>
        {
            Step::Promote { force: true }
        }
        // Two went apart, and this one's clients have seen this one's data alone: they go on as they would have, had their
        // daemon not died. With fencing only what its metadata call UpToDate: else somebody has to say so.
        Some(Refusal::SplitBrain)
            if engine.volumes.iter().all(|volume| {
                volume.disk == DiskState::UpToDate || fencing == Fencing::DontCare && whole(volume.disk)
            }) =>
        {
            Step::Promote { force: true }
        }
        Some(_) => Step::Wait,
    }
}

/// Whether clients may have been answered what is only on this node's disk, which isn't here: with a peer that was away it was the only one. Not
/// if the peer has gone on without that disk, as it does for a Primary that has lost its own; nor where a Primary alone answers nobody.
fn may_be_behind(volume: &VolumeSnapshot, fencing: Fencing) -> bool {
    let went_on = volume.peer_generations.is_some_and(|theirs| !theirs.bitmap.is_none());
    volume.disk == DiskState::Diskless && !went_on && fencing != Fencing::ResourceAndStonith
}

impl Resource {
    /// This node's volumes that are block devices of the kernel.
    fn kernel_volumes(&self) -> Vec<(VolumeNumber, Device)> {
        let config = self.config();
        let node = config.node(self.node.as_str());
        let volumes = node.map(|node| node.volumes.as_slice()).unwrap_or_default();
        let of_kernel = volumes.iter().filter(|volume| volume.device.is_of_kernel());
        of_kernel.map(|volume| (volume.number, volume.device.clone())).collect()
    }

    /// Who has one of the resource's block devices open.
    pub(super) async fn device_holder(&self, running: &Running) -> Option<String> {
        if self.kernel_volumes().is_empty() {
            return None;
        }
        let Report::Fresh(report) = running.report().await else { return None };
        let devices: Vec<PathBuf> = report.volumes.iter().map(|volume| PathBuf::from(&volume.device)).collect();
        let devices = devices.into_iter().filter(|device| device.starts_with("/dev"));
        let devices: Vec<_> = devices.collect();
        let found = spawn_blocking(move || {
            devices.iter().find_map(|device| holder(device).map(|who| format!("{}: {who}", device.display())))
        });
        found.await.ok().flatten()
    }

    /// Refuses to take a device away from those who have it open.
    pub(super) async fn refuse_if_open(&self, running: &Running) -> Result<(), ApiError> {
        let Some(who) = self.device_holder(running).await else { return Ok(()) };
        let error = ApiError::refused(Refusal::DeviceIsOpen, self.name());
        Err(ApiError { message: format!("the device is open; {who}"), ..error }
            .with_hint("unmount it, or end what uses it, then try again"))
    }

    /// Has this node become Primary again if a daemon that died had been. The resource comes up.
    pub(super) fn begin_takeover(&self, running: &Arc<Running>) {
        if let Some(me) = self.me()
            && lock(&running.takeover).begin()
        {
            tokio::spawn(me.take_over(Arc::downgrade(running)));
        }
    }

    async fn take_over(self: Arc<Self>, running: Weak<Running>) {
        let found = self.has_device_left_behind().await;
        let set = |takeover| running.upgrade().into_iter().for_each(|running| *lock(&running.takeover) = takeover);
        if found {
            set(Takeover::Waiting);
            self.wait_to_be_primary(&running).await;
        }
        set(Takeover::Over);
    }

    async fn wait_to_be_primary(&self, running: &Weak<Running>) {
        tracing::info!(
            resource = self.name(),
            "a device was left behind: its requests wait for this node to be Primary"
        );
        let mut standing = Standing::begun(ConnectionState::Connecting, Instant::now());
        let mut told = None;
        // Another data thread has a takeover of its own.
        while let Some(running) = running.upgrade().filter(|running| !running.has_ended()) {
            let step = match running.report().await {
                Report::Fresh(report) => {
                    let config = self.config();
                    let alone = standing.is_alone(report.engine.connection, Instant::now(), config.net.timeout);
                    next_step(&report.engine, alone, config.fencing)
                }
                Report::Stale(_) => Step::Wait,
            };
            match step {
                Step::Done => return,
                Step::WaitForDisk { refused } if told.replace(refused) != Some(refused) => {
                    let name = self.name();
                    let or = match refused {
                        true => format!("'repctl status {name}' says what else can be done"),
                        false => format!("or, to go on with the peer's data, 'repctl primary {name}'"),
                    };
                    tracing::warn!(
                        resource = name,
                        "a device was left behind, and a disk of this node isn't attached: what clients were answered may be on it \
                         alone. Run 'repctl attach {name}'; {or}"
                    );
                }
                Step::Wait | Step::WaitForDisk { .. } => {}
                Step::Promote { force } => {
                    // What refuses it now may not a moment later.
                    let promoted = running.command(Command::Promote { force }, PROMOTION_DEADLINE, self.name()).await;
                    if promoted.is_err() && self.config().fencing != Fencing::DontCare {
                        tokio::time::sleep(FENCE_PAUSE).await;
                    }
                }
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Whether requests to a device that was left behind wait, for this node to be Primary or for the resource to come up.
    pub(super) async fn device_waits(&self) -> bool {
        match self.life() {
            Life::Up(running) if *lock(&running.takeover) != Takeover::NotBegun => {
                *lock(&running.takeover) == Takeover::Waiting
            }
            // The name of one that was left behind stands. Without it the driver isn't asked each time.
            _ if self.has_device_name() => timeout(ASK_DEADLINE, self.has_device_left_behind()).await.unwrap_or(false),
            _ => false,
        }
    }

    fn has_device_name(&self) -> bool {
        self.kernel_volumes().iter().any(|(volume, _)| rep_control::device_link(self.name(), volume.0).exists())
    }

    /// Says of a resource that is down when the daemon has started what waits for it.
    pub(super) async fn warn_of_what_waits(&self) {
        if matches!(self.life(), Life::Down(_)) && self.device_waits().await {
            tracing::warn!(
                resource = self.name(),
                "a device was left behind: its requests wait until the resource is up ('repctl up')"
            );
        }
    }

    /// Has devices that were left behind end, where this daemon doesn't serve them: who has them open hears of an I/O error, as the
    /// operator wants it. Which those were.
    pub(super) async fn give_up_devices(&self) -> Result<Vec<String>, ApiError> {
        let is_served = match self.life() {
            // One that has just been taken over is served, though nobody has noted it yet.
            Life::Up(running) => {
                let waits = *lock(&running.takeover) == Takeover::Waiting;
                !waits || matches!(running.report().await, Report::Fresh(report) if report.engine.role == Role::Primary)
            }
            Life::Down(_) => false,
        };
        if is_served {
            return Ok(Vec::new());
        }
        let (resource, node) = (self.name().to_owned(), self.node.clone());
        let volumes = self.kernel_volumes();
        let ended = spawn_blocking(move || {
            let given_up = volumes.iter().map(|(volume, device)| give_up(&resource, node.as_str(), *volume, device));
            given_up.filter_map(Result::transpose).collect::<Result<Vec<String>, _>>()
        });
        let given_up = ended.await.unwrap_or_else(|_| Err("a thread of the daemon's ended".to_owned()));
        let given_up = given_up.map_err(|why| {
            let message = format!("a device that was left behind can't be given up: {why}");
            ApiError::failed("DeviceNotGivenUp", message).with_hint("see the kernel's log")
        })?;
        for device in &given_up {
            tracing::warn!(resource = self.name(), "given up by the operator, what waited there has failed: {device}");
        }
        Ok(given_up)
    }

    async fn has_device_left_behind(&self) -> bool {
        let (resource, node) = (self.name().to_owned(), self.node.clone());
        let volumes = self.kernel_volumes();
        let found = spawn_blocking(move || {
            volumes.iter().any(|(volume, device)| is_left_behind(&resource, node.as_str(), *volume, device))
        });
        found.await.unwrap_or(false)
    }
}

/// Whether the kernel has a device of a volume. A driver that can't be asked has none; promotion will tell.
fn is_left_behind(resource: &str, node: &str, volume: VolumeNumber, device: &Device) -> bool {
    match device {
        Device::Ublk => lifecycle::find(Fingerprint::new(resource, node, volume.0)).is_ok_and(|found| found.is_some()),
        Device::NbdKernel => rep_nbdk::find(&Backend::new(resource, node, volume.0)).is_ok_and(|found| found.is_some()),
        Device::NbdUnix(_) | Device::NbdTcp(_) => false,
    }
}

/// Ends the kernel's device of a volume, if there is one that nobody serves; its path.
fn give_up(resource: &str, node: &str, volume: VolumeNumber, device: &Device) -> Result<Option<String>, String> {
    match device {
        Device::Ublk => {
            let given_up = lifecycle::give_up(Fingerprint::new(resource, node, volume.0)).map_err(|e| e.to_string())?;
            Ok(given_up.map(|id| format!("/dev/ublkb{id}")))
        }
        Device::NbdKernel => {
            let given_up = rep_nbdk::give_up(&Backend::new(resource, node, volume.0)).map_err(|e| e.to_string())?;
            Ok(given_up.map(|index| format!("/dev/nbd{index}")))
        }
        Device::NbdUnix(_) | Device::NbdTcp(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use DiskState::{Consistent, Diskless, Inconsistent, Outdated, UpToDate};
    use rep_types::{GenerationId, Generations};

    fn step(role: Role, connection: ConnectionState, disk: DiskState, refused: Option<Refusal>, alone: bool) -> Step {
        let volume = VolumeSnapshot { disk, ..fixture::volume() };
        let engine = fixture::engine(role, connection, volume);
        next_step(&Snapshot { promotion_refused: refused, ..engine }, alone, Fencing::DontCare)
    }

    #[test]
    fn it_begins_once_for_each_data_thread_whenever_that_comes_up() {
        let mut takeover = Takeover::default();
        assert!(takeover.begin() && takeover == Takeover::Looking);
        // 'up' again, of a resource that is up: whatever became of it, nobody is promoted a second time unasked.
        for state in [Takeover::Looking, Takeover::Waiting, Takeover::Over] {
            let mut takeover = state;
            assert!(!takeover.begin() && takeover == state, "{state:?}");
        }
    }

    #[test]
    fn a_peer_that_is_looked_for_anew_has_its_chance_anew() {
        use ConnectionState::{Connecting, StandAlone};
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut standing = Standing::begun(Connecting, begun);
        let mut alone = |connection, seconds| standing.is_alone(connection, after(seconds), Duration::from_secs(6));
        assert!(!alone(Connecting, 5) && alone(Connecting, 6));
        // The operator disconnects, and connects a minute later.
        assert!(!alone(StandAlone, 7) && alone(StandAlone, 60));
        assert!(!alone(Connecting, 61) && !alone(Connecting, 66) && alone(Connecting, 67));
    }

    #[test]
    fn a_device_waits_until_its_data_is_known_to_be_whole() {
        use ConnectionState::{Connected, Connecting, SplitBrain, StandAlone};
        let none = Some(Refusal::NoUpToDateDisk);
        let table = [
            // The peer told that one of both disks is good: nothing more to ask.
            (Connected, Inconsistent, None, false, Step::Promote { force: false }),
            (Connecting, UpToDate, None, false, Step::Promote { force: false }),
            // The peer isn't there, and this disk has every answered write; not before the peer had its chance.
            (Connecting, Consistent, none, false, Step::Wait),
            (Connecting, Consistent, none, true, Step::Promote { force: true }),
            // This disk lacks something: only the peer can help, however long that takes.
            (Connecting, Inconsistent, none, true, Step::Wait),
            (Connecting, Outdated, none, true, Step::Wait),
            // The peer is there and has something against it, or nobody looks for it.
            (Connected, Consistent, none, true, Step::Wait),
            // Two went apart: the clients of this one go on with what they have seen, unless it lacks something.
            (SplitBrain, Consistent, Some(Refusal::SplitBrain), false, Step::Promote { force: true }),
            (SplitBrain, UpToDate, Some(Refusal::SplitBrain), false, Step::Promote { force: true }),
            (SplitBrain, Outdated, Some(Refusal::SplitBrain), true, Step::Wait),
            (SplitBrain, Inconsistent, Some(Refusal::SplitBrain), true, Step::Wait),
            (StandAlone, Consistent, none, true, Step::Wait),
            (Connected, UpToDate, Some(Refusal::PeerIsPrimary), true, Step::Wait),
            (Connecting, Consistent, Some(Refusal::HandshakeUnderWay), true, Step::Wait),
        ];
        for (connection, disk, refused, alone, expected) in table {
            let found = step(Role::Secondary, connection, disk, refused, alone);
            assert_eq!(found, expected, "{connection:?} {disk:?} {refused:?} {alone}");
        }
        assert_eq!(step(Role::Primary, Connected, UpToDate, None, false), Step::Done);
    }

    /// Its requests were forwarded: the peer is Primary, or was after this node.
    #[test]
    fn a_device_whose_role_was_handed_over_waits_for_the_peer_or_the_operator() {
        let volume = VolumeSnapshot { disk: Consistent, ..fixture::volume() };
        let engine = fixture::engine(Role::Secondary, ConnectionState::Connecting, volume);
        let engine = Snapshot { promotion_refused: Some(Refusal::NoUpToDateDisk), last_primary: false, ..engine };
        assert_eq!(next_step(&engine, true, Fencing::DontCare), Step::Wait);
    }

    /// One of several disks isn't there: the peer's may be older, and nobody in reach knows it.
    #[test]
    fn a_device_whose_disk_is_missing_waits_for_it_or_for_the_operator() {
        let step = |bitmap, fencing| {
            let theirs = Generations { bitmap, ..Generations::JUST_CREATED };
            let volume = VolumeSnapshot { disk: Diskless, peer_generations: Some(theirs), ..fixture::volume() };
            next_step(&fixture::engine(Role::Secondary, ConnectionState::Connected, volume), true, fencing)
        };
        let went_on = GenerationId(0x1234_5678_9abc_def0);
        assert_eq!(step(GenerationId::NONE, Fencing::DontCare), Step::WaitForDisk { refused: false });
        assert_eq!(step(GenerationId::NONE, Fencing::ResourceOnly), Step::WaitForDisk { refused: false });
        assert_eq!(step(GenerationId::NONE, Fencing::ResourceAndStonith), Step::Promote { force: false });
        assert_eq!(step(went_on, Fencing::DontCare), Step::Promote { force: false });
        // The peer's isn't good either, or is known to be older.
        let volume = VolumeSnapshot { disk: Diskless, peer_disk: Consistent, ..fixture::volume() };
        let engine = fixture::engine(Role::Secondary, ConnectionState::Connected, volume);
        for refusal in [Refusal::NoUpToDateDisk, Refusal::LetNewerGo] {
            let engine = Snapshot { promotion_refused: Some(refusal), ..engine.clone() };
            assert_eq!(next_step(&engine, true, Fencing::DontCare), Step::WaitForDisk { refused: true }, "{refusal:?}");
        }
    }

    #[test]
    fn with_fencing_nobody_goes_on_alone_unasked() {
        let volume = VolumeSnapshot { disk: Consistent, ..fixture::volume() };
        let engine = fixture::engine(Role::Secondary, ConnectionState::Connecting, volume);
        let refused = |refusal| Snapshot { promotion_refused: Some(refusal), ..engine.clone() };
        let step = |refusal, alone| next_step(&refused(refusal), alone, Fencing::ResourceAndStonith);
        assert_eq!(step(Refusal::NoUpToDateDisk, true), Step::Wait);
        assert_eq!(step(Refusal::PeerNotFenced, false), Step::Wait);
        assert_eq!(step(Refusal::PeerNotFenced, true), Step::Promote { force: false });
        assert_eq!(step(Refusal::SplitBrain, true), Step::Wait);
    }
}
