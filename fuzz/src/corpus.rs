//! The inputs that are kept in the tree, a file each, and those that failed.

use std::path::{Path, PathBuf};

/// Inputs longer than this aren't kept in the tree.
const KEPT_LENGTH_MAX: usize = 1 << 10;
/// Inputs kept in the tree for each target.
const KEPT_COUNT_MAX: usize = 120;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

/// The corpus of a target, in the order of the files' names.
pub fn load(target: &str) -> Vec<Vec<u8>> {
    files("corpus", target).iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn files(kind: &str, target: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(kind, target)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

/// The inputs of a target that failed.
pub fn artifacts(target: &str) -> Vec<PathBuf> {
    files("artifacts", target)
}

/// Removes them.
pub fn forget_artifacts(target: &str) {
    let _ = std::fs::remove_dir_all(folder("artifacts", target));
}

/// Adds inputs to the corpus in the tree, the shortest first, until it is full.
pub fn grow(target: &str, kept: &[Vec<u8>]) {
    let folder = folder("corpus", target);
    let there = load(target);
    let mut new: Vec<_> = kept.iter().filter(|i| i.len() <= KEPT_LENGTH_MAX && !there.contains(i)).collect();
    new.sort_by_key(|input| input.len());
    for input in new.into_iter().take(KEPT_COUNT_MAX.saturating_sub(there.len())) {
        write(&folder, input);
    }
}

/// Writes an input that failed; returns where.
pub fn artifact(target: &str, input: &[u8]) -> PathBuf {
    write(&folder("artifacts", target), input)
}

fn write(folder: &Path, input: &[u8]) -> PathBuf {
    let path = folder.join(format!("{:016x}", fnv(input)));
    if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, input)) {
        eprintln!("{}: {error}", path.display());
    }
    path
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
