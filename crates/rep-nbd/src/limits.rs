//! Every limit of the NBD port in one place. Back-pressure and refusals follow from these.

use rep_types::REQUEST_LENGTH_MAX;

/// The longest string the protocol allows (export names, context queries, messages), in bytes.
pub const STRING_LENGTH_MAX: usize = 4096;
/// The longest option data that is looked at, in bytes. A longer option is skipped and answered `ERR_TOO_BIG`, as
/// long as [`NEGOTIATION_BYTES_MAX`] has room for it.
pub const OPTION_DATA_MAX: usize = 16 << 10;
/// How many bytes a client may send before it enters transmission. Beyond, the connection ends.
pub const NEGOTIATION_BYTES_MAX: u32 = 256 << 10;
/// How many options a client may send before it enters transmission. Beyond, the connection ends.
pub const OPTIONS_MAX: u32 = 256;
/// How many queries one `LIST_META_CONTEXT` or `SET_META_CONTEXT` may carry.
pub const META_QUERIES_MAX: u32 = 64;
/// The longest read or write of a client, in bytes: the maximum block size we advertise. Requests that carry no data
/// (trim, write zeroes, cache, block status) may be as long as the protocol can say.
pub const PAYLOAD_LENGTH_MAX: u32 = 64 << 20;
/// The longest read that is answered in one chunk of a structured reply (DF), in bytes. What precedes the data says that
/// all of it follows, so nothing may leave before all is known to be good; this is what one piece, one buffer, holds.
pub const UNFRAGMENTED_LENGTH_MAX: u32 = REQUEST_LENGTH_MAX;
/// The most descriptors in one block-status reply. The client asks again for the rest.
pub const BLOCK_STATUS_DESCRIPTORS_MAX: usize = 1024;
/// The longest message we put into an error chunk, in bytes.
pub const ERROR_MESSAGE_LENGTH_MAX: usize = 80;
/// The largest minimum block size the protocol lets a server ask for, in bytes.
pub const MIN_BLOCK_BYTES_MAX: u32 = 64 << 10;
/// The block size we prefer, in bytes: one block of the dirty bitmap.
pub const PREFERRED_BLOCK_BYTES: u32 = 4096;
