//! Disks that grow while they are in use, an operator who has the volume grow, and what must hold of that (R34).
//!
//! ```text
//! internal:  | data ........ | metadata |
//! grown:     | data ........ : clients : nobody ............. | metadata |
//!              equal           equal     differs, or is equal if the operator says so
//! ```
//!
//! What lies behind the former end is written by nobody before. A part of it holds the same on both disks, for clients to
//! use; the rest differs, so that an area that isn't marked shows when both disks are compared at the end.

use crate::counters::Sometimes;
use crate::disk::MetaDisk;
use crate::failure::Kind;
use crate::plan::{Node, Step};
use crate::rng::Rng;
use crate::swarm::{MS, Swarm};
use crate::world::{Due, World};
use rep_engine::Command;
use rep_meta::{Layout, LayoutOptions, MetaStorage, Placement, superblock_offsets};
use rep_types::{BLOCK_SIZE, ConnectionState, EXTENT_SIZE, SECTOR_SIZE, VolumeNumber};

/// Sizes of disks: where a disk that grew while nobody looked is found again.
const STEP: u64 = 1 << 20;

/// A run's growing.
#[derive(Clone, Copy, Debug)]
pub struct GrowPlan {
    /// Bytes behind the former end that clients use.
    pub client_bytes: u64,
    /// Bytes behind those.
    pub rest_bytes: u64,
    /// Bytes the second node's disk has more than the first's in the end.
    pub second_more: u64,
    /// The rest is the same on both disks, and the operator says so.
    pub assume_clean: bool,
    /// How often the operator tries.
    pub tries: u32,
}

impl GrowPlan {
    /// What a seed has of it: most have nothing.
    pub fn of(seed: u64) -> Option<GrowPlan> {
        let mut rng = Rng::new(seed).fork(10);
        rng.chance(150).then(|| GrowPlan {
            client_bytes: rng.between(4, 64) * BLOCK_SIZE,
            rest_bytes: rng.pick(&[64 << 10, EXTENT_SIZE]),
            second_more: rng.pick(&[0, STEP]),
            assume_clean: rng.chance(250),
            tries: rng.between(2, 12) as u32,
        })
    }
}

/// Gives clients something to do behind the former end. Metadata that rot or are put back are other runs' business.
pub(crate) fn fit(swarm: &mut Swarm) {
    let Some(plan) = swarm.grow else { return };
    (swarm.rare.meta_rot, swarm.rare.rollback) = (0, 0);
    let Geometry { before, after } = Geometry::of(swarm, 0, placement(swarm));
    let first = before.available_bytes / BLOCK_SIZE;
    let last = first + plan.client_bytes / BLOCK_SIZE - 1;
    if swarm.resync_rate_max > 0 {
        // What is slow enough for the disks as they were takes for ever with the new area.
        let grown = (plan.client_bytes + plan.rest_bytes) >> 5;
        // A verify goes over everything there is, to the end of the larger disk.
        let verified = if swarm.verify.verifies > 0 { after.available_bytes / 100 } else { 0 };
        swarm.resync_rate_max = swarm.resync_rate_max.max(grown).max(verified);
    }
    swarm.focus_blocks.extend([first as u32, first as u32 + 1, last as u32]);
}

/// Puts a run's growing among its other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let (Some(plan), Some((end, _))) = (swarm.grow, steps.last().copied()) else { return };
    let mut rng = Rng::new(swarm.seed).fork(12);
    let begin = steps[0].0;
    for volume in 0..swarm.volumes {
        for node in 0..2 as Node {
            steps.push((rng.between(begin, end), Step::GrowDisk { node, volume }));
        }
        let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
        for _ in 0..plan.tries {
            let at = rng.pick(&times) + rng.below(20 * MS);
            steps.push((at, Step::Resize { node: rng.below(2) as Node, volume }));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
}

/// How a node's disk is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// As it begins.
    pub before: Layout,
    /// Once it has grown.
    pub after: Layout,
}

impl Geometry {
    pub fn of(swarm: &Swarm, node: usize, placement: Placement) -> Geometry {
        let options = LayoutOptions { log_slots: Some(swarm.log_slots) };
        let step = if swarm.grow.is_some() { STEP } else { BLOCK_SIZE };
        let with = |data_bytes: u64| {
            let sizes = (data_bytes.div_ceil(step)..).map(|steps| steps * step);
            let mut layouts = sizes.filter_map(|size| Layout::with_options(size, placement, options).ok());
            layouts.find(|layout| layout.available_bytes >= data_bytes).expect("there is a size that will do")
        };
        let before = with(swarm.data_bytes);
        let Some(plan) = swarm.grow else {
            let size = before.device_bytes + swarm.blocks.odd_bytes[node];
            let odd = Layout::with_options(size, placement, options).expect("some sectors more are a disk, too");
            let before = if placement == Placement::External { odd } else { before };
            return Geometry { before, after: before };
        };
        let wanted = before.device_bytes + plan.client_bytes + plan.rest_bytes;
        let smaller = with(wanted).device_bytes + if node == 1 { plan.second_more } else { 0 };
        let after = before.grown(smaller, u64::MAX).expect("there is room for the metadata");
        Geometry { before, after }
    }

    /// The first sector clients never use.
    pub fn clients_end(&self, swarm: &Swarm) -> u32 {
        let more = swarm.grow.map_or(0, |plan| plan.client_bytes);
        // Sectors that aren't a whole block are there to be resynced, not written.
        ((self.before.available_bytes / BLOCK_SIZE * BLOCK_SIZE + more) / SECTOR_SIZE) as u32
    }
}

pub(crate) fn placement(swarm: &Swarm) -> Placement {
    if swarm.internal_metadata { Placement::Internal } else { Placement::External }
}

/// What stands on a disk where no client ever writes.
pub(crate) fn fill_rest(content: &mut [u32], node: usize, swarm: &Swarm, geometry: &Geometry) {
    if swarm.grow.is_none_or(|plan| plan.assume_clean) {
        return;
    }
    let first = geometry.clients_end(swarm) as usize;
    for (sector, value) in content.iter_mut().enumerate().skip(first) {
        *value = 0x4000_0000 | (node as u32) << 28 | sector as u32;
    }
}

impl World {
    /// How large a volume will be in the end.
    fn final_bytes(&self, volume: usize) -> u64 {
        let size = |node: usize| self.nodes[node].volumes[volume].geometry.after.available_bytes;
        size(0).min(size(1))
    }

    /// The volume's sectors, as far as a node remembers it to reach.
    pub(crate) fn agreed_sectors(&mut self, volume: usize) -> usize {
        let agreed = |loaded: std::rc::Rc<rep_meta::Loaded>| loaded.superblock.agreed_bytes;
        let most = (0..2).filter_map(|node| self.durable(node, volume)).map(agreed).max().unwrap_or(0);
        let least = (0..2).map(|node| self.nodes[node].volumes[volume].geometry.before.available_bytes).min();
        // What is agreed on is whole blocks of both disks: less than the smaller has room for.
        let agreed = if most == 0 { least.unwrap_or(0) } else { most };
        (agreed / SECTOR_SIZE) as usize
    }

    /// A node's disk grows under whoever uses it.
    pub(crate) fn grow_disk(&mut self, node: usize, volume: usize) {
        let disk = &mut self.nodes[node].volumes[volume];
        if disk.device_bytes == disk.geometry.after.device_bytes {
            return;
        }
        disk.device_bytes = disk.geometry.after.device_bytes;
        disk.meta.grow(disk.geometry.after.metadata_device_bytes);
        let size = disk.device_bytes;
        self.line(|| format!("node {node} vol {volume}: the disk grows to {size}"));
    }

    pub(crate) fn resize(&mut self, node: usize, volume: usize) {
        let Some(plan) = self.swarm.grow else { return };
        let volume = VolumeNumber(volume as u16);
        self.command(node, Command::Resize { volume, assume_clean: plan.assume_clean });
    }

    /// Tells a node's engine how large a disk of its is.
    pub(crate) fn measured(&mut self, node: usize, life: u32, volume: usize) {
        let state = &self.nodes[node];
        if state.life != life || !state.is_up() || !state.volumes[volume].attached {
            return;
        }
        let disk = &state.volumes[volume];
        let (device_bytes, metadata_device_bytes) = (disk.device_bytes, disk.meta.size_bytes());
        let volume = Self::number(volume);
        self.feed(node, rep_engine::Event::DiskMeasured { volume, device_bytes, metadata_device_bytes });
    }

    /// At the end every volume grows to what its disks allow. Says whether one still has to.
    pub(crate) fn grow_at_end(&mut self) -> bool {
        if self.swarm.grow.is_none() {
            return false;
        }
        let mut any = false;
        for volume in 0..self.swarm.volumes {
            let wanted = self.final_bytes(volume);
            let grown =
                |node: usize| self.snapshot(node).is_some_and(|state| state.volumes[volume].size_bytes == wanted);
            if !(grown(0) && grown(1)) {
                any = true;
                (0..2).for_each(|node| self.grow_disk(node, volume));
                let node = self.dice.misc.below(2) as usize;
                self.after(volume as u64 * 5000 * MS, Due::Resize { node, volume });
            }
        }
        any
    }

    /// Clients are offered a larger device: both nodes remember the size by then, or the role has just come to this one, without the
    /// peer's disk, which goes by what it remembers itself (GR-3). A disk of its own that it has let go of follows when it comes back.
    pub(crate) fn check_offered(&mut self, node: usize, volume: usize, size_bytes: Option<u64>) {
        let before = self.nodes[node].volumes[volume].exported.map(|offer| offer.size_bytes);
        let (Some(before), Some(size_bytes)) = (before, size_bytes) else { return };
        self.seen(Sometimes::GrownUnderPrimary);
        let with_peers = self.snapshot(node).is_some_and(|state| {
            state.connection == ConnectionState::Connected && state.volumes[volume].peer_disk.takes_writes()
        });
        let alone = !with_peers && self.nodes[node].promoted_at == self.now;
        if alone && before < size_bytes {
            self.seen(Sometimes::GrownAlone);
        }
        let attached = self.nodes[node].volumes[volume].attached;
        let remembered: Vec<u64> = (0..2)
            .filter(|asked| if *asked == node { attached } else { !alone })
            .filter_map(|asked| self.durable(asked, volume))
            .map(|loaded| loaded.superblock.agreed_bytes)
            .collect();
        // A disk that was replaced meanwhile knows nothing yet.
        if before > size_bytes || remembered.iter().any(|agreed| *agreed < size_bytes && *agreed > 0) {
            let detail = format!("node {node} volume {volume} offers {size_bytes}, was {before}; {remembered:?}");
            self.fail(Kind::WrongData, "GR-3", detail);
        }
    }

    /// External metadata that get another place are as good as damaged if that is cut short, and all is marked then.
    pub(crate) fn may_have_moved_in_place(&self, node: usize, volume: usize) -> bool {
        let disk = &self.nodes[node].volumes[volume];
        let Geometry { before, after } = disk.geometry;
        !self.swarm.internal_metadata && disk.device_bytes == after.device_bytes && !before.keeps_places(&after)
    }

    /// At rest metadata stand in one place only.
    pub(crate) fn check_former_place(&mut self, node: usize, volume: usize) {
        if !self.swarm.internal_metadata || self.swarm.grow.is_none() {
            return;
        }
        let Some(loaded) = self.durable(node, volume) else { return };
        let disk = &mut self.nodes[node].volumes[volume];
        let former = disk.geometry.before.device_bytes;
        if loaded.layout.device_bytes == former {
            return;
        }
        let mut block = vec![0; rep_meta::META_BLOCK_SIZE];
        let left = superblock_offsets(former, Placement::Internal)
            .into_iter()
            .any(|offset| disk.meta.read(offset, &mut block).is_ok() && block.starts_with(b"repdMETA"));
        if left {
            let detail = format!("node {node} volume {volume}: metadata that moved are still where they were");
            self.fail(Kind::WrongData, "RL-1", detail);
        }
    }
}

impl MetaDisk {
    /// Data written over what is no metadata any more.
    pub(crate) fn overwrite(&mut self, sector: usize) {
        let offset = sector as u64 * SECTOR_SIZE;
        let block = offset / BLOCK_SIZE * BLOCK_SIZE;
        let within = (offset - block) as usize;
        if self.contains(block) {
            self.change(block, |bytes| bytes[within..within + SECTOR_SIZE as usize].fill(0xda));
        }
    }
}
