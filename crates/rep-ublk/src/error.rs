//! Why a device can't be had.

use crate::features::Features;
use std::io;

/// Why a device can't be had.
#[derive(Debug, thiserror::Error)]
pub enum UblkError {
    /// There is no control device.
    #[error("the kernel offers no ublk: /dev/ublk-control can't be opened ({0}); load the module ublk_drv")]
    NoDriver(io::Error),
    /// The driver is too old.
    #[error("the kernel's ublk driver lacks {0}; Linux 6.5 or newer is needed")]
    Features(Features),
    /// A command failed.
    #[error("ublk: {what}: {source}")]
    Command {
        /// Which.
        what: &'static str,
        /// The driver's answer.
        source: io::Error,
    },
    /// A device node can't be opened or mapped.
    #[error("{path}: {source}")]
    Node {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another process answers the device's requests.
    #[error("/dev/ublkb{0} is still served by another process")]
    Served(u32),
    /// The device that was left behind doesn't fit the volume.
    #[error("/dev/ublkb{id} has {device_bytes} bytes, the volume {volume_bytes}")]
    Size {
        /// The device.
        id: u32,
        /// Its size.
        device_bytes: u64,
        /// The volume's size.
        volume_bytes: u64,
    },
    /// Whoever has the device that was left behind was told of smaller blocks than the volume's disks take.
    #[error(
        "/dev/ublkb{id} can't be taken over: it has blocks of {device_block} bytes, the volume's disks take {volume_block}"
    )]
    Blocks {
        /// The device.
        id: u32,
        /// Bytes of a block of it.
        device_block: u32,
        /// Those of the volume.
        volume_block: u32,
    },
    /// Whoever has the device that was left behind was told that what is answered is stable.
    #[error(
        "/dev/ublkb{0} can't be taken over: it was made without a volatile cache, and nothing is known of that; attach the volume's disk first"
    )]
    Cache(u32),
    /// The driver can't have a device grow.
    #[error("/dev/ublkb{0} keeps its size: the kernel's ublk driver can't have a device grow before Linux 6.16")]
    KeepsSize(u32),
    /// The disk's blocks are larger than the driver takes.
    #[error("the disk's blocks of {0} bytes are larger than ublk takes; offer it by NBD")]
    BlockSize(u32),
    /// The device that was left behind wasn't made as ours are.
    #[error("/dev/ublkb{0} can't be taken over: it wasn't made for it")]
    Foreign(u32),
}
