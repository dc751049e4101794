//! Saving what a split brain's victim is about to lose: its blocks go to an archive before it counts as Inconsistent.
//!
//! ```text
//!  bitmaps united ─► Begin ─► Copy, Copy, … ─► Finish ─► every volume of the victim archived ─► durably Inconsistent
//!                      └─────────┴── failed, stalled ───────┴─► nothing is given up: SplitBrain again
//! ```
//!
//! What is copied is every block of the united bitmap, or of the volume. The victim is Secondary and takes no write
//! from the peer meanwhile, so the archive is of one moment.
//!
//! Invariants:
//! - A1 no block of a victim is overwritten, and no volume of it counts as Inconsistent on disk, before the archives of
//!   all volumes are finished and stable;
//! - A2 where the victim's old content differs from the survivor's, as that was at any moment between the split and the
//!   beginning of this resync, it is in the archive: whatever the survivor's clients wrote until its bitmap travelled
//!   is marked in it, and what they write later is no part of such a moment.

use super::Stage;
use crate::action::{Action, ArchiveHead, ArchiveStep, Notice, Why};
use crate::config::ArchiveScope;
use crate::event::{ArchiveError, Timestamp};
use crate::operation::IoPurpose;
use crate::slab::Key;
use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{BlockIndex, BlockRange, ByteRange, ConnectionState, Generations, IoId};

/// How far an archive is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Archiving {
    scope: ArchiveScope,
    step: Step,
    /// When a step last began or ended.
    moved: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Beginning,
    /// So many ranges are being copied.
    Copying(usize),
    Finishing,
}

impl Engine {
    pub(super) fn begin_archive(&mut self, index: usize, scope: ArchiveScope) -> bool {
        let moved = self.now;
        let volume = &mut self.volumes[index];
        let (Some(resync), Some(local)) = (&mut volume.resync, &volume.local) else { return false };
        resync.stage = Stage::TargetArchives(Archiving { scope, step: Step::Beginning, moved });
        (resync.cursor, resync.archived_bytes) = (BlockIndex(0), 0);
        let survivor = volume.peer_told.map_or(Generations::JUST_CREATED, |told| told.generations);
        let generations = local.superblock().generations;
        let head = ArchiveHead { size_bytes: volume.size_bytes, scope, generations, survivor };
        self.archive_step(index, ArchiveStep::Begin(head));
        true
    }

    fn archive_step(&mut self, index: usize, step: ArchiveStep) {
        let serial = self.volumes[index].resync.as_ref().map_or(0, |resync| resync.serial);
        let io = self.new_io(index, IoPurpose::Archive { serial });
        self.out.push(Action::Archive { io, volume: self.volumes[index].number, step });
    }

    /// Has as much copied as may be under way; when all is, the archive is finished.
    pub(super) fn archive_blocks(&mut self, index: usize, archiving: Archiving) -> bool {
        let Step::Copying(mut under_way) = archiving.step else { return false };
        let begun = under_way;
        while under_way < limits::ARCHIVE_REQUESTS_MAX {
            let Some(range) = self.next_to_archive(index, archiving.scope) else { break };
            under_way += 1;
            self.archive_step(index, ArchiveStep::Copy(range));
        }
        let step = if under_way > 0 { Step::Copying(under_way) } else { Step::Finishing };
        if step == Step::Finishing {
            self.archive_step(index, ArchiveStep::Finish);
        }
        let moved = step != Step::Copying(begun);
        if let Some(resync) = self.volumes[index].resync.as_mut().filter(|_| moved) {
            resync.stage = Stage::TargetArchives(Archiving { step, moved: self.now, ..archiving });
        }
        moved
    }

    /// The next range to archive. Moves the cursor past it.
    fn next_to_archive(&mut self, index: usize, scope: ArchiveScope) -> Option<ByteRange> {
        let volume = &mut self.volumes[index];
        let (resync, local) = (volume.resync.as_mut()?, volume.local.as_ref()?);
        let run = match scope {
            ArchiveScope::Differing => local.bitmap().next_run(resync.cursor, limits::RESYNC_BLOCKS_MAX)?,
            ArchiveScope::All => {
                let blocks = volume.size_bytes.div_ceil(rep_types::BLOCK_SIZE);
                let left = blocks.checked_sub(resync.cursor.0).filter(|left| *left > 0)?;
                BlockRange { first: resync.cursor, count: left.min(limits::RESYNC_BLOCKS_MAX) }
            }
        };
        resync.cursor = BlockIndex(run.end());
        let kept = if planted!("archive-skips-blocks") { run.count.div_ceil(2) } else { run.count };
        let range = BlockRange { count: kept, ..run }.bytes(volume.size_bytes)?;
        resync.archived_bytes += u64::from(range.length);
        Some(range)
    }

    /// A step ended.
    pub(crate) fn archived(&mut self, io: IoId, result: Result<(), ArchiveError>) {
        let Some(io) = self.ios.remove(Key(io.0)) else { return };
        let index = io.volume;
        let volume = &mut self.volumes[index];
        let IoPurpose::Archive { serial } = io.purpose else { return };
        let Some(resync) = volume.resync.as_mut().filter(|resync| resync.serial == serial) else { return };
        let Stage::TargetArchives(archiving) = resync.stage else { return };
        if io.attachment != volume.attachment || volume.local.is_none() {
            return;
        }
        match (result, archiving.step) {
            (Err(ArchiveError::Disk), _) => return self.local_disk_failed(index, Why::DiskError),
            (Err(ArchiveError::Archive), _) => return self.archive_failed(index),
            (Ok(()), Step::Finishing) => return self.archive_finished(index),
            (Ok(()), _) => {}
        }
        let under_way = match archiving.step {
            Step::Copying(under_way) => under_way.saturating_sub(1),
            _ => 0,
        };
        let next = Archiving { step: Step::Copying(under_way), moved: self.now, ..archiving };
        resync.stage = Stage::TargetArchives(next);
    }

    fn archive_finished(&mut self, index: usize) {
        let volume = &mut self.volumes[index];
        let number = volume.number;
        let Some(resync) = &mut volume.resync else { return };
        (resync.stage, resync.cursor) = (Stage::TargetArchived, BlockIndex(0));
        let saved_bytes = resync.archived_bytes;
        self.notice(Notice::Archived { volume: number, saved_bytes });
    }

    /// Whether nothing of the victim is still to be archived (A1).
    pub(super) fn all_are_archived(&self) -> bool {
        let resyncs = self.volumes.iter().filter_map(|volume| volume.resync.as_ref());
        let open = |stage| matches!(stage, Stage::TargetExchange | Stage::TargetAsks | Stage::TargetArchives(_));
        !resyncs.filter(|resync| resync.settles_split_brain).any(|resync| open(resync.stage))
    }

    /// What can't be saved isn't given up.
    fn archive_failed(&mut self, index: usize) {
        let volume = self.volumes[index].number;
        self.notice(Notice::ArchiveFailed { volume });
        self.archive_refused = true;
        self.refuse(ConnectionState::SplitBrain);
    }

    /// When an archive that stands still has failed.
    pub(crate) fn archive_timeout(&self) -> Option<Timestamp> {
        let due = self.volumes.iter().filter_map(|volume| match volume.resync.as_ref()?.stage {
            Stage::TargetArchives(archiving) => Some(archiving.moved.after(limits::ARCHIVE_STALL_MAX)),
            _ => None,
        });
        due.min()
    }

    pub(crate) fn check_archives(&mut self) {
        for index in 0..self.volumes.len() {
            let stage = self.volumes[index].resync.as_ref().map(|resync| resync.stage);
            if let Some(Stage::TargetArchives(archiving)) = stage
                && archiving.moved.after(limits::ARCHIVE_STALL_MAX) <= self.now
            {
                return self.archive_failed(index);
            }
        }
    }
}
