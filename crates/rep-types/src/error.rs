//! Errors and refusals that cross crates.

use serde::{Deserialize, Serialize};

/// What became of an I/O, in the words clients know (NBD and the block layer map these onto errno values).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum IoError {
    /// The disk failed the operation, or no disk is in reach (`EIO`).
    #[error("input/output error")]
    Io,
    /// The disk is full (`ENOSPC`): a sparse file's file system, for instance.
    #[error("no space left on device")]
    NoSpace,
    /// The request is outside the volume or not on sectors (`EINVAL`).
    #[error("invalid request")]
    Invalid,
    /// This node isn't Primary, or is leaving that role (`EPERM`/`ESHUTDOWN`).
    #[error("the device isn't Primary")]
    NotPrimary,
    /// The disk doesn't do this operation (`EOPNOTSUPP`).
    #[error("operation not supported")]
    Unsupported,
}

/// Why a connection to the peer ended or must end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum LinkCause {
    /// The peer or the network closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The socket reported an error.
    #[error("the connection failed")]
    Failed,
    /// The peer answered no ping within `ping-timeout`.
    #[error("the peer answered no ping")]
    PingTimeout,
    /// The peer is alive but its disk answered nothing for `ko-count` times `timeout`.
    #[error("the peer's disk stalled for too long")]
    DiskStalled,
    /// A frame was damaged or broke the protocol; nothing of it was applied (I-F5).
    #[error("the peer broke the protocol")]
    Protocol,
    /// A new connection of the same peer took this one's place.
    #[error("the peer connected anew")]
    Replaced,
    /// The peer said goodbye.
    #[error("the peer left")]
    PeerLeft,
    /// This node's operator disconnected.
    #[error("disconnected by the operator")]
    Operator,
    /// The handshake ended in a refusal.
    #[error("the handshake was refused")]
    Refused,
    /// The handshake must start over because something changed under it (R17).
    #[error("the handshake starts over")]
    Restart,
}

/// Why a command was refused by the current state: exit code 10 of `repctl`; the variant's name is what
/// `stderr` and `--json` carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The peer is Primary.
    #[error("the peer is Primary; demote it there first")]
    PeerIsPrimary,
    /// No UpToDate disk is in reach.
    #[error("no UpToDate disk is in reach; connect to the peer, or use --force if this copy is the one to keep")]
    NoUpToDateDisk,
    /// The device is open.
    #[error("the device is open; close or unmount it first")]
    DeviceIsOpen,
    /// Client I/O is suspended, and requests wait for it to go on.
    #[error("requests wait because client I/O is suspended; see 'repctl status RES' for why, and end that first")]
    IoSuspended,
    /// The nodes diverged.
    #[error("the nodes diverged (split brain); see 'repctl split-brain RES show'")]
    SplitBrain,
    /// The nodes' data have no common ancestor.
    #[error("the peer holds unrelated data; run create-md on the node whose data may go")]
    UnrelatedData,
    /// The peer's disk is smaller than the volume.
    #[error("the peer's disk is smaller than the volume; give it a larger disk")]
    PeerDiskTooSmall,
    /// This node's disk is smaller than the volume.
    #[error("this node's disk is smaller than the volume; give it a larger disk")]
    DiskTooSmall,
    /// A handshake is under way.
    #[error("a handshake with the peer is under way; try again in a moment")]
    HandshakeUnderWay,
    /// There is no connection.
    #[error("there is no connection to the peer; run 'repctl connect RES' first")]
    NotConnected,
    /// There is a connection.
    #[error("the peer is connected; run 'repctl disconnect RES' first")]
    IsConnected,
    /// No disk is attached.
    #[error("no disk is attached; run 'repctl attach RES' first")]
    Diskless,
    /// This node is Primary.
    #[error("this node is Primary; run 'repctl secondary RES' first")]
    IsPrimary,
    /// A resync runs.
    #[error("a resync is under way; wait for it with 'repctl wait RES synced'")]
    ResyncUnderWay,
    /// The only good data would be lost.
    #[error("this is the only UpToDate copy in reach; it can't be given up")]
    OnlyGoodCopy,
    /// The resource isn't up.
    #[error("the resource is down; run 'repctl up RES' first")]
    ResourceIsDown,
    /// There is no such volume.
    #[error("the resource has no such volume")]
    NoSuchVolume,
    /// The other direction of data is called for.
    #[error("the peer's data is newer; it can't become the target")]
    PeerIsNewer,
    /// A Primary would have to be overwritten.
    #[error("this node is Primary and its data would be overwritten")]
    WouldOverwritePrimary,
    /// A disk was let go of while it didn't answer, and still doesn't.
    #[error(
        "operations of the disk that was let go of are still under way there, and could yet land on it; it can be attached \
         when they have come back (see 'repctl status RES')"
    )]
    DiskHangs,
    /// Another command on this resource hasn't ended.
    #[error("another command on this resource hasn't ended yet")]
    Busy,
    /// The peer can't be reached, and isn't known to be unable to go on (R29).
    #[error(
        "the peer can't be reached and isn't known to be Outdated or fenced; see to its node and try again, or, once \
         you are certain that it is down, use --force"
    )]
    PeerNotFenced,
    /// Both copies are good; which one stays must be said.
    #[error("both copies are UpToDate; say whose data stays with --from NODE")]
    DirectionNeeded,
    /// A generation may be started on both nodes only over data that never was anything else.
    #[error("only volumes just created on both nodes can skip the initial sync (new-generation --clear-bitmap)")]
    NotJustCreated,
    /// What would be given up could not be saved.
    #[error(
        "this node's data could not be archived, so they aren't given up; see 'repctl status RES', make room or mend \
         archive-dir, then resolve again"
    )]
    ArchiveFailed,
    /// A split brain's resolution ended before anything was given up.
    #[error(
        "the split brain stands, nothing was given up: the connection broke, or the other node could not archive its \
         data; see 'repctl status RES' there, then resolve again"
    )]
    NotSettled,
    /// This node gives its data up in a split brain, and they are still all it has.
    #[error(
        "the split brain is being settled: this node's own data are saved before the peer's replace them; try again when \
         the resync runs (see 'repctl status RES')"
    )]
    StillSettling,
    /// The peer has seen data that are newer than any in reach.
    #[error(
        "the peer had newer data than this node, on a disk that it has let go of or that isn't attached yet; run \
         'repctl attach RES' there, or, if that disk is lost and this copy is the one to keep, use --force"
    )]
    PeerLetNewerGo,
    /// This node has had data that are newer than any in reach.
    #[error(
        "this node had newer data than the peer, on a disk that has failed, was let go of or isn't attached yet; run \
         'repctl attach RES', or, if that disk is lost and the peer's copy is the one to keep, use --force"
    )]
    LetNewerGo,
    /// The command is known but this build can't do it.
    #[error("not supported")]
    NotSupported,
    /// A verify runs.
    #[error("a verify is under way; wait for its end, or stop it with 'repctl verify RES --stop'")]
    VerifyUnderWay,
    /// This node's disk has no room for a larger volume.
    #[error("this node's disk has no room for a larger volume; enlarge it, then resize again")]
    DiskNotGrown,
    /// The peer's disk has no room for a larger volume.
    #[error("the peer's disk has no room for a larger volume; enlarge it, then resize again")]
    PeerDiskNotGrown,
    /// Only the Primary can hand its role over.
    #[error("this node isn't Primary; a handover is begun where the role is")]
    NotPrimary,
    /// The peer's program doesn't know how.
    #[error("the peer's repd is too old for that; upgrade it first")]
    PeerTooOld,
    /// The peer's disk isn't good.
    #[error("the peer's disk isn't UpToDate; wait for it with 'repctl wait RES synced', then try again")]
    PeerNotUpToDate,
    /// Another command hasn't ended at the peer.
    #[error("another command on this resource hasn't ended on the peer; try again in a moment")]
    PeerBusy,
    /// The peer was to be Primary and could not.
    #[error("the peer could not become Primary, and this node is Primary again; see 'repctl status RES' there")]
    PeerNotPromoted,
    /// The peer's device is open, and its requests come here.
    #[error(
        "the device is open on the peer, whose requests are forwarded to this node; close it there, or hand the role \
         back with 'repctl handover RES'"
    )]
    PeerDeviceIsOpen,
    /// Neither disk has.
    #[error("neither node's disk has room for a larger volume; enlarge both, then resize again")]
    DisksNotGrown,
    /// The external metadata of this node have no room for those of a larger volume.
    #[error("this node's meta-disk is too small for the metadata of a larger volume; enlarge it, then resize again")]
    MetadataTooSmall,
    /// Those of the peer have none.
    #[error("the peer's meta-disk is too small for the metadata of a larger volume; enlarge it, then resize again")]
    PeerMetadataTooSmall,
    /// This node's disk has larger logical blocks than the volume.
    #[error(
        "this node's disk has larger logical blocks than the volume's clients were told of; on the Primary end what uses the \
         device and run 'repctl secondary RES', or give this node a disk with smaller blocks"
    )]
    BlocksTooLarge,
    /// The peer's disk has.
    #[error(
        "the peer's disk has larger logical blocks than the volume's clients were told of; end what uses the device and run \
         'repctl secondary RES', or give the peer a disk with smaller blocks"
    )]
    PeerBlocksTooLarge,
    /// The size that a disk's metadata remember isn't whole blocks of the volume.
    #[error(
        "the size that this disk's metadata remember for the volume isn't whole logical blocks of both nodes' disks; if its data \
         may go, run 'repctl create-md RES' and attach it again"
    )]
    NotWholeBlocks,
}
