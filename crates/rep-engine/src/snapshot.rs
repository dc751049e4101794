//! The engine's state as operators see it. `repctl status` is made of this, and of nothing it guessed.

use crate::action::Why;
use crate::command::Side;
use crate::resync::PacingSnapshot;
use crate::split_brain::SplitBrainFacts;
use rep_meta::Divergence;
use rep_types::{
    ConnectionState, DiskState, FenceAnswer, Generations, Refusal, ReplicationState, Role, Room, SyncDecision,
    VolumeNumber,
};
use std::time::Duration;

/// Why client I/O waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoSuspension {
    /// The operator said so.
    Operator,
    /// Losing the peer or a disk is being made durable (R13).
    RecordingLoss,
    /// The peer is gone and isn't known to be unable to go on (`fencing = "resource-and-stonith"`).
    Fencing,
    /// No good data is in reach (`on-no-data = "suspend-io"`).
    NoData,
    /// The metadata is being written for a change of role or generation.
    Metadata,
    /// The device is open here without the role, and no Primary takes its requests.
    Forwarding,
}

/// A device that is open where the role isn't.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardingSnapshot {
    /// Whether its requests wait, for want of a Primary that takes them.
    pub waits: bool,
    /// How many aren't answered.
    pub requests: usize,
}

/// What is known of an absent peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FenceSnapshot {
    /// The fence-peer handler runs.
    Asked,
    /// It could not make sure that the peer can't go on.
    Failed(FenceAnswer),
    /// The peer can't go on.
    Settled,
    /// The operator took it upon himself.
    Waived,
}

/// A resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// This node's role.
    pub role: Role,
    /// The peer's role; `None` while there is no connection.
    pub peer_role: Option<Role>,
    /// The link.
    pub connection: ConnectionState,
    /// Whether client I/O waits, and why.
    pub io_suspended: Option<IoSuspension>,
    /// Whether the nodes are apart because the before-resync-target handler said no.
    pub resync_refused: bool,
    /// What is known of an absent peer; `None`: it isn't absent, or nothing and nobody was asked.
    pub fence: Option<FenceSnapshot>,
    /// Whether this node was Primary last, as far as its metadata say: no other has gone on since that it knows of.
    pub last_primary: bool,
    /// The device is open here, and its requests are forwarded to the peer.
    pub forwarding: Option<ForwardingSnapshot>,
    /// Becoming Primary, or handing the role over, is under way: who will have it isn't known yet.
    pub promoting: bool,
    /// The peer's device is open, and its requests are forwarded to this node.
    pub peer_forwards: bool,
    /// Why a promotion without force would be refused now; `None`: it is safe (R29).
    pub promotion_refused: Option<Refusal>,
    /// The nodes went on apart and haven't joined since: the role the peer told when they met last.
    pub apart_from: Option<Role>,
    /// How resyncs yield to this node's clients; `None`: it is Secondary and has none.
    pub pacing: Option<PacingSnapshot>,
    /// The volumes.
    pub volumes: Vec<VolumeSnapshot>,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeSnapshot {
    /// Its number.
    pub number: VolumeNumber,
    /// Its size; 0 while unknown.
    pub size_bytes: u64,
    /// What clients' offsets and lengths are multiples of, in bytes.
    pub block_bytes: u32,
    /// Whether both disks give discarded space back, so that discards are offered.
    pub discards: bool,
    /// Whether clients are told of a volatile cache, while the device is offered.
    pub volatile_cache: Option<bool>,
    /// What this node's disk has room for; `None` without a disk.
    pub room: Option<Room>,
    /// The same of the peer's, while it is connected.
    pub peer_room: Option<Room>,
    /// Whether the volume is growing: the new area may be marked on disks that are equal otherwise.
    pub growing: bool,
    /// Clients that have the device open.
    pub openers: u32,
    /// Our disk.
    pub disk: DiskState,
    /// For how long our disk owes the oldest of its answers; `None`: none is due.
    pub disk_unanswered: Option<Duration>,
    /// Operations of a disk we let go of that haven't come back: while there are any, none is attached.
    pub old_operations: u32,
    /// The peer's disk.
    pub peer_disk: DiskState,
    /// Whether its clients wait because no good data is in reach.
    pub waits_for_data: bool,
    /// What runs between the disks.
    pub replication: ReplicationState,
    /// Bytes known to differ, or to be possibly different.
    pub out_of_sync_bytes: u64,
    /// A resync under way or paused.
    pub resync: Option<ResyncSnapshot>,
    /// Bytes of this node's data saved so far, while they are about to be given up in a split brain.
    pub archived_bytes: Option<u64>,
    /// A verify under way, whichever node leads it.
    pub verify: Option<VerifySnapshot>,
    /// How the last verify that this node led stands. `None`: there was none with the disk that is here.
    pub verify_run: Option<VerifyRun>,
    /// What the last handshake that was to join the nodes decided.
    pub last_decision: Option<SyncDecision>,
    /// What is known of a split brain, while the last handshake ended in one.
    pub split_brain: Option<SplitBrainFacts>,
    /// Whether a resync by that decision compares before it copies.
    pub compares: bool,
    /// The peer's generations as of the last handshake.
    pub peer_generations: Option<Generations>,
    /// Bytes the peer held for out-of-sync in the last handshake.
    pub peer_out_of_sync_bytes: u64,
    /// How our data began to differ from the peer's; `None` while it doesn't.
    pub divergence: Option<Divergence>,
    /// The same of the peer, as of the last handshake.
    pub peer_divergence: Option<Divergence>,
    /// Our generations; `None` without a disk.
    pub generations: Option<Generations>,
    /// Extents hot in the activity log.
    pub hot_extents: u32,
    /// How many can be.
    pub hot_extents_max: u32,
    /// Counts since the engine began.
    pub counters: Counters,
}

impl VolumeSnapshot {
    /// The size the volume could be given now: both disks have room for more than it has.
    pub fn can_grow_to_bytes(&self) -> Option<u64> {
        let room = self.room?.bytes.min(self.peer_room?.bytes);
        let size_bytes = room - room % u64::from(self.block_bytes.max(1));
        (self.size_bytes > 0 && size_bytes > self.size_bytes).then_some(size_bytes)
    }
}

/// A resync's progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResyncSnapshot {
    /// Bytes out-of-sync when it began.
    pub total_bytes: u64,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes copied over the link (zero runs not counted).
    pub copied_bytes: u64,
    /// What comparing before copying has come to; `None`: this one only copies.
    pub compared: Option<ComparedSnapshot>,
    /// When it began, on the engine's clock.
    pub started: crate::Timestamp,
    /// Bytes a second over the last seconds.
    pub rate_bytes_per_s: u64,
}

/// What a resync that compares before it copies has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ComparedSnapshot {
    /// Bytes compared.
    pub compared_bytes: u64,
    /// Of these, bytes that were equal and weren't copied.
    pub equal_bytes: u64,
}

/// A verify's progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifySnapshot {
    /// Bytes to compare.
    pub total_bytes: u64,
    /// Bytes compared.
    pub done_bytes: u64,
    /// Bytes of the blocks found to differ.
    pub different_bytes: u64,
    /// Bytes a second since it began or went on.
    pub rate_bytes_per_s: u64,
    /// The side whose operator has it halted (`pause-sync`), if one has.
    pub halted_by: Option<Side>,
}

/// How a verify stands that this node leads or led.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyRun {
    /// Its name, which no other has in this engine's life. One that is stopped and goes on keeps it.
    pub run: u64,
    /// Whether every block has been compared.
    pub state: VerifyState,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyState {
    /// It is under way.
    Running,
    /// Every block was compared.
    Completed,
    /// It was stopped; asked for again, it goes on where it was.
    Stopped(Why),
}

/// Counts since the engine began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Bytes clients read.
    pub read_bytes: u64,
    /// Bytes clients wrote.
    pub written_bytes: u64,
    /// Bytes of user data sent to the peer.
    pub sent_bytes: u64,
    /// Bytes of user data received from the peer.
    pub received_bytes: u64,
    /// Bytes of user data copied by resyncs, in either direction.
    pub resynced_bytes: u64,
    /// Activity-log transactions written.
    pub log_transactions: u64,
    /// Flushes sent to the local disk.
    pub local_flushes: u64,
}
