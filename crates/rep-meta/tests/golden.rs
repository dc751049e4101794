//! The golden bytes of every kind of block: what is written today is what was written then, and is read for ever.
//!
//! `UPDATE_GOLDEN=1 cargo test -p rep-meta --test golden` writes them anew; that is a new format version.

#![allow(clippy::disallowed_methods, reason = "the golden bytes are files")]

mod support;

use rep_meta::{
    BootId, DataState, Divergence, Layout, LoadedPage, LogUpdate, MemoryStorage, MetaBlock, MetaStorage, PAGE_WORDS,
    PageState, Placement, PrimaryMark, SLOT_FREE, Superblock, Transaction, encode_page, encode_summary_block,
};
use rep_types::{ExtentIndex, GenerationId, Generations, NodeName, ResourceName, VolumeNumber};
use std::path::PathBuf;
use support::{UUID, load_it};

const DEVICE_BYTES: u64 = 200 << 20;

fn superblock(layout: &Layout) -> Superblock {
    let mut history = [GenerationId::NONE; 8];
    history[0] = GenerationId(0x1111_2222_3333_4444);
    history[7] = GenerationId(0x5555_6666_7777_8888);
    Superblock {
        device_uuid: UUID,
        resource: ResourceName::new("vz").expect("a name"),
        node: NodeName::new("alpha").expect("a name"),
        volume: VolumeNumber(3),
        available_bytes: layout.available_bytes,
        agreed_bytes: 100 << 20,
        agreed_block_bytes: 4096,
        discards: Some(false),
        generations: Generations {
            current: GenerationId(0x0123_4567_89ab_cdef),
            bitmap: GenerationId(0xfedc_ba98_7654_3210),
            history,
        },
        data: DataState::Outdated,
        primary: PrimaryMark::Crashed,
        last_primary: true,
        peer_outdated: true,
        finish_told: true,
        every_block: false,
        divergence: Divergence { since_unix_ms: 1_700_000_000_123, as_primary: true },
        attached_boot: BootId(0xb007),
        former_device_bytes: 0,
        update_count: 77,
    }
}

fn page_bits() -> [u64; PAGE_WORDS] {
    std::array::from_fn(|word| if word % 7 == 0 { 1 << (word % 64) } else { 0 })
}

/// The transactions of the whole ring, which ends with 7 and 49 hot and 5 evicted.
fn transactions() -> Vec<Transaction> {
    let mut context = vec![SLOT_FREE; 50];
    let mut all = Vec::new();
    for (sequence, updates) in
        [(10u64, vec![]), (11, vec![(2, Some(5)), (3, Some(7))]), (12, vec![(2, Some(49))]), (13, vec![(0, None)])]
    {
        for (slot, extent) in &updates {
            context[*slot as usize] = extent.unwrap_or(SLOT_FREE);
        }
        let update = |(slot, extent): (u32, Option<u32>)| LogUpdate { slot, extent: extent.map(ExtentIndex) };
        all.push(Transaction {
            sequence,
            previous: sequence - 1,
            reset: sequence == 10,
            slots: 50,
            updates: updates.into_iter().map(update).collect(),
            context_first: 0,
            context: context.clone(),
        });
    }
    all
}

fn blocks() -> (Layout, Vec<(String, u64, MetaBlock)>) {
    let layout = Layout::for_device(DEVICE_BYTES, Placement::External).expect("a legal size");
    let superblock = superblock(&layout);
    let tag = superblock.tag();
    let mut blocks: Vec<(String, u64, MetaBlock)> = Vec::new();
    for (name, (offset, block)) in ["superblock-a", "superblock-b"].into_iter().zip(superblock.encode_copies(&layout)) {
        blocks.push((name.to_owned(), offset, block));
    }
    for (position, transaction) in (0u32..).zip(transactions()) {
        let block = transaction.encode(tag, position);
        blocks.push((format!("log-{position}"), layout.log_block_offset(position), block));
    }
    let summary = encode_summary_block(tag, 0, 20, [PageState::Mixed, PageState::AllSet]);
    blocks.push(("summary".to_owned(), layout.summary_offset, summary));
    blocks.push(("page".to_owned(), layout.page_offset(0), encode_page(tag, 0, 19, &page_bits())));
    (layout, blocks)
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"))
}

#[test]
fn blocks_are_written_as_they_were() {
    for (name, _, block) in blocks().1 {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path(&name), &block.0[..]).expect("the golden directory takes files");
        }
        let golden = std::fs::read(path(&name)).expect("golden bytes are committed");
        assert!(golden == block.0[..], "{name} is no longer written as it was");
    }
}

#[test]
fn golden_blocks_are_read_as_they_were() {
    let (layout, blocks) = blocks();
    let mut storage = MemoryStorage::new(layout.metadata_device_bytes);
    for (name, offset, _) in blocks {
        storage.write(offset, &std::fs::read(path(&name)).expect("golden bytes are committed")).expect("inside");
    }
    let loaded = load_it(&mut storage, &layout).expect("golden metadata");
    assert_eq!((loaded.superblock, loaded.layout), (superblock(&layout), layout));
    assert_eq!((loaded.log.damaged, loaded.log.newest_sequence, loaded.log.newest_position), (false, 13, 3));
    assert_eq!(loaded.log.hot, [ExtentIndex(7), ExtentIndex(49)]);
    assert_eq!(loaded.bitmap.pages, [LoadedPage::Mixed(Box::new(page_bits())), LoadedPage::AllSet]);
    assert_eq!((loaded.bitmap.damaged_pages.len(), loaded.bitmap.highest_sequence), (0, 20));
}

/// Written before a volume's block size was remembered: nothing is known of it, and the rest is what it was.
#[test]
fn golden_superblocks_of_before_block_sizes_are_read_as_they_were() {
    let layout = blocks().0;
    let mut storage = MemoryStorage::new(layout.metadata_device_bytes);
    for (name, offset, _) in blocks().1 {
        let former = if name.starts_with("superblock") { format!("{name}-before-block-sizes") } else { name };
        storage.write(offset, &std::fs::read(path(&former)).expect("golden bytes are committed")).expect("inside");
    }
    let loaded = load_it(&mut storage, &layout).expect("golden metadata");
    assert_eq!(loaded.superblock, Superblock { agreed_block_bytes: 0, discards: None, ..superblock(&layout) });
}
