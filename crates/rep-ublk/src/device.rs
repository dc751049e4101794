//! A device's requests: descriptors in memory shared with the driver, fetches and commits as entries for a ring, and
//! the requests' data.
//!
//! Invariants: the descriptors stay mapped as long as the device is; a descriptor is read only between the completion of
//! its fetch and its commit, when the driver leaves it alone.

use crate::abi::{self, COMMIT_AND_FETCH_REQ, FETCH_REQ, IoCommand, IoDescriptor};
use crate::error::UblkError;
use io_uring::{opcode, squeue::Entry, types};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use zerocopy::IntoBytes;

/// Names a request of a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tag {
    /// Which queue.
    pub queue: u16,
    /// Which request of the queue.
    pub tag: u16,
}

/// A queue's descriptors.
struct Descriptors {
    start: NonNull<IoDescriptor>,
    bytes: usize,
}

/// A device, seen from its server.
pub struct Device {
    id: u32,
    file: File,
    depth: u16,
    queues: Vec<Descriptors>,
}

// SAFETY: the mapping is the device's own and may be read from any thread that has the device.
unsafe impl Send for Device {}

impl Device {
    /// Opens the character device. Only one process at a time can.
    pub fn open(id: u32, queues: u16, depth: u16) -> Result<Device, UblkError> {
        let path = format!("/dev/ublkc{id}");
        let node = |source| UblkError::Node { path: path.clone(), source };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(node)?;
        let mut device = Device { id, file, depth, queues: Vec::with_capacity(usize::from(queues)) };
        for queue in 0..queues {
            let descriptors = map(&device.file, queue, depth).map_err(node)?;
            device.queues.push(descriptors);
        }
        Ok(device)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Every request it can have.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + use<> {
        let depth = self.depth;
        (0..self.queues.len() as u16).flat_map(move |queue| (0..depth).map(move |tag| Tag { queue, tag }))
    }

    /// A request's place among all of them.
    pub fn index(&self, tag: Tag) -> usize {
        usize::from(tag.queue) * usize::from(self.depth) + usize::from(tag.tag)
    }

    /// The entry that waits for the first request of a tag.
    pub fn fetch(&self, tag: Tag) -> Entry {
        self.entry(FETCH_REQ, tag, 0)
    }

    /// The entry that answers a request (bytes, or a negative `errno`) and waits for the next of its tag.
    pub fn commit(&self, tag: Tag, result: i32) -> Entry {
        self.entry(COMMIT_AND_FETCH_REQ, tag, result)
    }

    fn entry(&self, operation: u32, tag: Tag, result: i32) -> Entry {
        let command = IoCommand { queue_id: tag.queue, tag: tag.tag, result, address: 0 };
        let mut bytes = [0; 16];
        bytes.copy_from_slice(command.as_bytes());
        opcode::UringCmd16::new(types::Fd(self.file.as_raw_fd()), operation).cmd(bytes).build()
    }

    /// A request that was fetched.
    pub fn descriptor(&self, tag: Tag) -> IoDescriptor {
        let descriptors = &self.queues[usize::from(tag.queue)];
        assert!(tag.tag < self.depth, "no such request: {tag:?}");
        // SAFETY: inside the mapping, by the assertion; aligned, since the mapping is; the driver writes it only before
        // the fetch completes, and volatile says that it isn't ours alone.
        unsafe { descriptors.start.add(usize::from(tag.tag)).read_volatile() }
    }

    /// Copies a write's data out of the request. Never waits.
    pub fn take_data(&self, tag: Tag, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, abi::data_offset(tag.queue, tag.tag))
    }

    /// Copies a read's data into the request. Never waits.
    pub fn give_data(&self, tag: Tag, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, abi::data_offset(tag.queue, tag.tag))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for descriptors in &self.queues {
            // SAFETY: mapped by `map`, and nobody has a reference into it.
            let _ = unsafe { munmap(descriptors.start.cast(), descriptors.bytes) };
        }
    }
}

fn map(file: &File, queue: u16, depth: u16) -> io::Result<Descriptors> {
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4096);
    let bytes = (usize::from(depth) * size_of::<IoDescriptor>()).next_multiple_of(page_bytes);
    let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    let offset = abi::descriptors_offset(queue, page_bytes) as i64;
    // SAFETY: a new mapping at an address of the kernel's choice conflicts with nothing.
    let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, offset) }?;
    Ok(Descriptors { start: start.cast(), bytes })
}
