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
