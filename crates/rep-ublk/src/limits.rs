//! Every limit of the port in one place.

use rep_types::{REQUEST_LENGTH_MAX, ZERO_LENGTH_MAX};
use std::time::Duration;

/// The longest read or write, in bytes: what the engine takes at once, so that none is ever cut.
pub const IO_BYTES_MAX: u32 = REQUEST_LENGTH_MAX;
/// The longest discard or write-zeroes, in bytes; the kernel cuts longer ones.
pub const ZERO_BYTES_MAX: u32 = ZERO_LENGTH_MAX;
/// Requests of one queue at a time.
pub const QUEUE_DEPTH: u16 = 128;
/// Queues of a device. All are served by one thread; a second helps only where many processors submit at once.
pub const QUEUES: u16 = 1;
/// Queues of a device that is taken over, at most.
pub const QUEUES_MAX: u16 = 64;
/// How long a device whose server has just died may take to be ready for the next one.
pub const TAKEOVER_PATIENCE: Duration = Duration::from_secs(20);
/// How long the nodes of a new device may take to appear under `/dev`.
pub const NODE_PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts.
pub const RETRY_PAUSE: Duration = Duration::from_millis(20);
