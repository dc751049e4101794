//! The states of a pair, in DRBD's words. No meaning lies in the order of the variants: ask a method.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node is for a resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Role {
    /// Takes no client I/O and offers no device.
    #[default]
    Secondary,
    /// Offers the device and takes client I/O.
    Primary,
}

/// The state of a volume's backing device, ours or the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum DiskState {
    /// No disk is attached.
    #[default]
    Diskless,
    /// Metadata is being read.
    Attaching,
    /// An error took the disk away; it is being let go.
    Failed,
    /// Parts of a resync are missing: the data is of no single moment (R21).
    Inconsistent,
    /// Consistent, but known to be older than the peer's (R31).
    Outdated,
    /// Consistent; whether the peer went on isn't known (R28, R30).
    Consistent,
    /// The newest data.
    UpToDate,
    /// The peer's disk while there is no connection.
    DUnknown,
}

impl DiskState {
    /// Whether a disk in this state is there and takes writes.
    pub fn takes_writes(self) -> bool {
        matches!(self, Self::Inconsistent | Self::Outdated | Self::Consistent | Self::UpToDate)
    }

    /// Whether the whole disk holds data of one moment.
    pub fn is_consistent(self) -> bool {
        matches!(self, Self::Outdated | Self::Consistent | Self::UpToDate)
    }

    /// Whether every block may be read for a client.
    pub fn may_serve_reads(self) -> bool {
        matches!(self, Self::UpToDate)
    }
}

/// The state of the link to the peer, first-class states for what must never be shown as `Connecting`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum ConnectionState {
    /// No connection is wanted (the operator's word, or a refusal at the handshake).
    #[default]
    StandAlone,
    /// A connection is wanted and being tried, or its handshake is under way.
    Connecting,
    /// Handshake done.
    Connected,
    /// Leaving cleanly.
    Disconnecting,
    /// The handshake found that both nodes went on apart (R38).
    SplitBrain,
    /// The handshake found data with no common ancestor.
    UnrelatedData,
}

/// What runs between the two disks of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum ReplicationState {
    /// Nothing is mirrored (no connection, or a disk is missing).
    #[default]
    Off,
    /// Writes are mirrored; there is no resync.
    Established,
    /// This node's disk fills the peer's.
    SyncSource,
    /// The peer's disk fills this node's.
    SyncTarget,
    /// As source, paused.
    PausedSyncS,
    /// As target, paused.
    PausedSyncT,
    /// Online verify, this node leads.
    VerifyS,
    /// Online verify, the peer leads.
    VerifyT,
}

impl ReplicationState {
    /// Whether client writes go to the peer as well.
    pub fn mirrors(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether a resync is under way or paused.
    pub fn is_resync(self) -> bool {
        matches!(self, Self::SyncSource | Self::SyncTarget | Self::PausedSyncS | Self::PausedSyncT)
    }

    /// Whether this node's disk is the one being filled.
    pub fn is_target(self) -> bool {
        matches!(self, Self::SyncTarget | Self::PausedSyncT)
    }

    /// Whether this node's disk is the one that fills.
    pub fn is_source(self) -> bool {
        matches!(self, Self::SyncSource | Self::PausedSyncS)
    }
}

/// How a range becomes zeroes (R33: the bytes are the same on both disks whatever the mode).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ZeroMode {
    /// The client discards: the range reads as zeroes afterwards, space is given back where the disk can.
    Discard,
    /// Write zeroes; space may be given back.
    ZeroMayUnmap,
    /// Write zeroes; space stays allocated.
    ZeroNoUnmap,
}

macro_rules! display_as_debug {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    )*};
}
display_as_debug!(Role, DiskState, ConnectionState, ReplicationState, ZeroMode);
