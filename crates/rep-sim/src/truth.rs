//! What the durable metadata of both nodes say, read from their disks with the real code, behind the engines' backs.
//!
//! A node is *current* for a volume when its durable metadata don't say Inconsistent and bear the newest generation: the one
//! that was started on top of the newest so far. That is what the next handshake would go by, so it is what must be
//! true: some current node must be *full*, which is looked up in its data.

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::node::OpKind;
use crate::world::{World, identity};
use rep_engine::Command;
use rep_meta::{
    BootId, DataState, Layout, Loaded, LoadedPage, MetaIoError, MetaStorage, PAGE_BLOCKS, Placement, Superblock,
};
use rep_types::{BLOCK_SIZE, DiskState, GenerationId, ReplicationState};
use std::rc::Rc;

/// A volume's lineage.
#[derive(Clone, Debug)]
struct Lineage {
    newest: GenerationId,
    seen: Vec<GenerationId>,
    current: [bool; 2],
    /// Whether a node's cache has been whole since its data were last known to be everything. A disk that lost its
    /// cache may hold everything by luck; nobody can know.
    intact: [bool; 2],
    last: [GenerationId; 2],
    /// Whether a node's disk has failed since both were last known to be equal.
    failed: [bool; 2],
    /// Whether a node's disk was out of reach at any time since then: its daemon dead, or detached.
    away: [bool; 2],
    /// Whether a node held everything when the other's cache was lost, though it wasn't of the generation just begun there.
    whole_before: [bool; 2],
}

/// Metadata as they were at some version of the disk.
type Parsed = (u64, Rc<Loaded>);

/// The durable state.
#[derive(Debug)]
pub struct Truth {
    parsed: Vec<[Option<Parsed>; 2]>,
    lineages: Vec<Lineage>,
}

/// Reads metadata without repairing it.
struct ReadOnly<'a>(&'a mut crate::disk::MetaDisk);

impl MetaStorage for ReadOnly<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        self.0.read(offset, buf)
    }

    fn write(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), MetaIoError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MetaIoError> {
        Ok(())
    }
}

impl Truth {
    /// Nothing known yet.
    pub fn new(volumes: usize) -> Self {
        let lineage = Lineage {
            newest: GenerationId::JUST_CREATED,
            seen: Vec::new(),
            current: [false; 2],
            intact: [true; 2],
            last: [GenerationId::JUST_CREATED; 2],
            failed: [false; 2],
            away: [false; 2],
            whole_before: [false; 2],
        };
        Truth { parsed: vec![[None, None]; volumes], lineages: vec![lineage; volumes] }
    }

    /// Whether a node is current for a volume.
    pub fn is_current(&self, node: usize, volume: usize) -> bool {
        self.lineages[volume].current[node]
    }
}

/// Whether no superblock is written there: neither one of these metadata nor one of those that take their place when a
/// disk has grown.
fn holds_log_or_bitmap(layout: &Layout, offset: u64) -> bool {
    let parts = [
        (layout.log_offset, layout.log_blocks),
        (layout.summary_offset, layout.summary_blocks),
        (layout.pages_offset, layout.pages),
    ];
    parts.iter().any(|(start, blocks)| (*start..*start + u64::from(*blocks) * BLOCK_SIZE).contains(&offset))
}

/// Whether a block is marked in a node's durable metadata: a bit, a hot extent, or damage that counts as either.
pub fn marks(loaded: &Loaded, block: u64) -> bool {
    let extent = rep_types::BlockIndex(block).extent();
    loaded.log.damaged || loaded.log.hot.contains(&extent) || marks_bit(loaded, block)
}

/// Whether a block's bit is set in a node's durable metadata.
pub fn marks_bit(loaded: &Loaded, block: u64) -> bool {
    let within = (block % PAGE_BLOCKS) as usize;
    match loaded.bitmap.pages.get((block / PAGE_BLOCKS) as usize) {
        None | Some(LoadedPage::Clean) => false,
        Some(LoadedPage::AllSet) => true,
        Some(LoadedPage::Mixed(bits)) => bits[within / 64] & (1 << (within % 64)) != 0,
    }
}

impl World {
    /// A volume's metadata as they are on a node's disk now.
    pub(crate) fn durable(&mut self, node: usize, volume: usize) -> Option<Rc<Loaded>> {
        let disk = &mut self.nodes[node].volumes[volume];
        if let Some((version, loaded)) = &self.truth.parsed[volume][node]
            && *version == disk.meta.version
        {
            return Some(loaded.clone());
        }
        let placement = if self.swarm.internal_metadata { Placement::Internal } else { Placement::External };
        let version = disk.meta.version;
        let device_bytes = disk.device_bytes;
        match rep_meta::load(&mut ReadOnly(&mut disk.meta), &identity(node, volume), placement, device_bytes) {
            Ok(loaded) => {
                let loaded = Rc::new(loaded);
                let before = self.truth.parsed[volume][node].replace((version, loaded.clone()));
                self.note_evictions(before.map(|(_, loaded)| loaded), &loaded);
                Some(loaded)
            }
            Err(error) => {
                let detail = format!("node {node} volume {volume}: a crash now would leave no metadata: {error}");
                self.fail(Kind::WrongData, "I-F4", detail);
                None
            }
        }
    }

    fn note_evictions(&mut self, before: Option<Rc<Loaded>>, now: &Loaded) {
        if before.is_some_and(|before| before.log.hot.iter().any(|extent| !now.log.hot.contains(extent))) {
            self.seen(Sometimes::Eviction);
        }
    }

    /// A metadata block of a node has changed on its disk.
    pub(crate) fn meta_changed(&mut self, node: usize, volume: usize, offset: Option<u64>) {
        let superblock = match (offset, &self.truth.parsed[volume][node]) {
            (Some(offset), Some((_, loaded))) => !holds_log_or_bitmap(&loaded.layout, offset),
            _ => true,
        };
        if superblock {
            self.truth_refresh(node, volume);
        }
        if self.dice.misc.chance(250) {
            self.check_coverage("a metadata write");
        }
    }

    /// Follows the lineage of a volume after its superblock may have changed on a node.
    pub(crate) fn truth_refresh(&mut self, node: usize, volume: usize) {
        let Some(loaded) = self.durable(node, volume) else { return };
        if loaded.superblock.attached_boot == BootId::NONE {
            self.check_clean_end(node, volume);
        }
        let generations = loaded.superblock.generations;
        let current = generations.current;
        let lineage = &mut self.truth.lineages[volume];
        let last = std::mem::replace(&mut lineage.last[node], current);
        let fresh = current.is_real() && !lineage.seen.contains(&current);
        for known in [current, generations.bitmap] {
            if known.is_real() && !lineage.seen.contains(&known) {
                lineage.seen.push(known);
            }
        }
        let elsewhere = lineage.last[1 - node] == last;
        if loaded.superblock.attached_boot == BootId::CACHE_LOST && last == lineage.newest && !elsewhere {
            // A generation whose write was under way when the disk failed is taken back: nothing was answered in it, and who had
            // everything before has it still.
            lineage.newest = current;
            if lineage.whole_before[1 - node] {
                self.loss_was_none(volume);
            }
        } else if fresh {
            if last == lineage.newest {
                lineage.newest = current;
            } else {
                self.fork(node, volume, last, current);
            }
        }
        self.membership(volume, false);
    }

    fn fork(&mut self, node: usize, volume: usize, last: GenerationId, current: GenerationId) {
        self.seen(Sometimes::Forked);
        self.history.forked = true;
        // The other's disk may have begun a generation, and failed, since the force was found to do no harm.
        if !self.operator.forced && !self.forces(node) {
            let newest = self.truth.lineages[volume].newest;
            let detail = format!(
                "node {node} volume {volume}, whose data is of {last}, starts {current} while the newest is {newest}"
            );
            self.fail(Kind::WrongData, "I-G6", detail);
        }
    }

    /// Who is current; and that no full copy was given up for one that isn't.
    fn membership(&mut self, volume: usize, expected: bool) {
        let mut now = [false; 2];
        for (node, current) in now.iter_mut().enumerate() {
            let Some(loaded) = self.durable(node, volume) else { return };
            let generation = loaded.superblock.generations.current;
            *current = loaded.superblock.data != DataState::Inconsistent
                && generation.is_real()
                && generation == self.truth.lineages[volume].newest;
        }
        let lineage = &mut self.truth.lineages[volume];
        let before = std::mem::replace(&mut lineage.current, now);
        for node in 0..2 {
            // By a resync, at whose end everything was there.
            lineage.intact[node] |= now[node] && !before[node];
        }
        // Of a resync whose source lost its cache when the target held everything and was writing down that its own copy is good.
        let whole = lineage.whole_before;
        if (0..2).any(|node| now[node] && !before[node] && whole[node] && self.holds_everything(node, volume)) {
            self.loss_was_none(volume);
        }
        if before == now || expected || self.history.forked {
            return;
        }
        if now != [false; 2] && (0..2).all(|node| !now[node] || self.takes_back(node, volume)) {
            // A generation has landed on a disk that has failed meanwhile; the word that takes it back is on its way.
            return;
        }
        let had = (0..2).find(|node| before[*node] && self.is_full(*node, volume));
        let has = (0..2).find(|node| now[*node] && self.holds_everything(*node, volume));
        if let (Some(lost), None) = (had, has) {
            let both_failed = self.truth.lineages[volume].failed == [true; 2];
            let failed_unnoticed = (0..2).all(|node| !now[node] || self.has_unreported_failure(node, volume));
            let lineage = &self.truth.lineages[volume];
            let away = lineage.away[lost] || self.takes_its_leave(lost, volume);
            let out_of_reach = away && lineage.failed[1 - lost];
            let source_died = self.begins_resync_from_dead_source(lost, volume);
            if both_failed || failed_unnoticed || out_of_reach || source_died || self.is_being_given_up(lost, volume) {
                // The last good copy failed, while the other failed as well, was out of reach or given up: what no flush
                // covered may be gone.
                return self.lose_all_unflushed(volume);
            }
            let detail = format!(
                "volume {volume}: node {lost} holds everything answered, yet only {now:?} (was {before:?}) are current"
            );
            self.fail(Kind::WrongData, "I-D1", detail);
        }
    }

    /// Whether a node has let a disk of its go, and still writes the last word for it: that it has lost its cache. One that was let go of
    /// with other writes under way, because it hung, says nothing of the kind.
    fn takes_back(&self, node: usize, volume: usize) -> bool {
        let gone = self.snapshot(node).is_some_and(|shown| shown.volumes[volume].disk == DiskState::Diskless);
        let last_word = |kind: &OpKind| match kind {
            OpKind::Meta { block, .. } => {
                Superblock::decode(&block.0).is_ok_and(|(written, _)| written.attached_boot == BootId::CACHE_LOST)
            }
            _ => false,
        };
        gone && self.nodes[node].ops.values().any(|op| op.volume == volume && last_word(&op.kind))
    }

    /// Whether a node's disk has failed and its engine doesn't know yet.
    pub(crate) fn has_unreported_failure(&self, node: usize, volume: usize) -> bool {
        self.nodes[node].ops.values().any(|op| op.volume == volume && matches!(op.done, Some(Err(_))))
    }

    /// Whether a node is the target of a resync whose source has lost its disk since they agreed on it, and the word of
    /// that hasn't arrived yet. It was agreed on while the source's disk held everything; that the target's own copy
    /// did, too, nobody can know, and it is given up for the first block that will arrive (R21).
    fn begins_resync_from_dead_source(&self, target: usize, volume: usize) -> bool {
        let [target, source] = [target, 1 - target].map(|node| self.snapshot(node));
        let (Some(target), Some(source)) = (target, source) else { return false };
        let (target, source) = (&target.volumes[volume], &source.volumes[volume]);
        target.replication == ReplicationState::SyncTarget
            && target.peer_disk == DiskState::UpToDate
            && source.disk == DiskState::Diskless
            && source.replication == ReplicationState::Established
    }

    /// Whether a node is letting go of a disk as it was told to, and its peer goes by that already: the disk counts as gone
    /// from the node's word on, and is closed only when what was under way to it has ended.
    fn takes_its_leave(&self, node: usize, volume: usize) -> bool {
        let leaves = |command: &Option<Command>| match command {
            Some(Command::Detach { volume: number, .. }) => usize::from(number.0) == volume,
            Some(Command::Shutdown) => true,
            _ => false,
        };
        let told = self.operator.pending.values().any(|pending| pending.node == node && leaves(&pending.command));
        let is_gone = |shown: rep_engine::Snapshot| shown.volumes[volume].peer_disk == DiskState::Diskless;
        told && self.snapshot(1 - node).is_none_or(is_gone)
    }

    /// A node's disk was replaced.
    pub(crate) fn truth_reset(&mut self, node: usize, volume: usize) {
        self.truth.parsed[volume][node] = None;
        self.truth.lineages[volume].last[node] = GenerationId::JUST_CREATED;
        self.membership(volume, true);
    }

    /// Whether no node has ever had data for this volume.
    pub(crate) fn truth_just_created(&self, volume: usize) -> bool {
        self.truth.lineages[volume].seen.is_empty()
    }

    /// Both nodes call each other's data the same as theirs.
    pub(crate) fn known_equal(&mut self, volume: usize) {
        let lineage = &mut self.truth.lineages[volume];
        (lineage.intact, lineage.failed, lineage.away) = ([true; 2], [false; 2], [false; 2]);
        self.knows_all(volume);
    }

    /// A node's disk went out of reach.
    pub(crate) fn disk_away(&mut self, node: usize, volume: usize) {
        self.truth.lineages[volume].away[node] = true;
    }

    /// A node's disk failed an operation.
    pub(crate) fn disk_failed(&mut self, node: usize, volume: usize) {
        self.truth.lineages[volume].failed[node] = true;
        self.nodes[node].volumes[volume].rot.unsettled = true;
    }

    /// Whether a node's data hold everything that was answered, and not by luck.
    pub(crate) fn is_full(&self, node: usize, volume: usize) -> bool {
        self.truth.lineages[volume].intact[node] && self.holds_everything(node, volume)
    }

    fn holds_everything(&self, node: usize, volume: usize) -> bool {
        let cached = self.nodes[node].volumes[volume].data.cached();
        self.misses(volume, cached, |sector, value| self.history.is_current(volume, sector, value)).is_none()
    }

    /// The first sector of some content that doesn't hold what it must.
    pub(crate) fn misses(&self, volume: usize, content: &[u32], ok: impl Fn(u32, u32) -> bool) -> Option<u32> {
        let initial = self.history.initial(volume);
        let content = &content[..initial.len()];
        if content != initial {
            let differs = content.iter().zip(initial).enumerate().filter(|(_, (a, b))| a != b);
            for (sector, (value, _)) in differs {
                if !ok(sector as u32, *value) {
                    return Some(sector as u32);
                }
            }
        }
        self.history.touched(volume).iter().copied().find(|sector| !ok(*sector, content[*sector as usize]))
    }

    /// A node's cache was lost: if no full copy is left, what no flush covered is lost, and nothing else. Whether some of it is.
    pub(crate) fn cache_lost(&mut self, node: usize, volume: usize) -> bool {
        self.note_owed(node, volume, false);
        if self.history.forked {
            return false;
        }
        if self.history.has_unflushed(volume) {
            self.truth.lineages[volume].intact[node] = false;
        }
        let current: Vec<usize> = (0..2).filter(|node| self.truth.is_current(*node, volume)).collect();
        if current.is_empty() || current.iter().any(|node| self.is_full(*node, volume)) {
            return false;
        }
        self.line(|| format!("volume {volume}: no full copy is left after node {node} lost its cache"));
        let spared = |other| other != node && self.is_full(other, volume) && !self.is_owed(volume);
        self.truth.lineages[volume].whole_before = [0, 1].map(spared);
        let cached = self.nodes[node].volumes[volume].data.cached();
        let held = |sector, value| !self.history.lacks_answered(volume, sector, value);
        let lost = self.misses(volume, cached, held).is_some();
        self.note_owed(node, volume, lost);
        self.lose_all_unflushed(volume);
        lost
    }

    /// What no flush covered is lost, and nothing else.
    pub(crate) fn lose_all_unflushed(&mut self, volume: usize) {
        if self.history.forked {
            return;
        }
        self.seen(Sometimes::UnflushedLost);
        self.history.lose_unflushed(volume);
        self.truth.lineages[volume].intact = [true; 2];
        self.check_kept(volume, "a cache was lost");
    }
}
