//! Opening a disk: locked, checked, and direct wherever it can be.
//!
//! A block device is opened exclusively, which the kernel refuses while it is mounted or part of something; every disk
//! is locked with `flock`, so that two daemons never share one. A daemon that was killed leaves its lock behind as long
//! as its last operations are still under way in the kernel: hence the patience.

use crate::error::OpenError;
use crate::in_use::{is_behind_loop_device, is_mounted};
use crate::queue;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, PosixFadviseAdvice, open, posix_fadvise};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::fstatfs;
use rep_meta::{BootId, META_BLOCK_SIZE};
use rep_types::SECTOR_SIZE;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// What is known of an open disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskFacts {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Bytes of a logical block: what offsets and lengths must be multiples of.
    pub logical_block_bytes: u32,
    /// Whether its I/O is direct (R37).
    pub direct: bool,
    /// Whether it gives discarded space back and reads as zeroes there, so that a discard isn't a write of zeroes.
    pub discards: bool,
    /// Whether it may have a volatile cache, as far as can be told now: one may come later (a volume that is moved to other
    /// disks), so a write that must be stable asks for that all the same.
    pub volatile_cache: bool,
    /// Whether it is a block device.
    pub block_device: bool,
    /// Whether it lies in memory (tmpfs): its operations never wait, so they are done at once, not by the ring.
    pub in_memory: bool,
    /// Whether who hands an operation over may have to wait for one before it: file systems in a process (FUSE) or on the network take
    /// their locks whatever they are told. Their operations are handed over by the kernel's own threads.
    pub holds_submitter: bool,
    /// Whether `RWF_DSYNC` is known to make a write stable. Otherwise a flush follows each durable write.
    pub durable_writes: bool,
}

/// An open, locked disk or file.
#[derive(Debug)]
pub struct Disk {
    file: Flock<File>,
    /// What is known of it.
    pub facts: DiskFacts,
    /// Ways of zeroing that this disk has refused; not tried again.
    pub(crate) refused: ZeroingRefused,
}

/// Which ways of zeroing a disk has refused.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ZeroingRefused {
    pub punch: bool,
    pub zero_range: bool,
}

const RETRY_PAUSE: Duration = Duration::from_millis(50);

// File systems on which a write with RWF_DSYNC is known to be stable at its end.
const EXT_MAGIC: u64 = 0xEF53;
const XFS_MAGIC: u64 = 0x5846_5342;
const BTRFS_MAGIC: u64 = 0x9123_683E;
const TMPFS_MAGIC: u64 = 0x0102_1994;

impl Disk {
    /// Opens a disk of at least `needed_bytes` for reading and writing, alone. While somebody else has it, it is
    /// tried again for as long as `patience`.
    pub fn open(path: &Path, needed_bytes: u64, patience: Duration) -> Result<Disk, OpenError> {
        let deadline = Instant::now() + patience;
        loop {
            match open_once(path, needed_bytes) {
                Err(OpenError::InUse) if Instant::now() < deadline => thread::sleep(RETRY_PAUSE),
                other => return other,
            }
        }
    }

    /// The file descriptor.
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Disk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open_once(path: &Path, needed_bytes: u64) -> Result<Disk, OpenError> {
    let kind = SFlag::from_bits_truncate(nix::sys::stat::stat(path)?.st_mode & SFlag::S_IFMT.bits());
    let block_device = match kind {
        SFlag::S_IFREG => false,
        SFlag::S_IFBLK => true,
        _ => return Err(OpenError::WrongKind),
    };
    let (file, direct) = open_file(path, block_device)?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    if !block_device && is_behind_loop_device(path) {
        return Err(OpenError::InUse);
    }
    if !direct {
        forget_cached(&file);
    }
    let facts = facts_of(&file, direct, block_device)?;
    if facts.logical_block_bytes > META_BLOCK_SIZE as u32 {
        return Err(OpenError::BlocksTooLarge(facts.logical_block_bytes));
    }
    if facts.size_bytes < needed_bytes {
        return Err(OpenError::TooSmall { size_bytes: facts.size_bytes, needed_bytes });
    }
    Ok(Disk { file, facts, refused: ZeroingRefused::default() })
}

/// Has what is read next come from the disk. After a failed flush the kernel calls its pages clean and shows what was never written (I-D6).
/// Pages that are still to be written stay.
fn forget_cached(file: &File) {
    // Where it can't, the disk has no pages to forget, or was never flushed to something that lasts.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

fn open_file(path: &Path, block_device: bool) -> Result<(File, bool), OpenError> {
    let plain = OFlag::O_RDWR | OFlag::O_CLOEXEC | if block_device { OFlag::O_EXCL } else { OFlag::empty() };
    let attempt = |flags| open(path, flags, Mode::empty()).map(|fd: OwnedFd| File::from(fd));
    match attempt(plain | OFlag::O_DIRECT) {
        Ok(file) => Ok((file, true)),
        // The file system has no direct I/O.
        Err(Errno::EINVAL) => Ok((attempt(plain)?, false)),
        Err(Errno::EBUSY) => {
            let device = nix::sys::stat::stat(path)?.st_rdev;
            Err(if is_mounted(device) { OpenError::Mounted } else { OpenError::InUse })
        }
        Err(errno) => Err(errno.into()),
    }
}

mod block_ioctl {
    use nix::libc;
    nix::ioctl_read!(size_bytes, 0x12, 114, u64);
    nix::ioctl_read_bad!(logical_block, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_read_bad!(is_read_only, nix::request_code_none!(0x12, 94), libc::c_int);
}

fn facts_of(file: &File, direct: bool, block_device: bool) -> Result<DiskFacts, OpenError> {
    if block_device {
        return block_device_facts(file, direct);
    }
    let magic = fstatfs(file)?.filesystem_type().0 as u64;
    let is_local = [EXT_MAGIC, XFS_MAGIC, BTRFS_MAGIC, TMPFS_MAGIC].contains(&magic);
    Ok(DiskFacts {
        size_bytes: fstat(file)?.st_size as u64,
        logical_block_bytes: if direct { direct_alignment(file) } else { SECTOR_SIZE as u32 },
        direct,
        discards: file_discards(file),
        // In memory there is nothing that a flush would make safer.
        volatile_cache: magic != TMPFS_MAGIC,
        block_device: false,
        in_memory: magic == TMPFS_MAGIC,
        holds_submitter: !is_local,
        durable_writes: is_local,
    })
}

impl Disk {
    /// Its size as it is now; what is known of it follows.
    pub fn measure(&mut self) -> io::Result<u64> {
        let mut size_bytes = 0;
        if self.facts.block_device {
            // SAFETY: the descriptor is a block device's, and the call writes one number of the type it is given.
            unsafe { block_ioctl::size_bytes(self.file.as_raw_fd(), &mut size_bytes)? };
        } else {
            size_bytes = fstat(&*self.file)?.st_size as u64;
        }
        self.facts.size_bytes = size_bytes;
        Ok(size_bytes)
    }
}

fn block_device_facts(file: &File, direct: bool) -> Result<DiskFacts, OpenError> {
    let fd = file.as_raw_fd();
    let (mut size_bytes, mut logical_block, mut read_only) = (0u64, 0, 0);
    // SAFETY: the descriptor is a block device's, and each call writes one number of the type it is given.
    unsafe {
        block_ioctl::size_bytes(fd, &mut size_bytes)?;
        block_ioctl::logical_block(fd, &mut logical_block)?;
        block_ioctl::is_read_only(fd, &mut read_only)?;
    }
    if read_only != 0 {
        return Err(OpenError::ReadOnly);
    }
    let device = fstat(file)?.st_rdev;
    Ok(DiskFacts {
        size_bytes,
        logical_block_bytes: logical_block.max(SECTOR_SIZE as i32) as u32,
        direct,
        discards: queue::discards(device),
        volatile_cache: queue::has_volatile_cache(device),
        block_device: true,
        in_memory: false,
        holds_submitter: false,
        durable_writes: true,
    })
}

/// Whether a file's file system punches holes: asked for one behind the file's end, where there is nothing to be lost.
fn file_discards(file: &File) -> bool {
    let Ok(facts) = fstat(file) else { return false };
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open; the call takes no memory.
    unsafe { libc::fallocate(file.as_raw_fd(), mode, facts.st_size, META_BLOCK_SIZE as i64) == 0 }
}

/// What offsets of direct I/O on a file must be multiples of, where the file system tells; a sector where it doesn't.
fn direct_alignment(file: &File) -> u32 {
    const STATX_DIOALIGN: u32 = 0x2000;
    // SAFETY: all zeroes is a valid `statx`.
    let mut facts: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor itself; the kernel fills `facts`.
    let result =
        unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, STATX_DIOALIGN, &raw mut facts) };
    let told = result == 0 && facts.stx_mask & STATX_DIOALIGN != 0;
    let alignment = if told { facts.stx_dio_offset_align } else { 0 };
    if alignment.is_power_of_two() { alignment.clamp(SECTOR_SIZE as u32, 64 << 10) } else { SECTOR_SIZE as u32 }
}

/// The boot this machine is in.
pub fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map(BootId).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    use std::io::Write;
    use std::num::NonZeroUsize;

    const LENGTH: usize = 1 << 20;
    const PAGE: usize = 4096;

    /// Pages of the file that are in memory.
    fn cached_pages(file: &File) -> usize {
        let length = NonZeroUsize::new(LENGTH).expect("not zero");
        // SAFETY: a new mapping, which nobody reads through.
        let mapped =
            unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }.expect("a mapping");
        let mut pages = [0_u8; LENGTH / PAGE];
        // SAFETY: the mapping is that long, and there is a byte for each of its pages.
        let asked = unsafe { libc::mincore(mapped.as_ptr(), LENGTH, pages.as_mut_ptr()) };
        // SAFETY: the mapping made above.
        unsafe { munmap(mapped, LENGTH) }.expect("unmapped");
        assert_eq!(asked, 0, "{}", io::Error::last_os_error());
        pages.iter().filter(|page| **page & 1 != 0).count()
    }

    #[test]
    fn what_was_cached_is_read_from_the_disk_again() {
        let mut file = tempfile::tempfile_in("/var/tmp").expect("a file");
        if fstatfs(&file).expect("its file system").filesystem_type().0 as u64 == TMPFS_MAGIC {
            eprintln!("not run: /var/tmp is memory");
            return;
        }
        file.write_all(&vec![7; LENGTH]).expect("written");
        file.sync_all().expect("stable");
        assert_eq!(cached_pages(&file), LENGTH / PAGE, "all of it is cached by being written");
        forget_cached(&file);
        assert_eq!(cached_pages(&file), 0);
    }
}
