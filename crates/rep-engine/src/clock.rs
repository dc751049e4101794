//! What happens because time passes, and the completions of disk operations.

use crate::action::Why;
use crate::event::{DiskSuccess, Timestamp};
use crate::operation::IoPurpose;
use crate::slab::Key;
use crate::volume::Volume;
use crate::{Engine, limits};
use rep_types::planted;
use rep_types::{IoError, IoId};

impl Engine {
    /// When [`crate::Event::Timeout`] is due; `None`: never, as things are.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let cooling = self.volumes.iter().any(Volume::may_cool).then_some(self.next_cooling.max(Timestamp(1)));
        let times = [
            self.link_timeout(),
            self.epochs.close_due(),
            self.resync_timeout(),
            self.verify_timeout(),
            self.archive_timeout(),
            self.promotion_granted_until,
            self.promotion_asked_until,
            self.fence_timeout(),
            self.measure_timeout(),
            self.disk_timeout_due(),
            cooling,
        ];
        times.into_iter().flatten().min()
    }

    pub(crate) fn check_timers(&mut self) {
        self.check_link();
        self.check_disks();
        if self.epochs.close_due().is_some_and(|due| due <= self.now) {
            self.request_epoch_close();
        }
        self.check_archives();
        self.check_fence();
        self.check_measures();
        if self.promotion_granted_until.is_some_and(|until| until <= self.now) {
            self.promotion_granted_until = None;
        }
        if self.next_cooling <= self.now {
            self.next_cooling = self.now.after(limits::COOLING_INTERVAL);
            for index in 0..self.volumes.len() {
                if self.volumes[index].may_cool() {
                    self.cool_log(index, limits::COOLING_EXTENTS_MAX);
                }
            }
        }
    }

    /// A data operation ended.
    pub(crate) fn disk_done(&mut self, io: IoId, result: Result<DiskSuccess, IoError>) {
        let payload = result.ok().and_then(|success| success.payload);
        let Some(io) = self.ios.remove(Key(io.0)) else { return self.release(payload) };
        let index = io.volume;
        if io.attachment != self.volumes[index].attachment || self.volumes[index].local.is_none() {
            // A flush that failed is final also for a disk let go of meanwhile: attached again, it may lack writes.
            self.volumes[index].cache_lost |= result.is_err() && io.purpose.is_flush();
            return self.release(payload);
        }
        let ignored = planted!("failed-flush-ignored") && io.purpose.is_flush()
            || planted!("failed-write-ignored")
                && matches!(io.purpose, IoPurpose::ClientWrite(_) | IoPurpose::PeerWrite(_))
            || planted!("failed-read-ignored") && matches!(io.purpose, IoPurpose::ClientRead(_));
        let result = if ignored { Ok(result.unwrap_or_default()) } else { result };
        let success = match result {
            Ok(success) => success,
            Err(_) => return self.disk_error(index, io.purpose),
        };
        if io.purpose.is_flush() {
            self.flush_ended(index);
        }
        match io.purpose {
            IoPurpose::ClientWrite(key) => self.local_leg_done(key),
            IoPurpose::ClientRead(key) => self.local_read_done(key, success.payload),
            IoPurpose::PeerWrite(key) => self.end_peer_request(key, Ok(()), None),
            IoPurpose::PeerRead(key) => self.end_peer_request(key, Ok(()), success.payload),
            IoPurpose::ResyncRead(key) => self.resync_read_done(key, success),
            IoPurpose::ResyncWrite(key) => self.resync_write_done(key),
            IoPurpose::EpochFlush => self.epoch_flushed_locally(index, Ok(())),
            IoPurpose::SourceFlush { serial } => self.source_flushed(index, serial),
            IoPurpose::DetachFlush => self.detach_flushed(index),
            IoPurpose::PeerFlush { session, id } => self.peer_flushed_locally(index, session, id, Ok(())),
            IoPurpose::VerifyRead(_) | IoPurpose::CompareRead(_) | IoPurpose::Archive { .. } | IoPurpose::Meta(_) => {}
        }
    }

    /// Digests of a range, or why there are none.
    pub(crate) fn digested(&mut self, io: IoId, result: Result<Vec<u8>, IoError>) {
        let Some(io) = self.ios.remove(Key(io.0)) else { return };
        let index = io.volume;
        if io.attachment != self.volumes[index].attachment || self.volumes[index].local.is_none() {
            return;
        }
        match (io.purpose, result) {
            (IoPurpose::VerifyRead(key), Ok(digests)) => self.verify_read_done(key, digests),
            (IoPurpose::CompareRead(key), Ok(digests)) => self.compare_read_done(key, digests),
            (_, Ok(_)) => {}
            (_, Err(_)) => self.local_disk_failed(index, Why::DiskError),
        }
    }
}

impl Volume {
    /// Whether idle extents may be in the log.
    fn may_cool(&self) -> bool {
        self.attaching.is_none() && self.local.as_ref().is_some_and(|local| local.log.hot_count() > 0)
    }
}
