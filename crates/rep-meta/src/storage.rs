//! What metadata is read from and written to: a disk, a file, or the simulator's idea of one.

use rep_types::IoError;

/// A read, write or flush of the metadata device failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the metadata device failed: {0}")]
pub struct MetaIoError(pub IoError);

/// The metadata device. Offsets and lengths are multiples of 4 KiB.
pub trait MetaStorage {
    /// Bytes of the device.
    fn size_bytes(&self) -> u64;
    /// Fills `buf` from `offset`.
    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError>;
    /// Writes; durable after the next [`MetaStorage::flush`].
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError>;
    /// Makes everything written durable.
    fn flush(&mut self) -> Result<(), MetaIoError>;
}
