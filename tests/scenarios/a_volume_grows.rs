//! ```text
//!   alpha Primary [128M] ===== beta Secondary [128M]    fio writes
//!   alpha Primary [160M] ===== beta Secondary [128M]    one disk grew: refused, nothing happens
//!   alpha Primary [160M] ===== beta Secondary [160M]    both did: one command, the new area is copied, clients have it
//! ```

use rep_tests::wait::until_true;
use rep_tests::{Cluster, ClusterOptions, Node};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
const BEFORE: u64 = 128 * MIB;
const AFTER: u64 = 160 * MIB;

fn open(path: &Path) -> std::fs::File {
    std::fs::File::options().write(true).open(path).expect("the disk")
}

/// A disk grows, and what is behind its former end isn't zeroes.
fn grow(node: &Node, filling: u8) {
    let disk = open(&node.disk());
    disk.set_len(AFTER).expect("grown");
    disk.write_all_at(&vec![filling; 20 * MIB as usize], BEFORE + MIB).expect("filled");
}

fn options(external_metadata: bool) -> ClusterOptions {
    ClusterOptions { disk_bytes: [BEFORE; 2], external_metadata, ..ClusterOptions::default() }
}

fn size(node: &Node) -> u64 {
    node.resource().volume().size_bytes
}

/// Both disks grow under fio, and the volume follows at one word; what is written to the new area is on both.
fn grows_under_load(external_metadata: bool) {
    let cluster = Cluster::with_primary(&options(external_metadata));
    let before = size(&cluster.alpha);
    let fio = cluster.start_fio(8);
    cluster.alpha.refused("resize", "DisksNotGrown");

    grow(&cluster.alpha, 0xa1);
    let said = cluster.alpha.verb("resize").failed_with(10);
    assert!(said.contains("the peer's disk has room for") && said.contains(&before.to_string()), "{said}");
    cluster.beta.refused("resize", "DiskNotGrown");
    assert_eq!((size(&cluster.alpha), size(&cluster.beta)), (before, before));

    grow(&cluster.beta, 0xb2);
    cluster
        .alpha
        .wait_until("both know that the volume can grow", SOON, |resource| resource.verdict.contains("repctl resize"));
    let said = cluster.beta.ok("resize");
    let after = size(&cluster.alpha);
    assert!(after > before + 30 * MIB && said.contains(&after.to_string()), "{before}, {after}: {said}");
    until_true("both have grown", SOON, || size(&cluster.beta) == after);

    let new_client = cluster.alpha.connection();
    assert!(new_client.size <= after && new_client.size > after - 4096, "{} of {after}", new_client.size);
    drop(new_client);
    let data = rep_tests::random::bytes(7, MIB as usize);
    cluster.alpha.write(after / 4096 * 4096 - 2 * MIB, &data);
    drop(fio);
    cluster.alpha.wait_in_sync();
    let received = cluster.beta.wait_in_sync().volume().io.received_bytes;
    assert!(received >= 19 * MIB, "what isn't zeroes in the new area was copied: {received}");
    cluster.assert_identical();
    let standing = cluster.alpha.read(after / 4096 * 4096 - 2 * MIB, data.len());
    assert!(standing == data, "what was written behind the former end isn't there");
    cluster.alpha.refused("resize", "DisksNotGrown");
}

#[test]
fn under_load_with_metadata_inside() {
    grows_under_load(false);
}

#[test]
fn under_load_with_metadata_outside() {
    grows_under_load(true);
}

/// A node that starts with a disk that grew meanwhile has its volume as it was, and grows at the word.
#[test]
fn while_the_daemons_were_down() {
    let mut cluster = Cluster::in_sync(&options(false));
    let before = size(&cluster.alpha);
    cluster.alpha.stop();
    cluster.beta.stop();
    grow(&cluster.alpha, 0xa1);
    grow(&cluster.beta, 0xb2);
    cluster.alpha.start();
    cluster.beta.start();
    cluster.alpha.wait_in_sync();
    assert_eq!((size(&cluster.alpha), size(&cluster.beta)), (before, before));
    cluster.alpha.ok("resize");
    cluster.alpha.wait_in_sync();
    let after = size(&cluster.alpha);
    assert!(after > before);
    cluster.assert_identical();
    // And the metadata are found where they are now.
    cluster.alpha.stop();
    cluster.alpha.start();
    cluster.alpha.wait_in_sync();
    assert_eq!(size(&cluster.alpha), after);
}

/// Whoever dies in the middle: the pair comes together with one size, the old or the new.
#[test]
fn and_a_daemon_dies_meanwhile() {
    let mut cluster = Cluster::with_primary(&options(false));
    let before = size(&cluster.alpha);
    grow(&cluster.alpha, 0xa1);
    grow(&cluster.beta, 0xb2);
    for round in 0..6u64 {
        let (alpha, beta) = (&cluster.alpha, &mut cluster.beta);
        std::thread::scope(|scope| {
            let resize = scope.spawn(|| alpha.verb("resize"));
            std::thread::sleep(Duration::from_millis(round * 4));
            beta.kill9();
            drop(resize.join().expect("an answer"));
        });
        cluster.beta.start();
        cluster.alpha.wait_in_sync();
        cluster.beta.wait_in_sync();
        assert_eq!(size(&cluster.alpha), size(&cluster.beta));
        cluster.alpha.write(round * MIB, &[round as u8 + 1; 4096]);
    }
    if size(&cluster.alpha) == before {
        cluster.alpha.ok("resize");
    }
    cluster.alpha.wait_in_sync();
    cluster.beta.wait_in_sync();
    assert!(size(&cluster.alpha) > before);
    cluster.assert_identical();
}
