//! One sentence for each rule and what follows from it, for operators: `connect --plan`, `status`, `events`.

use rep_types::SyncVerdict::{Nothing, Refuse, Source, Target};
use rep_types::{SyncDecision, SyncRefusal, SyncRule, SyncVerdict};

/// Why the handshake decided so, in one sentence an operator understands, from this node's side.
pub fn explain(decision: SyncDecision) -> &'static str {
    let SyncDecision { rule, verdict } = decision;
    if let Refuse(refusal) = verdict {
        return explain_refusal(rule, refusal);
    }
    match rule {
        SyncRule::NoDisk => "one of the two nodes has no disk attached: there is nothing to compare or to copy",
        SyncRule::JustCreatedBoth => {
            "both nodes are new and neither holds data: nothing is copied until one of them is made Primary with --force, \
             or new-generation --clear-bitmap takes them for equal"
        }
        SyncRule::JustCreatedSelf => "this node is new: the peer fills it, every block",
        SyncRule::JustCreatedPeer => "the peer is new: this node fills it, every block",
        SyncRule::BitmapPeer => {
            "the peer went on from the very data this node holds: only what changed since is copied here"
        }
        SyncRule::BitmapSelf => {
            "this node went on from the very data the peer holds: only what changed since is copied there"
        }
        SyncRule::HistoryPeer => {
            "the peer's data is newer, and what changed since this node's is no longer known: every block is copied here"
        }
        SyncRule::HistorySelf => {
            "this node's data is newer, and what changed since the peer's is no longer known: every block is copied there"
        }
        SyncRule::SplitBrainBitmap | SyncRule::SplitBrainHistory => explain_discard(verdict),
        SyncRule::Unrelated => "the two nodes' data have nothing in common",
        _ => explain_equals(rule, verdict),
    }
}

/// The rules for equal generations.
fn explain_equals(rule: SyncRule, verdict: SyncVerdict) -> &'static str {
    match (rule, verdict) {
        (SyncRule::InterruptedResync, Target(_)) => {
            "a resync of this node was interrupted: it goes on where it stopped"
        }
        (SyncRule::InterruptedResync, Source(_)) => "a resync of the peer was interrupted: it goes on where it stopped",
        (SyncRule::InterruptedResync, _) => {
            "neither node holds data of a single moment, and nothing is known to differ"
        }
        (SyncRule::MissedFinish, Nothing) => "a resync had ended but its last message was lost: both disks are equal",
        (SyncRule::MissedFinish, Target(_)) => {
            "a resync had ended but its last message was lost: what is still marked is copied here once more"
        }
        (SyncRule::MissedFinish, _) => {
            "a resync had ended but its last message was lost: what is still marked is copied to the peer once more"
        }
        (SyncRule::CrashedPrimary, Nothing) => {
            "a node crashed as Primary, with no write under way: both disks are equal"
        }
        (SyncRule::CrashedPrimary, Target(_)) => {
            "a node crashed as Primary: what it was writing then is copied from the peer to this node"
        }
        (SyncRule::CrashedPrimary, _) => {
            "a node crashed as Primary: what it was writing then is copied from this node to the peer"
        }
        (_, Nothing) => "nothing was written while the nodes were apart: both disks are equal",
        (_, Target(_)) => {
            "the nodes parted while writes were under way: those blocks are copied from the peer to this node"
        }
        (_, _) => "the nodes parted while writes were under way: those blocks are copied from this node to the peer",
    }
}

fn explain_discard(verdict: SyncVerdict) -> &'static str {
    match verdict {
        Target(_) => "both nodes went on apart, and this node was told to give its data up: the peer's replaces it",
        _ => "both nodes went on apart, and the peer was told to give its data up: this node's replaces it",
    }
}

fn explain_refusal(rule: SyncRule, refusal: SyncRefusal) -> &'static str {
    match refusal {
        SyncRefusal::SplitBrain if rule == SyncRule::SplitBrainBitmap => {
            "split brain: both nodes took writes while apart; choose whose stay, only what differs is copied then"
        }
        SyncRefusal::SplitBrain => {
            "split brain: both nodes took writes while apart, long ago or more than once; choose whose stay, every block \
             is copied then"
        }
        SyncRefusal::UnrelatedData if rule == SyncRule::NoDisk => {
            "the Primary has no disk, and its clients have seen newer data than the peer holds; attach the Primary's disk"
        }
        SyncRefusal::UnrelatedData => {
            "the two nodes' data have no common ancestor; run create-md on the node whose data may go"
        }
        SyncRefusal::PeerDiskTooSmall => "the peer's disk is smaller than the volume; give it a larger one",
        SyncRefusal::DiskTooSmall => "this node's disk is smaller than the volume; give it a larger one",
        SyncRefusal::PeerBlocksTooLarge => {
            "the peer's disk has larger logical blocks than this node's clients were offered, or than the volume is made of; \
             make this node Secondary and connect again, or give the peer a disk with smaller blocks"
        }
        SyncRefusal::BlocksTooLarge => {
            "this node's disk has larger logical blocks than the peer's clients were offered, or than the volume is made of; \
             make the peer Secondary and connect again, or give this node a disk with smaller blocks"
        }
        SyncRefusal::BothPrimary => "both nodes are Primary; make one of them Secondary first",
        SyncRefusal::WouldOverwritePrimary => {
            "the peer's data is newer but this node is Primary, and its data is never replaced in use; make it Secondary first"
        }
        SyncRefusal::WouldOverwritePeerPrimary => {
            "this node's data is newer but the peer is Primary, and its data is never replaced in use; make it Secondary first"
        }
        SyncRefusal::NoGoodData => {
            "the node that would have to give its data holds none of a single moment; make the better copy Primary with --force"
        }
    }
}
