//! A node's data are given up at the operator's word.

use crate::pair::{Kind, Pair};
use rep_engine::{Command, CommandError, CommandOutcome};
use rep_types::{DiskState, Refusal, VolumeNumber};
use std::time::Duration;

/// The peer has a command of its own under way, and takes no word to give its data up. Who said it used to wait for a resync until its
/// own time had run out, without a reason.
#[test]
fn a_peer_that_gives_nothing_up_is_told_of() {
    let mut pair = Pair::with_primary(2);
    pair.hold(1, Kind::Flush, 1);
    pair.command(1, Command::Detach { volume: VolumeNumber(1), force: false });
    pair.run();
    let busy = pair.command(0, Command::InvalidatePeer { volume: VolumeNumber(0) });
    pair.run();
    assert_eq!(pair.outcome(0, busy), Some(Err(CommandError::Refused(Refusal::PeerBusy))));
    assert_eq!(pair.volume(1, 0).disk, DiskState::UpToDate);

    pair.let_go(1, Kind::Flush, 1);
    // An answer to an earlier ping tells nothing.
    pair.hold_wire(1);
    pair.pass_time(Duration::from_secs(11));
    let given_up = pair.command(0, Command::InvalidatePeer { volume: VolumeNumber(0) });
    pair.let_wire_go(1);
    assert_eq!(pair.outcome(0, given_up), Some(Ok(CommandOutcome::Done)));
}
