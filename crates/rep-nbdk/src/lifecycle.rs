//! The orders of steps that make, take over and remove a device. All of them wait; none is for the thread that answers
//! requests.
//!
//! ```text
//!  (nothing) ──── connect ──────────────┐
//!                                       ├─► live, settings ── disconnect, (the node goes) ─► (nothing)
//!  left behind ── reconnect, (taken?) ──┘
//! ```

use crate::backend::Backend;
use crate::driver::Driver;
use crate::error::NbdkError;
use crate::limits::{
    BLOCK_BYTES_MAX, IO_BYTES_MAX, NODE_PATIENCE, NUMBER_TRIES, RESEND_LOOK, RETRY_PAUSE, TAKEOVER_PATIENCE,
};
use crate::sysfs::Sysfs;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rep_types::{LeftDevice, SECTOR_SIZE};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `NBD_FLAG_SEND_FLUSH` of the NBD protocol.
const FLAG_SEND_FLUSH: u16 = 1 << 2;

/// What a device shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceOptions {
    /// Whose it is.
    pub backend: Backend,
    /// Its size, whole blocks.
    pub size_bytes: u64,
    /// Its logical blocks.
    pub block_bytes: u32,
    /// The transmission flags of the NBD protocol.
    pub flags: u16,
}

impl DeviceOptions {
    /// Whether flushes are to be sent.
    fn has_volatile_cache(&self) -> bool {
        self.flags & FLAG_SEND_FLUSH != 0
    }
}

/// How a device came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It was made.
    Added,
    /// It was left behind by a server that is gone. Whoever has it open never noticed.
    TakenOver,
}

/// A device that sends its requests to this process.
#[derive(Debug)]
pub struct Attached {
    /// Its number: `/dev/nbdN`.
    pub index: u32,
    /// How it came to be.
    pub origin: Origin,
    /// Its size: less than what was asked for, if it was left behind before the volume grew.
    pub size_bytes: u64,
    /// The server's end of its connection, at the point where transmission begins; replies are simple ones. Whoever sees a
    /// device come reads it at once (udev does), so it is to be served before anything else is done about the device.
    pub socket: OwnedFd,
}

/// The device that is bound for a backend, served or left behind.
pub fn find(backend: &Backend) -> Result<Option<u32>, NbdkError> {
    let sysfs = Sysfs::new();
    // Without a device the driver, which may not be there, isn't asked.
    if sysfs.all_of(backend).is_empty() { Ok(None) } else { find_with(&mut Driver::open()?, &sysfs, backend) }
}

/// What whoever has such a device open was told of it.
pub fn left_device(backend: &Backend) -> Result<Option<LeftDevice>, NbdkError> {
    let sysfs = Sysfs::new();
    let told = |index| LeftDevice { block_bytes: sysfs.block_bytes(index), volatile_cache: sysfs.flushes(index) };
    Ok(find(backend)?.map(told))
}

fn find_with(driver: &mut Driver, sysfs: &Sysfs, backend: &Backend) -> Result<Option<u32>, NbdkError> {
    for index in sysfs.all_of(backend) {
        if driver.is_bound(index, backend)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Makes a device, or takes over the one that was left behind.
pub fn attach(options: &DeviceOptions) -> Result<Attached, NbdkError> {
    if options.block_bytes > BLOCK_BYTES_MAX {
        return Err(NbdkError::BlockSize(options.block_bytes));
    }
    let sysfs = Sysfs::new();
    let mut driver = Driver::open()?;
    match find_with(&mut driver, &sysfs, &options.backend)? {
        Some(index) => take_over(&mut driver, &sysfs, index, options),
        None => add(&mut driver, &sysfs, options),
    }
}

fn add(driver: &mut Driver, sysfs: &Sysfs, options: &DeviceOptions) -> Result<Attached, NbdkError> {
    let (own, kernels) = pair()?;
    let index = connect_free(driver, sysfs, options, &kernels)?;
    drop(kernels);
    let node = PathBuf::from(format!("/dev/nbd{index}"));
    if !within(NODE_PATIENCE, || node.exists()) {
        // What can't be used isn't left lying about; the error that matters is the first.
        let _ = driver.disconnect(index);
        return Err(NbdkError::NoNode(index));
    }
    let size_bytes = options.size_bytes;
    Ok(Attached { index, origin: Origin::Added, size_bytes, socket: own })
}

/// Settings of a device that is served: the kernel takes each once all requests under way have been answered. Returns why those
/// in flight come back only after half a minute when this process dies, if so.
pub fn settle(index: u32) -> Option<io::Error> {
    let sysfs = Sysfs::new();
    // A shorter limit than ours is as good, and a longer request is merely cut.
    let _ = sysfs.limit_io(index, IO_BYTES_MAX);
    sysfs.set_look(index, RESEND_LOOK).err()
}

/// Connects a device that wasn't there before.
fn connect_free(
    driver: &mut Driver,
    sysfs: &Sysfs,
    options: &DeviceOptions,
    socket: &OwnedFd,
) -> Result<u32, NbdkError> {
    for _ in 0..NUMBER_TRIES {
        let index = sysfs.free_number();
        match driver.connect(index, options, socket.as_fd()) {
            // Somebody else was faster.
            Err(NbdkError::Command { source, .. }) if is_taken(&source) => sleep(RETRY_PAUSE),
            result => return result.map(|()| index),
        }
    }
    Err(NbdkError::NoNumber)
}

fn is_taken(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| errno == Errno::EBUSY as i32 || errno == Errno::EEXIST as i32)
}

fn take_over(driver: &mut Driver, sysfs: &Sysfs, index: u32, options: &DeviceOptions) -> Result<Attached, NbdkError> {
    let (device_bytes, volume_bytes) = (sysfs.size_bytes(index), options.size_bytes);
    if device_bytes > volume_bytes {
        return Err(NbdkError::Size { index, device_bytes, volume_bytes });
    }
    let (device_block, volume_block) = (sysfs.block_bytes(index), options.block_bytes);
    if device_block < volume_block {
        return Err(NbdkError::Blocks { index, device_block, volume_block });
    }
    if options.has_volatile_cache() && !sysfs.flushes(index) {
        return Err(NbdkError::Cache(index));
    }
    let deadline = Instant::now() + TAKEOVER_PATIENCE;
    loop {
        let (own, kernels) = pair()?;
        driver.reconnect(index, &options.backend, kernels.as_fd())?;
        drop(kernels);
        if !hung_up(&own)? {
            let (origin, size_bytes) = (Origin::TakenOver, device_bytes);
            return Ok(Attached { index, origin, size_bytes, socket: own });
        }
        // Its server is on its way out, or still there.
        if Instant::now() >= deadline {
            return Err(NbdkError::Served(index));
        }
        sleep(RETRY_PAUSE);
    }
}

/// Has a device that is bound for a backend grow, under whoever has it open.
pub fn grow(index: u32, backend: &Backend, size_bytes: u64) -> Result<(), NbdkError> {
    Driver::open()?.resize(index, backend, size_bytes)?;
    let sysfs = Sysfs::new();
    let has_grown = || sysfs.size_bytes(index) >= size_bytes / SECTOR_SIZE * SECTOR_SIZE;
    if within(NODE_PATIENCE, has_grown) { Ok(()) } else { Err(NbdkError::KeepsSize(index)) }
}

/// Ends a device that is bound for a backend, and waits until it has gone. One that has gone already is no error.
pub fn detach(index: u32, backend: &Backend) -> Result<(), NbdkError> {
    let sysfs = Sysfs::new();
    if sysfs.is_of(index, backend) {
        Driver::open()?.disconnect(index)?;
    }
    if within(NODE_PATIENCE, || !sysfs.exists(index)) { Ok(()) } else { Err(NbdkError::StaysOpen(index)) }
}

/// Ends a device that nobody serves, under whoever has it open: what waits there fails, and what comes. Its number.
pub fn give_up(backend: &Backend) -> Result<Option<u32>, NbdkError> {
    let Some(index) = find(backend)? else { return Ok(None) };
    match detach(index, backend) {
        // It goes with its last user.
        Ok(()) | Err(NbdkError::StaysOpen(_)) => Ok(Some(index)),
        Err(error) => Err(error),
    }
}

/// Both ends of a connection: ours, and the kernel's.
fn pair() -> Result<(OwnedFd, OwnedFd), NbdkError> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|source| NbdkError::Socket { what: "a pair of sockets", source })
}

/// Whether nobody holds the other end.
fn hung_up(socket: &OwnedFd) -> Result<bool, NbdkError> {
    let mut asked = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO).map_err(|source| NbdkError::Socket { what: "a pair of sockets", source })?;
    Ok(asked[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
}

/// Waits until something holds.
fn within(patience: Duration, holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(RETRY_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_nobody_took_is_told_from_one_that_somebody_holds() {
        let (own, kernels) = pair().expect("a pair");
        let copy = kernels.try_clone().expect("a copy");
        drop(kernels);
        assert!(!hung_up(&own).expect("asked"));
        drop(copy);
        assert!(hung_up(&own).expect("asked"));
    }

    #[test]
    fn blocks_the_driver_would_not_take_are_refused_before_it_is_asked() {
        let options =
            DeviceOptions { backend: Backend::new("vz", "a", 0), size_bytes: 1 << 20, block_bytes: 8192, flags: 1 };
        assert!(matches!(attach(&options), Err(NbdkError::BlockSize(8192))));
    }
}
