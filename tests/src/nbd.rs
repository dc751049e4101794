//! A small NBD client, written from the protocol's specification and from nothing of ours: fixed newstyle, `GO`, simple
//! replies, one thread, several requests in flight.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054; // "IHAVEOPT"
const OPTION_REPLY_MAGIC: u64 = 0x0003_E889_0455_65A9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;

/// The export takes FLUSH.
pub const FLAG_SEND_FLUSH: u16 = 1 << 2;
/// The export takes FUA.
pub const FLAG_SEND_FUA: u16 = 1 << 3;
/// A flush on one connection covers all.
pub const FLAG_CAN_MULTI_CONN: u16 = 1 << 8;

/// What a request asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Verb {
    /// Read.
    Read = 0,
    /// Write.
    Write = 1,
    /// Disconnect.
    Disconnect = 2,
    /// Flush.
    Flush = 3,
    /// Discard.
    Trim = 4,
    /// Write zeroes.
    WriteZeroes = 6,
}

/// Force unit access.
pub const FUA: u16 = 1;
/// Zeroes are to stay allocated.
pub const NO_HOLE: u16 = 2;

/// Where an export is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(String),
}

/// The stream under a connection.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The request it answers.
    pub cookie: u64,
    /// 0, or an NBD error number.
    pub error: u32,
}

/// A connection in its transmission phase.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Bytes of the export.
    pub size: u64,
    /// What the export can do.
    pub flags: u16,
}

impl Connection {
    /// Connects; an answer that stays away for `patience` is an error.
    pub fn open(address: &Address, export: &str, patience: Duration) -> io::Result<Connection> {
        let stream: Box<dyn Stream> = match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Box::new(stream)
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Box::new(stream)
            }
        };
        Self::negotiate(stream, export)
    }

    fn negotiate(mut stream: Box<dyn Stream>, export: &str) -> io::Result<Connection> {
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        expect(
            &greeting[..8] == b"NBDMAGIC" && greeting[8..16] == OPTION_MAGIC.to_be_bytes(),
            "no NBD newstyle server",
        )?;
        let mut data = Vec::new();
        data.extend((export.len() as u32).to_be_bytes());
        data.extend(export.as_bytes());
        data.extend(0_u16.to_be_bytes()); // no further information wanted
        let mut option = 3_u32.to_be_bytes().to_vec(); // client flags: fixed newstyle, no zeroes
        option.extend(OPTION_MAGIC.to_be_bytes());
        option.extend(OPTION_GO.to_be_bytes());
        option.extend((data.len() as u32).to_be_bytes());
        option.extend(data);
        stream.write_all(&option)?;
        let (mut size, mut flags) = (0, 0);
        loop {
            let (kind, data) = option_reply(&mut stream)?;
            match kind {
                REPLY_INFO if data.starts_with(&[0, 0]) && data.len() >= 12 => {
                    size = u64::from_be_bytes(data[2..10].try_into().expect("8 bytes"));
                    flags = u16::from_be_bytes(data[10..12].try_into().expect("2 bytes"));
                }
                REPLY_INFO => {}
                REPLY_ACK => return Ok(Connection { stream, size, flags }),
                error => return Err(io::Error::other(format!("the server refused the export: {error:#x}"))),
            }
        }
    }

    /// Sends a request. `payload` goes with a write only.
    pub fn send(
        &mut self,
        cookie: u64,
        verb: Verb,
        flags: u16,
        at: u64,
        length: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        let mut head = [0; 28];
        head[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        head[4..6].copy_from_slice(&flags.to_be_bytes());
        head[6..8].copy_from_slice(&(verb as u16).to_be_bytes());
        head[8..16].copy_from_slice(&cookie.to_be_bytes());
        head[16..24].copy_from_slice(&at.to_be_bytes());
        head[24..28].copy_from_slice(&length.to_be_bytes());
        let mut whole = Vec::with_capacity(head.len() + payload.len());
        whole.extend(head);
        whole.extend(payload);
        self.stream.write_all(&whole)
    }

    /// Takes the next reply's head; a successful read's bytes follow with [`Connection::payload`].
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        expect(head[..4] == REPLY_MAGIC.to_be_bytes(), "a reply without its magic number")?;
        let error = u32::from_be_bytes(head[4..8].try_into().expect("4 bytes"));
        Ok(Reply { cookie: u64::from_be_bytes(head[8..16].try_into().expect("8 bytes")), error })
    }

    /// Takes the bytes of a successful read.
    pub fn payload(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(buffer)
    }

    /// Reads and waits.
    pub fn read(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.send(1, Verb::Read, 0, at, buffer.len() as u32, &[])?;
        self.answered()?;
        self.payload(buffer)
    }

    /// Writes and waits.
    pub fn write(&mut self, at: u64, bytes: &[u8], flags: u16) -> io::Result<()> {
        self.send(1, Verb::Write, flags, at, bytes.len() as u32, bytes)?;
        self.answered()
    }

    /// Flushes and waits.
    pub fn flush(&mut self) -> io::Result<()> {
        self.send(1, Verb::Flush, 0, 0, 0, &[])?;
        self.answered()
    }

    /// Discards or zeroes and waits.
    pub fn zero(&mut self, verb: Verb, flags: u16, at: u64, length: u32) -> io::Result<()> {
        self.send(1, verb, flags, at, length, &[])?;
        self.answered()
    }

    /// Says goodbye.
    pub fn close(mut self) -> io::Result<()> {
        self.send(0, Verb::Disconnect, 0, 0, 0, &[])
    }

    fn answered(&mut self) -> io::Result<()> {
        match self.reply()?.error {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error as i32)),
        }
    }
}

fn option_reply(stream: &mut Box<dyn Stream>) -> io::Result<(u32, Vec<u8>)> {
    let mut head = [0; 20];
    stream.read_exact(&mut head)?;
    expect(head[..8] == OPTION_REPLY_MAGIC.to_be_bytes(), "an option reply without its magic number")?;
    let kind = u32::from_be_bytes(head[12..16].try_into().expect("4 bytes"));
    let length = u32::from_be_bytes(head[16..20].try_into().expect("4 bytes")) as usize;
    expect(length <= 64 << 10, "an option reply that is too long")?;
    let mut data = vec![0; length];
    stream.read_exact(&mut data)?;
    Ok((kind, data))
}

fn expect(condition: bool, what: &str) -> io::Result<()> {
    if condition { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, what)) }
}
