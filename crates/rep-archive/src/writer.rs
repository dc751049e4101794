//! Writing an archive: into a file of its own under a name that doesn't count yet, renamed when all of it is stable.

use crate::layout::{Head, RecordHead, RecordKind};
use crate::{EXTENSION, EXTENSION_PART, RECORD_BYTES_MAX, ZEROES_BYTES_MAX};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Archives of one volume that may be begun in one second.
const NAMES_MAX: u32 = 100;

/// An archive that is being written. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    file: File,
    directory: PathBuf,
    name: String,
    digests: blake3::Hasher,
    records: u64,
    bytes: u64,
    /// Zeroes not written yet: runs of them become one record.
    zeroes: Option<(u64, u64)>,
    finished: bool,
}

impl Writer {
    /// Begins an archive in `directory`, which is made when it isn't there, for its owner's eyes only.
    pub fn create(directory: &Path, head: &Head) -> io::Result<Writer> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let stem = format!("{}-{}-{}-{}", head.resource, head.volume, head.node, file_time(head.created_unix_ms));
        for attempt in 1..=NAMES_MAX {
            let name = if attempt == 1 { stem.clone() } else { format!("{stem}-{attempt}") };
            if directory.join(format!("{name}.{EXTENSION}")).exists() {
                continue;
            }
            let part = directory.join(format!("{name}.{EXTENSION_PART}"));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(part) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Writer::begin(file, directory.to_owned(), name, head),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many archives of this volume in one second"))
    }

    fn begin(file: File, directory: PathBuf, name: String, head: &Head) -> io::Result<Writer> {
        let (digests, zeroes) = (blake3::Hasher::new(), None);
        let mut writer = Writer { file, directory, name, digests, records: 0, bytes: 0, zeroes, finished: false };
        let head = head.encode();
        writer.digests.update(&head);
        writer.file.write_all(&head)?;
        Ok(writer)
    }

    /// Adds what stands at `offset`: whole sectors, at most [`RECORD_BYTES_MAX`] bytes, in ascending order.
    pub fn add(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let length = data.len() as u64;
        debug_assert!(length <= RECORD_BYTES_MAX);
        self.bytes += length;
        if data.iter().all(|byte| *byte == 0) {
            return self.add_zeroes(offset, length);
        }
        self.end_zeroes()?;
        self.record(RecordKind::Data { offset, length }, data)
    }

    fn add_zeroes(&mut self, offset: u64, length: u64) -> io::Result<()> {
        match &mut self.zeroes {
            Some((first, run)) if *first + *run == offset && *run + length <= ZEROES_BYTES_MAX => *run += length,
            _ => {
                self.end_zeroes()?;
                self.zeroes = Some((offset, length));
            }
        }
        Ok(())
    }

    fn end_zeroes(&mut self) -> io::Result<()> {
        match self.zeroes.take() {
            Some((offset, length)) => self.record(RecordKind::Zeroes { offset, length }, &[]),
            None => Ok(()),
        }
    }

    fn record(&mut self, kind: RecordKind, data: &[u8]) -> io::Result<()> {
        let head = RecordHead::new(kind, data);
        self.digests.update(&head.digest);
        self.records += 1;
        self.file.write_all(&head.encode())?;
        self.file.write_all(data)
    }

    /// Ends the archive and makes it stable; from here on it counts. Returns where it is.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        self.end_zeroes()?;
        let kind = RecordKind::End { records: self.records, bytes: self.bytes };
        let chain = *self.digests.finalize().as_bytes();
        self.file.write_all(&RecordHead::new(kind, &chain).encode())?;
        self.file.sync_all()?;
        let path = self.path(EXTENSION);
        std::fs::rename(self.path(EXTENSION_PART), &path)?;
        self.finished = true;
        File::open(&self.directory)?.sync_all()?;
        Ok(path)
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.name))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // One that can't be taken away is never taken for an archive.
            let _ = std::fs::remove_file(self.path(EXTENSION_PART));
        }
    }
}

/// A moment as file names have it: `20260102T030405Z`.
fn file_time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (year, month, day) = rep_types::civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_have_the_time() {
        assert_eq!(file_time(0), "19700101T000000Z");
        assert_eq!(file_time(951_782_399_999), "20000228T235959Z");
        assert_eq!(file_time(1_709_164_800_000), "20240229T000000Z");
    }
}
