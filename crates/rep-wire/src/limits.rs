//! Every limit of the peer protocol. `docs/PROTOCOL.md` repeats them; a test compares.

use rep_types::{BLOCK_SIZE, REQUEST_LENGTH_MAX};

/// The oldest protocol version this code speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
/// The newest protocol version this code speaks.
pub const PROTOCOL_VERSION_MAX: u16 = 1;

/// Bytes in the header of a frame.
pub const HEADER_LENGTH: usize = 48;
/// The longest body of a frame, in bytes.
pub const BODY_LENGTH_MAX: usize = 64 << 10;
/// The longest body of a hot message, in bytes.
pub const HOT_BODY_LENGTH_MAX: usize = 48;
/// The longest payload of a frame, in bytes.
pub const PAYLOAD_LENGTH_MAX: u32 = REQUEST_LENGTH_MAX;
/// A receive buffer of this size holds the header and body of any frame.
pub const FRAME_WITHOUT_PAYLOAD_LENGTH_MAX: usize = HEADER_LENGTH + BODY_LENGTH_MAX;

/// The most volumes a control message may list.
pub const VOLUMES_MAX: usize = 256;
/// The longest run-length code in one `BitmapPart`, in bytes.
pub const RUNS_LENGTH_MAX: usize = 60 << 10;
/// Forwarded requests are named by consecutive numbers. The oldest that isn't answered and the newest that is sent lie less
/// than this apart, so a Primary that remembers the answers of so many can tell a request that comes again.
pub const FORWARD_WINDOW: u64 = 1024;
/// Forwarded writes that aren't answered, at most: their payloads always find room at the Primary, whatever else it has to
/// take, or the acknowledgements it waits for could be queued behind one that it can't.
pub const FORWARD_WRITES_MAX: usize = 32;
/// Blocks are numbered below this, so that every block's bytes have an address.
pub const BLOCK_COUNT_MAX: u64 = u64::MAX / BLOCK_SIZE;
/// No range ends beyond this byte: what a signed file offset can say.
pub const OFFSET_MAX: u64 = i64::MAX as u64;

/// The longest body of an opening message, in bytes.
pub const OPENING_BODY_LENGTH_MAX: usize = 512;
/// All a peer may send before it has proved itself, in bytes.
pub const OPENING_LENGTH_MAX: usize = 1024;
