//! The JSON that scripts read, as the contract lists its fields: a missing one fails to parse.

use serde::Deserialize;

/// `repctl status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// This node.
    pub node: String,
    /// The daemon's version.
    pub version: String,
    /// The resources.
    pub resources: Vec<Resource>,
}

/// A resource.
#[derive(Clone, Debug, Deserialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// This node's role.
    pub role: String,
    /// The other node.
    pub peer: Peer,
    /// The link's state.
    pub connection: String,
    /// The state in words.
    pub verdict: String,
    /// Whether a promotion without force would be accepted.
    pub safe_to_promote: bool,
    /// Why it would not be.
    #[serde(default)]
    pub promotion_refused: Option<String>,
    /// Why client I/O waits.
    #[serde(deserialize_with = "present")]
    pub io_suspended: Option<serde_json::Value>,
    /// The device is open here without the role.
    #[serde(default)]
    pub forwarding: Option<Forwarding>,
    /// The peer's device is, and its requests come here.
    #[serde(default)]
    pub peer_forwards: bool,
    /// Who went on since when, in a split brain.
    #[serde(default)]
    pub split_brain: Option<serde_json::Value>,
    /// The volumes.
    pub volumes: Vec<Volume>,
}

/// A device that is open where the role isn't.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Forwarding {
    /// Whether its requests wait.
    pub waits: bool,
    /// How many aren't answered.
    pub requests: u64,
}

/// The other node.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its role, where known.
    #[serde(deserialize_with = "present")]
    pub role: Option<String>,
    /// Its address.
    pub address: String,
}

/// A volume.
#[derive(Clone, Debug, Deserialize)]
pub struct Volume {
    /// Its number.
    pub number: u16,
    /// What clients connect to.
    pub device: String,
    /// Bytes.
    pub size_bytes: u64,
    /// What clients' offsets and lengths are multiples of.
    #[serde(default)]
    pub block_bytes: Option<u32>,
    /// Whether clients are offered discards.
    #[serde(default)]
    pub discards: Option<bool>,
    /// Whether what is answered may be lost until a flush.
    #[serde(default)]
    pub volatile_cache: Option<bool>,
    /// Whether a client has it open.
    pub open: bool,
    /// This node's disk.
    pub disk: String,
    /// How long the oldest of the operations this node's disk hasn't answered has been under way; absent: none is.
    #[serde(default)]
    pub disk_unanswered_ms: Option<u64>,
    /// Operations of a disk that was let go of, which haven't come back; absent: none.
    #[serde(default)]
    pub old_operations: u32,
    /// The other node's disk.
    pub peer_disk: String,
    /// What runs between the disks.
    pub replication: String,
    /// Bytes that differ, or may.
    pub out_of_sync_bytes: u64,
    /// What the last handshake decided.
    #[serde(default)]
    pub last_decision: Option<Decision>,
    /// A resync's progress.
    #[serde(deserialize_with = "present")]
    pub resync: Option<Resync>,
    /// Counts.
    pub io: Io,
}

/// What a handshake decided.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Decision {
    /// The rule.
    pub rule: String,
    /// What followed.
    pub verdict: String,
    /// Why, in one sentence.
    pub sentence: String,
}

/// A resync's progress.
#[derive(Clone, Debug, Deserialize)]
pub struct Resync {
    /// `SyncSource` or `SyncTarget`.
    pub role: String,
    /// Bytes to do when it began.
    pub total_bytes: u64,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes a second.
    pub rate_bytes_per_s: u64,
    /// Seconds left.
    #[serde(deserialize_with = "present")]
    pub eta_s: Option<f64>,
    /// How it yields to clients; on the Primary.
    #[serde(default)]
    pub pacing: Option<Pacing>,
}

/// How a resync yields to clients.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Pacing {
    /// What it is held to; `None`: it isn't.
    #[serde(deserialize_with = "present")]
    pub limit_bytes_per_s: Option<u64>,
    /// It stands still for a moment, to see what clients wait without it.
    pub measuring: bool,
    /// What clients wait with it...
    #[serde(deserialize_with = "present")]
    pub clients_p99_us: Option<u64>,
    /// ...and without.
    #[serde(deserialize_with = "present")]
    pub alone_p99_us: Option<u64>,
    /// How often it was slowed down.
    pub yields: u64,
    /// How often it went faster again.
    pub recoveries: u64,
}

/// Counts.
#[derive(Clone, Debug, Deserialize)]
pub struct Io {
    /// Bytes clients read.
    pub read_bytes: u64,
    /// Bytes clients wrote.
    pub written_bytes: u64,
    /// Bytes sent to the peer.
    pub sent_bytes: u64,
    /// Bytes received from the peer.
    pub received_bytes: u64,
}

impl Resource {
    /// The volume a scenario with one volume speaks of.
    pub fn volume(&self) -> &Volume {
        self.volumes.first().unwrap_or_else(|| panic!("no volume in {self:?}"))
    }

    /// Connected, both disks UpToDate, nothing differs.
    pub fn is_in_sync(&self) -> bool {
        let good = |v: &Volume| {
            v.disk == "UpToDate"
                && v.peer_disk == "UpToDate"
                && v.out_of_sync_bytes == 0
                && v.replication == "Established"
        };
        self.connection == "Connected" && !self.volumes.is_empty() && self.volumes.iter().all(good)
    }

    /// One line for messages.
    pub fn line(&self) -> String {
        let volume = |v: &Volume| {
            format!("{}:{}/{} {} out-of-sync {}", v.number, v.disk, v.peer_disk, v.replication, v.out_of_sync_bytes)
        };
        let volumes: Vec<_> = self.volumes.iter().map(volume).collect();
        format!("{} {} {} [{}]", self.role, self.connection, self.verdict, volumes.join(", "))
    }
}

/// A field that may be null but not left out (serde takes a missing `Option` for null otherwise).
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}
