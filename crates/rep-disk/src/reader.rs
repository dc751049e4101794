//! Reading a disk beside its operations on the ring: for those who may wait, on a thread of their own.

use crate::aligned::AlignedMemory;
use crate::open::Disk;
use rep_types::ByteRange;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// The longest range read at once, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// A second handle on an open disk, and memory aligned for direct I/O. The disk stays locked while it lives.
pub struct DiskReader {
    file: File,
    memory: AlignedMemory,
}

impl DiskReader {
    /// A reader of a disk.
    pub fn new(disk: &Disk) -> io::Result<Self> {
        let file = File::from(disk.as_fd().try_clone_to_owned()?);
        let memory = AlignedMemory::new(BUFFER_BYTES)?;
        Ok(DiskReader { file, memory })
    }

    /// Reads a range of at most 1 MiB; waits for the disk.
    pub fn read(&mut self, range: ByteRange) -> io::Result<&[u8]> {
        let memory = self.memory.bytes().get_mut(..range.length as usize).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.read_exact_at(memory, range.offset)?;
        Ok(memory)
    }
}
