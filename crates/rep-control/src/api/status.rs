//! `status --json`: the fields that scripts use, exactly the contract's.

use super::{DecisionDetail, LatencyStatus, SplitBrainStatus};
use rep_types::{ConnectionState, DiskState, ReplicationState, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node's state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: String,
    /// The daemon's version.
    pub version: String,
    /// Its resources, by name.
    pub resources: Vec<ResourceStatus>,
}

/// A resource's state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name.
    pub name: String,
    /// This node's role.
    pub role: Role,
    /// The other node.
    pub peer: PeerStatus,
    /// The link.
    pub connection: ConnectionState,
    /// How things stand, in one sentence.
    pub verdict: String,
    /// Whether `primary` without `--force` would be granted now.
    pub safe_to_promote: bool,
    /// Why it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion_refused: Option<String>,
    /// Why client I/O waits; `None` while it doesn't.
    pub io_suspended: Option<String>,
    /// The device is open here, and its requests are forwarded to the peer (`repctl handover`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<ForwardingStatus>,
    /// The peer's device is open, and its requests are forwarded to this node.
    #[serde(default, skip_serializing_if = "is_false")]
    pub peer_forwards: bool,
    /// While the nodes are in split brain: who went on since when, and how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_brain: Option<SplitBrainStatus>,
    /// Whether a block device that a daemon left behind waits to be answered: for this node to be Primary, or for the resource to be
    /// up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub device_left_behind: bool,
    /// How long gathered sends to the peer took since the resource came up: `sent`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency: BTreeMap<String, LatencyStatus>,
    /// The volumes, by number.
    pub volumes: Vec<VolumeStatus>,
}

/// A device that is open on a node that isn't Primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForwardingStatus {
    /// Whether its requests wait, for want of a Primary that takes them.
    pub waits: bool,
    /// Requests that aren't answered.
    pub requests: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The other node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its role; `None` while it isn't known.
    pub role: Option<Role>,
    /// Its address.
    pub address: String,
}

/// A volume's state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its number.
    pub number: u16,
    /// What clients see.
    pub device: String,
    /// Its size; 0 while unknown.
    pub size_bytes: u64,
    /// What clients' offsets and lengths are multiples of, in bytes: what both disks can do. Not there while nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// Whether both disks give discarded space back, so that clients are offered discards. Not there while nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discards: Option<bool>,
    /// Whether what is answered may be lost by a power cut until a flush, as clients are told. Not there while the device isn't
    /// offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volatile_cache: Option<bool>,
    /// The size it can be given by `resize`, when both disks have room for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_grow_to_bytes: Option<u64>,
    /// Whether a client has it open.
    pub open: bool,
    /// This node's disk.
    pub disk: DiskState,
    /// Milliseconds the oldest of the operations this node's disk hasn't answered has been under way; `None`: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_unanswered_ms: Option<u64>,
    /// Operations of a disk this node let go of that haven't come back: while there are any, none can be attached.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub old_operations: u32,
    /// The peer's disk.
    pub peer_disk: DiskState,
    /// What runs between the disks.
    pub replication: ReplicationState,
    /// Bytes that differ, or may.
    pub out_of_sync_bytes: u64,
    /// What the last handshake decided, by which rule, and why; not there before one, and not for a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<DecisionDetail>,
    /// A resync under way or paused.
    pub resync: Option<ResyncStatus>,
    /// An online verify under way, whichever node leads it (`replication` tells).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyStatus>,
    /// The driver of the block device, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverStatus>,
    /// Why the device is smaller than the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_problem: Option<String>,
    /// Bytes moved since the resource came up.
    pub io: IoStatus,
    /// How long the parts of clients' requests took since the resource came up, by name (`repctl top`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency: BTreeMap<String, LatencyStatus>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The driver of a block device, as it was found on this kernel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DriverStatus {
    /// `ublk` or `nbd`.
    pub name: String,
    /// What it says it can do, in the kernel's names; nbd's says nothing.
    pub features: Vec<String>,
    /// Whether a device can grow under those who have it open.
    pub grows: bool,
    /// Whether the daemon's memory is locked and its data thread known to the kernel as one that writes back.
    pub memory_locked: bool,
    /// Whether its data threads get at the kernel's reserve when memory runs out; older daemons don't tell.
    #[serde(default)]
    pub memory_reserve: bool,
}

/// An online verify's progress.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct VerifyStatus {
    /// Bytes to compare.
    pub total_bytes: u64,
    /// Bytes compared.
    pub done_bytes: u64,
    /// Bytes of the blocks found to differ; on the node that doesn't lead, since it began or went on.
    pub different_bytes: u64,
    /// Bytes a second since it began or went on.
    pub rate_bytes_per_s: u64,
    /// Seconds to go at that rate; `None` while there is none, and while it is halted.
    pub eta_s: Option<u64>,
    /// Whether it is halted by `pause-sync`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub halted: bool,
}

fn percent_of(done_bytes: u64, total_bytes: u64) -> Option<u64> {
    let done = u128::from(done_bytes.min(total_bytes)) * 100;
    done.checked_div(u128::from(total_bytes)).map(|percent| percent as u64)
}

impl VerifyStatus {
    /// How much is compared, from 0 to 100.
    pub fn percent(&self) -> u64 {
        percent_of(self.done_bytes, self.total_bytes).unwrap_or(100)
    }
}

/// Which side of a resync this node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResyncRole {
    /// This node's disk fills the peer's.
    SyncSource,
    /// The peer's disk fills this node's.
    SyncTarget,
}

/// A resync's progress.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ResyncStatus {
    /// Which side this node is.
    pub role: ResyncRole,
    /// Bytes out-of-sync when it began.
    pub total_bytes: u64,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes a second over the last seconds.
    pub rate_bytes_per_s: u64,
    /// Seconds to go at that rate; `None` while there is none.
    pub eta_s: Option<u64>,
    /// What comparing has come to, where a resync compares before it copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<ComparedStatus>,
    /// How it yields to clients, on the node that has them: the Primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacing: Option<PacingStatus>,
}

/// How a resync yields to clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PacingStatus {
    /// Bytes a second it is held to for the clients' sake; `None`: it isn't.
    pub limit_bytes_per_s: Option<u64>,
    /// Whether it stands still for a moment, to see what clients wait without it.
    pub measuring: bool,
    /// Microseconds 99 of 100 client requests waited at most, lately.
    pub clients_p99_us: Option<u64>,
    /// The same without the resync, when that was last measured.
    pub alone_p99_us: Option<u64>,
    /// How often it was slowed down since the resource came up.
    pub yields: u64,
    /// How often it went faster again after that.
    pub recoveries: u64,
}

/// What a resync has found that compares before it copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ComparedStatus {
    /// Bytes compared.
    pub compared_bytes: u64,
    /// Of these, bytes that were equal and aren't copied.
    pub equal_bytes: u64,
    /// Bytes copied so far.
    pub copied_bytes: u64,
}

impl ResyncStatus {
    /// How much is done, from 0 to 100.
    pub fn percent(&self) -> u64 {
        percent_of(self.done_bytes, self.total_bytes).unwrap_or(100)
    }
}

/// Bytes moved since the resource came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IoStatus {
    /// Read by clients.
    pub read_bytes: u64,
    /// Written by clients.
    pub written_bytes: u64,
    /// User data sent to the peer.
    pub sent_bytes: u64,
    /// User data received from the peer.
    pub received_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contract's own example: what scripts were written against.
    const CONTRACT: &str = concat!(
        r#"{"node":"alpha","version":"0.1.0","resources":[{"name":"vz","role":"Primary","#,
        r#""peer":{"name":"beta","role":"Secondary","address":"192.168.255.2:7788"},"#,
        r#""connection":"Connected","verdict":"in sync","safe_to_promote":true,"io_suspended":null,"#,
        r#""volumes":[{"number":0,"device":"/dev/ublkb0","size_bytes":1073741824,"open":true,"#,
        r#""disk":"UpToDate","peer_disk":"UpToDate","replication":"Established","out_of_sync_bytes":0,"#,
        r#""resync":null,"#,
        r#""io":{"read_bytes":0,"written_bytes":0,"sent_bytes":0,"received_bytes":0}}]}]}"#
    );

    #[test]
    fn the_contract_is_read_and_written_byte_for_byte() {
        let status: Status = serde_json::from_str(CONTRACT).unwrap();
        assert_eq!(serde_json::to_string(&status).unwrap(), CONTRACT);
    }

    #[test]
    fn a_resync_has_the_contract_s_fields() {
        let text = r#"{"role":"SyncSource","total_bytes":100,"done_bytes":42,"rate_bytes_per_s":7,"eta_s":9}"#;
        let resync: ResyncStatus = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&resync).unwrap(), text);
        assert_eq!(resync.percent(), 42);
        assert_eq!(ResyncStatus { total_bytes: 0, ..resync }.percent(), 100);
    }

    #[test]
    fn a_verify_says_so_behind_its_fields_when_it_is_halted() {
        let text =
            r#"{"total_bytes":100,"done_bytes":42,"different_bytes":0,"rate_bytes_per_s":7,"eta_s":8,"halted":true}"#;
        let verify: VerifyStatus = serde_json::from_str(text).unwrap();
        assert_eq!((serde_json::to_string(&verify).unwrap().as_str(), verify.percent()), (text, 42));
        let running = VerifyStatus { halted: false, ..verify };
        assert_eq!(serde_json::to_string(&running).unwrap(), text.replace(r#","halted":true"#, ""));
    }

    #[test]
    fn a_resync_that_yields_says_so_behind_them() {
        let text = concat!(
            r#"{"role":"SyncSource","total_bytes":100,"done_bytes":42,"rate_bytes_per_s":7,"eta_s":9,"#,
            r#""pacing":{"limit_bytes_per_s":4194304,"measuring":false,"clients_p99_us":812,"alone_p99_us":95,"#,
            r#""yields":3,"recoveries":2}}"#
        );
        let resync: ResyncStatus = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&resync).unwrap(), text);
    }
}
