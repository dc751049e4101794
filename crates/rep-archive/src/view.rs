//! The volume as the victim held it: an archive, and for what isn't in it a base.

use crate::layout::Scope;
use crate::reader::{Archive, ReadError, Record};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where bytes come from that aren't in the archive.
#[derive(Debug)]
pub enum Base {
    /// From a file or device: the survivor's volume, as it was at one moment between the split and its resolution.
    File(File),
    /// Nowhere: the archive has every block.
    None,
}

/// The view. Reads through it are exact: a byte is the archive's, compared with its digest, or the base's.
#[derive(Debug)]
pub struct View {
    archive: Archive,
    base: Base,
    /// The record read last: small reads beside each other don't read it each time.
    recent: Option<(Record, Vec<u8>)>,
}

impl View {
    /// Lays an archive over a base. `None` when it needs one and there is none.
    pub fn new(archive: Archive, base: Base) -> Option<View> {
        let whole = archive.head().scope == Scope::All || matches!(base, Base::File(_));
        whole.then_some(View { archive, base, recent: None })
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Bytes of the volume.
    pub fn size_bytes(&self) -> u64 {
        self.archive.head().size_bytes
    }

    /// Reads what the volume held at `offset`.
    pub fn read_at(&mut self, mut offset: u64, mut out: &mut [u8]) -> Result<(), ReadError> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.size_bytes()) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        while !out.is_empty() {
            let record = self.archive.record_at_or_behind(offset).copied();
            let (inside, until) = match record {
                Some(record) if record.offset <= offset => (true, record.end()),
                Some(record) => (false, record.offset),
                None => (false, self.size_bytes()),
            };
            let length = (out.len() as u64).min(until - offset) as usize;
            let (part, rest) = out.split_at_mut(length);
            match record.filter(|_| inside) {
                Some(record) => self.read_record(record, offset, part)?,
                None => self.read_base(offset, part)?,
            }
            offset += length as u64;
            out = rest;
        }
        Ok(())
    }

    fn read_record(&mut self, record: Record, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        if record.at.is_none() {
            out.fill(0);
            return Ok(());
        }
        if self.recent.as_ref().is_none_or(|(recent, _)| *recent != record) {
            self.recent = Some((record, self.archive.data(&record)?));
        }
        if let Some((_, data)) = &self.recent {
            let from = (offset - record.offset) as usize;
            out.copy_from_slice(&data[from..from + out.len()]);
        }
        Ok(())
    }

    fn read_base(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        match &self.base {
            Base::File(file) => file.read_exact_at(out, offset)?,
            // Every block is in such an archive: what isn't would be a damaged one.
            Base::None => return Err(ReadError::OutOfOrder(offset)),
        }
        Ok(())
    }
}
