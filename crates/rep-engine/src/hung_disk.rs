//! This node's own disk, when it doesn't answer: neither an error nor an end.
//!
//! ```text
//!  an operation is given out ──► Io { since } ──► the report takes it away
//!                                   │
//!                                   ├─ how old the oldest is: told to operators (`unanswered_for`)
//!                                   ├─ older than `disk-timeout`: taken for an error (R32), if good data stay in reach
//!                                   └─ of a disk let go of: it may reach that disk whenever it likes
//! ```
//!
//! Invariants:
//! - H1 `disk-timeout` never takes the last good copy in reach: not while the peer's isn't known to be UpToDate, nor while the
//!   peer itself owes an answer for half of that time, or for `timeout` (it may hang on the same storage), nor in a handshake;
//! - H2 a disk isn't attached again while an operation of its last attachment is out: what that had to write could land on
//!   what was written since, and a flush that fails late is heard of before the disk counts for anything (I-D6);
//! - H3 the time is counted that the shell was awake for. One that was stopped, or had no processor, finds its disk's
//!   answers late, not its disk.

use crate::Engine;
use crate::action::Why;
use crate::command::{CommandError, CommandOutcome};
use crate::event::Timestamp;
use crate::limits;
use crate::operation::{Io, IoPurpose, Leg};
use crate::operator::Step;
use crate::slab::Key;
use rep_types::planted;
use rep_types::{DiskState, IoId};
use std::time::Duration;

/// Time as this engine's shell lived through it (H3).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AwakeClock(Timestamp);

impl AwakeClock {
    /// Goes on by the time since the last event, but not by more than one that was awake could have let pass.
    pub fn advance(&mut self, elapsed: Duration) {
        self.0 = self.0.after(elapsed.min(limits::AWAKE_STEP_MAX));
    }

    pub fn now(self) -> Timestamp {
        self.0
    }
}

impl Engine {
    /// An operation waits in the shell for a buffer: its disk can't answer it yet.
    pub(crate) fn disk_queued(&mut self, io: IoId) {
        if let Some(io) = self.ios.get_mut(Key(io.0)) {
            io.queued = true;
        }
    }

    /// It has been given to its disk.
    pub(crate) fn disk_begun(&mut self, io: IoId) {
        let now = self.awake.now();
        if let Some(io) = self.ios.get_mut(Key(io.0)) {
            (io.queued, io.since) = (false, now);
        }
    }

    /// When the disks are looked at next; `None`: nothing is asked of one.
    pub(crate) fn disk_timeout_due(&self) -> Option<Timestamp> {
        (!self.ios.is_empty()).then_some(self.next_disk_check.max(Timestamp(1)))
    }

    /// Looks whether a disk has been silent for too long.
    pub(crate) fn check_disks(&mut self) {
        if self.ios.is_empty() || self.next_disk_check > self.now {
            return;
        }
        self.next_disk_check = self.now.after(limits::STALL_CHECK_INTERVAL);
        let limit = self.config.disk_timeout;
        if limit.is_zero() {
            return;
        }
        for index in 0..self.volumes.len() {
            let late = self.unanswered_for(index, self.now).is_some_and(|silent| silent >= limit);
            if late && (self.may_be_given_up(index) || planted!("only-disk-timed-out")) {
                self.local_disk_failed(index, Why::DiskTimeout);
            }
        }
    }

    /// Whether clients lose nothing with this disk (H1).
    fn may_be_given_up(&self, index: usize) -> bool {
        let volume = &self.volumes[index];
        if !matches!(volume.disk, DiskState::UpToDate | DiskState::Consistent) {
            return true;
        }
        self.is_connected()
            && !self.handshake_under_way()
            && volume.peer_disk == DiskState::UpToDate
            && !self.peer_hangs_too()
    }

    /// Whether the peer has been silent for a good part of what makes our disk one that failed.
    fn peer_hangs_too(&self) -> bool {
        let patience = self.config.timeout.min(self.config.disk_timeout / 2);
        self.peer_owes_since().is_some_and(|since| since.after(patience) <= self.now)
    }

    /// Since when the peer's disk owes the oldest of the answers that are due.
    pub(crate) fn peer_owes_since(&self) -> Option<Timestamp> {
        let owed = self.ops.iter().filter(|(_, op)| op.peer == Leg::Open).map(|(_, op)| op.started);
        owed.chain(self.epochs.peer_flush_since()).min()
    }

    /// For how long the attached disk owes the oldest of its answers.
    pub(crate) fn unanswered_for(&self, index: usize, now: Timestamp) -> Option<Duration> {
        let attachment = self.volumes[index].attachment;
        self.volumes[index].local.as_ref()?;
        // An archive's steps also wait for the disk the archive goes to.
        let owed = |io: &Io| {
            let of_disk = !io.queued && !matches!(io.purpose, IoPurpose::Archive { .. });
            of_disk && io.volume == index && io.attachment == attachment
        };
        let oldest = self.ios.iter().filter(|(_, io)| owed(io)).map(|(_, io)| io.since).min()?;
        let since_event = now.since(self.now).min(limits::AWAKE_STEP_MAX);
        Some(self.awake.now().since(oldest) + since_event)
    }

    /// Operations of a disk that was let go of, which haven't come back.
    pub(crate) fn old_operations(&self, index: usize) -> u32 {
        let volume = &self.volumes[index];
        // An archive only reads, and may wait for the disk it goes to.
        let old = |io: &Io| {
            let of_disk = !matches!(io.purpose, IoPurpose::Archive { .. });
            of_disk && io.volume == index && (volume.local.is_none() || io.attachment != volume.attachment)
        };
        self.ios.iter().filter(|(_, io)| old(io)).count() as u32
    }

    /// Whether a disk must not be attached yet (H2).
    pub(crate) fn hangs_still(&self, index: usize) -> bool {
        self.old_operations(index) > 0 && !planted!("attach-beside-old-operations")
    }

    /// Lets go of a disk as it is, whatever is under way on it and on this node: as if it had failed. Also the last good one.
    pub(crate) fn detach_at_once(&mut self, index: usize) -> Option<Result<CommandOutcome, CommandError>> {
        if self.volumes[index].local.is_some() {
            self.let_go_of_disk(index, Why::Command);
        }
        Some(Ok(CommandOutcome::Done))
    }

    /// Nobody waits any more for disks to come to rest before they are let go of: they are let go of as they are. The peer goes
    /// by their being gone already.
    pub(crate) fn detaches_abandoned(&mut self) {
        let Some(transition) = self.transition.take() else { return };
        for step in transition.steps {
            if let Step::Detach { index, .. } = step
                && self.volumes[index].local.is_some()
            {
                self.let_go_of_disk(index, Why::Command);
            }
        }
    }
}
