//! One operation on a disk, until it is whole or has failed.
//!
//! ```text
//!  write, read   ── short? ──► the rest ── all ──► (flush if it must be stable and the disk's writes alone aren't) ──► done
//!  zero          ── punch ─► refused? ─► zero range ─► refused? ─► write zeroes, piece by piece ──► (flush) ──► done
//! ```
//! Which ways of zeroing a disk refuses is remembered. Whatever the way, the bytes read as zeroes afterwards (R33).

use crate::error::io_error_of;
use crate::open::{Disk, ZeroingRefused};
use crate::zero::{ZEROES_LENGTH, zeroes};
use nix::libc;
use rep_ring::{Entry, EntryFlags, opcode, types};
use rep_types::{ByteRange, IoError, ZeroMode};

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Write the buffer.
    Write {
        /// Stable at the end.
        durable: bool,
    },
    /// Fill the buffer.
    Read,
    /// Make the range zeroes.
    Zero {
        /// How.
        mode: ZeroMode,
        /// Stable at the end.
        durable: bool,
    },
    /// Make everything that has ended before stable.
    Flush,
}

/// Memory of an operation: at least as long as its range, aligned for direct I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Where it starts.
    pub start: *mut u8,
    /// The registered buffer it lies in.
    pub registered: Option<u16>,
}

/// How far an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Not whole: submit [`Operation::entry`] again.
    Again,
    /// Ended.
    Done(Result<(), IoError>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Transfer,
    Punch,
    ZeroRange,
    WriteZeroes,
    Sync,
}

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    kind: Kind,
    range: ByteRange,
    buffer: Option<Buffer>,
    done: u32,
    step: Step,
}

impl Operation {
    /// An operation on `range`; a write or read needs a buffer. For a flush the range says nothing.
    pub fn new(disk: &Disk, kind: Kind, range: ByteRange, buffer: Option<Buffer>) -> Operation {
        assert_eq!(matches!(kind, Kind::Write { .. } | Kind::Read), buffer.is_some(), "a buffer where it belongs");
        let step = match kind {
            Kind::Write { .. } | Kind::Read => Step::Transfer,
            Kind::Zero { mode: ZeroMode::ZeroNoUnmap, .. } => first_zeroing(disk.refused, false),
            Kind::Zero { .. } => first_zeroing(disk.refused, true),
            Kind::Flush => Step::Sync,
        };
        Operation { kind, range, buffer, done: 0, step }
    }

    fn durable(&self) -> bool {
        matches!(self.kind, Kind::Write { durable: true } | Kind::Zero { durable: true, .. })
    }

    fn offset(&self) -> u64 {
        self.range.offset + u64::from(self.done)
    }

    fn rest(&self) -> u32 {
        self.range.length - self.done
    }

    /// The bytes of the next transfer.
    fn memory(&self) -> (*mut u8, u32) {
        match self.buffer {
            Some(buffer) => (buffer.start.wrapping_add(self.done as usize), self.rest()),
            None => {
                let zeroes = zeroes().unwrap_or(std::ptr::null());
                (zeroes.cast_mut(), self.rest().min(ZEROES_LENGTH as u32))
            }
        }
    }

    fn write_flags(&self, disk: &Disk) -> i32 {
        if self.durable() && disk.facts.durable_writes { libc::RWF_DSYNC } else { 0 }
    }

    /// The next entry for the ring. The disk and the buffer must stay until its completion has been seen.
    pub fn entry(&self, disk: &Disk) -> Entry {
        let entry = self.plain_entry(disk);
        if disk.facts.holds_submitter { entry.flags(EntryFlags::ASYNC) } else { entry }
    }

    fn plain_entry(&self, disk: &Disk) -> Entry {
        let fd = types::Fd(disk.raw_fd());
        let (memory, length) = self.memory();
        let registered = self.buffer.and_then(|buffer| buffer.registered);
        let fallocate =
            |mode: i32| opcode::Fallocate::new(fd, u64::from(self.rest())).offset(self.offset()).mode(mode).build();
        match (self.step, self.kind, registered) {
            (Step::Transfer, Kind::Read, Some(index)) => {
                opcode::ReadFixed::new(fd, memory, length, index).offset(self.offset()).build()
            }
            (Step::Transfer, Kind::Read, None) => opcode::Read::new(fd, memory, length).offset(self.offset()).build(),
            (Step::Transfer, _, Some(index)) => opcode::WriteFixed::new(fd, memory, length, index)
                .offset(self.offset())
                .rw_flags(self.write_flags(disk))
                .build(),
            (Step::Transfer | Step::WriteZeroes, _, _) => {
                opcode::Write::new(fd, memory, length).offset(self.offset()).rw_flags(self.write_flags(disk)).build()
            }
            (Step::Punch, _, _) => fallocate(PUNCH),
            (Step::ZeroRange, _, _) => fallocate(ZERO_RANGE),
            (Step::Sync, _, _) => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        }
    }

    /// Takes the result of an entry: a count, or a negative `errno`.
    pub fn complete(&mut self, disk: &mut Disk, result: i32) -> Progress {
        match self.step {
            _ if matches!(-result, libc::EINTR | libc::EAGAIN) && self.step != Step::Sync => Progress::Again,
            Step::Transfer | Step::WriteZeroes => self.transferred(disk, result),
            Step::Punch | Step::ZeroRange => self.zeroed(disk, result),
            Step::Sync => Progress::Done(if result < 0 { Err(io_error_of(-result)) } else { Ok(()) }),
        }
    }

    fn transferred(&mut self, disk: &Disk, result: i32) -> Progress {
        match u32::try_from(result) {
            Err(_) => Progress::Done(Err(io_error_of(-result))),
            // The disk ends before its end: it was cut off while open.
            Ok(0) => Progress::Done(Err(IoError::Io)),
            Ok(count) => {
                self.done += count.min(self.rest());
                if self.rest() > 0 { Progress::Again } else { self.whole(!disk.facts.durable_writes) }
            }
        }
    }

    fn zeroed(&mut self, disk: &mut Disk, result: i32) -> Progress {
        if result >= 0 {
            return self.whole(true);
        }
        if !matches!(-result, libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENODEV) {
            return Progress::Done(Err(io_error_of(-result)));
        }
        let punching = self.step == Step::Punch;
        *(if punching { &mut disk.refused.punch } else { &mut disk.refused.zero_range }) = true;
        self.step = first_zeroing(disk.refused, false);
        if self.step == Step::WriteZeroes && zeroes().is_none() {
            return Progress::Done(Err(IoError::Io));
        }
        Progress::Again
    }

    /// Every byte was taken; `flush`: that alone doesn't make them stable.
    fn whole(&mut self, flush: bool) -> Progress {
        if !self.durable() || !flush {
            return Progress::Done(Ok(()));
        }
        self.step = Step::Sync;
        Progress::Again
    }

    /// Does the whole operation at once, by plain system calls. For disks in memory, and for those who may wait.
    ///
    /// # Safety
    /// The buffer must be valid for the whole range and not otherwise in use.
    pub unsafe fn run(mut self, disk: &mut Disk) -> Result<(), IoError> {
        loop {
            // SAFETY: handed on from the caller.
            let result = unsafe { self.call(disk) };
            let result = if result < 0 { -nix::errno::Errno::last_raw() } else { result };
            if let Progress::Done(result) = self.complete(disk, result) {
                return result;
            }
        }
    }

    /// # Safety
    /// As for `run`.
    unsafe fn call(&self, disk: &Disk) -> i32 {
        let fd = disk.raw_fd();
        let (memory, length) = self.memory();
        let (offset, rest) = (self.offset() as i64, i64::from(self.rest()));
        let vector = libc::iovec { iov_base: memory.cast(), iov_len: length as usize };
        // SAFETY: the memory is valid for `length` bytes, by the caller's promise or because it is our own zeroes.
        unsafe {
            match (self.step, self.kind) {
                (Step::Transfer, Kind::Read) => libc::preadv2(fd, &raw const vector, 1, offset, 0) as i32,
                (Step::Transfer | Step::WriteZeroes, _) => {
                    libc::pwritev2(fd, &raw const vector, 1, offset, self.write_flags(disk)) as i32
                }
                (Step::Punch, _) => libc::fallocate(fd, PUNCH, offset, rest),
                (Step::ZeroRange, _) => libc::fallocate(fd, ZERO_RANGE, offset, rest),
                (Step::Sync, _) => libc::fdatasync(fd),
            }
        }
    }
}

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

fn first_zeroing(refused: ZeroingRefused, may_unmap: bool) -> Step {
    match refused {
        ZeroingRefused { punch: false, .. } if may_unmap => Step::Punch,
        ZeroingRefused { zero_range: false, .. } => Step::ZeroRange,
        _ => Step::WriteZeroes,
    }
}
