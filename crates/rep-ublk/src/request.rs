//! A descriptor becomes a request: checked once, then trusted.

use crate::abi::{FLAG_FUA, FLAG_NO_UNMAP, IoDescriptor, OP_DISCARD, OP_FLUSH, OP_READ, OP_WRITE, OP_WRITE_ZEROES};
use crate::limits::{IO_BYTES_MAX, ZERO_BYTES_MAX};
use nix::libc;
use rep_types::{ByteRange, IoError, SECTOR_SIZE, ZeroMode};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Read.
    Read,
    /// Write.
    Write {
        /// Stable before it is answered.
        fua: bool,
    },
    /// Discard or write zeroes.
    Zero {
        /// How.
        mode: ZeroMode,
        /// Stable before it is answered.
        fua: bool,
    },
    /// Flush.
    Flush,
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What.
    pub operation: Operation,
    /// Where; empty for a flush.
    pub range: ByteRange,
}

/// What is wrong with a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestFault {
    /// An operation that was never offered.
    #[error("operation {0} isn't offered")]
    Operation(u8),
    /// Empty, too long, or beyond the end.
    #[error("{sectors} sectors from {start} on a volume of {size_bytes} bytes")]
    Range {
        /// First sector.
        start: u64,
        /// Length.
        sectors: u32,
        /// The volume's size.
        size_bytes: u64,
    },
}

impl RequestFault {
    /// What the block layer is told.
    pub fn errno(self) -> i32 {
        match self {
            RequestFault::Operation(_) => libc::EOPNOTSUPP,
            RequestFault::Range { .. } => libc::EIO,
        }
    }
}

impl Request {
    /// Reads a descriptor.
    pub fn parse(descriptor: &IoDescriptor, size_bytes: u64) -> Result<Request, RequestFault> {
        let fua = descriptor.op_flags & FLAG_FUA != 0;
        let keep = descriptor.op_flags & FLAG_NO_UNMAP != 0;
        let (operation, length_max) = match descriptor.op_flags & 0xff {
            OP_READ => (Operation::Read, IO_BYTES_MAX),
            OP_WRITE => (Operation::Write { fua }, IO_BYTES_MAX),
            OP_FLUSH => return Ok(Request { operation: Operation::Flush, range: ByteRange::new(0, 0) }),
            OP_DISCARD => (Operation::Zero { mode: ZeroMode::Discard, fua }, ZERO_BYTES_MAX),
            OP_WRITE_ZEROES if keep => (Operation::Zero { mode: ZeroMode::ZeroNoUnmap, fua }, ZERO_BYTES_MAX),
            OP_WRITE_ZEROES => (Operation::Zero { mode: ZeroMode::ZeroMayUnmap, fua }, ZERO_BYTES_MAX),
            other => return Err(RequestFault::Operation(other as u8)),
        };
        let range = range(descriptor).filter(|range| range.length <= length_max && range.is_legal(size_bytes));
        range.map(|range| Request { operation, range }).ok_or(RequestFault::Range {
            start: descriptor.start_sector,
            sectors: descriptor.sectors,
            size_bytes,
        })
    }

    /// What a success is answered with: the bytes done.
    pub fn done(&self) -> i32 {
        // At most `ZERO_BYTES_MAX`, by `parse`.
        self.range.length as i32
    }
}

fn range(descriptor: &IoDescriptor) -> Option<ByteRange> {
    let offset = descriptor.start_sector.checked_mul(SECTOR_SIZE)?;
    let length = descriptor.sectors.checked_mul(SECTOR_SIZE as u32)?;
    Some(ByteRange { offset, length })
}

/// The `errno` of a failure.
pub fn errno_of(error: IoError) -> i32 {
    match error {
        IoError::Io | IoError::Invalid | IoError::NotPrimary => libc::EIO,
        IoError::NoSpace => libc::ENOSPC,
        IoError::Unsupported => libc::EOPNOTSUPP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 1 << 30;

    fn descriptor(op_flags: u32, start_sector: u64, sectors: u32) -> IoDescriptor {
        IoDescriptor { op_flags, sectors, start_sector, address: 0 }
    }

    #[test]
    fn every_operation_that_is_offered() {
        use Operation::*;
        let zero = |mode, fua| Zero { mode, fua };
        let table = [
            (OP_READ, Read),
            (OP_WRITE, Write { fua: false }),
            (OP_WRITE | FLAG_FUA, Write { fua: true }),
            (OP_WRITE | 1 << 11 | 1 << 16, Write { fua: false }),
            (OP_DISCARD, zero(ZeroMode::Discard, false)),
            (OP_WRITE_ZEROES, zero(ZeroMode::ZeroMayUnmap, false)),
            (OP_WRITE_ZEROES | FLAG_NO_UNMAP | FLAG_FUA, zero(ZeroMode::ZeroNoUnmap, true)),
        ];
        for (op_flags, operation) in table {
            let request = Request::parse(&descriptor(op_flags, 8, 16), SIZE);
            assert_eq!(request, Ok(Request { operation, range: ByteRange::new(4096, 8192) }));
            assert_eq!(request.map(|request| request.done()), Ok(8192));
        }
        let flush = Request::parse(&descriptor(OP_FLUSH, 0, 0), SIZE).expect("a flush");
        assert_eq!((flush.operation, flush.done()), (Flush, 0));
    }

    #[test]
    fn what_was_never_offered_is_refused() {
        for op in [4, 6, 10, 18, 255] {
            assert_eq!(Request::parse(&descriptor(op, 0, 8), SIZE), Err(RequestFault::Operation(op as u8)));
        }
        let sectors = SIZE / SECTOR_SIZE;
        for (start, count) in [(sectors, 1), (sectors - 1, 2), (0, 0), (u64::MAX, 8), (0, u32::MAX), (0, 2049)] {
            let refused = Request::parse(&descriptor(OP_WRITE, start, count), SIZE);
            assert!(matches!(refused, Err(RequestFault::Range { .. })), "{start} {count}");
        }
        assert!(Request::parse(&descriptor(OP_DISCARD, 0, 8192), SIZE).is_ok());
        assert!(Request::parse(&descriptor(OP_DISCARD, 0, 8193), SIZE).is_err());
    }

    proptest! {
        #[test]
        fn whatever_stands_there_a_request_is_legal(op_flags: u32, sectors: u32, start_sector: u64, size in 0..=u64::MAX >> 9) {
            let size_bytes = size << 9;
            if let Ok(request) = Request::parse(&descriptor(op_flags, start_sector, sectors), size_bytes)
                && request.operation != Operation::Flush
            {
                prop_assert!(request.range.is_legal(size_bytes));
                prop_assert!(request.range.length <= ZERO_BYTES_MAX && request.done() > 0);
            }
        }
    }
}
