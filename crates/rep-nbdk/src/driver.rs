//! The driver: one command at a time, waited for. Some wait for requests to end, so none is for the thread that answers
//! them.

use crate::backend::Backend;
use crate::error::NbdkError;
use crate::lifecycle::DeviceOptions;
use crate::limits::DEAD_CONNECTION_PATIENCE;
use crate::netlink::{Answer, CONTROL_FAMILY, Message, answers, attribute, control, nbd, u16_at};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The longest answer, in bytes: the description of a family.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// A connection to the driver.
pub struct Driver {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
}

impl Driver {
    /// Finds the driver; the kernel loads its module if it may.
    pub fn open() -> Result<Self, NbdkError> {
        let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkGeneric);
        let socket = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol);
        let socket = socket.map_err(|source| NbdkError::Socket { what: "a netlink socket", source })?;
        let mut driver = Driver { socket, family: 0, sequence: 0 };
        let what = "looking for the driver";
        let request = driver.request(CONTROL_FAMILY, control::GET_FAMILY, control::VERSION);
        let answer = match driver.call(what, request.text(control::FAMILY_NAME, nbd::FAMILY)) {
            Err(NbdkError::Command { source, .. }) if source.raw_os_error() == Some(Errno::ENOENT as i32) => {
                return Err(NbdkError::NoDriver);
            }
            answer => answer?,
        };
        let family = attribute(&answer, control::FAMILY_ID).and_then(|value| u16_at(value, 0));
        driver.family = family.ok_or(NbdkError::Answer(what))?;
        Ok(driver)
    }

    /// Makes the device of this number, with `socket` as its connection.
    pub fn connect(&mut self, index: u32, options: &DeviceOptions, socket: BorrowedFd<'_>) -> Result<(), NbdkError> {
        let message = self
            .command(nbd::CONNECT)
            .u32(nbd::INDEX, index)
            .u64(nbd::SIZE_BYTES, options.size_bytes)
            .u64(nbd::BLOCK_SIZE_BYTES, u64::from(options.block_bytes))
            // No request is ever too slow: a peer that is away may hold writes back for as long as it takes.
            .u64(nbd::TIMEOUT, 0)
            .u64(nbd::DEAD_CONN_TIMEOUT, DEAD_CONNECTION_PATIENCE.as_secs())
            .u64(nbd::SERVER_FLAGS, u64::from(options.flags))
            .u64(nbd::CLIENT_FLAGS, nbd::DESTROY_ON_DISCONNECT)
            .text(nbd::BACKEND_IDENTIFIER, options.backend.as_str());
        self.call("making a device", connection(message, socket)).map(drop)
    }

    /// Whether a device of this backend can still be given a connection: not once it was disconnected, though it stays as
    /// long as somebody has it open.
    pub fn is_bound(&mut self, index: u32, backend: &Backend) -> Result<bool, NbdkError> {
        // To reconfigure nothing.
        let message = self.command(nbd::RECONFIGURE).u32(nbd::INDEX, index);
        match self.call("looking at a device", message.text(nbd::BACKEND_IDENTIFIER, backend.as_str())) {
            Err(NbdkError::Command { source, .. }) if source.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// Gives a device whose connection is dead another. The driver also says that it is done when it isn't dead and the
    /// socket wasn't taken.
    pub fn reconnect(&mut self, index: u32, backend: &Backend, socket: BorrowedFd<'_>) -> Result<(), NbdkError> {
        let message = self.command(nbd::RECONFIGURE).u32(nbd::INDEX, index);
        let message = message.text(nbd::BACKEND_IDENTIFIER, backend.as_str());
        self.call("taking a device over", connection(message, socket)).map(drop)
    }

    /// Tells a device's new size. A driver that doesn't know how says that it is done, and does nothing.
    pub fn resize(&mut self, index: u32, backend: &Backend, size_bytes: u64) -> Result<(), NbdkError> {
        let message = self.command(nbd::RECONFIGURE).u32(nbd::INDEX, index).u64(nbd::SIZE_BYTES, size_bytes);
        self.call("growing a device", message.text(nbd::BACKEND_IDENTIFIER, backend.as_str())).map(drop)
    }

    /// Ends a device. Requests under way fail.
    pub fn disconnect(&mut self, index: u32) -> Result<(), NbdkError> {
        let message = self.command(nbd::DISCONNECT).u32(nbd::INDEX, index);
        self.call("removing a device", message).map(drop)
    }

    fn command(&mut self, command: u8) -> Message {
        self.request(self.family, command, nbd::VERSION)
    }

    fn request(&mut self, family: u16, command: u8, version: u8) -> Message {
        self.sequence += 1;
        Message::new(family, command, version, self.sequence)
    }

    /// Has a command carried out; returns the attributes of its answer, if it has any.
    fn call(&mut self, what: &'static str, message: Message) -> Result<Vec<u8>, NbdkError> {
        let failed = |source| NbdkError::Socket { what: "the netlink socket", source };
        let fd = self.socket.as_raw_fd();
        sendto(fd, &message.finish(), &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(failed)?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let mut data = Vec::new();
        loop {
            let length = recv(fd, &mut buffer, MsgFlags::empty()).map_err(failed)?;
            let mut any = false;
            for answer in answers(&buffer[..length]) {
                any = true;
                match answer {
                    Answer::Data { sequence, attributes } if sequence == self.sequence => data = attributes.to_vec(),
                    Answer::Ended { sequence, errno } if sequence == self.sequence => {
                        return ended(what, errno).map(|()| data);
                    }
                    // Left from a command that failed half-way.
                    Answer::Data { .. } | Answer::Ended { .. } => {}
                }
            }
            if !any {
                return Err(NbdkError::Answer(what));
            }
        }
    }
}

fn connection(message: Message, socket: BorrowedFd<'_>) -> Message {
    let fd = socket.as_raw_fd() as u32;
    message.nested(nbd::SOCKETS, |sockets| sockets.nested(nbd::SOCK_ITEM, |item| item.u32(nbd::SOCK_FD, fd)))
}

fn ended(what: &'static str, errno: i32) -> Result<(), NbdkError> {
    match Errno::from_raw(errno) {
        _ if errno == 0 => Ok(()),
        Errno::EPERM => Err(NbdkError::NotAllowed(what)),
        errno => Err(NbdkError::Command { what, source: errno.into() }),
    }
}
