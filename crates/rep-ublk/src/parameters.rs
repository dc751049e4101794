//! What the block layer is told of a device.

use crate::abi::{ATTRIBUTE_FUA, ATTRIBUTE_VOLATILE_CACHE, PARAM_BASIC, PARAM_DISCARD, PARAM_SEGMENT, Parameters};
use crate::limits::{IO_BYTES_MAX, ZERO_BYTES_MAX};
use rep_types::{BLOCK_SIZE, SECTOR_SIZE};

/// What a volume allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceLimits {
    /// Its size.
    pub size_bytes: u64,
    /// What offsets and lengths are multiples of.
    pub logical_block_bytes: u32,
    /// Whether an answered write is stable only after a flush; if not, none is ever asked for.
    pub volatile_cache: bool,
    /// Whether it takes discards. Zeroes are always written by a command.
    pub discards: bool,
}

impl DeviceLimits {
    /// As the driver takes it.
    pub fn parameters(&self) -> Parameters {
        let sectors = |bytes: u32| bytes / SECTOR_SIZE as u32;
        let shift = |bytes: u32| bytes.max(SECTOR_SIZE as u32).next_power_of_two().trailing_zeros() as u8;
        // More than a page is no block size to the driver; `lifecycle` refuses such disks.
        let logical = shift(self.logical_block_bytes.min(BLOCK_SIZE as u32));
        let physical = shift(BLOCK_SIZE as u32).max(logical);
        Parameters {
            length: size_of::<Parameters>() as u32,
            types: PARAM_BASIC | PARAM_DISCARD | PARAM_SEGMENT,
            attributes: if self.volatile_cache { ATTRIBUTE_VOLATILE_CACHE | ATTRIBUTE_FUA } else { 0 },
            logical_block_shift: logical,
            physical_block_shift: physical,
            io_optimum_shift: physical,
            io_minimum_shift: physical,
            sectors_max: sectors(IO_BYTES_MAX),
            device_sectors: self.size_bytes / SECTOR_SIZE,
            discard_granularity: BLOCK_SIZE as u32,
            discard_sectors_max: if self.discards { sectors(ZERO_BYTES_MAX) } else { 0 },
            write_zeroes_sectors_max: sectors(ZERO_BYTES_MAX),
            discard_segments_max: 1,
            // A request of the page cache is as many pages as it is long.
            segment_boundary_mask: u64::from(u32::MAX),
            segment_bytes_max: IO_BYTES_MAX,
            segments_max: (IO_BYTES_MAX / BLOCK_SIZE as u32) as u16,
            ..Parameters::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_decides_about_the_cache() {
        let limits =
            DeviceLimits { size_bytes: 1 << 30, logical_block_bytes: 512, volatile_cache: true, discards: true };
        assert_eq!(limits.parameters().attributes, ATTRIBUTE_VOLATILE_CACHE | ATTRIBUTE_FUA);
        assert_eq!(DeviceLimits { volatile_cache: false, ..limits }.parameters().attributes, 0);
    }

    #[test]
    fn blocks_are_the_disks_and_what_the_bitmap_counts() {
        for (bytes, shift) in [(512, 9), (4096, 12), (65536, 12), (0, 9)] {
            let limits =
                DeviceLimits { size_bytes: 1 << 30, logical_block_bytes: bytes, volatile_cache: true, discards: true };
            let parameters = limits.parameters();
            assert_eq!((parameters.logical_block_shift, parameters.physical_block_shift), (shift, 12), "{bytes}");
        }
        let limits =
            DeviceLimits { size_bytes: 4096 * 3 + 512, logical_block_bytes: 512, volatile_cache: true, discards: true };
        let parameters = limits.parameters();
        assert_eq!((parameters.device_sectors, parameters.sectors_max), (25, 2048));
        assert_eq!((parameters.discard_sectors_max, parameters.segments_max), (8192, 256));
        let without = DeviceLimits { discards: false, ..limits }.parameters();
        assert_eq!(
            (without.discard_sectors_max, without.write_zeroes_sectors_max),
            (0, 8192),
            "zeroes are taken still"
        );
    }
}
