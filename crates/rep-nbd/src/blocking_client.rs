//! A client on any blocking stream: one request at a time, or many in flight.
//!
//! ```text
//! submit, submit_write --> unsent --(flush, when large or when an answer is awaited)--> stream
//! reap, wait <------------ answered <------------------- session <--------------------- stream
//! ```
//!
//! A blocking stream can't be read while it is written to. So that neither end ever waits for the other to read
//! first, a payload is only sent while few bytes of read data are due, and the number of requests in flight is
//! limited. Deadlines are the stream's (`set_read_timeout`): a timeout shows as [`ClientError::Io`].

use crate::block_status::Allocation;
use crate::client::{
    ClientHandshake, ClientOptions, ClientSession, Completion, HandshakeError, HandshakeStep, Outcome, ProtocolError,
    RequestFailure, Welcome,
};
use crate::protocol::{REQUEST_LENGTH, REQUEST_MAGIC, command};
use crate::request::Command;
use rep_types::ByteRange;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};

/// The most requests in flight unless [`BlockingClient::set_depth`] says less.
pub const DEPTH_MAX: usize = 128;
/// A payload is only sent while no more than this many bytes of read data are due.
const READ_BYTES_DUE_MAX: u64 = 128 << 10;
/// Requests are sent together until this many bytes are.
const UNSENT_MAX: usize = 128 << 10;
/// The size of the receive buffer, in bytes.
const INPUT_LENGTH: usize = 256 << 10;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The stream failed, or its deadline passed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection. Requests in flight may or may not have been done (I-R4).
    #[error("the server closed the connection")]
    Closed,
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The server refused the export.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server refused or failed this one request; the connection goes on.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// The range doesn't fit one request, or a buffer doesn't fit its range.
    #[error("the length does not fit one request")]
    BadLength,
}

/// A client and its stream.
#[derive(Debug)]
pub struct BlockingClient<S> {
    stream: S,
    welcome: Welcome,
    session: ClientSession,
    unsent: Vec<u8>,
    input: Box<[u8]>,
    filled: std::ops::Range<usize>,
    answered: VecDeque<Completion>,
    read_bytes: HashMap<u64, u64>,
    read_bytes_due: u64,
    depth: usize,
    /// Sending failed in the middle of something: nothing may be sent behind it.
    cut_short: bool,
}

impl<S: Read + Write> BlockingClient<S> {
    /// Negotiates on a fresh stream.
    pub fn connect(mut stream: S, options: ClientOptions) -> Result<Self, ClientError> {
        let mut handshake = ClientHandshake::new(options);
        let mut input = vec![0; INPUT_LENGTH].into_boxed_slice();
        let mut unsent = Vec::new();
        loop {
            let count = receive(&mut stream, &mut input)?;
            let mut bytes = &input[..count];
            let step = handshake.receive(&mut bytes, &mut unsent);
            stream.write_all(&unsent)?;
            stream.flush()?;
            unsent.clear();
            match step {
                HandshakeStep::NeedMore => {}
                HandshakeStep::Failed(error) => return Err(error.into()),
                HandshakeStep::Done(welcome) => {
                    let filled = count - bytes.len()..count;
                    return Ok(BlockingClient {
                        stream,
                        welcome,
                        session: ClientSession::new(&welcome),
                        unsent,
                        input,
                        filled,
                        answered: VecDeque::new(),
                        read_bytes: HashMap::new(),
                        read_bytes_due: 0,
                        depth: DEPTH_MAX,
                        cut_short: false,
                    });
                }
            }
        }
    }

    /// What the server said of the export.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The export's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.welcome.size_bytes
    }

    /// The stream, to set deadlines on it or to cut it.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream. Reading from it or writing to it breaks the session.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sets how many requests may be in flight, 1 to [`DEPTH_MAX`].
    pub fn set_depth(&mut self, depth: usize) {
        self.depth = depth.clamp(1, DEPTH_MAX);
    }

    /// How many requests are submitted and not yet given back by [`BlockingClient::reap`].
    pub fn in_flight(&self) -> usize {
        self.session.in_flight() + self.answered.len()
    }

    /// Submits a request without payload and returns its cookie. It is sent with later ones, when an answer is
    /// awaited, or by [`BlockingClient::send`]. Waits for answers while too much is in flight.
    pub fn submit(&mut self, command: Command, range: ByteRange) -> Result<u64, ClientError> {
        if matches!(command, Command::Write { .. }) {
            return Err(ClientError::BadLength);
        }
        self.make_room(u64::MAX)?;
        let cookie = self.session.request(command, range, &mut self.unsent);
        if let Command::Read { .. } = command {
            self.read_bytes.insert(cookie, u64::from(range.length));
            self.read_bytes_due += u64::from(range.length);
        }
        Ok(cookie)
    }

    /// Submits a write and returns its cookie; the data is copied or sent before this returns.
    pub fn submit_write(&mut self, offset: u64, data: &[u8], fua: bool) -> Result<u64, ClientError> {
        let length = u32::try_from(data.len()).map_err(|_| ClientError::BadLength)?;
        self.make_room(READ_BYTES_DUE_MAX)?;
        let cookie = self.session.request(Command::Write { fua }, ByteRange::new(offset, length), &mut self.unsent);
        if self.unsent.len() + data.len() <= UNSENT_MAX {
            self.unsent.extend_from_slice(data);
            return Ok(cookie);
        }
        self.send()?;
        self.write_out(data)?;
        Ok(cookie)
    }

    /// Sends everything submitted so far.
    pub fn send(&mut self) -> Result<(), ClientError> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        let sent = self.write_out(&unsent);
        unsent.clear();
        self.unsent = unsent;
        sent
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.cut_short {
            return Err(ClientError::Closed);
        }
        self.cut_short = true;
        self.stream.write_all(bytes)?;
        self.stream.flush()?;
        self.cut_short = false;
        Ok(())
    }

    /// The next answer, in the order they came; waits for one. `None`: nothing is in flight.
    pub fn reap(&mut self) -> Result<Option<Completion>, ClientError> {
        while self.answered.is_empty() {
            if self.session.in_flight() == 0 {
                return Ok(None);
            }
            self.pump()?;
        }
        Ok(self.answered.pop_front())
    }

    /// The answer to one request; others stay to be reaped. A cookie that isn't in flight is a protocol error.
    pub fn wait(&mut self, cookie: u64) -> Result<Outcome, ClientError> {
        loop {
            if let Some(index) = self.answered.iter().position(|completion| completion.cookie == cookie) {
                let completion = self.answered.remove(index).ok_or(ClientError::Closed)?;
                return Ok(completion.result?);
            }
            if !self.session.is_in_flight(cookie) {
                return Err(ProtocolError::UnknownCookie(cookie).into());
            }
            self.pump()?;
        }
    }

    /// Reads a range, however long, into `data`.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        let longest = self.longest();
        let mut at = offset;
        for part in data.chunks_mut(longest) {
            let range = ByteRange::new(at, part.len() as u32);
            let cookie = self.submit(Command::Read { unfragmented: false }, range)?;
            match self.wait(cookie)? {
                Outcome::Data(bytes) if bytes.len() == part.len() => part.copy_from_slice(&bytes),
                _ => return Err(ProtocolError::WrongReply.into()),
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes a range, however long. With `fua` it is stable when this returns.
    pub fn write(&mut self, offset: u64, data: &[u8], fua: bool) -> Result<(), ClientError> {
        let mut at = offset;
        for part in data.chunks(self.longest()) {
            let cookie = self.submit_write(at, part, fua)?;
            self.wait(cookie)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes everything answered so far stable.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.call(Command::Flush, ByteRange::new(0, 0)).map(drop)
    }

    /// Discards a range.
    pub fn trim(&mut self, range: ByteRange, fua: bool) -> Result<(), ClientError> {
        self.call(Command::Trim { fua }, range).map(drop)
    }

    /// Writes zeroes; `no_hole` keeps the space allocated.
    pub fn write_zeroes(&mut self, range: ByteRange, no_hole: bool, fua: bool) -> Result<(), ClientError> {
        self.call(Command::WriteZeroes { no_hole, fast: false, fua }, range).map(drop)
    }

    /// What is allocated from the range's offset on: lengths in bytes, and what they are. May tell less, and the last
    /// may reach further, than the range.
    pub fn block_status(&mut self, range: ByteRange) -> Result<Vec<(u32, Allocation)>, ClientError> {
        match self.call(Command::BlockStatus { one: false }, range)? {
            Outcome::Extents(extents) => Ok(extents),
            _ => Err(ProtocolError::WrongReply.into()),
        }
    }

    /// Leaves, as the protocol wants it. Answers still due are given up.
    pub fn disconnect(mut self) -> Result<(), ClientError> {
        let mut goodbye = [0; REQUEST_LENGTH];
        goodbye[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        goodbye[6..8].copy_from_slice(&command::DISC.to_be_bytes());
        self.unsent.extend_from_slice(&goodbye);
        self.send()
    }

    /// Submits a request and waits for its answer.
    pub fn call(&mut self, command: Command, range: ByteRange) -> Result<Outcome, ClientError> {
        let cookie = self.submit(command, range)?;
        self.wait(cookie)
    }

    /// The longest read or write that is sent as one request.
    fn longest(&self) -> usize {
        let [min, _, max] = self.welcome.block_sizes;
        let max = max.min(32 << 20);
        (max - max % min).max(min) as usize
    }

    fn make_room(&mut self, read_bytes_due_max: u64) -> Result<(), ClientError> {
        if self.unsent.len() >= UNSENT_MAX {
            self.send()?;
        }
        while self.session.in_flight() >= self.depth || self.read_bytes_due > read_bytes_due_max {
            self.pump()?;
        }
        Ok(())
    }

    /// Sends what is unsent and takes what the server sends next. Answers that came are taken even if sending fails or
    /// the stream ends behind them.
    fn pump(&mut self) -> Result<(), ClientError> {
        let sent = self.send();
        if self.filled.is_empty() {
            let received = receive(&mut self.stream, &mut self.input);
            let count = if received.is_err() { sent.and(received)? } else { received? };
            self.filled = 0..count;
        }
        let mut bytes = &self.input[self.filled.clone()];
        loop {
            let taken = self.session.receive(&mut bytes);
            self.filled.start = self.filled.end - bytes.len();
            let Some(completion) = taken? else { return Ok(()) };
            self.read_bytes_due -= self.read_bytes.remove(&completion.cookie).unwrap_or(0);
            self.answered.push_back(completion);
        }
    }
}

/// Receives at least a byte.
fn receive(stream: &mut impl Read, input: &mut [u8]) -> Result<usize, ClientError> {
    loop {
        match stream.read(input) {
            Ok(0) => return Err(ClientError::Closed),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
