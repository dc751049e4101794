//! Who gives way in a split brain: the operator's word, or a policy both nodes have (R38).
//!
//! ```text
//! a word on one side (discard mine, or discard the peer's)   that side's data goes, unless it is a Primary's
//! words that contradict each other                           refuse
//! no word, both nodes with the same policies                 as they say; never a Primary's data
//! else                                                       refuse
//! ```
//!
//! Nothing is decided by the clocks of two nodes: *younger* and *older* Primary are told apart by whether a node was
//! Primary when it lost the peer or became it afterwards.

use super::{SyncSide, decision, only_mine};
use rep_types::ByBitmapOrFull::ByBitmap;
use rep_types::SyncVerdict::{Refuse, Source, Target};
use rep_types::{AfterOnePrimary, AfterZeroPrimaries, ByBitmapOrFull, Role, SyncDecision, SyncRefusal, SyncRule};
use rep_wire::OperatorWord;
use std::fmt;

/// Whose data is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Mine,
    Peers,
}

/// Why a split brain is left to the operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unsettled {
    /// The policy for these roles is `disconnect`.
    NoPolicy,
    /// The two nodes told different policies. A node that had found the split brain before tells `disconnect`.
    PoliciesDiffer,
    /// Both are Primary.
    TwoPrimaries,
    /// The policy can't tell the two apart: both wrote, or how much isn't known.
    NoVictim,
    /// A Primary's data would have to be given up.
    VictimIsPrimary,
    /// The operator said different things on the two nodes.
    WordsContradict,
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPolicy => "no-policy",
            Self::PoliciesDiffer => "policies-differ",
            Self::TwoPrimaries => "two-primaries",
            Self::NoVictim => "no-victim",
            Self::VictimIsPrimary => "victim-is-primary",
            Self::WordsContradict => "words-contradict",
        })
    }
}

pub(super) fn split_brain(
    rule: SyncRule,
    extent: ByBitmapOrFull,
    mine: SyncSide<'_>,
    peer: SyncSide<'_>,
) -> SyncDecision {
    let verdict = match victim(extent, mine, peer) {
        Ok(Victim::Mine) => Target(extent),
        Ok(Victim::Peers) => Source(extent),
        Err(_) => Refuse(SyncRefusal::SplitBrain),
    };
    decision(rule, verdict)
}

/// Why what [`decide_sync`](super::decide_sync) decided of the same two sides leaves a split brain to the operator; `None`: it
/// isn't a split brain, or is settled. Both sides come to the same.
pub fn unsettled(decided: SyncDecision, mine: SyncSide<'_>, peer: SyncSide<'_>) -> Option<Unsettled> {
    let extent = match (decided.rule, decided.verdict) {
        (SyncRule::SplitBrainBitmap, Refuse(SyncRefusal::SplitBrain)) => ByBitmap,
        (SyncRule::SplitBrainHistory, Refuse(SyncRefusal::SplitBrain)) => ByBitmapOrFull::Full,
        _ => return None,
    };
    victim(extent, mine, peer).err()
}

fn victim(extent: ByBitmapOrFull, mine: SyncSide<'_>, peer: SyncSide<'_>) -> Result<Victim, Unsettled> {
    let words = (on_split_brain(mine.view.word), on_split_brain(peer.view.word));
    let victim = if words == (OperatorWord::None, OperatorWord::None) {
        by_policy(extent, mine, peer)?
    } else {
        by_word(words.0, words.1).ok_or(Unsettled::WordsContradict)?
    };
    let gives_way = match victim {
        Victim::Mine => mine,
        Victim::Peers => peer,
    };
    if gives_way.role == Role::Secondary { Ok(victim) } else { Err(Unsettled::VictimIsPrimary) }
}

/// What was said of a repair says nothing of a split brain.
fn on_split_brain(word: OperatorWord) -> OperatorWord {
    match word {
        OperatorWord::RepairMine | OperatorWord::RepairPeers => OperatorWord::None,
        word => word,
    }
}

fn by_word(mine: OperatorWord, peer: OperatorWord) -> Option<Victim> {
    use OperatorWord::{DiscardMine, DiscardPeers, None as Silent};
    match (mine, peer) {
        (DiscardMine, Silent | DiscardPeers) | (Silent, DiscardPeers) => Some(Victim::Mine),
        (DiscardPeers, Silent | DiscardMine) | (Silent, DiscardMine) => Some(Victim::Peers),
        _ => None,
    }
}

fn by_policy(extent: ByBitmapOrFull, mine: SyncSide<'_>, peer: SyncSide<'_>) -> Result<Victim, Unsettled> {
    let wanted = || match mine.policies.after_0_primaries {
        AfterZeroPrimaries::Disconnect => Err(Unsettled::NoPolicy),
        policy => after_0_primaries(policy, extent, mine, peer).ok_or(Unsettled::NoVictim),
    };
    match (mine.role, peer.role) {
        // No policy goes so far, whichever it is.
        (Role::Primary, Role::Primary) => Err(Unsettled::TwoPrimaries),
        _ if mine.policies != peer.policies => Err(Unsettled::PoliciesDiffer),
        (Role::Secondary, Role::Secondary) => wanted(),
        (role, _) => {
            let secondary = if role == Role::Secondary { Victim::Mine } else { Victim::Peers };
            match mine.policies.after_1_primary {
                AfterOnePrimary::Disconnect => Err(Unsettled::NoPolicy),
                AfterOnePrimary::DiscardSecondary => Ok(secondary),
                AfterOnePrimary::Consensus if wanted()? == secondary => Ok(secondary),
                AfterOnePrimary::Consensus => Err(Unsettled::VictimIsPrimary),
            }
        }
    }
}

fn after_0_primaries(
    policy: AfterZeroPrimaries,
    extent: ByBitmapOrFull,
    mine: SyncSide<'_>,
    peer: SyncSide<'_>,
) -> Option<Victim> {
    let give_way = |mine_does: bool| if mine_does { Victim::Mine } else { Victim::Peers };
    let older = || only_mine(|side| side.view.diverged_as_primary, mine, peer);
    match policy {
        AfterZeroPrimaries::Disconnect => None,
        AfterZeroPrimaries::DiscardYoungerPrimary => {
            older().map(|mine_is_older| give_way(!mine_is_older)).or_else(|| wrote_less(extent, mine, peer))
        }
        AfterZeroPrimaries::DiscardOlderPrimary => older().map(give_way).or_else(|| wrote_less(extent, mine, peer)),
        AfterZeroPrimaries::DiscardZeroChanges => wrote_nothing(extent, mine, peer),
        AfterZeroPrimaries::DiscardLeastChanges => wrote_less(extent, mine, peer),
    }
}

/// Changes can be compared only where both bitmaps count from the same generation.
fn changes(extent: ByBitmapOrFull, side: SyncSide<'_>) -> Option<u64> {
    (extent == ByBitmap).then_some(side.view.out_of_sync_blocks)
}

fn wrote_nothing(extent: ByBitmapOrFull, mine: SyncSide<'_>, peer: SyncSide<'_>) -> Option<Victim> {
    match (changes(extent, mine)?, changes(extent, peer)?) {
        (0, 0) => Some(by_name(mine)),
        (0, _) => Some(Victim::Mine),
        (_, 0) => Some(Victim::Peers),
        _ => None,
    }
}

fn wrote_less(extent: ByBitmapOrFull, mine: SyncSide<'_>, peer: SyncSide<'_>) -> Option<Victim> {
    match changes(extent, mine)?.cmp(&changes(extent, peer)?) {
        std::cmp::Ordering::Less => Some(Victim::Mine),
        std::cmp::Ordering::Greater => Some(Victim::Peers),
        std::cmp::Ordering::Equal => Some(by_name(mine)),
    }
}

/// Nothing tells the two apart: the node whose name sorts first stays.
fn by_name(mine: SyncSide<'_>) -> Victim {
    if mine.sorts_first { Victim::Peers } else { Victim::Mine }
}
