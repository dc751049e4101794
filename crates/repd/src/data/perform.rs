//! Actions of the engine become operations of the ports.

use super::disks::{DiskContext, slot_of};
use super::limits::PEER_QUEUE_BYTES_MAX;
use super::nbd::NbdContext;
use super::notices;
use super::thread::{Allocation, DataThread};
use super::ublk::UblkPort;
use rep_disk::Kind;
use rep_engine::{Action, Event, Notice, Offer};
use rep_types::{ByteRange, VolumeNumber};

impl DataThread {
    /// Does an action.
    pub fn perform(&mut self, action: Action) {
        match action {
            Action::WriteDisk { .. }
            | Action::ZeroDisk { .. }
            | Action::ReadDisk { .. }
            | Action::DigestDisk { .. }
            | Action::FlushDisk { .. }
            | Action::WriteMeta { .. } => self.perform_on_disk(action),
            Action::Archive { io, volume, step } => {
                let disk = self.disks.get(volume).map(|open| &open.data);
                self.archives.step(io, volume, step, disk);
            }
            Action::DropArchive { volume } => self.archives.drop_archive(volume),
            Action::MeasureDisk { volume } => {
                if let Some((device_bytes, metadata_device_bytes)) = self.disks.measure(volume) {
                    self.events.push(Event::DiskMeasured { volume, device_bytes, metadata_device_bytes });
                }
            }
            Action::CloseDisk { volume } => self.disks.close(volume),
            Action::Send { session, message, payload } => {
                let slot = payload.map(slot_of);
                slot.into_iter().for_each(|slot| self.buffers.pool.retain(slot));
                self.peer.send(session, &message, slot, &mut self.buffers.pool);
            }
            Action::WantLink { wanted } => self.peer.want(wanted, self.now),
            Action::CloseLink { session, cause } => self.peer.close(session, cause, self.now, &mut self.buffers.pool),
            Action::Complete { request, result, payload } if UblkPort::is_own(request) => {
                self.ublk.complete(request, result, payload, &mut self.buffers.pool);
            }
            Action::Complete { request, result, payload } => {
                self.nbd.complete(request, result, payload, &mut self.buffers.pool);
            }
            Action::Release { payload } => self.buffers.pool.release(slot_of(payload)),
            Action::Export { volume, offer } => self.export(volume, offer),
            Action::CommandDone { id, result } => self.command_done(id, result),
            // The control thread ends with the daemon: then nobody need be asked any more.
            Action::FencePeer { id } => drop(self.fence.send(id)),
            Action::AskBeforeResync { id, volume } => drop(self.resync.send((id, volume))),
            Action::Notice(notice) => self.notice(notice),
        }
    }

    fn perform_on_disk(&mut self, action: Action) {
        let mut context = DiskContext { io: &mut self.io, buffers: &mut self.buffers, events: &mut self.events };
        match action {
            Action::WriteDisk { io, volume, range, payload, payload_offset, durable } => {
                self.disks.write((volume, io), range, (payload, payload_offset), durable, &mut context);
            }
            Action::ZeroDisk { io, volume, range, mode, durable } => {
                self.disks.other((volume, io), Kind::Zero { mode, durable }, range, &mut context);
            }
            Action::ReadDisk { io, volume, range, into } => {
                self.disks.read((volume, io), range, into, &mut context);
            }
            Action::DigestDisk { io, volume, range, key } => {
                self.disks.digest((volume, io), range, key, &mut context);
            }
            Action::FlushDisk { io, volume } => {
                self.disks.other((volume, io), Kind::Flush, ByteRange::new(0, 0), &mut context);
            }
            Action::WriteMeta { io, volume, offset, block } => {
                self.disks.write_meta((volume, io), offset, block, &mut context);
            }
            _ => unreachable!("not a disk's"),
        }
    }

    fn export(&mut self, volume: VolumeNumber, offer: Option<Offer>) {
        if let Some(offer) = offer {
            self.ublk.export(volume, offer);
            self.nbd.export(volume, offer, self.now);
            return;
        }
        self.ublk.withdraw(volume);
        let allocation = Allocation { disks: &self.disks, volumes: &self.volumes };
        let mut context = NbdContext {
            pool: &mut self.buffers.pool,
            events: &mut self.events,
            allocation: &allocation,
            now: self.now,
            paused: self.peer.queued_bytes() > PEER_QUEUE_BYTES_MAX,
        };
        self.nbd.withdraw(volume, &mut context);
    }

    fn notice(&mut self, notice: Notice) {
        if let Notice::Disk { volume, to, .. } = notice
            && let Some(config) = self.volumes.iter_mut().find(|config| config.number == volume)
        {
            config.state = to;
        }
        notices::log(&notice);
        // Without a subscriber there is nobody to tell.
        let _ = self.notices.send(notice);
    }
}
