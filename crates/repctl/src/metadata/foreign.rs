//! What else may be on a disk: file systems, volumes, partition tables. Recognised by their signatures, so that
//! internal metadata is never written into the middle of somebody's data.
//!
//! Pure: bytes in, a name and, where the format tells it, a size out. Whatever the bytes, it returns.

/// Bytes from the start of a disk that [`recognise`] wants to see; fewer will do for a smaller disk.
pub const HEAD_LENGTH: usize = 68 << 10;

/// Something that isn't ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// Its name ("an ext4 file system").
    pub name: &'static str,
    /// Bytes from the start of the disk it takes; `None` when only the whole disk can be assumed.
    pub size_bytes: Option<u64>,
}

fn bytes_at<const N: usize>(head: &[u8], offset: usize) -> Option<[u8; N]> {
    head.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn has(head: &[u8], offset: usize, magic: &[u8]) -> bool {
    head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

fn u16_le(head: &[u8], offset: usize) -> Option<u64> {
    bytes_at(head, offset).map(|bytes| u16::from_le_bytes(bytes).into())
}

fn u32_le(head: &[u8], offset: usize) -> Option<u64> {
    bytes_at(head, offset).map(|bytes| u32::from_le_bytes(bytes).into())
}

fn u64_le(head: &[u8], offset: usize) -> Option<u64> {
    bytes_at(head, offset).map(u64::from_le_bytes)
}

/// Finds out what begins with these bytes.
pub fn recognise(head: &[u8]) -> Option<Foreign> {
    ext(head).or_else(|| xfs(head)).or_else(|| btrfs(head)).or_else(|| swap(head)).or_else(|| ntfs(head)).or_else(
        || {
            let found = SIGNATURES.iter().find(|(_, offset, magic)| has(head, *offset, magic));
            let name = found.map(|(name, ..)| *name).or_else(|| partition_table(head).then_some("a partition table"));
            name.map(|name| Foreign { name, size_bytes: None })
        },
    )
}

/// Formats of which only the signature is looked at.
const SIGNATURES: &[(&str, usize, &[u8])] = &[
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("an LVM physical volume", 0x200, b"LABELONE"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("an LVM physical volume", 0x400, b"LABELONE"),
    ("an LVM physical volume", 0x600, b"LABELONE"),
    ("a Linux RAID member", 0, b"\xfc\x4e\x2b\xa9"),
    ("a Linux RAID member", 0x1000, b"\xfc\x4e\x2b\xa9"),
    ("a GPT partition table", 0x200, b"EFI PART"),
    ("a GPT partition table", 0x1000, b"EFI PART"),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 0x36, b"FAT1"),
    ("a FAT file system", 0x52, b"FAT32"),
    ("an F2FS file system", 0x400, b"\x10\x20\xf5\xf2"),
    ("a SquashFS file system", 0, b"hsqs"),
    ("an ISO 9660 file system", 0x8001, b"CD001"),
    ("a bcache device", 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("a JFS file system", 0x8000, b"JFS1"),
    ("a ReiserFS file system", 0x10034, b"ReIsEr"),
    ("an EROFS file system", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("a QCOW2 image", 0, b"QFI\xfb"),
];

fn ext(head: &[u8]) -> Option<Foreign> {
    if !has(head, 0x438, &[0x53, 0xef]) {
        return None;
    }
    let (compatible, incompatible) = (u32_le(head, 0x45c)?, u32_le(head, 0x460)?);
    let (has_extents, has_64_bits, has_journal) =
        (incompatible & 0x40 != 0, incompatible & 0x80 != 0, compatible & 4 != 0);
    let name = match (has_extents || has_64_bits, has_journal) {
        (true, _) => "an ext4 file system",
        (false, true) => "an ext3 file system",
        (false, false) => "an ext2 file system",
    };
    let high = if has_64_bits { u32_le(head, 0x550)? } else { 0 };
    let blocks = u32_le(head, 0x404)? | high << 32;
    let block_bytes = u32::try_from(u32_le(head, 0x418)?).ok().and_then(|log| 1024u64.checked_shl(log));
    Some(Foreign { name, size_bytes: block_bytes.and_then(|block| blocks.checked_mul(block)) })
}

fn xfs(head: &[u8]) -> Option<Foreign> {
    if !has(head, 0, b"XFSB") {
        return None;
    }
    let block_bytes = bytes_at(head, 4).map(u32::from_be_bytes)?;
    let blocks = bytes_at(head, 8).map(u64::from_be_bytes)?;
    Some(Foreign { name: "an XFS file system", size_bytes: blocks.checked_mul(block_bytes.into()) })
}

fn btrfs(head: &[u8]) -> Option<Foreign> {
    let found = has(head, 0x10040, b"_BHRfS_M");
    // Bytes of this device, in the superblock's device item.
    found.then(|| Foreign { name: "a Btrfs file system", size_bytes: u64_le(head, 0x10000 + 0xc9 + 8) })
}

fn swap(head: &[u8]) -> Option<Foreign> {
    let pages = [4096usize, 16384, 65536];
    let page =
        pages.into_iter().find(|page| has(head, page - 10, b"SWAPSPACE2") || has(head, page - 10, b"SWAP-SPACE"))?;
    let last = u32_le(head, 0x404)?;
    Some(Foreign { name: "swap space", size_bytes: Some((last + 1) * page as u64) })
}

fn ntfs(head: &[u8]) -> Option<Foreign> {
    if !has(head, 3, b"NTFS    ") {
        return None;
    }
    let size_bytes = u64_le(head, 0x28)?.checked_add(1)?.checked_mul(u16_le(head, 0x0b)?);
    Some(Foreign { name: "an NTFS file system", size_bytes })
}

/// A master boot record whose entries make sense: the signature alone is too common.
fn partition_table(head: &[u8]) -> bool {
    let entries = (0..4).map(|index| 0x1be + index * 16);
    has(head, 0x1fe, &[0x55, 0xaa])
        && entries.clone().all(|entry| matches!(head.get(entry), Some(0 | 0x80)))
        && entries.into_iter().any(|entry| head.get(entry + 4).is_some_and(|kind| *kind != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD_LENGTH];
        for (offset, bytes) in parts {
            head[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn sizes_are_told_where_the_format_tells_them() {
        let ext4 = with(&[(0x438, &[0x53, 0xef]), (0x460, &[0x40]), (0x404, &[0, 1]), (0x418, &[2])]);
        assert_eq!(recognise(&ext4), Some(Foreign { name: "an ext4 file system", size_bytes: Some(256 * 4096) }));
        let xfs = with(&[(0, b"XFSB\0\0\x10\0\0\0\0\0\0\0\x01\0")]);
        assert_eq!(recognise(&xfs), Some(Foreign { name: "an XFS file system", size_bytes: Some(256 * 4096) }));
        let swap = with(&[(4086, b"SWAPSPACE2"), (0x404, &[9])]);
        assert_eq!(recognise(&swap), Some(Foreign { name: "swap space", size_bytes: Some(10 * 4096) }));
        let ntfs = with(&[(3, b"NTFS    "), (0x0b, &[0, 2]), (0x28, &[7])]);
        assert_eq!(recognise(&ntfs), Some(Foreign { name: "an NTFS file system", size_bytes: Some(8 * 512) }));
    }

    #[test]
    fn every_signature_is_found_and_zeroes_are_nothing() {
        for (name, offset, magic) in SIGNATURES {
            assert_eq!(recognise(&with(&[(*offset, magic)])).unwrap().name, *name);
        }
        let mbr = with(&[(0x1fe, &[0x55, 0xaa]), (0x1be, &[0x80]), (0x1c2, &[0x83])]);
        assert_eq!(recognise(&mbr).unwrap().name, "a partition table");
        assert_eq!(recognise(&with(&[(0x1fe, &[0x55, 0xaa])])), None);
        assert_eq!(recognise(&vec![0; HEAD_LENGTH]), None);
        assert_eq!(recognise(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..3000),
            which in 0..SIGNATURES.len(),
            superblock in proptest::collection::vec(any::<u8>(), 0x200),
        ) {
            let _ = recognise(&noise);
            let (_, offset, magic) = SIGNATURES[which];
            let mut head = with(&[(0x400, &superblock), (offset, magic)]);
            let _ = recognise(&head);
            head[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
            let _ = recognise(&head);
        }
    }
}
