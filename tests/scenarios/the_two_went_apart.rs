//! ```text
//!   alpha Primary ===== beta Secondary
//!   alpha Primary       beta Primary       disconnected, both promoted, both written to
//!   alpha SplitBrain    beta SplitBrain    connected: both see it, nobody's data is touched
//!   alpha Primary ====> beta SyncTarget    the operator gave beta's data up, on beta
//!   alpha Primary ===== beta Secondary     the same, and it is alpha's data
//!
//!   alpha Primary =/ /= beta Secondary     the link is cut both ways, both daemons live
//!   alpha Primary       beta Primary       alpha's clients write on; beta's operator promotes it
//!   alpha SplitBrain    beta SplitBrain    the link is mended: they meet by themselves
//!   alpha Primary ====> beta SyncTarget    kept: alpha's, or beta's; the other's come back from the archive, bit for bit
//! ```

use crate::an_archive_gives_back_what_was_given_up::{copy, export, only_archive};
use rep_tests::tools::root_or_not_run;
use rep_tests::{Cluster, ClusterOptions, Cut, Events, NetworkKind, Node, compare};
use serde_json::{Value, json};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

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

/// What `split-brain show --json` tells.
fn shown(node: &Node) -> Value {
    let told = node.ok("split-brain show --json");
    serde_json::from_str::<Value>(&told).unwrap_or_else(|e| panic!("{e}: {told}"))["split_brain"].clone()
}

/// Who, since when, how much, and the newest generation of each: in the status, in `split-brain show` and in the event, on both
/// nodes the same, and true.
#[test]
fn both_nodes_tell_the_same_facts_everywhere() {
    let Apart { cluster, .. } = apart(&ClusterOptions::default());
    let nodes = [&cluster.alpha, &cluster.beta];
    // Alone, so that they don't meet.
    let events = nodes.map(|node| {
        Events::of(node, &cluster.path(&format!("{}.events", node.name())), || {
            node.ok("connect");
            node.ok("disconnect");
        })
    });
    assert!(cluster.alpha.resource().split_brain.is_none(), "they haven't met");
    nodes.iter().for_each(|node| drop(node.ok("connect")));
    let told = nodes.map(|node| node.wait_connection("SplitBrain").split_brain.expect("its facts"));
    assert_eq!(told[0], told[1], "alpha and beta contradict each other");

    let volume = told[0]["volumes"][0].clone();
    assert_eq!(told[0]["volumes"].as_array().map(Vec::len), Some(1));
    assert_eq!((&volume["number"], &volume["rule"]), (&json!(0), &json!("split-brain-bitmap")));
    assert_eq!(volume["unsettled"], "two-primaries");
    let sides = volume["nodes"].as_array().expect("both nodes");
    let of = |side: &Value, key: &str| side[key].clone();
    let facts = |key: &str| [of(&sides[0], key), of(&sides[1], key)];
    assert_eq!(sides.len(), 2);
    assert_eq!(facts("name"), [json!("alpha"), json!("beta")]);
    assert_eq!(facts("was_primary"), [json!(true), json!(false)]);
    assert_eq!(facts("dirty_bytes"), [json!(MIB), json!(MIB + 4096)]);
    for (side, node) in sides.iter().zip(nodes) {
        let generation = side["generation"].as_str().expect("a generation");
        assert!(node.ok("show-gi").contains(&format!("current {generation}")), "{side}");
        assert!(side["since_unix_ms"].as_u64().is_some_and(|since| since > 0), "{side}");
        let since = side["since"].as_str().expect("a time");
        // And for people, on both nodes, each side in a line.
        for teller in nodes {
            let text = teller.ok("status");
            let line = format!(
                "  split brain: {}: wrote 1.00 MiB alone since {since}; newest generation {generation}\n",
                side["name"].as_str().unwrap_or_default()
            );
            assert!(text.contains(&line), "{line} isn't in {text}");
        }
    }
    for (node, events) in nodes.into_iter().zip(&events) {
        assert_eq!(shown(node), told[0], "split-brain show on {}", node.name());
        let event = events.wait_for("split_brain");
        assert_eq!(event["split_brain"], volume, "the event on {}", node.name());
        let reason = event["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("alpha: wrote 1.00 MiB alone") && reason.contains("beta: wrote 1.00 MiB"), "{event}");
        let decided = events.of_kind("decided").pop().expect("the rule");
        let told = decided["reason"].as_str().unwrap_or_default();
        assert!(told.starts_with("split-brain-bitmap: split brain: both nodes took writes while apart"), "{decided}");
        // They meet every second at the latest; it is told once.
        assert_eq!(events.of_kind("split_brain").len(), 1);
        assert!(node.resource().verdict.contains("both were Primary when they met"), "{}", node.resource().verdict);
    }

    cluster.beta.ok("secondary");
    cluster.alpha.ok("split-brain resolve --keep alpha");
    for node in nodes {
        assert!(node.wait_in_sync().split_brain.is_none(), "{} still tells of it", node.name());
    }
}

/// The same daemons on both ends of a real cable that is cut both ways: nobody disconnects anybody. Alpha's clients write on, beta
/// is promoted by its operator as `promotion` says.
fn apart_by_a_cut(promotion: &str) -> Apart {
    let options = ClusterOptions { network: NetworkKind::Namespaces, ..ClusterOptions::default() };
    let mut cluster = Cluster::with_primary(&options);
    cluster.expect_log("plit brain");
    let [common, alphas, betas] = [1, 2, 3].map(|seed| rep_tests::random::bytes(seed, MIB as usize));
    cluster.alpha.write(0, &common);
    cluster.network.cut(Cut::Both);
    cluster.alpha.write(4 * MIB, &alphas);
    cluster.beta.wait_until("the loss is noticed", SOON, |vz| vz.connection != "Connected");
    cluster.beta.ok(promotion);
    cluster.beta.write(8 * MIB, &betas);
    cluster.beta.write(0, &betas[..4096]);
    for node in [&cluster.alpha, &cluster.beta] {
        let vz = node.resource();
        assert_eq!((vz.role.as_str(), vz.connection.as_str()), ("Primary", "Connecting"), "{}", node.name());
    }
    Apart { cluster, common, alphas, betas }
}

fn a_cut_is_mended_and_settled(promotion: &str, keep: &str) {
    if !root_or_not_run("cutting the link between two namespaces") {
        return;
    }
    let apart = apart_by_a_cut(promotion);
    let cluster = &apart.cluster;
    cluster.network.heal();
    let nodes = [&cluster.alpha, &cluster.beta];
    let told = nodes.map(|node| {
        let met = node.wait_until("they meet", SOON, |vz| vz.connection == "SplitBrain");
        met.split_brain.expect("its facts")
    });
    assert_eq!(told[0], told[1]);
    let dirty = |side: usize| told[0]["volumes"][0]["nodes"][side]["dirty_bytes"].as_u64().expect("bytes");
    assert_eq!(dirty(1), MIB + 4096);
    // What alpha had under way when the link went may have reached beta.
    assert!((MIB..2 * MIB).contains(&dirty(0)), "{}", dirty(0));
    assert_eq!(cluster.alpha.read(4 * MIB, MIB as usize), apart.alphas, "alpha's data is untouched");
    assert_eq!(cluster.beta.read(8 * MIB, MIB as usize), apart.betas, "beta's data is untouched");

    let (survivor, victim) = if keep == "alpha" { (nodes[0], nodes[1]) } else { (nodes[1], nodes[0]) };
    survivor.refused(&format!("split-brain resolve --keep {keep}"), "SplitBrain");
    victim.wait_until("closed", SOON, |vz| !vz.volume().open);
    victim.ok("secondary");
    let [base, held] = [copy(cluster, survivor), copy(cluster, victim)];
    survivor.ok(&format!("split-brain resolve --keep {keep}"));
    nodes.iter().for_each(|node| drop(node.wait_in_sync()));
    cluster.assert_identical();
    let image = export(cluster, survivor, &only_archive(cluster, victim.name()), Some(&base));
    compare::assert_identical(&image, &held, cluster.volume_bytes());

    // The survivor's clients have what they wrote, and only that.
    let [at_4, at_8] = [4, 8].map(|at| survivor.read(at * MIB, MIB as usize));
    let nothing = vec![0; MIB as usize];
    if keep == "alpha" {
        assert!(at_4 == apart.alphas && at_8 == nothing && survivor.read(0, MIB as usize) == apart.common);
    } else {
        assert!(at_4 == nothing && at_8 == apart.betas && survivor.read(0, 4096) == apart.betas[..4096]);
    }
}

#[test]
fn a_cut_link_and_the_data_of_who_was_primary_stay() {
    a_cut_is_mended_and_settled("primary --force", "alpha");
}

#[test]
fn a_cut_link_and_the_data_of_who_took_over_stay() {
    a_cut_is_mended_and_settled("primary", "beta");
}

/// Each node goes by its own configuration: with different policies neither applies any, and both say so.
#[test]
fn policies_that_differ_are_applied_by_neither_and_told_by_both() {
    let line = |policy: &str| format!("split-brain = {{ after-0-primaries = \"{policy}\" }}");
    let options = ClusterOptions { resource_lines: vec![line("discard-least-changes")], ..ClusterOptions::default() };
    let Apart { mut cluster, alphas, betas, .. } = apart(&options);
    for node in [&cluster.alpha, &cluster.beta] {
        node.wait_until("closed", SOON, |vz| !vz.volume().open);
        node.ok("secondary");
    }
    cluster.beta.stop();
    cluster.config.resource_lines[0] = line("discard-zero-changes");
    cluster.write_config();
    cluster.beta.start();
    cluster.alpha.ok("connect");
    let told = [&cluster.alpha, &cluster.beta].map(|node| {
        let vz = node.wait_connection("SplitBrain");
        assert!(vz.verdict.contains("no policy was applied, for the nodes told different ones"), "{}", vz.verdict);
        vz.split_brain.expect("its facts")
    });
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0]["volumes"][0]["unsettled"], "policies-differ");
    let has = |node: &Node, at: u64, bytes: &[u8]| {
        let disk = std::fs::read(node.disk()).expect("the disk");
        disk[(at * MIB) as usize..][..bytes.len()] == *bytes
    };
    assert!(has(&cluster.alpha, 4, &alphas) && has(&cluster.beta, 8, &betas), "something was given up");

    // The same on both, as the verdict says.
    cluster.alpha.stop();
    cluster.alpha.start();
    for node in [&cluster.alpha, &cluster.beta] {
        node.ok("disconnect");
    }
    for node in [&cluster.alpha, &cluster.beta] {
        node.ok("connect");
    }
    for node in [&cluster.alpha, &cluster.beta] {
        let vz = node.wait_connection("SplitBrain");
        assert!(vz.verdict.contains("the policy could not tell whose data to give up"), "{}", vz.verdict);
    }
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
    cluster.alpha.refused(
        "split-brain resolve --keep alpha",
        "SplitBrain: the nodes diverged (split brain); the node that isn't alpha is Primary",
    );
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

/// ```text
///   alpha Primary       beta Secondary     split brain: beta's disk is UpToDate, and alpha's clients write
///   alpha Primary       beta Secondary     'primary' on beta is refused, told why and what to do; status says the same
///   alpha Secondary     beta Secondary     the same on both, also when nobody is Primary: either may be, a moment later
///   alpha Primary       beta Secondary     by force, on the operator's word
/// ```
/// DRBD promotes such a node: two data sets with clients on both, of which one will be given up.
#[test]
fn nobody_in_split_brain_is_promoted_without_force() {
    let Apart { cluster, .. } = apart(&ClusterOptions::default());
    let (alpha, beta) = (&cluster.alpha, &cluster.beta);
    beta.wait_until("closed", SOON, |vz| !vz.volume().open);
    beta.ok("secondary");
    assert!(beta.resource().safe_to_promote, "they haven't met: nobody knows yet");
    let events = Events::of(beta, &cluster.path("beta.events"), || {
        beta.ok("connect");
        beta.ok("disconnect");
    });
    alpha.ok("connect");
    beta.ok("connect");
    let met = beta.wait_until("they meet", SOON, |vz| vz.connection == "SplitBrain");
    alpha.wait_connection("SplitBrain");
    assert_eq!((met.role.as_str(), met.volume().disk.as_str()), ("Secondary", "UpToDate"));

    let refused = |node: &Node, words: &str| {
        let vz = node.resource();
        assert!(!vz.safe_to_promote, "{} in {}", node.name(), vz.connection);
        let reason = vz.promotion_refused.expect("a reason");
        let said = node.verb("primary").failed_with(10);
        let shown = node.ok("status");
        for word in [words, "split-brain vz resolve --keep NODE", "--force"] {
            assert!(
                reason.contains(word) && said.contains(word) && shown.contains(word),
                "{word}: {reason} | {said} | {shown}"
            );
        }
        let json = node.verb("primary --json").stdout;
        let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
        assert_eq!(json["reason"], "SplitBrain", "{json}");
        assert_eq!(node.resource().role, "Secondary");
    };
    refused(beta, "the peer was Primary when they met last");
    // Neither leaving the peer nor looking for it anew settles anything.
    beta.ok("disconnect");
    refused(beta, "the peer was Primary when they met last");
    beta.ok("connect");
    beta.wait_connection("SplitBrain");
    refused(beta, "the peer was Primary when they met last");
    assert_eq!(alpha.resource().role, "Primary", "who is Primary stays it");
    alpha.write(MIB, &[7; 4096]);
    assert!(events.of_kind("role").is_empty(), "nobody heard of another role of beta's");

    alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    alpha.ok("secondary");
    beta.wait_until("they meet again", SOON, |vz| {
        vz.promotion_refused.as_ref().is_some_and(|why| why.contains("the peer may be Primary by now"))
    });
    for node in [alpha, beta] {
        refused(node, "the peer may be Primary by now");
    }
    alpha.ok("primary --force");
    assert_eq!(alpha.read(MIB, 4096), [7; 4096]);
    refused(beta, "split brain");

    alpha.ok("split-brain resolve --keep alpha");
    for node in [alpha, beta] {
        node.wait_in_sync();
    }
    cluster.assert_identical();
    alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    alpha.ok("secondary");
    beta.wait_until("settled", SOON, |vz| vz.safe_to_promote);
    beta.ok("primary");
}

/// A node that finds a split brain and restarts isn't promoted for what its metadata said of the other before: that it had left.
#[test]
fn a_restart_makes_nobody_in_split_brain_safe_to_promote() {
    let Apart { mut cluster, .. } = apart(&ClusterOptions::default());
    cluster.alpha.wait_until("closed", SOON, |vz| !vz.volume().open);
    cluster.alpha.ok("secondary");
    assert!(cluster.alpha.ok("dump-md").contains("peer-outdated     true"), "beta left, as far as alpha knows");
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_connection("SplitBrain");
    cluster.alpha.ok("disconnect");
    cluster.beta.stop();
    cluster.alpha.stop();
    cluster.alpha.start();
    let vz = cluster.alpha.wait_until("attached", SOON, |vz| vz.volume().disk == "Consistent");
    assert!(!vz.safe_to_promote, "{:?}", vz.verdict);
    cluster.alpha.refused("primary", "NoUpToDateDisk");
}
