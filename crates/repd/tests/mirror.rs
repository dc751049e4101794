//! ```text
//!   alpha (Primary)            beta (Secondary)
//!   client writes ───────────► the same bytes
//!   beta stops; client writes on, marks what beta lacks
//!   beta is back: only that is copied
//! ```

mod common;

use common::{Node, pair, wait_for, wait_in_sync};
use rep_engine::Command;
use rep_types::{ByteRange, DiskState, Role};

const SIZE: u64 = 64 << 20;

fn primary(nodes: &mut [Node; 2]) {
    nodes.iter_mut().for_each(Node::up);
    nodes[0].command(Command::Promote { force: true });
    wait_in_sync([&nodes[0], &nodes[1]]);
}

fn assert_equal_disks(nodes: &[Node; 2]) {
    let bytes = nodes[0].report().engine.volumes[0].size_bytes;
    let (mine, theirs) = (nodes[0].data(bytes), nodes[1].data(bytes));
    let differs = mine.chunks(4096).zip(theirs.chunks(4096)).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the first block that differs");
}

#[test]
fn what_is_written_is_on_both_disks() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut nodes = pair(&directory, SIZE);
    primary(&mut nodes);
    let mut client = nodes[0].client();
    for n in 0..200u64 {
        let length = [512, 4096, 65536, 1 << 20, 3 << 20][n as usize % 5];
        let offset = n * 7919 * 512 % (SIZE / 2);
        client.write(offset, &vec![n as u8 + 1; length], false).expect("write");
        if n % 50 == 0 {
            client.flush().expect("flush");
        }
    }
    client.write_zeroes(ByteRange::new(1 << 20, 6 << 20), false, false).expect("zero");
    let back = Node::read(&mut client, (1 << 20) - 512, 1024);
    assert!(back[512..].iter().all(|byte| *byte == 0));
    client.flush().expect("flush");
    drop(client);
    assert_equal_disks(&nodes);
    nodes.iter_mut().for_each(|node| drop(node.stop().expect("a clean end")));
}

#[test]
fn what_the_peer_missed_and_only_that_is_copied() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut nodes = pair(&directory, SIZE);
    primary(&mut nodes);
    nodes[1].stop().expect("a clean end");
    let mut client = nodes[0].client();
    for n in 0..100u64 {
        client.write(n * 100 * 4096 % (SIZE / 2), &[n as u8; 8192], false).expect("write without the peer");
    }
    client.flush().expect("flush");
    let before = nodes[0].report().engine.volumes[0].counters.resynced_bytes;
    let missing = nodes[0].report().engine.volumes[0].out_of_sync_bytes;
    assert!(missing > 0 && missing < 4 << 20, "{missing}");
    nodes[1].up();
    wait_in_sync([&nodes[0], &nodes[1]]);
    let copied = nodes[0].report().engine.volumes[0].counters.resynced_bytes - before;
    assert!(copied > 0 && copied <= missing, "{copied} of {missing}");
    assert_equal_disks(&nodes);
    drop(client);
    nodes.iter_mut().for_each(|node| drop(node.stop().expect("a clean end")));
}

#[test]
fn a_secondary_offers_nothing_and_the_other_node_can_take_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut nodes = pair(&directory, SIZE);
    primary(&mut nodes);
    assert!(std::os::unix::net::UnixStream::connect(&nodes[1].socket).is_err());
    let mut client = nodes[0].client();
    client.write(4096, &[0xA5; 4096], true).expect("write");
    assert!(nodes[0].try_command(Command::Demote).is_err(), "the device is open");
    drop(client);
    wait_for("the client's end", &[&nodes[0]], |reports| reports[0].engine.volumes[0].openers == 0);
    nodes[0].command(Command::Demote);
    assert!(std::os::unix::net::UnixStream::connect(&nodes[0].socket).is_err());
    wait_for("word of the demotion", &[&nodes[1]], |reports| {
        reports[0].engine.peer_role == Some(Role::Secondary) && reports[0].engine.promotion_refused.is_none()
    });
    nodes[1].command(Command::Promote { force: false });
    let mut client = nodes[1].client();
    assert_eq!(Node::read(&mut client, 4096, 4096), [0xA5; 4096]);
    drop(client);
    nodes.iter_mut().for_each(|node| drop(node.stop().expect("a clean end")));
}

#[test]
fn reads_and_writes_go_on_without_a_local_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut nodes = pair(&directory, SIZE);
    primary(&mut nodes);
    let mut client = nodes[0].client();
    client.write(0, &[1; 65536], false).expect("write");
    nodes[0].command(Command::Detach { volume: common::VOLUME, force: false });
    assert_eq!(nodes[0].report().engine.volumes[0].disk, DiskState::Diskless);
    client.write(4096, &[2; 4096], true).expect("write");
    let back = Node::read(&mut client, 0, 65536);
    assert!(back[..4096].iter().all(|byte| *byte == 1) && back[4096..8192].iter().all(|byte| *byte == 2));
    nodes[0].attach().expect("attach");
    wait_in_sync([&nodes[0], &nodes[1]]);
    drop(client);
    assert_equal_disks(&nodes);
}
