//! What must be known of an absent peer (R29), and what a fence-peer handler can say of it.

use std::fmt;

/// What a resource's nodes must know of an absent peer before they go on without it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Fencing {
    /// Nothing.
    #[default]
    DontCare,
    /// To be promoted: that the peer can't go on. A Primary that loses its peer has it outdated, and goes on meanwhile.
    ResourceOnly,
    /// The same, and a Primary that loses its peer answers no client until it knows.
    ResourceAndStonith,
}

/// What a fence-peer handler found, or did. The first five are DRBD's exit codes 3 to 7.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FenceAnswer {
    /// 3: the peer's data are Inconsistent.
    PeerInconsistent,
    /// 4: the peer's data are Outdated, perhaps from now on.
    PeerOutdated,
    /// 5: the peer can't be reached. What it does isn't known.
    PeerUnreachable,
    /// 6: the peer refused, because it is Primary.
    PeerPrimary,
    /// 7: the peer was fenced: its node is down.
    PeerFenced,
    /// There is no handler.
    NoHandler,
    /// The handler didn't end in time.
    TimedOut,
    /// The handler could not be run, or ended in a way that says nothing.
    Broken,
}

impl FenceAnswer {
    /// What an exit code of the handler says; `None`: nothing.
    pub fn of_exit_code(code: i32) -> Option<FenceAnswer> {
        match code {
            3 => Some(Self::PeerInconsistent),
            4 => Some(Self::PeerOutdated),
            5 => Some(Self::PeerUnreachable),
            6 => Some(Self::PeerPrimary),
            7 => Some(Self::PeerFenced),
            _ => None,
        }
    }

    /// Whether the peer can't go on: without force it isn't promoted before it has met this node.
    pub fn is_safe(self) -> bool {
        matches!(self, Self::PeerInconsistent | Self::PeerOutdated | Self::PeerFenced)
            || (crate::planted!("unreachable-counts-as-fenced") && self == Self::PeerUnreachable)
    }
}

impl fmt::Display for FenceAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerInconsistent => "the peer is Inconsistent",
            Self::PeerOutdated => "the peer is Outdated",
            Self::PeerUnreachable => "the peer can't be reached",
            Self::PeerPrimary => "the peer is Primary",
            Self::PeerFenced => "the peer was fenced",
            Self::NoHandler => "there is no fence-peer handler",
            Self::TimedOut => "the fence-peer handler did not end in time",
            Self::Broken => "the fence-peer handler failed",
        })
    }
}
