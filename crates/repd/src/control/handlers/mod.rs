//! Handlers: the operator's programs that are run when something happens.
//!
//! ```text
//!  data thread ── question ─► fence-peer ── exit code ─► answer ─► data thread      (nobody else waits for it)
//!              ── question ─► before-resync-target ── 0: yes, anything else: no ─► data thread
//!              ── notice ──► unfence-peer, split-brain, after-resync-target, …      one after the other, each once
//! ```
//! They are exec'd with the words of the configuration, never by a shell, on the blocking pool of the control thread:
//! a data thread never waits for one. What they print goes to the log, its beginning at least. The environment tells
//! them what it is about; see [`environment`].

mod program;

use super::resource::{Resource, Running};
use program::{Ending, Program, Run};
use rep_control::config::CommandLine;
use rep_engine::{FenceId, Notice, ResyncId, Why};
use rep_types::{ConnectionState, DiskState, FenceAnswer, VolumeNumber};
use repd::resource::ControlRequest;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc::{self, error::TrySendError};

/// Calls that wait for the handler that runs; more are dropped, and said so.
const CALLS_WAITING_MAX: usize = 64;

/// A handler to be run, and the volume it is about.
type Call = (&'static str, Option<VolumeNumber>);

/// What a handler is told, by name.
fn environment(resource: &Resource, handler: &str, volume: Option<VolumeNumber>) -> Vec<(&'static str, String)> {
    let config = resource.config();
    let node = resource.node.as_str();
    let (own, peer) = (config.node(node), config.peer_of(node));
    let volumes: Vec<_> = resource.volumes().iter().map(ToString::to_string).collect();
    let mut told = vec![
        ("REPD_HANDLER", handler.to_owned()),
        ("REPD_RESOURCE", resource.name().to_owned()),
        ("REPD_NODE", node.to_owned()),
        ("REPD_MY_ADDRESS", own.map(|node| node.address.ip().to_string()).unwrap_or_default()),
        ("REPD_PEER", peer.map(|peer| peer.name.to_string()).unwrap_or_default()),
        ("REPD_PEER_ADDRESS", peer.map(|peer| peer.address.ip().to_string()).unwrap_or_default()),
        ("REPD_FENCING", config.fencing.to_string()),
        ("REPD_VOLUMES", volumes.join(" ")),
    ];
    if let Some(volume) = volume {
        told.push(("REPD_VOLUME", volume.to_string()));
        let disk = own.and_then(|node| node.volumes.iter().find(|of| of.number == volume)).map(|of| &of.disk);
        told.push(("REPD_LL_DISK", disk.map(|disk| disk.display().to_string()).unwrap_or_default()));
    }
    told
}

/// Runs a handler on the blocking pool.
async fn run(
    resource: &Resource,
    handler: &'static str,
    words: &CommandLine,
    volume: Option<VolumeNumber>,
    cancelled: Arc<AtomicBool>,
) -> Ending {
    let program = Program {
        words: words.clone(),
        environment: environment(resource, handler, volume),
        timeout: resource.config().handlers.timeout,
        cancelled,
    };
    tracing::info!(resource = resource.name(), handler, "handler: begins");
    let run = tokio::task::spawn_blocking(move || program::run(&program)).await;
    let run = run.unwrap_or_else(|error| Run {
        ending: Ending::NotRun(error.to_string()),
        output: Vec::new(),
        dropped_bytes: 0,
    });
    log(resource, handler, &run);
    run.ending
}

fn log(resource: &Resource, handler: &str, run: &Run) {
    let resource = resource.name();
    for line in String::from_utf8_lossy(&run.output).lines() {
        tracing::info!(resource, handler, "handler says: {}", line.escape_debug());
    }
    if run.dropped_bytes > 0 {
        tracing::info!(resource, handler, "handler: {} more bytes of its output aren't logged", run.dropped_bytes);
    }
    match &run.ending {
        Ending::Exited(code) => tracing::info!(resource, handler, "handler: ended with exit code {code}"),
        Ending::Cancelled => tracing::info!(resource, handler, "handler: killed, nobody waits for it any more"),
        Ending::Killed(signal) => tracing::warn!(resource, handler, "handler: killed by signal {signal}"),
        Ending::TimedOut => tracing::warn!(resource, handler, "handler: not done in time, and killed"),
        Ending::NotRun(error) => tracing::warn!(resource, handler, "handler: could not be run: {error}"),
    }
}

/// What a fence-peer handler's end says.
fn answer(ending: &Ending) -> FenceAnswer {
    match ending {
        Ending::Exited(code) => FenceAnswer::of_exit_code(*code).unwrap_or(FenceAnswer::Broken),
        Ending::TimedOut => FenceAnswer::TimedOut,
        Ending::Cancelled | Ending::Killed(_) | Ending::NotRun(_) => FenceAnswer::Broken,
    }
}

/// Answers a data thread's questions until it ends. A new question takes the place of the one before.
pub async fn fence(resource: Weak<Resource>, running: Weak<Running>, mut questions: mpsc::UnboundedReceiver<FenceId>) {
    let mut next = questions.recv().await;
    while let Some(id) = next {
        let Some(owner) = resource.upgrade() else { return };
        let cancelled = Arc::new(AtomicBool::new(false));
        let asked = ask(&owner, cancelled.clone());
        tokio::pin!(asked);
        tokio::select! {
            answer = &mut asked => {
                let Some(running) = running.upgrade() else { return };
                running.tell(ControlRequest::FenceAnswered { id, answer });
                drop(running);
                next = questions.recv().await;
            }
            newer = questions.recv() => {
                cancelled.store(true, Ordering::Relaxed);
                asked.await;
                next = newer;
            }
        }
    }
}

async fn ask(resource: &Resource, cancelled: Arc<AtomicBool>) -> FenceAnswer {
    let words = resource.config().handlers.fence_peer.clone();
    if words.is_empty() {
        return FenceAnswer::NoHandler;
    }
    answer(&run(resource, "fence-peer", &words, None, cancelled).await)
}

/// Asks the before-resync-target handler, one question after the other, until the data thread ends.
pub async fn before_resync(
    resource: Weak<Resource>,
    running: Weak<Running>,
    mut questions: mpsc::UnboundedReceiver<(ResyncId, VolumeNumber)>,
) {
    while let Some((id, volume)) = questions.recv().await {
        let Some(owner) = resource.upgrade() else { return };
        let words = owner.config().handlers.before_resync_target.clone();
        // One that was taken out of the configuration meanwhile minds nothing.
        let allowed = words.is_empty()
            || run(&owner, "before-resync-target", &words, Some(volume), Arc::default()).await == Ending::Exited(0);
        let Some(running) = running.upgrade() else { return };
        running.tell(ControlRequest::ResyncAnswered { id, allowed });
    }
}

/// Runs the handlers a resource's notices call for, until its data thread ends.
///
/// What calls for one is picked out at once: a program that takes its time doesn't let the notices of others go by.
pub async fn follow(resource: Weak<Resource>, notices: broadcast::Receiver<Notice>) {
    let (calls, mut called) = mpsc::channel(CALLS_WAITING_MAX);
    let picking = tokio::spawn(pick(notices, calls));
    while let Some((handler, volume)) = called.recv().await {
        let Some(resource) = resource.upgrade() else { break };
        let config = resource.config();
        let words =
            config.handlers.all().into_iter().find(|(name, _)| *name == handler).map(|(_, words)| words.clone());
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            run(&resource, handler, &words, volume, Arc::default()).await;
        }
    }
    picking.abort();
}

async fn pick(mut notices: broadcast::Receiver<Notice>, calls: mpsc::Sender<Call>) {
    loop {
        let notice = match notices.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!("handlers: {missed} notices came too fast to be followed");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let Some(call) = called_for(&notice) else { continue };
        match calls.try_send(call) {
            Ok(()) => {}
            Err(TrySendError::Full((handler, _))) => {
                tracing::warn!(handler, "handlers: {CALLS_WAITING_MAX} wait already, this one isn't run");
            }
            Err(TrySendError::Closed(_)) => return,
        }
    }
}

/// The handler a notice calls for, and the volume it is about.
fn called_for(notice: &Notice) -> Option<Call> {
    match notice {
        Notice::PeerRejoined => Some(("unfence-peer", None)),
        // A plan that ends in it found nothing new.
        Notice::Connection { to: ConnectionState::SplitBrain, why: Why::Handshake, .. } => Some(("split-brain", None)),
        Notice::PrimaryIsBehind => Some(("pri-lost", None)),
        Notice::Disk { volume, to: DiskState::UpToDate, why: Why::ResyncDone, .. } => {
            Some(("after-resync-target", Some(*volume)))
        }
        Notice::Disk { volume, to: DiskState::Failed, .. } => Some(("local-io-error", Some(*volume))),
        Notice::ErrorPassedOn { volume, .. } => Some(("local-io-error", Some(*volume))),
        Notice::VerifyFinished { volume, different_bytes, .. } if *different_bytes > 0 => {
            Some(("out-of-sync", Some(*volume)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drbd_s_exit_codes_say_anything() {
        for (code, said) in [
            (3, FenceAnswer::PeerInconsistent),
            (4, FenceAnswer::PeerOutdated),
            (5, FenceAnswer::PeerUnreachable),
            (6, FenceAnswer::PeerPrimary),
            (7, FenceAnswer::PeerFenced),
        ] {
            assert_eq!(answer(&Ending::Exited(code)), said);
        }
        for ending in [Ending::Exited(0), Ending::Exited(1), Ending::Exited(127), Ending::Killed(9)] {
            assert_eq!(answer(&ending), FenceAnswer::Broken);
        }
        assert_eq!(answer(&Ending::TimedOut), FenceAnswer::TimedOut);
    }

    #[test]
    fn a_notice_calls_for_its_handler() {
        let disk = |to, why| Notice::Disk { volume: VolumeNumber(3), from: DiskState::UpToDate, to, why };
        let volume = Some(VolumeNumber(3));
        assert_eq!(called_for(&disk(DiskState::Failed, Why::DiskError)), Some(("local-io-error", volume)));
        assert_eq!(called_for(&disk(DiskState::UpToDate, Why::ResyncDone)), Some(("after-resync-target", volume)));
        assert_eq!(called_for(&disk(DiskState::UpToDate, Why::Handshake)), None);
        assert_eq!(called_for(&Notice::PrimaryIsBehind), Some(("pri-lost", None)));
        let apart =
            |why| Notice::Connection { from: ConnectionState::Connecting, to: ConnectionState::SplitBrain, why };
        assert_eq!(called_for(&apart(Why::Handshake)), Some(("split-brain", None)));
        assert_eq!(called_for(&apart(Why::Command)), None, "what a plan left is as it was");
        let verified =
            |different_bytes| Notice::VerifyFinished { volume: VolumeNumber(3), different_bytes, marked_bytes: 0 };
        assert_eq!(called_for(&verified(4096)), Some(("out-of-sync", volume)));
        assert_eq!(called_for(&verified(0)), None);
    }
}
