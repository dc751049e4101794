//! Disks with logical blocks of different sizes, and disks that are replaced by ones with others.
//!
//! A disk that is asked for a part of a block of its own would fail, and be given up for an error that is none of its own
//! (BS-1). Clients ask for whole blocks of what they are offered; the same once it is offered (BS-2), and at the end both nodes
//! remember as much as either disk needs (BS-4). Some disks have some sectors more than whole blocks of the other's (BS-3).

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::node::OpKind;
use crate::plan::ClientOp;
use crate::rng::Rng;
use crate::swarm::{SECOND, Swarm};
use crate::world::{Due, World};
use rep_engine::{Command, Offer, Snapshot, VolumeSnapshot};
use rep_types::{BLOCK_SIZE, ConnectionState, DiskState, Role, SECTOR_SIZE, SyncRefusal, SyncVerdict, ZERO_LENGTH_MAX};
use rep_wire::features;

/// Per mille of the runs in which the disks' blocks may differ.
const MIXED: u32 = 300;
/// By weight, how often at least a node gets other disks where these have other blocks.
const REPLACED: u32 = 3;
const SECTOR: u32 = SECTOR_SIZE as u32;
const BLOCK: u32 = BLOCK_SIZE as u32;
const ZERO_SECTORS_MAX: u32 = ZERO_LENGTH_MAX / SECTOR;

/// A run's disks.
#[derive(Clone, Copy, Debug)]
pub struct BlockPlan {
    /// Bytes of a logical block of each node's disks.
    pub bytes: [u32; 2],
    /// The same of those a node that is installed anew gets.
    pub replaced: [u32; 2],
    /// Bytes each node's external disks have beyond whole blocks of the bitmap.
    pub odd_bytes: [u64; 2],
}

impl BlockPlan {
    /// What a seed has of them: most have sectors everywhere.
    pub fn of(seed: u64) -> BlockPlan {
        let mut rng = Rng::new(seed).fork(47);
        if !rng.chance(MIXED) {
            return BlockPlan { bytes: [SECTOR; 2], replaced: [SECTOR; 2], odd_bytes: [0; 2] };
        }
        if rng.chance(300) {
            // What is replaced under a Primary's clients needs more than they know of.
            return BlockPlan { bytes: [SECTOR; 2], replaced: [BLOCK; 2], odd_bytes: [0; 2] };
        }
        let bytes = [0, 1].map(|_| rng.pick(&[SECTOR, BLOCK, BLOCK, 2 * SECTOR]));
        if rng.chance(400) {
            let odd_bytes = bytes.map(|block| u64::from(block) * rng.below(u64::from(BLOCK / block)));
            return BlockPlan { bytes, replaced: bytes, odd_bytes };
        }
        let replaced = [0, 1].map(|_| rng.pick(&[SECTOR, BLOCK]));
        BlockPlan { bytes, replaced, odd_bytes: [0; 2] }
    }
}

/// Disks that are to be replaced by others are, now and then.
pub(crate) fn draw(swarm: &mut Swarm) {
    if swarm.blocks.replaced != swarm.blocks.bytes {
        swarm.weights.reinstall = swarm.weights.reinstall.max(REPLACED);
    }
}

impl World {
    /// Whether a daemon that dies leaves its devices to the next one, whose peer can be told of that.
    pub(crate) fn leaves_devices(&self) -> bool {
        let told = self.agreed_on(features::DISK_LIMITS);
        told && self.swarm.seed.is_multiple_of(2)
    }

    /// An operation is whole blocks of its disk.
    pub(crate) fn check_whole_blocks(&mut self, node: usize, volume: usize, kind: &OpKind) -> bool {
        let Some(sectors) = kind.sectors() else { return true };
        let block = self.nodes[node].volumes[volume].block_bytes / SECTOR;
        let whole = sectors.first.is_multiple_of(block) && sectors.count.is_multiple_of(block);
        if !whole {
            let detail = format!("node {node} volume {volume}: {sectors:?} of a disk with blocks of {block} sectors");
            self.fail(Kind::WrongData, "BS-1", detail);
        }
        whole
    }

    /// A request as a client makes it that knows of the device's blocks.
    pub(crate) fn whole_blocks_of(&self, node: usize, volume: usize, op: ClientOp) -> ClientOp {
        let Some(offer) = self.nodes[node].volumes[volume].exported else { return op };
        let block = offer.block_bytes / SECTOR;
        let end = (offer.size_bytes / SECTOR_SIZE) as u32 / block * block;
        let whole = |first: u32, count: u32| {
            let (from, to) = (
                first / block * block,
                (first + count).next_multiple_of(block).min(end).min(first / block * block + ZERO_SECTORS_MAX),
            );
            (from, to.saturating_sub(from))
        };
        match op {
            ClientOp::Read { first, count } => {
                let (first, count) = whole(first, count);
                ClientOp::Read { first, count }
            }
            ClientOp::Write { first, count, fua } => {
                let (first, count) = whole(first, count);
                ClientOp::Write { first, count, fua }
            }
            ClientOp::Zero { first, count, mode, fua } => {
                let (first, count) = whole(first, count);
                ClientOp::Zero { first, count, mode, fua }
            }
            ClientOp::Flush => ClientOp::Flush,
        }
    }

    /// What is offered has the blocks it had, and whole ones.
    pub(crate) fn check_offered_blocks(&mut self, node: usize, volume: usize, offer: Offer) {
        let disk = &mut self.nodes[node].volumes[volume];
        let left = disk.left.take().map(|left| left.block_bytes).filter(|left| disk.block_bytes <= *left);
        let before = disk.exported.map(|before| before.block_bytes).or(left).unwrap_or(offer.block_bytes);
        if before != offer.block_bytes || !offer.size_bytes.is_multiple_of(u64::from(offer.block_bytes)) {
            let detail = format!("node {node} volume {volume} offers {offer:?}, had blocks of {before}");
            self.fail(Kind::WrongData, "BS-2", detail);
        }
        let remembered = self.durable(node, volume).map_or(0, |loaded| loaded.superblock.agreed_block_bytes);
        if self.nodes[node].volumes[volume].attached && remembered != offer.block_bytes {
            let detail = format!("node {node} volume {volume} offers {offer:?}, remembers {remembered}");
            self.fail(Kind::WrongData, "BS-4", detail);
        }
    }

    /// Clients are offered no smaller blocks than the disks have that their writes go to.
    pub(crate) fn check_blocks_in_use(&mut self, node: usize) {
        let (Some(mine), Some(theirs)) = (self.snapshot(node), self.snapshot(1 - node)) else { return };
        let both = [&mine, &theirs].iter().all(|state| state.connection == ConnectionState::Connected);
        for volume in 0..self.swarm.volumes {
            let Some(offer) = self.nodes[node].volumes[volume].exported else { continue };
            let block = [0, 1].map(|node| self.nodes[node].volumes[volume].block_bytes);
            let own = mine.volumes[volume].disk.takes_writes() && block[node] > offer.block_bytes;
            let writes_there = mine.volumes[volume].peer_disk.takes_writes()
                && theirs.volumes[volume].disk.takes_writes()
                && theirs.volumes[volume].disk != DiskState::Attaching;
            if own || both && writes_there && block[1 - node] > offer.block_bytes {
                let detail = format!("node {node} volume {volume} offers {offer:?} over {}, {}", block[0], block[1]);
                self.fail(Kind::WrongData, "BS-2", detail);
            }
            if block[0] != block[1] && both && writes_there {
                self.seen(Sometimes::BlocksDiffer);
            }
        }
    }

    /// At the end both remember blocks that both disks can do.
    pub(crate) fn check_blocks_at_rest(&mut self, volume: usize) {
        let needed = self.nodes.iter().map(|node| node.volumes[volume].block_bytes).max().unwrap_or(0);
        let (Some(a), Some(b)) = (self.durable(0, volume), self.durable(1, volume)) else { return };
        let remembered = [a, b].map(|loaded| loaded.superblock.agreed_block_bytes);
        if remembered[0] != remembered[1] || remembered[0] < needed {
            let detail = format!("at rest volume {volume} has blocks of {remembered:?}, its disks need {needed}");
            self.fail(Kind::WrongData, "BS-4", detail);
        }
    }

    /// What an operator does about a disk whose blocks are too large for the other node's clients, beyond demoting that: a
    /// device that was left behind goes, and the next attach tells so.
    pub(crate) fn mend_blocks(&mut self, node: usize) {
        let Some(snapshot) = self.snapshot(node).filter(|state| state.role == Role::Secondary) else { return };
        if !is_refused(&snapshot) || snapshot.forwarding.is_some() {
            // A forwarder's clients have their device open, and its disk may be the only good one: taken off and put back, nobody could
            // say whether it is the newest.
            return;
        }
        self.seen(Sometimes::BlocksRefused);
        for volume in 0..self.swarm.volumes {
            self.nodes[node].volumes[volume].left = None;
            let command = Command::Detach { volume: Self::number(volume), force: false };
            self.after(volume as u64 * SECOND, Due::Command { node, command });
        }
    }
}

/// Whether the nodes stay apart because a disk's blocks are too large for clients who have a device open.
pub(crate) fn is_refused(snapshot: &Snapshot) -> bool {
    let refusals = [SyncRefusal::PeerBlocksTooLarge, SyncRefusal::BlocksTooLarge].map(SyncVerdict::Refuse);
    let refused = |volume: &VolumeSnapshot| volume.last_decision.is_some_and(|last| refusals.contains(&last.verdict));
    snapshot.connection != ConnectionState::Connected && snapshot.volumes.iter().any(refused)
}
