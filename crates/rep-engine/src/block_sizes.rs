//! The logical blocks of a volume: what clients' offsets and lengths are multiples of.
//!
//! ```text
//!  this disk ───┐
//!  remembered ──┼──► the largest ──► remembered by both, durably ──► offered
//!  peer's view ─┘                                                      │
//!                    stands while it is offered: a disk that needs more is refused
//! ```
//!
//! One of the two disks may have larger logical blocks than the other (512 bytes here, 4 KiB there). A request of less than
//! a block can't be done there, and the disk would be given up for an error that is none of its own. So clients are
//! offered what both disks can do. It is a part of the volume as its size is: remembered, so that a Primary without its peer
//! goes on offering it, and never made smaller, because partition tables and file systems count in it.
//!
//! It becomes larger when the nodes meet and neither has clients. Those of a Primary, those of a node that forwards what they
//! ask, and those an earlier daemon left behind with their device (R35) have been told: a disk that needs more is refused, at the attach or by the handshake.
//!
//! Discards go the same way: they are offered where both disks give the space back and read as zeroes there, since elsewhere
//! one is a write of zeroes, as long as what is discarded. Both answers are right, so it decides what is offered next, and no
//! more.
//!
//! Invariants:
//! - BS-1 a disk is asked for whole blocks of its own only, whoever asks.
//! - BS-2 while a device is offered its blocks stay as they are.
//! - BS-3 a volume is whole blocks: what is resynced, compared or verified at its end is.
//! - BS-4 what is offered is remembered durably before, and is never less than what was.

use crate::Engine;
use crate::action::{Notice, Offer};
use crate::volume::Volume;
use rep_meta::Superblock;
use rep_types::planted;
use rep_types::{ByteRange, DiskState, Refusal, Role, SyncDecision, SyncRefusal, SyncVerdict, VolumeNumber};
use rep_wire::{BLOCKS_ARE_KNOWN, DISK_DISCARDS, VolumeView, features};

/// Bytes of whole blocks in so many bytes.
pub(crate) fn whole_blocks(bytes: u64, block_bytes: u32) -> u64 {
    if planted!("size-not-whole-blocks") { bytes } else { bytes - bytes % u64::from(block_bytes.max(1)) }
}

impl Engine {
    /// Whether clients have been told of this node's devices: it is Primary, or forwards what they ask to who is.
    pub(crate) fn offers_devices(&self) -> bool {
        self.role == Role::Primary || self.forwarding.is_some() && !planted!("forwarder-s-blocks-grow")
    }

    /// Why a disk with blocks of so many bytes can't be used: those who have the device were told of smaller ones, or the
    /// volume isn't whole blocks of it.
    pub(crate) fn blocks_refusal(&self, index: usize, disk_bytes: u32, superblock: &Superblock) -> Option<Refusal> {
        let volume = &self.volumes[index];
        let serves_there = self.is_connected() && self.peer_role == Some(Role::Primary) || self.peer_forwards();
        let told = self.offers_devices() || serves_there;
        if told && disk_bytes > volume.block_bytes {
            return Some(Refusal::BlocksTooLarge);
        }
        let needed = if told { disk_bytes } else { volume.block_bytes.max(disk_bytes) };
        (!superblock.agreed_bytes.is_multiple_of(u64::from(needed.max(1)))).then_some(Refusal::NotWholeBlocks)
    }

    /// Decisions in words the peer knows. An older one takes no part in this refusal, so the two don't mirror: they stay
    /// apart, which is what is wanted.
    pub(crate) fn told_of_blocks(
        &self,
        mut decisions: Vec<(VolumeNumber, SyncDecision)>,
    ) -> Vec<(VolumeNumber, SyncDecision)> {
        let features = self.link.as_ref().map_or(0, |link| link.features);
        for (_, decision) in decisions.iter_mut().filter(|_| features & features::DISK_LIMITS == 0) {
            decision.verdict = match decision.verdict {
                SyncVerdict::Refuse(SyncRefusal::BlocksTooLarge) => SyncVerdict::Refuse(SyncRefusal::DiskTooSmall),
                SyncVerdict::Refuse(SyncRefusal::PeerBlocksTooLarge) => {
                    SyncVerdict::Refuse(SyncRefusal::PeerDiskTooSmall)
                }
                other => other,
            };
        }
        decisions
    }

    /// Both nodes' disks, and what they remember, are known: neither is asked for less from now on.
    pub(crate) fn agree_on_blocks(&mut self, index: usize, peer: &VolumeView) {
        // A peer that can't be told of clients left behind hasn't refused for them: their device will be.
        let told = self.agreed_on(features::DISK_LIMITS);
        let offers = self.offers_devices();
        let volume = &mut self.volumes[index];
        volume.note_discards(peer);
        volume.note_peer_cache(peer);
        let serving = offers || told && volume.left.is_some();
        let from_bytes = volume.block_bytes;
        if peer.disk != DiskState::Diskless && !serving && !planted!("blocks-not-agreed") {
            volume.block_bytes = volume.block_bytes.max(peer.blocks().0);
        }
        let to_bytes = volume.block_bytes;
        let Some(local) = &mut volume.local else { return };
        let known = local.superblock().agreed_block_bytes;
        if !planted!("blocks-not-remembered") {
            local.update_superblock(|superblock| superblock.agreed_block_bytes = known.max(to_bytes));
        }
        if known > 0 && to_bytes > from_bytes {
            let volume = volume.number;
            self.notice(Notice::BlocksGrown { volume, from_bytes, to_bytes });
        }
    }
}

impl Volume {
    /// Whether the peer may ask for a range: it lies within the volume, and this node's disk can do it.
    pub fn may_be_asked_for(&self, range: ByteRange) -> bool {
        range.is_legal(self.size_bytes) && range.is_whole(self.disk_block_bytes)
    }

    /// A disk with blocks of so many bytes is here, and perhaps a device that was left behind.
    pub fn take_blocks_of(&mut self, disk_bytes: u32, superblock: &Superblock, offered: bool) {
        self.disk_block_bytes = disk_bytes;
        if !offered {
            let left = self.left.map_or(0, |left| left.block_bytes);
            self.block_bytes = self.block_bytes.max(disk_bytes).max(superblock.agreed_block_bytes).max(left);
        }
    }

    /// As the peer is told; `offered`: this node has clients.
    pub fn told_block_bytes(&self, offered: bool, features: u64) -> u32 {
        let known = offered || self.left.is_some();
        let tells = features & features::DISK_LIMITS != 0;
        let flag = |set: bool, flag: u32| if set && tells { flag } else { 0 };
        let discards = self.local.is_some() && self.disk_discards;
        self.block_bytes | flag(known, BLOCKS_ARE_KNOWN) | flag(discards, DISK_DISCARDS)
    }

    /// Whether a discard gives space back on both disks. Of a peer that isn't there counts what both were when they met.
    pub fn discards(&self) -> bool {
        match &self.local {
            Some(local) => self.disk_discards && local.superblock().discards.unwrap_or(true),
            None => self.peer_discards,
        }
    }

    /// The peer has told of its disk.
    fn note_discards(&mut self, peer: &VolumeView) {
        if peer.disk == DiskState::Diskless {
            return;
        }
        self.peer_discards = peer.discards();
        let both = self.disk_discards && self.peer_discards;
        if let Some(local) = &mut self.local {
            local.update_superblock(|superblock| superblock.discards = Some(both));
        }
    }

    /// What clients are offered.
    pub fn offer(&self, size_bytes: u64, volatile_cache: bool) -> Offer {
        Offer { size_bytes, block_bytes: self.block_bytes, discards: self.discards(), volatile_cache }
    }
}
