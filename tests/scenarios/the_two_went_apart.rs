//! ```text
//!   alpha Primary ===== beta Secondary
//!   alpha Primary       beta Primary       disconnected, both promoted, both written to
//!   alpha SplitBrain    beta SplitBrain    connected: both see it, nobody's data is touched
//!   alpha Primary ====> beta SyncTarget    the operator gave beta's data up, on beta
//!   alpha Primary ===== beta Secondary     the same, and it is alpha's data
//! ```

use rep_tests::{Cluster, ClusterOptions};

const MIB: u64 = 1 << 20;

/// Both promoted while apart; alpha wrote one MiB at 4 MiB, beta one at 8 MiB and a block at 0.
struct Apart {
    cluster: Cluster,
    common: Vec<u8>,
    alphas: Vec<u8>,
    betas: Vec<u8>,
}

fn apart(options: &ClusterOptions) -> Apart {
    let mut cluster = Cluster::with_primary(options);
    cluster.expect_log("plit brain");
    let [common, alphas, betas] = [1, 2, 3].map(|seed| rep_tests::random::bytes(seed, MIB as usize));
    cluster.alpha.write(0, &common);
    cluster.alpha.ok("disconnect");
    cluster.beta.ok("disconnect");
    cluster.alpha.write(4 * MIB, &alphas);
    cluster.beta.ok("primary --force");
    cluster.beta.write(8 * MIB, &betas);
    cluster.beta.write(0, &betas[..4096]);
    Apart { cluster, common, alphas, betas }
}

impl Apart {
    fn assert_alphas(&self) {
        self.cluster.alpha.wait_in_sync();
        self.cluster.beta.wait_in_sync();
        self.cluster.assert_identical();
        assert_eq!(self.cluster.alpha.read(0, MIB as usize), self.common);
        assert_eq!(self.cluster.alpha.read(4 * MIB, MIB as usize), self.alphas);
        assert!(self.cluster.alpha.read(8 * MIB, MIB as usize).iter().all(|&byte| byte == 0), "beta's writes are gone");
    }
}

#[test]
fn both_see_it_and_the_operator_s_word_settles_it() {
    let apart = apart(&ClusterOptions::default());
    let Apart { cluster, alphas, betas, .. } = &apart;

    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    for node in [&cluster.alpha, &cluster.beta] {
        node.wait_connection("SplitBrain");
        let told = node.resource().verdict;
        assert!(told.contains("split brain"), "{told}");
    }
    assert_eq!(cluster.alpha.read(4 * MIB, MIB as usize), *alphas, "alpha's data is untouched");
    assert_eq!(cluster.beta.read(8 * MIB, MIB as usize), *betas, "beta's data is untouched");

    cluster.beta.ok("secondary");
    cluster.beta.ok("connect --discard-my-data");
    cluster.alpha.ok("connect");
    apart.assert_alphas();
}

#[test]
fn one_command_on_one_node_settles_it() {
    let apart = apart(&ClusterOptions::default());
    let cluster = &apart.cluster;
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_connection("SplitBrain");
    cluster.beta.wait_connection("SplitBrain");
    let told = cluster.alpha.ok("split-brain show");
    for expected in ["alpha: wrote 1.00 MiB alone since 20", "beta: wrote 1.00 MiB alone since 20", "resolve --keep"] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
    // A Primary's data is never given up.
    cluster.alpha.refused("split-brain resolve --keep alpha", "SplitBrain");
    cluster.beta.refused("split-brain resolve --keep alpha", "IsPrimary");
    cluster.beta.ok("secondary");
    cluster.alpha.ok("split-brain resolve --keep alpha");
    apart.assert_alphas();
}

#[test]
fn a_policy_settles_it_when_they_meet() {
    let line =
        "split-brain = { after-0-primaries = \"discard-least-changes\", after-1-primary = \"discard-secondary\" }";
    let options = ClusterOptions { resource_lines: vec![line.to_owned()], ..ClusterOptions::default() };
    let apart = apart(&options);
    let cluster = &apart.cluster;
    // Two Primaries: no policy goes so far.
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.beta.wait_connection("SplitBrain");
    cluster.alpha.wait_connection("SplitBrain");
    // A role that changes while the operator looks into it sets nothing off.
    cluster.beta.ok("secondary");
    cluster.alpha.ok("disconnect");
    cluster.beta.ok("disconnect");
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    apart.assert_alphas();
}

/// What a policy comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stays {
    /// Alpha's data, and beta is filled.
    Alphas,
    /// Beta's.
    Betas,
    /// Both: they stay apart, and nothing is touched.
    Both,
}

/// The roles in which they meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meet {
    Secondaries,
    AlphaPrimary,
    Primaries,
}

/// Alpha was Primary before they parted and wrote 1 MiB; beta was promoted afterwards and wrote as `betas_bytes` says. They
/// meet in these roles under these policies.
fn policy_leaves(after_0: &str, after_1: &str, betas_bytes: u64, meet: Meet, stays: Stays) {
    let line = format!("split-brain = {{ after-0-primaries = \"{after_0}\", after-1-primary = \"{after_1}\" }}");
    let mut cluster =
        Cluster::with_primary(&ClusterOptions { resource_lines: vec![line], ..ClusterOptions::default() });
    cluster.expect_log("plit brain");
    let [alphas, betas] = [2, 3].map(|seed| rep_tests::random::bytes(seed, 2 * MIB as usize));
    let (alphas, betas) = (&alphas[..MIB as usize], &betas[..betas_bytes as usize]);
    cluster.alpha.ok("disconnect");
    cluster.beta.ok("disconnect");
    cluster.alpha.write(4 * MIB, alphas);
    cluster.beta.ok("primary --force");
    if !betas.is_empty() {
        cluster.beta.write(8 * MIB, betas);
    }
    if meet != Meet::Primaries {
        cluster.beta.ok("secondary");
    }
    if meet == Meet::Secondaries {
        cluster.alpha.ok("secondary");
    }
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    if stays == Stays::Both {
        cluster.alpha.wait_connection("SplitBrain");
        cluster.beta.wait_connection("SplitBrain");
    } else {
        cluster.alpha.wait_in_sync();
        cluster.beta.wait_in_sync();
        cluster.assert_identical();
    }
    let disk = |node: &rep_tests::Node, at: u64, length: usize| {
        let bytes = std::fs::read(node.disk()).expect("the disk");
        bytes[at as usize..at as usize + length].to_vec()
    };
    let has = [&cluster.alpha, &cluster.beta]
        .map(|node| (disk(node, 4 * MIB, alphas.len()) == alphas, disk(node, 8 * MIB, betas.len()) == betas));
    let expected = match (stays, betas.is_empty()) {
        (Stays::Alphas, nothing) => [(true, nothing); 2],
        (Stays::Betas, _) => [(false, true); 2],
        (Stays::Both, nothing) => [(true, nothing), (false, true)],
    };
    assert_eq!(has, expected, "{after_0}, {after_1}, {meet:?}: who has (alpha's writes, beta's writes)");
}

#[test]
fn disconnect_is_no_decision() {
    policy_leaves("disconnect", "disconnect", MIB / 2, Meet::Secondaries, Stays::Both);
    policy_leaves("discard-least-changes", "disconnect", MIB / 2, Meet::AlphaPrimary, Stays::Both);
}

#[test]
fn discard_younger_primary_keeps_who_was_primary_before() {
    policy_leaves("discard-younger-primary", "disconnect", 2 * MIB, Meet::Secondaries, Stays::Alphas);
}

#[test]
fn discard_older_primary_keeps_who_took_over() {
    policy_leaves("discard-older-primary", "disconnect", MIB / 2, Meet::Secondaries, Stays::Betas);
}

#[test]
fn discard_zero_changes_gives_up_only_what_nobody_wrote() {
    policy_leaves("discard-zero-changes", "disconnect", 0, Meet::Secondaries, Stays::Alphas);
    policy_leaves("discard-zero-changes", "disconnect", MIB / 2, Meet::Secondaries, Stays::Both);
}

#[test]
fn discard_least_changes_keeps_who_wrote_more() {
    policy_leaves("discard-least-changes", "disconnect", MIB / 2, Meet::Secondaries, Stays::Alphas);
    policy_leaves("discard-least-changes", "disconnect", 2 * MIB, Meet::Secondaries, Stays::Betas);
}

#[test]
fn consensus_never_gives_a_primary_up() {
    policy_leaves("discard-least-changes", "consensus", MIB / 2, Meet::AlphaPrimary, Stays::Alphas);
    policy_leaves("discard-least-changes", "consensus", 2 * MIB, Meet::AlphaPrimary, Stays::Both);
}

#[test]
fn discard_secondary_keeps_the_primary() {
    policy_leaves("disconnect", "discard-secondary", 2 * MIB, Meet::AlphaPrimary, Stays::Alphas);
}

/// `after-2-primaries` knows nothing but `disconnect`.
#[test]
fn two_primaries_are_settled_by_no_policy() {
    policy_leaves("discard-older-primary", "discard-secondary", MIB / 2, Meet::Primaries, Stays::Both);
}
