//! A client of the NBD export that writes what it can verify: random runs of blocks, many in flight, flushes between.

use super::ledger::{Ledger, Verified};
use super::{Failed, check, pattern};
use rep_nbd::blocking_client::{BlockingClient, ClientError};
use rep_nbd::client::ClientOptions;
use rep_types::{BLOCK_SIZE, EXTENT_SIZE};
use std::collections::{BTreeSet, HashMap};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Extents the workload keeps to: the rest of the disk stays cold, so that what a crash costs can be told.
pub const EXTENTS: u64 = 12;
/// Requests in flight.
const DEPTH: usize = 16;
/// Writes between two flushes.
const WRITES_PER_FLUSH: u32 = 64;
/// The longest run of blocks in a write.
const RUN_BLOCKS_MAX: u64 = 16;
/// No answer may take longer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes read at once when verifying.
const VERIFY_BYTES: usize = 1 << 20;

/// A write in flight.
struct InFlight {
    first: u64,
    count: u64,
    since: Instant,
}

/// The workload.
pub struct Workload {
    client: BlockingClient<UnixStream>,
    random: u64,
    in_flight: HashMap<u64, InFlight>,
    busy: BTreeSet<u64>,
    since_flush: u32,
    /// The longest any answer took.
    pub longest: Duration,
}

/// Why the workload stopped.
#[derive(Debug)]
pub enum Stopped {
    /// It wrote all it was told to.
    Done,
    /// The server is gone.
    Gone,
}

impl Workload {
    /// Connects to an export.
    pub fn connect(socket: &Path, seed: u64) -> Result<Self, Failed> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
        let mut client = BlockingClient::connect(stream, ClientOptions::new(super::node::RESOURCE))?;
        client.set_depth(DEPTH);
        let (in_flight, busy) = (HashMap::new(), BTreeSet::new());
        Ok(Workload { client, random: seed, in_flight, busy, since_flush: 0, longest: Duration::ZERO })
    }

    /// The export's size.
    pub fn size_bytes(&self) -> u64 {
        self.client.size_bytes()
    }

    /// Writes that many bytes; what was in flight is answered and flushed at the end. `after` is told how much has
    /// been sent so far, after every write.
    pub fn write(
        &mut self,
        bytes: u64,
        ledger: &mut Ledger,
        mut after: impl FnMut(u64) -> Result<(), Failed>,
    ) -> Result<Stopped, Failed> {
        let mut sent = 0;
        while sent < bytes {
            match self.write_one(ledger) {
                Ok(length) => sent += length,
                Err(error) => return stopped(error),
            }
            after(sent)?;
        }
        match self.flush(ledger) {
            Ok(()) => Ok(Stopped::Done),
            Err(error) => stopped(error),
        }
    }

    fn write_one(&mut self, ledger: &mut Ledger) -> Result<u64, ClientError> {
        if self.since_flush >= WRITES_PER_FLUSH {
            self.flush(ledger)?;
        }
        while self.in_flight.len() >= DEPTH {
            self.reap()?;
        }
        let (first, count) = self.choose();
        let mut data = vec![0; (count * BLOCK_SIZE) as usize];
        for (block, block_data) in (first..).zip(data.chunks_exact_mut(BLOCK_SIZE as usize)) {
            pattern::fill(block, ledger.send(block), block_data);
            self.busy.insert(block);
        }
        let since = Instant::now();
        let cookie = self.client.submit_write(first * BLOCK_SIZE, &data, false)?;
        self.in_flight.insert(cookie, InFlight { first, count, since });
        self.since_flush += 1;
        self.client.send()?;
        Ok(data.len() as u64)
    }

    /// A run of blocks in one of the workload's extents that no write in flight touches.
    fn choose(&mut self) -> (u64, u64) {
        let extent_blocks = EXTENT_SIZE / BLOCK_SIZE;
        let extents = self.size_bytes() / EXTENT_SIZE;
        loop {
            self.random = pattern::mix(self.random);
            let extent = (self.random % EXTENTS) * (extents / EXTENTS).max(1) % extents;
            let count = 1 + (self.random >> 16) % RUN_BLOCKS_MAX;
            let first = extent * extent_blocks + (self.random >> 32) % (extent_blocks - count);
            if self.busy.range(first..first + count).next().is_none() {
                return (first, count);
            }
        }
    }

    fn reap(&mut self) -> Result<(), ClientError> {
        let Some(completion) = self.client.reap()? else { return Ok(()) };
        completion.result?;
        if let Some(write) = self.in_flight.remove(&completion.cookie) {
            self.longest = self.longest.max(write.since.elapsed());
            for block in write.first..write.first + write.count {
                self.busy.remove(&block);
            }
        }
        Ok(())
    }

    /// Waits for every answer, then flushes: everything sent so far must survive from here on.
    fn flush(&mut self, ledger: &mut Ledger) -> Result<(), ClientError> {
        while !self.in_flight.is_empty() {
            self.reap()?;
        }
        let begun = Instant::now();
        self.client.flush()?;
        self.longest = self.longest.max(begun.elapsed());
        self.since_flush = 0;
        ledger.flushed();
        Ok(())
    }

    /// Reads the whole volume and checks every block.
    pub fn verify(&mut self, ledger: &mut Ledger) -> Result<Verified, Failed> {
        let mut verified = Verified::default();
        let mut data = vec![0; VERIFY_BYTES];
        let end = ledger.block_count();
        let step = VERIFY_BYTES as u64 / BLOCK_SIZE;
        for first in (0..end).step_by(step as usize) {
            let count = step.min(end - first);
            let data = &mut data[..(count * BLOCK_SIZE) as usize];
            self.client.read(first * BLOCK_SIZE, data)?;
            for (block, block_data) in (first..).zip(data.chunks_exact(BLOCK_SIZE as usize)) {
                ledger.verify(block, block_data, &mut verified).map_err(Failed)?;
            }
        }
        check(verified.blocks == end, || format!("only {} of {end} blocks were read", verified.blocks))?;
        Ok(verified)
    }

    /// Leaves as the protocol wants it.
    pub fn leave(self) -> Result<(), Failed> {
        Ok(self.client.disconnect()?)
    }
}

/// A server that went away is expected; an error it answered isn't.
fn stopped(error: ClientError) -> Result<Stopped, Failed> {
    match error {
        ClientError::Closed => Ok(Stopped::Gone),
        ClientError::Io(error) if error.kind() != std::io::ErrorKind::WouldBlock => Ok(Stopped::Gone),
        other => Err(Failed(format!("the workload: {other}"))),
    }
}
