//! What must hold at every moment, checked on the disks and by name.

use crate::client::Outstanding;
use crate::counters::Sometimes;
use crate::disk::Sectors;
use crate::failure::Kind;
use crate::node::OpKind;
use crate::plan::ClientOp;
use crate::truth::marks;
use crate::world::World;
use rep_engine::Command;
use rep_meta::{DataState, Loaded};
use rep_types::{
    ByBitmapOrFull, ConnectionState, DiskState, IoError, ReplicationState, Role, SyncDecision, SyncVerdict,
};
use std::rc::Rc;

/// Sectors of a block.
const SECTORS_PER_BLOCK: u32 = 8;

/// What is checked at a resync's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResyncBudget {
    /// Blocks marked on either disk when it was decided; `None`: a full one.
    marked: Option<u64>,
    /// Blocks clients had written by then.
    written: u64,
}

fn blocks_of(sectors: Sectors) -> std::ops::Range<u64> {
    u64::from(sectors.first / SECTORS_PER_BLOCK)..u64::from(sectors.end().div_ceil(SECTORS_PER_BLOCK))
}

/// Whether the next handshake of two nodes goes by their bitmaps: only then must they cover what differs.
fn by_bitmap(a: &Loaded, b: &Loaded) -> bool {
    let (a, b) = (&a.superblock.generations, &b.superblock.generations);
    let real = a.current.is_real() && b.current.is_real();
    real && (a.current == b.current || a.current == b.bitmap || b.current == a.bitmap)
}

impl World {
    /// The durable metadata of both nodes, if their bitmaps must cover what differs now.
    fn covering(&mut self, volume: usize) -> Option<[Rc<Loaded>; 2]> {
        if self.history.forked {
            return None;
        }
        let pair = [self.durable(0, volume)?, self.durable(1, volume)?];
        by_bitmap(&pair[0], &pair[1]).then_some(pair)
    }

    /// An operation goes to a disk: in order with the others, and after what must be durable before it.
    pub(crate) fn check_submit(&mut self, node: usize, volume: usize, kind: &OpKind, resync: bool) -> bool {
        if !self.check_whole_blocks(node, volume, kind) || !self.check_overlap(node, volume, kind) {
            return false;
        }
        let Some(sectors) = kind.sectors().filter(|_| kind.writes_data()) else { return true };
        let Some(own) = self.durable(node, volume) else { return false };
        if u64::from(sectors.end()) * rep_types::SECTOR_SIZE > own.layout.available_bytes {
            self.fail(Kind::WrongData, "I-F7", format!("node {node} writes {sectors:?}, beyond its place for data"));
            return false;
        }
        if own.superblock.attached_boot == rep_meta::BootId::NONE {
            let detail = format!("node {node} writes {sectors:?} while its metadata call it cleanly detached");
            self.fail(Kind::WrongData, "I-D8", detail);
        }
        self.check_archived(node, volume);
        if resync {
            self.check_allowed(node, volume);
        }
        if resync && own.superblock.data != DataState::Inconsistent {
            let detail = format!("node {node} takes resync data while stably {:?}", own.superblock.data);
            self.fail(Kind::WrongData, "I-B5", detail);
        }
        self.check_marked_before(node, volume, kind, sectors, resync);
        true
    }

    /// Whether a block would hold after a write what it holds now, but for what was changed behind the engines' backs: a
    /// source whose copy was changed since both were made equal brings that over, and nobody's marks can know of it.
    fn is_already_there(&self, node: usize, volume: usize, kind: &OpKind, block: u64) -> bool {
        let cached = self.nodes[node].volumes[volume].data.cached();
        let Some(sectors) = kind.sectors() else { return false };
        let first = (block as u32 * SECTORS_PER_BLOCK).max(sectors.first);
        let end = ((block as u32 + 1) * SECTORS_PER_BLOCK).min(sectors.end());
        (first..end).all(|sector| {
            let value = match kind {
                OpKind::Write { values, .. } => values[(sector - sectors.first) as usize],
                OpKind::Zero { .. } => 0,
                _ => return false,
            };
            let now = cached[sector as usize];
            now == value || self.is_excused(volume, sector as usize, now, value)
        })
    }

    fn check_marked_before(&mut self, node: usize, volume: usize, kind: &OpKind, sectors: Sectors, resync: bool) {
        let Some(pair) = self.covering(volume) else { return };
        // A resync may bring once more what a mirrored write has already made equal.
        let bare = blocks_of(sectors).find(|block| {
            let again = resync && self.is_already_there(node, volume, kind, *block);
            !again && !pair.iter().any(|loaded| marks(loaded, *block))
        });
        if let Some(block) = bare {
            let detail = format!("node {node} volume {volume} writes block {block}: no log entry or bit is stable");
            self.fail(Kind::WrongData, "I-D5", detail);
        }
    }

    fn check_overlap(&mut self, node: usize, volume: usize, kind: &OpKind) -> bool {
        let clash = match (kind, kind.sectors()) {
            (OpKind::Meta { offset, .. }, _) => self.nodes[node].ops.values().any(|op| {
                op.volume == volume && matches!(&op.kind, OpKind::Meta { offset: other, .. } if other == offset)
            }),
            (_, Some(sectors)) => self.nodes[node].ops.values().any(|op| {
                let both = kind.writes_data() && op.kind.writes_data();
                op.volume == volume && both && op.kind.sectors().is_some_and(|other| other.overlaps(sectors))
            }),
            _ => false,
        };
        if clash {
            let detail = format!("node {node} volume {volume}: {kind:?} overlaps an operation in flight");
            self.fail(Kind::WrongData, "I-R6", detail);
        }
        !clash
    }

    /// A write was answered: each disk holds it, or the other's durable metadata mark it (R14).
    pub(crate) fn check_answered(&mut self, node: usize, volume: usize, sectors: Sectors, asked_at: u64) {
        let lacking: Vec<usize> = (0..2).filter(|holder| self.lacks(*holder, volume, sectors).is_some()).collect();
        let died = !self.told_stable(node, volume) && self.nodes.iter().any(|state| state.lost_cache_at > asked_at);
        let held = (0..2).any(|node| self.truth.is_current(node, volume) && !lacking.contains(&node));
        if died && !held && !self.history.forked {
            // It was in a cache that died while the word that it was there was on its way.
            return self.lose_all_unflushed(volume);
        }
        if lacking.len() == 2 && !self.history.forked {
            let sector = self.lacks(node, volume, sectors).unwrap_or(sectors.first);
            let held = [0, 1].map(|node: usize| self.nodes[node].volumes[volume].data.cached()[sector as usize]);
            let known = self.history.describe(volume, sector);
            let detail = format!(
                "node {node} volume {volume} answers {sectors:?}, which no disk holds: sector {sector} is {held:?}; known: {known}"
            );
            return self.fail(Kind::WrongData, "R14", detail);
        }
        let Some(pair) = self.covering(volume) else { return };
        for holder in lacking {
            let Some(sector) = self.lacks(holder, volume, sectors) else { continue };
            let block = u64::from(sector / SECTORS_PER_BLOCK);
            if !pair.iter().any(|loaded| marks(loaded, block)) {
                let detail = format!("volume {volume} block {block}: answered, not on node {holder}, not marked");
                self.fail(Kind::WrongData, "R14", detail);
            }
            if self.forwards(node) {
                // It only tells what its Primary has answered, and that was judged when it was.
                continue;
            }
            // A cache that died while the word that it had the write was on its way: nobody knows yet.
            let known = holder == node || self.nodes[holder].lost_cache_at <= asked_at;
            self.check_degraded(node, holder, volume, block, known);
        }
    }

    /// A node knows its peer lacks a write it answers: by then a generation says so, durably (I-G2, I-D7).
    fn check_degraded(&mut self, node: usize, holder: usize, volume: usize, block: u64, known: bool) {
        let Some(snapshot) = self.snapshot(node) else { return };
        let peer = &snapshot.volumes[volume];
        let cut = !matches!(snapshot.connection, ConnectionState::Connected | ConnectionState::Disconnecting);
        let parted = snapshot.connection != ConnectionState::Connected || peer.peer_disk != DiskState::UpToDate;
        let alone = cut || (known && parted);
        let without_disk = !matches!(peer.disk, DiskState::UpToDate | DiskState::Inconsistent);
        if holder == node && without_disk && self.truth.is_current(node, volume) {
            let detail = format!("node {node} answers block {block} without its disk, which still passes for current");
            self.fail(Kind::WrongData, "I-G2", detail);
        }
        if holder != node && alone && self.truth.is_current(holder, volume) {
            let detail = format!("node {node} answers block {block} alone; node {holder} still passes for current");
            self.fail(Kind::WrongData, "I-G2", detail);
        }
    }

    fn lacks(&self, node: usize, volume: usize, sectors: Sectors) -> Option<u32> {
        let cached = self.nodes[node].volumes[volume].data.cached();
        (sectors.first..sectors.end()).find(|at| !self.history.is_current(volume, *at, cached[*at as usize]))
    }

    /// A flush was answered: every current disk has it stable.
    pub(crate) fn check_flushed(&mut self, node: usize, volume: usize) {
        if !self.history.forked {
            self.check_kept(volume, "a flush was answered");
            let current = (0..2).any(|node| self.truth.is_current(node, volume));
            if !current {
                self.fail(Kind::WrongData, "I-D2", format!("node {node} answers a flush; nobody's data is current"));
            }
        }
    }

    /// Every current disk keeps, through a power cut, what a flush covered (I-D2).
    pub(crate) fn check_kept(&mut self, volume: usize, when: &str) {
        for node in 0..2 {
            if !self.truth.is_current(node, volume) {
                continue;
            }
            let stable = self.nodes[node].volumes[volume].data.stable();
            let kept = |sector, value| self.history.is_kept(volume, sector, value);
            if let Some(sector) = self.misses(volume, stable, kept) {
                let detail = format!(
                    "{when}: node {node} volume {volume} sector {sector} would keep {}, known: {}",
                    stable[sector as usize],
                    self.history.describe(volume, sector)
                );
                return self.fail(Kind::WrongData, "I-D2", detail);
            }
        }
    }

    /// What differs between the disks, or might after a power cut now, is marked on one of them (I-B1).
    pub(crate) fn check_coverage(&mut self, when: &str) {
        for volume in 0..self.swarm.volumes {
            let Some(pair) = self.covering(volume) else { continue };
            if pair[0].superblock.agreed_bytes != pair[1].superblock.agreed_bytes {
                self.seen(Sometimes::GrownByOne);
            }
            let end = self.agreed_sectors(volume);
            if let Some((sector, why)) = self.uncovered(volume, &pair, end) {
                let block = sector / u64::from(SECTORS_PER_BLOCK);
                let detail = format!("after {when}: volume {volume} block {block} sector {sector} {why}, unmarked");
                self.fail(Kind::WrongData, "I-B1", detail);
            }
        }
    }

    fn uncovered(&self, volume: usize, pair: &[Rc<Loaded>; 2], end: usize) -> Option<(u64, String)> {
        let [a, b] = [0, 1].map(|node| &self.nodes[node].volumes[volume].data);
        let bare = |sector: usize| {
            let block = sector as u64 / u64::from(SECTORS_PER_BLOCK);
            !pair.iter().any(|loaded| marks(loaded, block))
        };
        let [mine, theirs] = [a, b].map(|disk| &disk.cached()[..end]);
        if mine != theirs {
            let mut pairs = mine.iter().zip(theirs).enumerate();
            let excused = |sector, x, y| self.is_excused(volume, sector, x, y);
            let differs = |x: &u32, y: &u32, sector| x != y && bare(sector) && !excused(sector, *x, *y);
            if let Some((sector, (x, y))) = pairs.find(|(sector, (x, y))| differs(x, y, *sector)) {
                return Some((sector as u64, format!("differs ({x} and {y})")));
            }
        }
        for (node, disk) in [a, b].into_iter().enumerate() {
            // What is written once more as it is already stable has nothing to lose.
            let volatile = |sector: &usize| disk.cached()[*sector] != disk.stable()[*sector];
            if let Some(sector) = disk.dirty_sectors().filter(volatile).find(|sector| bare(*sector)) {
                return Some((sector as u64, format!("is in node {node}'s cache only")));
            }
        }
        None
    }

    /// Both engines' states fit together.
    pub(crate) fn check_states(&mut self, node: usize) {
        let Some(mine) = self.snapshot(node) else { return };
        for volume in &mine.volumes {
            let synced = volume.disk == DiskState::UpToDate && volume.peer_disk == DiskState::UpToDate;
            let settled = synced && volume.replication == ReplicationState::Established;
            let excused = self.found_bytes_max(volume.number.0 as usize);
            let marked = volume.out_of_sync_bytes > excused && !volume.growing && !self.is_detaching(node);
            if mine.connection == ConnectionState::Connected && settled && marked {
                let detail = format!("node {node} is in sync with {} bytes out-of-sync", volume.out_of_sync_bytes);
                self.fail(Kind::WrongData, "I-B10", detail);
            }
        }
        self.check_silence(node, &mine.volumes, mine.connection == ConnectionState::Connected);
        self.note_equal(&mine, node);
        self.check_blocks_in_use(node);
        if mine.role == Role::Primary && self.role(1 - node) == Role::Primary {
            self.seen(Sometimes::TwoPrimaries);
            if !self.operator.forced {
                self.fail(Kind::WrongData, "I-G6", "both nodes are Primary; nobody forced one".into());
            }
        }
    }

    /// Whether a node was told to let go of a disk, and hasn't yet.
    fn is_detaching(&self, node: usize) -> bool {
        let detaches = |command: &Option<Command>| matches!(command, Some(Command::Detach { .. } | Command::Shutdown));
        self.operator.pending.values().any(|pending| pending.node == node && detaches(&pending.command))
    }

    fn note_equal(&mut self, mine: &rep_engine::Snapshot, node: usize) {
        let Some(theirs) = self.snapshot(1 - node) else { return };
        let connected = |state: &rep_engine::Snapshot| state.connection == ConnectionState::Connected;
        // One that lets go of its disk ends a resync before the other has heard of its beginning.
        if !connected(mine) || !connected(&theirs) || (0..2).any(|node| self.is_detaching(node)) {
            return;
        }
        let equal = |volume: &rep_engine::VolumeSnapshot| {
            volume.disk == DiskState::UpToDate
                && volume.peer_disk == DiskState::UpToDate
                && volume.replication == ReplicationState::Established
        };
        for volume in 0..self.swarm.volumes {
            if equal(&mine.volumes[volume]) && equal(&theirs.volumes[volume]) {
                self.known_equal(volume);
                self.check_mended(volume);
                self.check_equal(volume);
            }
        }
    }

    /// Both nodes call their disks equal: they are, but for what clients are writing just now (I-B10).
    fn check_equal(&mut self, volume: usize) {
        // While it grows, the new area is marked and differs.
        if self.snapshot(0).is_some_and(|state| state.volumes[volume].growing)
            || self.snapshot(1).is_some_and(|state| state.volumes[volume].growing)
        {
            return;
        }
        let sizes = [0, 1].map(|node| self.snapshot(node).map_or(0, |state| state.volumes[volume].size_bytes));
        let end = (sizes[0].min(sizes[1]) / rep_types::SECTOR_SIZE) as usize;
        let [a, b] = [0, 1].map(|node| &self.nodes[node].volumes[volume].data.cached()[..end]);
        if a == b || self.history.forked || (0..2).any(|node| self.has_unreported_failure(node, volume)) {
            return;
        }
        let differs = (0..a.len()).filter(|sector| a[*sector] != b[*sector]).find(|sector| {
            let excused = self.is_excused(volume, *sector, a[*sector], b[*sector]);
            !excused && !self.is_being_written(volume, *sector as u32)
        });
        if let Some(sector) = differs {
            let detail =
                format!("volume {volume} passes for equal, but sector {sector} is {} and {}", a[sector], b[sector]);
            self.fail(Kind::WrongData, "I-B10", detail);
        }
    }

    /// Whether a client's write of a sector, or one on its way to a disk, is under way.
    pub(crate) fn is_being_written(&self, volume: usize, sector: u32) -> bool {
        let asked = self.clients.outstanding.values().any(|asked| asked.volume == volume && asked.writes(sector));
        let mut ops = self.nodes.iter().flat_map(|node| node.ops.values());
        let written = ops.any(|op| {
            op.volume == volume
                && op.kind.writes_data()
                && op.kind.sectors().is_some_and(|at| at.overlaps(Sectors { first: sector, count: 1 }))
        });
        let late = self
            .clients
            .late
            .iter()
            .any(|(_, write)| write.volume == volume && (write.first..write.first + write.count).contains(&sector));
        asked || written || late
    }

    /// A node became Primary: by force, or with good data in reach (I-G5).
    pub(crate) fn became_primary(&mut self, node: usize) {
        self.nodes[node].promoted_at = self.now;
        let forced = self
            .operator
            .pending
            .values()
            .any(|pending| pending.node == node && pending.command == Some(Command::Promote { force: true }));
        let late = self.operator.forces_late[node].take();
        let forced = forced || late == Some(self.nodes[node].life);
        self.check_promoted_alone(node, forced);
        self.check_promoted_apart(node, forced);
        let Some(mine) = self.snapshot(node) else { return };
        for volume in &mine.volumes {
            let peer = mine.connection == ConnectionState::Connected && volume.peer_disk == DiskState::UpToDate;
            if !forced && !peer && volume.disk != DiskState::UpToDate {
                let detail = format!("node {node} is Primary with {:?} data and no better in reach", volume.disk);
                self.fail(Kind::WrongData, "I-G5", detail);
            }
        }
    }

    /// A node says the pair diverged: only a forced promotion can have done that.
    pub(crate) fn split_brain_seen(&mut self, node: usize) {
        self.operator.split_brain[node] = true;
        // A Primary without a disk refuses data its clients haven't seen.
        let diskless = |volume: &rep_engine::VolumeSnapshot| {
            volume.last_decision.is_some_and(|decision| decision.rule == rep_types::SyncRule::NoDisk)
        };
        let refuses = self.snapshot(node).is_some_and(|snapshot| snapshot.volumes.iter().any(diskless));
        if !self.history.forked && !refuses {
            self.fail(Kind::WrongData, "I-G3", format!("node {node} sees a split brain that isn't one"));
        }
    }

    /// A handshake decided on a resync.
    pub(crate) fn decided(&mut self, node: usize, volume: usize, decision: SyncDecision) {
        let extent = match decision.verdict {
            SyncVerdict::Source(extent) | SyncVerdict::Target(extent) => extent,
            // A disk that wasn't there may have come since.
            SyncVerdict::Nothing if decision.rule == rep_types::SyncRule::NoDisk => return,
            SyncVerdict::Nothing => return self.check_nothing(node, volume),
            SyncVerdict::Refuse(_) => return,
        };
        let marked = match (extent, self.covering(volume)) {
            (ByBitmapOrFull::ByBitmap, Some(pair)) => {
                let blocks = self.history.initial(volume).len() as u64 / u64::from(SECTORS_PER_BLOCK) + 1;
                let durable =
                    (0..blocks).filter(|block| pair.iter().any(|loaded| marks(loaded, *block))).count() as u64;
                // A node may know of more than is on its disk yet.
                Some(durable.max(self.known_out_of_sync(volume)))
            }
            _ => None,
        };
        let written = self.clients.blocks_written[volume];
        self.clients.budgets[volume][node] = Some(ResyncBudget { marked, written });
    }

    fn known_out_of_sync(&self, volume: usize) -> u64 {
        let states = (0..2).filter_map(|node| self.snapshot(node));
        states.map(|state| state.volumes[volume].out_of_sync_bytes.div_ceil(rep_types::BLOCK_SIZE)).sum()
    }

    /// A handshake found nothing to do: then nothing differs that no hot extent covers.
    fn check_nothing(&mut self, node: usize, volume: usize) {
        if self.peer_has_left_handshake(node) {
            // It goes on alone, and what it wrote since is marked.
            return self.check_coverage("a handshake that one side has left");
        }
        if self.history.forked || self.clients.outstanding.values().any(|asked| asked.volume == volume) {
            return;
        }
        let end = self.agreed_sectors(volume);
        let [a, b] = [0, 1].map(|node| &self.nodes[node].volumes[volume].data.cached()[..end]);
        if self.nodes.iter().all(|state| state.volumes[volume].attached && state.in_flight(volume) == 0)
            && let Some(sector) = (0..a.len())
                .find(|sector| a[*sector] != b[*sector] && !self.is_excused(volume, *sector, a[*sector], b[*sector]))
            && self.covering(volume).is_some()
        {
            let detail = format!("node {node} volume {volume} has nothing to sync, but sector {sector} differs");
            self.fail(Kind::WrongData, "R16", detail);
        }
    }

    /// Whether a node concludes a handshake which its peer takes no part in any more, and doesn't know yet: the peer had
    /// joined and takes its leave, or its engine has given the connection up. One that is being made in its place is
    /// no engine's before both sides are authenticated.
    fn peer_has_left_handshake(&self, node: usize) -> bool {
        let leaves = self.snapshot(1 - node).is_some_and(|shown| shown.connection == ConnectionState::Disconnecting);
        leaves || self.network.session_of_engine(0) != self.network.session_of_engine(1)
    }

    /// A resync ended: it copied no more than it had to (I-B7).
    pub(crate) fn resync_finished(&mut self, node: usize, volume: usize, copied_bytes: u64) {
        let Some(ResyncBudget { marked: Some(marked), written }) = self.clients.budgets[volume][node].take() else {
            return;
        };
        let blocks = marked + self.clients.blocks_written[volume] - written + 64;
        if copied_bytes > blocks * rep_types::BLOCK_SIZE {
            let detail = format!("node {node} volume {volume}: {copied_bytes} bytes copied for {marked} marked blocks");
            self.fail(Kind::WrongData, "I-B7", detail);
        }
    }

    /// The metadata call a disk that is still attached cleanly let go of: nothing is under way to it, and nothing is in its cache only (I-D8).
    pub(crate) fn check_clean_end(&mut self, node: usize, volume: usize) {
        let fresh = self.durable(node, volume).is_none_or(|loaded| !loaded.superblock.generations.current.is_real());
        // Metadata that were put back say so of a cache of long ago.
        if !self.nodes[node].volumes[volume].attached || fresh || self.is_older_volume(node, volume) {
            return;
        }
        let disk = &self.nodes[node].volumes[volume].data;
        let volatile = disk.dirty_sectors().find(|sector| disk.cached()[*sector] != disk.stable()[*sector]);
        let mut ops = self.nodes[node].ops.values();
        let under_way = ops.any(|op| op.volume == volume && op.kind.writes_data() && op.done.is_none());
        if volatile.is_some() || under_way {
            let detail = format!("node {node} volume {volume} is called cleanly detached; in its cache: {volatile:?}");
            self.fail(Kind::WrongData, "I-D8", detail);
        }
    }

    /// A copy of a volume failed, ceased to be good, or is good again: until now it wasn't.
    pub(crate) fn copy_troubled(&mut self, volume: usize) {
        self.clients.troubled_at[volume] = Some(self.now);
    }

    /// Whether a request may fail for what became of a copy of its volume while it was under way. A FLUSH may tell of what was before, if
    /// none has been answered since.
    pub(crate) fn was_troubled(&self, asked: &Outstanding) -> bool {
        let flushed_of = self.clients.words[asked.volume][asked.node].flushed_of;
        let since = if asked.op == ClientOp::Flush { flushed_of } else { asked.at };
        self.clients.troubled_at[asked.volume].is_some_and(|at| at >= since)
    }

    /// A request failed: only when a disk did, or none was in reach, while it was under way.
    pub(crate) fn check_error(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        let Some(snapshot) = self.snapshot(asked.node) else { return };
        let healthy = snapshot.volumes[asked.volume].disk == DiskState::UpToDate && snapshot.role == Role::Primary;
        let in_doubt = self.was_taken_back_in_doubt(asked.node);
        if healthy && !self.was_troubled(asked) && !in_doubt && !self.may_be_told(asked) {
            let detail = format!("node {} answers {:?} with {result:?} on a healthy disk", asked.node, asked.op);
            self.fail(Kind::WrongData, "I-F1", detail);
        }
    }
}
