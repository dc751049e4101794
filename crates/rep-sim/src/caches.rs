//! Disks that are taken for ones without a volatile cache, and clients who are told that there is none.
//!
//! Every disk here has one, whatever it says: as one that gets it only later (a volume that is moved to other disks) would. So
//! nothing may follow from its word but what a write costs (VC-1).

use crate::counters::Sometimes;
use crate::rng::Rng;
use crate::world::World;
use rep_engine::{DiskTraits, Offer};
use rep_types::LeftDevice;

/// Per mille of the runs in which some disk says that it has none.
const WITHOUT: u32 = 200;

/// A run's disks.
#[derive(Clone, Copy, Debug)]
pub struct CachePlan {
    /// Whether each node's disks say that they may have one.
    pub volatile: [bool; 2],
    /// Per mille of the attaches at which one says something else than before.
    pub changes: u32,
}

impl CachePlan {
    /// What a seed has of them.
    pub fn of(seed: u64) -> CachePlan {
        let mut rng = Rng::new(seed).fork(55);
        if !rng.chance(WITHOUT) {
            return CachePlan { volatile: [true; 2], changes: 0 };
        }
        CachePlan { volatile: [0, 1].map(|_| rng.chance(150)), changes: rng.pick(&[0, 200, 500]) }
    }

    fn is_mixed(&self) -> bool {
        self.volatile.contains(&false) || self.changes > 0
    }
}

impl World {
    /// What an engine is told of a disk, and of a device that was left behind.
    pub(crate) fn traits_of(&mut self, node: usize, volume: usize) -> (DiskTraits, Option<LeftDevice>) {
        let changes = self.dice.caches.chance(self.swarm.caches.changes);
        let disk = &mut self.nodes[node].volumes[volume];
        disk.says_volatile ^= changes;
        let (logical_block_bytes, volatile_cache) = (disk.block_bytes, disk.says_volatile);
        (DiskTraits { logical_block_bytes, discards: true, volatile_cache }, disk.left)
    }

    /// A device is made, taken over, or grows: what its clients know of a cache was settled when it was made.
    pub(crate) fn note_told_of_cache(&mut self, node: usize, volume: usize, offer: Offer) {
        let disk = &mut self.nodes[node].volumes[volume];
        if disk.exported.is_some() {
            return;
        }
        let told = disk.left.map_or(offer.volatile_cache, |left| left.volatile_cache);
        disk.told_stable = !told;
        if disk.left.is_some() && !told {
            self.seen(Sometimes::PromiseTakenOver);
        }
    }

    /// Whether a node's clients were told that what is answered is stable.
    pub(crate) fn told_stable(&self, node: usize, volume: usize) -> bool {
        self.swarm.stable || self.nodes[node].volumes[volume].told_stable
    }

    /// A write is stable when it is answered, because its clients were told so.
    pub(crate) fn note_promised(&mut self, node: usize, volume: usize) {
        if self.swarm.stable || !self.told_stable(node, volume) {
            return;
        }
        let forwarded = self.forwards(node);
        let volatile = self.nodes.iter().any(|state| state.volumes[volume].says_volatile);
        self.seen(match (forwarded, volatile) {
            (true, _) => Sometimes::PromisedForwarded,
            (false, true) => Sometimes::PromisedWithCache,
            (false, false) => Sometimes::PromisedWrite,
        });
    }

    /// A client's write is written through.
    pub(crate) fn note_through(&mut self) {
        if self.swarm.caches.is_mixed() {
            return;
        }
        let asked = self.swarm.fua > 0;
        self.seen(if asked { Sometimes::WrittenThrough } else { Sometimes::ThroughByHabit });
    }
}
