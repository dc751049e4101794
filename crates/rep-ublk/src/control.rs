//! The control device: one command at a time, waited for.
//!
//! Commands wait in the kernel (a start for the fetches, a stop for the requests under way), so they are never made by the
//! thread that answers requests. They need entries of 128 bytes, hence a ring of their own.

use crate::abi::{self, ControlCommand, DeviceInfo, NO_QUEUE, PARAM_SEGMENT, Parameters};
use crate::error::UblkError;
use crate::features::Features;
use io_uring::squeue::Entry128;
use io_uring::{IoUring, cqueue, opcode, types};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use zerocopy::{FromBytes, IntoBytes};

/// Enough for every command's buffer.
const BUFFER_BYTES: usize = 256;

/// The memory a command may read and write.
#[repr(C, align(8))]
struct Buffer([u8; BUFFER_BYTES]);

/// The control device.
pub struct Control {
    file: File,
    ring: IoUring<Entry128, cqueue::Entry>,
    buffer: Box<Buffer>,
}

impl Control {
    /// Opens it, and looks whether the driver can do what is needed.
    pub fn open() -> Result<(Control, Features), UblkError> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/ublk-control").map_err(UblkError::NoDriver)?;
        let ring = IoUring::builder().dontfork().build(4);
        let ring = ring.map_err(|source| UblkError::Command { what: "a ring", source })?;
        let mut control = Control { file, ring, buffer: Box::new(Buffer([0; BUFFER_BYTES])) };
        let features = control.features()?;
        let lacking = features.lacks(Features::NEEDED);
        if lacking != Features::default() {
            return Err(UblkError::Features(lacking));
        }
        Ok((control, features))
    }

    fn features(&mut self) -> Result<Features, UblkError> {
        match self.command(abi::GET_FEATURES, 0, Some(size_of::<u64>()), 0) {
            Ok(_) => {
                let (number, _) = u64::read_from_prefix(&self.buffer.0).unwrap_or_default();
                Ok(Features(number))
            }
            // Drivers that can't tell are older than what is needed.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
                Ok(Features::default())
            }
            Err(source) => Err(UblkError::Command { what: "asking for the features", source }),
        }
    }

    /// What is known of a device; `None`: there is none of that number.
    pub fn info(&mut self, dev_id: u32) -> Result<Option<DeviceInfo>, UblkError> {
        match self.command(abi::GET_DEV_INFO, dev_id, Some(size_of::<DeviceInfo>()), 0) {
            Ok(_) => Ok(DeviceInfo::read_from_prefix(&self.buffer.0).ok().map(|(info, _)| info)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ENOENT)) => Ok(None),
            Err(source) => Err(UblkError::Command { what: "asking for a device", source }),
        }
    }

    /// Makes a device; returns its number and what became of it.
    pub fn add(&mut self, info: &DeviceInfo) -> Result<DeviceInfo, UblkError> {
        self.put(info.as_bytes());
        self.command(abi::ADD_DEV, info.dev_id, Some(size_of::<DeviceInfo>()), 0)
            .map_err(|source| UblkError::Command { what: "making a device", source })?;
        let made = DeviceInfo::read_from_prefix(&self.buffer.0).map(|(info, _)| info);
        made.map_err(|_| UblkError::Command { what: "making a device", source: io::ErrorKind::InvalidData.into() })
    }

    /// Sets a device's parameters. Segments are left out where the driver takes exception to them.
    pub fn set_parameters(&mut self, dev_id: u32, parameters: &Parameters) -> Result<(), UblkError> {
        let plain = Parameters { types: parameters.types & !PARAM_SEGMENT, ..*parameters };
        let mut set = |parameters: &Parameters| {
            self.put(parameters.as_bytes());
            self.command(abi::SET_PARAMS, dev_id, Some(size_of::<Parameters>()), 0)
        };
        let result = set(parameters).or_else(|_| set(&plain));
        result.map(drop).map_err(|source| UblkError::Command { what: "setting parameters", source })
    }

    /// A device's parameters.
    pub fn parameters(&mut self, dev_id: u32) -> Result<Parameters, UblkError> {
        let wanted = Parameters { length: size_of::<Parameters>() as u32, ..Parameters::default() };
        self.put(wanted.as_bytes());
        self.command(abi::GET_PARAMS, dev_id, Some(size_of::<Parameters>()), 0)
            .map_err(|source| UblkError::Command { what: "asking for parameters", source })?;
        Ok(Parameters::read_from_prefix(&self.buffer.0).map(|(parameters, _)| parameters).unwrap_or_default())
    }

    /// A command about a device that needs nothing but a number.
    pub fn simple(&mut self, what: &'static str, command: u32, dev_id: u32, data: u64) -> Result<(), UblkError> {
        self.command(command, dev_id, None, data).map(drop).map_err(|source| UblkError::Command { what, source })
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer.0.fill(0);
        self.buffer.0[..bytes.len()].copy_from_slice(bytes);
    }

    fn command(&mut self, operation: u32, dev_id: u32, buffer: Option<usize>, data: u64) -> io::Result<u32> {
        let command = ControlCommand {
            dev_id,
            queue_id: NO_QUEUE,
            length: buffer.unwrap_or(0) as u16,
            address: buffer.map_or(0, |_| (&raw mut self.buffer.0) as u64),
            data,
            ..ControlCommand::default()
        };
        let mut bytes = [0; 80];
        bytes[..size_of::<ControlCommand>()].copy_from_slice(command.as_bytes());
        let entry = opcode::UringCmd80::new(types::Fd(self.file.as_raw_fd()), operation).cmd(bytes).build();
        // SAFETY: the buffer stays in place until the completion has been seen: `wait` returns with it, or leaves the
        // buffer to the kernel for good.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
        let result = self.wait()?;
        u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }

    fn wait(&mut self) -> io::Result<i32> {
        loop {
            let waited = self.ring.submit_and_wait(1);
            if let Some(completion) = self.ring.completion().next() {
                return Ok(completion.result());
            }
            match waited {
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {
                    // The kernel may still have it.
                    std::mem::forget(std::mem::replace(&mut self.buffer, Box::new(Buffer([0; BUFFER_BYTES]))));
                    return Err(error);
                }
                _ => {}
            }
        }
    }
}
