//! Metadata that rots at rest: bits, sectors or blocks of them are others when the volume is attached next (I-F4).
//!
//! What the format promises (docs/FORMAT.md), judged right where the metadata are read again: a damaged copy of the
//! superblock is mended from the other, so nothing is different; damaged log or bitmap marks at least what was
//! marked; with no copy left the metadata are refused, and the operator makes new ones, which makes the node a target
//! (I-G8). One thing only rots at a time: an update of the superblock cut short leaves one copy that is whole, and if
//! that one rots too, there is none.

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::node::OpKind;
use crate::rng::mix;
use crate::truth::marks;
use crate::world::{World, fresh_metadata, identity};
use rep_meta::{LoadError, Loaded, META_BLOCK_SIZE, Placement};
use std::rc::Rc;

/// Which metadata rot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum Place {
    SuperblockA,
    SuperblockB,
    BothSuperblocks,
    NewestTransaction,
    Log,
    Summary,
    Page,
    Everything,
}

/// How much of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum Extent {
    Bit,
    Sector,
    Block,
}

/// What rots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetaRot {
    /// Where.
    pub place: Place,
    /// How much.
    pub extent: Extent,
    /// Random: which block, which bit, what stands there then.
    pub draw: u64,
}

/// What a volume's disk suffers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RotState {
    /// What has rotted when it is attached next.
    pub pending: Option<MetaRot>,
    /// Whether log or bitmap ever rotted: damage may come to light later.
    damaged: bool,
    /// Whether an update of the superblock was cut short: its copies may differ until it is attached again.
    pub unsettled: bool,
}

/// The metadata before they rotted.
struct Rotted {
    rot: MetaRot,
    before: Rc<Loaded>,
}

/// Changes some of a block.
fn spoil(block: &mut [u8], extent: Extent, draw: u64) {
    let which = mix(draw);
    match extent {
        Extent::Bit => block[which as usize % META_BLOCK_SIZE] ^= 1 << (draw % 8),
        Extent::Sector => {
            let first = which as usize % 8 * 512;
            fill(&mut block[first..first + 512], draw);
        }
        Extent::Block => fill(block, draw),
    }
}

/// Zeroes, or what nobody wrote.
fn fill(bytes: &mut [u8], draw: u64) {
    let zeroes = draw.is_multiple_of(2) && bytes.iter().any(|byte| *byte != 0);
    for (at, byte) in (0u64..).zip(bytes) {
        *byte = if zeroes { 0 } else { mix(draw ^ at) as u8 };
    }
}

impl World {
    /// Kills a node's daemon (with `power`: its node); what `rot` says has rotted when it is back.
    pub(crate) fn rot_at_rest(&mut self, node: usize, volume: usize, rot: MetaRot, power: bool, down_ns: u64) {
        self.nodes[node].volumes[volume].rot.pending = Some(rot);
        self.crash(node, power, down_ns);
        self.apart_forgotten(node);
    }

    /// A volume's disk is let go of: whether its superblock's copies may differ.
    pub(crate) fn note_unsettled(&mut self, node: usize) {
        let placement = self.placement();
        let state = &mut self.nodes[node];
        for op in state.ops.values() {
            let disk = &mut state.volumes[op.volume];
            let OpKind::Meta { offset, .. } = &op.kind else { continue };
            let copies = rep_meta::superblock_offsets(rep_meta::MetaStorage::size_bytes(&disk.meta), placement);
            disk.rot.unsettled |= copies.contains(offset);
        }
    }

    pub(crate) fn placement(&self) -> Placement {
        if self.swarm.internal_metadata { Placement::Internal } else { Placement::External }
    }

    fn read_metadata(&mut self, node: usize, volume: usize) -> Result<Loaded, LoadError> {
        let placement = self.placement();
        let disk = &mut self.nodes[node].volumes[volume];
        rep_meta::load(&mut disk.meta, &identity(node, volume), placement, disk.device_bytes)
    }

    /// A volume's metadata as they are in the middle of what is under way on them, if they can be read; nothing rots meanwhile.
    pub(crate) fn readable_now(&mut self, node: usize, volume: usize) -> Option<Box<Loaded>> {
        if self.nodes[node].volumes[volume].rot.pending.is_some() {
            return None;
        }
        self.read_metadata(node, volume).ok().map(Box::new)
    }

    /// Reads a volume's metadata as `repd` does before it attaches, and gives it to the engine.
    pub(crate) fn load_for_attach(&mut self, node: usize, volume: usize) -> Option<Box<Loaded>> {
        let rotted = self.rot(node, volume);
        let loaded = self.read_metadata(node, volume);
        let loaded = match rotted {
            Some(rotted) => self.judge_rotted(node, volume, &rotted, loaded)?,
            None => loaded,
        };
        match loaded {
            Ok(loaded) => {
                self.nodes[node].volumes[volume].rot.unsettled = false;
                if loaded.log.damaged || !loaded.bitmap.damaged_pages.is_empty() {
                    self.seen(Sometimes::DamageFound);
                    self.check_damaged(node, volume);
                }
                Some(Box::new(loaded))
            }
            Err(error) => {
                let detail = format!("node {node} volume {volume}: metadata unusable after crashes only: {error}");
                self.fail(Kind::WrongData, "I-F4", detail);
                None
            }
        }
    }

    /// Log or bitmap are called damaged.
    pub(crate) fn check_damaged(&mut self, node: usize, volume: usize) {
        if self.may_have_moved_in_place(node, volume) {
            return;
        }
        if !self.nodes[node].volumes[volume].rot.damaged {
            let detail = format!("node {node} volume {volume} calls metadata damaged that nothing damaged");
            self.fail(Kind::WrongData, "I-F4", detail);
        }
    }

    /// What was to rot has rotted.
    fn rot(&mut self, node: usize, volume: usize) -> Option<Rotted> {
        let rot = self.nodes[node].volumes[volume].rot.pending.take()?;
        let before = self.durable(node, volume)?;
        let may = match rot.place {
            Place::SuperblockA | Place::SuperblockB => !self.nodes[node].volumes[volume].rot.unsettled,
            Place::BothSuperblocks | Place::Everything => self.is_good(1 - node, volume),
            _ => true,
        };
        if !may {
            return None;
        }
        let disk = &mut self.nodes[node].volumes[volume];
        let layout = before.layout;
        let block = |first: u64, count: u32| first + rot.draw % u64::from(count) * META_BLOCK_SIZE as u64;
        let [a, b] = layout.superblock_offsets;
        let newest = layout.log_offset + u64::from(before.log.newest_position) * META_BLOCK_SIZE as u64;
        let places: &[u64] = match rot.place {
            Place::SuperblockA => &[a],
            Place::SuperblockB => &[b],
            Place::BothSuperblocks => &[a, b],
            Place::NewestTransaction => &[newest],
            Place::Log => &[block(layout.log_offset, layout.log_blocks)],
            Place::Summary => &[block(layout.summary_offset, layout.summary_blocks)],
            Place::Page => &[block(layout.pages_offset, layout.pages)],
            Place::Everything => &[],
        };
        places.iter().for_each(|place| disk.meta.change(*place, |block| spoil(block, rot.extent, rot.draw)));
        if places.is_empty() {
            disk.meta.wipe();
        }
        disk.rot.damaged |= places.first().is_some_and(|place| *place != a && *place != b);
        self.seen(Sometimes::MetaRotted);
        self.line(|| format!("node {node} vol {volume}: rotted: {rot:?}"));
        Some(Rotted { rot, before })
    }

    /// What was read of rotten metadata: nothing is believed that wasn't so, and nothing forgotten (I-F4).
    fn judge_rotted(
        &mut self,
        node: usize,
        volume: usize,
        rotted: &Rotted,
        loaded: Result<Loaded, LoadError>,
    ) -> Option<Result<Loaded, LoadError>> {
        let Rotted { rot, before } = rotted;
        let lost = matches!(rot.place, Place::BothSuperblocks | Place::Everything);
        let bad = match &loaded {
            Ok(_) if lost => Some("uses metadata of which no superblock is left".to_owned()),
            Err(_) if lost => None,
            Err(error) => Some(format!("can't use metadata of which a copy is whole: {error}")),
            Ok(loaded) if loaded.superblock != before.superblock => {
                Some(format!("goes on with {:?} after {:?}", loaded.superblock, before.superblock))
            }
            Ok(loaded) => {
                self.forgotten(volume, before, loaded).map(|block| format!("forgets that block {block} is marked"))
            }
        };
        if let Some(bad) = bad {
            self.fail(Kind::WrongData, "I-F4", format!("node {node} volume {volume}, {rot:?}: {bad}"));
            return None;
        }
        if lost {
            self.seen(Sometimes::MetaLost);
            self.create_metadata(node, volume);
            return Some(self.read_metadata(node, volume));
        }
        Some(loaded)
    }

    fn forgotten(&self, volume: usize, before: &Loaded, after: &Loaded) -> Option<u64> {
        let blocks = (self.history.initial(volume).len() as u64).div_ceil(8);
        (0..blocks).find(|block| marks(before, *block) && !marks(after, *block))
    }

    /// The operator gives a disk new metadata: it knows nothing any more of what its data are (I-G8).
    fn create_metadata(&mut self, node: usize, volume: usize) {
        // That a flush had failed was known to the former ones alone: the kernel's cache is emptied, or the node restarted.
        self.nodes[node].volumes[volume].data.look_again();
        self.line(|| format!("node {node} vol {volume}: create-md"));
        let layout = self.nodes[node].volumes[volume].geometry.before;
        let meta = fresh_metadata(node, volume, &layout, &mut self.dice);
        let disk = &mut self.nodes[node].volumes[volume];
        // What was parsed of the old is of another version.
        (disk.meta, disk.rot) = (meta, RotState::default());
        self.truth_reset(node, volume);
        self.spoil_image(node);
        self.apart_forgotten(node);
        self.knows_less(node, volume);
    }
}
