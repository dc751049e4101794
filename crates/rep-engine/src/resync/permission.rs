//! The before-resync-target handler: the operator's program may take a snapshot of a disk before a resync makes it
//! Inconsistent, or say no (DRBD's handler of that name).
//!
//! ```text
//!  bitmaps united ─► asked ─► yes ─► archive, durably Inconsistent, blocks
//!                      └────► no, failed, too slow ─► nothing is overwritten; StandAlone until `connect`
//! ```

use super::Stage;
use crate::Engine;
use crate::action::{Action, Notice};
use crate::event::ResyncId;
use rep_types::ConnectionState;

impl Engine {
    pub(super) fn ask_before_resync(&mut self, index: usize) -> bool {
        let volume = &mut self.volumes[index];
        let Some(resync) = &mut volume.resync else { return false };
        resync.stage = Stage::TargetAsks;
        self.out.push(Action::AskBeforeResync { id: ResyncId(resync.serial), volume: volume.number });
        true
    }

    /// The handler has ended. What it says counts for the resync it was asked about, and no other.
    pub(crate) fn resync_answered(&mut self, id: ResyncId, allowed: bool) {
        let asked = |volume: &crate::volume::Volume| {
            volume.resync.as_ref().is_some_and(|resync| resync.stage == Stage::TargetAsks && resync.serial == id.0)
        };
        let Some(index) = self.volumes.iter().position(asked) else { return };
        if allowed {
            self.target_goes_on(index);
            return;
        }
        let volume = self.volumes[index].number;
        self.notice(Notice::ResyncNotAllowed { volume });
        self.resync_refused = true;
        self.refuse(ConnectionState::StandAlone);
    }
}
