//! Memory of a daemon that serves the kernel's own disks (R36): to free memory the kernel may have to write pages, and
//! those writes come to this daemon. So none of its threads may wait for memory to be freed that way, nor for a page of its own to be
//! read back. A data thread answers the writes; but the control thread is waited for, too: while client I/O is suspended it
//! runs the fence-peer handler, and it promotes a node whose device was left behind.

use crate::shortage;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use tracing::info;

/// Linux 5.6; the C library's headers are older in places.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// What guards a daemon's devices from standing still when memory runs out.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Guard {
    /// Its memory stays, and it never waits for its own device to get some.
    pub locked: bool,
    /// The kernel's reserve is open to it.
    pub reserve: bool,
}

/// Marks the calling thread as one that writes back for the kernel, keeps the daemon's memory from being paged out,
/// as far as it is touched, and has data threads run in real time while memory is short. Without the privileges for
/// that, devices work all the same, save under memory pressure.
pub(crate) fn guard() -> Guard {
    // Each helps without the others: kernels before 5.6 know no flushers.
    let (flusher, locked, reserve) = (flusher(), lock(), shortage::watch());
    let all = [
        ("be known as one that writes back", flusher),
        ("lock its memory", locked),
        ("run in real time while memory is short", reserve),
    ];
    for (what, error) in all.iter().filter_map(|(what, result)| Some((what, result.err()?))) {
        info!("memory pressure could stall the device: the daemon may not {what} ({error})");
    }
    Guard { locked: flusher.is_ok() && locked.is_ok(), reserve: reserve.is_ok() }
}

/// Marks the calling thread as one that writes back for the kernel: memory it asks for is never freed by writing to a disk. Threads and
/// programs it starts from then on are marked, too. Takes `CAP_SYS_RESOURCE` and Linux 5.6.
pub fn flusher() -> Result<(), Errno> {
    // SAFETY: takes numbers alone.
    Errno::result(unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) }).map(drop)
}

fn lock() -> Result<(), Errno> {
    mlockall(
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a task's flags (`/proc/PID/stat`): it asks for memory without I/O.
    const PF_MEMALLOC_NOIO: u64 = 0x0008_0000;

    fn is_flusher(stat: &str) -> bool {
        // The name before them may hold blanks.
        let flags =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)).and_then(|word| word.parse().ok());
        flags.is_some_and(|flags: u64| flags & PF_MEMALLOC_NOIO != 0)
    }

    fn of_this_thread() -> bool {
        is_flusher(&std::fs::read_to_string("/proc/thread-self/stat").expect("the task's state"))
    }

    #[test]
    fn what_a_flusher_starts_is_one() {
        let marked = std::thread::spawn(|| {
            assert!(!of_this_thread(), "the tests' own threads aren't");
            if flusher() == Err(Errno::EPERM) {
                eprintln!("\n*** NOT RUN: this needs CAP_SYS_RESOURCE ***\n");
                return None;
            }
            let child = std::process::Command::new("cat").arg("/proc/self/stat").output().expect("a child");
            let thread = std::thread::spawn(of_this_thread).join().expect("a thread");
            Some((of_this_thread(), thread, is_flusher(&String::from_utf8_lossy(&child.stdout))))
        });
        let marked = marked.join().expect("the thread");
        assert!(marked.is_none_or(|marked| marked == (true, true, true)), "{marked:?}");
        assert!(!of_this_thread(), "what started it is as it was");
    }
}
