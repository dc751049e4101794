//! The ring: entries are gathered during a turn of the loop and handed over with the wait, in one system call.
//!
//! Set up for a single thread that submits and reaps (`SINGLE_ISSUER`, `DEFER_TASKRUN`: completions are only worked on
//! while it waits), with plainer set-ups for kernels that know less.

use crate::error::RingError;
use crate::slab::Key;
use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode};
use nix::libc;
use std::io;
use std::time::Duration;

/// A completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The operation.
    pub key: Key,
    /// What the system call of the same name returns, a negative `errno` for an error.
    pub result: i32,
    /// Whether a socket that was received from has more.
    pub more_in_socket: bool,
}

impl Completion {
    /// The result as the standard library has it.
    pub fn as_io(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// The ring. Must be used by the thread that made it.
pub struct Ring {
    uring: IoUring,
}

/// The flag of `io_uring_enter` by which completions that wait for the thread to take part in them are worked on.
const IORING_ENTER_GETEVENTS: u32 = 1;

/// Every operation the data path uses.
const OPERATIONS: [u8; 13] = [
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::ReadFixed::CODE,
    opcode::WriteFixed::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
    opcode::Accept::CODE,
    opcode::Connect::CODE,
    opcode::Recv::CODE,
    opcode::RecvMsg::CODE,
    opcode::SendMsg::CODE,
    opcode::AsyncCancel::CODE,
    opcode::Timeout::CODE,
];

impl Ring {
    /// A ring for about `entries` operations a turn.
    pub fn new(entries: u32) -> Result<Ring, RingError> {
        let uring = build(entries).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => RingError::Refused(error),
            _ => RingError::System(error),
        })?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe).map_err(RingError::System)?;
        let has_all = OPERATIONS.iter().all(|code| probe.is_supported(*code));
        if !has_all || !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
            return Err(RingError::TooOld);
        }
        Ok(Ring { uring })
    }

    /// Adds an entry, to be handed over at the next turn, and names its completion.
    ///
    /// # Safety
    /// All memory and file descriptors the entry names must stay valid, and the memory in place and not otherwise
    /// used in a way that conflicts, until the completion has been seen.
    pub unsafe fn push(&mut self, entry: Entry, key: Key) {
        let entry = entry.user_data(key.to_bits());
        loop {
            // SAFETY: what the entry names is the caller's promise.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full: hand over what is there. An error (the kernel is short of memory) passes.
            let _ = self.uring.submit();
        }
    }

    /// Hands over what was pushed, and takes in what has been done by then, without waiting: what a disk in memory does at
    /// once has completed afterwards, in this one call.
    pub fn hand_over(&mut self) -> io::Result<()> {
        let submission = self.uring.submission();
        if submission.is_empty() && !submission.taskrun() {
            return Ok(());
        }
        let count = submission.len() as u32;
        drop(submission);
        // SAFETY: no argument is given; what the entries name is the promise of who pushed them.
        passed_over(unsafe { self.uring.submitter().enter::<libc::sigset_t>(count, 0, IORING_ENTER_GETEVENTS, None) })
    }

    /// Hands over what was pushed and waits for a completion, at most for `timeout`.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        passed_over(match timeout {
            _ if self.has_completions() && self.uring.submission().is_empty() => Ok(0),
            _ if self.has_completions() => self.uring.submit(),
            None => self.uring.submit_and_wait(1),
            Some(timeout) => {
                let span = Timespec::from(timeout);
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&span))
            }
        })
    }

    /// Whether the next turn will find a completion without waiting for it, most likely. Looks at memory only.
    pub fn has_news(&mut self) -> bool {
        self.has_completions() || self.uring.submission().taskrun()
    }

    /// Whether there is a completion to be taken.
    pub fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Takes a completion, if there is one.
    pub fn next_completion(&mut self) -> Option<Completion> {
        let entry = self.uring.completion().next()?;
        Some(Completion {
            key: Key::from_bits(entry.user_data()),
            result: entry.result(),
            more_in_socket: io_uring::cqueue::sock_nonempty(entry.flags()),
        })
    }

    /// Prepares `count` places for registered buffers. Fails where the kernel or a limit doesn't allow it.
    pub fn reserve_buffers(&self, count: u32) -> io::Result<()> {
        self.uring.submitter().register_buffers_sparse(count)
    }

    /// Registers a buffer: the kernel pins it once, not at each operation.
    ///
    /// # Safety
    /// The memory must stay mapped as long as the ring lives.
    pub unsafe fn register_buffer(&self, index: u32, start: *mut u8, length: usize) -> io::Result<()> {
        let buffer = libc::iovec { iov_base: start.cast(), iov_len: length };
        // SAFETY: the caller keeps the memory mapped.
        unsafe { self.uring.submitter().register_buffers_update(index, &[buffer], None) }?;
        Ok(())
    }
}

/// What a hand-over may say without anything being wrong.
fn passed_over(result: io::Result<usize>) -> io::Result<()> {
    match result.map_err(|error| (error.raw_os_error(), error)) {
        // EBUSY: completions overflowed and must be reaped first; EAGAIN: short of memory for the moment.
        Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
        Err((_, error)) => Err(error),
    }
}

/// Where a port puts its operations: the loop's ring, which knows the operations of all ports.
pub trait Submit<Operation> {
    /// Adds an entry for the next turn; its completion will be handed back with `operation`.
    ///
    /// # Safety
    /// As for [`Ring::push`].
    unsafe fn submit(&mut self, entry: Entry, operation: Operation) -> Key;
}

fn build(entries: u32) -> io::Result<IoUring> {
    let deferred = |builder: &mut io_uring::Builder| {
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    };
    let cooperative = |builder: &mut io_uring::Builder| {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    };
    let attempts: [&dyn Fn(&mut io_uring::Builder); 3] = [&deferred, &cooperative, &|_| ()];
    let mut last = None;
    for attempt in attempts {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_submit_all().setup_cqsize(entries * 4);
        attempt(&mut builder);
        match builder.build(entries) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = Some(error),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_turn_ends_at_its_timeout() {
        let mut ring = Ring::new(8).expect("io_uring");
        let began = Instant::now();
        ring.turn(Some(Duration::from_millis(30))).expect("turn");
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(ring.next_completion(), None);
    }

    #[test]
    fn what_is_done_at_once_has_completed_when_it_was_handed_over() {
        let mut ring = Ring::new(8).expect("io_uring");
        let key = crate::Slab::new().insert(());
        // SAFETY: a no-op names no memory.
        unsafe { ring.push(opcode::Nop::new().build(), key) };
        ring.hand_over().expect("hand over");
        assert!(ring.has_completions());
        ring.turn(None).expect("a turn with a completion at hand doesn't wait");
        assert_eq!(ring.next_completion().map(|completion| completion.key), Some(key));
        assert!(!ring.has_completions());
    }

    #[test]
    fn more_entries_than_the_queue_has_room_for_all_complete() {
        let mut ring = Ring::new(8).expect("io_uring");
        let mut slab = crate::Slab::new();
        for n in 0..100 {
            let key = slab.insert(n);
            // SAFETY: a no-op names no memory.
            unsafe { ring.push(opcode::Nop::new().build(), key) };
        }
        while !slab.is_empty() {
            ring.turn(Some(Duration::from_secs(5))).expect("turn");
            let completion = ring.next_completion().expect("a completion");
            assert_eq!(completion.as_io().expect("success"), 0);
            assert!(slab.remove(completion.key).is_some());
        }
    }
}
