//! A node's data are given up at the operator's word, here or there, and filled from the other's.

use crate::Engine;
use crate::action::Why;
use crate::command::CommandError;
use crate::local_disk::BitmapTicket;
use crate::operator::{Answer, Progress, Step, refused};
use rep_meta::DataState;
use rep_types::{CommandId, DiskState, Refusal, Role, VolumeNumber};
use rep_wire::{ControlMessage, TransferId};

impl Engine {
    /// What a resync on command needs.
    pub(crate) fn resync_refusal(&self, index: usize) -> Option<Refusal> {
        let volume = &self.volumes[index];
        if !self.is_connected() {
            Some(Refusal::NotConnected)
        } else if self.handshake_under_way() {
            Some(Refusal::HandshakeUnderWay)
        } else if volume.local.is_none() {
            Some(Refusal::Diskless)
        } else if volume.resync.is_some() {
            Some(Refusal::ResyncUnderWay)
        } else {
            None
        }
    }

    pub(crate) fn invalidate(&mut self, id: CommandId, index: usize) -> Option<Answer> {
        if let Some(refusal) = self.resync_refusal(index) {
            return refused(refusal);
        }
        if self.volumes[index].peer_disk != DiskState::UpToDate {
            return refused(Refusal::OnlyGoodCopy);
        }
        self.begin_transition(
            id,
            [Step::Invalidate { index, full: true, ticket: None }, Step::AwaitResync { index, told: None }],
        )
    }

    pub(crate) fn poll_invalidate(&mut self, index: usize, full: bool, ticket: Option<BitmapTicket>) -> Progress {
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else { return Progress::Failed(CommandError::DiskFailed) };
        let Some(ticket) = ticket else {
            volume.in_sync.clear_all();
            volume.adopting = None;
            if full {
                local.mark_all_out_of_sync();
            }
            let ticket = local.flush_bitmap();
            // Nobody is to take the disk for good while every block of it is marked (I-B10).
            self.set_disk(index, DiskState::Inconsistent, Why::Command);
            self.send_state();
            return Progress::Moved(Step::Invalidate { index, full, ticket: Some(ticket) });
        };
        if !local.bitmap_durable(ticket) {
            return Progress::Waits;
        }
        local.update_superblock(|superblock| {
            superblock.data = DataState::Inconsistent;
            // Also where the two are equal: a disk may be written anew because its old sectors aren't trusted.
            superblock.every_block |= full;
        });
        self.begin_handshake();
        Progress::Done
    }

    pub(crate) fn invalidate_peer(&mut self, id: CommandId, index: usize, volume: VolumeNumber) -> Option<Answer> {
        if let Some(refusal) = self.resync_refusal(index) {
            return refused(refusal);
        }
        if self.volumes[index].disk != DiskState::UpToDate {
            return refused(Refusal::NoUpToDateDisk);
        }
        if !self.volumes[index].peer_disk.takes_writes() {
            return refused(Refusal::Diskless);
        }
        if self.peer_role == Some(Role::Primary) {
            return refused(Refusal::PeerIsPrimary);
        }
        self.send(ControlMessage::Invalidate { volume, full: true }, None);
        let told = self.ping_anew();
        self.begin_transition(id, [Step::AwaitResync { index, told }])
    }

    /// The peer has answered a ping. One that gives its data up says so before.
    pub(crate) fn peer_has_heard_of(&mut self, ping: TransferId) {
        let step = self.transition.as_ref().and_then(|transition| transition.steps.front());
        let Some(Step::AwaitResync { index, told }) = step else { return };
        let (index, told) = (*index, *told);
        let gives_up = self.volumes[index].peer_disk != DiskState::UpToDate || self.handshake_under_way();
        if told == Some(ping) && !gives_up {
            self.end_transition(Some(CommandError::Refused(Refusal::PeerBusy)));
        }
    }

    /// The peer's operator has us give our data up.
    pub(crate) fn invalidated_by_peer(&mut self, number: VolumeNumber, full: bool) {
        let Some(index) = self.volume_index(number) else { return };
        let allowed = self.resync_refusal(index).is_none()
            && self.role == Role::Secondary
            && self.volumes[index].peer_disk == DiskState::UpToDate
            && self.transition.is_none();
        if allowed {
            self.begin_transition(CommandId(0), [Step::Invalidate { index, full, ticket: None }]);
            self.nobody_waits();
        }
    }

    pub(crate) fn poll_await_resync(&mut self, index: usize) -> Progress {
        if !self.is_connected() {
            return Progress::Failed(CommandError::PeerLost);
        }
        if self.volumes[index].replication.is_resync() { Progress::Done } else { Progress::Waits }
    }
}
