//! A metadata device in memory that costs nothing to copy: what was written lies over a base that all copies share.

use rep_meta::{META_BLOCK_SIZE, MetaIoError, MetaStorage};
use rep_types::IoError;
use std::collections::BTreeMap;
use std::sync::Arc;

const BLOCK: u64 = META_BLOCK_SIZE as u64;

pub type Block = [u8; META_BLOCK_SIZE];

/// The device. Blocks never written are zero.
#[derive(Clone, Default)]
pub struct Image {
    size_bytes: u64,
    base: Arc<BTreeMap<u64, Box<Block>>>,
    written: BTreeMap<u64, Box<Block>>,
    unreadable: Option<u64>,
    writes: u64,
}

impl Image {
    /// A device of zeroes.
    pub fn new(size_bytes: u64) -> Self {
        Image { size_bytes, ..Image::default() }
    }

    /// Makes what was written the base.
    pub fn settled(mut self) -> Self {
        Arc::make_mut(&mut self.base).append(&mut self.written);
        self.writes = 0;
        self
    }

    /// Another size; what lies beyond can't be reached.
    pub fn resize(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
    }

    /// No read of this block succeeds.
    pub fn break_block(&mut self, offset: u64) {
        self.unreadable = Some(offset / BLOCK);
    }

    /// How often it was written to since it was settled; changes by [`Image::block_mut`] don't count.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// The block at an offset, to be changed at will.
    pub fn block_mut(&mut self, offset: u64) -> &mut Block {
        let index = offset / BLOCK;
        let base = &self.base;
        self.written.entry(index).or_insert_with(|| match base.get(&index) {
            Some(block) => block.clone(),
            None => Box::new([0; META_BLOCK_SIZE]),
        })
    }

    fn check(&self, offset: u64, length: usize) -> Result<(), MetaIoError> {
        let whole = offset.is_multiple_of(BLOCK) && (length as u64).is_multiple_of(BLOCK);
        let inside = offset.checked_add(length as u64).is_some_and(|end| end <= self.size_bytes);
        if whole && inside { Ok(()) } else { Err(MetaIoError(IoError::Invalid)) }
    }
}

impl MetaStorage for Image {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        self.check(offset, buf.len())?;
        for (index, chunk) in (offset / BLOCK..).zip(buf.chunks_exact_mut(META_BLOCK_SIZE)) {
            if self.unreadable == Some(index) {
                return Err(MetaIoError(IoError::Io));
            }
            match self.written.get(&index).or_else(|| self.base.get(&index)) {
                Some(block) => chunk.copy_from_slice(&block[..]),
                None => chunk.fill(0),
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
        self.check(offset, bytes.len())?;
        self.writes += 1;
        for (at, chunk) in (offset..).step_by(META_BLOCK_SIZE).zip(bytes.chunks_exact(META_BLOCK_SIZE)) {
            self.block_mut(at).copy_from_slice(chunk);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MetaIoError> {
        Ok(())
    }
}
