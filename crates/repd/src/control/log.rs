//! Where log lines go: a thread that writes them to stderr, so that nobody else ever waits for whoever reads it.
//!
//! A log that takes no more (a full file system, a reader that left or is frozen) costs its lines, never the daemon:
//! the lines that don't fit any more are dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Lines that wait to be written, at most.
const LINES_WAITING_MAX: usize = 4096;
/// How long the end of the daemon waits for the last lines.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

enum Order {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Debug)]
struct Shared {
    orders: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

static LOG: OnceLock<Shared> = OnceLock::new();

/// Starts the thread. Without one (no thread to be had) lines go to stderr at once.
pub fn start() {
    let (orders, inbox) = sync_channel(LINES_WAITING_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let counted = dropped.clone();
    let thread =
        std::thread::Builder::new().name("log".into()).spawn(move || write_lines(&inbox, &counted, io::stderr()));
    if thread.is_ok() {
        let _ = LOG.set(Shared { orders, dropped });
    }
}

/// Waits a moment until what was logged is written.
pub fn flush() {
    let Some(log) = LOG.get() else { return };
    let (done, written) = sync_channel(1);
    if log.orders.try_send(Order::Flush(done)).is_ok() {
        let _ = written.recv_timeout(FLUSH_DEADLINE);
    }
}

/// A line for people on stderr, outside the log. That it can't be written is no reason to fail.
pub fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn write_lines(inbox: &Receiver<Order>, dropped: &AtomicU64, mut out: impl Write) {
    for order in inbox {
        match order {
            Order::Line(line) => {
                let missed = dropped.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    let _ = writeln!(out, "{missed} log lines came faster than they could be written");
                }
                let _ = out.write_all(&line);
            }
            Order::Flush(done) => drop(done.send(())),
        }
    }
}

/// The writer of one line.
#[derive(Debug, Default)]
pub struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.0);
        let Some(log) = LOG.get() else {
            let _ = io::stderr().write_all(&line);
            return;
        };
        if let Err(TrySendError::Full(_)) = log.orders.try_send(Order::Line(line)) {
            log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that takes nothing.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_missed_ones_counted() {
        let (orders, inbox) = sync_channel(8);
        let dropped = AtomicU64::new(0);
        orders.send(Order::Line(b"a\n".to_vec())).unwrap();
        orders.send(Order::Line(b"b\n".to_vec())).unwrap();
        drop(orders);
        dropped.store(3, Ordering::Relaxed);
        let mut written = Vec::new();
        write_lines(&inbox, &dropped, &mut written);
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text, "3 log lines came faster than they could be written\na\nb\n");
    }

    #[test]
    fn a_log_that_takes_nothing_is_no_error() {
        let (orders, inbox) = sync_channel(8);
        let (done, written) = sync_channel(1);
        orders.send(Order::Line(b"a\n".to_vec())).unwrap();
        orders.send(Order::Flush(done)).unwrap();
        drop(orders);
        write_lines(&inbox, &AtomicU64::new(1), Full);
        written.recv().unwrap();
    }
}
