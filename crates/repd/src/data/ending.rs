//! The end of a thread: sockets and disks are let go of, and what the kernel still has is waited for, but not for long.

use super::io::Operation;
use super::limits::END_TIME_MAX;
use super::thread::{DataThread, survive};
use std::time::Instant;
use tracing::warn;

/// A thread that ends.
pub(super) struct Ending {
    deadline: Instant,
}

impl Ending {
    pub fn new(now: Instant) -> Self {
        Ending { deadline: now + END_TIME_MAX }
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl DataThread {
    /// Whether the thread may end now; asked once a turn.
    pub fn has_ended(&mut self) -> bool {
        let Some(ending) = &self.ending else { return false };
        let late = ending.deadline <= self.now;
        let pool = &mut self.buffers.pool;
        let link_ended = self.peer.shut_down(self.now, pool);
        let clients_ended = self.nbd.shut_down(self.now, pool) & self.ublk.shut_down();
        self.disks.close_all();
        let left = self.devices_left;
        let stays = |operation: &Operation| {
            matches!(operation, Operation::Wake) || (left && matches!(operation, Operation::Ublk(_)))
        };
        let at_rest = self.io.operations.iter().all(|(_, operation)| stays(operation));
        if at_rest && link_ended && clients_ended && self.disks.is_idle() {
            if left {
                // The last answers; the fetches they become end with the ring.
                survive(self.io.ring.hand_over());
            }
            // SAFETY: no operation is with the kernel but the one that wakes the thread, and fetches of requests of devices
            // that are left, which name no memory; none follows.
            unsafe { self.buffers.pool.is_at_rest() };
            return true;
        }
        if late {
            warn!("ended although operations were under way: a disk or a socket hangs");
        }
        late
    }
}
