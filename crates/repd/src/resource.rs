//! A resource as the control thread sees it: options in, a handle out.
//!
//! [`spawn`] starts the data thread; everything after that goes through [`ResourceHandle::request`], which never
//! blocks. Answers come through `tokio` oneshot channels; a data thread that has ended drops them, which the receiver
//! sees as `RecvError`. The data thread answers at once or keeps the deadline given with the request; a caller
//! that must never hang adds a timeout of its own, because a thread can be stuck in a system call.

use crate::data;
use crate::waking::{self, WakingSender};
use rep_engine::{
    Command, CommandError, CommandOutcome, EngineConfig, FenceId, Latencies, Notice, ResyncId, Snapshot,
    StageLatencies, Timestamp,
};
use rep_types::{FenceAnswer, NodeName, ResourceName, VolumeNumber};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// A shared secret; never shown by `Debug`, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a volume's metadata lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetaPlacement {
    /// At the end of the disk.
    Internal,
    /// In a file or on a device of its own.
    External(PathBuf),
}

/// What clients see of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceOptions {
    /// NBD on a unix socket, mode 0600.
    NbdUnix(PathBuf),
    /// NBD on a TCP address.
    NbdTcp(SocketAddr),
    /// A block device of this kernel, `/dev/ublkbN`.
    Ublk,
    /// A block device of this kernel, `/dev/nbdN`.
    NbdKernel,
}

impl fmt::Display for DeviceOptions {
    /// As the configuration writes it (`nbd:unix:/run/repd/vz.sock`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NbdUnix(path) => write!(f, "nbd:unix:{}", path.display()),
            Self::NbdTcp(address) => write!(f, "nbd:tcp:{address}"),
            Self::Ublk => f.write_str("ublk"),
            Self::NbdKernel => f.write_str("nbd"),
        }
    }
}

/// A volume of this node.
#[derive(Debug)]
pub struct VolumeOptions {
    /// Its number.
    pub number: VolumeNumber,
    /// The backing device: a block device or a file.
    pub disk: PathBuf,
    /// Where its metadata lies.
    pub meta: MetaPlacement,
    /// What clients see.
    pub device: DeviceOptions,
    /// A listening socket passed by systemd (`LISTEN_FDS`), used instead of binding `device`'s address. Connections
    /// made while the node is Secondary are accepted and closed at once.
    pub listen_fd: Option<OwnedFd>,
}

/// Everything a data thread must know.
#[derive(Debug)]
pub struct ResourceOptions {
    /// The resource.
    pub name: ResourceName,
    /// This node.
    pub node: NodeName,
    /// The other node.
    pub peer: NodeName,
    /// The engine's times, durability and rates. `volumes`, `sorts_first` and `seed` are filled in by [`spawn`].
    pub engine: EngineConfig,
    /// The shared secret; `None`: the link is opened without one.
    pub secret: Option<Secret>,
    /// This node's address of the peer link. Listened on when this node's name sorts last, dialled from otherwise.
    pub listen: SocketAddr,
    /// The other node's address.
    pub peer_address: SocketAddr,
    /// How long to wait at most between two attempts to connect.
    pub connect_interval: Duration,
    /// The volumes, in the order of their numbers.
    pub volumes: Vec<VolumeOptions>,
    /// Where data are saved before they are given up in a split brain; wanted when `engine.archive` says so.
    pub archive_dir: Option<PathBuf>,
    /// Upper bound of the buffers for user data, in bytes; at least [`MEMORY_BYTES_LEAST`].
    pub memory_bytes_max: usize,
}

/// The least a resource can work with.
pub const MEMORY_BYTES_LEAST: usize = 32 << 20;
/// What a resource takes unless told otherwise. Pages are touched only as they are needed.
pub const MEMORY_BYTES_DEFAULT: usize = 96 << 20;

/// A request of the control thread.
#[derive(Debug)]
pub enum ControlRequest {
    /// A command for the engine.
    Command {
        /// What.
        command: Command,
        /// Not done by then: it is abandoned and answered [`CommandError::TimedOut`].
        deadline: Duration,
        /// The answer.
        reply: oneshot::Sender<Result<CommandOutcome, CommandError>>,
    },
    /// Open a volume's disk, lock it, read its metadata and hand it to the engine. Succeeds when it is attached
    /// already.
    Attach {
        /// Which volume.
        volume: VolumeNumber,
        /// Not done by then: answered [`AttachError::TimedOut`]; a disk that hangs is let go of when it answers.
        deadline: Duration,
        /// The answer.
        reply: oneshot::Sender<Result<(), AttachError>>,
    },
    /// The fence-peer handler has ended.
    FenceAnswered {
        /// Which question it was for.
        id: FenceId,
        /// What it found, or did.
        answer: FenceAnswer,
    },
    /// The before-resync-target handler has ended.
    ResyncAnswered {
        /// Which question it was for.
        id: ResyncId,
        /// Whether this node's disk may be overwritten.
        allowed: bool,
    },
    /// The state, answered at once.
    Snapshot {
        /// The answer.
        reply: oneshot::Sender<Box<ResourceReport>>,
    },
    /// Leave everything cleanly (`Command::Shutdown`), then end the thread, also when that fails or takes too long.
    Stop {
        /// How long the clean leave may take.
        deadline: Duration,
        /// Devices of the kernel stay for the next daemon, and who has them open notices nothing but the pause (R35).
        devices_left: bool,
        /// How the clean leave ended.
        reply: oneshot::Sender<Result<CommandOutcome, CommandError>>,
    },
}

/// Why a volume could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The resource has no such volume.
    #[error("the resource has no such volume")]
    NoSuchVolume,
    /// Another attach of this volume hasn't ended.
    #[error("another attach of this volume hasn't ended yet")]
    Busy,
    /// The disk can't be used.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Of the disk, or of the metadata.
        path: PathBuf,
        /// Why.
        source: rep_disk::OpenError,
    },
    /// The metadata can't be used.
    #[error("{}: {source}", path.display())]
    Metadata {
        /// Of the metadata.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine did not take it.
    #[error("{0}")]
    Refused(CommandError),
    /// Not done in time.
    #[error("the disk did not answer in time")]
    TimedOut,
}

/// The state of a resource: the engine's, and what only the shell knows.
#[derive(Debug)]
pub struct ResourceReport {
    /// The engine's state.
    pub engine: Snapshot,
    /// The moment it was taken, on the engine's clock.
    pub now: Timestamp,
    /// The link.
    pub link: LinkReport,
    /// The volumes, in the order of their numbers.
    pub volumes: Vec<VolumeReport>,
    /// The buffers.
    pub pool: PoolReport,
}

/// What the shell knows of the link.
#[derive(Clone, Debug, Default)]
pub struct LinkReport {
    /// Why there is no connection, as one sentence, while one is wanted and the last attempt failed.
    pub problem: Option<String>,
    /// Bytes waiting to be sent.
    pub queued_bytes: usize,
    /// How long gathered sends took, from when they were handed to the kernel until it had all of them.
    pub sent: Latencies,
}

/// What the shell knows of a volume.
#[derive(Clone, Debug)]
pub struct VolumeReport {
    /// Its number.
    pub number: VolumeNumber,
    /// What clients connect to, as the configuration writes it.
    pub device: String,
    /// Whether it is offered now.
    pub exported: bool,
    /// Client connections.
    pub clients: u32,
    /// Why it isn't offered although it should be (a port taken, for instance).
    pub export_problem: Option<String>,
    /// Why the device that is offered is smaller than the volume.
    pub size_problem: Option<String>,
    /// The driver of its block device, while there is one.
    pub driver: Option<DriverReport>,
    /// Why the last archive of its data, before they were to be given up in a split brain, failed.
    pub archive_problem: Option<String>,
    /// The disk, while one is open.
    pub disk: Option<DiskReport>,
    /// Where the time of clients' requests went.
    pub stages: StageLatencies,
}

/// What the shell knows of the driver of a block device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriverReport {
    /// Which.
    pub name: &'static str,
    /// What it says it can do, in the kernel's names.
    pub features: Vec<&'static str>,
    /// Whether a device can grow under those who have it open.
    pub grows: bool,
    /// Whether the daemon's memory is locked and its data thread known as one that writes back (R36).
    pub memory_locked: bool,
    /// Whether its data threads get at the kernel's reserve when memory runs out (R36).
    pub memory_reserve: bool,
}

/// What the shell knows of an open disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskReport {
    /// Whether its I/O is direct (R37); if not, it goes through the page cache because the disk can't otherwise.
    pub direct: bool,
    /// Bytes of a logical block.
    pub logical_block_bytes: u32,
    /// Its size in bytes, metadata included.
    pub size_bytes: u64,
}

/// Use of the buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolReport {
    /// Bytes in use.
    pub used_bytes: usize,
    /// Bytes there are.
    pub total_bytes: usize,
    /// Whether they are registered with the ring.
    pub registered: bool,
}

/// Why a data thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The ring could not be made.
    #[error("io_uring can't be used: {0}")]
    Ring(#[from] rep_ring::RingError),
    /// A thread, an event or memory could not be had.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Questions to the before-resync-target handler, each about a volume.
pub type ResyncQuestions = mpsc::UnboundedReceiver<(ResyncId, VolumeNumber)>;

/// A data thread, as others hold it. Cheap to clone.
#[derive(Clone)]
pub struct ResourceHandle {
    requests: WakingSender<ControlRequest>,
    notices: broadcast::Sender<Notice>,
    /// The questions to the fence-peer handler, until somebody takes them upon himself.
    questions: Arc<Mutex<Option<mpsc::UnboundedReceiver<FenceId>>>>,
    /// The same of the before-resync-target handler.
    resync_questions: Arc<Mutex<Option<ResyncQuestions>>>,
}

impl ResourceHandle {
    /// The questions to the fence-peer handler, for the one who runs it and answers with
    /// [`ControlRequest::FenceAnswered`]; there is at most one unanswered that counts, the last. `None`: taken already.
    pub fn take_fence_questions(&self) -> Option<mpsc::UnboundedReceiver<FenceId>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The questions to the before-resync-target handler, for the one who runs it and answers with
    /// [`ControlRequest::ResyncAnswered`]. `None`: taken already.
    pub fn take_resync_questions(&self) -> Option<ResyncQuestions> {
        self.resync_questions.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands a request over and wakes the data thread. Never blocks. When the thread has ended, the request is
    /// dropped and with it the sender of its answer.
    pub fn request(&self, request: ControlRequest) {
        self.requests.send(request);
    }

    /// What happens from now on. A receiver that is too slow is told that it missed some (`RecvError::Lagged`).
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}

/// Notices kept for a slow subscriber.
const NOTICES_KEPT: usize = 256;

/// Starts the data thread of a resource: nothing attached, StandAlone, Secondary.
pub fn spawn(options: ResourceOptions) -> Result<(ResourceHandle, JoinHandle<()>), SpawnError> {
    let wake = nix::sys::eventfd::EventFd::from_value_and_flags(
        0,
        // Blocking, so that the ring's read waits; a write could block only after 2^64 of them.
        nix::sys::eventfd::EfdFlags::EFD_CLOEXEC,
    )
    .map_err(std::io::Error::from)?;
    let wake: Arc<OwnedFd> = Arc::new(wake.into());
    let (requests, inbox) = waking::channel(wake.clone());
    let (notices, _) = broadcast::channel(NOTICES_KEPT);
    let (fence, questions) = mpsc::unbounded_channel();
    let questions = Arc::new(Mutex::new(Some(questions)));
    let (resync, resync_questions) = mpsc::unbounded_channel();
    let resync_questions = Arc::new(Mutex::new(Some(resync_questions)));
    let handle = ResourceHandle { requests, notices: notices.clone(), questions, resync_questions };
    let thread = data::start(options, data::Inbox { requests: inbox, wake, notices, fence, resync })?;
    Ok((handle, thread))
}
