//! Every pair of small states, and the properties each decision must have.
//!
//! Generations matter only by being equal or not, so it is enough to try every way the six places (C, B and one past
//! generation of each side) can hold nothing, the mark of new metadata, or generations that are equal or different in
//! every possible pattern: 3263 patterns stand for all values. They are crossed with everything that bears on
//! different generations (disks, roles, bits, the operator's word), and those with equal C also with everything that
//! bears on equal ones (crashes, ends, the last Primary, names). A deterministic sample crosses the rest: longer
//! histories, sizes, all disk states. All in all 6 945 088 pairs: 5 220 800, 524 288, and 1 200 000 sampled.

use super::*;

const DISKS: [DiskState; 5] =
    [DiskState::Diskless, DiskState::Inconsistent, DiskState::Outdated, DiskState::Consistent, DiskState::UpToDate];
const ENDS: [PriorEnd; 4] = [PriorEnd::LinkLoss, PriorEnd::Clean, PriorEnd::DaemonCrash, PriorEnd::NodeCrash];
const ROLES: [Role; 2] = [Role::Secondary, Role::Primary];

/// The ways six places can hold 0 (none), 1 (just created) or real generations 2.. named by first appearance.
fn patterns() -> Vec<[u64; 6]> {
    fn extend(prefix: &mut Vec<u64>, real: u64, out: &mut Vec<[u64; 6]>) {
        if let Ok(whole) = <[u64; 6]>::try_from(prefix.as_slice()) {
            out.push(whole);
            return;
        }
        for value in 0..=2 + real {
            prefix.push(value);
            extend(prefix, real.max(value.saturating_sub(1)), out);
            prefix.pop();
        }
    }
    let mut out = Vec::new();
    extend(&mut Vec::new(), 0, &mut out);
    out
}

fn pair_of([mine_c, mine_b, mine_h, peer_c, peer_b, peer_h]: [u64; 6]) -> (Node, Node) {
    (node(mine_c, mine_b, &[mine_h]).first(), node(peer_c, peer_b, &[peer_h]))
}

/// Takes a number apart into choices.
struct Digits(u64);

impl Digits {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let choice = choices[(self.0 % choices.len() as u64) as usize];
        self.0 /= choices.len() as u64;
        choice
    }

    fn flag(&mut self) -> bool {
        self.one_of(&[false, true])
    }
}

fn is_common_ancestor(old: &Node, new: &Node) -> bool {
    let (c, other) = (old.view.generations.current, &new.view.generations);
    c == other.current || c == other.bitmap || other.history.contains(&c)
}

fn resync_was_interrupted(target: &Node, source: &Node) -> bool {
    let c = target.view.generations.current;
    let real = c.is_real() && source.view.generations.current.is_real();
    let in_resync = c == source.view.generations.bitmap || c == source.view.generations.current;
    target.view.disk == DiskState::Inconsistent && source.view.disk.is_consistent() && real && in_resync
}

/// Whether one side is a Primary without a disk whose clients have seen a generation the other's disk doesn't hold.
fn has_seen_other(diskless: &Node, other: &Node) -> bool {
    let seen = diskless.view.generations.current;
    let without = diskless.role == Role::Primary && !diskless.view.disk.takes_writes();
    let descends = seen == other.view.generations.bitmap && !other.view.last_primary;
    let same = seen == other.view.generations.current;
    without && other.view.disk.takes_writes() && seen.is_real() && !same && !descends
}

/// What every decision must have, whatever the rule.
fn check(mine: &Node, peer: &Node) -> SyncDecision {
    let made = decide(mine, peer);
    let context = || format!("{made:?}\nmine {mine:?}\npeer {peer:?}");
    let primaries = mine.role == Role::Primary && peer.role == Role::Primary;
    let disks = mine.view.disk.takes_writes() && peer.view.disk.takes_writes();
    assert!(!primaries || matches!(made.verdict, Refuse(_)), "two Primaries: {}", context());
    if !disks && !primaries {
        let seen_other = has_seen_other(mine, peer) || has_seen_other(peer, mine);
        let expected = if seen_other { Refuse(SyncRefusal::UnrelatedData) } else { Nothing };
        assert_eq!(made.verdict, expected, "no disk: {}", context());
    }
    if disks {
        check_nothing(mine, peer, made, &context);
        check_direction(mine, peer, made, &context);
    }
    made
}

fn check_nothing(mine: &Node, peer: &Node, made: SyncDecision, context: &dyn Fn() -> String) {
    let bits = mine.view.out_of_sync_blocks > 0 || peer.view.out_of_sync_blocks > 0;
    if made.verdict == Nothing && bits {
        assert_eq!(made.rule, SyncRule::JustCreatedBoth, "bits dismissed (R16): {}", context());
    }
    if made.verdict == Nothing && made.rule != SyncRule::JustCreatedBoth {
        let equal = mine.view.generations.current == peer.view.generations.current;
        assert!(equal, "different data taken for equal: {}", context());
    }
}

fn check_direction(mine: &Node, peer: &Node, made: SyncDecision, context: &dyn Fn() -> String) {
    let (target, source) = match made.verdict {
        Target(_) => (mine, peer),
        Source(_) => (peer, mine),
        Nothing | Refuse(_) => (mine, peer),
    };
    if matches!(made.verdict, Target(_) | Source(_)) {
        let (given_up, kept) = (&target.view, &source.view);
        assert!(kept.disk.is_consistent() && kept.generations.current.is_real(), "bad source: {}", context());
        let good = given_up.disk.is_consistent() && given_up.generations.current.is_real();
        let serves = given_up.disk.may_serve_reads() && given_up.generations.current.is_real();
        assert!(!serves || target.role == Role::Secondary, "a Primary overwritten (R18): {}", context());
        let told = given_up.word == OperatorWord::DiscardMine && kept.word == OperatorWord::None;
        let split = matches!(made.rule, SyncRule::SplitBrainBitmap | SyncRule::SplitBrainHistory);
        assert!(!good || is_common_ancestor(target, source) || (split && told), "good data lost: {}", context());
    }
    let refused_for_roles = mine.role == Role::Primary && peer.role == Role::Primary;
    if resync_was_interrupted(mine, peer) && !refused_for_roles {
        assert_eq!(made.verdict, Target(ByBitmap), "an interrupted resync turned (I-B6): {}", context());
    }
}

#[test]
fn every_pattern_of_generations_with_every_disk_role_bit_and_word() {
    let choices = (DISKS.len() * DISKS.len()) as u64 * 4 * 4 * 4;
    let mut pairs = 0u64;
    for pattern in patterns() {
        let (mut mine, mut peer) = pair_of(pattern);
        for number in 0..choices {
            let mut digits = Digits(number);
            for side in [&mut mine, &mut peer] {
                side.view.disk = digits.one_of(&DISKS);
                side.role = digits.one_of(&ROLES);
                side.view.out_of_sync_blocks = digits.one_of(&[0, 1]);
                side.view.word = if digits.flag() { OperatorWord::DiscardMine } else { OperatorWord::None };
            }
            check(&mine, &peer);
            pairs += 1;
        }
    }
    assert_eq!(pairs, 3263 * 1600);
}

#[test]
fn equal_generations_with_every_crash_end_role_and_name() {
    let choices = 16 * 4 * 4 * 4 * 16 * 4 * 4 * 2;
    let mut crashes_by_cache = 0u64;
    for number in 0..choices {
        let mut digits = Digits(number);
        let (mut mine, mut peer) = (node(5, 0, &[]), node(5, 0, &[]));
        for side in [&mut mine, &mut peer] {
            side.view.disk = digits.one_of(&DISKS[1..]);
            side.role = digits.one_of(&ROLES);
            side.view.out_of_sync_blocks = digits.one_of(&[0, 1]);
            side.view.crashed_primary = digits.flag();
            side.view.prior_end = digits.one_of(&ENDS);
            side.view.last_primary = digits.flag();
            side.view.generations.bitmap = digits.one_of(&[GenerationId::NONE, GenerationId(3)]);
        }
        mine.sorts_first = digits.flag();
        peer.sorts_first = !mine.sorts_first;
        let made = check(&mine, &peer);
        crashes_by_cache += u64::from(check_caches(&mine, &peer, made));
    }
    assert!(crashes_by_cache > 10_000, "the property was hardly ever met: {crashes_by_cache}");
}

/// With equal generations every answered write reached both; whoever's cache survived has them, and is never filled
/// from one whose cache didn't, unless that one is Primary and in use.
fn check_caches(mine: &Node, peer: &Node, made: SyncDecision) -> bool {
    let (target, source) = match made.verdict {
        Target(_) => (mine, peer),
        Source(_) => (peer, mine),
        _ => return false,
    };
    let lost = source.side().may_have_lost_writes();
    let kept = !target.side().may_have_lost_writes() && target.view.disk.is_consistent();
    assert!(
        !(lost && kept) || source.role == Role::Primary,
        "answered writes lost (I-D1): {made:?}\nmine {mine:?}\npeer {peer:?}"
    );
    kept
}

/// A deterministic sequence (a multiplicative congruential generator, high bits first).
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let folded = (self.0 >> 33) ^ self.0;
        folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1
    }
}

fn sampled_node(sequence: &mut Sequence) -> Node {
    let mut digits = Digits(sequence.next());
    let ids = [0, 1, 2, 3, 4, 5];
    let generations = [0; 5].map(|_| digits.one_of(&ids));
    let mut sample = node(generations[0], generations[1], &generations[2..]);
    sample.view.disk = digits.one_of(&[
        DiskState::Attaching,
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::Consistent,
        DiskState::UpToDate,
        DiskState::UpToDate,
        DiskState::Inconsistent,
        DiskState::DUnknown,
    ]);
    sample.role = digits.one_of(&ROLES);
    sample.view.prior_end = digits.one_of(&ENDS);
    sample.view.crashed_primary = digits.flag();
    sample.view.last_primary = digits.flag();
    sample.view.out_of_sync_blocks = digits.one_of(&[0, 0, 1, 1 << 30]);
    sample.view.word = if digits.flag() { OperatorWord::DiscardMine } else { OperatorWord::None };
    sample
}

#[test]
fn a_million_sampled_pairs_with_longer_histories() {
    let mut sequence = Sequence(0x7265_7064);
    let mut met = std::collections::HashMap::new();
    for number in 0..1_000_000u64 {
        let (mut mine, mut peer) = (sampled_node(&mut sequence), sampled_node(&mut sequence));
        mine.sorts_first = number % 2 == 0;
        peer.sorts_first = !mine.sorts_first;
        *met.entry(check(&mine, &peer).rule).or_insert(0u64) += 1;
    }
    // Every rule but the operator's, which no handshake comes to, was met often enough to mean something.
    assert_eq!(met.len(), 16, "{met:?}");
    assert!(met.values().all(|count| *count > 20), "{met:?}");
}

#[test]
fn sampled_sizes_refuse_whenever_a_disk_is_smaller_than_the_volume() {
    let mut sequence = Sequence(0x7369_7a65);
    let mut refused = 0;
    for number in 0..200_000u64 {
        let (mut mine, mut peer) = (sampled_node(&mut sequence), sampled_node(&mut sequence));
        mine.sorts_first = number % 2 == 0;
        peer.sorts_first = !mine.sorts_first;
        let mut digits = Digits(sequence.next());
        for side in [&mut mine, &mut peer] {
            side.view.available_bytes = digits.one_of(&[0, 512, 1024, 4096]);
            side.view.agreed_bytes = digits.one_of(&[0, 0, 512, 1024]);
        }
        let made = decide(&mine, &peer);
        let agreed = mine.view.agreed_bytes.max(peer.view.agreed_bytes);
        let too_small = mine.view.available_bytes < agreed || peer.view.available_bytes < agreed;
        let named = matches!(made.verdict, Refuse(SyncRefusal::DiskTooSmall | SyncRefusal::PeerDiskTooSmall));
        assert_eq!(named, too_small && made.rule != SyncRule::NoDisk, "{made:?}\n{mine:?}\n{peer:?}");
        refused += u64::from(named);
    }
    assert!(refused > 1000);
}
