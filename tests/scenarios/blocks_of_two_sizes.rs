//! One node's disk has logical blocks of 512 bytes, the other's of 4 KiB. Clients are offered what both can do.
//!
//! ```text
//!   alpha [512 B] ===== beta [4 KiB]     4096 is offered, by either; less is refused, and no disk is given up for it
//!   alpha [512 B]       beta gone        4096 all the same: it is remembered
//!
//!   alpha Primary [512 B], clients know 512 ===== beta [512 B]
//!   alpha Primary ....................... refused ... beta [4 KiB, replaced]     clients go on
//!   alpha Secondary, connected again ====== beta [4 KiB]                         4096 from now on
//! ```

use rep_tests::loop_disk::LoopDisk;
use rep_tests::nbd::Verb;
use rep_tests::scratch::sparse_file;
use rep_tests::tools::root_or_not_run;
use rep_tests::{Node, random, tools};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const EINVAL: u32 = 22;

/// What a client is told, by a client of somebody else's.
fn offered_block(node: &Node) -> u64 {
    let told = tools::words(&format!("nbdinfo --json {}", node.uri())).ok();
    let told: serde_json::Value = serde_json::from_str(&told).expect("nbdinfo speaks JSON");
    told["exports"][0]["block_size_minimum"].as_u64().expect("a least block")
}

#[track_caller]
fn takes_whole_blocks_only(node: &Node, block: usize) {
    let mut client = node.connection();
    for (at, length) in [(512, 4096), (4096, 512), (8192 - 512, 1024)] {
        client.send(1, Verb::Write, 0, at, length, &vec![1; length as usize]).expect("sent");
        let reply = client.reply().expect("a reply");
        assert_eq!(reply.error, if block > 512 { EINVAL } else { 0 }, "{at}, {length}");
    }
    client.write(block as u64, &vec![2; block], 0).expect("a whole block");
    client.flush().expect("stable");
}

#[test]
fn both_disks_can_do_what_is_offered() {
    if !root_or_not_run("a block device of a file") {
        return;
    }
    for blocks in [[512, 4096], [4096, 512]] {
        let (mut cluster, disks) = LoopDisk::under_a_cluster(blocks);
        cluster.bring_in_sync();
        for primary in ["alpha", "beta"] {
            let node = cluster.node(primary);
            node.ok("primary");
            assert_eq!((offered_block(node), node.resource().volume().block_bytes), (4096, Some(4096)), "{blocks:?}");
            takes_whole_blocks_only(node, 4096);
            node.write(1 << 20, &random::bytes(5, 1 << 20));
            node.ok("secondary");
        }
        for node in [&cluster.alpha, &cluster.beta] {
            assert!(node.resource().is_in_sync(), "no disk was given up: {}", node.resource().line());
        }
        cluster.alpha.ok("verify --wait");
        cluster.beta.stop();
        cluster.alpha.stop();
        cluster.alpha.start();
        cluster.alpha.ok("primary --force");
        assert_eq!(offered_block(&cluster.alpha), 4096, "alpha alone remembers");
        takes_whole_blocks_only(&cluster.alpha, 4096);
        cluster.beta.start();
        cluster.alpha.wait_in_sync();
        cluster.assert_identical();
        drop((cluster, disks));
    }
}

#[test]
fn a_disk_that_needs_more_than_clients_were_told_of_is_refused_until_there_are_none() {
    if !root_or_not_run("a block device of a file") {
        return;
    }
    let (mut cluster, [small, replaced]) = LoopDisk::under_a_cluster([512, 512]);
    cluster.bring_in_sync();
    cluster.alpha.ok("primary");
    assert_eq!(offered_block(&cluster.alpha), 512);
    takes_whole_blocks_only(&cluster.alpha, 512);
    let data = random::bytes(6, 1 << 20);
    cluster.alpha.write(1 << 20, &data);

    cluster.beta.stop();
    drop(replaced);
    let file = cluster.path("new-disk");
    sparse_file(&file, 64 << 20);
    let large = LoopDisk::new(&file, 4096);
    cluster.config.nodes[1].volumes[0].disk = large.path().to_owned();
    cluster.write_config();
    cluster.beta.start();
    cluster.beta.ok("create-md");
    cluster.beta.ok("up");
    let refused = cluster.alpha.wait_until("it is refused", SOON, |resource| {
        resource.connection == "StandAlone" && resource.verdict.contains("larger logical blocks")
    });
    assert!(
        refused.verdict.contains("repctl secondary vz") && refused.verdict.contains("repctl connect vz"),
        "{refused:?}"
    );
    assert!(cluster.beta.resource().verdict.contains("this node's disk has larger logical blocks"));
    takes_whole_blocks_only(&cluster.alpha, 512);
    assert_eq!(cluster.alpha.resource().volume().disk, "UpToDate", "its clients go on");

    cluster.alpha.ok("secondary");
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_for_log("logical blocks: 512 -> 4096 bytes");
    cluster.alpha.ok("primary");
    assert_eq!(offered_block(&cluster.alpha), 4096);
    takes_whole_blocks_only(&cluster.alpha, 4096);
    assert!(cluster.alpha.read(1 << 20, data.len()) == data);
    assert!(cluster.alpha.resource().is_in_sync());
    drop((cluster, small, large));
}
