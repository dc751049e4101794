//! Memory aligned for direct I/O, for those who wait for their own reads and writes.

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// A mapping of its own: whole pages, zeroed at first.
pub(crate) struct AlignedMemory {
    start: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone and isn't bound to a thread.
unsafe impl Send for AlignedMemory {}

impl AlignedMemory {
    /// `length` bytes, which must not be 0.
    pub fn new(length: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(None, size, protection, MapFlags::MAP_PRIVATE) }?;
        Ok(AlignedMemory { start, length })
    }

    /// Where it begins, for operations that take a pointer.
    pub fn start(&mut self) -> *mut u8 {
        self.start.as_ptr().cast()
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is our own and as long as that; `&mut self` keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.length) }
    }
}

impl Drop for AlignedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing uses it any more.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}
