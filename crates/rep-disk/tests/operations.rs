//! Operations on real files, through the ring and at once: what is written is read, zeroes are zeroes, and a disk that
//! is cut off is an error.

use rep_disk::allocation::{Run, runs};
use rep_disk::{BlockingStorage, Buffer, Disk, Kind, OpenError, Operation, Progress};
use rep_meta::MetaStorage;
use rep_ring::{Pool, Ring, Slab, Zone, ZoneBytes};
use rep_types::{ByteRange, IoError, ZeroMode};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIZE: u64 = 8 << 20;
const NO_PATIENCE: Duration = Duration::ZERO;

/// A file on the disk and one in memory.
fn places() -> Vec<(tempfile::TempDir, PathBuf)> {
    let mut directories = vec![tempfile::tempdir().expect("a directory")];
    if Path::new("/dev/shm").is_dir() {
        directories.push(tempfile::tempdir_in("/dev/shm").expect("a directory"));
    }
    directories
        .into_iter()
        .map(|directory| {
            let path = directory.path().join("disk");
            std::fs::File::create(&path).and_then(|file| file.set_len(SIZE)).expect("a file");
            (directory, path)
        })
        .collect()
}

struct Bench {
    ring: Ring,
    pool: Pool,
    disk: Disk,
}

impl Bench {
    fn new(path: &Path) -> Bench {
        let mib = 1 << 20;
        Bench {
            ring: Ring::new(16).expect("io_uring"),
            pool: Pool::new(ZoneBytes { client: 8 * mib, peer: mib, local: mib, meta: mib, forwarded: mib })
                .expect("memory"),
            disk: Disk::open(path, SIZE, NO_PATIENCE).expect("open"),
        }
    }

    fn run(&mut self, kind: Kind, range: ByteRange, buffer: Option<Buffer>, by_ring: bool) -> Result<(), IoError> {
        let mut operation = Operation::new(&self.disk, kind, range, buffer);
        if !by_ring {
            // SAFETY: the buffer is a slot of the pool, long enough, used by this alone.
            return unsafe { operation.run(&mut self.disk) };
        }
        let mut slab = Slab::new();
        loop {
            // SAFETY: disk and pool outlive the completion, which is waited for.
            unsafe { self.ring.push(operation.entry(&self.disk), slab.insert(())) };
            self.ring.turn(Some(Duration::from_secs(10))).expect("turn");
            let completion = self.ring.next_completion().expect("a completion");
            if let Progress::Done(result) = operation.complete(&mut self.disk, completion.result) {
                return result;
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8], durable: bool, by_ring: bool) -> Result<(), IoError> {
        let slot = self.pool.take(Zone::Client, bytes.len()).expect("a slot");
        self.pool.write(slot, 0, bytes);
        let buffer = Buffer { start: self.pool.start_of(slot), registered: None };
        let range = ByteRange::new(offset, bytes.len() as u32);
        let result = self.run(Kind::Write { durable }, range, Some(buffer), by_ring);
        self.pool.release(slot);
        result
    }

    fn read(&mut self, offset: u64, length: usize, by_ring: bool) -> Result<Vec<u8>, IoError> {
        let slot = self.pool.take(Zone::Client, length).expect("a slot");
        let buffer = Buffer { start: self.pool.start_of(slot), registered: None };
        let result = self.run(Kind::Read, ByteRange::new(offset, length as u32), Some(buffer), by_ring);
        // SAFETY: the read has ended.
        let bytes = unsafe { self.pool.bytes(slot) }.to_vec();
        self.pool.release(slot);
        result.map(|()| bytes)
    }
}

#[test]
fn what_is_written_is_read() {
    for (_directory, path) in places() {
        for by_ring in [true, false] {
            let mut bench = Bench::new(&path);
            let bytes: Vec<u8> = (0..70_000 / 512 * 512).map(|n| (n / 7) as u8).collect();
            bench.write(512 * 3, &bytes, true, by_ring).expect("write");
            bench.run(Kind::Flush, ByteRange::new(0, 0), None, by_ring).expect("flush");
            assert_eq!(bench.read(512 * 3, bytes.len(), by_ring).expect("read"), bytes);
        }
    }
}

#[test]
fn zeroes_are_zeroes_whatever_the_way() {
    for (_directory, path) in places() {
        for by_ring in [true, false] {
            for mode in [ZeroMode::Discard, ZeroMode::ZeroMayUnmap, ZeroMode::ZeroNoUnmap] {
                let mut bench = Bench::new(&path);
                bench.write(0, &[0xAB; 64 << 10], false, by_ring).expect("write");
                let kind = Kind::Zero { mode, durable: true };
                bench.run(kind, ByteRange::new(512, (48 << 10) + 512), None, by_ring).expect("zero");
                let bytes = bench.read(0, 64 << 10, by_ring).expect("read");
                let (end, rest) = (512 + (48 << 10) + 512, 0xAB);
                assert!(bytes[..512].iter().all(|byte| *byte == rest), "{mode} before");
                assert!(rep_disk::is_all_zero(&bytes[512..end]), "{mode}");
                assert!(bytes[end..].iter().all(|byte| *byte == rest), "{mode} after");
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_off_is_an_error() {
    for (_directory, path) in places() {
        for by_ring in [true, false] {
            let mut bench = Bench::new(&path);
            let file = std::fs::OpenOptions::new().write(true).open(&path).expect("open");
            file.set_len(SIZE / 2).expect("truncate");
            assert_eq!(bench.read(SIZE / 2 - 4096, 8192, by_ring), Err(IoError::Io));
            assert_eq!(bench.read(SIZE - 4096, 4096, by_ring), Err(IoError::Io));
            file.set_len(SIZE).expect("extend");
        }
    }
}

#[test]
fn a_disk_is_opened_once_and_its_errors_have_names() {
    let (_directory, path) = places().remove(0);
    let first = Disk::open(&path, SIZE, NO_PATIENCE).expect("open");
    assert!(matches!(Disk::open(&path, SIZE, NO_PATIENCE), Err(OpenError::InUse)));
    drop(first);
    Disk::open(&path, SIZE, NO_PATIENCE).expect("open again");
    let too_small = Disk::open(&path, SIZE + 1, NO_PATIENCE);
    assert!(matches!(too_small, Err(OpenError::TooSmall { size_bytes: SIZE, .. })));
    assert!(matches!(Disk::open(&path.join("below"), 0, NO_PATIENCE), Err(OpenError::Missing)));
    assert!(matches!(Disk::open(Path::new("/nowhere/disk"), 0, NO_PATIENCE), Err(OpenError::Missing)));
    assert!(matches!(Disk::open(Path::new("/dev/null"), 0, NO_PATIENCE), Err(OpenError::WrongKind)));
    assert!(matches!(Disk::open(Path::new("/tmp"), 0, NO_PATIENCE), Err(OpenError::WrongKind)));
}

#[test]
fn a_lock_that_goes_away_is_waited_for() {
    let (_directory, path) = places().remove(0);
    let first = Disk::open(&path, SIZE, NO_PATIENCE).expect("open");
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(first);
    });
    Disk::open(&path, SIZE, Duration::from_secs(10)).expect("open after the other let go");
    holder.join().expect("the holder");
}

#[test]
fn holes_and_data_are_told_apart() {
    for (_directory, path) in places() {
        let mut bench = Bench::new(&path);
        bench.write(1 << 20, &[1; 65536], false, false).expect("write");
        let mut found = Vec::new();
        runs(&bench.disk, 4096, SIZE, 100, &mut found);
        let hole = |length| Run { length, hole: true };
        let data = Run { length: 65536, hole: false };
        assert_eq!(found, [hole((1 << 20) - 4096), data, hole(SIZE - (1 << 20) - 65536)]);
        found.clear();
        runs(&bench.disk, 1 << 20, (1 << 20) + 512, 1, &mut found);
        assert_eq!(found, [Run { length: 512, hole: false }]);
    }
}

#[test]
fn metadata_goes_through_in_any_length() {
    let (_directory, path) = places().remove(0);
    let mut disk = Disk::open(&path, SIZE, NO_PATIENCE).expect("open");
    let mut storage = BlockingStorage::new(&mut disk).expect("memory");
    let bytes: Vec<u8> = (0..(2 << 20) + 8192).map(|n| (n / 13) as u8).collect();
    storage.write(4096, &bytes).expect("write");
    storage.flush().expect("flush");
    let mut back = vec![0; bytes.len()];
    storage.read(4096, &mut back).expect("read");
    assert_eq!(back, bytes);
    assert_eq!(storage.size_bytes(), SIZE);
    assert!(storage.read(SIZE - 4096, &mut back[..8192]).is_err());
}
