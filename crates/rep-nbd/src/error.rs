//! What goes wrong: errors clients are told, and the misbehaviour that ends a connection.

use rep_types::IoError;
use std::fmt;

/// An error as the protocol numbers it; the number is what stands in a reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum NbdError {
    /// `EPERM` (1): the export is read-only.
    #[error("operation not permitted")]
    NotPermitted,
    /// `EIO` (5).
    #[error("input/output error")]
    Io,
    /// `ENOMEM` (12). Never sent by us; a client may meet it elsewhere.
    #[error("cannot allocate memory")]
    NoMemory,
    /// `EINVAL` (22).
    #[error("invalid argument")]
    Invalid,
    /// `ENOSPC` (28): also a write beyond the end.
    #[error("no space left on device")]
    NoSpace,
    /// `EOVERFLOW` (75): too long for an unfragmented reply.
    #[error("value too large")]
    Overflow,
    /// `ENOTSUP` (95): a fast zero that wouldn't be fast.
    #[error("operation not supported")]
    NotSupported,
    /// `ESHUTDOWN` (108): the node is no longer Primary, or is stopping.
    #[error("the server is shutting down")]
    Shutdown,
}

impl NbdError {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::NotPermitted => 1,
            Self::Io => 5,
            Self::NoMemory => 12,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::NotSupported => 95,
            Self::Shutdown => 108,
        }
    }

    /// The error of a number that isn't 0. Numbers outside the protocol count as `EINVAL`, as clients are told to do.
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::NotPermitted,
            5 => Self::Io,
            12 => Self::NoMemory,
            28 => Self::NoSpace,
            75 => Self::Overflow,
            95 => Self::NotSupported,
            108 => Self::Shutdown,
            _ => Self::Invalid,
        }
    }
}

impl From<IoError> for NbdError {
    fn from(error: IoError) -> Self {
        match error {
            IoError::Io => Self::Io,
            IoError::NoSpace => Self::NoSpace,
            IoError::Invalid => Self::Invalid,
            IoError::NotPrimary => Self::Shutdown,
            IoError::Unsupported => Self::NotSupported,
        }
    }
}

/// Why a single request is refused. The connection goes on (I-F7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RequestFault {
    /// The command's number isn't known.
    UnknownCommand,
    /// The command isn't offered by this export.
    NotOffered,
    /// A flag isn't known, doesn't belong to the command or wasn't negotiated.
    BadFlags,
    /// The length is zero.
    ZeroLength,
    /// Offset or length is set where both are reserved.
    ReservedNotZero,
    /// Offset or length isn't a multiple of the minimum block size.
    Unaligned,
    /// A write past the end.
    WriteBeyondEnd,
    /// Anything else past the end.
    BeyondEnd,
    /// Longer than the maximum block size.
    TooLong,
    /// Longer than what can be sent in one piece.
    TooLongUnfragmented,
    /// The export is read-only.
    ReadOnly,
    /// Zeroing would be no faster than writing.
    NotFast,
    /// Block status without a metadata context.
    NoContext,
    /// The node is no longer Primary, or stops.
    Stopping,
}

impl RequestFault {
    /// The error the client gets.
    pub fn error(self) -> NbdError {
        match self {
            Self::WriteBeyondEnd => NbdError::NoSpace,
            Self::TooLongUnfragmented => NbdError::Overflow,
            Self::ReadOnly => NbdError::NotPermitted,
            Self::NotFast => NbdError::NotSupported,
            Self::Stopping => NbdError::Shutdown,
            Self::UnknownCommand
            | Self::NotOffered
            | Self::BadFlags
            | Self::ZeroLength
            | Self::ReservedNotZero
            | Self::Unaligned
            | Self::BeyondEnd
            | Self::TooLong
            | Self::NoContext => NbdError::Invalid,
        }
    }

    /// The words that go into a structured error chunk.
    pub fn message(self) -> &'static str {
        match self {
            Self::UnknownCommand => "unknown command",
            Self::NotOffered => "this command is not offered by the export",
            Self::BadFlags => "a flag is unknown or does not belong to this command",
            Self::ZeroLength => "the length is zero",
            Self::ReservedNotZero => "offset and length must be zero",
            Self::Unaligned => "offset and length must be multiples of the minimum block size",
            Self::WriteBeyondEnd => "the write goes beyond the end of the device",
            Self::BeyondEnd => "the request goes beyond the end of the device",
            Self::TooLong => "longer than the maximum block size",
            Self::TooLongUnfragmented => "too long to be read unfragmented",
            Self::ReadOnly => "the export is read-only",
            Self::NotFast => "writing zeroes is not faster than writing here",
            Self::NoContext => "no metadata context was negotiated",
            Self::Stopping => "the device is no longer exported by this node",
        }
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for RequestFault {}

/// Why a negotiation ends without transmission. The shell sends what is still to be sent and hangs up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NegotiationError {
    /// The client set handshake flags we didn't offer.
    #[error("the client set unknown handshake flags {0:#010x}")]
    UnknownFlags(u32),
    /// An option doesn't start with its magic number.
    #[error("an option starts with {0:#018x} instead of the magic number")]
    BadMagic(u64),
    /// `EXPORT_NAME` with a name that isn't exported; the protocol has no other answer.
    #[error("the client asked for an export that isn't offered, by an option that knows no refusal")]
    UnknownExport,
    /// `EXPORT_NAME` outside TLS where TLS is a must.
    #[error("the client tried to choose an export without TLS")]
    TlsRequired,
    /// Bytes in clear text behind `STARTTLS`: they might have been put in by somebody else.
    #[error("the client sent clear text after STARTTLS")]
    ClearTextAfterStartTls,
    /// More options than [`crate::limits::OPTIONS_MAX`].
    #[error("the client sent too many options")]
    TooManyOptions,
    /// More bytes than [`crate::limits::NEGOTIATION_BYTES_MAX`].
    #[error("the client sent too many bytes before choosing an export")]
    TooManyBytes,
    /// The negotiation had ended.
    #[error("the negotiation had ended")]
    Ended,
}

/// Why transmission ends other than by the client's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransmissionError {
    /// A request doesn't start with its magic number: where the next one starts can't be known.
    #[error("a request starts with {0:#010x} instead of the magic number")]
    BadMagic(u32),
}
