//! An old image of a node's metadata is put back: a snapshot restored, a machine cloned (I-G8).
//!
//! One node alone can't see that: its metadata are whole, and were true once. What protects is the peer: if its
//! generations have gone on from the image's, the handshake makes the node a target, and what was written since is
//! copied. That is all that is promised, so only such images are put back, and of a node that has only been Secondary
//! since: what a Primary knew alone, of writes under way and of writing alone, is gone with its metadata, and nobody
//! can tell. (Data that are put back with their metadata are no better: what the peer remembers begins at the
//! generation, not at the image. Both take a `create-md`.)

use crate::counters::Sometimes;
use crate::disk::MetaDisk;
use crate::failure::Kind;
use crate::world::{World, identity};
use rep_meta::{DataState, PrimaryMark};
use rep_types::{Role, SyncDecision, SyncVerdict};

/// A node's metadata as they were.
#[derive(Clone, Debug)]
struct Image {
    metas: Vec<MetaDisk>,
}

/// Images, and who goes by one.
#[derive(Debug, Default)]
pub struct Rollback {
    images: [Option<Image>; 2],
    /// Whether a node's volume knows less than it did, by volume and node: it is a target, and never a source.
    older: Vec<[bool; 2]>,
}

impl World {
    /// An image of a node's metadata is made.
    pub(crate) fn take_image(&mut self, node: usize) {
        let metas = self.nodes[node].volumes.iter().map(|volume| volume.meta.clone()).collect();
        self.rollback.images[node] = (self.role(node) != Role::Primary).then_some(Image { metas });
    }

    /// A node's image is of no more use: it became Primary, or has other disks.
    pub(crate) fn spoil_image(&mut self, node: usize) {
        self.rollback.images[node] = None;
    }

    /// Puts a node's image back, if the peer's generations have gone on from it.
    pub(crate) fn roll_back(&mut self, node: usize, down_ns: u64) {
        if !self.is_older(node) {
            return;
        }
        self.crash(node, false, down_ns);
        if !self.is_older(node) {
            return;
        }
        let Some(image) = self.rollback.images[node].take() else { return };
        self.line(|| format!("node {node}: an old image of its metadata is put back"));
        self.seen(Sometimes::RolledBack);
        for (volume, mut meta) in image.metas.into_iter().enumerate() {
            let disk = &mut self.nodes[node].volumes[volume];
            meta.version = disk.meta.version + 1;
            disk.meta = meta;
            disk.rot.unsettled = true;
            self.knows_less(node, volume);
            self.truth_refresh(node, volume);
        }
    }

    /// Whether a node's image is one the peer's generations have gone on from, and the peer has everything.
    fn is_older(&mut self, node: usize) -> bool {
        let Some(mut image) = self.rollback.images[node].clone() else { return false };
        let placement = self.placement();
        !self.history.forked
            && (0..self.swarm.volumes).all(|volume| {
                let device_bytes = self.nodes[node].volumes[volume].device_bytes;
                let loaded = rep_meta::load(&mut image.metas[volume], &identity(node, volume), placement, device_bytes);
                let (Ok(then), Some(peer)) = (loaded, self.durable(1 - node, volume)) else { return false };
                let (current, known) = (then.superblock.generations.current, peer.superblock.generations);
                let gone_on = known.current != current && (known.bitmap == current || known.history.contains(&current));
                let secondary = then.superblock.primary == PrimaryMark::None;
                let complete = peer.superblock.data == DataState::Consistent && self.is_good(1 - node, volume);
                current.is_real() && gone_on && secondary && complete
            })
    }

    /// From now on a node's volume knows less than it did.
    pub(crate) fn knows_less(&mut self, node: usize, volume: usize) {
        self.rollback.older.resize(self.swarm.volumes, [false; 2]);
        self.rollback.older[volume][node] = true;
    }

    /// Both have the same again.
    pub(crate) fn knows_all(&mut self, volume: usize) {
        if let Some(older) = self.rollback.older.get_mut(volume) {
            *older = [false; 2];
        }
    }

    /// Whether a node has been filled from the peer since: then it bears the peer's generation, which neither an image that
    /// was put back nor fresh metadata do. The source may never have heard of the resync's end.
    fn was_filled(&mut self, node: usize, volume: usize) -> bool {
        let (Some(mine), Some(peer)) = (self.durable(node, volume), self.durable(1 - node, volume)) else {
            return false;
        };
        let current = mine.superblock.generations.current;
        let complete = mine.superblock.data == DataState::Consistent;
        complete && current.is_real() && current == peer.superblock.generations.current
    }

    /// A handshake decided: a node that knows less than it did is no source.
    pub(crate) fn check_older(&mut self, node: usize, volume: usize, decision: SyncDecision) {
        let older = self.rollback.older.get(volume).is_some_and(|older| older[node] && !older[1 - node]);
        if older && self.was_filled(node, volume) {
            self.rollback.older[volume][node] = false;
            return;
        }
        if older && matches!(decision.verdict, SyncVerdict::Source(_)) && !self.operator.forced {
            let detail =
                format!("node {node} volume {volume}, whose metadata are old or new, is a source: {decision:?}");
            self.fail(Kind::WrongData, "I-G8", detail);
        }
    }
}
