//! Reading a disk beside its operations on the ring: for those who may wait, on a thread of their own.

use crate::open::Disk;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rep_types::ByteRange;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// The longest range read at once, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// A second handle on an open disk, and memory aligned for direct I/O. The disk stays locked while it lives.
pub struct DiskReader {
    file: File,
    memory: NonNull<libc::c_void>,
}

// SAFETY: the mapping belongs to this value alone and isn't bound to a thread.
unsafe impl Send for DiskReader {}

impl DiskReader {
    /// A reader of a disk.
    pub fn new(disk: &Disk) -> io::Result<Self> {
        let file = File::from(disk.as_fd().try_clone_to_owned()?);
        let length = NonZeroUsize::new(BUFFER_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let memory = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) }?;
        Ok(DiskReader { file, memory })
    }

    /// Reads a range of at most 1 MiB; waits for the disk.
    pub fn read(&mut self, range: ByteRange) -> io::Result<&[u8]> {
        let length = range.length as usize;
        if length > BUFFER_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the mapping is our own and `length` within it; `&mut self` keeps others away.
        let memory = unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().cast::<u8>(), length) };
        self.file.read_exact_at(memory, range.offset)?;
        Ok(memory)
    }
}

impl Drop for DiskReader {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing uses it any more.
        let _ = unsafe { munmap(self.memory, BUFFER_BYTES) };
    }
}
