//! A disk for those who may wait: reading metadata at attach, writing it at `create-md`. Never on the data thread.

use crate::aligned::AlignedMemory;
use crate::open::Disk;
use crate::operation::{Buffer, Kind, Operation};
use rep_meta::{MetaIoError, MetaStorage};
use rep_types::{ByteRange, IoError};
use std::io;

const BUFFER_BYTES: usize = 1 << 20;

/// A disk, read and written by calls that wait.
pub struct BlockingStorage<'a> {
    disk: &'a mut Disk,
    /// The callers' memory needn't be aligned.
    memory: AlignedMemory,
}

impl<'a> BlockingStorage<'a> {
    /// Borrows a disk.
    pub fn new(disk: &'a mut Disk) -> io::Result<Self> {
        let memory = AlignedMemory::new(BUFFER_BYTES)?;
        Ok(BlockingStorage { disk, memory })
    }

    fn transfer(&mut self, kind: Kind, offset: u64, length: usize) -> Result<(), MetaIoError> {
        let buffer = Buffer { start: self.memory.start(), registered: None };
        let range = ByteRange::new(offset, length as u32);
        let operation = Operation::new(self.disk, kind, range, Some(buffer));
        assert!(length <= BUFFER_BYTES);
        // SAFETY: the buffer is our own, at least `length` long, and used by nobody else.
        unsafe { operation.run(self.disk) }.map_err(MetaIoError)
    }
}

impl MetaStorage for BlockingStorage<'_> {
    fn size_bytes(&self) -> u64 {
        self.disk.facts.size_bytes
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        for (n, part) in buf.chunks_mut(BUFFER_BYTES).enumerate() {
            self.transfer(Kind::Read, offset + (n * BUFFER_BYTES) as u64, part.len())?;
            part.copy_from_slice(&self.memory.bytes()[..part.len()]);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
        for (n, part) in bytes.chunks(BUFFER_BYTES).enumerate() {
            self.memory.bytes()[..part.len()].copy_from_slice(part);
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
