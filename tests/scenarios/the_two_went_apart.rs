//! ```text
//!   alpha Primary ===== beta Secondary
//!   alpha Primary       beta Primary       disconnected, both promoted, both written to
//!   alpha SplitBrain    beta SplitBrain    connected: both see it, nobody's data is touched
//!   alpha Primary ====> beta SyncTarget    the operator gave beta's data up, on beta
//!   alpha Primary ===== beta Secondary     the same, and it is alpha's data
//! ```

use rep_tests::{Cluster, ClusterOptions};

const MIB: u64 = 1 << 20;

#[test]
fn both_see_it_and_the_operator_s_word_settles_it() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.expect_log("plit brain");
    let [common, alphas, betas] = [1, 2, 3].map(|seed| rep_tests::random::bytes(seed, MIB as usize));
    cluster.alpha.write(0, &common);
    cluster.alpha.ok("disconnect");
    cluster.beta.ok("disconnect");
    cluster.alpha.write(4 * MIB, &alphas);
    cluster.beta.ok("primary --force");
    cluster.beta.write(8 * MIB, &betas);
    cluster.beta.write(0, &betas[..4096]);

    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    for node in [&cluster.alpha, &cluster.beta] {
        node.wait_connection("SplitBrain");
        let told = node.resource().verdict;
        assert!(told.contains("split brain"), "{told}");
    }
    assert_eq!(cluster.alpha.read(4 * MIB, MIB as usize), alphas, "alpha's data is untouched");
    assert_eq!(cluster.beta.read(8 * MIB, MIB as usize), betas, "beta's data is untouched");

    cluster.beta.ok("secondary");
    cluster.beta.ok("connect --discard-my-data");
    cluster.alpha.ok("connect");
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    cluster.assert_identical();
    assert_eq!(cluster.alpha.read(0, MIB as usize), common);
    assert_eq!(cluster.alpha.read(4 * MIB, MIB as usize), alphas);
    assert!(cluster.alpha.read(8 * MIB, MIB as usize).iter().all(|&byte| byte == 0), "beta's writes are gone on both");
}
