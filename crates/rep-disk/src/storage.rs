//! A disk for those who may wait: reading metadata at attach, writing it at `create-md`. Never on the data thread.

use crate::open::Disk;
use crate::operation::{Buffer, Kind, Operation};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rep_meta::{MetaIoError, MetaStorage};
use rep_types::{ByteRange, IoError};
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

const BUFFER_BYTES: usize = 1 << 20;

/// A disk, read and written by calls that wait.
pub struct BlockingStorage<'a> {
    disk: &'a mut Disk,
    /// Aligned for direct I/O, which the callers' memory needn't be.
    memory: NonNull<libc::c_void>,
}

impl<'a> BlockingStorage<'a> {
    /// Borrows a disk.
    pub fn new(disk: &'a mut Disk) -> io::Result<Self> {
        let length = NonZeroUsize::new(BUFFER_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let memory = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) }?;
        Ok(BlockingStorage { disk, memory })
    }

    fn transfer(&mut self, kind: Kind, offset: u64, length: usize) -> Result<(), MetaIoError> {
        let buffer = Buffer { start: self.memory.as_ptr().cast(), registered: None };
        let range = ByteRange::new(offset, length as u32);
        let operation = Operation::new(self.disk, kind, range, Some(buffer));
        assert!(length <= BUFFER_BYTES);
        // SAFETY: the buffer is our own, at least `length` long, and used by nobody else.
        unsafe { operation.run(self.disk) }.map_err(MetaIoError)
    }

    fn memory(&mut self, length: usize) -> &mut [u8] {
        // SAFETY: the mapping is our own and `length` within it; `&mut self` keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().cast(), length.min(BUFFER_BYTES)) }
    }
}

impl MetaStorage for BlockingStorage<'_> {
    fn size_bytes(&self) -> u64 {
        self.disk.facts.size_bytes
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        for (n, part) in buf.chunks_mut(BUFFER_BYTES).enumerate() {
            self.transfer(Kind::Read, offset + (n * BUFFER_BYTES) as u64, part.len())?;
            part.copy_from_slice(self.memory(part.len()));
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
        for (n, part) in bytes.chunks(BUFFER_BYTES).enumerate() {
            self.memory(part.len()).copy_from_slice(part);
            self.transfer(Kind::Write { durable: false }, offset + (n * BUFFER_BYTES) as u64, part.len())?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MetaIoError> {
        let operation = Operation::new(self.disk, Kind::Flush, ByteRange::new(0, 0), None);
        // SAFETY: a flush has no buffer.
        unsafe { operation.run(self.disk) }.map_err(|_| MetaIoError(IoError::Io))
    }
}

impl Drop for BlockingStorage<'_> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no call that uses it is under way.
        let _ = unsafe { munmap(self.memory, BUFFER_BYTES) };
    }
}
