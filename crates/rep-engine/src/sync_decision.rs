//! Who fills whom: the decision table of the handshake, as one pure function.
//!
//! Both nodes send their view, both run [`decide_sync`] on the same pair, and each refuses the other unless the two
//! results mirror each other (R17). So the function reads nothing but its arguments, and every test in it is
//! symmetrical: what one side calls `bitmap-self` the other must call `bitmap-peer`.
//!
//! What the generations promise, and the table builds on:
//!
//! - A Primary that goes on without the peer makes a generation, durably, before the first write it answers alone
//!   (R13, R15). Hence *equal current generations mean that every answered write reached both disks*, at least their
//!   volatile caches. The only thing that may still tell the two apart is what a cache lost.
//! - B, the bitmap generation, isn't `NONE` exactly while the peer may lack something, and the bitmap counts from it.
//!   A resync's target carries the source's B as its C from start to end, so that an interrupted one is found again
//!   whatever the source did since.
//! - The end of a resync gives the target the source's C; equal C with a B left over is a finished resync whose last
//!   message was lost.
//!
//! Order of the questions: no disk; then the rule, from generations and how each side ended; then what may forbid
//! it: sizes, two Primaries, a source without good data, a Primary that would be overwritten (R18).
//!
//! What the engine owes this table, because an answered write depends on it:
//!
//! - `crashed_primary` and a `NodeCrash` last until a handshake has *settled* them: over detach and attach, over a
//!   lost link, over another crash. They are cleared by the same durable write that makes the target Inconsistent
//!   (target) or sets B (source), or when the verdict is `Nothing`; not by the decision itself. Else a node
//!   that lost its cache comes back as merely reconnected, and as the last Primary it would become source.
//! - A target drops its own B when it takes the source's as C, and a source that had none makes one first.
//! - A Primary without a disk tells, as its current generation, the one its clients have seen last: it must not be
//!   shown other data than that.
//! - `agreed_bytes` is set before a volume is first offered, also without a peer.
//!
//! Who gives way in a split brain is decided in `split_brain`. Not here: bitmaps (the set of blocks is the union of
//! both sides, R19), and the carrying out of any of it.

mod explain;
mod split_brain;
#[cfg(test)]
mod tests;

pub use explain::explain;
use split_brain::split_brain;
pub use split_brain::{Unsettled, unsettled};

use rep_types::ByBitmapOrFull::{ByBitmap, Full};
use rep_types::SyncVerdict::{Nothing, Refuse, Source, Target};
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, ByBitmapOrFull, DiskState, GenerationId, Role, SplitBrainPolicies, SyncDecision, SyncRefusal, SyncRule,
    SyncVerdict,
};
use rep_wire::{OperatorWord, PriorEnd, VolumeView};

/// One side of a handshake, for one volume.
#[derive(Clone, Copy, Debug)]
pub struct SyncSide<'a> {
    /// The node's role.
    pub role: Role,
    /// Whether the node's name sorts first. Exactly one side says so; if a broken peer claims the same as we do, the
    /// tie-breakers of the two nodes don't mirror and the handshake is refused by that.
    pub sorts_first: bool,
    /// What the node does about a split brain without asking.
    pub policies: SplitBrainPolicies,
    /// The volume as the node sees it.
    pub view: &'a VolumeView,
}

/// What follows for `mine` when it meets `peer`. For every pair, `decide_sync(a, b).mirrored() == decide_sync(b, a)`.
pub fn decide_sync(mine: SyncSide<'_>, peer: SyncSide<'_>) -> SyncDecision {
    if !mine.has_disk() || !peer.has_disk() {
        let verdict = if both_primary(mine, peer) {
            Refuse(SyncRefusal::BothPrimary)
        } else if mine.has_seen_other_than(peer) || peer.has_seen_other_than(mine) {
            Refuse(SyncRefusal::UnrelatedData)
        } else {
            refuse_blocks(mine, peer).map_or(Nothing, Refuse)
        };
        return SyncDecision { rule: SyncRule::NoDisk, verdict };
    }
    let wanted = by_generations(mine, peer);
    let verdict = refuse_sizes(mine, peer)
        .or_else(|| refuse_two_primaries(mine, peer, wanted.verdict))
        .or_else(|| refuse_direction(mine, peer, wanted.verdict))
        .or_else(|| refuse_blocks(mine, peer).filter(|_| !matches!(wanted.verdict, Refuse(_))))
        .map_or(wanted.verdict, Refuse);
    SyncDecision { rule: wanted.rule, verdict }
}

impl SyncSide<'_> {
    /// Whether this is a Primary without a disk whose clients have seen another generation than the other's disk holds.
    fn has_seen_other_than(self, other: SyncSide<'_>) -> bool {
        let seen = self.view.generations.current;
        let diskless = self.role == Role::Primary && !self.has_disk();
        // The other may have gone on at our own word (`DiskLost`) without our having heard of it; but not as Primary.
        let at_our_word = seen == other.view.generations.bitmap && !other.view.last_primary;
        !planted!("clients-view-ignored")
            && diskless
            && other.has_disk()
            && seen.is_real()
            && seen != other.view.generations.current
            && !at_our_word
    }

    fn has_disk(self) -> bool {
        self.view.disk.takes_writes()
    }

    fn current(self) -> GenerationId {
        self.view.generations.current
    }

    fn bitmap(self) -> GenerationId {
        self.view.generations.bitmap
    }

    /// No data was ever given a generation here.
    fn is_new(self) -> bool {
        !self.current().is_real()
    }

    fn is_inconsistent(self) -> bool {
        self.view.disk == DiskState::Inconsistent
    }

    /// Whether clients are served from this side's disk. A Primary that has just got a disk back serves from its
    /// peer, and the disk is to be filled from there.
    fn is_primary_with_good_data(self) -> bool {
        self.role == Role::Primary && self.view.disk.may_serve_reads()
    }

    /// Whether writes this node had answered for may be missing from its disk: its cache died with the node. A crash
    /// as Primary whose kind isn't known any more counts as one of the node. One that was followed by a clean end was
    /// the daemon's: a node's stays on record until a handshake has settled it, and a clean end flushes.
    fn may_have_lost_writes(self) -> bool {
        let kind_is_known = matches!(self.view.prior_end, PriorEnd::DaemonCrash | PriorEnd::Clean);
        !planted!("lost-cache-ignored") && self.view.prior_end == PriorEnd::NodeCrash
            || (self.view.crashed_primary && !kind_is_known)
    }

    /// Every past generation this side knows of, the one its bitmap counts from included.
    fn ancestors(self) -> impl Iterator<Item = GenerationId> {
        let generations = self.view.generations;
        std::iter::once(generations.bitmap).chain(generations.history).filter(|id| id.is_real())
    }
}

fn both_primary(mine: SyncSide<'_>, peer: SyncSide<'_>) -> bool {
    mine.role == Role::Primary && peer.role == Role::Primary
}

fn decision(rule: SyncRule, verdict: SyncVerdict) -> SyncDecision {
    SyncDecision { rule, verdict }
}

// ---- the rule -------------------------------------------------------------------------------------------------

fn by_generations(mine: SyncSide<'_>, peer: SyncSide<'_>) -> SyncDecision {
    match (mine.is_new(), peer.is_new()) {
        // Neither has good data (forcing one to be Primary would have made a generation): nothing to copy yet.
        (true, true) => decision(SyncRule::JustCreatedBoth, Nothing),
        (true, false) => decision(SyncRule::JustCreatedSelf, Target(Full)),
        (false, true) => decision(SyncRule::JustCreatedPeer, Source(Full)),
        (false, false) if mine.current() == peer.current() => same_generation(mine, peer),
        (false, false) => by_descent(mine, peer),
    }
}

/// Both hold the same generation: every answered write reached both.
fn same_generation(mine: SyncSide<'_>, peer: SyncSide<'_>) -> SyncDecision {
    let bits = mine.view.out_of_sync_blocks > 0 || peer.view.out_of_sync_blocks > 0;
    match (mine.is_inconsistent(), peer.is_inconsistent()) {
        // Also with no bits left: the end of the resync (R25) is still to come.
        (true, false) => return decision(SyncRule::InterruptedResync, Target(ByBitmap)),
        (false, true) => return decision(SyncRule::InterruptedResync, Source(ByBitmap)),
        (true, true) if bits => return decision(SyncRule::InterruptedResync, Refuse(SyncRefusal::NoGoodData)),
        (true, true) => return decision(SyncRule::InterruptedResync, Nothing),
        (false, false) => {}
    }
    let rule = same_generation_rule(mine, peer);
    // Bits are never dismissed, whatever the rule (R16).
    if !bits || planted!("bits-dismissed") {
        return decision(rule, Nothing);
    }
    let verdict = if is_source_of_equals(rule, mine, peer) { Source(ByBitmap) } else { Target(ByBitmap) };
    decision(rule, verdict)
}

/// A crash is asked for before a missed finish: the source of a resync that had ended may have crashed as Primary
/// before it learnt of the end. What it had answered since is complete only on the former target; going on in the
/// resync's direction would overwrite that.
fn same_generation_rule(mine: SyncSide<'_>, peer: SyncSide<'_>) -> SyncRule {
    let link_lost = |side: SyncSide<'_>| side.view.prior_end == PriorEnd::LinkLoss;
    if mine.view.crashed_primary || peer.view.crashed_primary {
        SyncRule::CrashedPrimary
    } else if mine.bitmap().is_real() || peer.bitmap().is_real() {
        SyncRule::MissedFinish
    } else if link_lost(mine) && link_lost(peer) {
        SyncRule::Reconnected
    } else {
        SyncRule::BothOff
    }
}

/// Whether this side fills the peer, both holding the same generation consistently. The first question that tells
/// the two apart decides:
///
/// 1. Primary now: its clients have read what it holds, that must stay (I-R3).
/// 2. A cache that was lost: every answered write reached both, so whoever lost nothing has them all. This is also
///    what makes a Primary that only lost its daemon the source of a survivor that lost its power.
/// 3. What is known to be old: who was to be filled, or parted from a Primary, doesn't fill the other (decision 42).
/// 4. The rule's own: the survivor of a Primary's crash; the source of the resync whose end wasn't heard of.
/// 5. The operator's word, of whose two disks is right where a verify found a difference.
/// 6. The last Primary; the UpToDate one; at last the name.
fn is_source_of_equals(rule: SyncRule, mine: SyncSide<'_>, peer: SyncSide<'_>) -> bool {
    let by_rule = |side: SyncSide<'_>| match rule {
        SyncRule::CrashedPrimary => !side.view.crashed_primary,
        SyncRule::MissedFinish => side.bitmap().is_real(),
        _ => false,
    };
    only_mine(|side| side.is_primary_with_good_data(), mine, peer)
        .or_else(|| only_mine(|side| !side.may_have_lost_writes(), mine, peer))
        .or_else(|| only_mine(|side| side.view.disk != DiskState::Outdated, mine, peer))
        .or_else(|| only_mine(by_rule, mine, peer))
        .or_else(|| repaired_from(mine, peer))
        .or_else(|| only_mine(|side| side.view.last_primary, mine, peer))
        .or_else(|| only_mine(|side| side.view.disk == DiskState::UpToDate, mine, peer))
        .unwrap_or(mine.sorts_first)
}

/// Whether what a verify found is to be made equal from this side, by the operator's word on either.
fn repaired_from(mine: SyncSide<'_>, peer: SyncSide<'_>) -> Option<bool> {
    let by = |source: SyncSide<'_>, target: SyncSide<'_>| {
        source.view.word == OperatorWord::RepairPeers || target.view.word == OperatorWord::RepairMine
    };
    match (by(mine, peer), by(peer, mine)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// `Some` when exactly one side says yes: whether that is this one.
fn only_mine(question: impl Fn(SyncSide<'_>) -> bool, mine: SyncSide<'_>, peer: SyncSide<'_>) -> Option<bool> {
    match (question(mine), question(peer)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// The generations differ: does one descend from the other?
fn by_descent(mine: SyncSide<'_>, peer: SyncSide<'_>) -> SyncDecision {
    let (mine, peer) = if planted!("older-wins") { (peer, mine) } else { (mine, peer) };
    match (older_than(mine, peer), older_than(peer, mine)) {
        (Some(Full), None) if planted!("history-taken-for-equal") => decision(SyncRule::HistoryPeer, Nothing),
        (None, Some(Full)) if planted!("history-taken-for-equal") => decision(SyncRule::HistorySelf, Nothing),
        (Some(extent), None) => target_of_newer(extent),
        (None, Some(extent)) => target_of_newer(extent).mirrored(),
        // Each for older than the other: impossible for generations that only ever went forward, save that an
        // interrupted target may still remember what it gave up.
        (Some(_), Some(_)) if is_interrupted_target(mine, peer) => target_of_newer(ByBitmap),
        (Some(_), Some(_)) if is_interrupted_target(peer, mine) => target_of_newer(ByBitmap).mirrored(),
        (Some(_), Some(_)) => split_brain(SyncRule::SplitBrainHistory, Full, mine, peer),
        (None, None) => without_descent(mine, peer),
    }
}

/// Whether `side`'s data is an earlier state of `other`'s, and what has to be copied then.
fn older_than(side: SyncSide<'_>, other: SyncSide<'_>) -> Option<ByBitmapOrFull> {
    if side.current() == other.bitmap() {
        Some(ByBitmap)
    } else if other.view.generations.remembers(side.current()) {
        Some(if planted!("history-by-bitmap") { ByBitmap } else { Full })
    } else {
        None
    }
}

fn is_interrupted_target(side: SyncSide<'_>, source: SyncSide<'_>) -> bool {
    side.is_inconsistent() && source.view.disk.is_consistent() && side.current() == source.bitmap()
}

fn target_of_newer(extent: ByBitmapOrFull) -> SyncDecision {
    let rule = match extent {
        ByBitmap => SyncRule::BitmapPeer,
        Full => SyncRule::HistoryPeer,
    };
    decision(rule, Target(extent))
}

fn without_descent(mine: SyncSide<'_>, peer: SyncSide<'_>) -> SyncDecision {
    if mine.bitmap().is_real() && mine.bitmap() == peer.bitmap() {
        split_brain(SyncRule::SplitBrainBitmap, ByBitmap, mine, peer)
    } else if mine.ancestors().any(|id| peer.ancestors().any(|other| id == other)) {
        split_brain(SyncRule::SplitBrainHistory, Full, mine, peer)
    } else {
        decision(SyncRule::Unrelated, Refuse(SyncRefusal::UnrelatedData))
    }
}

// ---- what forbids it ------------------------------------------------------------------------------------------

/// The volume is as large as either side remembers (R34). With both disks too small the smaller one is named.
fn refuse_sizes(mine: SyncSide<'_>, peer: SyncSide<'_>) -> Option<SyncRefusal> {
    let agreed = mine.view.agreed_bytes.max(peer.view.agreed_bytes);
    let (own, other) = (mine.view.available_bytes, peer.view.available_bytes);
    if own >= agreed && other >= agreed {
        return None;
    }
    let mine_is_named = own < other || (own == other && mine.sorts_first);
    Some(if mine_is_named { SyncRefusal::DiskTooSmall } else { SyncRefusal::PeerDiskTooSmall })
}

/// Who has the device was told of its blocks: a disk that needs larger ones is of no use to him. So it is where the volume
/// isn't whole ones, since its end could be neither written nor resynced. Whose blocks are larger is named.
fn refuse_blocks(mine: SyncSide<'_>, peer: SyncSide<'_>) -> Option<SyncRefusal> {
    if planted!("blocks-grow-in-use") {
        return None;
    }
    let agreed = mine.view.agreed_bytes.max(peer.view.agreed_bytes);
    let of_no_use = |side: SyncSide<'_>, other: SyncSide<'_>| {
        let ((blocks, _), (told, known)) = (side.view.blocks(), other.view.blocks());
        let cut = blocks > told && (known || other.role == Role::Primary) || !agreed.is_multiple_of(u64::from(blocks));
        side.has_disk() && (cut || blocks > BLOCK_SIZE as u32)
    };
    match (of_no_use(mine, peer), of_no_use(peer, mine)) {
        (false, false) => None,
        (true, true) if mine.sorts_first => Some(SyncRefusal::BlocksTooLarge),
        (true, true) => Some(SyncRefusal::PeerBlocksTooLarge),
        (true, false) => Some(SyncRefusal::BlocksTooLarge),
        (false, true) => Some(SyncRefusal::PeerBlocksTooLarge),
    }
}

/// Two Primaries are refused in any case; as split brain or unrelated data where they are that.
fn refuse_two_primaries(mine: SyncSide<'_>, peer: SyncSide<'_>, wanted: SyncVerdict) -> Option<SyncRefusal> {
    let named_already = matches!(wanted, Refuse(SyncRefusal::SplitBrain | SyncRefusal::UnrelatedData));
    (both_primary(mine, peer) && !named_already).then_some(SyncRefusal::BothPrimary)
}

/// A source must have data of one moment, and no Primary is overwritten while it serves good data.
fn refuse_direction(mine: SyncSide<'_>, peer: SyncSide<'_>, wanted: SyncVerdict) -> Option<SyncRefusal> {
    let refuse_target = |target: SyncSide<'_>, source: SyncSide<'_>| {
        if source.is_inconsistent() {
            Some(SyncRefusal::NoGoodData)
        } else {
            target.is_primary_with_good_data().then_some(SyncRefusal::WouldOverwritePrimary)
        }
    };
    match wanted {
        Target(_) => refuse_target(mine, peer),
        Source(_) => refuse_target(peer, mine).map(SyncRefusal::mirrored),
        Nothing | Refuse(_) => None,
    }
}
