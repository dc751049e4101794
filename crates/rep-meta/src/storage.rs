//! What metadata is read from and written to: a disk, a file, or the simulator's idea of one.

use crate::{META_BLOCK_SIZE, MetaBlock};
use rep_types::IoError;
use std::collections::BTreeMap;

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

/// Blocks read at once.
const READ_BLOCKS_MAX: u32 = 64;

/// Reads blocks in a row and hands each to `each` with its index; `None` for one that can't be read.
pub(crate) fn read_blocks(
    storage: &mut dyn MetaStorage,
    offset: u64,
    count: u32,
    mut each: impl FnMut(u32, Option<&[u8; META_BLOCK_SIZE]>),
) {
    let mut buffer = vec![0; count.min(READ_BLOCKS_MAX) as usize * META_BLOCK_SIZE];
    let mut first = 0;
    while first < count {
        let blocks = (count - first).min(READ_BLOCKS_MAX);
        let at = |index: u32| offset + u64::from(index) * META_BLOCK_SIZE as u64;
        let together = &mut buffer[..blocks as usize * META_BLOCK_SIZE];
        let whole = storage.read(at(first), together).is_ok();
        let (chunks, _) = together.as_chunks_mut::<META_BLOCK_SIZE>();
        for (index, chunk) in (first..).zip(chunks) {
            // After a failure each is read by itself, to lose no more than can't be read.
            let readable = whole || storage.read(at(index), chunk).is_ok();
            each(index, readable.then_some(&*chunk));
        }
        first += blocks;
    }
}

/// A metadata device in memory, for tests and simulation: sparse, zero where nothing was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryStorage {
    size_bytes: u64,
    blocks: BTreeMap<u64, MetaBlock>,
}

impl MemoryStorage {
    /// A device of zeroes.
    pub fn new(size_bytes: u64) -> Self {
        MemoryStorage { size_bytes, blocks: BTreeMap::new() }
    }

    /// The block at an offset, to be changed at will.
    pub fn block_mut(&mut self, offset: u64) -> &mut MetaBlock {
        self.blocks.entry(offset).or_insert_with(MetaBlock::zeroed)
    }

    /// Changes the size; what lies beyond is lost.
    pub fn resize(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
        self.blocks.retain(|offset, _| offset + META_BLOCK_SIZE as u64 <= size_bytes);
    }

    fn check(&self, offset: u64, length: usize) -> Result<(), MetaIoError> {
        let whole = offset.is_multiple_of(META_BLOCK_SIZE as u64) && length.is_multiple_of(META_BLOCK_SIZE);
        let inside = offset.checked_add(length as u64).is_some_and(|end| end <= self.size_bytes);
        if whole && inside { Ok(()) } else { Err(MetaIoError(IoError::Invalid)) }
    }
}

impl MetaStorage for MemoryStorage {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        self.check(offset, buf.len())?;
        for (at, chunk) in (offset..).step_by(META_BLOCK_SIZE).zip(buf.chunks_exact_mut(META_BLOCK_SIZE)) {
            match self.blocks.get(&at) {
                Some(block) => chunk.copy_from_slice(&block.0[..]),
                None => chunk.fill(0),
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
        self.check(offset, bytes.len())?;
        for (at, chunk) in (offset..).step_by(META_BLOCK_SIZE).zip(bytes.chunks_exact(META_BLOCK_SIZE)) {
            self.block_mut(at).0.copy_from_slice(chunk);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MetaIoError> {
        Ok(())
    }
}
