//! What a mirror in user space costs at the least: a block device whose writes go to the disk here and to a peer that only writes
//! them and says so. No generation, no log, no bitmap, no checksum, no order of overlaps, one disk failure ends it. Not a product: it is
//! what our data path is measured against where another mirror lives in the kernel.
//!
//! `bare_mirror peer ADDRESS DISK`: writes what comes to DISK. `bare_mirror ADDRESS DISK`: makes the device, prints `ready N`, and
//! serves until its standard input ends. `LOOK_US`: how long news is looked for before sleeping.

mod common;

use io_uring::{IoUring, opcode, squeue, types};
use nix::libc;
use rep_ublk::lifecycle::{self, DeviceOptions, Prepared};
use rep_ublk::{Device, DeviceLimits, Fingerprint, Operation, Request, Tag, limits};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

/// Of a frame's head, so that what follows may go to a disk as it lies in memory.
const HEAD: usize = 512;
const SLOT: usize = 1 << 20;
const ALIGNMENT: usize = 4096;
/// What is received at once, at most.
const RECEIVED: usize = 8 * SLOT;
const ACKS: u64 = u64::MAX;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let look = std::env::var("LOOK_US").ok().map_or(Ok(0), |us| us.parse())?;
    let look = Duration::from_micros(look);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["peer", address, disk] => Ok(peer(&TcpListener::bind(address)?.accept()?.0, &open(disk)?, look)?),
        [address, disk] => primary(TcpStream::connect(address)?, disk, look),
        _ => Err("usage: bare_mirror [peer] ADDRESS DISK".into()),
    }
}

fn open(disk: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(disk)
}

/// Memory a disk takes as it is.
struct Aligned {
    memory: Vec<u8>,
    from: usize,
}

impl Aligned {
    fn new(bytes: usize) -> Aligned {
        let memory = vec![0; bytes + ALIGNMENT];
        let from = memory.as_ptr().align_offset(ALIGNMENT);
        Aligned { memory, from }
    }

    fn part(&self, from: usize, length: usize) -> &[u8] {
        &self.memory[self.from + from..][..length]
    }

    fn part_mut(&mut self, from: usize, length: usize) -> &mut [u8] {
        &mut self.memory[self.from + from..][..length]
    }
}

/// What the socket has now; `None`: nothing.
fn receive_now(socket: &TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is as long as it is said to be.
    let got = unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    match got {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        1.. => Ok(Some(got as usize)),
        _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Ok(None),
        _ => Err(io::Error::last_os_error()),
    }
}

fn peer(mut socket: &TcpStream, disk: &File, look: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut memory = Aligned::new(RECEIVED);
    let (mut begin, mut end) = (0, 0);
    let mut acks = Vec::new();
    loop {
        while end - begin >= HEAD {
            let head = memory.part(begin, HEAD);
            let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
            let (tag, offset, length) = (word(0), word(8), word(16) as usize);
            if end - begin < HEAD + length {
                break;
            }
            disk.write_all_at(memory.part(begin + HEAD, length), offset)?;
            acks.extend_from_slice(&tag.to_le_bytes());
            begin += HEAD + length;
        }
        if !acks.is_empty() {
            socket.write_all(&acks)?;
            acks.clear();
        }
        if begin == end {
            (begin, end) = (0, 0);
        } else if RECEIVED - end < 2 * SLOT {
            let rest = memory.part(begin, end - begin).to_vec();
            memory.part_mut(0, rest.len()).copy_from_slice(&rest);
            (begin, end) = (0, rest.len());
        }
        let into = memory.part_mut(end, RECEIVED - end);
        let until = Instant::now() + look;
        let mut got = None;
        while got.is_none() && Instant::now() < until {
            got = receive_now(socket, into)?;
        }
        end += match got {
            Some(got) => got,
            None => match socket.read(into)? {
                0 => return Ok(()),
                got => got,
            },
        };
    }
}

fn primary(socket: TcpStream, disk_path: &str, look: Duration) -> Result<()> {
    socket.set_nodelay(true)?;
    let disk = open(disk_path)?;
    let size_bytes = nix::unistd::lseek(&disk, 0, nix::unistd::Whence::SeekEnd)? as u64;
    let options = DeviceOptions {
        fingerprint: Fingerprint::new("bare mirror", disk_path, 0),
        limits: DeviceLimits { size_bytes, logical_block_bytes: 512, volatile_cache: false, discards: false },
        queues: 1,
        depth: limits::QUEUE_DEPTH,
    };
    let Prepared { device, origin, .. } = lifecycle::prepare(&options)?;
    let id = device.id();
    common::live_until_input_ends(id, origin, || {});
    Mirror::new(device, disk, socket, size_bytes, look)?.serve()?;
    Ok(lifecycle::delete(id)?)
}

/// A write under way.
#[derive(Clone, Copy, Default)]
struct Mirrored {
    offset: u64,
    length: usize,
    here: bool,
    there: bool,
}

struct Mirror {
    ring: IoUring,
    device: Device,
    disk: File,
    socket: TcpStream,
    size_bytes: u64,
    look: Duration,
    slots: Vec<Aligned>,
    heads: Vec<[u8; HEAD]>,
    writes: Vec<Mirrored>,
    /// Fetched in this turn.
    fresh: Vec<u16>,
    acks: Vec<u8>,
    acks_had: usize,
    owed: usize,
    waiting: usize,
}

impl Mirror {
    fn new(device: Device, disk: File, socket: TcpStream, size_bytes: u64, look: Duration) -> io::Result<Mirror> {
        let depth = usize::from(limits::QUEUE_DEPTH);
        Ok(Mirror {
            ring: IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(512)?,
            device,
            disk,
            socket,
            size_bytes,
            look,
            slots: (0..depth).map(|_| Aligned::new(SLOT)).collect(),
            heads: vec![[0; HEAD]; depth],
            writes: vec![Mirrored::default(); depth],
            fresh: Vec::new(),
            acks: vec![0; 1 << 16],
            acks_had: 0,
            owed: 0,
            waiting: 0,
        })
    }

    fn push(&mut self, entry: squeue::Entry, user_data: u64) {
        let entry = entry.user_data(user_data);
        // SAFETY: fetches and commits name no memory, and what is received into lives as long as the ring.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            let _ = self.ring.submit();
        }
    }

    /// Submits, and takes what has come, without waiting.
    fn submit_and_look(&mut self) -> io::Result<usize> {
        let count = self.ring.submission().len() as u32;
        // SAFETY: every entry is valid, by `push`.
        unsafe { self.ring.submitter().enter::<()>(count, 0, 1, None) }
    }

    /// Waits for news; where the peer owes some, looks for a moment first.
    fn wait(&mut self) -> io::Result<()> {
        let until = Instant::now() + self.look;
        while self.owed > 0 && Instant::now() < until {
            self.submit_and_look()?;
            if !self.ring.completion().is_empty() {
                return Ok(());
            }
        }
        self.ring.submit_and_wait(1).map(drop)
    }

    fn await_acks(&mut self) {
        let room = &mut self.acks[self.acks_had..];
        let entry = opcode::Recv::new(types::Fd(self.socket.as_raw_fd()), room.as_mut_ptr(), room.len() as u32).build();
        self.push(entry, ACKS);
    }

    fn commit(&mut self, tag: u16, result: i32) {
        let entry = self.device.commit(Tag { queue: 0, tag }, result);
        self.push(entry, u64::from(tag));
    }

    fn serve(&mut self) -> io::Result<()> {
        for tag in self.device.tags() {
            self.push(self.device.fetch(tag), u64::from(tag.tag));
            self.waiting += 1;
        }
        self.await_acks();
        while self.waiting > 0 {
            self.wait()?;
            while let Some(completion) = { self.ring.completion().next() } {
                match completion.user_data() {
                    ACKS if completion.result() <= 0 => return Ok(()),
                    ACKS => {
                        self.acknowledged(completion.result() as usize);
                        self.await_acks();
                    }
                    _ if completion.result() != 0 => self.waiting -= 1,
                    tag => self.fetched(tag as u16)?,
                }
            }
            self.mirror()?;
        }
        Ok(())
    }

    fn acknowledged(&mut self, got: usize) {
        let had = self.acks_had + got;
        for at in (0..had / 8 * 8).step_by(8) {
            let tag = u64::from_le_bytes(self.acks[at..at + 8].try_into().expect("eight bytes")) as u16;
            self.writes[usize::from(tag)].there = true;
            self.owed -= 1;
            self.ends(tag);
        }
        self.acks.copy_within(had / 8 * 8..had, 0);
        self.acks_had = had % 8;
    }

    fn fetched(&mut self, tag: u16) -> io::Result<()> {
        let named = Tag { queue: 0, tag };
        let request = Request::parse(&self.device.descriptor(named), self.size_bytes);
        let slot = &mut self.slots[usize::from(tag)];
        match request {
            Ok(Request { operation: Operation::Write { .. }, range }) => {
                let (offset, length) = (range.offset, range.length as usize);
                self.device.take_data(named, slot.part_mut(0, length))?;
                self.writes[usize::from(tag)] = Mirrored { offset, length, here: false, there: false };
                let head = &mut self.heads[usize::from(tag)];
                head[..8].copy_from_slice(&u64::from(tag).to_le_bytes());
                head[8..16].copy_from_slice(&offset.to_le_bytes());
                head[16..24].copy_from_slice(&(length as u64).to_le_bytes());
                self.fresh.push(tag);
            }
            Ok(request @ Request { operation: Operation::Read, range }) => {
                let data = slot.part_mut(0, range.length as usize);
                self.disk.read_exact_at(data, range.offset)?;
                self.device.give_data(named, data)?;
                self.commit(tag, request.done());
            }
            Ok(request) => self.commit(tag, request.done()),
            Err(fault) => self.commit(tag, -fault.errno()),
        }
        Ok(())
    }

    /// What was fetched goes to the peer, then to the disk here.
    fn mirror(&mut self) -> io::Result<()> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let fresh = std::mem::take(&mut self.fresh);
        let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(2 * fresh.len());
        for &tag in &fresh {
            let tag = usize::from(tag);
            parts.push(IoSlice::new(&self.heads[tag]));
            parts.push(IoSlice::new(self.slots[tag].part(0, self.writes[tag].length)));
        }
        let mut parts = &mut parts[..];
        while !parts.is_empty() {
            let sent = (&self.socket).write_vectored(parts)?;
            IoSlice::advance_slices(&mut parts, sent);
        }
        self.owed += fresh.len();
        for &tag in &fresh {
            let Mirrored { offset, length, .. } = self.writes[usize::from(tag)];
            self.disk.write_all_at(self.slots[usize::from(tag)].part(0, length), offset)?;
            self.writes[usize::from(tag)].here = true;
            self.ends(tag);
        }
        self.fresh = fresh;
        self.fresh.clear();
        Ok(())
    }

    fn ends(&mut self, tag: u16) {
        let Mirrored { length, here, there, .. } = self.writes[usize::from(tag)];
        if here && there {
            self.commit(tag, length as i32);
        }
    }
}
