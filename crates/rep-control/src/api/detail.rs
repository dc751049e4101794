//! What goes beyond the status: generations, decisions, the activity log. `show-gi` and `split-brain show` are made
//! of this.

use super::Histograms;
use super::SplitBrainStatus;
use rep_types::{ConnectionState, Generations, Role, SyncDecision};
use serde::{Deserialize, Serialize};

/// A resource's details.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Detail {
    /// The resource.
    pub name: String,
    /// This node.
    pub node: String,
    /// The other node.
    pub peer: String,
    /// This node's role.
    pub role: Role,
    /// The link.
    pub connection: ConnectionState,
    /// Why there is no connection, if the last attempt failed.
    pub link_problem: Option<String>,
    /// Why a promotion would be refused now: the refusal's name.
    pub promotion_refused: Option<String>,
    /// While the nodes are in split brain: who went on since when, and how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_brain: Option<SplitBrainStatus>,
    /// How long gathered sends to the peer took since the resource came up: `sent`.
    #[serde(default)]
    pub latencies: Histograms,
    /// The volumes, by number.
    pub volumes: Vec<VolumeDetail>,
}

/// A volume's details.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VolumeDetail {
    /// Its number.
    pub number: u16,
    /// Our generations; `None` without a disk.
    pub generations: Option<GenerationsDetail>,
    /// The peer's as of the last handshake.
    pub peer_generations: Option<GenerationsDetail>,
    /// The last handshake's decision.
    pub last_decision: Option<DecisionDetail>,
    /// Bytes that differ, or may.
    pub out_of_sync_bytes: u64,
    /// Bytes the peer held for out-of-sync in the last handshake.
    #[serde(default)]
    pub peer_out_of_sync_bytes: u64,
    /// When this node began to write without the peer, while it lacks something; in milliseconds since 1970.
    #[serde(default)]
    pub diverged_since_unix_ms: Option<u64>,
    /// The same of the peer, by its clock, as of the last handshake.
    #[serde(default)]
    pub peer_diverged_since_unix_ms: Option<u64>,
    /// Bytes the last verify led by this node found to differ.
    #[serde(default)]
    pub verify_found_bytes: u64,
    /// How that verify stands; `None`: there was none since the daemon began and with the disk that is here.
    #[serde(default)]
    pub verify_run: Option<VerifyRunDetail>,
    /// Extents hot in the activity log.
    pub hot_extents: u32,
    /// How many can be.
    pub hot_extents_max: u32,
    /// Bytes of user data resyncs have copied since the resource came up.
    pub resynced_bytes: u64,
    /// Transactions of the activity log since the resource came up.
    pub log_transactions: u64,
    /// Client connections.
    pub clients: u32,
    /// Whether the device is offered now.
    pub exported: bool,
    /// Why the device isn't offered although it should be.
    pub export_problem: Option<String>,
    /// Whether the disk's I/O is direct; `None` without a disk.
    pub direct_io: Option<bool>,
    /// How long the parts of clients' requests took since the resource came up.
    #[serde(default)]
    pub latencies: Histograms,
}

/// How the last verify that a node led stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifyRunDetail {
    /// Its name, which no other has in this daemon's life. One that is stopped and goes on keeps it.
    pub run: u64,
    /// Whether every block has been compared.
    pub state: VerifyRunState,
    /// What stopped it.
    pub reason: Option<String>,
    /// Everything before this byte has been compared.
    pub compared_bytes: u64,
    /// The byte where it went on last; 0: it began there.
    pub resumed_at_bytes: u64,
    /// Bytes of the blocks found to differ so far.
    pub different_bytes: u64,
    /// Of those found, bytes still marked: the others have been made equal meanwhile.
    pub marked_bytes: u64,
}

/// Whether a verify came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum VerifyRunState {
    /// It is under way.
    Running,
    /// Every block was compared.
    Completed,
    /// It was stopped before its end.
    Stopped,
}

/// Generations, in hexadecimal as they are shown everywhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GenerationsDetail {
    /// Of the data.
    pub current: String,
    /// The last one shared with the peer, while it lacks something.
    pub bitmap: Option<String>,
    /// Past ones, newest first.
    pub history: Vec<String>,
}

impl From<&Generations> for GenerationsDetail {
    fn from(generations: &Generations) -> Self {
        let real = |id: &rep_types::GenerationId| (!id.is_none()).then(|| id.to_string());
        GenerationsDetail {
            current: generations.current.to_string(),
            bitmap: real(&generations.bitmap),
            history: generations.history.iter().filter_map(real).collect(),
        }
    }
}

/// A handshake's decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DecisionDetail {
    /// The rule of the decision table.
    pub rule: String,
    /// What followed for this node, in words.
    pub verdict: String,
    /// Why, in one sentence.
    #[serde(default)]
    pub sentence: String,
}

impl DecisionDetail {
    /// A decision, with the sentence that explains it.
    pub fn new(decision: &SyncDecision, sentence: &str) -> Self {
        let (rule, verdict) = (decision.rule.to_string(), verdict_words(decision));
        DecisionDetail { rule, verdict, sentence: sentence.to_owned() }
    }
}

fn verdict_words(decision: &SyncDecision) -> String {
    use rep_types::{ByBitmapOrFull::*, SyncVerdict::*};
    match decision.verdict {
        Nothing => "nothing to copy".into(),
        Source(ByBitmap) => "fill the peer, by bitmap".into(),
        Source(Full) => "fill the peer, every block".into(),
        Target(ByBitmap) => "be filled by the peer, by bitmap".into(),
        Target(Full) => "be filled by the peer, every block".into(),
        Refuse(refusal) => format!("refused: {refusal:?}"),
    }
}
