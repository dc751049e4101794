//! One disk has logical blocks of 512 bytes, the other of 4 KiB: clients are offered what both can do, whoever is there.
//!
//! ```text
//!  alpha 512 ──┐                     ┌── alpha alone: 4096, as it remembers
//!              ├── meet ── 4096 ─────┤
//!  beta 4096 ──┘                     └── beta alone: 4096
//!
//!  alpha Primary, 512 told ── beta's disk replaced by one of 4096: refused until alpha has no clients
//! ```

use crate::pair::{DEVICE_BYTES, Pair};
use rep_engine::{Command, CommandError, CommandOutcome, Notice};
use rep_types::{
    ByteRange, ConnectionState, DiskState, IoError, LeftDevice, Refusal, Role, SyncRefusal, SyncVerdict, VolumeNumber,
};

const CONNECT: Command = Command::Connect { discard_my_data: false };

/// Both connected with the same data, on disks with these blocks.
fn with_blocks(blocks: [u32; 2]) -> Pair {
    let mut pair = Pair::just_created(1);
    (0..2).for_each(|node| pair.set_blocks(node, blocks[node]));
    (0..2).for_each(|node| pair.reinstall(node));
    pair.connect();
    pair.take_for_equal();
    pair
}

fn demote(pair: &mut Pair, node: usize) {
    let id = pair.command(node, Command::Demote);
    pair.run();
    assert_eq!(pair.outcome(node, id), Some(Ok(CommandOutcome::Done)));
}

fn offered(pair: &Pair, node: usize) -> Option<u32> {
    pair.offered(node).map(|offer| offer.block_bytes)
}

fn verdict(pair: &Pair, node: usize) -> Option<SyncVerdict> {
    pair.volume(node, 0).last_decision.map(|decision| decision.verdict)
}

fn remembered(pair: &mut Pair) -> [u32; 2] {
    [0, 1].map(|node| pair.superblock(node, 0).agreed_block_bytes)
}

#[test]
fn clients_are_offered_what_both_disks_can_do() {
    for (blocks, both) in [([512, 4096], 4096), ([4096, 512], 4096), ([512, 512], 512), ([1024, 512], 1024)] {
        let mut pair = with_blocks(blocks);
        assert_eq!(remembered(&mut pair), [both; 2]);
        for node in 0..2 {
            pair.promote(node);
            assert_eq!(offered(&pair, node), Some(both), "{blocks:?}");
            demote(&mut pair, node);
        }
    }
}

/// The reason for all of it: half a block would be refused by the peer's disk, which would be given up for that.
#[test]
fn less_than_a_block_goes_to_no_disk() {
    let mut pair = with_blocks([512, 4096]);
    pair.promote(0);
    for range in [ByteRange::new(512, 4096), ByteRange::new(4096, 512)] {
        let write = pair.write_range(0, range);
        pair.run();
        assert_eq!(pair.answer(0, write), Some(Err(IoError::Invalid)));
    }
    let write = pair.write_range(0, ByteRange::new(4096, 8192));
    pair.run();
    assert_eq!((pair.answer(0, write), pair.is_in_sync()), (Some(Ok(())), true));
}

#[test]
fn a_primary_without_its_peer_offers_what_the_peer_can_take() {
    let mut pair = with_blocks([512, 4096]);
    pair.promote(0);
    pair.cut();
    demote(&mut pair, 0);
    pair.kill(0);
    let id = pair.command(0, Command::Promote { force: true });
    pair.run();
    assert_eq!(pair.outcome(0, id), Some(Ok(CommandOutcome::Done)));
    assert_eq!(offered(&pair, 0), Some(4096), "it remembers");
}

#[test]
fn a_primary_without_a_disk_offers_what_its_peers_takes() {
    let mut pair = with_blocks([512, 4096]);
    let detach = Command::Detach { volume: VolumeNumber(0), force: false };
    pair.command(0, detach);
    pair.run();
    pair.promote(0);
    assert_eq!((pair.volume(0, 0).disk, offered(&pair, 0)), (DiskState::Diskless, Some(4096)));
}

/// A 4Kn disk takes the place of the peer's under clients that know of 512 bytes.
fn replaced_under_a_primary() -> Pair {
    let mut pair = with_blocks([512, 512]);
    pair.promote(0);
    let write = pair.write_range(0, ByteRange::new(512, 512));
    pair.run();
    assert_eq!((pair.answer(0, write), offered(&pair, 0)), (Some(Ok(())), Some(512)));
    pair.set_blocks(1, 4096);
    pair.reinstall(1);
    pair.connect();
    pair
}

#[test]
fn a_disk_that_needs_more_than_clients_know_of_is_refused_until_there_are_none() {
    let mut pair = replaced_under_a_primary();
    assert_eq!(verdict(&pair, 0), Some(SyncVerdict::Refuse(SyncRefusal::PeerBlocksTooLarge)));
    assert_eq!(verdict(&pair, 1), Some(SyncVerdict::Refuse(SyncRefusal::BlocksTooLarge)));
    assert_eq!([0, 1].map(|node| pair.snapshot(node).connection), [ConnectionState::StandAlone; 2]);
    let write = pair.write_range(0, ByteRange::new(1024, 512));
    pair.run();
    assert_eq!(pair.answer(0, write), Some(Ok(())), "its clients go on");
    // Unmounted: now the volume may have larger blocks, and says so.
    demote(&mut pair, 0);
    for node in 0..2 {
        pair.command(node, CONNECT);
    }
    pair.run();
    pair.connect();
    assert!(pair.is_in_sync());
    let grown = Notice::BlocksGrown { volume: VolumeNumber(0), from_bytes: 512, to_bytes: 4096 };
    assert!(pair.notices(0).contains(&grown));
    pair.promote(0);
    assert_eq!((offered(&pair, 0), remembered(&mut pair)), (Some(4096), [4096; 2]));
}

#[test]
fn blocks_are_never_made_smaller_again() {
    let mut pair = with_blocks([512, 4096]);
    pair.set_blocks(1, 512);
    pair.reinstall(1);
    pair.connect();
    assert!(pair.is_in_sync());
    pair.promote(0);
    assert_eq!((offered(&pair, 0), remembered(&mut pair)), (Some(4096), [4096; 2]));
}

#[test]
fn a_primary_s_own_new_disk_is_refused_at_the_attach() {
    let mut pair = with_blocks([512, 512]);
    pair.promote(0);
    for node in [0, 1] {
        let detach = pair.command(node, Command::Detach { volume: VolumeNumber(0), force: false });
        pair.run();
        assert_eq!(pair.outcome(node, detach), Some(Ok(CommandOutcome::Done)), "{node}");
        pair.set_blocks(node, 4096);
        let attach = pair.try_attach(node, 0);
        pair.run();
        assert_eq!(pair.outcome(node, attach), Some(Err(CommandError::Refused(Refusal::BlocksTooLarge))), "{node}");
        assert_eq!(pair.volume(node, 0).disk, DiskState::Diskless);
        pair.set_blocks(node, 512);
        pair.attach(node, 0);
        pair.run();
        assert!(pair.is_in_sync());
    }
}

/// The daemon is upgraded under a mounted device: the peer's new disk must not spoil the takeover.
#[test]
fn a_device_that_was_left_behind_can_be_taken_over() {
    let mut pair = replaced_under_a_primary();
    pair.command(0, Command::Shutdown);
    pair.run();
    pair.leave_device(0, Some(LeftDevice { block_bytes: 512, volatile_cache: true }));
    pair.kill(0);
    pair.kill(1);
    pair.connect();
    assert_eq!(verdict(&pair, 0), Some(SyncVerdict::Refuse(SyncRefusal::PeerBlocksTooLarge)));
    // It may yet be Primary: both go on meeting.
    assert_eq!([0, 1].map(|node| pair.snapshot(node).connection), [ConnectionState::Connecting; 2]);
    let id = pair.command(0, Command::Promote { force: true });
    pair.run();
    assert_eq!(pair.outcome(0, id), Some(Ok(CommandOutcome::Done)));
    assert_eq!((pair.snapshot(0).role, offered(&pair, 0)), (Role::Primary, Some(512)));
}

/// The device of a node that handed its role over is open: those who have it know of its blocks.
#[test]
fn a_node_that_forwards_has_clients_who_know_of_its_blocks() {
    let mut pair = with_blocks([512, 512]);
    pair.promote(0);
    let handover = pair.command(0, Command::Handover);
    pair.run();
    assert_eq!(pair.outcome(0, handover), Some(Ok(CommandOutcome::Done)));
    pair.set_blocks(1, 4096);
    pair.reinstall(1);
    pair.connect();
    assert_eq!(verdict(&pair, 0), Some(SyncVerdict::Refuse(SyncRefusal::PeerBlocksTooLarge)));
    assert_eq!(remembered(&mut pair)[0], 512);
    let write = pair.write_range(0, ByteRange::new(1024, 512));
    let promote = pair.command(0, Command::Promote { force: true });
    pair.run();
    assert_eq!(pair.outcome(0, promote), Some(Ok(CommandOutcome::Done)));
    assert_eq!((pair.answer(0, write), offered(&pair, 0)), (Some(Ok(())), Some(512)), "its clients go on");
}

/// The last half block of the smaller disk is none of the volume.
#[test]
fn a_volume_is_whole_blocks() {
    let mut pair = Pair::just_created(1);
    pair.set_blocks(1, 4096);
    pair.reinstall(1);
    pair.replace_disk(0, DEVICE_BYTES - 512);
    pair.reboot(0);
    pair.connect();
    pair.take_for_equal();
    let sizes = [0, 1].map(|node| pair.volume(node, 0).size_bytes);
    assert_eq!(sizes, [DEVICE_BYTES - 4096; 2]);
    assert_eq!([0, 1].map(|node| pair.superblock(node, 0).agreed_bytes), sizes);
}

/// Both disks have blocks of 512 bytes, and the volume one less than whole blocks of 4 KiB.
fn with_an_odd_sector() -> Pair {
    let mut pair = Pair::just_created(1);
    pair.reinstall(1);
    pair.replace_disk(0, DEVICE_BYTES - 512);
    pair.reboot(0);
    pair.connect();
    pair.take_for_equal();
    pair
}

/// One that was agreed on with 512 bytes, and isn't whole blocks of the new disk, can't be had there.
#[test]
fn a_volume_that_is_not_whole_blocks_of_the_new_disk_is_refused() {
    let mut pair = with_an_odd_sector();
    assert_eq!(pair.superblock(1, 0).agreed_bytes, DEVICE_BYTES - 512);
    pair.set_blocks(1, 4096);
    pair.reinstall(1);
    pair.connect();
    assert_eq!(verdict(&pair, 0), Some(SyncVerdict::Refuse(SyncRefusal::PeerBlocksTooLarge)));
}

/// Nor is such a disk attached while nobody has a device: nobody's clients are to blame.
#[test]
fn a_disk_that_remembers_less_than_whole_blocks_is_refused_in_its_own_words() {
    let mut pair = with_an_odd_sector();
    pair.command(1, Command::Detach { volume: VolumeNumber(0), force: false });
    pair.run();
    pair.set_blocks(1, 4096);
    let attach = pair.try_attach(1, 0);
    pair.run();
    assert_eq!(pair.outcome(1, attach), Some(Err(CommandError::Refused(Refusal::NotWholeBlocks))));
}

/// A peer of before this takes no part in the refusal: the two decide differently, and stay apart.
#[test]
fn a_peer_that_knows_nothing_of_blocks_is_told_in_words_it_knows() {
    let mut pair = with_blocks([512, 512]);
    pair.promote(0);
    pair.without_features();
    pair.set_blocks(1, 4096);
    pair.reinstall(1);
    pair.connect();
    assert_eq!([0, 1].map(|node| pair.snapshot(node).connection), [ConnectionState::StandAlone; 2]);
    assert!(!pair.notices(0).iter().any(|notice| matches!(notice, Notice::DecisionMismatch { .. })));
}

/// Where one of the disks can't, a discard would write zeroes as long as what is discarded.
#[test]
fn discards_are_offered_where_both_disks_give_the_space_back() {
    for (discards, offered) in [([true, true], true), ([true, false], false), ([false, true], false)] {
        let mut pair = Pair::just_created(1);
        (0..2).for_each(|node| pair.set_discards(node, discards[node]));
        (0..2).for_each(|node| pair.reinstall(node));
        pair.connect();
        pair.take_for_equal();
        for node in 0..2 {
            pair.promote(node);
            assert_eq!(pair.offered(node).map(|offer| offer.discards), Some(offered), "{discards:?}");
            demote(&mut pair, node);
        }
        // Without its peer a node remembers what that can do.
        pair.promote(0);
        pair.cut();
        demote(&mut pair, 0);
        pair.kill(0);
        pair.command(0, Command::Promote { force: true });
        pair.run();
        assert_eq!(pair.offered(0).map(|offer| offer.discards), Some(offered), "{discards:?}");
    }
}

#[test]
fn a_primary_without_a_disk_offers_discards_where_its_peers_takes_them() {
    for discards in [true, false] {
        let mut pair = Pair::just_created(1);
        pair.set_discards(1, discards);
        pair.reinstall(1);
        pair.connect();
        pair.take_for_equal();
        pair.command(0, Command::Detach { volume: VolumeNumber(0), force: false });
        pair.run();
        pair.promote(0);
        assert_eq!(pair.offered(0).map(|offer| offer.discards), Some(discards));
    }
}
