//! One of the two disks can't give space back. A discard would be a write of zeroes there, so none is offered, by either node.
//!
//! ```text
//!   alpha [gives back] ===== beta [gives back]     discards offered
//!   alpha [gives back] ===== beta [doesn't]        none, by either
//!   alpha [gives back]       beta gone             none: it is remembered
//! ```

use rep_tests::loop_disk::LoopDisk;
use rep_tests::nbd::Verb;
use rep_tests::tools::root_or_not_run;
use rep_tests::{Node, tools};

const EINVAL: u32 = 22;

/// What is offered, to a client of somebody else's and in the status.
#[track_caller]
fn assert_offers_discards(node: &Node, offered: bool) {
    assert_eq!(tools::words(&format!("nbdinfo --can trim {}", node.uri())).code == 0, offered, "{}", node.name());
    assert_eq!(node.resource().volume().discards, Some(offered), "{}", node.name());
    let words = if offered { ", discards" } else { ", no discards" };
    assert!(node.ok("status").contains(words), "{}", node.ok("status"));
    let mut client = node.connection();
    client.send(1, Verb::Trim, 0, 1 << 20, 1 << 20, &[]).expect("sent");
    assert_eq!(client.reply().expect("a reply").error, if offered { 0 } else { EINVAL });
    // Zeroes are a command in any case: they needn't cross the cable as data.
    client.zero(Verb::WriteZeroes, 0, 2 << 20, 1 << 20).expect("zeroes");
}

#[test]
fn discards_are_offered_where_both_give_space_back() {
    if !root_or_not_run("a block device of a file") {
        return;
    }
    for refuses in [None, Some(0), Some(1)] {
        let (mut cluster, disks) = LoopDisk::under_a_cluster([512; 2]);
        refuses.into_iter().for_each(|node: usize| disks[node].refuse_discards());
        cluster.bring_in_sync();
        for primary in ["alpha", "beta"] {
            let node = cluster.node(primary);
            node.ok("primary");
            assert_offers_discards(node, refuses.is_none());
            node.ok("secondary");
        }
        cluster.beta.stop();
        cluster.alpha.stop();
        cluster.alpha.start();
        cluster.alpha.ok("primary --force");
        assert_offers_discards(&cluster.alpha, refuses.is_none());
        drop((cluster, disks));
    }
}
