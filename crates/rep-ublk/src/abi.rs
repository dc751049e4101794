//! The layouts and numbers of the driver's interface, as in the kernel's `linux/ublk_cmd.h`: native byte order, no hidden
//! padding.

use std::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A control command, shipped in a 128-byte submission entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ControlCommand {
    /// Which device.
    pub dev_id: u32,
    /// Which queue; `NO_QUEUE` for commands about the whole device.
    pub queue_id: u16,
    /// Bytes of the buffer.
    pub length: u16,
    /// The buffer.
    pub address: u64,
    /// One number, where a command takes one.
    pub data: u64,
    /// Only for unprivileged devices.
    pub path_length: u16,
    /// Zero.
    pub pad: u16,
    /// Zero.
    pub reserved: u32,
}

/// What the driver knows of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceInfo {
    /// Hardware queues.
    pub queues: u16,
    /// Requests a queue.
    pub depth: u16,
    /// One of the `STATE_` numbers.
    pub state: u16,
    /// Zero.
    pub pad: u16,
    /// The longest request, in bytes.
    pub io_bytes_max: u32,
    /// The device.
    pub dev_id: u32,
    /// The server's process.
    pub server_pid: i32,
    /// Zero.
    pub pad1: u32,
    /// The features it was made with.
    pub flags: u64,
    /// The server's own; the driver only keeps it. Ours is a [`crate::Fingerprint`].
    pub server_flags: u64,
    /// Owner.
    pub owner_uid: u32,
    /// Owner.
    pub owner_gid: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

/// A request, in the memory shared with the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoDescriptor {
    /// The operation in the lowest byte, flags above it.
    pub op_flags: u32,
    /// How many sectors.
    pub sectors: u32,
    /// The first sector.
    pub start_sector: u64,
    /// Unused with user copy.
    pub address: u64,
}

/// A fetch or a commit, shipped in a submission entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoCommand {
    /// Which queue.
    pub queue_id: u16,
    /// Which request of the queue.
    pub tag: u16,
    /// A commit's result: bytes, or a negative `errno`.
    pub result: i32,
    /// Zero with user copy.
    pub address: u64,
}

/// A device's parameters. Drivers older than this layout take what they know of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // the block layer's own words for its limits
pub struct Parameters {
    /// Bytes of all this.
    pub length: u32,
    /// Which parts are meant: the `PARAM_` bits.
    pub types: u32,
    // ---- basic ----
    pub attributes: u32,
    pub logical_block_shift: u8,
    pub physical_block_shift: u8,
    pub io_optimum_shift: u8,
    pub io_minimum_shift: u8,
    pub sectors_max: u32,
    pub chunk_sectors: u32,
    pub device_sectors: u64,
    pub virtual_boundary_mask: u64,
    // ---- discard ----
    pub discard_alignment: u32,
    pub discard_granularity: u32,
    pub discard_sectors_max: u32,
    pub write_zeroes_sectors_max: u32,
    pub discard_segments_max: u16,
    pub discard_reserved: u16,
    // ---- device numbers (told, never set), zones, alignment: not used ----
    pub device_numbers: [u32; 4],
    pub zoned: [u32; 8],
    pub alignment: [u32; 2],
    pub pad: u32,
    // ---- segments ----
    pub segment_boundary_mask: u64,
    pub segment_bytes_max: u32,
    pub segments_max: u16,
    pub segment_pad: u16,
}

impl Parameters {
    /// Bytes of a logical block.
    pub fn logical_block_bytes(&self) -> u32 {
        1u32.checked_shl(u32::from(self.logical_block_shift)).unwrap_or(0)
    }

    /// Whether it has a volatile cache: without one the kernel sends no flushes.
    pub fn has_volatile_cache(&self) -> bool {
        self.attributes & ATTRIBUTE_VOLATILE_CACHE != 0
    }
}

const _: () = assert!(size_of::<ControlCommand>() == 32);
const _: () = assert!(size_of::<DeviceInfo>() == 64);
const _: () = assert!(size_of::<IoDescriptor>() == 24);
const _: () = assert!(size_of::<IoCommand>() == 16);
const _: () = assert!(size_of::<Parameters>() == 136);
const _: () = assert!(offset_of!(DeviceInfo, server_flags) == 32);
const _: () = assert!(offset_of!(Parameters, discard_alignment) == 40);
const _: () = assert!(offset_of!(Parameters, device_numbers) == 60);
const _: () = assert!(offset_of!(Parameters, segment_boundary_mask) == 120);

/// `queue_id` of a command about the whole device.
pub const NO_QUEUE: u16 = u16::MAX;
/// `dev_id` that has the driver choose one.
pub const ANY_DEVICE: u32 = u32::MAX;

/// Not started, or stopped.
pub const STATE_DEAD: u16 = 0;
/// Its server answers.
pub const STATE_LIVE: u16 = 1;
/// Its server has gone; requests wait for the next.
pub const STATE_QUIESCED: u16 = 2;

/// Basic parameters.
pub const PARAM_BASIC: u32 = 1 << 0;
/// Discard and write-zeroes.
pub const PARAM_DISCARD: u32 = 1 << 1;
/// Limits of segments (Linux 6.15).
pub const PARAM_SEGMENT: u32 = 1 << 5;
/// An answered write may still be lost with the power.
pub const ATTRIBUTE_VOLATILE_CACHE: u32 = 1 << 2;
/// A write may ask to be stable.
pub const ATTRIBUTE_FUA: u32 = 1 << 3;

/// Operations of a descriptor.
pub const OP_READ: u32 = 0;
/// As above.
pub const OP_WRITE: u32 = 1;
/// As above.
pub const OP_FLUSH: u32 = 2;
/// As above.
pub const OP_DISCARD: u32 = 3;
/// As above.
pub const OP_WRITE_ZEROES: u32 = 5;
/// The write must be stable before it is answered.
pub const FLAG_FUA: u32 = 1 << 13;
/// Zeroed space stays allocated.
pub const FLAG_NO_UNMAP: u32 = 1 << 15;

/// A command's number as `ioctl` encodes it.
const fn encoded(reads: bool, writes: bool, number: u32, size: usize) -> u32 {
    let direction = (if writes { 1 } else { 0 }) | (if reads { 2 } else { 0 });
    direction << 30 | (size as u32) << 16 | (b'u' as u32) << 8 | number
}

const fn control(writes: bool, number: u32) -> u32 {
    encoded(true, writes, number, size_of::<ControlCommand>())
}

/// Tells a [`DeviceInfo`].
pub const GET_DEV_INFO: u32 = control(false, 0x02);
/// Makes a device.
pub const ADD_DEV: u32 = control(true, 0x04);
/// Removes it.
pub const DEL_DEV: u32 = control(true, 0x05);
/// Shows the block device; waits until every request has been fetched for.
pub const START_DEV: u32 = control(true, 0x06);
/// Takes the block device away; waits until its requests are answered.
pub const STOP_DEV: u32 = control(true, 0x07);
/// Sets parameters, before the start.
pub const SET_PARAMS: u32 = control(true, 0x08);
/// Tells them.
pub const GET_PARAMS: u32 = control(false, 0x09);
/// The first step of taking a device over.
pub const START_USER_RECOVERY: u32 = control(true, 0x10);
/// The last; waits until every request has been fetched for.
pub const END_USER_RECOVERY: u32 = control(true, 0x11);
/// Tells the driver's features.
pub const GET_FEATURES: u32 = control(false, 0x13);
/// Deletes a device without waiting for those who have it open.
pub const DEL_DEV_ASYNC: u32 = control(false, 0x14);
/// Changes the size of a live device (Linux 6.16).
pub const UPDATE_SIZE: u32 = control(true, 0x15);

/// Waits for a request.
pub const FETCH_REQ: u32 = encoded(true, true, 0x20, size_of::<IoCommand>());
/// Answers a request and waits for the next of the same tag.
pub const COMMIT_AND_FETCH_REQ: u32 = encoded(true, true, 0x21, size_of::<IoCommand>());

/// Where a queue's descriptors are mapped from, and how far apart two queues' are: the most a queue can have, in pages.
pub const fn descriptors_offset(queue: u16, page_bytes: usize) -> usize {
    const DEPTH_MAX: usize = 4096;
    queue as usize * (DEPTH_MAX * size_of::<IoDescriptor>()).next_multiple_of(page_bytes)
}

/// Where a request's data is read and written on the character device.
pub const fn data_offset(queue: u16, tag: u16) -> u64 {
    const BASE: u64 = 0x8000_0000;
    const TAG_SHIFT: u32 = 25;
    const QUEUE_SHIFT: u32 = TAG_SHIFT + 16;
    BASE + ((queue as u64) << QUEUE_SHIFT | (tag as u64) << TAG_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_kernels_numbers() {
        let golden = [
            (GET_DEV_INFO, 0x8020_7502),
            (ADD_DEV, 0xc020_7504),
            (DEL_DEV, 0xc020_7505),
            (START_DEV, 0xc020_7506),
            (STOP_DEV, 0xc020_7507),
            (SET_PARAMS, 0xc020_7508),
            (GET_PARAMS, 0x8020_7509),
            (START_USER_RECOVERY, 0xc020_7510),
            (END_USER_RECOVERY, 0xc020_7511),
            (GET_FEATURES, 0x8020_7513),
            (UPDATE_SIZE, 0xc020_7515),
            (FETCH_REQ, 0xc010_7520),
            (COMMIT_AND_FETCH_REQ, 0xc010_7521),
        ];
        golden.iter().for_each(|(ours, kernels)| assert_eq!(ours, kernels, "{ours:#x} {kernels:#x}"));
    }

    #[test]
    fn offsets_on_the_character_device() {
        assert_eq!(descriptors_offset(0, 4096), 0);
        assert_eq!(descriptors_offset(3, 4096), 3 * 98_304);
        assert_eq!(data_offset(0, 0), 0x8000_0000);
        assert_eq!(data_offset(0, 1), 0x8200_0000);
        assert_eq!(data_offset(1, 2), 0x200_8400_0000);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn layouts_have_golden_bytes() {
        let command = IoCommand { queue_id: 0x0102, tag: 0x0304, result: -5, address: 0 };
        assert_eq!(command.as_bytes(), [2, 1, 4, 3, 0xfb, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = [0u8; 24];
        bytes[..5].copy_from_slice(&[1, 0x20, 0, 0, 8]);
        bytes[8] = 0x40;
        let descriptor = IoDescriptor { op_flags: OP_WRITE | FLAG_FUA, sectors: 8, start_sector: 64, address: 0 };
        assert_eq!(descriptor.as_bytes(), bytes);
        let control = ControlCommand {
            dev_id: 7,
            queue_id: NO_QUEUE,
            length: 64,
            address: 0x1122,
            data: 9,
            ..Default::default()
        };
        let mut bytes = [0u8; 32];
        bytes[..10].copy_from_slice(&[7, 0, 0, 0, 0xff, 0xff, 64, 0, 0x22, 0x11]);
        bytes[16] = 9;
        assert_eq!(control.as_bytes(), bytes);
    }
}
