//! The data thread: one ring, the ports around it, and the engine in the middle.
//!
//! ```text
//!  completions ─► ports (disks, peer, nbd, ublk) ─► events ─► engine ─► actions ─► ports ─► entries ─► one system call
//! ```
//! A turn reaps everything that has completed, lets the engine decide, sends what sockets have room for, and hands everything
//! else that follows to the kernel together with the wait for more; before a wait for the peer it may look for news
//! ([`patience`]).
//!
//! Architecture invariants: no replication decision is made here; nothing here waits but the ring; nothing is allocated
//! for a request once the tables have grown to their working size; every queue has a limit in `limits`, or one of the
//! engine's.

mod archive;
mod attach;
mod buffers;
mod commands;
mod disks;
mod ending;
mod io;
mod limits;
mod link;
mod nbd;
mod notices;
mod patience;
mod perform;
mod report;
mod thread;
mod ublk;
mod wake_ups;
mod worker;

use crate::resource::{ControlRequest, ResourceOptions, SpawnError};
use rep_engine::Notice;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use thread::DataThread;
use tokio::sync::broadcast;

/// What the control thread reaches the data thread by.
pub(crate) struct Inbox {
    pub requests: mpsc::Receiver<ControlRequest>,
    pub wake: Arc<OwnedFd>,
    pub notices: broadcast::Sender<Notice>,
    /// Takes the questions to the fence-peer handler.
    pub fence: tokio::sync::mpsc::UnboundedSender<rep_engine::FenceId>,
    /// Takes those to the before-resync-target handler.
    pub resync: tokio::sync::mpsc::UnboundedSender<(rep_engine::ResyncId, rep_types::VolumeNumber)>,
}

/// Starts the thread. The ring must be made by the thread that uses it, so what can go wrong with it is told from there.
pub(crate) fn start(options: ResourceOptions, inbox: Inbox) -> Result<JoinHandle<()>, SpawnError> {
    let (ready, result) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("data-{}", options.name)).spawn(move || {
        let span = tracing::info_span!("data", resource = %options.name, peer = %options.peer);
        let _entered = span.enter();
        match DataThread::new(options, inbox) {
            Ok(mut data) => {
                // The receiver waits for exactly this.
                let _ = ready.send(Ok(()));
                data.run();
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    match result.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(std::io::Error::other("the data thread ended before it began").into()),
    }
}
