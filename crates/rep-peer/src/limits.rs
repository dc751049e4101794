//! Every limit of the link in one place.

use std::time::Duration;

/// How long an opening may take, from the connection's beginning.
pub const OPENING_TIME_MAX: Duration = Duration::from_secs(5);
/// How many connections may be opening at a time; the oldest gives way.
pub const OPENINGS_MAX: usize = 8;
/// How long what is queued may take to leave when this node ends a connection.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// The receive buffer of an open connection, in bytes: more than the longest frame without its payload.
pub const RECEIVE_BUFFER_BYTES: usize = 256 << 10;
/// The receive buffer before that, in bytes.
pub const OPENING_BUFFER_BYTES: usize = 2048;
/// The first pause between two attempts to connect.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause before nodes that refused each other meet again: an operator's word on one of them, or a disk that is back,
/// may be what the other waits for.
pub const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long sent bytes may stay unacknowledged by the peer's kernel. The engine's pings find out earlier.
pub const UNACKNOWLEDGED_TIME_MAX: Duration = Duration::from_secs(30);
