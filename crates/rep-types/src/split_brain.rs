//! What is done about a split brain without asking anybody. Names and meaning are DRBD's.

use serde::{Deserialize, Serialize};

/// What to do when neither node is Primary (`after-0-primaries`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum AfterZeroPrimaries {
    /// Nothing: the operator decides.
    #[default]
    Disconnect,
    /// The node that became Primary while it had no peer gives its data up. Where that doesn't tell the two apart,
    /// the one that wrote less does.
    DiscardYoungerPrimary,
    /// The node that was Primary when the peer was lost gives its data up. Where that doesn't tell the two apart, the
    /// one that wrote less does.
    DiscardOlderPrimary,
    /// The node that wrote nothing gives its data up; if both wrote, nothing is done.
    DiscardZeroChanges,
    /// The node that wrote less gives its data up.
    DiscardLeastChanges,
}

/// What to do when one node is Primary (`after-1-primary`). A Primary's data is never given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum AfterOnePrimary {
    /// Nothing: the operator decides.
    #[default]
    Disconnect,
    /// As `after-0-primaries` says, if that gives up the Secondary's data; else nothing.
    Consensus,
    /// The Secondary gives its data up.
    DiscardSecondary,
}

/// The policies of a resource. With two Primaries nothing is ever done without the operator (`after-2-primaries` knows
/// `disconnect` only): a Primary's clients have read what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SplitBrainPolicies {
    /// `after-0-primaries`.
    pub after_0_primaries: AfterZeroPrimaries,
    /// `after-1-primary`.
    pub after_1_primary: AfterOnePrimary,
}
