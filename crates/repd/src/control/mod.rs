//! The control thread: start-up, the control socket, signals, shutdown. It decides nothing about replication: it
//! starts data threads, hands them commands, and words what they report.
//!
//! | file | what |
//! |---|---|
//! | `runtime_dir` | one daemon a directory; the control socket |
//! | `sockets` | listening sockets passed by systemd |
//! | `options` | configuration → a data thread's options |
//! | `resource` | one resource: down with a reason, or up with its thread |
//! | `lifecycle` | up, down, stop |
//! | `takeover`, `holders` | block devices that outlive the daemon; who has one open |
//! | `verbs` | a verb of the control interface → commands of the engine |
//! | `plan`, `refusal` | what would be done, what won't be, in words |
//! | `status`, `verdict` | reports → the contract's JSON, and one sentence |
//! | `events` | notices → events and log lines |
//! | `handlers` | the operator's programs: fence-peer and its like |
//! | `adjust` | the configuration read anew, the difference applied |
//! | `attach_error` | why a disk can't be had, and what to do |
//! | `log` | where log lines go |
//! | `server` | HTTP |
//!
//! Invariants: nothing here waits on a data thread, a disk or the peer without a deadline (I-L3); whatever has to do
//! with the file system or with starting threads runs on the blocking pool.

mod adjust;
mod attach_error;
mod events;
#[cfg(test)]
mod fixture;
mod forwarding;
mod handlers;
mod handover;
mod holders;
mod lifecycle;
pub mod log;
mod options;
mod plan;
mod refusal;
mod resource;
mod runtime_dir;
mod server;
mod silence;
mod sockets;
mod split_brain;
mod status;
mod takeover;
mod verbs;
mod verdict;

pub use runtime_dir::{RuntimeDir, StartError};
pub use sockets::Sockets;

use rep_control::api::Event;
use rep_control::config::{Config, StartMode};
use rep_types::NodeName;
use resource::Resource;
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

/// How long a resource may take to come up when the daemon starts.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a resource may take to leave cleanly when the daemon ends.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// Events kept for a slow listener.
const EVENTS_KEPT: usize = 1024;

/// The daemon: its node, its resources, its events.
pub struct Daemon {
    node: NodeName,
    /// Where the configuration was read from, and is read from again.
    config_path: PathBuf,
    resources: RwLock<BTreeMap<String, Arc<Resource>>>,
    events: broadcast::Sender<Event>,
    /// Held while the configuration is read anew and applied.
    adjusting: tokio::sync::Mutex<()>,
}

impl Daemon {
    /// The daemon of a node; every resource is down.
    pub fn new(config: &Config, config_path: PathBuf, node: NodeName, sockets: Sockets) -> Arc<Self> {
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let resources = config
            .resources_of(node.as_str())
            .map(|config| {
                let resource = Resource::new(config.clone(), node.clone(), sockets.of(config), events.clone());
                (config.name.as_str().to_owned(), resource)
            })
            .collect();
        sockets.warn_unused();
        let (resources, adjusting) = (RwLock::new(resources), tokio::sync::Mutex::new(()));
        Arc::new(Daemon { node, config_path, resources, events, adjusting })
    }

    /// Every resource, by name.
    fn resources(&self) -> Vec<Arc<Resource>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The resource of that name.
    fn resource(&self, name: &str) -> Option<Arc<Resource>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Runs until a signal ends the daemon.
pub async fn run(daemon: Arc<Daemon>, listener: UnixListener) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let server = tokio::spawn(server::serve(daemon.clone(), listener)?);
    tracing::info!(node = %daemon.node, resources = daemon.resources().len(), version = VERSION, "repd runs");
    let starting = tokio::spawn(start_all(daemon.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => drop(tokio::spawn(adjust::on_hangup(daemon.clone()))),
        }
    }
    tracing::info!("repd ends: every resource is left cleanly");
    notify(&[NotifyState::Stopping]);
    starting.abort();
    stop_all(&daemon).await;
    server.abort();
    Ok(())
}

/// The daemon's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Brings every resource up that is to be, side by side; then the service manager is told.
async fn start_all(daemon: Arc<Daemon>) {
    let mut tasks = JoinSet::new();
    for resource in daemon.resources() {
        tasks.spawn(async move {
            if resource.config().start == StartMode::Up
                && let Err(error) = resource.up(START_DEADLINE).await
            {
                let how = if matches!(resource.life(), resource::Life::Up(_)) {
                    "comes up without a disk"
                } else {
                    "stays down"
                };
                tracing::warn!(resource = resource.name(), "{how}: {}", error.sentence());
            }
            resource.warn_of_what_waits().await;
        });
    }
    tasks.join_all().await;
    notify(&[NotifyState::Ready, NotifyState::Status("every resource has been seen to")]);
}

async fn stop_all(daemon: &Daemon) {
    let mut tasks = JoinSet::new();
    for resource in daemon.resources() {
        tasks.spawn(async move { resource.stop(STOP_DEADLINE).await });
    }
    tasks.join_all().await;
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager was not told: {error}");
    }
}
