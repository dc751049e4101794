//! One resource as the control thread holds it: down with a reason, or up with its data thread.

use crate::control::takeover::Takeover;
use crate::control::{attach_error, handlers, options};
use rep_control::api::{ApiError, Event};
use rep_control::config::ResourceConfig;
use rep_engine::{Command, CommandError, CommandOutcome};
use rep_types::{NodeName, Refusal, ResourceName, VolumeNumber};
use repd::resource::{ControlRequest, ResourceHandle, ResourceReport, spawn};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

/// How long a report may take; a thread that needs longer is stuck.
const REPORT_DEADLINE: Duration = Duration::from_millis(500);
/// How much longer than the data thread the control thread waits for an answer that was promised by a deadline.
const GRACE: Duration = Duration::from_millis(500);
/// How long a command is tried again while a handshake or another command is under way.
const PATIENCE: Duration = Duration::from_secs(3);
/// The pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A resource of this node.
pub struct Resource {
    /// For what goes on beside it as long as it is there.
    me: Weak<Resource>,
    name: ResourceName,
    /// As configured; changes under the turn only.
    config: RwLock<Arc<ResourceConfig>>,
    /// This node.
    pub node: NodeName,
    /// Listening sockets passed by systemd, by volume.
    sockets: Arc<BTreeMap<u16, OwnedFd>>,
    pub(super) events: broadcast::Sender<Event>,
    life: Mutex<Life>,
    /// Why a volume has no disk, by number.
    problems: Mutex<BTreeMap<u16, String>>,
    /// Whether the configuration no longer has it: it doesn't come up any more.
    retired: AtomicBool,
    /// Held while the resource comes up, goes down, or attaches: these go one after another.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// Whether there is a data thread.
#[derive(Clone)]
pub enum Life {
    /// There is none; why, if it isn't just that nobody asked.
    Down(Option<String>),
    /// There is one.
    Up(Arc<Running>),
}

/// A data thread and what the control thread remembers of it.
pub struct Running {
    handle: ResourceHandle,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    last: Mutex<Option<Arc<ResourceReport>>>,
    /// How far it is with devices that were left behind.
    pub(super) takeover: Mutex<Takeover>,
}

/// A report, or why there is none.
pub enum Report {
    /// As things are.
    Fresh(Arc<ResourceReport>),
    /// The data thread doesn't answer; how things were when it last did.
    Stale(Option<Arc<ResourceReport>>),
}

/// A lock whose holder panicked still holds what it held: plain values, never half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resource {
    /// A resource that is down.
    pub fn new(
        config: ResourceConfig,
        node: NodeName,
        sockets: BTreeMap<u16, OwnedFd>,
        events: broadcast::Sender<Event>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Resource {
            me: me.clone(),
            name: config.name.clone(),
            config: RwLock::new(Arc::new(config)),
            node,
            sockets: Arc::new(sockets),
            events,
            life: Mutex::new(Life::Down(None)),
            problems: Mutex::default(),
            retired: AtomicBool::new(false),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// For what goes on beside it.
    pub(super) fn me(&self) -> Option<Arc<Resource>> {
        self.me.upgrade()
    }

    /// As configured.
    pub fn config(&self) -> Arc<ResourceConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another configuration, for the next time it comes up. The caller has the turn.
    pub(super) fn set_config(&self, config: ResourceConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// It doesn't come up any more. The caller has the turn and has taken it down.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether it is up.
    pub fn life(&self) -> Life {
        lock(&self.life).clone()
    }

    /// The data thread, or the refusal that there is none.
    pub fn running(&self) -> Result<Arc<Running>, ApiError> {
        match self.life() {
            Life::Up(running) => Ok(running),
            Life::Down(reason) => {
                let mut error = ApiError::refused(Refusal::ResourceIsDown, self.name());
                if let Some(reason) = reason {
                    error.message = format!("{} ({reason})", error.message);
                }
                Err(error)
            }
        }
    }

    pub(super) fn set_life(&self, life: Life) {
        if let Life::Down(None) = life {
            lock(&self.problems).clear();
        }
        *lock(&self.life) = life;
    }

    /// This resource's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// This node's volumes.
    pub fn volumes(&self) -> Vec<VolumeNumber> {
        let config = self.config();
        let node = config.node(self.node.as_str());
        node.map(|node| node.volumes.iter().map(|volume| volume.number).collect()).unwrap_or_default()
    }

    /// Starts the data thread unless there is one. The caller has the turn.
    pub(super) async fn ensure_running(&self) -> Result<Arc<Running>, ApiError> {
        if let Life::Up(running) = self.life() {
            return Ok(running);
        }
        if self.retired.load(Ordering::Relaxed) {
            let message = format!("the configuration has no resource \"{}\" any more", self.name);
            return Err(ApiError::usage("NoSuchResource", message).with_hint("'repctl status' shows those it has"));
        }
        let (config, node, sockets) = (self.config(), self.node.clone(), self.sockets.clone());
        let started = tokio::task::spawn_blocking(move || {
            let options = options::options(&config, &node, &sockets)?;
            spawn(options).map_err(|error| ApiError::failed("SpawnFailed", error.to_string()))
        });
        let started = started.await.unwrap_or_else(|error| Err(ApiError::failed("SpawnFailed", error.to_string())));
        match started {
            Ok((handle, thread)) => {
                let names = super::split_brain::Names::of(self);
                tokio::spawn(super::events::forward(self.name.clone(), names, handle.subscribe(), self.events.clone()));
                tokio::spawn(handlers::follow(self.me.clone(), handle.subscribe()));
                let forwarding = handle.subscribe();
                let questions = handle.take_fence_questions();
                let resync_questions = handle.take_resync_questions();
                let (thread, last, takeover) = (Mutex::new(Some(thread)), Mutex::default(), Mutex::default());
                let running = Arc::new(Running { handle, thread, last, takeover });
                tokio::spawn(super::forwarding::watch(self.me.clone(), Arc::downgrade(&running), forwarding));
                if let Some(questions) = questions {
                    tokio::spawn(handlers::fence(self.me.clone(), Arc::downgrade(&running), questions));
                }
                if let Some(questions) = resync_questions {
                    tokio::spawn(handlers::before_resync(self.me.clone(), Arc::downgrade(&running), questions));
                }
                self.set_life(Life::Up(running.clone()));
                Ok(running)
            }
            Err(error) => {
                self.set_life(Life::Down(Some(error.sentence())));
                Err(error)
            }
        }
    }
}

impl Resource {
    /// Attaches a volume's disk; why it can't be is remembered for the status.
    pub(super) async fn attach_volume(
        &self,
        running: &Running,
        volume: VolumeNumber,
        deadline: Duration,
    ) -> Result<(), ApiError> {
        let answer = running.ask(deadline + GRACE, |reply| ControlRequest::Attach { volume, deadline, reply }).await;
        let result = match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(attach_error::words(error, self.name()).await),
            Err(error) => Err(error),
        };
        match &result {
            Ok(()) => lock(&self.problems).remove(&volume.0),
            Err(error) => lock(&self.problems).insert(volume.0, error.sentence()),
        };
        result
    }

    /// Why volumes have no disk.
    pub fn problems(&self) -> BTreeMap<u16, String> {
        lock(&self.problems).clone()
    }
}

impl Running {
    /// Hands a request over that has no answer.
    pub(super) fn tell(&self, request: ControlRequest) {
        self.handle.request(request);
    }

    /// Hands a request over and waits for its answer, at most for `deadline`.
    async fn ask<T>(
        &self,
        deadline: Duration,
        request: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.handle.request(request(reply));
        match timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ApiError::failed("ThreadEnded", "the resource's data thread has ended")
                .with_hint("look at repd's log, then run 'repctl up'")),
            Err(_) => Err(ApiError::timed_out("the resource's data thread doesn't answer")
                .with_hint("its disk may hang; look at the kernel's log")),
        }
    }

    /// A command of the engine. While a handshake or another command is under way it is tried again for a moment.
    pub async fn command(&self, command: Command, deadline: Duration, name: &str) -> Result<CommandOutcome, ApiError> {
        let begun = Instant::now();
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            let result = self.command_once(command.clone(), left).await?;
            let passing = matches!(result, Err(CommandError::Refused(Refusal::HandshakeUnderWay | Refusal::Busy)));
            if !passing || begun.elapsed() >= PATIENCE.min(deadline) {
                return result.map_err(|error| command_error(error, name));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn command_once(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<Result<CommandOutcome, CommandError>, ApiError> {
        self.ask(deadline + GRACE, |reply| ControlRequest::Command { command, deadline, reply }).await
    }

    /// Leaves everything cleanly and ends the thread.
    pub async fn stop(&self, devices_left: bool, deadline: Duration, name: &str) -> Result<(), ApiError> {
        let request = |reply| ControlRequest::Stop { deadline, devices_left, reply };
        let answer = self.ask(deadline + GRACE, request).await?;
        answer.map(drop).map_err(|error| command_error(error, name))
    }

    /// The state.
    pub async fn report(&self) -> Report {
        match self.ask(REPORT_DEADLINE, |reply| ControlRequest::Snapshot { reply }).await {
            Ok(report) => {
                let report: Arc<ResourceReport> = Arc::from(report);
                *lock(&self.last) = Some(report.clone());
                Report::Fresh(report)
            }
            Err(_) => Report::Stale(lock(&self.last).clone()),
        }
    }

    /// The last report there was.
    pub fn last_report(&self) -> Option<Arc<ResourceReport>> {
        lock(&self.last).clone()
    }

    /// Whether the data thread has ended by itself.
    pub fn has_ended(&self) -> bool {
        lock(&self.thread).as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// A command's failure in words.
pub(super) fn command_error(error: CommandError, name: &str) -> ApiError {
    match error {
        CommandError::Refused(refusal) => ApiError::refused(refusal, name),
        CommandError::DiskFailed => ApiError::failed("DiskFailed", "the disk or its metadata failed")
            .with_hint("see repd's log and the kernel's log for the disk's error"),
        CommandError::PeerLost => ApiError::failed("PeerLost", "the connection to the peer was lost under the command")
            .with_hint(format!("see 'repctl status {name}', then try again")),
        CommandError::TimedOut => ApiError::timed_out("the command wasn't done in time, though it may still be")
            .with_hint(format!("see 'repctl status {name}'; --timeout gives it longer")),
    }
}
