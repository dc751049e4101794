//! The operator's commands, as the engine takes them.

use crate::config::Tunables;
use rep_types::{Refusal, SyncDecision, VolumeNumber};

/// Which node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// This node.
    Local,
    /// The peer.
    Peer,
}

impl Side {
    /// The other side: this one as the peer calls it.
    pub fn mirrored(self) -> Side {
        match self {
            Side::Local => Side::Peer,
            Side::Peer => Side::Local,
        }
    }
}

/// A command. What is already so succeeds without effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Let go of the disk. Refused under a Primary without an UpToDate peer. A Secondary's comes to rest first; if nobody waits
    /// for that any more it is let go of as it is.
    Detach {
        /// Which volume.
        volume: VolumeNumber,
        /// At once and as it is, whatever else is under way, and also the last good copy: a disk that hangs.
        force: bool,
    },
    /// Want a connection.
    Connect {
        /// Give this node's data up if it diverged from the peer's; for the next handshake only (I-G4).
        discard_my_data: bool,
    },
    /// Settle a split brain: that side's data stays, the other's is given up. For the next handshake only (I-G4); a
    /// Primary's data is never given up.
    ResolveSplitBrain {
        /// Whose data stays.
        keep: Side,
    },
    /// Exchange views with the peer, tell what a connection would do, and do nothing.
    Plan {
        /// As if this node's data were given up ([`Command::Connect`]).
        discard_my_data: bool,
    },
    /// Leave cleanly (R31). With `force`, also when the peer doesn't answer, and also when the Primary of the two has its
    /// data from the other's disk alone: its clients then get errors.
    Disconnect {
        /// Don't wait for the peer.
        force: bool,
    },
    /// Become Primary (R29).
    Promote {
        /// Also without UpToDate data: makes a generation (I-G5).
        force: bool,
    },
    /// Become Secondary. On a node that forwards: take the device away. Refused while it is open.
    Demote,
    /// Have the peer become Primary in this node's stead, under an open device: its requests are forwarded from then on.
    Handover,
    /// Start a resync, or let a paused one go on. With nothing to do it succeeds.
    Resync {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Copy every block from that side to the other.
    ResyncFull {
        /// Which volume.
        volume: VolumeNumber,
        /// Whose data stays. `None`: the UpToDate side's, refused when both are.
        from: Option<Side>,
    },
    /// Pause a resync or let it go on.
    PauseSync {
        /// Which volume.
        volume: VolumeNumber,
        /// Pause, or go on.
        paused: bool,
    },
    /// Give this node's data up and have it filled from the peer.
    Invalidate {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Have the peer's data given up and filled from here.
    InvalidatePeer {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Compare both disks while they are in use. Done as soon as it runs; one that was stopped goes on where it was.
    Verify {
        /// Which volume.
        volume: VolumeNumber,
        /// Make equal what differs, by copying from that side.
        repair_from: Option<Side>,
    },
    /// Stop a verify this node leads.
    StopVerify {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Hold client I/O back, or let it go on. Letting it go on while it isn't held back takes it upon the operator that
    /// an absent peer which could not be fenced doesn't go on.
    SuspendIo {
        /// Hold back, or go on.
        suspended: bool,
    },
    /// Go on with other settings.
    Tune(Tunables),
    /// Mark this node's data Outdated (R31).
    Outdate {
        /// Which volume.
        volume: VolumeNumber,
    },
    /// Both nodes take the data they hold for the newest and equal, and start a generation (no initial sync).
    NewGeneration {
        /// Which volume.
        volume: VolumeNumber,
        /// Clear both bitmaps.
        clear_bitmap: bool,
    },
    /// Make the volume as large as the smaller of both disks allows (R34).
    Resize {
        /// Which volume.
        volume: VolumeNumber,
        /// The new area is the same on both disks already and isn't resynced.
        assume_clean: bool,
    },
    /// Leave everything cleanly: the daemon ends. Demotes even while the device is open (the shell has stopped
    /// taking requests), leaves the peer, detaches.
    Shutdown,
}

/// How a command ended well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandOutcome {
    /// Done.
    Done,
    /// What [`Command::Plan`] found.
    Plan(Vec<PlannedSync>),
}

/// One volume's verdict in a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedSync {
    /// Which volume.
    pub volume: VolumeNumber,
    /// Rule and verdict for this node.
    pub decision: SyncDecision,
    /// Bytes that would be copied, at most (the union of both sides isn't known before bitmaps travel).
    pub bytes_at_most: u64,
    /// Bytes this node has written since both last agreed.
    pub local_dirty_bytes: u64,
    /// Bytes the peer has written since both last agreed.
    pub peer_dirty_bytes: u64,
    /// Whether what may differ is compared first, and only what does is copied.
    pub compares: bool,
}

/// Why a command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// Refused by the current state.
    #[error("{0}")]
    Refused(Refusal),
    /// The disk or its metadata failed under it.
    #[error("the disk or its metadata failed")]
    DiskFailed,
    /// The peer went away under it.
    #[error("the connection to the peer was lost")]
    PeerLost,
    /// Not done in time.
    #[error("not done in time")]
    TimedOut,
}
