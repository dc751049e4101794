//! A unix stream that never waits past its deadline.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The stream.
#[derive(Debug)]
pub(super) struct DeadlineStream {
    stream: UnixStream,
    deadline: Cell<Option<Instant>>,
}

impl DeadlineStream {
    /// Connects. The kernel makes a connect to a full backlog wait; the send timeout bounds that, too.
    pub fn connect(path: &Path, deadline: Instant) -> io::Result<Self> {
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let left = left(deadline)?;
        let timeout = TimeVal::new(left.as_secs() as i64, i64::from(left.subsec_micros()));
        setsockopt(&fd, sockopt::SendTimeout, &timeout)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(DeadlineStream { stream: UnixStream::from(fd), deadline: Cell::new(Some(deadline)) })
    }

    /// From now on reads wait as long as it takes.
    pub fn clear_deadline(&self) {
        self.deadline.set(None);
    }

    fn timeout(&self) -> io::Result<Option<Duration>> {
        self.deadline.get().map(left).transpose()
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

impl Read for DeadlineStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.timeout()?)?;
        self.stream.read(buffer)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.timeout()?)?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
