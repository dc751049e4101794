//! Volatile caches: which disks have one, and whether clients are told of one.
//!
//! ```text
//!  both disks have none ──promotion──► the device is offered without one ──────► every write is written through,
//!  a device left behind has none ────►   (the kernel sends it no flushes)         until it is offered no more
//! ```
//!
//! Where neither disk of a volume has a volatile cache, a write that is written through costs no more than another, so all are,
//! and a flush has nothing to do. If that is so for every volume when this node becomes Primary, the device is offered without
//! a cache, and no flush comes any more. That is a promise, for nobody can be told of a cache later: whatever
//! disk comes then, what is answered is stable. Nothing is taken from a disk's word but what a write costs: each is written through by
//! its kernel, which knows of a cache that came later.
//!
//! Invariants:
//! - VC-1 what is answered to whoever was offered a device without a volatile cache is stable (R4).

use crate::Engine;
use crate::volume::Volume;
use rep_types::DiskState;
use rep_types::planted;
use rep_wire::{DISK_WITHOUT_CACHE, VolumeView, features};

impl Engine {
    /// Whether every answer means stable, and clients are told of no volatile cache: it is configured so, or they were promised that.
    pub(crate) fn answers_stable(&self) -> bool {
        self.config.stable || self.promised_stable
    }

    /// This node is Primary, and is about to offer its devices: whether without a volatile cache.
    pub(crate) fn promise_stable(&mut self) {
        if self.volumes.iter().any(|volume| volume.offered_bytes.is_some()) {
            // It has forwarded for whoever has them open, and knows what they were told.
            return;
        }
        let left = self.volumes.iter().any(Volume::left_promises_stable);
        // Of a peer that isn't there nothing is known.
        let none_anywhere = self.is_connected() && self.volumes.iter().all(|volume| volume.has_no_cache(true));
        self.promised_stable = left || none_anywhere;
    }
}

impl Volume {
    /// Whether none of the disks that take this volume's writes has a volatile cache.
    pub fn has_no_cache(&self, connected: bool) -> bool {
        let here = self.local.is_none() || !self.disk_volatile;
        let there = !connected || self.peer_disk == DiskState::Diskless || !self.peer_volatile;
        here && there
    }

    fn left_promises_stable(&self) -> bool {
        self.left.is_some_and(|left| !left.volatile_cache) && !planted!("left-promise-forgotten")
    }

    /// What is added to a view's blocks.
    pub fn told_of_cache(&self, features: u64) -> u32 {
        let without = self.local.is_some() && !self.disk_volatile && features & features::DISK_CACHES != 0;
        if without { DISK_WITHOUT_CACHE } else { 0 }
    }

    /// The peer has told of its disk.
    pub fn note_peer_cache(&mut self, peer: &VolumeView) {
        if peer.disk != DiskState::Diskless {
            self.peer_volatile = peer.volatile_cache();
        }
    }
}
