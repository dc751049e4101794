//! What the handshake decides: the rule that applied and what follows from it.

use crate::error::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The rule of the decision table (semantics, "Order of the decision") that applied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SyncRule {
    /// One side has no disk: there is nothing to decide.
    NoDisk,
    /// Both were just created.
    JustCreatedBoth,
    /// This side was just created.
    JustCreatedSelf,
    /// The peer was just created.
    JustCreatedPeer,
    /// Same generation; one side still holds the bitmap generation of a resync whose last message was lost.
    MissedFinish,
    /// Same generation; a resync that was interrupted goes on in the same direction.
    InterruptedResync,
    /// Same generation; both merely lost the link.
    Reconnected,
    /// Same generation; a node crashed as Primary.
    CrashedPrimary,
    /// Same generation; none crashed.
    BothOff,
    /// This side's current generation is the peer's bitmap generation.
    BitmapPeer,
    /// The peer's current generation is this side's bitmap generation.
    BitmapSelf,
    /// This side's current generation stands in the peer's history.
    HistoryPeer,
    /// The peer's current generation stands in this side's history.
    HistorySelf,
    /// Both diverged from the same bitmap generation.
    SplitBrainBitmap,
    /// Both diverged from a generation in their histories.
    SplitBrainHistory,
    /// No common generation.
    Unrelated,
}

impl SyncRule {
    /// Every rule, in the order of the table.
    pub const ALL: [SyncRule; 16] = [
        SyncRule::NoDisk,
        SyncRule::JustCreatedBoth,
        SyncRule::JustCreatedSelf,
        SyncRule::JustCreatedPeer,
        SyncRule::MissedFinish,
        SyncRule::InterruptedResync,
        SyncRule::Reconnected,
        SyncRule::CrashedPrimary,
        SyncRule::BothOff,
        SyncRule::BitmapPeer,
        SyncRule::BitmapSelf,
        SyncRule::HistoryPeer,
        SyncRule::HistorySelf,
        SyncRule::SplitBrainBitmap,
        SyncRule::SplitBrainHistory,
        SyncRule::Unrelated,
    ];
}

/// How much a resync copies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ByBitmapOrFull {
    /// What either bitmap (or a hot extent after a crash) marks.
    ByBitmap,
    /// Every block.
    Full,
}

/// Why two nodes refuse each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SyncRefusal {
    /// Both went on apart.
    SplitBrain,
    /// No common ancestor.
    UnrelatedData,
    /// The peer's disk is smaller than the volume.
    PeerDiskTooSmall,
    /// This node's disk is smaller than the volume.
    DiskTooSmall,
    /// Both are Primary.
    BothPrimary,
    /// This node is Primary with good data and would be overwritten.
    WouldOverwritePrimary,
    /// The peer is Primary with good data and would be overwritten.
    WouldOverwritePeerPrimary,
    /// Neither side has good data to give.
    NoGoodData,
    /// The peer's disk has larger logical blocks than the volume: than this node's clients were offered, or than its size
    /// is a multiple of.
    PeerBlocksTooLarge,
    /// This node's disk has, and the peer's clients were offered smaller ones.
    BlocksTooLarge,
}

impl SyncRefusal {
    /// The refusal as the peer sees it.
    pub fn mirrored(self) -> Self {
        match self {
            Self::PeerDiskTooSmall => Self::DiskTooSmall,
            Self::DiskTooSmall => Self::PeerDiskTooSmall,
            Self::PeerBlocksTooLarge => Self::BlocksTooLarge,
            Self::BlocksTooLarge => Self::PeerBlocksTooLarge,
            Self::WouldOverwritePrimary => Self::WouldOverwritePeerPrimary,
            Self::WouldOverwritePeerPrimary => Self::WouldOverwritePrimary,
            other => other,
        }
    }

    /// The word a command is refused with because of it.
    pub fn as_refusal(self) -> Refusal {
        match self {
            Self::SplitBrain => Refusal::SplitBrain,
            Self::UnrelatedData => Refusal::UnrelatedData,
            Self::PeerDiskTooSmall => Refusal::PeerDiskTooSmall,
            Self::DiskTooSmall => Refusal::DiskTooSmall,
            Self::BothPrimary | Self::WouldOverwritePeerPrimary => Refusal::PeerIsPrimary,
            Self::WouldOverwritePrimary => Refusal::WouldOverwritePrimary,
            Self::NoGoodData => Refusal::NoUpToDateDisk,
            Self::PeerBlocksTooLarge => Refusal::PeerBlocksTooLarge,
            Self::BlocksTooLarge => Refusal::BlocksTooLarge,
        }
    }
}

/// What follows for this side.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SyncVerdict {
    /// The disks are equal; nothing is copied.
    Nothing,
    /// This side fills the peer.
    Source(ByBitmapOrFull),
    /// The peer fills this side.
    Target(ByBitmapOrFull),
    /// Both stay apart.
    Refuse(SyncRefusal),
}

impl SyncVerdict {
    /// The verdict the peer must have come to.
    pub fn mirrored(self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Source(extent) => Self::Target(extent),
            Self::Target(extent) => Self::Source(extent),
            Self::Refuse(refusal) => Self::Refuse(refusal.mirrored()),
        }
    }
}

impl SyncRule {
    /// The rule as the peer names it.
    pub fn mirrored(self) -> Self {
        match self {
            Self::JustCreatedSelf => Self::JustCreatedPeer,
            Self::JustCreatedPeer => Self::JustCreatedSelf,
            Self::BitmapPeer => Self::BitmapSelf,
            Self::BitmapSelf => Self::BitmapPeer,
            Self::HistoryPeer => Self::HistorySelf,
            Self::HistorySelf => Self::HistoryPeer,
            other => other,
        }
    }
}

impl fmt::Display for SyncRule {
    /// The rule's name as the documentation writes it (`bitmap-self`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDisk => "no-disk",
            Self::JustCreatedBoth => "just-created-both",
            Self::JustCreatedSelf => "just-created-self",
            Self::JustCreatedPeer => "just-created-peer",
            Self::MissedFinish => "missed-finish",
            Self::InterruptedResync => "interrupted-resync",
            Self::Reconnected => "reconnected",
            Self::CrashedPrimary => "crashed-primary",
            Self::BothOff => "both-off",
            Self::BitmapPeer => "bitmap-peer",
            Self::BitmapSelf => "bitmap-self",
            Self::HistoryPeer => "history-peer",
            Self::HistorySelf => "history-self",
            Self::SplitBrainBitmap => "split-brain-bitmap",
            Self::SplitBrainHistory => "split-brain-history",
            Self::Unrelated => "unrelated",
        })
    }
}

/// A decision: which rule, and what follows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SyncDecision {
    /// The rule that applied.
    pub rule: SyncRule,
    /// What follows for this side.
    pub verdict: SyncVerdict,
}

impl SyncDecision {
    /// The decision the peer must have come to.
    pub fn mirrored(self) -> Self {
        SyncDecision { rule: self.rule.mirrored(), verdict: self.verdict.mirrored() }
    }
}
