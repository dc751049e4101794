//! What is known of the last comparison of an attached disk that this node led: how it ended, where it goes on, and which
//! of the blocks it found to differ are still marked.
//!
//! A *run* compares every block once. One that is stopped keeps its name and its place: asked for again, it goes on there.
//! The record is of this disk and the peer's: it goes with this node's, and begins anew when the peer's is another one.
//! It is kept in memory alone (decision 27).

use crate::action::Why;
use crate::dirty_bitmap::DirtyBitmap;
use crate::event::Timestamp;
use crate::snapshot::{VerifyRun, VerifyState};
use crate::volume::Volume;
use rep_types::{BLOCK_SIZE, BlockRange, planted};

/// How the last run stands.
#[derive(Debug)]
pub(crate) struct VerifyRecord {
    /// Its name; 0: there was none.
    run: u64,
    state: VerifyState,
    /// Everything before has been compared, in bytes.
    compared_until: u64,
    /// Where it went on last, in bytes; 0: it began there.
    resumed_at: u64,
    /// Blocks found to differ so far.
    different_blocks: u64,
    /// Those of them that are still marked.
    marked: DirtyBitmap,
    /// The peer's disk went while it ran: the run ends with nothing to go on from.
    outlived: bool,
}

impl VerifyRecord {
    pub fn new(volume_blocks: u64) -> Self {
        VerifyRecord {
            run: 0,
            state: VerifyState::Completed,
            compared_until: 0,
            resumed_at: 0,
            different_blocks: 0,
            marked: DirtyBitmap::new(volume_blocks),
            outlived: false,
        }
    }

    /// A run begins, by this name, or the one that was stopped goes on. Says where, in bytes, and what it has found.
    pub fn begin(&mut self, name: u64) -> (u64, u64) {
        let goes_on = matches!(self.state, VerifyState::Stopped(_)) && self.compared_until > 0;
        if !goes_on {
            self.run = name;
            self.start_over();
        }
        (self.state, self.outlived) = (VerifyState::Running, false);
        self.resumed_at = self.compared_until;
        (self.compared_until, self.different_blocks)
    }

    pub fn completed(&mut self, size_bytes: u64, different_blocks: u64) {
        (self.state, self.compared_until, self.different_blocks) =
            (VerifyState::Completed, size_bytes, different_blocks);
    }

    pub fn stopped(&mut self, why: Why, compared_until: u64, different_blocks: u64) {
        (self.state, self.compared_until, self.different_blocks) =
            (VerifyState::Stopped(why), compared_until, different_blocks);
        if self.outlived {
            self.start_over();
        }
    }

    /// The peer's disk is another one, or may be: what was compared says nothing of it.
    pub fn start_over(&mut self) {
        (self.compared_until, self.different_blocks) = (0, 0);
        self.outlived = self.state == VerifyState::Running;
        self.marked.clear_all();
    }

    /// A range has been compared, and none of it differs but what is noted after this.
    pub fn note_compared(&mut self, blocks: BlockRange) {
        self.marked.clear(blocks);
    }

    /// These blocks differ, and are marked.
    pub fn note_different(&mut self, blocks: BlockRange) {
        self.marked.set(blocks);
    }

    /// These blocks' marks are cleared.
    pub fn note_cleared(&mut self, blocks: BlockRange) {
        if !self.marked.is_empty() {
            self.marked.clear(blocks);
        }
    }

    /// All marks are.
    pub fn note_all_cleared(&mut self) {
        self.marked.clear_all();
    }

    pub fn resize(&mut self, volume_blocks: u64) {
        self.marked.resize(volume_blocks);
    }

    /// Bytes of the blocks it found that are still marked.
    pub fn marked_bytes(&self) -> u64 {
        self.marked.count() * BLOCK_SIZE
    }
}

impl Volume {
    /// The last run this node led, if what it was about is still here.
    pub(crate) fn verify_run(&self, now: Timestamp) -> Option<VerifyRun> {
        let record = self.local.as_ref().map(|local| &local.verified).filter(|record| record.run > 0)?;
        let running = self.verify.as_ref().map(|verify| verify.snapshot(self, now));
        Some(VerifyRun {
            run: record.run,
            state: record.state,
            compared_bytes: running.map_or(record.compared_until, |running| running.done_bytes),
            resumed_at_bytes: record.resumed_at,
            different_bytes: running.map_or(record.different_blocks * BLOCK_SIZE, |running| running.different_bytes),
            marked_bytes: record.marked_bytes(),
        })
    }

    /// The peer's disk is another one, or may be.
    pub(crate) fn forget_compared(&mut self) {
        if let Some(local) = self.local.as_mut().filter(|_| !planted!("verify-outlives-disk")) {
            local.verified.start_over();
        }
    }
}
