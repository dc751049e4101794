//! A device whose requests are forwarded goes when nobody has it open any more.
//!
//! Whether a block device is open only the kernel knows, so it is looked at now and then while there is something to look
//! for. A client that comes back within the grace (a connection that broke, a mount that moves) still finds it.

use super::resource::{Report, Resource, Running};
use rep_engine::{Command, Notice};
use rep_types::Role;
use std::sync::Weak;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long a device must have been closed before it goes.
const CLOSED_FOR: Duration = Duration::from_secs(10);
/// How long taking it away may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Watches over a resource's devices until its data thread ends.
pub async fn watch(resource: Weak<Resource>, running: Weak<Running>, mut notices: broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(Notice::Forwarding { forwards: true }) | Err(RecvError::Lagged(_)) => {}
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
        }
        if close_when_unused(&resource, &running).await.is_none() {
            return;
        }
    }
}

/// Looks until nothing is forwarded any more; `None`: the resource has ended.
async fn close_when_unused(resource: &Weak<Resource>, running: &Weak<Running>) -> Option<()> {
    let mut closed_since = None;
    loop {
        tokio::time::sleep(LOOK_PAUSE).await;
        let (resource, running) = (resource.upgrade()?, running.upgrade()?);
        if running.has_ended() {
            return None;
        }
        let Report::Fresh(report) = running.report().await else { continue };
        if report.engine.forwarding.is_none() {
            return Some(());
        }
        let clients = report.volumes.iter().any(|volume| volume.clients > 0);
        let open = clients || report.engine.role == Role::Primary || resource.device_holder(&running).await.is_some();
        if open {
            closed_since = None;
            continue;
        }
        let since = *closed_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= CLOSED_FOR {
            // What refuses it now (somebody opens it) may not a moment later.
            let closed = running.command(Command::Demote, CLOSE_DEADLINE, resource.name()).await;
            if closed.is_ok() {
                tracing::info!(resource = resource.name(), "the device was closed: it isn't offered here any more");
            }
        }
    }
}
