//! Each node tells the other its role and its disks, whenever they change.

use crate::Engine;
use crate::action::Why;
use rep_types::planted;
use rep_types::{DiskState, LinkCause, Role, VolumeNumber};
use rep_wire::ControlMessage;

impl Engine {
    /// Tells the peer our role and disks.
    ///
    /// A disk being let go of takes nothing any more, so it is told as gone already.
    pub(crate) fn send_state(&mut self) {
        let told = |volume: &crate::volume::Volume| if volume.detaching { DiskState::Diskless } else { volume.disk };
        let disks = self.volumes.iter().map(|volume| (volume.number, told(volume))).collect();
        self.send(ControlMessage::State { role: self.role, disks }, None);
    }

    /// The peer tells its role and disks.
    pub(crate) fn peer_state(&mut self, role: Role, disks: Vec<(VolumeNumber, DiskState)>) {
        if !self.is_connected() {
            return;
        }
        if role == Role::Primary && self.peer_role != Some(Role::Primary) {
            self.forget_last_primary();
            // The promotion we agreed to has come about; from here on its role says what is refused.
            self.promotion_granted_until = None;
        }
        self.set_peer_role(Some(role), Why::Peer);
        self.forwarding_hears();
        if disks.iter().any(|(number, disk)| self.comes_back(*number, *disk)) {
            // It lacks what it was sent meanwhile: that takes a handshake, and a resync.
            return self.drop_link(LinkCause::Restart);
        }
        for (number, disk) in disks {
            let Some(index) = self.volume_index(number) else { continue };
            let before = self.volumes[index].peer_disk;
            let lost = before.takes_writes() && !disk.takes_writes();
            if lost && !planted!("lost-peer-disk-unnoticed") {
                self.peer_disk_lost(index, disk);
                if self.link.is_none() {
                    return;
                }
            } else if before != disk && disk != DiskState::DUnknown {
                self.set_peer_disk(index, disk, Why::Peer);
                self.peer_disk_became_good(index);
            }
        }
        if role == Role::Primary {
            (0..self.volumes.len()).for_each(|index| self.carry_for_diskless_primary(index));
        }
    }

    /// Whether the peer is Primary by its word, or was granted that it becomes it.
    pub(crate) fn peer_may_be_primary(&self) -> bool {
        self.peer_role == Some(Role::Primary) || self.promotion_granted_until.is_some()
    }

    /// Whether the peer calls a disk good that has failed us, without a handshake about it.
    fn comes_back(&self, number: VolumeNumber, disk: DiskState) -> bool {
        let before = self.volume_index(number).map(|index| self.volumes[index].peer_disk);
        before == Some(DiskState::Failed) && disk == DiskState::UpToDate
    }
}
