//! Split brain: every policy, word, role and amount of changes.

use super::*;
use SyncRefusal::SplitBrain;
use rep_types::{AfterOnePrimary, AfterZeroPrimaries};

const ZERO: [AfterZeroPrimaries; 5] = [
    AfterZeroPrimaries::Disconnect,
    AfterZeroPrimaries::DiscardYoungerPrimary,
    AfterZeroPrimaries::DiscardOlderPrimary,
    AfterZeroPrimaries::DiscardZeroChanges,
    AfterZeroPrimaries::DiscardLeastChanges,
];
const ONE: [AfterOnePrimary; 3] =
    [AfterOnePrimary::Disconnect, AfterOnePrimary::Consensus, AfterOnePrimary::DiscardSecondary];
const WORDS: [OperatorWord; 3] = [OperatorWord::None, OperatorWord::DiscardMine, OperatorWord::DiscardPeers];

fn policies(after_0_primaries: AfterZeroPrimaries, after_1_primary: AfterOnePrimary) -> SplitBrainPolicies {
    SplitBrainPolicies { after_0_primaries, after_1_primary }
}

/// Two nodes that went apart from generation 5, with this many blocks written on each.
fn apart(mine: u64, peer: u64) -> (Node, Node) {
    let wrote = |current, blocks| node(current, 5, &[]).with(|node| node.view.out_of_sync_blocks = blocks);
    (wrote(6, mine), wrote(7, peer).first())
}

#[track_caller]
fn expect_policy(policies: SplitBrainPolicies, pair: (Node, Node), verdict: SyncVerdict) {
    let (mut mine, mut peer) = pair;
    (mine.policies, peer.policies) = (policies, policies);
    expect(&mine, &peer, SyncRule::SplitBrainBitmap, verdict);
}

#[test]
fn after_0_primaries_means_what_it_says() {
    let after = |zero| policies(zero, AfterOnePrimary::Disconnect);
    let older = |(mine, peer): (Node, Node)| (mine.with(|node| node.view.diverged_as_primary = true), peer);
    expect_policy(after(AfterZeroPrimaries::Disconnect), apart(1, 9), Refuse(SplitBrain));
    expect_policy(after(AfterZeroPrimaries::DiscardLeastChanges), apart(1, 9), Target(ByBitmap));
    expect_policy(after(AfterZeroPrimaries::DiscardLeastChanges), apart(9, 1), Source(ByBitmap));
    expect_policy(after(AfterZeroPrimaries::DiscardLeastChanges), apart(4, 4), Target(ByBitmap));
    expect_policy(after(AfterZeroPrimaries::DiscardZeroChanges), apart(0, 9), Target(ByBitmap));
    expect_policy(after(AfterZeroPrimaries::DiscardZeroChanges), apart(9, 0), Source(ByBitmap));
    expect_policy(after(AfterZeroPrimaries::DiscardZeroChanges), apart(1, 9), Refuse(SplitBrain));
    expect_policy(after(AfterZeroPrimaries::DiscardYoungerPrimary), older(apart(1, 9)), Source(ByBitmap));
    expect_policy(after(AfterZeroPrimaries::DiscardOlderPrimary), older(apart(9, 1)), Target(ByBitmap));
    // Nothing tells them apart: the one that wrote less.
    expect_policy(after(AfterZeroPrimaries::DiscardYoungerPrimary), apart(1, 9), Target(ByBitmap));
    expect_policy(after(AfterZeroPrimaries::DiscardOlderPrimary), apart(9, 1), Source(ByBitmap));
}

#[test]
fn after_1_primary_means_what_it_says() {
    let mine_is_primary = |(mine, peer): (Node, Node)| (mine.primary(), peer);
    let after = |one| policies(AfterZeroPrimaries::DiscardLeastChanges, one);
    expect_policy(after(AfterOnePrimary::Disconnect), mine_is_primary(apart(9, 1)), Refuse(SplitBrain));
    expect_policy(after(AfterOnePrimary::DiscardSecondary), mine_is_primary(apart(1, 9)), Source(ByBitmap));
    expect_policy(after(AfterOnePrimary::Consensus), mine_is_primary(apart(9, 1)), Source(ByBitmap));
    expect_policy(after(AfterOnePrimary::Consensus), mine_is_primary(apart(1, 9)), Refuse(SplitBrain));
}

/// Who is left to the operator is told why, and both nodes the same.
#[track_caller]
fn expect_unsettled(pair: (Node, Node), why: Unsettled) {
    let (mine, peer) = (pair.0.side(), pair.1.side());
    let decision = decide(&pair.0, &pair.1);
    assert_eq!(decision.verdict, Refuse(SplitBrain));
    assert_eq!(unsettled(decision, mine, peer), Some(why));
    assert_eq!(unsettled(decision.mirrored(), peer, mine), Some(why));
}

#[test]
fn what_no_policy_settled_says_why() {
    use AfterZeroPrimaries::{DiscardLeastChanges, DiscardYoungerPrimary, DiscardZeroChanges, Disconnect};
    let under = |zero, one, (mut mine, mut peer): (Node, Node)| {
        (mine.policies, peer.policies) = (policies(zero, one), policies(zero, one));
        (mine, peer)
    };
    let mine_is_primary = |(mine, peer): (Node, Node)| (mine.primary(), peer);
    let says = |word, (mine, peer): (Node, Node)| (mine.with(|node| node.view.word = word), peer);
    let (least, none) = (DiscardLeastChanges, AfterOnePrimary::Disconnect);
    let consensus = AfterOnePrimary::Consensus;
    expect_unsettled(under(Disconnect, none, apart(1, 9)), Unsettled::NoPolicy);
    expect_unsettled(under(least, none, mine_is_primary(apart(9, 1))), Unsettled::NoPolicy);
    expect_unsettled(under(Disconnect, consensus, mine_is_primary(apart(9, 1))), Unsettled::NoPolicy);
    expect_unsettled(under(least, consensus, mine_is_primary(apart(1, 9))), Unsettled::VictimIsPrimary);
    expect_unsettled(under(DiscardZeroChanges, none, apart(1, 9)), Unsettled::NoVictim);
    let long_ago = (node(6, 0, &[4]), node(7, 5, &[4]).bits().first());
    expect_unsettled(under(DiscardYoungerPrimary, none, long_ago), Unsettled::NoVictim);
    let both = |(mine, peer): (Node, Node)| (mine.primary(), peer.primary());
    expect_unsettled(under(least, AfterOnePrimary::DiscardSecondary, both(apart(1, 9))), Unsettled::TwoPrimaries);
    let (mine, mut peer) = under(least, none, apart(1, 9));
    peer.policies = policies(DiscardZeroChanges, none);
    expect_unsettled((mine.clone(), peer.clone()), Unsettled::PoliciesDiffer);
    expect_unsettled(both((mine, peer)), Unsettled::TwoPrimaries);
    let discards = says(OperatorWord::DiscardMine, mine_is_primary(apart(1, 9)));
    expect_unsettled(discards, Unsettled::VictimIsPrimary);
    let (mine, peer) = says(OperatorWord::DiscardMine, apart(1, 9));
    expect_unsettled((mine, peer.discards()), Unsettled::WordsContradict);
}

#[test]
fn different_policies_decide_nothing() {
    let (mut mine, mut peer) = apart(1, 9);
    mine.policies = policies(AfterZeroPrimaries::DiscardLeastChanges, AfterOnePrimary::Disconnect);
    peer.policies = policies(AfterZeroPrimaries::DiscardZeroChanges, AfterOnePrimary::Disconnect);
    expect(&mine, &peer, SyncRule::SplitBrainBitmap, Refuse(SplitBrain));
}

#[test]
fn changes_since_different_generations_are_not_compared() {
    let least = policies(AfterZeroPrimaries::DiscardLeastChanges, AfterOnePrimary::Disconnect);
    let (mut mine, mut peer) = (node(6, 0, &[4]), node(7, 5, &[4]).bits());
    (mine.policies, peer.policies) = (least, least);
    expect(&mine, &peer, SyncRule::SplitBrainHistory, Refuse(SplitBrain));
}

#[test]
fn a_word_on_either_node_settles_it() {
    let (mine, peer) = apart(1, 9);
    let says = |node: &Node, word| node.clone().with(|node| node.view.word = word);
    let rule = SyncRule::SplitBrainBitmap;
    expect(&says(&mine, OperatorWord::DiscardPeers), &peer, rule, Source(ByBitmap));
    expect(&says(&mine, OperatorWord::DiscardPeers), &peer.clone().primary(), rule, Refuse(SplitBrain));
    expect(&says(&mine, OperatorWord::DiscardMine), &says(&peer, OperatorWord::DiscardPeers), rule, Target(ByBitmap));
    expect(
        &says(&mine, OperatorWord::DiscardPeers),
        &says(&peer, OperatorWord::DiscardPeers),
        rule,
        Refuse(SplitBrain),
    );
}

/// Every pair: verdicts mirror (in `decide`), and nobody's data is given up without a word or a policy that says so.
#[test]
fn nothing_is_discarded_without_a_word_or_a_policy() {
    let mut pairs = 0;
    let mut settled = 0;
    for (blocks, older, roles, words, zero, one, same) in every_case() {
        let (mut mine, mut peer) = apart(blocks.0, blocks.1);
        (mine.view.diverged_as_primary, peer.view.diverged_as_primary) = older;
        (mine.role, peer.role) = roles;
        (mine.view.word, peer.view.word) = words;
        mine.policies = policies(zero, one);
        peer.policies = if same { mine.policies } else { policies(zero, next(one)) };
        let decision = decide(&mine, &peer);
        let verdict = decision.verdict;
        let why = unsettled(decision, mine.side(), peer.side());
        assert_eq!(why.is_some(), verdict == Refuse(SplitBrain), "{mine:?} {peer:?}");
        assert_eq!(why, unsettled(decision.mirrored(), peer.side(), mine.side()), "{mine:?} {peer:?}");
        pairs += 1;
        let victim = match verdict {
            Target(_) => &mine,
            Source(_) => &peer,
            Nothing | Refuse(_) => continue,
        };
        settled += 1;
        assert_eq!(victim.role, Role::Secondary, "a Primary gave way: {mine:?} {peer:?}");
        let silent = words == (OperatorWord::None, OperatorWord::None);
        let primaries = [mine.role, peer.role].iter().filter(|role| **role == Role::Primary).count();
        let allowed = match primaries {
            0 => zero != AfterZeroPrimaries::Disconnect,
            1 => one != AfterOnePrimary::Disconnect,
            _ => false,
        };
        assert!(!silent || (allowed && same), "nobody said so: {mine:?} {peer:?}");
    }
    assert_eq!(pairs, 9 * 4 * 4 * 9 * 5 * 3 * 2);
    assert!(settled > pairs / 10, "{settled} of {pairs}");
}

fn next(one: AfterOnePrimary) -> AfterOnePrimary {
    match one {
        AfterOnePrimary::Disconnect => AfterOnePrimary::Consensus,
        AfterOnePrimary::Consensus => AfterOnePrimary::DiscardSecondary,
        AfterOnePrimary::DiscardSecondary => AfterOnePrimary::Disconnect,
    }
}

type Case =
    ((u64, u64), (bool, bool), (Role, Role), (OperatorWord, OperatorWord), AfterZeroPrimaries, AfterOnePrimary, bool);

fn pairs_of<T: Copy>(values: &[T]) -> Vec<(T, T)> {
    values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))).collect()
}

fn every_case() -> Vec<Case> {
    let mut cases = Vec::new();
    for blocks in pairs_of(&[0, 1, 9]) {
        for older in pairs_of(&[false, true]) {
            for roles in pairs_of(&[Role::Primary, Role::Secondary]) {
                for words in pairs_of(&WORDS) {
                    for (zero, one) in ZERO.iter().flat_map(|zero| ONE.iter().map(move |one| (*zero, *one))) {
                        cases.extend([false, true].map(|same| (blocks, older, roles, words, zero, one, same)));
                    }
                }
            }
        }
    }
    cases
}
