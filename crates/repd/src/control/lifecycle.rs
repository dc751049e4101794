//! Coming up, going down, ending: the orders of steps that are the daemon's and not the engine's.

use super::resource::{Life, Resource, Running, lock};
use rep_control::api::ApiError;
use rep_engine::Command;
use rep_types::{Refusal, VolumeNumber};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a thread that was told to end may take to be gone.
const JOIN_DEADLINE: Duration = Duration::from_secs(2);
/// How long the peer may take to note a clean leave.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

impl Resource {
    /// Waits until what is coming up, going down or attaching has ended.
    pub(super) async fn take_turn(&self, deadline: Duration) -> Result<tokio::sync::MutexGuard<'_, ()>, ApiError> {
        timeout(deadline, self.turn.lock()).await.map_err(|_| ApiError::refused(Refusal::Busy, self.name()))
    }

    /// Attaches every volume and wants a connection. If no volume could be attached, the resource stays down; if some
    /// could, it is up without the others and that is told. A device that was left behind is taken over from here on, however late
    /// this is and whoever asked for it.
    pub async fn up(&self, deadline: Duration) -> Result<(), ApiError> {
        let begun = Instant::now();
        let _turn = self.take_turn(deadline).await?;
        self.up_in_turn(deadline.saturating_sub(begun.elapsed())).await
    }

    /// The same, for one who has the turn.
    pub(super) async fn up_in_turn(&self, deadline: Duration) -> Result<(), ApiError> {
        let begun = Instant::now();
        self.forget_ended();
        let was_down = matches!(self.life(), Life::Down(_));
        let running = self.ensure_running().await?;
        let mut failed = None;
        let volumes = self.volumes();
        let mut attached = 0;
        for volume in &volumes {
            let left = deadline.saturating_sub(begun.elapsed());
            match self.attach_volume(&running, *volume, left).await {
                Ok(()) => attached += 1,
                Err(error) => failed = Some(with_volume(error, *volume, volumes.len())),
            }
        }
        if let (Some(error), 0, true) = (&failed, attached, was_down) {
            self.end(&running, Some(error.sentence()), JOIN_DEADLINE).await;
            return Err(error.clone());
        }
        self.begin_takeover(&running);
        let left = deadline.saturating_sub(begun.elapsed());
        running.command(Command::Connect { discard_my_data: false }, left, self.name()).await?;
        failed.map_or(Ok(()), Err)
    }

    /// Demotes (refused while the device is open), leaves the peer, lets go of the disks, ends the data thread.
    pub async fn down(&self, deadline: Duration) -> Result<(), ApiError> {
        let begun = Instant::now();
        let _turn = self.take_turn(deadline).await?;
        self.down_in_turn(deadline.saturating_sub(begun.elapsed())).await
    }

    /// The same, for one who has the turn.
    pub(super) async fn down_in_turn(&self, deadline: Duration) -> Result<(), ApiError> {
        let begun = Instant::now();
        self.forget_ended();
        let Life::Up(running) = self.life() else {
            self.set_life(Life::Down(None));
            return Ok(());
        };
        let left = || deadline.saturating_sub(begun.elapsed());
        self.refuse_if_open(&running).await?;
        running.command(Command::Demote, left(), self.name()).await?;
        self.leave(&running, left()).await?;
        let result = running.stop(false, left().max(JOIN_DEADLINE), self.name()).await;
        self.end(&running, None, JOIN_DEADLINE).await;
        result
    }

    /// A clean leave; where the peer doesn't answer, the leave it was told of must do.
    async fn leave(&self, running: &Running, deadline: Duration) -> Result<(), ApiError> {
        let polite =
            running.command(Command::Disconnect { force: false }, deadline.min(LEAVE_DEADLINE), self.name()).await;
        if polite.is_err() {
            running.command(Command::Disconnect { force: true }, deadline, self.name()).await?;
        }
        Ok(())
    }

    /// Starts the data thread if need be and attaches volumes.
    pub async fn attach(&self, volumes: &[VolumeNumber], deadline: Duration) -> Result<(), ApiError> {
        let begun = Instant::now();
        let _turn = self.take_turn(deadline).await?;
        self.forget_ended();
        let was_down = matches!(self.life(), Life::Down(_));
        let running = self.ensure_running().await?;
        for volume in volumes {
            let left = deadline.saturating_sub(begun.elapsed());
            if let Err(error) = self.attach_volume(&running, *volume, left).await {
                let error = with_volume(error, *volume, volumes.len());
                if was_down {
                    self.end(&running, Some(error.sentence()), JOIN_DEADLINE).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// The daemon ends: leaves everything cleanly, also while the device is open.
    pub async fn stop(&self, deadline: Duration) {
        let _turn = timeout(deadline, self.turn.lock()).await;
        let Life::Up(running) = self.life() else { return };
        let holder = self.device_holder(&running).await;
        if let Err(error) = running.stop(holder.is_some(), deadline, self.name()).await {
            tracing::warn!(resource = self.name(), "was not left cleanly: {}", error.sentence());
        }
        if let Some(who) = holder {
            tracing::info!(resource = self.name(), "left to the next daemon, which answers what waits: {who}");
        }
        self.end(&running, None, JOIN_DEADLINE).await;
    }

    /// Marks the resource down and waits a moment for its thread.
    async fn end(&self, running: &Arc<Running>, reason: Option<String>, deadline: Duration) {
        if !running.has_ended()
            && let Err(error) = running.stop(false, deadline, self.name()).await
        {
            tracing::debug!(resource = self.name(), "the data thread's end: {error}");
        }
        self.set_life(Life::Down(reason));
        let thread = lock(&running.thread).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if timeout(deadline, joined).await.is_err() {
                tracing::warn!(resource = self.name(), "the data thread is stuck; its disk may hang");
            }
        }
    }

    /// A data thread that ended by itself leaves the resource down.
    pub(super) fn forget_ended(&self) {
        if let Life::Up(running) = self.life()
            && running.has_ended()
        {
            let reason = "its data thread has ended; look at repd's log, then run 'repctl up'";
            self.set_life(Life::Down(Some(reason.into())));
        }
    }
}

/// Says which volume, where there are several.
pub(super) fn with_volume(mut error: ApiError, volume: VolumeNumber, volumes: usize) -> ApiError {
    if volumes > 1 {
        error.message = format!("volume {volume}: {}", error.message);
    }
    error
}
