//! Verifies: every block is compared, also by one that was interrupted.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, Side};
use rep_types::{ReplicationState, VolumeNumber};

fn verify(pair: &mut Pair, node: usize) {
    pair.command(node, Command::Verify { volume: VolumeNumber(0), repair_from: None });
    pair.run();
}

fn done_bytes(pair: &Pair, node: usize) -> u64 {
    pair.volume(node, 0).verify.expect("a verify runs").done_bytes
}

/// Eight ranges are under way; all but the first have been compared when the operator stops the verify. Asked for again, it
/// begins with the one that is missing: it used to count how many were under way, not which.
#[test]
fn a_verify_goes_on_with_the_first_range_not_compared() {
    let mut pair = Pair::in_sync(1);
    pair.hold(0, Kind::Data, 0);
    verify(&mut pair, 0);
    let begun = pair.held(0, Kind::Data, 0);
    assert!(begun > 1, "{begun} ranges under way");
    (1..begun).for_each(|_| pair.let_newest_go(0, Kind::Data, 0));
    assert_eq!(done_bytes(&pair, 0), 0, "the first is still being read");
    pair.command(0, Command::StopVerify { volume: VolumeNumber(0) });
    pair.run();
    verify(&mut pair, 0);
    assert_eq!(done_bytes(&pair, 0), 0, "the first has still to be compared");
}

/// ```text
/// alpha  was Primary last; its disk is to be repaired from beta's
/// beta   leads the verify, and finds a difference; the link goes with its word to alpha
/// ```
/// The handshake that follows would have copied from the last Primary, alpha: the other way.
#[test]
fn a_repair_goes_the_way_it_was_asked_for_also_over_a_lost_link() {
    let mut pair = Pair::with_primary(1);
    pair.command(0, Command::Demote);
    pair.run();
    pair.change_block(0, 3);
    pair.hold(0, Kind::Data, 0);
    pair.command(1, Command::Verify { volume: VolumeNumber(0), repair_from: Some(Side::Local) });
    pair.run();
    pair.hold_wire(1);
    pair.let_go(0, Kind::Data, 0);
    pair.cut();
    pair.let_wire_go(1);
    assert_eq!((pair.volume(0, 0).out_of_sync_bytes, pair.volume(1, 0).out_of_sync_bytes), (0, 4096));
    pair.hold(1, Kind::Data, 0);
    pair.connect();
    assert_eq!(pair.volume(0, 0).replication, ReplicationState::SyncTarget);
    pair.let_go(1, Kind::Data, 0);
    assert!(pair.is_in_sync());
}
