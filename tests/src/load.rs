//! Clients that work against an export and write the ledger while they do.

use crate::ledger::{Ledger, Pending, PendingFlush, SECTOR};
use crate::nbd::{Address, Connection, FLAG_SEND_FUA, FUA, NO_HOLE, Verb};
use crate::random::Random;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the clients do.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Connections.
    pub clients: usize,
    /// Requests in flight on each.
    pub depth: usize,
    /// Longest request, in sectors.
    pub sectors_max: u32,
    /// Of a hundred requests: reads, discards or zeroes, flushes; the rest are writes.
    pub reads: u64,
    /// See `reads`.
    pub zeroes: u64,
    /// See `reads`.
    pub flushes: u64,
    /// Of a hundred writes, those with FUA.
    pub forced: u64,
    /// An answer that stays away for so long ends the client.
    pub patience: Duration,
    /// How long a client rests before each request.
    pub pause: Duration,
    /// Whence the clients' choices come; `None`: from nowhere twice.
    pub seed: Option<u64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            clients: 2,
            depth: 8,
            sectors_max: 64,
            reads: 20,
            zeroes: 5,
            flushes: 3,
            forced: 3,
            patience: Duration::from_secs(60),
            pause: Duration::ZERO,
            seed: None,
        }
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<ClientEnd>>,
}

/// How a client ended.
#[derive(Debug, Default)]
pub struct ClientEnd {
    /// Reads that returned what they must not.
    pub violations: Vec<String>,
    /// Requests answered with an error.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// The longest time a request waited for its answer.
    pub longest_wait: Duration,
    /// Why it ended; `None`: it was told to.
    pub cut_off: Option<io::Error>,
}

impl Load {
    /// Starts the clients.
    pub fn start(ledger: &Arc<Ledger>, address: &Address, export: &str, options: &LoadOptions) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let seed = options.seed.unwrap_or_else(Random::fresh_seed);
        let client = |number| {
            let (ledger, address, export, options) =
                (ledger.clone(), address.clone(), export.to_owned(), options.clone());
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || {
                let random = Random::new(seed.wrapping_add(number));
                let mut client = Client::new(&ledger, &options, random, &answered);
                client.end.cut_off = client.work(&address, &export, &stop).err();
                client.end
            })
        };
        let threads = (0..options.clients as u64).map(client).collect();
        Load { stop, answered, threads }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests were answered.
    #[track_caller]
    pub fn wait_for(&self, more: u64, deadline: Duration) {
        let goal = self.answered() + more;
        crate::until(&format!("{more} more answers"), deadline, || match self.answered() {
            now if now >= goal => Ok(()),
            now => Err(format!("{} of them", more - (goal - now))),
        });
    }

    /// Tells the clients to finish what is in flight and end; whatever their reads returned.
    pub fn end(self) -> Vec<ClientEnd> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<ClientEnd>| thread.join().expect("a client doesn't panic");
        self.threads.into_iter().map(join).collect()
    }

    /// Tells the clients to finish what is in flight and end; panics on a read that lied.
    #[track_caller]
    pub fn stop(self) -> Vec<ClientEnd> {
        let ends = self.end();
        let violations: Vec<_> = ends.iter().flat_map(|end| &end.violations).collect();
        assert!(violations.is_empty(), "reads returned what they must not: {violations:#?}");
        ends
    }

    /// Like [`Load::stop`], where nothing may have gone wrong: no error, nobody cut off.
    #[track_caller]
    pub fn stop_untroubled(self) -> Duration {
        let ends = self.stop();
        for end in &ends {
            assert!(end.cut_off.is_none(), "a client was cut off: {:?}", end.cut_off);
            assert_eq!(end.errors, 0, "a client saw errors, first {:?}", end.first_error);
        }
        ends.iter().map(|end| end.longest_wait).max().unwrap_or_default()
    }
}

enum InFlight {
    Write(Pending, bool),
    Read(Range<u32>),
    Flush(PendingFlush),
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InFlight::Write(write, forced) => {
                let (what, with) =
                    (if write.zeroes { "zeroes" } else { "a write" }, if *forced { " with FUA" } else { "" });
                write!(f, "{what}{with} of sectors {:?}", write.sectors)
            }
            InFlight::Read(sectors) => write!(f, "a read of sectors {sectors:?}"),
            InFlight::Flush(_) => write!(f, "a flush"),
        }
    }
}

struct Client<'a> {
    ledger: &'a Ledger,
    options: &'a LoadOptions,
    random: Random,
    answered: &'a AtomicU64,
    in_flight: HashMap<u64, (InFlight, Instant)>,
    next: u64,
    end: ClientEnd,
}

impl<'a> Client<'a> {
    fn new(ledger: &'a Ledger, options: &'a LoadOptions, random: Random, answered: &'a AtomicU64) -> Self {
        Client { ledger, options, random, answered, in_flight: HashMap::new(), next: 1, end: ClientEnd::default() }
    }

    /// Works until told to stop or cut off; whatever is in flight then stays unanswered in the ledger.
    fn work(&mut self, address: &Address, export: &str, stop: &AtomicBool) -> io::Result<()> {
        let result = self.exchange(address, export, stop);
        for (_, (left, _)) in self.in_flight.drain() {
            match left {
                InFlight::Read(sectors) => drop(self.ledger.end_read(sectors, None)),
                InFlight::Write(..) | InFlight::Flush(_) => {} // stay open, see `Ledger::end_write`
            }
        }
        result
    }

    fn exchange(&mut self, address: &Address, export: &str, stop: &AtomicBool) -> io::Result<()> {
        let mut connection = Connection::open(address, export, self.options.patience)?;
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            while !stopping && self.in_flight.len() < self.options.depth {
                if self.options.pause > Duration::ZERO {
                    std::thread::sleep(self.options.pause);
                }
                self.send_one(&mut connection)?;
            }
            if self.in_flight.is_empty() {
                return if stopping { connection.close() } else { Ok(()) };
            }
            self.take_reply(&mut connection)?;
        }
    }

    fn send_one(&mut self, connection: &mut Connection) -> io::Result<()> {
        let sectors = self.place();
        let kind = self.random.below(100);
        let options = self.options;
        if kind < options.flushes {
            let flush = self.ledger.begin_flush();
            return self.send(connection, InFlight::Flush(flush), Verb::Flush, 0, 0..0, &[]);
        }
        if kind < options.flushes + options.reads {
            let Some(sectors) = self.ledger.begin_read(sectors) else { return Ok(()) };
            return self.send(connection, InFlight::Read(sectors.clone()), Verb::Read, 0, sectors, &[]);
        }
        let zeroes = kind < options.flushes + options.reads + options.zeroes;
        let Some(write) = self.ledger.begin_write(sectors.clone(), zeroes) else { return Ok(()) };
        let forced = connection.flags & FLAG_SEND_FUA != 0 && self.random.percent(options.forced);
        let mut flags = if forced { FUA } else { 0 };
        if zeroes {
            // Discards aren't used: an NBD server may leave their content undefined. Zeroes are zeroes.
            flags |= if self.random.percent(50) { NO_HOLE } else { 0 };
            return self.send(connection, InFlight::Write(write, forced), Verb::WriteZeroes, flags, sectors, &[]);
        }
        let bytes = self.ledger.bytes(&write);
        self.send(connection, InFlight::Write(write, forced), Verb::Write, flags, sectors, &bytes)
    }

    /// Mostly whole blocks; some requests lie across blocks, some are long.
    fn place(&mut self) -> Range<u32> {
        let total = self.ledger.sectors();
        let (step, count) = match self.random.below(10) {
            0 => (1, 1 + self.random.below(u64::from(self.options.sectors_max)) as u32),
            1 => (8, self.options.sectors_max),
            _ => (8, 8),
        };
        let count = count.min(total);
        let first = self.random.below(u64::from((total - count) / step + 1)) as u32 * step;
        first..first + count
    }

    fn send(
        &mut self,
        connection: &mut Connection,
        what: InFlight,
        verb: Verb,
        flags: u16,
        sectors: Range<u32>,
        bytes: &[u8],
    ) -> io::Result<()> {
        let cookie = self.next;
        self.next += 1;
        self.in_flight.insert(cookie, (what, Instant::now()));
        let (at, length) = (u64::from(sectors.start) * SECTOR as u64, sectors.len() as u32 * SECTOR as u32);
        connection.send(cookie, verb, flags, at, length, bytes)
    }

    fn take_reply(&mut self, connection: &mut Connection) -> io::Result<()> {
        let reply = connection.reply()?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a reply to nothing we asked");
        let (what, sent) = self.in_flight.remove(&reply.cookie).ok_or_else(unknown)?;
        let succeeded = reply.error == 0;
        if !succeeded && self.end.first_error.is_none() {
            self.end.first_error = Some(format!("{what} after {:?}: error {}", sent.elapsed(), reply.error));
        }
        match what {
            InFlight::Write(write, forced) => self.ledger.end_write(write, succeeded, forced),
            InFlight::Flush(flush) => self.ledger.end_flush(flush, succeeded),
            InFlight::Read(sectors) => {
                let mut bytes = vec![0; sectors.len() * SECTOR];
                let taken = if succeeded { connection.payload(&mut bytes) } else { Ok(()) };
                let whole = (succeeded && taken.is_ok()).then_some(bytes.as_slice());
                self.end.violations.extend(self.ledger.end_read(sectors, whole));
                taken?;
            }
        }
        self.end.errors += u64::from(!succeeded);
        self.end.longest_wait = self.end.longest_wait.max(sent.elapsed());
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
