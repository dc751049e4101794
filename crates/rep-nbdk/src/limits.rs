//! Every limit of the port in one place.

use rep_types::REQUEST_LENGTH_MAX;
use std::time::Duration;

/// How long requests wait for a daemon that is away: as good as for ever. Who wants them to fail ends the device by
/// `nbd-client -d /dev/nbdN`.
pub const DEAD_CONNECTION_PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often the kernel looks whether a request in flight was sent on a connection that is gone, and sends it again if
/// so. A request that is merely slow stays what it is, with a line in the kernel's log.
pub const RESEND_LOOK: Duration = Duration::from_secs(3);
/// The longest read or write, in bytes: what the engine takes at once, so that none is ever cut.
pub const IO_BYTES_MAX: u32 = REQUEST_LENGTH_MAX;
/// Blocks larger than a page aren't taken by the driver, in bytes.
pub const BLOCK_BYTES_MAX: u32 = 4096;
/// How long a device whose server has just died may take to be ready for the next one.
pub const TAKEOVER_PATIENCE: Duration = Duration::from_secs(20);
/// How long the node of a new device may take to appear under `/dev`, and that of a removed one to go.
pub const NODE_PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts.
pub const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How often another free number is tried when somebody else was faster.
pub const NUMBER_TRIES: u32 = 16;
