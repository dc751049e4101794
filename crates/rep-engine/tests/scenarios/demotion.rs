//! A demotion waits for what clients were answered to be stable, and for nothing that comes after it.

use crate::pair::{Kind, Pair};
use rep_engine::Command;
use rep_types::Role;

/// A resync goes on beside it: each block that the peer takes is one more that isn't stable yet, for hours. Only what was there when the
/// demotion began counts.
#[test]
fn a_resync_keeps_no_demotion_waiting() {
    let mut pair = Pair::with_primary(1);
    pair.cut();
    for block in [5, 300, 600] {
        pair.write(0, 0, block);
    }
    pair.run();
    pair.hold(1, Kind::Data, 0);
    pair.connect();
    assert_eq!(pair.held(1, Kind::Data, 0), 3, "three ranges are on their way to beta's disk");
    pair.let_newest_go(1, Kind::Data, 0);
    pair.hold(1, Kind::Flush, 0);
    let demotion = pair.command(0, Command::Demote);
    pair.run();
    assert_eq!(pair.held(1, Kind::Flush, 0), 1, "what beta has taken is flushed there first");
    assert_eq!(pair.snapshot(0).role, Role::Primary);
    pair.let_newest_go(1, Kind::Data, 0);
    pair.let_newest_go(1, Kind::Flush, 0);
    assert!(pair.outcome(0, demotion).is_some_and(|outcome| outcome.is_ok()));
    assert_eq!(pair.snapshot(0).role, Role::Secondary);
    assert_eq!(pair.held(1, Kind::Data, 0), 1, "the resync isn't at its end");
    pair.let_go(1, Kind::Flush, 0);
    pair.let_go(1, Kind::Data, 0);
    assert!(pair.is_in_sync());
}
