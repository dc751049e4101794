//! What becomes of a disk that answers with an error (R32, `on-io-error`).
//!
//! | the disk failed at | `detach` | `pass-on`, while no other good copy is in reach |
//! |---|---|---|
//! | a client's read, a read for the peer's client | let go of | kept; the client gets the error |
//! | a client's write | let go of | kept; the client gets the error, the blocks are marked |
//! | a read for a resync | let go of | kept; the range stays out-of-sync, the target asks again |
//! | a flush, metadata, anything else | let go of | let go of |
//!
//! With another good copy in reach the disk is let go of under both: clients go on there without an error.
//!
//! What a disk holds where a write failed is the old, the new, or a mixture by sectors; none of it was answered. A resync's
//! target may have it whole: its blocks are marked, and the connection begins anew, so that both go by that.

use crate::Engine;
use crate::action::{Notice, Why};
use crate::operation::{IoPurpose, Leg, OperationKind, Stage};
use crate::slab::Key;
use rep_types::planted;
use rep_types::{ByteRange, DiskState, IoError, LinkCause, OnIoError};

impl Engine {
    /// A data operation failed.
    pub(crate) fn disk_error(&mut self, index: usize, purpose: IoPurpose) {
        if self.passes_on(index, purpose) {
            return self.pass_on(index, purpose);
        }
        // The disk is detached; that settles everything that hung on it, this operation included. Only a flush isn't
        // anybody's leg.
        if purpose.is_flush() {
            self.note_cache_lost(index);
            self.note_flush_lost(index);
        }
        self.local_disk_failed(index, Why::DiskError);
    }

    fn passes_on(&self, index: usize, purpose: IoPurpose) -> bool {
        let volume = &self.volumes[index];
        let good_elsewhere = self.is_connected() && volume.peer_disk == DiskState::UpToDate;
        let only_good = volume.disk == DiskState::UpToDate && !volume.detaching && !good_elsewhere;
        let passable = match purpose {
            IoPurpose::ClientRead(_) | IoPurpose::PeerRead(_) | IoPurpose::ResyncRead(_) => true,
            IoPurpose::ClientWrite(key) => self.is_nobody_elses(index, key),
            _ => false,
        };
        self.config.on_io_error == OnIoError::PassOn && only_good && passable
    }

    /// Whether no disk that may soon count has this write: the peer has none, or one that is being filled from here.
    fn is_nobody_elses(&self, index: usize, key: Key) -> bool {
        let alone = self.ops.get(key).is_none_or(|op| matches!(op.peer, Leg::Unused | Leg::Failed));
        alone || self.volumes[index].resync.as_ref().is_some_and(|resync| resync.is_source())
    }

    fn pass_on(&mut self, index: usize, purpose: IoPurpose) {
        let write = matches!(purpose, IoPurpose::ClientWrite(_));
        let (volume, range) = (self.volumes[index].number, self.range_of(purpose));
        self.notice(Notice::ErrorPassedOn { volume, write, range });
        match purpose {
            IoPurpose::ClientRead(key) => self.pass_on_read(key),
            IoPurpose::ClientWrite(key) => self.pass_on_write(index, key),
            IoPurpose::PeerRead(key) => self.end_peer_request(key, Err(IoError::Io), None),
            IoPurpose::ResyncRead(key) => self.resync_read_failed(key),
            _ => {}
        }
    }

    fn range_of(&self, purpose: IoPurpose) -> Option<ByteRange> {
        match purpose {
            IoPurpose::ClientRead(key) | IoPurpose::ClientWrite(key) | IoPurpose::ResyncRead(key) => {
                self.ops.get(key).map(|op| op.range)
            }
            IoPurpose::PeerRead(key) => self.peer_requests.get(key).map(|request| request.range),
            _ => None,
        }
    }

    fn pass_on_read(&mut self, key: Key) {
        if self.ops.get(key).is_some_and(|op| op.kind == OperationKind::Read && op.local == Leg::Open) {
            self.end_operation(key, Err(IoError::Io));
        }
    }

    fn pass_on_write(&mut self, index: usize, key: Key) {
        let Some(op) = self.ops.get_mut(key).filter(|op| op.local == Leg::Open) else { return };
        (op.local, op.passed_on) = (Leg::Failed, true);
        let (range, mirrored) = (op.range, matches!(op.peer, Leg::Open | Leg::Done));
        if !planted!("passed-on-write-unmarked") {
            self.volumes[index].mark_out_of_sync(range.blocks_touched());
            if mirrored {
                self.drop_link(LinkCause::Restart);
            }
        }
        self.end_write_if_closed(key);
    }

    /// A write that was passed on has nothing under way any more. Where no flush is sent because writes are stable when they are
    /// done, this one isn't: what landed of it would be read, and be gone after a power cut. So it is flushed first.
    pub(crate) fn answer_passed_on(&mut self, key: Key) {
        if planted!("passed-on-write-answered") {
            return self.end_operation(key, Ok(()));
        }
        if !self.answers_stable() {
            return self.end_operation(key, Err(IoError::Io));
        }
        if let Some(op) = self.ops.get_mut(key) {
            op.stage = Stage::Flushing;
        }
        self.fua_waits(key);
    }
}
