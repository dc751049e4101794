//! The data thread.

use crate::resource::{ControlRequest, ResourceOptions, SpawnError};
use rep_engine::Notice;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::broadcast;

/// What the control thread reaches the data thread by.
pub(crate) struct Inbox {
    pub requests: mpsc::Receiver<ControlRequest>,
    pub wake: Arc<OwnedFd>,
    pub notices: broadcast::Sender<Notice>,
}

/// Starts the thread.
pub(crate) fn start(options: ResourceOptions, inbox: Inbox) -> Result<JoinHandle<()>, SpawnError> {
    let name = format!("data-{}", options.name);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        for request in inbox.requests.iter() {
            drop(request);
            let _ = (&inbox.wake, &inbox.notices);
        }
    })?;
    Ok(thread)
}
