//! An old image of a node's metadata is put back: a snapshot restored, a machine cloned (I-G8).
//!
//! One node alone can't see that: its metadata are whole, and were true once. What protects is the peer: if its
//! generations have gone on from the image's, the handshake makes the node a target, and what was written since is
//! copied. That is all that is promised, so only such images are put back, and of a node that has only been Secondary
//! since: what a Primary knew alone, of writes under way and of writing alone, is gone with its metadata, and nobody
//! can tell. That takes a `create-md`. For the same reason a node isn't promoted alone for what an image says of its peer.
//!
//! Data that are put back with their metadata are copied again where the peer's bitmap no longer counts from the image's
//! generation: all of them are. Where it does, it knows of nothing that was written between the image and the
//! generation's end; such an image too takes a `create-md`.

use crate::counters::Sometimes;
use crate::disk::{DataDisk, MetaDisk};
use crate::failure::Kind;
use crate::swarm::SECOND;
use crate::world::{Due, World, identity};
use rep_engine::Command;
use rep_meta::{DataState, PrimaryMark};
use rep_types::{DiskState, Role, SyncDecision, SyncRule, SyncVerdict};

/// One in so many images that are history to the peer is taken for the good data.
const GONE_ON_FROM: u64 = 6;
/// How long a node goes on alone from an image.
const ALONE: u64 = 20 * SECOND;

/// A node's disks as they were.
#[derive(Clone, Debug)]
struct Image {
    metas: Vec<MetaDisk>,
    datas: Vec<DataDisk>,
}

/// How far the peer has gone on from an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Age {
    /// Its bitmap counts from the image's generation.
    ByBitmap,
    /// That generation is history there: all is copied.
    ByHistory,
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
        let volumes = &self.nodes[node].volumes;
        let metas = volumes.iter().map(|volume| volume.meta.clone()).collect();
        let datas = volumes.iter().map(|volume| volume.data.clone()).collect();
        self.rollback.images[node] = (self.role(node) != Role::Primary).then_some(Image { metas, datas });
    }

    /// A node's image is of no more use: it became Primary, or has other disks.
    pub(crate) fn spoil_image(&mut self, node: usize) {
        self.rollback.images[node] = None;
    }

    /// Puts a node's image back, if the peer's generations have gone on from it.
    pub(crate) fn roll_back(&mut self, node: usize, down_ns: u64) {
        if self.age_of_image(node).is_none() {
            return;
        }
        self.crash(node, false, down_ns);
        self.apart_forgotten(node);
        let Some(age) = self.age_of_image(node) else { return };
        let Some(image) = self.rollback.images[node].take() else { return };
        let with_data = age == Age::ByHistory && crate::rng::mix(self.now) & 1 == 1;
        self.line(|| format!("node {node}: an old image of its metadata is put back; with its data: {with_data}"));
        self.seen(Sometimes::RolledBack);
        if with_data {
            self.seen(Sometimes::RolledBackWithData);
            for (volume, data) in image.datas.into_iter().enumerate() {
                self.nodes[node].volumes[volume].data = data;
                self.nodes[node].volumes[volume].data.flush();
            }
        }
        for (volume, mut meta) in image.metas.into_iter().enumerate() {
            let disk = &mut self.nodes[node].volumes[volume];
            meta.version = disk.meta.version + 1;
            disk.meta = meta;
            disk.rot.unsettled = true;
            self.knows_less(node, volume);
            self.truth_refresh(node, volume);
        }
        if age == Age::ByHistory && (crate::rng::mix(self.now) >> 1).is_multiple_of(GONE_ON_FROM) {
            self.go_on_from_image(node, down_ns);
        }
    }

    /// The operator takes the image for the good data: nothing gets through to the peer, and clients go on from there.
    /// What the two have in common then is older than anything a bitmap counts from.
    fn go_on_from_image(&mut self, node: usize, down_ns: u64) {
        self.swarm.may_fork = true;
        (self.operator.forced, self.history.forked) = (true, true);
        let apart_until = self.now + down_ns + ALONE;
        self.network.muted_until = self.network.muted_until.map(|old| old.max(apart_until));
        for at in [ALONE / 8, ALONE / 4] {
            self.after(down_ns + at, Due::Command { node, command: Command::Promote { force: true } });
        }
    }

    /// How far the peer's generations have gone on from a node's image; `None`: nothing is promised of it.
    fn age_of_image(&mut self, node: usize) -> Option<Age> {
        let image = self.rollback.images[node].clone().filter(|_| !self.history.forked)?;
        let metas = image.metas.into_iter().enumerate();
        metas.map(|(volume, meta)| self.age_of_metadata(node, volume, meta)).min().flatten()
    }

    fn age_of_metadata(&mut self, node: usize, volume: usize, mut meta: MetaDisk) -> Option<Age> {
        let (placement, device_bytes) = (self.placement(), self.nodes[node].volumes[volume].device_bytes);
        let then = rep_meta::load(&mut meta, &identity(node, volume), placement, device_bytes).ok()?;
        let peer = self.durable(1 - node, volume)?;
        let (current, known) = (then.superblock.generations.current, peer.superblock.generations);
        let secondary = then.superblock.primary == PrimaryMark::None;
        let complete = peer.superblock.data == DataState::Consistent && self.is_good(1 - node, volume);
        if !current.is_real() || known.current == current || !secondary || !complete {
            return None;
        }
        match known.bitmap == current {
            true => Some(Age::ByBitmap),
            false => known.history.contains(&current).then_some(Age::ByHistory),
        }
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

    /// Whether a node's volume knows less than it did.
    pub(crate) fn is_older_volume(&self, node: usize, volume: usize) -> bool {
        self.rollback.older.get(volume).is_some_and(|older| older[node])
    }

    /// Whether a node takes its data for good because an image says of the peer that it can't go on, which was so then.
    /// Until it meets the peer nobody can tell; from the moment it tells a decision, which takes that back, it must know
    /// better itself.
    pub(crate) fn goes_by_its_image(&mut self, node: usize) -> bool {
        (0..self.swarm.volumes).any(|volume| {
            let says_so = |loaded: std::rc::Rc<rep_meta::Loaded>| loaded.superblock.peer_outdated;
            self.is_older_volume(node, volume) && self.durable(node, volume).is_some_and(says_so)
        })
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

    /// A node's disk is UpToDate. At the end of a resync it has everything the source had: from here on it may go on, be the
    /// newer of the two and a source again, also where the source was cut off in the middle of the last words and has
    /// only its older generation to show. (Seed 4584, before it was looked at here.)
    pub(crate) fn note_filled(&mut self, node: usize, volume: usize, before: DiskState) {
        if before == DiskState::Inconsistent && self.is_older_volume(node, volume) && self.was_filled(node, volume) {
            self.rollback.older[volume][node] = false;
        }
    }

    /// A handshake decided: a node that knows less than it did is no source, and isn't taken for equal either.
    pub(crate) fn check_older(&mut self, node: usize, volume: usize, decision: SyncDecision) {
        let older = self.rollback.older.get(volume).is_some_and(|older| older[node] && !older[1 - node]);
        // It may have been told that the source goes on without it before it could say that it was full.
        let missed_finish = decision.rule == SyncRule::MissedFinish && self.is_full(node, volume);
        if older && (missed_finish || self.was_filled(node, volume)) {
            self.rollback.older[volume][node] = false;
            return;
        }
        let nothing = decision.verdict == SyncVerdict::Nothing
            && !matches!(decision.rule, SyncRule::NoDisk | SyncRule::JustCreatedBoth);
        if older && (nothing || matches!(decision.verdict, SyncVerdict::Source(_))) && !self.operator.forced {
            let detail =
                format!("node {node} volume {volume}, whose metadata are old or new, is no target: {decision:?}");
            self.fail(Kind::WrongData, "I-G8", detail);
        }
    }
}
