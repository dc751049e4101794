//! What a connection would do, in words: `connect --plan`.

use rep_control::api::{PlanEntry, format_bytes};
use rep_engine::{PlannedSync, explain};
use rep_types::{ByBitmapOrFull, SyncRule, SyncVerdict};

/// One volume's plan.
pub fn entry(planned: &PlannedSync, peer: &str) -> PlanEntry {
    let (verdict, extent) = match planned.decision.verdict {
        SyncVerdict::Nothing => ("nothing", None),
        SyncVerdict::Source(extent) => ("source", Some(extent_word(extent).to_owned())),
        SyncVerdict::Target(extent) => ("target", Some(extent_word(extent).to_owned())),
        SyncVerdict::Refuse(refusal) => ("refused", Some(format!("{refusal:?}"))),
    };
    PlanEntry {
        volume: planned.volume.0,
        rule: planned.decision.rule.to_string(),
        verdict: verdict.to_owned(),
        extent,
        bytes_at_most: planned.bytes_at_most,
        local_dirty_bytes: planned.local_dirty_bytes,
        peer_dirty_bytes: planned.peer_dirty_bytes,
        compares: planned.compares,
        sentence: sentence(planned, peer),
    }
}

fn extent_word(extent: ByBitmapOrFull) -> &'static str {
    match extent {
        ByBitmapOrFull::ByBitmap => "by-bitmap",
        ByBitmapOrFull::Full => "full",
    }
}

/// Rule, direction, bytes, and what would be lost.
fn sentence(planned: &PlannedSync, peer: &str) -> String {
    let (rule, bytes) = (planned.decision.rule, format_bytes(planned.bytes_at_most));
    let why = explain(planned.decision);
    let copied = match planned.decision.verdict {
        SyncVerdict::Nothing => return format!("{why} (rule {rule}); with {peer} nothing would be copied or lost"),
        SyncVerdict::Refuse(refusal) => {
            return format!(
                "{why} (rule {rule}: {refusal:?}); nothing would be copied: {} changed here alone, {} on {peer}",
                format_bytes(planned.local_dirty_bytes),
                format_bytes(planned.peer_dirty_bytes)
            );
        }
        SyncVerdict::Source(_) if planned.compares => {
            format!("{bytes} would be compared, and what differs copied to {peer}")
        }
        SyncVerdict::Target(_) if planned.compares => {
            format!("{bytes} would be compared, and what differs copied from {peer}")
        }
        SyncVerdict::Source(_) => format!("at most {bytes} would be copied to {peer}"),
        SyncVerdict::Target(_) => format!("at most {bytes} would be copied from {peer}"),
    };
    format!("{why} (rule {rule}); {copied}, {}", lost(planned, peer))
}

/// What the node that is filled would lose.
fn lost(planned: &PlannedSync, peer: &str) -> String {
    let (node, dirty) = match planned.decision.verdict {
        SyncVerdict::Target(_) => ("this node", planned.local_dirty_bytes),
        _ => (peer, planned.peer_dirty_bytes),
    };
    match planned.decision.rule {
        SyncRule::SplitBrainBitmap => format!("and the {} changed on {node} alone would be lost", format_bytes(dirty)),
        SyncRule::SplitBrainHistory => format!("and everything changed on {node} alone would be lost"),
        SyncRule::JustCreatedSelf | SyncRule::JustCreatedPeer => {
            format!("and what the disk of {node} holds would be overwritten")
        }
        _ => "and nothing acknowledged would be lost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rep_types::{SyncDecision, SyncRefusal, VolumeNumber};

    fn planned(rule: SyncRule, verdict: SyncVerdict) -> PlannedSync {
        let decision = SyncDecision { rule, verdict };
        PlannedSync {
            volume: VolumeNumber(0),
            decision,
            bytes_at_most: 30,
            local_dirty_bytes: 10,
            peer_dirty_bytes: 20,
            compares: false,
        }
    }

    #[test]
    fn what_is_compared_first_is_said_to_be() {
        let verdict = SyncVerdict::Source(ByBitmapOrFull::ByBitmap);
        let planned = PlannedSync { compares: true, ..planned(SyncRule::CrashedPrimary, verdict) };
        let said = entry(&planned, "beta");
        assert!(said.compares);
        assert!(said.sentence.contains("30 B would be compared, and what differs copied to beta"), "{}", said.sentence);
    }

    #[test]
    fn loss_is_told_where_there_is_one_and_only_there() {
        use ByBitmapOrFull::{ByBitmap, Full};
        let told = [
            (
                SyncRule::BitmapSelf,
                SyncVerdict::Source(ByBitmap),
                "copied to beta, and nothing acknowledged would be lost",
            ),
            (SyncRule::BitmapPeer, SyncVerdict::Target(ByBitmap), "copied from beta, and nothing acknowledged"),
            (SyncRule::SplitBrainBitmap, SyncVerdict::Source(ByBitmap), "the 20 B changed on beta alone would be lost"),
            (SyncRule::SplitBrainBitmap, SyncVerdict::Target(ByBitmap), "the 10 B changed on this node alone"),
            (SyncRule::JustCreatedPeer, SyncVerdict::Source(Full), "what the disk of beta holds would be overwritten"),
            (SyncRule::BothOff, SyncVerdict::Nothing, "nothing would be copied or lost"),
            (SyncRule::Unrelated, SyncVerdict::Refuse(SyncRefusal::UnrelatedData), "nothing would be copied"),
        ];
        for (rule, verdict, words) in told {
            let sentence = sentence(&planned(rule, verdict), "beta");
            assert!(sentence.contains(words) && sentence.contains(&rule.to_string()), "{sentence}");
        }
    }
}
