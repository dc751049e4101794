//! Compares `docs/FORMAT.md` with the code: every byte table there against the structure it describes.

use crate::log_block::TransactionContent;
use crate::sealed::{BLOCK_CONTENT, Kind, SECTOR, SealHeader};
use crate::superblock_codec::SuperblockBytes;
use crate::*;
use zerocopy::FromZeros;

const DOC: &str = include_str!("../../../docs/FORMAT.md");

/// Offset, size and name of each field.
macro_rules! fields {
    ($type:ty: $($field:ident),* $(,)?) => {{
        let value = <$type>::new_zeroed();
        vec![$((std::mem::offset_of!($type, $field), size_of_val(&value.$field), stringify!($field).to_owned())),*]
    }};
}

/// The rows of the table under a heading: offset, size and field of each.
fn table(heading: &str) -> Vec<(usize, usize, String)> {
    let (_, section) = DOC.split_once(&format!("\n## {heading}\n")).expect("the document has this section");
    let section = section.split("\n## ").next().expect("split gives one at least");
    let number = |cell: &str| cell.trim().parse::<usize>().ok();
    section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|');
            let (offset, size) = (number(cells.next()?)?, number(cells.next()?)?);
            Some((offset, size, cells.next()?.trim().trim_matches('`').to_owned()))
        })
        .collect()
}

#[track_caller]
fn assert_table(heading: &str, code: Vec<(usize, usize, String)>, total: usize) {
    let end = code.iter().fold(0, |end, (offset, size, field)| {
        assert_eq!(*offset, end, "{field} leaves a gap");
        offset + size
    });
    assert_eq!(end, total, "the fields make up the whole of {heading}");
    assert_eq!(table(heading), code, "docs/FORMAT.md, {heading}");
}

#[test]
fn the_superblock_is_as_documented() {
    let code = fields!(SuperblockBytes:
        magic, crc, version, features_incompatible, features_compatible, update_count, copy, volume, data, primary,
        device_uuid, attached_boot, resource, node, available_bytes, agreed_bytes, current, bitmap, history,
        device_bytes, log_offset, summary_offset, pages_offset, log_blocks, log_slots, summary_blocks, pages,
        block_bytes, extent_bytes, placement, last_primary, peer_outdated, diverged_as_primary, finish_told,
        every_block, reserved,
        diverged_since_unix_ms, former_device_bytes, agreed_block_bytes, discards,
        discards_reserved, rest,
    );
    assert_table("Superblock", code, META_BLOCK_SIZE);
}

#[test]
fn the_seal_is_as_documented() {
    let mut code = fields!(SealHeader: magic, crc, sequence, position, device_tag);
    code.push((size_of::<SealHeader>(), SECTOR - size_of::<SealHeader>(), "content".to_owned()));
    assert_table("Sealed sector", code, SECTOR);
}

#[test]
fn the_transaction_is_as_documented() {
    let code = fields!(TransactionContent:
        previous, slots, context_first, context_count, update_count, flags, reserved, update_slots, update_extents,
        context,
    );
    assert_table("Activity-log transaction", code, BLOCK_CONTENT);
}

#[test]
fn the_numbers_in_the_text_are_those_of_the_code() {
    let magic = |kind: Kind| String::from_utf8_lossy(&kind.magic()).into_owned();
    for number in [
        format!("Format version {FORMAT_VERSION}."),
        format!("`{}`", String::from_utf8_lossy(&superblock_codec::MAGIC)),
        format!("`{}` log", magic(Kind::Log)),
        format!("`{}` summary", magic(Kind::Summary)),
        format!("`{}` bitmap", magic(Kind::Bitmap)),
        format!("{PAGE_BLOCKS} blocks"),
        format!("{PAGE_EXTENTS} extents"),
        format!("{PAGES_PER_SUMMARY_BLOCK} pages a block"),
        format!("at most {LOG_SLOTS_MAX} slots"),
        format!("at least {LOG_BLOCKS_MIN} blocks"),
        format!("{LOG_UPDATES_MAX} updates"),
        format!("{LOG_CONTEXT_ENTRIES} entries"),
        format!("{DEVICE_BYTES_MAX} bytes"),
    ] {
        assert!(DOC.contains(&number), "docs/FORMAT.md doesn't say {number:?}");
    }
}
