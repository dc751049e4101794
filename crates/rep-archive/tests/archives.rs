//! What was archived comes back, byte for byte, or not at all.

use rep_archive::{Archive, Base, Head, ReadError, Scope, View, Writer};
use rep_types::{NodeName, ResourceName, VolumeNumber};
use std::fs::File;
use std::path::{Path, PathBuf};

const BLOCK: usize = 4096;

fn head(scope: Scope, blocks: usize) -> Head {
    Head {
        resource: ResourceName::new("vz").unwrap(),
        volume: VolumeNumber(3),
        node: NodeName::new("beta").unwrap(),
        survivor: NodeName::new("alpha").unwrap(),
        created_unix_ms: 1_767_323_045_678,
        size_bytes: (blocks * BLOCK) as u64,
        scope,
        generations: [0x1111_2222, 0x3333],
        survivor_generations: [0x4444, 0x3333],
    }
}

/// Blocks of a volume: each its own byte, every fifth zeroes.
fn volume(blocks: usize, salt: u8) -> Vec<u8> {
    let block = |index: usize| vec![if index % 5 == 4 { 0 } else { index as u8 ^ salt | 1 }; BLOCK];
    (0..blocks).flat_map(block).collect()
}

/// Archives these blocks of the content.
fn archive(directory: &Path, scope: Scope, content: &[u8], runs: &[std::ops::Range<usize>]) -> PathBuf {
    let mut writer = Writer::create(directory, &head(scope, content.len() / BLOCK)).unwrap();
    for run in runs {
        let bytes = run.start * BLOCK..run.end * BLOCK;
        writer.add(bytes.start as u64, &content[bytes]).unwrap();
    }
    writer.finish().unwrap()
}

fn base(directory: &Path, content: &[u8]) -> Base {
    let path = directory.join("base");
    std::fs::write(&path, content).unwrap();
    Base::File(File::open(path).unwrap())
}

fn read_all(mut view: View) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0xee; view.size_bytes() as usize];
    view.read_at(0, &mut bytes).map(|()| bytes)
}

#[test]
fn an_archive_over_its_base_is_the_volume() {
    let directory = tempfile::tempdir().unwrap();
    let victims = volume(40, 0x80);
    let mut survivors = volume(40, 0);
    let runs = [2..3, 7..12, 13..14, 30..40];
    // What both have in common is the same on both.
    for block in (0..40).filter(|block| !runs.iter().any(|run| run.contains(block))) {
        let at = block * BLOCK..(block + 1) * BLOCK;
        survivors[at.clone()].copy_from_slice(&victims[at]);
    }
    let path = archive(directory.path(), Scope::Differing, &victims, &runs);
    assert_eq!(path.file_name().unwrap(), "vz-3-beta-20260102T030405Z.archive");
    let read = Archive::open(&path).unwrap();
    assert_eq!((read.head(), read.bytes()), (&head(Scope::Differing, 40), 17 * BLOCK as u64));
    assert!(View::new(Archive::open(&path).unwrap(), Base::None).is_none(), "it needs a base");
    let mut view = View::new(read, base(directory.path(), &survivors)).unwrap();
    // Small reads across every border.
    for at in (0..victims.len() - 1536).step_by(512) {
        let mut part = [0; 1536];
        view.read_at(at as u64, &mut part).unwrap();
        assert_eq!(part[..], victims[at..at + 1536], "at {at}");
    }
    assert!(view.read_at(victims.len() as u64 - 512, &mut [0; 1024]).is_err(), "beyond the end");
    assert!(read_all(view).unwrap() == victims);
}

#[test]
fn an_archive_of_all_blocks_needs_no_base() {
    let directory = tempfile::tempdir().unwrap();
    let content = volume(24, 0x40);
    let path = archive(directory.path(), Scope::All, &content, &[0..8, 8..24]);
    let view = View::new(Archive::open(&path).unwrap(), Base::None).unwrap();
    assert!(read_all(view).unwrap() == content);
}

#[test]
fn zeroes_take_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let content = vec![0; 64 * BLOCK];
    let path = archive(directory.path(), Scope::All, &content, &[0..16, 16..32, 32..64]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096 + 2 * 64);
    let view = View::new(Archive::open(&path).unwrap(), Base::None).unwrap();
    assert!(read_all(view).unwrap() == content);
}

#[test]
fn names_never_collide_and_half_an_archive_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let content = volume(4, 1);
    let first = archive(directory.path(), Scope::All, &content, &[0..2, 2..4]);
    let second = archive(directory.path(), Scope::All, &content, &[0..2, 2..4]);
    assert_ne!(first, second);
    let mut third = Writer::create(directory.path(), &head(Scope::All, 4)).unwrap();
    third.add(0, &content[..BLOCK]).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    drop(third);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "what wasn't finished is gone");
}

/// A flipped bit anywhere, and a cut at any length, is an error: never other bytes, never a panic.
#[test]
fn damage_is_never_believed() {
    let directory = tempfile::tempdir().unwrap();
    let content = volume(6, 9);
    let path = archive(directory.path(), Scope::All, &content, &[0..2, 2..4, 4..6]);
    let whole = std::fs::read(&path).unwrap();
    let judge = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let read = Archive::open(&path)?;
        read.check()?;
        read_all(View::new(read, Base::None).unwrap())
    };
    assert!(judge(&whole).unwrap() == content);
    for at in (0..whole.len()).filter(|at| at % 97 == 0 || *at < 200 || (4000..4300).contains(at)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(judge(&damaged).is_err(), "byte {at}");
    }
    for length in (0..whole.len()).step_by(61) {
        assert!(judge(&whole[..length]).is_err(), "cut to {length}");
    }
}

/// Written by the first version of the format; read by every later one.
#[test]
fn golden_bytes_are_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1.archive");
    let content: Vec<u8> = [vec![0xa5; 512], vec![0; 512], (0..=255).cycle().take(512).collect()].concat();
    let head = Head { size_bytes: 1536, ..head(Scope::All, 0) };
    let read = Archive::open(&path).unwrap();
    assert_eq!(read.head(), &head);
    assert!(read_all(View::new(read, Base::None).unwrap()).unwrap() == content);
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(directory.path(), &head).unwrap();
    for (index, sector) in content.chunks(512).enumerate() {
        writer.add(index as u64 * 512, sector).unwrap();
    }
    let written = std::fs::read(writer.finish().unwrap()).unwrap();
    assert!(written == std::fs::read(&path).unwrap(), "the same content gives the same bytes");
}
