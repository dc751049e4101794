//! What can be asked for: the verbs, their options, their answers.

use super::VerifyRunDetail;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! verbs {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// A verb of the control interface.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Verb {
            $($(#[$doc])* $variant,)+
        }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Verb] = &[$(Verb::$variant,)+];

            /// As it stands in the request's path.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// From the request's path.
            pub fn parse(word: &str) -> Option<Verb> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

verbs! {
    /// Attach and connect.
    Up = "up",
    /// Demote, disconnect, detach.
    Down = "down",
    /// Take the disk.
    Attach = "attach",
    /// Let go of the disk.
    Detach = "detach",
    /// Want a connection; with `plan`, only tell what it would do.
    Connect = "connect",
    /// Leave the peer cleanly.
    Disconnect = "disconnect",
    /// Become Primary.
    Primary = "primary",
    /// Become Secondary.
    Secondary = "secondary",
    /// Hand the Primary role over to the peer, under an open device.
    Handover = "handover",
    /// Start a resync or let it go on.
    Resync = "resync",
    /// Pause a resync.
    PauseSync = "pause-sync",
    /// Let a paused resync go on.
    ResumeSync = "resume-sync",
    /// Hold client I/O back.
    SuspendIo = "suspend-io",
    /// Let client I/O go on.
    ResumeIo = "resume-io",
    /// Give this node's data up.
    Invalidate = "invalidate",
    /// Have the peer's data given up.
    InvalidatePeer = "invalidate-peer",
    /// Mark this node's data Outdated.
    Outdate = "outdate",
    /// Start a generation on both nodes.
    NewGeneration = "new-generation",
    /// Compare both disks.
    Verify = "verify",
    /// Grow.
    Resize = "resize",
    /// Settle a split brain.
    SplitBrainResolve = "split-brain-resolve",
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A verb's options. What a verb has no use for must be left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerbRequest {
    /// One volume; all of them when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<u16>,
    /// `primary`, `disconnect`: against what is known.
    #[serde(skip_serializing_if = "is_false")]
    pub force: bool,
    /// `connect`: give this node's data up if it diverged.
    #[serde(skip_serializing_if = "is_false")]
    pub discard_my_data: bool,
    /// `connect`: only tell what it would do.
    #[serde(skip_serializing_if = "is_false")]
    pub plan: bool,
    /// `resync`: every block.
    #[serde(skip_serializing_if = "is_false")]
    pub full: bool,
    /// `resync --full`: the node whose data stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `new-generation`: clear both bitmaps.
    #[serde(skip_serializing_if = "is_false")]
    pub clear_bitmap: bool,
    /// `split-brain-resolve`: the node whose data stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
    /// `verify`: stop the one that runs.
    #[serde(skip_serializing_if = "is_false")]
    pub stop: bool,
    /// `verify`: the node whose data repairs the other's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair_from: Option<String>,
    /// `resize`: the new area is the same on both disks already and isn't resynced.
    #[serde(skip_serializing_if = "is_false")]
    pub assume_clean: bool,
    /// `down`: block devices that a daemon left behind go, and what waits on them fails.
    #[serde(skip_serializing_if = "is_false")]
    pub give_up_device: bool,
    /// How long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How a verb ended well.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VerbAnswer {
    /// What is worth telling beyond "done".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// `connect` with `plan`: what it would do, one entry a volume.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Vec<PlanEntry>>,
    /// `verify`, once it was waited for: what it came to, one entry a volume.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verified: Option<Vec<VerifiedVolume>>,
}

/// What the verify of a volume came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifiedVolume {
    /// The volume's number.
    pub volume: u16,
    /// How the verify stands.
    #[serde(flatten)]
    pub run: VerifyRunDetail,
}

/// What a connection would do with a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlanEntry {
    /// The volume's number.
    pub volume: u16,
    /// The rule of the decision table that would apply (`bitmap-self`).
    pub rule: String,
    /// `nothing`, `source`, `target` or `refused`, for this node.
    pub verdict: String,
    /// `by-bitmap` or `full`, when something would be copied; the refusal's name when refused.
    pub extent: Option<String>,
    /// Bytes that would be copied, at most.
    pub bytes_at_most: u64,
    /// Bytes this node wrote since both last agreed.
    pub local_dirty_bytes: u64,
    /// Bytes the peer wrote since both last agreed.
    pub peer_dirty_bytes: u64,
    /// Whether what may differ would be compared first, and only what does be copied.
    #[serde(default)]
    pub compares: bool,
    /// All of that in one sentence.
    pub sentence: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_read_as_they_are_written() {
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.as_str()), Some(*verb));
        }
        assert_eq!(Verb::parse("explode"), None);
    }

    #[test]
    fn unknown_options_are_refused_and_absent_ones_are_defaults() {
        assert_eq!(serde_json::from_str::<VerbRequest>("{}").unwrap(), VerbRequest::default());
        assert_eq!(serde_json::to_string(&VerbRequest::default()).unwrap(), "{}");
        assert!(serde_json::from_str::<VerbRequest>(r#"{"forse":true}"#).is_err());
    }
}
