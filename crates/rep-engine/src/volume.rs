//! One volume: its disks' states, its local disk while one is attached, and what is under way on it.

use crate::command::Side;
use crate::dirty_bitmap::DirtyBitmap;
use crate::event::Timestamp;
use crate::limits;
use crate::local_disk::{LocalDisk, SuperblockTicket};
use crate::operation::IoPurpose;
use crate::overlap::OverlapTable;
use crate::resync::Resync;
use crate::slab::Key;
use crate::snapshot::Counters;
use crate::stages::StageLatencies;
use crate::starved::Starved;
use crate::sync_decision::Unsettled;
use crate::verify::{Follows, Verify};
use rep_meta::{BootId, DataState, Divergence, PrimaryMark, Superblock};
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, BlockIndex, BlockRange, ByteRange, DigestKey, DiskState, GenerationId, Generations, ReplicationState,
    SECTOR_SIZE, SyncDecision, VolumeNumber,
};
use rep_wire::{OperatorWord, PriorEnd, VolumeView, features};
use std::collections::VecDeque;

/// Who waits for the activity log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogWaiter {
    /// A client's write.
    Operation(Key),
    /// A write from the peer, while this node's is the only disk.
    PeerRequest(Key),
}

/// A loss (of the peer, or of a disk) that must be durable before anything is answered (R13, R14).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Recording {
    /// A new generation is being written here.
    Superblock(SuperblockTicket),
    /// The peer was told that our disk is gone and makes the generation (R15).
    Peer,
}

/// Blocks completed on both disks that a flush has not covered yet: what R3 calls the transfer log, as sets.
#[derive(Debug)]
pub(crate) struct FlushSets {
    /// Since the last epoch was closed.
    pub current: DirtyBitmap,
    /// In the epoch being closed.
    pub closing: DirtyBitmap,
}

impl FlushSets {
    pub fn new(blocks: u64) -> Self {
        let set = || DirtyBitmap::reused(blocks, limits::UNFLUSHED_PAGES_MAX);
        FlushSets { current: set(), closing: set() }
    }

    fn grow(&mut self, blocks: u64) {
        self.current.resize(blocks);
        self.closing.resize(blocks);
    }

    pub fn clear_all(&mut self) {
        self.current.clear_all();
        self.closing.clear_all();
    }
}

/// Blocks that were made equal and whose bits clear with the next flush of the target's disk (R24).
#[derive(Debug)]
pub(crate) struct InSyncSets {
    /// Made equal since the last flush began.
    pub current: DirtyBitmap,
    /// Covered by the epoch being closed.
    pub closing: DirtyBitmap,
    /// Covered by a flush the peer asked for.
    pub peer_flush: DirtyBitmap,
}

impl InSyncSets {
    pub fn new(blocks: u64) -> Self {
        InSyncSets {
            current: DirtyBitmap::new(blocks),
            closing: DirtyBitmap::new(blocks),
            peer_flush: DirtyBitmap::new(blocks),
        }
    }

    fn grow(&mut self, blocks: u64) {
        for set in [&mut self.current, &mut self.closing, &mut self.peer_flush] {
            set.resize(blocks);
        }
    }

    pub fn clear_all(&mut self) {
        self.current.clear_all();
        self.closing.clear_all();
        self.peer_flush.clear_all();
    }

    /// A newer write on these blocks is not mirrored: an earlier copy proves nothing any more (I-B2).
    pub fn forget(&mut self, blocks: BlockRange) {
        self.current.clear(blocks);
        self.closing.clear(blocks);
        self.peer_flush.clear(blocks);
    }

    pub fn contains_any(&self, blocks: BlockRange) -> bool {
        self.current.any_set(blocks) || self.closing.any_set(blocks) || self.peer_flush.any_set(blocks)
    }

    pub fn count(&self) -> u64 {
        self.current.count() + self.closing.count() + self.peer_flush.count()
    }
}

/// What the peer told of a volume in a handshake, kept for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PeerTold {
    pub volume: VolumeNumber,
    pub generations: Generations,
    pub out_of_sync_blocks: u64,
    pub divergence: Divergence,
}

impl From<&VolumeView> for PeerTold {
    fn from(view: &VolumeView) -> Self {
        PeerTold {
            volume: view.volume,
            generations: view.generations,
            // In bytes it is a number, whatever the peer claims.
            out_of_sync_blocks: view.out_of_sync_blocks.min(u64::MAX / BLOCK_SIZE),
            divergence: Divergence { since_unix_ms: view.diverged_since_unix_ms, as_primary: view.diverged_as_primary },
        }
    }
}

/// A volume.
#[derive(Debug)]
pub(crate) struct Volume {
    pub number: VolumeNumber,
    pub disk: DiskState,
    pub peer_disk: DiskState,
    pub replication: ReplicationState,
    /// What clients see; 0 while nothing is known.
    pub size_bytes: u64,
    /// What they were last told, while the device is offered.
    pub offered_bytes: Option<u64>,
    /// How far growing is.
    pub growth: crate::resize::Growth,
    /// What clients' offsets and lengths are multiples of, in bytes: what both disks can do (see `block_sizes`).
    pub block_bytes: u32,
    /// The same of the attached disk alone.
    pub disk_block_bytes: u32,
    /// Whether the attached disk gives discarded space back.
    pub disk_discards: bool,
    /// The same of the peer's, as it told last.
    pub peer_discards: bool,
    /// Whether the attached disk may have a volatile cache.
    pub disk_volatile: bool,
    /// The same of the peer's, as it told last.
    pub peer_volatile: bool,
    /// A device an earlier daemon left behind, until this node is Primary.
    pub left: Option<rep_types::LeftDevice>,
    pub openers: u32,
    /// Present while a disk is attached.
    pub local: Option<LocalDisk>,
    /// Counts attachments.
    pub attachment: u32,
    /// The attach that isn't finished.
    pub attaching: Option<crate::attach::Attaching>,
    /// Being let go of by the operator: takes nothing new.
    pub detaching: bool,
    /// The superblock that settles how the last attachment ended is on its way; once durable, only a lost link can
    /// come before the next handshake.
    pub settling: Option<SuperblockTicket>,
    /// The superblock that makes this disk UpToDate is on its way.
    pub adopting: Option<SuperblockTicket>,
    pub table: OverlapTable,
    pub log_waiters: VecDeque<LogWaiter>,
    pub unflushed: FlushSets,
    pub in_sync: InSyncSets,
    /// The flush under way on the local disk, and those that wait for it.
    pub flushes: VecDeque<IoPurpose>,
    pub recording: Option<Recording>,
    /// The peer was lost with writes it lacks; the generation for that begins once it is known not to go on.
    pub owes_generation: bool,
    /// What waits for good data.
    pub starved: Starved,
    /// The peer, a Primary, told us that its disk is gone and waits for our word.
    pub owes_disk_lost_answer: bool,
    pub resync: Option<Resync>,
    /// A verify this node leads.
    pub verify: Option<Verify>,
    /// The verify the peer leads.
    pub follows: Option<Follows>,
    pub verify_key: DigestKey,
    /// A verify found blocks that differ, and nothing has been done about them yet.
    pub found_different: bool,
    /// They are to be made equal, from that side.
    pub repair_from: Option<Side>,
    /// Until a handshake has been about it: the side whose data are right where a verify found a difference, by the
    /// operator's word.
    pub found_good_on: Option<Side>,
    pub resync_paused_here: bool,
    pub resync_paused_there: bool,
    /// No handshake has been about the attached disk yet: a write of the peer that arrives now was meant for the disk before.
    pub unmet: bool,
    /// The peer's disk went while the peer was Primary, or before a resync of two of one generation had got one of its own, and no
    /// handshake has been about it since: it may hold something else under the same generation.
    pub parted_unequal: bool,
    pub prior_end: PriorEnd,
    /// A flush failed in this daemon's life: what wasn't flushed before may be lost, as with a node's crash (I-D6).
    pub cache_lost: bool,
    /// Without a disk: the generation of the data this node, as Primary, has shown to clients; `NONE` when unknown.
    pub exposed: GenerationId,
    /// Without a disk, as Primary: the disk of this generation is the one clients were served from last, and nobody has
    /// taken a write since; `NONE`: there is none such.
    pub served_last: GenerationId,
    /// What a disk bore that was let go of in this life of the daemon, good while the peer's wasn't known to hold the same, or not compared
    /// with it yet; until another was met, or one of the nodes is Primary (decision 40).
    pub let_go_good: Option<Generations>,
    /// Without a disk: the peer was told since that we join it, and its data could go on. What the disk that was here says
    /// of the peer, should it come back, is past (F3).
    pub joined_without_disk: bool,
    /// The boot the disk was attached in.
    pub boot: BootId,
    /// The operator's word on a split brain, for the next handshake only (I-G4).
    pub word: OperatorWord,
    /// What the last handshake that was to join the nodes decided.
    pub last_decision: Option<SyncDecision>,
    /// Why it left a split brain to the operator.
    pub unsettled: Option<Unsettled>,
    /// Whether a resync by that decision compares before it copies.
    pub compares: bool,
    /// What the peer told in the last handshake.
    pub peer_told: Option<PeerTold>,
    pub counters: Counters,
    /// Where the time of clients' requests went.
    pub stages: Box<StageLatencies>,
}

impl Volume {
    pub fn new(number: VolumeNumber) -> Self {
        Volume {
            number,
            disk: DiskState::Diskless,
            peer_disk: DiskState::DUnknown,
            replication: ReplicationState::Off,
            size_bytes: 0,
            offered_bytes: None,
            growth: crate::resize::Growth::default(),
            block_bytes: SECTOR_SIZE as u32,
            disk_block_bytes: SECTOR_SIZE as u32,
            disk_discards: false,
            peer_discards: false,
            disk_volatile: true,
            peer_volatile: true,
            left: None,
            openers: 0,
            local: None,
            attachment: 0,
            attaching: None,
            detaching: false,
            adopting: None,
            settling: None,
            table: OverlapTable::new(),
            log_waiters: VecDeque::new(),
            unflushed: FlushSets::new(0),
            in_sync: InSyncSets::new(0),
            flushes: VecDeque::new(),
            recording: None,
            owes_generation: false,
            starved: Starved::default(),
            owes_disk_lost_answer: false,
            resync: None,
            verify: None,
            follows: None,
            verify_key: DigestKey::default(),
            found_different: false,
            repair_from: None,
            found_good_on: None,
            unmet: false,
            parted_unequal: false,
            resync_paused_here: false,
            resync_paused_there: false,
            prior_end: PriorEnd::Clean,
            cache_lost: false,
            exposed: GenerationId::NONE,
            served_last: GenerationId::NONE,
            let_go_good: None,
            joined_without_disk: false,
            boot: BootId::NONE,
            word: OperatorWord::None,
            last_decision: None,
            unsettled: None,
            compares: false,
            peer_told: None,
            counters: Counters::default(),
            stages: Box::default(),
        }
    }

    /// Sets the size clients see, and everything that is counted in blocks of it.
    pub fn set_size(&mut self, size_bytes: u64) {
        if self.size_bytes == size_bytes {
            return;
        }
        let grows = size_bytes > self.size_bytes;
        self.size_bytes = size_bytes;
        let blocks = size_bytes.div_ceil(rep_types::BLOCK_SIZE);
        if grows {
            // It may be in use.
            self.unflushed.grow(blocks);
            self.in_sync.grow(blocks);
        } else {
            self.unflushed = FlushSets::new(blocks);
            self.in_sync = InSyncSets::new(blocks);
        }
    }

    /// The local disk, if it takes client writes and writes from the peer now.
    pub fn takes_local_writes(&self) -> bool {
        self.local.is_some()
            && !self.detaching
            && self.disk.takes_writes()
            && self.resync.as_ref().is_none_or(|resync| resync.target_takes_writes())
    }

    /// The same for a write from the peer. When a handshake on a `standing` connection makes this node a target, writes
    /// the peer mirrored before it had concluded are still on their way: they belong to the time before, and refusing
    /// them would leave blocks different and unmarked. A disk that came meanwhile takes none of them: the peer, told that the
    /// one before was gone, has marked them and no longer keeps its resync from their blocks.
    pub fn takes_peer_writes(&self, standing: bool) -> bool {
        if self.unmet {
            return false;
        }
        let exchanging = self.resync.as_ref().is_some_and(|resync| !resync.target_takes_writes());
        self.local.is_some() && !self.detaching && self.disk.takes_writes() && (standing || !exchanging)
    }

    /// Whether the peer, a Primary, has no disk that takes its writes: what it sends is on this disk alone.
    pub fn is_only_disk(&self) -> bool {
        !self.peer_disk.takes_writes() || self.resync.as_ref().is_some_and(|resync| !resync.peer_takes_writes())
    }

    /// Whether a client write goes to the peer's disk as well. `connected`: the handshake is done.
    pub fn mirrors(&self, connected: bool) -> bool {
        connected
            && self.replication.mirrors()
            && self.peer_disk.takes_writes()
            && self.resync.as_ref().is_none_or(|resync| resync.peer_takes_writes())
    }

    /// Marks blocks out-of-sync. They lie in hot extents or the mark is made durable before anything is answered.
    pub fn mark_out_of_sync(&mut self, blocks: BlockRange) {
        if !planted!("newer-write-keeps-proof") {
            self.in_sync.forget(blocks);
        }
        if let Some(local) = &mut self.local {
            local.mark_out_of_sync(blocks);
        }
    }

    /// Whether anything was done on both disks that the peer hasn't flushed.
    pub fn has_unflushed(&self) -> bool {
        !self.unflushed.current.is_empty() || !self.unflushed.closing.is_empty()
    }

    /// What was done on both disks but not flushed on the peer is out-of-sync once the peer is lost (R3). Says whether
    /// there was any.
    pub fn mark_unflushed(&mut self) -> bool {
        let any = self.has_unflushed();
        if let Some(local) = self.local.as_mut().filter(|_| !planted!("unflushed-forgotten")) {
            local.unite(&self.unflushed.current);
            local.unite(&self.unflushed.closing);
        }
        self.unflushed.clear_all();
        any
    }

    /// What was done on both disks in the epoch being closed is out-of-sync: the peer didn't flush it. Says whether
    /// there was any.
    pub fn mark_unflushed_closing(&mut self) -> bool {
        let any = !self.unflushed.closing.is_empty();
        if let Some(local) = &mut self.local {
            local.unite(&self.unflushed.closing);
        }
        self.unflushed.closing.clear_all();
        any
    }

    /// A flush covered the blocks of one of the in-sync sets: their bits clear (R24).
    pub fn clear_in_sync(&mut self, now: Timestamp, pick: impl FnOnce(&mut InSyncSets) -> &mut DirtyBitmap) {
        let set = pick(&mut self.in_sync);
        if set.is_empty() {
            return;
        }
        let mut from = BlockIndex(0);
        while let Some(run) = set.next_run(from, u64::MAX) {
            if let Some(local) = &mut self.local {
                local.clear_out_of_sync(run);
            }
            from = BlockIndex(run.end());
        }
        set.clear_all();
        self.save_resync_progress(now);
    }

    /// The operator's word, as a peer with these features understands it.
    pub fn word_for(&self, features: u64) -> OperatorWord {
        match (self.word, self.found_good_on) {
            (OperatorWord::None, Some(side)) if features & features::REPAIR_WORD != 0 => match side {
                Side::Local => OperatorWord::RepairPeers,
                Side::Peer => OperatorWord::RepairMine,
            },
            (word, _) => word,
        }
    }

    /// A side has become Primary: it keeps what its clients have read, and isn't repaired any more.
    pub fn keep_from_repair(&mut self, side: Side) {
        self.found_good_on = self.found_good_on.filter(|good| *good == side);
    }

    /// Whether a write the peer lacks needs a new generation first (R13, R15): one has begun since both had the same,
    /// save that the target of a resync was told ours and may have taken it over.
    pub fn generation_due(&self) -> bool {
        self.local.as_ref().is_some_and(|local| {
            let superblock = local.superblock();
            let in_doubt = superblock.finish_told && !planted!("told-finish-forgotten");
            superblock.generations.bitmap.is_none() || in_doubt
        })
    }

    /// The peer's disk goes: of a Primary, or in the middle of a resync of two of one generation that none of its own tells of yet.
    pub fn parts(&mut self, of_primary: bool) {
        let local = self.local.as_ref().filter(|_| self.resync.is_some());
        let of_equals = local.is_some_and(|local| local.superblock().generations.bitmap.is_none());
        self.parted_unequal |= of_primary || of_equals;
    }

    /// Whether every block of the range may be read from the local disk (R27).
    pub fn reads_locally(&self, range: ByteRange) -> bool {
        match (&self.local, self.disk) {
            (None, _) => false,
            (Some(_), DiskState::UpToDate) => true,
            (Some(local), DiskState::Inconsistent) => {
                self.resync.as_ref().is_some_and(|resync| resync.is_running_target())
                    && (!local.bitmap().any_set(range.blocks_touched()) || planted!("read-inconsistent"))
            }
            _ => false,
        }
    }

    /// What a disk bears that is being attached and whose data are good by themselves.
    pub fn good_data_that_come(&self) -> Option<Generations> {
        let attaching = self.local.as_ref().filter(|_| self.attaching.is_some()).map(|local| local.superblock());
        let good = attaching.filter(|superblock| superblock.data == DataState::Consistent);
        good.map(|superblock| superblock.generations)
    }

    /// The same of one that has come, and that no handshake has settled yet.
    pub fn unsettled_data(&self) -> Option<Generations> {
        let unsettled = self.local.as_ref().filter(|_| self.disk == DiskState::Consistent);
        unsettled.map(|local| local.superblock().generations)
    }

    /// What a disk bears that is being attached, or has come, and that the peer hasn't been compared with.
    pub fn unmet_data(&self) -> Option<Generations> {
        self.good_data_that_come().or_else(|| self.unsettled_data())
    }

    /// Whether a disk of this node that isn't there, or not yet, is known to be ahead of the peer's (R29).
    pub fn had_newer_than_peer(&self) -> bool {
        self.is_ahead_of_peer(self.good_data_that_come().or(self.let_go_good))
    }

    /// Whether data of these generations descend from those that the peer has told of last.
    pub fn is_ahead_of_peer(&self, mine: Option<Generations>) -> bool {
        mine.zip(self.peer_told).is_some_and(|(mine, told)| {
            let theirs = told.generations.current;
            theirs.is_real() && theirs != mine.current && (theirs == mine.bitmap || mine.remembers(theirs))
        })
    }

    pub fn out_of_sync_blocks(&self) -> u64 {
        self.local.as_ref().map_or(0, |local| local.bitmap().count())
    }
}

/// A handshake's verdict settles how the last attachment ended: what a crash may have cost is durably accounted for by
/// the very write this edit belongs to.
pub(crate) fn settle_crash(superblock: &mut Superblock, boot: BootId) {
    superblock.attached_boot = boot;
    if superblock.primary == PrimaryMark::Crashed {
        superblock.primary = PrimaryMark::None;
    }
}
