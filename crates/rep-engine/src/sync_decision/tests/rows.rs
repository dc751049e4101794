//! One test a row of the table, and one a refinement.

use super::*;
use SyncRefusal::{
    BlocksTooLarge, BothPrimary, DiskTooSmall, NoGoodData, PeerBlocksTooLarge, PeerDiskTooSmall, SplitBrain,
    UnrelatedData, WouldOverwritePeerPrimary, WouldOverwritePrimary,
};

const NEW: u64 = 1;

fn new_node() -> Node {
    node(NEW, 0, &[]).disk(DiskState::Inconsistent).bits()
}

#[test]
fn no_disk_on_a_side_decides_nothing() {
    for state in [DiskState::Diskless, DiskState::Attaching, DiskState::Failed, DiskState::DUnknown] {
        expect(&node(7, 0, &[]).disk(state).primary(), &node(7, 3, &[]).bits(), SyncRule::NoDisk, Nothing);
        expect(&node(5, 0, &[]).disk(state), &node(7, 3, &[]).bits(), SyncRule::NoDisk, Nothing);
        let seen_other = Refuse(SyncRefusal::UnrelatedData);
        expect(&node(5, 0, &[]).disk(state).primary(), &node(7, 3, &[]).bits(), SyncRule::NoDisk, seen_other);
    }
}

#[test]
fn two_primaries_are_refused_even_when_one_has_no_disk() {
    let diskless = node(5, 0, &[]).disk(DiskState::Diskless).primary();
    expect(&diskless, &node(5, 0, &[]).primary(), SyncRule::NoDisk, Refuse(BothPrimary));
}

#[test]
fn just_created_both() {
    expect(&new_node(), &new_node().first(), SyncRule::JustCreatedBoth, Nothing);
}

#[test]
fn just_created_self_is_filled_whole() {
    for state in [DiskState::Outdated, DiskState::Consistent, DiskState::UpToDate] {
        expect(&new_node(), &node(5, 0, &[4]).disk(state), SyncRule::JustCreatedSelf, Target(Full));
    }
}

#[test]
fn just_created_peer_is_filled_whole_also_from_a_primary() {
    expect(&node(5, 4, &[]).primary(), &new_node(), SyncRule::JustCreatedPeer, Source(Full));
}

#[test]
fn a_new_node_takes_nothing_from_an_inconsistent_one() {
    let broken = node(5, 0, &[]).disk(DiskState::Inconsistent).bits();
    expect(&new_node(), &broken, SyncRule::JustCreatedSelf, Refuse(NoGoodData));
}

#[test]
fn interrupted_resync_with_equal_generations_goes_on() {
    let target = node(5, 0, &[]).disk(DiskState::Inconsistent).bits();
    expect(&target, &node(5, 0, &[]), SyncRule::InterruptedResync, Target(ByBitmap));
    let last_primary = target.last_primary().first();
    expect(&last_primary, &node(5, 0, &[]), SyncRule::InterruptedResync, Target(ByBitmap));
}

#[test]
fn interrupted_resync_without_bits_is_still_finished() {
    let target = node(5, 0, &[]).disk(DiskState::Inconsistent);
    expect(&node(5, 3, &[]), &target, SyncRule::InterruptedResync, Source(ByBitmap));
}

#[test]
fn a_primary_on_an_inconsistent_disk_is_filled() {
    let target = node(3, 0, &[]).disk(DiskState::Inconsistent).bits().primary();
    expect(&target, &node(5, 3, &[]).bits(), SyncRule::BitmapPeer, Target(ByBitmap));
}

#[test]
fn two_inconsistent_disks_have_nothing_to_give() {
    let broken = node(5, 0, &[]).disk(DiskState::Inconsistent);
    expect(&broken, &broken.clone().first(), SyncRule::InterruptedResync, Nothing);
    expect(&broken, &broken.clone().first().bits(), SyncRule::InterruptedResync, Refuse(NoGoodData));
}

#[test]
fn missed_finish_heals_in_the_resyncs_direction() {
    let source = node(5, 3, &[]).bits();
    expect(&source, &node(5, 0, &[]).first(), SyncRule::MissedFinish, Source(ByBitmap));
    expect(&node(5, 3, &[]), &node(5, 0, &[]).first(), SyncRule::MissedFinish, Nothing);
}

#[test]
fn missed_finish_never_overwrites_a_primary() {
    let source = node(5, 3, &[]).bits();
    expect(&source, &node(5, 0, &[]).primary(), SyncRule::MissedFinish, Target(ByBitmap));
}

/// The source answers a write, both take it; the target finishes; the source loses power before it hears of it. The
/// write is whole on the former target only.
#[test]
fn missed_finish_yields_to_the_crash_of_the_source() {
    let source = node(5, 3, &[]).bits().crashed(PriorEnd::NodeCrash);
    expect(&source, &node(5, 0, &[]), SyncRule::CrashedPrimary, Target(ByBitmap));
}

#[test]
fn missed_finish_with_a_power_loss_of_the_former_source_goes_the_other_way() {
    let source = node(5, 3, &[]).bits().ended(PriorEnd::NodeCrash);
    expect(&source, &node(5, 0, &[]), SyncRule::MissedFinish, Target(ByBitmap));
}

#[test]
fn reconnected_without_bits_copies_nothing() {
    expect(&node(5, 0, &[]).primary(), &node(5, 0, &[]), SyncRule::Reconnected, Nothing);
}

#[test]
fn reconnected_with_bits_on_either_side_goes_from_the_primary() {
    for (mine, peer) in [(node(5, 0, &[]).bits(), node(5, 0, &[])), (node(5, 0, &[]), node(5, 0, &[]).bits())] {
        expect(&mine.clone().primary(), &peer, SyncRule::Reconnected, Source(ByBitmap));
        expect(&mine.clone().last_primary(), &peer.clone().first(), SyncRule::Reconnected, Source(ByBitmap));
        expect(&mine.clone().first(), &peer, SyncRule::Reconnected, Source(ByBitmap));
        expect(&mine.first(), &peer.primary(), SyncRule::Reconnected, Target(ByBitmap));
    }
}

#[test]
fn a_crashed_primary_is_filled_by_the_survivor() {
    for end in [PriorEnd::NodeCrash, PriorEnd::DaemonCrash] {
        let crashed = node(5, 0, &[]).bits().crashed(end).first();
        for survivor_end in [PriorEnd::LinkLoss, PriorEnd::Clean, PriorEnd::DaemonCrash] {
            let survivor = node(5, 0, &[]).ended(survivor_end);
            expect(&crashed, &survivor, SyncRule::CrashedPrimary, Target(ByBitmap));
        }
    }
}

#[test]
fn a_crashed_primary_that_lost_no_cache_fills_a_survivor_that_did() {
    let crashed = node(5, 0, &[]).bits().crashed(PriorEnd::DaemonCrash);
    let survivor = node(5, 0, &[]).ended(PriorEnd::NodeCrash).first();
    expect(&crashed, &survivor, SyncRule::CrashedPrimary, Source(ByBitmap));
}

#[test]
fn when_both_lost_their_caches_the_survivor_is_source() {
    let crashed = node(5, 0, &[]).bits().crashed(PriorEnd::NodeCrash).first();
    expect(&crashed, &node(5, 0, &[]).ended(PriorEnd::NodeCrash), SyncRule::CrashedPrimary, Target(ByBitmap));
}

#[test]
fn a_crash_of_unknown_kind_counts_as_one_of_the_node() {
    let crashed = node(5, 0, &[]).bits().crashed(PriorEnd::LinkLoss);
    expect(&crashed, &node(5, 0, &[]).ended(PriorEnd::NodeCrash), SyncRule::CrashedPrimary, Target(ByBitmap));
}

#[test]
fn a_crash_followed_by_a_clean_end_was_the_daemons() {
    let crashed = node(5, 0, &[]).bits().crashed(PriorEnd::Clean);
    expect(&crashed, &node(5, 0, &[]).ended(PriorEnd::NodeCrash), SyncRule::CrashedPrimary, Source(ByBitmap));
}

#[test]
fn both_crashed_as_primary_the_one_with_its_cache_then_the_last_then_the_first_name() {
    let crashed = |end| node(5, 0, &[]).bits().crashed(end);
    let power = || crashed(PriorEnd::NodeCrash);
    let daemon = || crashed(PriorEnd::DaemonCrash);
    let forgot = |n: Node| n.with(|n| n.view.last_primary = false);
    expect(&daemon(), &power().first(), SyncRule::CrashedPrimary, Source(ByBitmap));
    expect(&daemon(), &forgot(daemon()).first(), SyncRule::CrashedPrimary, Source(ByBitmap));
    expect(&power(), &power().first(), SyncRule::CrashedPrimary, Target(ByBitmap));
}

#[test]
fn a_crash_without_bits_copies_nothing() {
    let crashed = node(5, 0, &[]).crashed(PriorEnd::NodeCrash);
    expect(&crashed, &node(5, 0, &[]), SyncRule::CrashedPrimary, Nothing);
}

#[test]
fn a_primary_of_now_is_source_whatever_crashed() {
    let back_at_once = node(5, 0, &[]).bits().crashed(PriorEnd::DaemonCrash).primary();
    expect(&back_at_once, &node(5, 0, &[]).first(), SyncRule::CrashedPrimary, Source(ByBitmap));
}

#[test]
fn both_off_copies_bits_from_the_last_primary_then_the_uptodate_then_the_first_name() {
    let off = |n: Node| n.ended(PriorEnd::Clean);
    let equal = || off(node(5, 0, &[]));
    expect(&equal(), &equal().first(), SyncRule::BothOff, Nothing);
    expect(&equal().last_primary().bits(), &equal().first(), SyncRule::BothOff, Source(ByBitmap));
    let unsure = || equal().disk(DiskState::Consistent);
    expect(&equal().bits(), &unsure().first(), SyncRule::BothOff, Source(ByBitmap));
    expect(&equal().bits(), &equal().first(), SyncRule::BothOff, Target(ByBitmap));
    let both = (equal().last_primary().bits(), equal().last_primary().first());
    expect(&both.0, &both.1, SyncRule::BothOff, Target(ByBitmap));
}

/// The word of a repair is more than who was Primary last, and less than a cache that was lost or a Primary of now.
#[test]
fn the_word_of_a_repair_tells_equals_apart() {
    let says = |n: Node, word| n.with(|n| n.view.word = word);
    let off = |n: Node| n.ended(PriorEnd::Clean);
    let last = || off(node(5, 0, &[])).last_primary().bits().first();
    let other = || off(node(5, 0, &[]));
    expect(&last(), &other(), SyncRule::BothOff, Source(ByBitmap));
    expect(&says(last(), OperatorWord::RepairMine), &other(), SyncRule::BothOff, Target(ByBitmap));
    expect(&last(), &says(other(), OperatorWord::RepairPeers), SyncRule::BothOff, Target(ByBitmap));
    let both = says(other(), OperatorWord::RepairMine);
    expect(&says(last(), OperatorWord::RepairMine), &both, SyncRule::BothOff, Source(ByBitmap));
    let primary = says(last(), OperatorWord::RepairMine).primary();
    expect(&primary, &other(), SyncRule::BothOff, Source(ByBitmap));
    let lost = says(other().ended(PriorEnd::NodeCrash), OperatorWord::RepairPeers);
    expect(&says(last(), OperatorWord::RepairMine), &lost, SyncRule::BothOff, Source(ByBitmap));
    let apart = says(node(6, 4, &[]).bits(), OperatorWord::RepairMine);
    expect(&apart, &node(7, 4, &[]).bits(), SyncRule::SplitBrainBitmap, Refuse(SplitBrain));
}

#[test]
fn both_off_prefers_the_disk_whose_cache_survived() {
    let lost = node(5, 0, &[]).ended(PriorEnd::NodeCrash).last_primary().first();
    expect(&lost, &node(5, 0, &[]).bits(), SyncRule::BothOff, Target(ByBitmap));
}

#[test]
fn bitmap_peer_and_bitmap_self() {
    let behind = node(5, 0, &[4]);
    let ahead = node(6, 5, &[4]).bits();
    expect(&behind, &ahead, SyncRule::BitmapPeer, Target(ByBitmap));
    expect(&ahead, &behind, SyncRule::BitmapSelf, Source(ByBitmap));
}

/// The target may still remember the generation it gave up, also the source's own.
#[test]
fn an_interrupted_target_that_remembers_the_sources_generation_stays_target() {
    let target = node(7, 0, &[5]).disk(DiskState::Inconsistent).bits();
    expect(&target, &node(5, 7, &[]).bits(), SyncRule::BitmapPeer, Target(ByBitmap));
}

#[test]
fn history_peer_and_history_self() {
    let behind = node(4, 0, &[]);
    let ahead = node(6, 5, &[3, 4]).bits();
    expect(&behind, &ahead, SyncRule::HistoryPeer, Target(Full));
    expect(&ahead, &behind, SyncRule::HistorySelf, Source(Full));
}

#[test]
fn newer_but_inconsistent_data_never_replaces_good_data() {
    let broken = node(6, 5, &[]).disk(DiskState::Inconsistent).bits();
    expect(&broken, &node(5, 0, &[]), SyncRule::BitmapSelf, Refuse(NoGoodData));
}

#[test]
fn a_primary_with_good_data_is_never_overwritten() {
    let ahead = node(6, 5, &[]).bits();
    expect(&node(5, 0, &[]).primary(), &ahead, SyncRule::BitmapPeer, Refuse(WouldOverwritePrimary));
    expect(&ahead, &node(5, 0, &[]).primary(), SyncRule::BitmapSelf, Refuse(WouldOverwritePeerPrimary));
}

/// It is served by its peer; the disk that has just come back is filled from there.
#[test]
fn a_primary_that_attached_an_older_disk_is_filled() {
    let ahead = node(6, 5, &[]).bits();
    for disk in [DiskState::Outdated, DiskState::Consistent] {
        let attached = node(5, 0, &[]).primary().disk(disk);
        expect(&attached, &ahead, SyncRule::BitmapPeer, Target(ByBitmap));
        expect(&ahead, &attached, SyncRule::BitmapSelf, Source(ByBitmap));
    }
}

#[test]
fn split_brain_bitmap_is_refused_without_a_word() {
    let (a, b) = (node(6, 5, &[]).bits(), node(7, 5, &[]).bits().first());
    expect(&a, &b, SyncRule::SplitBrainBitmap, Refuse(SplitBrain));
    expect(&a.clone().primary(), &b.clone().primary(), SyncRule::SplitBrainBitmap, Refuse(SplitBrain));
}

#[test]
fn split_brain_bitmap_resolves_by_bitmap() {
    let (victim, survivor) = (node(6, 5, &[]).bits().discards(), node(7, 5, &[]).bits());
    expect(&victim, &survivor, SyncRule::SplitBrainBitmap, Target(ByBitmap));
    expect(&victim, &survivor.clone().primary(), SyncRule::SplitBrainBitmap, Target(ByBitmap));
    expect(&victim, &survivor.clone().discards(), SyncRule::SplitBrainBitmap, Refuse(SplitBrain));
    expect(&victim.primary(), &survivor, SyncRule::SplitBrainBitmap, Refuse(SplitBrain));
}

#[test]
fn split_brain_history_resolves_in_full() {
    let (victim, survivor) = (node(6, 0, &[4]), node(7, 5, &[4]));
    expect(&victim, &survivor, SyncRule::SplitBrainHistory, Refuse(SplitBrain));
    expect(&victim.discards(), &survivor, SyncRule::SplitBrainHistory, Target(Full));
}

#[test]
fn a_bitmap_generation_is_a_common_ancestor_too() {
    expect(&node(6, 5, &[]), &node(7, 4, &[5]), SyncRule::SplitBrainHistory, Refuse(SplitBrain));
}

#[test]
fn generations_that_contradict_each_other_are_a_split_brain() {
    expect(&node(6, 7, &[]), &node(7, 6, &[]), SyncRule::SplitBrainHistory, Refuse(SplitBrain));
    expect(&node(6, 0, &[7]), &node(7, 0, &[6]), SyncRule::SplitBrainHistory, Refuse(SplitBrain));
}

#[test]
fn discard_my_data_means_nothing_without_a_split_brain() {
    expect(&node(6, 5, &[]).bits().discards(), &node(5, 0, &[]), SyncRule::BitmapSelf, Source(ByBitmap));
    expect(&node(6, 0, &[]).discards(), &node(7, 0, &[]), SyncRule::Unrelated, Refuse(UnrelatedData));
}

#[test]
fn an_inconsistent_survivor_replaces_nothing_even_on_the_operators_word() {
    let victim = node(6, 5, &[]).discards();
    let survivor = node(7, 5, &[]).disk(DiskState::Inconsistent);
    expect(&victim, &survivor, SyncRule::SplitBrainBitmap, Refuse(NoGoodData));
}

#[test]
fn unrelated_data_is_refused_also_between_primaries() {
    expect(&node(6, 0, &[2]), &node(7, 0, &[3]), SyncRule::Unrelated, Refuse(UnrelatedData));
    expect(&node(6, 0, &[]).primary(), &node(7, 0, &[]).primary(), SyncRule::Unrelated, Refuse(UnrelatedData));
}

#[test]
fn marks_are_no_common_ancestor() {
    expect(&node(6, 1, &[0, 1]), &node(7, 1, &[1, 0]), SyncRule::Unrelated, Refuse(UnrelatedData));
}

#[test]
fn two_primaries_with_equal_or_descending_data_are_refused_as_such() {
    expect(&node(5, 0, &[]).primary(), &node(5, 0, &[]).primary(), SyncRule::Reconnected, Refuse(BothPrimary));
    expect(&node(6, 5, &[]).primary(), &node(5, 0, &[]).primary(), SyncRule::BitmapSelf, Refuse(BothPrimary));
}

#[test]
fn a_disk_smaller_than_the_volume_is_named() {
    let small = node(5, 0, &[]).with(|n| n.view.available_bytes = 1 << 20);
    expect(&small, &node(5, 0, &[]), SyncRule::Reconnected, Refuse(DiskTooSmall));
    let new = new_node().with(|n| (n.view.available_bytes, n.view.agreed_bytes) = (1 << 20, 0));
    expect(&node(5, 0, &[]), &new, SyncRule::JustCreatedPeer, Refuse(PeerDiskTooSmall));
}

#[test]
fn with_both_disks_too_small_the_smaller_is_named_then_the_first() {
    let sized = |available| node(5, 0, &[]).with(|n| n.view.available_bytes = available);
    expect(&sized(512), &sized(1024).first(), SyncRule::Reconnected, Refuse(DiskTooSmall));
    expect(&sized(512), &sized(512).first(), SyncRule::Reconnected, Refuse(PeerDiskTooSmall));
}

#[test]
fn a_size_never_agreed_on_forbids_nothing() {
    let sized = |n: Node, available| n.with(|n| (n.view.available_bytes, n.view.agreed_bytes) = (available, 0));
    expect(&sized(new_node(), 512), &sized(node(5, 0, &[]), 1024), SyncRule::JustCreatedSelf, Target(Full));
}

#[test]
fn blocks_larger_than_clients_know_of_are_named_and_smaller_ones_fit() {
    let blocks = |n: Node, bytes| n.with(|n| n.view.logical_block_bytes = bytes);
    let (primary, small) = (blocks(node(5, 0, &[]).primary(), 512), blocks(node(5, 0, &[]), 512));
    let large = blocks(node(5, 0, &[]), 4096);
    expect(&primary, &large, SyncRule::Reconnected, Refuse(PeerBlocksTooLarge));
    expect(&primary, &small, SyncRule::Reconnected, Nothing);
    expect(&blocks(node(5, 0, &[]).primary(), 4096), &small, SyncRule::Reconnected, Nothing);
    expect(&small, &large, SyncRule::Reconnected, Nothing);
    // Clients of a daemon that is gone know them as well.
    let left = blocks(node(5, 0, &[]), 512 | rep_wire::BLOCKS_ARE_KNOWN);
    expect(&left, &large, SyncRule::Reconnected, Refuse(PeerBlocksTooLarge));
    expect(&left, &small, SyncRule::Reconnected, Nothing);
}

#[test]
fn blocks_the_volume_is_not_made_of_or_nobody_can_do_are_refused() {
    let blocks = |n: Node, bytes| n.with(|n| n.view.logical_block_bytes = bytes);
    let odd = node(5, 0, &[]).with(|n| n.view.agreed_bytes = (1 << 30) - 512);
    let large = blocks(new_node().with(|n| n.view.agreed_bytes = 0), 4096);
    expect(&odd, &large, SyncRule::JustCreatedPeer, Refuse(PeerBlocksTooLarge));
    for bytes in [8192, 4097, !rep_wire::BLOCKS_ARE_KNOWN] {
        expect(&node(5, 0, &[]), &blocks(node(5, 0, &[]), bytes), SyncRule::Reconnected, Refuse(PeerBlocksTooLarge));
    }
    let both = blocks(node(5, 0, &[]), 8192);
    expect(&both, &both.clone().first(), SyncRule::Reconnected, Refuse(PeerBlocksTooLarge));
}

#[test]
fn every_rule_and_verdict_is_explained_in_one_sentence_that_names_what_to_do_or_what_happens() {
    let refusals = [
        SplitBrain,
        UnrelatedData,
        PeerDiskTooSmall,
        DiskTooSmall,
        BothPrimary,
        WouldOverwritePrimary,
        WouldOverwritePeerPrimary,
        NoGoodData,
        PeerBlocksTooLarge,
        BlocksTooLarge,
    ];
    let verdicts = [Nothing, Source(ByBitmap), Target(ByBitmap), Source(Full), Target(Full)];
    for rule in SyncRule::ALL {
        for verdict in verdicts.into_iter().chain(refusals.map(Refuse)) {
            let sentence = explain(SyncDecision { rule, verdict });
            assert!(sentence.len() > 20 && !sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
        }
    }
    let source = explain(SyncDecision { rule: SyncRule::CrashedPrimary, verdict: Source(ByBitmap) });
    let target = explain(SyncDecision { rule: SyncRule::CrashedPrimary, verdict: Target(ByBitmap) });
    assert_ne!(source, target);
}
