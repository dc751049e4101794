//! As much of the kernel's FUSE protocol as one file needs (`linux/fuse.h`, version 7.31): requests in, replies out. All
//! numbers are in the machine's own byte order, which is little-endian wherever the tests run.

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount as mount_filesystem};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// The most bytes of one write.
pub const WRITE_MAX: usize = 1 << 20;
/// Room for the largest request.
pub const REQUEST_MAX: usize = WRITE_MAX + 4096;

const HEADER: usize = 40;
const ROOT: u64 = 1;

/// Mounts a file system whose root is a file, on a file.
pub fn mount(path: &Path) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=100000,user_id=0,group_id=0,max_read={WRITE_MAX}", device.as_raw_fd());
    mount_filesystem(
        Some("faulty-disk"),
        path,
        Some("fuse"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )?;
    Ok(device)
}

/// What the kernel asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    Init,
    Attributes,
    Open,
    Read {
        at: u64,
        length: u32,
    },
    Write {
        at: u64,
    },
    Flush,
    Allocate {
        at: u64,
        length: u64,
        mode: i32,
    },
    Statistics,
    /// Answered with success and nothing else.
    Nod,
    /// Wants no answer.
    Silent,
    Unknown,
}

/// A request: its number, and what it asks.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub unique: u64,
    pub ask: Ask,
}

/// Takes the next request; the payload of a write is the second part. `None`: the mount is gone.
pub fn next<'a>(mut device: &File, buffer: &'a mut [u8]) -> Option<(Request, &'a [u8])> {
    let length = loop {
        match device.read(buffer) {
            Ok(length) => break length,
            // Interrupted, or the request was withdrawn before it was taken.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT | libc::EAGAIN)) => {}
            Err(_) => return None,
        }
    };
    let bytes = &buffer[..length];
    let (body, payload) = bytes.get(HEADER..)?.split_at(body_length(word(bytes, 4)).min(length - HEADER));
    let request = Request { unique: long(bytes, 8), ask: ask(word(bytes, 4), body) };
    Some((request, payload))
}

fn body_length(opcode: u32) -> usize {
    if opcode == 16 { 40 } else { usize::MAX }
}

fn ask(opcode: u32, body: &[u8]) -> Ask {
    match opcode {
        2 | 36 | 42 => Ask::Silent, // FORGET, INTERRUPT, BATCH_FORGET
        3 => Ask::Attributes,
        4 => Ask::Attributes, // SETATTR: times, which nobody needs
        14 => Ask::Open,
        15 => Ask::Read { at: long(body, 8), length: word(body, 16) },
        16 => Ask::Write { at: long(body, 8) },
        17 => Ask::Statistics,
        18 | 25 | 34 | 38 => Ask::Nod, // RELEASE, FLUSH (a close), ACCESS, DESTROY
        20 => Ask::Flush,              // FSYNC
        26 => Ask::Init,
        43 => Ask::Allocate { at: long(body, 8), length: long(body, 16), mode: word(body, 24) as i32 },
        _ => Ask::Unknown,
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// Answers. The kernel has forgotten a request whose process was killed: no matter.
pub fn answer(mut device: &File, request: Request, result: Result<&[u8], Errno>) {
    let (error, body) = match result {
        Ok(body) => (0, body),
        Err(errno) => (-(errno as i32), &[][..]),
    };
    let mut head = [0; 16];
    head[..4].copy_from_slice(&((16 + body.len()) as u32).to_ne_bytes());
    head[4..8].copy_from_slice(&error.to_ne_bytes());
    head[8..].copy_from_slice(&request.unique.to_ne_bytes());
    let _ = device.write_vectored(&[IoSlice::new(&head), IoSlice::new(body)]);
}

/// The reply to `INIT`.
pub fn init() -> [u8; 64] {
    const BIG_WRITES: u32 = 1 << 5;
    const ASYNC_DIO: u32 = 1 << 15;
    const MAX_PAGES: u32 = 1 << 22;
    let mut body = [0; 64];
    let mut put = |at: usize, value: u32| body[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(0, 7);
    put(4, 31);
    put(12, BIG_WRITES | ASYNC_DIO | MAX_PAGES);
    put(16, 64 | 48 << 16); // requests in flight, and when the kernel calls that many
    put(20, WRITE_MAX as u32);
    put(24, 1);
    put(28, (WRITE_MAX / 4096) as u32); // pages of a request
    body
}

/// The reply to `GETATTR` for a file of this size.
pub fn attributes(bytes: u64) -> [u8; 104] {
    let mut body = [0; 104];
    let mut put = |at: usize, value: u64| body[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    put(0, 3600); // valid for so many seconds
    put(16, ROOT);
    put(24, bytes);
    put(32, bytes / 512);
    put(76, u64::from(libc::S_IFREG | 0o600) | 1 << 32); // mode, links
    put(96, 4096); // a block
    body
}

/// The reply to `OPEN`: no cache of the kernel's, writes side by side.
pub fn open() -> [u8; 16] {
    const DIRECT_IO: u32 = 1;
    const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
    let mut body = [0; 16];
    body[8..12].copy_from_slice(&(DIRECT_IO | PARALLEL_DIRECT_WRITES).to_ne_bytes());
    body
}

/// The reply to `WRITE`.
pub fn written(length: usize) -> [u8; 8] {
    (length as u64).to_ne_bytes()
}

/// The reply to `STATFS`.
pub fn statistics() -> [u8; 80] {
    let mut body = [0; 80];
    body[40..44].copy_from_slice(&4096_u32.to_ne_bytes());
    body[44..48].copy_from_slice(&255_u32.to_ne_bytes());
    body[48..52].copy_from_slice(&4096_u32.to_ne_bytes());
    body
}
