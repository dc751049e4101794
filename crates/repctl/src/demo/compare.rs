//! Both disks, byte for byte, as the file system has them.

use super::Failed;
use super::ledger::{Ledger, Verified};
use rep_types::BLOCK_SIZE;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Compares the data of two disks, and each block with the ledger.
pub fn compare(a: &Path, b: &Path, ledger: &mut Ledger) -> Result<Verified, Failed> {
    let (a, b) = (File::open(a)?, File::open(b)?);
    let mut verified = Verified::default();
    let (mut left, mut right) = ([0; BLOCK_SIZE as usize], [0; BLOCK_SIZE as usize]);
    for block in 0..ledger.block_count() {
        a.read_exact_at(&mut left, block * BLOCK_SIZE)?;
        b.read_exact_at(&mut right, block * BLOCK_SIZE)?;
        if left != right {
            return Err(Failed(format!("the disks differ in block {block}")));
        }
        ledger.verify(block, &left, &mut verified).map_err(Failed)?;
    }
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_differing_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, vec![0; 8192]).unwrap();
        std::fs::write(&b, vec![0; 8192]).unwrap();
        assert_eq!(compare(&a, &b, &mut Ledger::new(8192)).unwrap().blocks, 2);
        File::options().write(true).open(&b).unwrap().write_all_at(&[1], 5000).unwrap();
        assert!(compare(&a, &b, &mut Ledger::new(8192)).unwrap_err().0.contains("block 1"));
    }
}
