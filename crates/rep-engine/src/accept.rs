//! What follows from a handshake in which both have agreed: the two are connected, and each volume is resynced or isn't.

use crate::Engine;
use crate::action::{Notice, Why};
use crate::block_sizes::whole_blocks;
use crate::handshake::settles_split_brain;
use crate::volume::settle_crash;
use rep_types::{
    BLOCK_SIZE, ByBitmapOrFull, ConnectionState, DiskState, GenerationId, ReplicationState, Role, SyncDecision,
    SyncRule, SyncVerdict, VolumeNumber,
};
use rep_wire::{NodeView, VolumeView};

impl Engine {
    pub(crate) fn accept(&mut self, decisions: &[(VolumeNumber, SyncDecision)], peer: &NodeView) {
        self.set_connection(ConnectionState::Connected, Why::Handshake);
        self.tell_forwarded();
        self.forwarding_met(decisions);
        self.promoted_alone = false;
        self.archive_refused = false;
        self.set_peer_role(Some(peer.role), Why::Handshake);
        self.epochs.touch(self.now);
        if peer.role == Role::Primary {
            self.forget_last_primary();
        }
        for (number, decision) in decisions {
            let Some(index) = self.volume_index(*number) else { continue };
            if let Some(view) = peer.volumes.iter().find(|view| view.volume == *number) {
                self.accept_volume(index, *decision, peer.role, view);
            }
        }
        // What needs no word on disk is good from now on, before what was held for the fence goes to it.
        for index in 0..self.volumes.len() {
            self.progress_adoption(index);
        }
        self.fence_joined();
        self.tell_pauses();
        self.send_state();
    }

    fn accept_volume(&mut self, index: usize, decision: SyncDecision, peer_role: Role, peer: &VolumeView) {
        self.set_peer_disk(index, peer.disk, Why::Handshake);
        let volume = &mut self.volumes[index];
        (volume.found_different, volume.unmet) = (false, false);
        if decision.rule != SyncRule::NoDisk {
            (volume.found_good_on, volume.parted_unequal) = (None, false);
        }
        self.agree_on_blocks(index, peer);
        let volume = &mut self.volumes[index];
        if volume.local.is_none() {
            volume.exposed = peer.generations.current;
            volume.served_last = GenerationId::NONE;
        }
        self.agree_on_size(index, peer);
        let volume = &mut self.volumes[index];
        volume.growth.met(peer, volume.local.as_ref().map(|local| local.superblock()));
        let volume = &self.volumes[index];
        let dirty = volume.out_of_sync_blocks().max(peer.out_of_sync_blocks).saturating_mul(BLOCK_SIZE);
        self.notice(Notice::Decided { volume: volume.number, decision, out_of_sync_bytes: dirty });
        if let SyncVerdict::Source(ByBitmapOrFull::Full) | SyncVerdict::Target(ByBitmapOrFull::Full) = decision.verdict
        {
            self.volumes[index].forget_compared();
        }
        match decision.verdict {
            SyncVerdict::Source(extent) => {
                self.begin_resync_source(index, extent == ByBitmapOrFull::Full, settles_split_brain(decision))
            }
            SyncVerdict::Target(extent) => {
                self.begin_resync_target(index, extent == ByBitmapOrFull::Full, settles_split_brain(decision))
            }
            SyncVerdict::Nothing | SyncVerdict::Refuse(_) => {
                self.set_replication(index, ReplicationState::Established, Why::Handshake);
                if decision.rule != SyncRule::NoDisk {
                    self.found_equal(index, peer);
                } else if peer_role == Role::Primary {
                    self.carry_for_diskless_primary(index);
                }
            }
        }
    }

    /// Both disks hold the same. If that is good data, this disk is UpToDate from now on.
    fn found_equal(&mut self, index: usize, peer: &VolumeView) {
        let volume = &mut self.volumes[index];
        let good = volume.disk.is_consistent() && peer.disk.is_consistent();
        let boot = volume.boot;
        let Some(local) = &mut volume.local else { return };
        if !good {
            return;
        }
        let ticket = local.update_superblock(|superblock| {
            crate::generation::settle(&mut superblock.generations);
            superblock.finish_told = false;
            superblock.make_consistent();
            superblock.peer_outdated = false;
            settle_crash(superblock, boot);
        });
        // Bits that cleared before the end of a resync was heard of may still stand on the disk.
        local.flush_bitmap();
        volume.settling = Some(ticket);
        if volume.disk != DiskState::UpToDate {
            volume.adopting = Some(ticket);
        }
    }

    /// The size is the smaller disk's, remembered (R34).
    fn agree_on_size(&mut self, index: usize, peer: &VolumeView) {
        let volume = &mut self.volumes[index];
        let Some(local) = &mut volume.local else {
            if peer.agreed_bytes > 0 {
                volume.set_size(peer.agreed_bytes);
            }
            return;
        };
        let known = local.superblock().agreed_bytes.max(peer.agreed_bytes);
        let both = local.superblock().available_bytes.min(peer.available_bytes);
        let both = whole_blocks(both, volume.block_bytes);
        let agreed = if known > 0 { known } else { both };
        let differs = local.superblock().agreed_bytes != agreed;
        if agreed > 0 && (!differs || peer.disk != DiskState::Diskless) {
            local.update_superblock(|superblock| superblock.agreed_bytes = agreed);
            local.set_size(agreed);
            volume.set_size(agreed);
        }
    }

    /// The peer is Primary now: this node is no longer the last one.
    pub(crate) fn forget_last_primary(&mut self) {
        for volume in &mut self.volumes {
            // Whoever made it Primary has said whose data count, or has them.
            volume.let_go_good = None;
            if let Some(local) = &mut volume.local
                && local.superblock().last_primary
            {
                local.update_superblock(|superblock| superblock.last_primary = false);
            }
        }
    }
}
