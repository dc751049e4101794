//! A client's request after parsing: legal, within the export, on block boundaries.

use crate::protocol::{REQUEST_LENGTH, REQUEST_MAGIC, command, command_flag as flag};
use rep_types::{ByteRange, REQUEST_LENGTH_MAX, ZERO_LENGTH_MAX, ZeroMode};

/// What a client wants, with the flags that belong to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Read; `unfragmented`: answer in one data chunk (DF).
    Read {
        /// The don't-fragment flag.
        unfragmented: bool,
    },
    /// Write; the payload follows the request on the stream.
    Write {
        /// Force unit access.
        fua: bool,
    },
    /// Make everything answered so far stable.
    Flush,
    /// Discard.
    Trim {
        /// Force unit access.
        fua: bool,
    },
    /// Prefetch: may be answered at once.
    Cache,
    /// Write zeroes.
    WriteZeroes {
        /// Keep the space allocated.
        no_hole: bool,
        /// Only if faster than writing. Such requests arrive only where [`crate::FastZero::Done`] is set.
        fast: bool,
        /// Force unit access.
        fua: bool,
    },
    /// Tell what is allocated.
    BlockStatus {
        /// One descriptor is enough.
        one: bool,
    },
}

impl Command {
    /// The command's number and flags on the wire.
    fn encode(self) -> (u16, u16) {
        let when = |condition: bool, bit: u16| if condition { bit } else { 0 };
        match self {
            Command::Read { unfragmented } => (command::READ, when(unfragmented, flag::DF)),
            Command::Write { fua } => (command::WRITE, when(fua, flag::FUA)),
            Command::Flush => (command::FLUSH, 0),
            Command::Trim { fua } => (command::TRIM, when(fua, flag::FUA)),
            Command::Cache => (command::CACHE, 0),
            Command::WriteZeroes { no_hole, fast, fua } => {
                let flags = when(no_hole, flag::NO_HOLE) | when(fast, flag::FAST_ZERO) | when(fua, flag::FUA);
                (command::WRITE_ZEROES, flags)
            }
            Command::BlockStatus { one } => (command::BLOCK_STATUS, when(one, flag::REQ_ONE)),
        }
    }
}

/// A legal request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's name for it, given back in the reply.
    pub cookie: u64,
    /// What.
    pub command: Command,
    /// Where. Empty at 0 for a flush.
    pub range: ByteRange,
}

impl Request {
    /// How a trim or write-zeroes is put to the engine; `None` for other commands.
    pub fn zero_mode(&self) -> Option<ZeroMode> {
        match self.command {
            Command::Trim { .. } => Some(ZeroMode::Discard),
            Command::WriteZeroes { no_hole: true, .. } => Some(ZeroMode::ZeroNoUnmap),
            Command::WriteZeroes { no_hole: false, .. } => Some(ZeroMode::ZeroMayUnmap),
            _ => None,
        }
    }

    /// Whether the client wants it stable before the answer.
    pub fn fua(&self) -> bool {
        match self.command {
            Command::Write { fua } | Command::Trim { fua } | Command::WriteZeroes { fua, .. } => fua,
            _ => false,
        }
    }

    /// The request's bytes, as a client sends them.
    pub fn encode(&self) -> [u8; REQUEST_LENGTH] {
        let (number, flags) = self.command.encode();
        let mut bytes = [0; REQUEST_LENGTH];
        bytes[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.range.offset.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.range.length.to_be_bytes());
        bytes
    }

    /// The pieces the engine takes: reads and writes of at most `REQUEST_LENGTH_MAX`, zeroes and trims of at most
    /// `ZERO_LENGTH_MAX`. Every other command is one piece.
    pub fn pieces(&self) -> Pieces {
        let longest = match self.command {
            Command::Read { .. } | Command::Write { .. } => REQUEST_LENGTH_MAX,
            Command::Trim { .. } | Command::WriteZeroes { .. } => ZERO_LENGTH_MAX,
            Command::Flush | Command::Cache | Command::BlockStatus { .. } => u32::MAX,
        };
        Pieces { rest: Some(self.range), longest }
    }
}

/// The pieces of a request in order of offset, made as they are asked for: even 4 GiB of trim hold no memory, and the
/// shell submits as many at a time as it has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pieces {
    rest: Option<ByteRange>,
    longest: u32,
}

impl Iterator for Pieces {
    type Item = ByteRange;

    fn next(&mut self) -> Option<ByteRange> {
        let rest = self.rest?;
        let piece = ByteRange::new(rest.offset, rest.length.min(self.longest));
        let left = rest.length - piece.length;
        self.rest = (left > 0).then(|| ByteRange::new(piece.end(), left));
        Some(piece)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.rest.map_or(0, |rest| rest.length.div_ceil(self.longest).max(1) as usize);
        (count, Some(count))
    }
}

impl ExactSizeIterator for Pieces {}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(command: Command) -> Request {
        Request { cookie: 1, command, range: ByteRange::new(0, 4096) }
    }

    #[test]
    fn zeroes_are_put_to_the_engine_as_the_client_wants_them() {
        let zeroes = |no_hole| Command::WriteZeroes { no_hole, fast: false, fua: false };
        assert_eq!(request(Command::Trim { fua: false }).zero_mode(), Some(ZeroMode::Discard));
        assert_eq!(request(zeroes(false)).zero_mode(), Some(ZeroMode::ZeroMayUnmap));
        assert_eq!(request(zeroes(true)).zero_mode(), Some(ZeroMode::ZeroNoUnmap));
        assert_eq!(request(Command::Write { fua: false }).zero_mode(), None);
    }

    #[test]
    fn fua_is_what_the_client_said() {
        for fua in [false, true] {
            let zeroes = Command::WriteZeroes { no_hole: false, fast: false, fua };
            for command in [Command::Write { fua }, Command::Trim { fua }, zeroes] {
                assert_eq!(request(command).fua(), fua);
            }
        }
        assert!(!request(Command::Read { unfragmented: true }).fua() && !request(Command::Flush).fua());
    }
}
