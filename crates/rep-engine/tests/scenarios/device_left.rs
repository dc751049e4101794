//! A daemon ends under an open device: the next one goes on where it stopped.
//!
//! ```text
//! alpha  Primary, /vz mounted ── write under way ── beta
//!        its daemon is upgraded: answers what is under way, ends       the device waits for the next daemon
//!        the next daemon: nothing to be resynced
//! ```

use crate::pair::{Kind, Pair};
use rep_engine::Command;
use rep_meta::PrimaryMark;
use rep_types::{FenceAnswer, Fencing, Role};

fn with_writes(fencing: Fencing) -> Pair {
    let mut pair = Pair::fenced(1, fencing);
    pair.command(0, Command::Promote { force: false });
    pair.run();
    let writes: Vec<_> = (0..4).map(|block| pair.write(0, 0, block)).collect();
    pair.run();
    assert!(writes.iter().all(|write| pair.answer(0, *write) == Some(Ok(()))));
    pair
}

/// One that is killed has the extents it wrote to copied; one that ends as planned, none.
#[test]
fn a_planned_end_under_an_open_device_leaves_nothing_to_be_resynced() {
    let mut pair = with_writes(Fencing::DontCare);
    pair.hold(0, Kind::Data, 0);
    let under_way = pair.write(0, 0, 9);
    let end = pair.command(0, Command::Shutdown);
    pair.run();
    assert_eq!((pair.outcome(0, end), pair.answer(0, under_way)), (None, None));
    pair.let_go(0, Kind::Data, 0);
    assert!(pair.outcome(0, end).is_some_and(|outcome| outcome.is_ok()));
    assert_eq!((pair.answer(0, under_way), pair.superblock(0, 0).primary), (Some(Ok(())), PrimaryMark::None));
    pair.kill(0);
    pair.connect();
    assert!(pair.is_in_sync());
    assert_eq!([0, 1].map(|node| pair.volume(node, 0).counters.resynced_bytes), [0; 2]);

    let mut killed = with_writes(Fencing::DontCare);
    killed.kill(0);
    assert!(killed.volume(0, 0).out_of_sync_bytes > 0);
}

/// The device's owner still writes as soon as there is a daemon: to go on at the other node takes what it would take had this
/// daemon been killed.
#[test]
fn whoever_has_fencing_asks_before_going_on_elsewhere_than_where_the_device_is() {
    let mut pair = with_writes(Fencing::ResourceAndStonith);
    let end = pair.command(0, Command::Shutdown);
    pair.run();
    assert!(pair.outcome(0, end).is_some_and(|outcome| outcome.is_ok()));
    let promotion = pair.command(1, Command::Promote { force: false });
    pair.run();
    assert_eq!((pair.fence_asked(1).is_some(), pair.outcome(1, promotion)), (true, None));
    pair.fence_answers(1, FenceAnswer::PeerFenced);
    assert_eq!(pair.snapshot(1).role, Role::Primary);
}
