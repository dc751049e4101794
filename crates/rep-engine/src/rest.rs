//! Volumes of which nothing is under way but clients' requests.
//!
//! After every event the engine does what has become possible (`Engine::progress`), and nearly all events are parts of clients'
//! requests, for which nothing of that is ever due: asking each feature in turn was a quarter of a write's instructions. So the
//! volume is asked once whether anything is under way at all. What makes it so is said here, or beside the state of a feature
//! that has much of it: who adds a feature with work of its own to do later adds what means that there is none.

use crate::engine::Engine;
use crate::volume::Volume;
use rep_types::planted;

impl Volume {
    /// Whether nothing can have become possible of this volume but clients' requests.
    pub fn is_at_rest(&self, connected: bool) -> bool {
        let Some(local) = &self.local else { return false };
        let agreed_bytes = local.superblock().agreed_bytes;
        local.is_at_rest()
            && (self.recording.is_none() || planted!("work-left-at-rest"))
            && self.attaching.is_none()
            && self.settling.is_none()
            && self.adopting.is_none()
            && self.resync.is_none()
            && self.verify.is_none()
            && self.repair_from.is_none()
            && !self.owes_disk_lost_answer
            && self.starved.is_at_rest()
            // Without, clients are told that they wait.
            && self.has_good_data(connected)
            && self.growth.is_at_rest(agreed_bytes, connected.then_some(local.room()))
            && self.offered_bytes.is_none_or(|offered| offered >= self.size_bytes)
    }
}

impl Engine {
    /// Where assertions are built in, as in tests and the simulator: nothing is missed by leaving a volume at rest alone.
    #[inline(always)]
    pub(crate) fn assert_at_rest(&mut self, index: usize) {
        if cfg!(debug_assertions) {
            let before = self.out.len();
            let moved = self.progress_volume(index);
            assert!(
                !moved && self.out.len() == before,
                "a volume is taken to be at rest that isn't: {:?}",
                &self.out[before..]
            );
        }
    }
}
