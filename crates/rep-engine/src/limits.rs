//! Every bound of the engine, by name. Back-pressure follows from them.

use std::time::Duration;

/// Resync requests the target keeps under way. With 1 MiB each this bounds the buffers a resync holds.
pub const RESYNC_REQUESTS_MAX: usize = 16;
/// Resync requests a source accepts from its peer before it calls that a breach of the protocol.
pub const RESYNC_REQUESTS_ACCEPTED_MAX: usize = 256;
/// Requests it keeps under way while a node is Primary, of [`RESYNC_SHARED_BLOCKS_MAX`] each.
pub const RESYNC_SHORT_REQUESTS_MAX: usize = 64;
/// The longest resync request while a node is Primary, in blocks (64 KiB): on the link, in a data thread and for the lock of
/// its range, a client's write waits for as much.
pub const RESYNC_SHARED_BLOCKS_MAX: u64 = 16;
/// The rate a resync has at least, whatever clients wait, in bytes a second: 32 ranges, each of which a disk that seeks
/// moves in some 10 ms, so that clients keep two thirds of the slowest disk; a TiB takes six days.
pub const RESYNC_RATE_MIN: u64 = 2 << 20;
/// The rate it begins with while clients are at work, in bytes a second.
pub const RESYNC_RATE_FIRST: u64 = 32 << 20;
/// Clients' latency is looked at after so many requests (the fewest whose p99 isn't simply the longest)...
pub const PACING_REQUESTS_MIN: u32 = 100;
/// ...but not more often than this,
pub const PACING_WINDOW_MIN: Duration = Duration::from_millis(100);
/// ...and at least this often.
pub const PACING_WINDOW_MAX: Duration = Duration::from_millis(500);
/// So much longer than one and a quarter times what they wait without it clients may wait for a resync: what they see
/// themselves, with what a busy data thread leaves in its sockets, is then one and a half times as much.
pub const PACING_SLACK: Duration = Duration::from_micros(100);
/// How often what they wait without it is measured while it runs: two windows long it then moves nothing.
pub const PACING_MEASURE_INTERVAL: Duration = Duration::from_secs(10);
/// The longest resync request, in blocks (1 MiB).
pub const RESYNC_BLOCKS_MAX: u64 = 256;
/// The longest range a resync compares at a time, in blocks (256 KiB): a client's write may wait for it to be read on both
/// nodes.
pub const RESYNC_COMPARE_BLOCKS_MAX: u64 = 64;
/// The shortest run of zeroes within a range that is told and not copied, in blocks (64 KiB). It costs the target up to two
/// disk operations more, about what it takes to send and write as much; and a request of 1 MiB is never more than 31.
pub const RESYNC_ZERO_RUN_BLOCKS_MIN: u32 = 16;
/// Comparing a range has paid if at least one block in so many was equal.
pub const RESYNC_EQUAL_SHARE_MIN: u64 = 8;
/// Ranges a resync pulls unasked, at most, before it compares one again where comparing hasn't paid.
pub const RESYNC_UNASKED_MAX: u32 = 63;
/// Resynced blocks that wait for a flush before their bits clear; beyond this an epoch is closed (64 MiB).
pub const RESYNC_UNFLUSHED_BLOCKS_MAX: u64 = 16384;
/// How often at most a resync's progress is made durable: what a crash makes it copy again.
pub const RESYNC_SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Ranges that are being archived at a time.
pub const ARCHIVE_REQUESTS_MAX: usize = 8;
/// An archive none of whose steps ends for so long has failed.
pub const ARCHIVE_STALL_MAX: Duration = Duration::from_secs(60);
/// Ranges a verify has under way.
pub const VERIFY_REQUESTS_MAX: usize = 8;
/// Ranges of a peer's verify we accept before we call that a breach of the protocol.
pub const VERIFY_REQUESTS_ACCEPTED_MAX: usize = 64;
/// The longest range a verify locks, in bytes: a client's write waits at most for one to be read on both nodes.
pub const VERIFY_LENGTH_MAX: u64 = 256 << 10;
/// Pages of the set of unflushed blocks; beyond this an epoch is closed (4 MiB of memory for each volume, kept, and as
/// much while the epoch is being closed).
pub const UNFLUSHED_PAGES_MAX: usize = 1024;
/// Bytes of run lengths in one part of a travelling bitmap.
pub const BITMAP_RUNS_BYTES_MAX: usize = 32 << 10;
/// Requests of the peer (writes, reads) it may have open here before we call that a breach of the protocol.
pub const PEER_REQUESTS_MAX: usize = 65536;
/// An epoch with completed writes is closed after this long, so that the log can cool and the set of unflushed
/// blocks stays small on a client that never flushes.
pub const EPOCH_AGE_MAX: Duration = Duration::from_secs(5);
/// How often idle extents are looked for, to take them out of the log.
pub const COOLING_INTERVAL: Duration = Duration::from_secs(10);
/// How often disks are measured: so long an operator may wait to be told that a volume can grow.
pub const MEASURE_INTERVAL: Duration = Duration::from_secs(10);
/// Extents taken out of the log at a time when idle.
pub const COOLING_EXTENTS_MAX: usize = 256;
/// How often requests under way are looked over for stalls while there are any.
pub const STALL_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The most that can have passed between two events while a shell was awake and a disk owed it something: the interval
/// above, and room for a busy processor.
pub const AWAKE_STEP_MAX: Duration = Duration::from_secs(2);
/// While clients wait for it, a fence-peer handler that could not make sure is asked again after this long.
pub const FENCE_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// A peer we left ourselves, to meet it again at once, is fenced when it stays away for longer.
pub const FENCE_GRACE: Duration = Duration::from_secs(2);
/// A view that has to wait for a resync waits so long: a connection that begins anew costs clients about as much as a pause on the link.
pub const HANDSHAKE_RESYNC_WAIT_MAX: Duration = Duration::from_secs(1);
/// A handshake that takes longer than this, before it tells its view or after, is given up and started over.
pub const HANDSHAKE_DURATION_MAX: Duration = Duration::from_secs(15);
