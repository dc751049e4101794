//! Every limit of a data thread in one place. Back-pressure follows from these.

use rep_types::REQUEST_LENGTH_MAX;
use std::time::Duration;

/// Entries of the ring: about as many operations as one turn submits.
pub const RING_ENTRIES: u32 = 512;
/// Bytes of the metadata zone of the pool.
pub const META_BYTES: usize = 1 << 20;
/// Bytes of the zone of forwarded writes: a chunk for each that may be unanswered, and as many for those that come again while
/// the first are still being done.
pub const FORWARDED_BYTES: usize = 2 * rep_wire::limits::FORWARD_WRITES_MAX * REQUEST_LENGTH_MAX as usize;
/// While more than this waits to be sent to the peer, nothing new is taken from clients, in bytes.
pub const PEER_QUEUE_BYTES_MAX: usize = 16 << 20;

/// Client connections of a resource, at most.
pub const CLIENTS_MAX: usize = 128;
/// How long a client may take to choose an export.
pub const NEGOTIATION_TIME_MAX: Duration = Duration::from_secs(10);
/// The receive buffer of a client, in bytes.
pub const CLIENT_BUFFER_BYTES: usize = 128 << 10;
/// The requests of one client that are taken at a time, at most.
pub const CLIENT_REQUESTS_MAX: u32 = 512;
/// While more than this waits to be sent to a client, nothing new is taken from it, in bytes.
pub const CLIENT_QUEUE_BYTES_MAX: usize = 8 << 20;
/// While pieces of more than this are under way for a client, it begins no further discard or write-zeroes, in bytes.
pub const CLIENT_ZERO_BYTES_MAX: usize = 64 << 20;
/// A client that holds buffers others wait for and takes or sends nothing for so long is hung up on.
pub const CLIENT_STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// How long answers may take to leave when the device is no longer offered.
pub const CLIENT_DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// The pause before listening is tried again where it failed.
pub const LISTEN_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The pause before a device of the kernel whose connection broke gets another.
pub const REATTACH_PAUSE: Duration = Duration::from_secs(1);
/// Stretches of allocation that are asked of the file system for one request.
pub const ALLOCATION_RUNS_MAX: usize = 256;

/// How long a disk's lock is waited for at attach: a killed daemon's last operations may still hold it.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of a thread may wait for operations to come back. A disk that hangs longer is left behind.
pub const END_TIME_MAX: Duration = Duration::from_millis(1500);

/// How long a thread that has sent something to the peer looks for news before it sleeps, at least.
pub const LOOK_TIME: Duration = Duration::from_micros(300);
/// The same where waking up takes long: so many wake-ups...
pub const LOOK_WAKE_UPS: u32 = 24;
/// ...and at most this.
pub const LOOK_TIME_MAX: Duration = Duration::from_millis(2);
/// A pause of a look this long means that the processor was taken away by somebody who has much to do.
pub const LOOK_GAP: Duration = Duration::from_millis(1);
/// The same where looks are longer than [`LOOK_TIME`], since everything takes longer there: less than a turn of somebody who never rests.
pub const LOOK_GAP_MAX: Duration = Duration::from_micros(2500);
/// How long there are no looks after that.
pub const LOOK_REST_MIN: Duration = Duration::from_millis(10);
/// The same, at most, when it happens again and again.
pub const LOOK_REST_MAX: Duration = Duration::from_secs(1);
/// Waits without a look after a few looks in vain.
pub const LOOKS_SKIPPED_MIN: u32 = 16;
/// Waits without a look after many looks in vain.
pub const LOOKS_SKIPPED_MAX: u32 = 4096;
/// The same where waits are long: what is waited for may have become another by then.
pub const LOOKS_SKIPPED_TIME_MAX: Duration = Duration::from_millis(100);
/// Who had a payload of more bytes than this to move doesn't look.
pub const LOOK_PAYLOAD_BYTES_MAX: usize = 32 << 10;
/// Data of a device's writes that is taken from the kernel before what there is leaves for the peer: while more is copied, the peer is at work.
pub const TAKEN_BYTES_MAX: usize = 128 << 10;
/// Operations on a disk in memory that are done before what they bring about leaves.
pub const READY_BATCH: usize = 8;
