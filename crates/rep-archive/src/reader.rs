//! Reading an archive: its head, the order of its records, and their digests up to the end.

use crate::layout::{HEAD_LENGTH, Head, LayoutError, RECORD_LENGTH, RecordHead, RecordKind};
use rep_types::SECTOR_SIZE;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It isn't an archive, or a damaged one.
    #[error("{0}")]
    Layout(#[from] LayoutError),
    /// The end is missing: it was cut off.
    #[error("its end is missing: it was cut off")]
    CutOff,
    /// The records aren't the ones that were written.
    #[error("its records don't hold together at byte {0} of the file")]
    OutOfOrder(u64),
    /// Data isn't what was written.
    #[error("its data are damaged at byte {0} of the volume")]
    DataDamaged(u64),
}

/// A run of a volume's bytes in an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub offset: u64,
    pub length: u64,
    /// Where the data begin in the file; `None`: zeroes.
    pub at: Option<u64>,
    pub digest: [u8; 32],
}

impl Record {
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// An archive whose head and order of records hold together. Data are compared with their digests when they are read.
#[derive(Debug)]
pub struct Archive {
    file: File,
    head: Head,
    records: Vec<Record>,
    bytes: u64,
}

impl Archive {
    /// Opens an archive.
    pub fn open(path: &Path) -> Result<Archive, ReadError> {
        Self::read(File::open(path)?)
    }

    /// Reads the head alone: what it is, not whether it is whole.
    pub fn head_of(path: &Path) -> Result<Head, ReadError> {
        Ok(read_head(&File::open(path)?)?.0)
    }

    fn read(file: File) -> Result<Archive, ReadError> {
        let (head, bytes) = read_head(&file)?;
        let mut scan = Scan { digests: blake3::Hasher::new(), at: HEAD_LENGTH as u64, records: Vec::new(), bytes: 0 };
        scan.digests.update(&bytes);
        while scan.next(&file, &head)? {}
        Ok(Archive { file, head, records: scan.records, bytes: scan.bytes })
    }

    /// What stands at its beginning.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes of the volume that are in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The record that holds this byte of the volume, or the first behind it.
    pub(crate) fn record_at_or_behind(&self, offset: u64) -> Option<&Record> {
        let index = self.records.partition_point(|record| record.end() <= offset);
        self.records.get(index)
    }

    /// A record's data, compared with their digest.
    pub(crate) fn data(&self, record: &Record) -> Result<Vec<u8>, ReadError> {
        let Some(at) = record.at else { return Ok(vec![0; record.length as usize]) };
        let mut data = vec![0; record.length as usize];
        self.file.read_exact_at(&mut data, at)?;
        let kind = RecordKind::Data { offset: record.offset, length: record.length };
        if kind.digest(&data) != record.digest {
            return Err(ReadError::DataDamaged(record.offset));
        }
        Ok(data)
    }

    /// Compares all data with their digests.
    pub fn check(&self) -> Result<(), ReadError> {
        self.records.iter().filter(|record| record.at.is_some()).try_for_each(|record| self.data(record).map(drop))
    }
}

fn read_head(file: &File) -> Result<(Head, [u8; HEAD_LENGTH]), ReadError> {
    let mut bytes = [0; HEAD_LENGTH];
    file.read_exact_at(&mut bytes, 0).map_err(|error| cut_off(error, LayoutError::NotAnArchive.into()))?;
    Ok((Head::decode(&bytes)?, bytes))
}

fn cut_off(error: io::Error, short: ReadError) -> ReadError {
    if error.kind() == io::ErrorKind::UnexpectedEof { short } else { error.into() }
}

struct Scan {
    digests: blake3::Hasher,
    at: u64,
    records: Vec<Record>,
    bytes: u64,
}

impl Scan {
    /// Takes a record; false: it was the end.
    fn next(&mut self, file: &File, head: &Head) -> Result<bool, ReadError> {
        let mut bytes = [0; RECORD_LENGTH];
        file.read_exact_at(&mut bytes, self.at).map_err(|error| cut_off(error, ReadError::CutOff))?;
        let record = RecordHead::decode(&bytes)?;
        let out_of_order = ReadError::OutOfOrder(self.at);
        let data_at = self.at + RECORD_LENGTH as u64;
        let (offset, length, at) = match record.kind {
            RecordKind::Data { offset, length } => (offset, length, Some(data_at)),
            RecordKind::Zeroes { offset, length } => (offset, length, None),
            RecordKind::End { records, bytes } => {
                let chain = *self.digests.finalize().as_bytes();
                let whole = record.kind.digest(&chain) == record.digest;
                let counts = records == self.records.len() as u64 && bytes == self.bytes;
                return if whole && counts { Ok(false) } else { Err(out_of_order) };
            }
        };
        if at.is_none() && record.kind.digest(&[]) != record.digest {
            return Err(LayoutError::RecordDamaged.into());
        }
        let behind = self.records.last().map_or(0, Record::end);
        if offset < behind || offset + length > head.size_bytes.next_multiple_of(SECTOR_SIZE) {
            return Err(out_of_order);
        }
        self.digests.update(&record.digest);
        self.records.push(Record { offset, length, at, digest: record.digest });
        self.bytes += length;
        self.at = data_at + record.kind.data_length();
        Ok(true)
    }
}
