//! The protocol's numbers, named as the NBD specification names them (without the `NBD_` prefix). All are sent in
//! network byte order.

/// First word of the server's greeting (`NBDMAGIC`).
pub const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second word of the greeting and first word of every option (`IHAVEOPT`).
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First word of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First word of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First word of a structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Bytes in the server's greeting.
pub const GREETING_LENGTH: usize = 18;
/// Bytes in an option before its data.
pub const OPTION_HEADER_LENGTH: usize = 16;
/// Bytes in an option reply before its data.
pub const OPTION_REPLY_HEADER_LENGTH: usize = 20;
/// Bytes in a request before its payload.
pub const REQUEST_LENGTH: usize = 28;
/// Bytes in a simple reply before its payload.
pub const SIMPLE_REPLY_LENGTH: usize = 16;
/// Bytes in a structured reply chunk before its payload.
pub const CHUNK_HEADER_LENGTH: usize = 20;

/// Handshake flags of the server and, with the same bits, of the client.
pub mod handshake_flag {
    /// Fixed newstyle negotiation.
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    /// No 124 zero bytes after `EXPORT_NAME`.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// Options a client may send.
pub mod option {
    /// Choose an export, without a way to say no but hanging up.
    pub const EXPORT_NAME: u32 = 1;
    /// Leave.
    pub const ABORT: u32 = 2;
    /// List the exports.
    pub const LIST: u32 = 3;
    /// Go on in TLS.
    pub const STARTTLS: u32 = 5;
    /// Ask about an export.
    pub const INFO: u32 = 6;
    /// Choose an export.
    pub const GO: u32 = 7;
    /// Use structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// List metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Select metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Use 64-bit headers.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Kinds of replies to an option.
pub mod option_reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export, in answer to `LIST`.
    pub const SERVER: u32 = 2;
    /// A piece of information, in answer to `INFO` and `GO`.
    pub const INFO: u32 = 3;
    /// A metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// The bit that tells an error.
    pub const ERROR_BIT: u32 = 1 << 31;
    /// Option unknown or not supported.
    pub const ERR_UNSUP: u32 = ERROR_BIT | 1;
    /// Forbidden by policy.
    pub const ERR_POLICY: u32 = ERROR_BIT | 2;
    /// Malformed.
    pub const ERR_INVALID: u32 = ERROR_BIT | 3;
    /// Not on this platform.
    pub const ERR_PLATFORM: u32 = ERROR_BIT | 4;
    /// Only in TLS.
    pub const ERR_TLS_REQD: u32 = ERROR_BIT | 5;
    /// No such export.
    pub const ERR_UNKNOWN: u32 = ERROR_BIT | 6;
    /// The server is going away.
    pub const ERR_SHUTDOWN: u32 = ERROR_BIT | 7;
    /// The client must ask for block sizes.
    pub const ERR_BLOCK_SIZE_REQD: u32 = ERROR_BIT | 8;
    /// Too large.
    pub const ERR_TOO_BIG: u32 = ERROR_BIT | 9;
}

/// Kinds of information in `INFO` and `GO`.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// The export's canonical name.
    pub const NAME: u16 = 1;
    /// A description for humans.
    pub const DESCRIPTION: u16 = 2;
    /// Minimum, preferred and maximum block size.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags: what an export can do.
pub mod transmission_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Writes fail.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` is offered: there is a volatile cache.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// Force unit access is offered.
    pub const SEND_FUA: u16 = 1 << 3;
    /// The medium rotates.
    pub const ROTATIONAL: u16 = 1 << 4;
    /// `TRIM` is offered.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is offered.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The don't-fragment flag of `READ` is offered.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers the writes of all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` is offered.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The fast-zero flag of `WRITE_ZEROES` is offered.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Commands.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write; the payload follows.
    pub const WRITE: u16 = 1;
    /// Leave.
    pub const DISC: u16 = 2;
    /// Make everything answered stable.
    pub const FLUSH: u16 = 3;
    /// Discard.
    pub const TRIM: u16 = 4;
    /// Prefetch.
    pub const CACHE: u16 = 5;
    /// Write zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// Ask for allocation.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of a command.
pub mod command_flag {
    /// Force unit access.
    pub const FUA: u16 = 1 << 0;
    /// `WRITE_ZEROES` must not make a hole.
    pub const NO_HOLE: u16 = 1 << 1;
    /// `READ` is answered in one data chunk.
    pub const DF: u16 = 1 << 2;
    /// `BLOCK_STATUS` wants a single descriptor.
    pub const REQ_ONE: u16 = 1 << 3;
    /// `WRITE_ZEROES` fails at once unless faster than writing.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Types and flags of structured reply chunks.
pub mod chunk {
    /// Flag: the last chunk of the reply.
    pub const FLAG_DONE: u16 = 1 << 0;
    /// Nothing; ends a reply.
    pub const NONE: u16 = 0;
    /// Data at an offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Zeroes at an offset.
    pub const OFFSET_HOLE: u16 = 2;
    /// Descriptors of one metadata context.
    pub const BLOCK_STATUS: u16 = 5;
    /// The bit that tells an error.
    pub const ERROR_BIT: u16 = 1 << 15;
    /// An error.
    pub const ERROR: u16 = ERROR_BIT | 1;
    /// An error at an offset.
    pub const ERROR_OFFSET: u16 = ERROR_BIT | 2;
}

/// Status bits of `base:allocation`.
pub mod allocation {
    /// Not allocated.
    pub const HOLE: u32 = 1 << 0;
    /// Reads as zeroes.
    pub const ZERO: u32 = 1 << 1;
}

/// The one metadata context the specification defines.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Its number in our replies.
pub const BASE_ALLOCATION_ID: u32 = 1;
