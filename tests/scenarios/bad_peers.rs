//! A peer that isn't the peer, or can't be: refused by both, told by both, nothing changed.

use rep_tests::cluster::write_secret;
use rep_tests::{Cluster, ClusterOptions, NetworkKind};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Strangers come from this process, which is in no node's namespace.
fn within_reach() -> ClusterOptions {
    ClusterOptions { network: NetworkKind::Loopback, ..ClusterOptions::default() }
}

#[test]
fn with_another_secret() {
    let mut cluster = Cluster::in_sync(&ClusterOptions::default());
    cluster.expect_log("secret");
    cluster.beta.stop();
    let other = cluster.path("other-secret");
    write_secret(&other, "another secret altogether");
    let right = cluster.config.net_lines.clone();
    for line in &mut cluster.config.net_lines {
        if line.starts_with("shared-secret-file") {
            *line = format!("shared-secret-file = \"{}\"", other.display());
        }
    }
    cluster.write_config();
    cluster.beta.start();
    let told = |node: &rep_tests::Node| {
        node.wait_until("the secret is named", SOON, |resource| resource.verdict.contains("secret"));
        assert_ne!(node.resource().connection, "Connected");
    };
    told(&cluster.alpha);
    told(&cluster.beta);
    cluster.beta.stop();
    cluster.config.net_lines = right;
    cluster.write_config();
    cluster.beta.start();
    cluster.alpha.wait_in_sync();
}

#[test]
fn with_another_resource() {
    let mut cluster = Cluster::in_sync(&within_reach());
    cluster.expect_log("resource");
    cluster.expect_log("stays down");
    cluster.beta.stop();
    let text = cluster.config.text().replace("resource.vz", "resource.other");
    let path = cluster.path("other.toml");
    std::fs::write(&path, text).expect("the file");
    let mut other = rep_tests::Node::new("beta", cluster.beta.folder().to_owned(), path, None, "other");
    other.start();
    other.verb("create-md --force").ok();
    other.ok("up");
    cluster.alpha.wait_until("the other resource is named", SOON, |resource| resource.verdict.contains("other"));
    assert_ne!(other.resource().connection, "Connected");
}

#[test]
fn with_a_smaller_disk() {
    let options =
        ClusterOptions { disk_bytes: [64 << 20, 64 << 20], external_metadata: true, ..ClusterOptions::default() };
    let mut cluster = Cluster::in_sync(&options);
    cluster.beta.kill9();
    for path in [cluster.beta.disk(), cluster.beta.meta_disk()] {
        std::fs::remove_file(path).expect("beta's old disk");
    }
    rep_tests::scratch::sparse_file(&cluster.beta.disk(), 32 << 20);
    cluster.beta.start();
    cluster.beta.ok("create-md");
    cluster.beta.ok("up");
    let refused = |resource: &rep_tests::status::Resource| {
        resource.connection == "StandAlone" && resource.verdict.contains("small")
    };
    cluster.alpha.wait_until("refused", SOON, refused);
    cluster.beta.wait_until("refused", SOON, refused);
    cluster.alpha.ok("primary");
    cluster.alpha.write(48 << 20, &[1; 4096]);
}

/// Two disks of different size at the very first meeting: the volume is as large as the smaller.
#[test]
fn of_different_size_from_the_start_agree_on_the_smaller() {
    let options =
        ClusterOptions { disk_bytes: [64 << 20, 48 << 20], external_metadata: true, ..ClusterOptions::default() };
    let cluster = Cluster::with_primary(&options);
    assert_eq!(cluster.volume_bytes(), 48 << 20);
    assert_eq!(cluster.alpha.connection().size, 48 << 20);
}

#[test]
fn that_hold_unrelated_data() {
    let mut cluster = Cluster::with_primary(&ClusterOptions::default());
    cluster.expect_log("nrelated");
    cluster.alpha.write(0, &[1; 4096]);
    cluster.alpha.ok("secondary");
    cluster.alpha.ok("down");
    cluster.beta.ok("down");
    cluster.beta.verb("create-md --force").ok();
    cluster.beta.ok("up");
    cluster.beta.ok("primary --force");
    cluster.beta.write(4096, &[2; 4096]);
    cluster.beta.ok("secondary");
    cluster.alpha.ok("up");
    let refused = || {
        for node in [&cluster.alpha, &cluster.beta] {
            node.wait_connection("UnrelatedData");
            let told = node.resource().verdict;
            assert!(told.contains("unrelated"), "{told}");
        }
    };
    refused();
    // Trying again changes nothing, on either disk.
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    refused();
    assert_eq!(on_disk(&cluster.alpha, 0), [1; 4096]);
    assert_eq!(on_disk(&cluster.beta, 4096), [2; 4096]);

    // What the message says helps: fresh metadata where the data may go.
    cluster.beta.ok("down");
    cluster.beta.ok("create-md --force");
    cluster.beta.ok("up");
    cluster.alpha.ok("connect");
    cluster.beta.wait_in_sync();
    cluster.alpha.wait_in_sync();
    assert_eq!(on_disk(&cluster.beta, 0), [1; 4096]);
    cluster.assert_identical();
}

/// A block as it lies on a node's disk.
fn on_disk(node: &rep_tests::Node, at: u64) -> [u8; 4096] {
    use std::os::unix::fs::FileExt;
    let mut block = [0; 4096];
    let disk = std::fs::File::open(node.disk()).expect("the disk");
    disk.read_exact_at(&mut block, at).expect("a block");
    block
}

/// Strangers on the peer port: silent, garbage, half an opening, many at once. The pair works on.
#[test]
fn that_are_strangers() {
    let mut cluster = Cluster::with_primary(&within_reach());
    cluster.expect_log("peer link");
    let address = cluster.network.address(1);
    let mut silent = Vec::new();
    for number in 0..50_u64 {
        let mut stranger = TcpStream::connect(&address).expect("beta listens");
        match number % 3 {
            0 => {}
            1 => drop(stranger.write_all(&rep_tests::random::bytes(number, 4096))),
            _ => drop(stranger.write_all(b"GET / HTTP/1.1\r\nHost: beta\r\n\r\n")),
        }
        silent.push(stranger);
    }
    cluster.alpha.write(0, &rep_tests::random::bytes(9, 1 << 20));
    cluster.beta.assert_answers_quickly();
    cluster.alpha.ok("disconnect");
    cluster.alpha.ok("connect");
    cluster.beta.ok("connect");
    cluster.alpha.wait_in_sync();
    // A stranger that says nothing is shown the door within seconds.
    let mut first = silent.swap_remove(0);
    first.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut buffer = [0; 4096];
    while first.read(&mut buffer).expect("the end, not a timeout") > 0 {}
    cluster.assert_identical();
}

/// A peer that speaks a version of tomorrow, or of never.
#[test]
fn of_another_version() {
    let mut cluster = Cluster::in_sync(&within_reach());
    cluster.expect_log("version");
    cluster.beta.stop();
    // Alpha dials. Whatever it opens with is sent back to it with the version's bytes changed.
    let listener = TcpListener::bind(cluster.network.address(1)).expect("beta's port");
    let (mut stream, _) = listener.accept().expect("alpha dials");
    let mut opening = [0; 1024];
    let length = stream.read(&mut opening).expect("its opening");
    assert!(length > 8, "an opening is longer than {length} bytes");
    stream.write_all(&tomorrow(&opening[..length])).expect("sent");
    drop(stream);
    cluster.alpha.wait_until("the version is named", SOON, |resource| resource.verdict.contains("version"));
}

/// The same hello, claiming versions that don't exist yet (docs/PROTOCOL.md, "The opening").
fn tomorrow(opening: &[u8]) -> Vec<u8> {
    const ENVELOPE: usize = 12;
    let mut changed = opening.to_vec();
    changed[ENVELOPE..ENVELOPE + 4].copy_from_slice(&[0xE7, 0x03, 0xE8, 0x03]);
    let checksum = crc32fast::hash(&[&changed[..8], &changed[ENVELOPE..]].concat());
    changed[8..ENVELOPE].copy_from_slice(&checksum.to_le_bytes());
    changed
}

#[test]
fn whose_port_is_taken() {
    let mut cluster = Cluster::in_sync(&within_reach());
    cluster.expect_log("in use");
    cluster.beta.stop();
    let squatter = TcpListener::bind(cluster.network.address(1)).expect("beta's port");
    cluster.beta.start();
    let port = cluster.network.address(1);
    cluster.beta.wait_until("the port is named", SOON, |resource| resource.verdict.contains(&port));
    drop(squatter);
    cluster.beta.wait_in_sync();
}
