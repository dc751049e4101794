//! A listening socket whose connections are accepted through the ring, one at a time.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use nix::libc;
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A listening socket. It may only be dropped while no operation is with the kernel: [`Listener::close`] makes the
/// one that is end soon.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    busy: bool,
    closing: bool,
}

impl Listener {
    /// Takes a socket that listens already.
    pub fn new(socket: OwnedFd) -> Self {
        Listener { socket, busy: false, closing: false }
    }

    /// Whether an operation is with the kernel.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether it takes no more connections.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// The next accept, unless one is under way. The caller must submit it and hand the result to
    /// [`Listener::accepted`].
    pub fn next_accept(&mut self) -> Option<Entry> {
        if self.busy || self.closing {
            return None;
        }
        self.busy = true;
        let socket = types::Fd(self.socket.as_raw_fd());
        let accept = opcode::Accept::new(socket, std::ptr::null_mut(), std::ptr::null_mut());
        Some(accept.flags(libc::SOCK_CLOEXEC).build())
    }

    /// Takes an accept's result: a new connection, unless the listener was closed meanwhile.
    pub fn accepted(&mut self, result: io::Result<usize>) -> io::Result<OwnedFd> {
        self.busy = false;
        // SAFETY: a successful accept returns a new descriptor that nobody else owns.
        let connection = unsafe { OwnedFd::from_raw_fd(result? as i32) };
        if self.closing { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(connection) }
    }

    /// Takes no more connections. An accept that is under way ends.
    pub fn close(&mut self) {
        self.closing = true;
        // It can fail only for a socket that doesn't listen any more.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}
