//! Why a device can't be had.

use nix::errno::Errno;
use std::io;

/// Why a device can't be had.
#[derive(Debug, thiserror::Error)]
pub enum NbdkError {
    /// The driver isn't there.
    #[error("the kernel offers no nbd; load the module: modprobe nbd")]
    NoDriver,
    /// This process may not.
    #[error("nbd: {0} needs root (CAP_SYS_ADMIN)")]
    NotAllowed(&'static str),
    /// A socket can't be had.
    #[error("{what}: {source}")]
    Socket {
        /// Which.
        what: &'static str,
        /// Why.
        source: Errno,
    },
    /// A command failed.
    #[error("nbd: {what}: {source}; the kernel's log tells more")]
    Command {
        /// Which.
        what: &'static str,
        /// The driver's answer.
        source: io::Error,
    },
    /// The driver's answer makes no sense.
    #[error("nbd: the kernel's answer to {0} can't be understood")]
    Answer(&'static str),
    /// Every free number was taken by others at the same moment.
    #[error("nbd: no free device number was found")]
    NoNumber,
    /// The node doesn't appear.
    #[error("/dev/nbd{0} doesn't appear: is /dev the kernel's own (devtmpfs)?")]
    NoNode(u32),
    /// Another process answers the device's requests.
    #[error("/dev/nbd{0} is still served by another process")]
    Served(u32),
    /// The device that was left behind doesn't fit the volume.
    #[error("/dev/nbd{index} has {device_bytes} bytes, the volume {volume_bytes}")]
    Size {
        /// The device.
        index: u32,
        /// Its size.
        device_bytes: u64,
        /// The volume's size.
        volume_bytes: u64,
    },
    /// Whoever has the device that was left behind was told of smaller blocks than the volume's disks take.
    #[error(
        "/dev/nbd{index} can't be taken over: it has blocks of {device_block} bytes, the volume's disks take {volume_block}"
    )]
    Blocks {
        /// The device.
        index: u32,
        /// Bytes of a block of it.
        device_block: u32,
        /// Those of the volume.
        volume_block: u32,
    },
    /// Whoever has the device that was left behind was told that what is answered is stable.
    #[error(
        "/dev/nbd{0} can't be taken over: it was made without a volatile cache, and nothing is known of that; attach the volume's disk first"
    )]
    Cache(u32),
    /// The driver can't have a device grow.
    #[error("/dev/nbd{0} keeps its size: the kernel's nbd driver can't have a device grow before Linux 5.3")]
    KeepsSize(u32),
    /// The disk's blocks are larger than the driver takes.
    #[error(
        "the disk's blocks of {0} bytes are larger than the kernel's nbd takes; offer it by a socket (nbd:unix:/PATH)"
    )]
    BlockSize(u32),
    /// It was disconnected while somebody had it open.
    #[error("/dev/nbd{0} is disconnected, but something still has it open")]
    StaysOpen(u32),
}
