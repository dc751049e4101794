//! A disk that is only read, whoever else has it.

use rep_meta::{MetaIoError, MetaStorage};
use rep_types::IoError;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The disk.
pub struct ReadOnlyDisk {
    file: File,
    size_bytes: u64,
}

impl ReadOnlyDisk {
    /// Opens it for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        // A block device has no length of its own; its end does.
        let size_bytes = file.seek(SeekFrom::End(0))?;
        Ok(ReadOnlyDisk { file, size_bytes })
    }
}

impl MetaStorage for ReadOnlyDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        self.file.read_exact_at(buf, offset).map_err(|_| MetaIoError(IoError::Io))
    }

    fn write(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), MetaIoError> {
        Err(MetaIoError(IoError::Unsupported))
    }

    fn flush(&mut self) -> Result<(), MetaIoError> {
        Ok(())
    }
}
