//! Memory of a daemon that serves the kernel's own disks (R36): to free memory the kernel may have to write pages, and
//! those writes come to this thread. So it must never wait for memory to be freed, nor for a page of its own to be read
//! back.

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use tracing::info;

/// Linux 5.6; the C library's headers are older in places.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Marks the calling thread as one that writes back for the kernel, and keeps the daemon's memory from being paged out,
/// as far as it is touched. Without the privileges for that, devices work all the same, save under memory pressure: then
/// it returns false.
pub(super) fn guard() -> bool {
    // Each helps without the other: kernels before 5.6 know no flushers.
    let both = [("be known as one that writes back", flusher()), ("lock its memory", lock())];
    for (what, error) in both.iter().filter_map(|(what, result)| Some((what, result.err()?))) {
        info!("memory pressure could stall the device: the daemon may not {what} ({error})");
    }
    both.iter().all(|(_, result)| result.is_ok())
}

fn flusher() -> Result<(), Errno> {
    // SAFETY: takes numbers alone.
    Errno::result(unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) }).map(drop)
}

fn lock() -> Result<(), Errno> {
    mlockall(
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT),
    )
}
