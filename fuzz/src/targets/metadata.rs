//! What lies on the disk: it may be anything.
//!
//! An input is a first byte, which chooses an image (size, placement, bitmap) and perhaps a block that can't be read,
//! and then changes to it, five bytes and more each:
//!
//! ```text
//! | place, 2 | how, 2 | length | bytes |      the upper two bits of place: what is changed
//! ```
//!
//! Behind a change the checksums are right again unless the change says otherwise: a single wrong one hides all that
//! lies behind it.

use super::Target;
use super::image::{Block, Image};
use rep_meta::{
    CreateParameters, DeviceTag, Identity, InitialBitmap, LOG_CONTEXT_ENTRIES, Layout, LayoutOptions, LogUpdate,
    META_BLOCK_SIZE, PAGE_WORDS, PageState, Placement, SLOT_FREE, Transaction, create, dump, encode_page,
    encode_summary_block, find_former_end, load, probe,
};
use rep_types::{ExtentIndex, NodeName, ResourceName, VolumeNumber};
use std::sync::OnceLock;

/// Superblocks, the log, the summary, the bitmap's pages.
pub const METADATA: Target = Target {
    name: "metadata",
    about: "good metadata with patches over it, or unreadable blocks: recovery of log and bitmap",
    run,
    seeds,
    // Each change costs a block and its checksums.
    length_max: 512,
    memory_max: 8 << 20,
    ..Target::USUAL
};

const BLOCK: u64 = META_BLOCK_SIZE as u64;
const DEVICE_UUID: u128 = 7;
const TAG: DeviceTag = DeviceTag(DEVICE_UUID as u64);

/// Whose it is.
pub fn identity() -> Identity {
    Identity {
        resource: ResourceName::new("vz").expect("a name"),
        node: NodeName::new("alpha").expect("a name"),
        volume: VolumeNumber(0),
    }
}

/// Metadata as `create-md` makes it for a disk of this size.
pub fn fresh(
    identity: Identity,
    bitmap: InitialBitmap,
    placement: Placement,
    device_bytes: u64,
    log_slots: Option<u32>,
) -> Image {
    let options = LayoutOptions { log_slots };
    let layout = Layout::with_options(device_bytes, placement, options).expect("a layout");
    let mut image = Image::new(layout.metadata_device_bytes);
    let parameters = CreateParameters { identity, device_uuid: DEVICE_UUID, placement, device_bytes, options, bitmap };
    create(&mut image, &parameters).expect("metadata for a small disk");
    image.settled()
}

/// An image to begin with.
struct Base {
    image: Image,
    layout: Layout,
}

/// In pairs, clean and all set: a small disk, external and internal; one whose slots don't fit one window of the log;
/// one with more pages than a sector of the summary speaks of.
fn bases() -> &'static [Base; 8] {
    static BASES: OnceLock<[Base; 8]> = OnceLock::new();
    BASES.get_or_init(|| {
        std::array::from_fn(|index| {
            let bitmap = if index & 1 == 0 { InitialBitmap::Clean } else { InitialBitmap::AllSet };
            let (placement, device_bytes, log_slots) = match index >> 1 {
                0 => (Placement::External, 256 << 20, None),
                1 => (Placement::Internal, 256 << 20, None),
                2 => (Placement::External, 2520 << 20, Some(600)),
                _ => (Placement::External, 226 << 30, Some(64)),
            };
            let layout = Layout::with_options(device_bytes, placement, LayoutOptions { log_slots }).expect("a layout");
            Base { image: fresh(identity(), bitmap, placement, device_bytes, log_slots), layout }
        })
    })
}

fn seeds() -> Vec<Vec<u8>> {
    bases(); // made here, so that no input pays for them
    let mut seeds =
        vec![vec![0], vec![1], vec![0, 1, 0, 0, 0, 1, 0xff], vec![1, 9, 0, 4, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]];
    for first in [0x00, 0x10, 0x04, 0x14, 0x08, 0x18, 0x7c] {
        // Three transactions in a row, the last of them torn; a page with bits; a summary; a superblock whose copies differ.
        let log = |position: u8, sequence: u8| [position, 0x40, sequence, 0, 6, 0, 0, 1, 0, 5, 0];
        seeds.push([&[first][..], &log(0, 8), &log(1, 9), &log(2, 10), &[4, 0, 40, 0x80, 1, 9]].concat());
        seeds.push([&[first][..], &[1, 0x80, 3, 0, 3, 0xff, 1, 7]].concat());
        seeds.push([&[first][..], &[0, 0xc0, 3, 0, 4, 0x24, 0x55, 0xaa, 0xff]].concat());
        seeds.push(vec![first, 0, 0, 32, 0, 1, 9]);
        seeds.push(vec![first, 0, 0, 32, 0x40, 1, 9]);
        seeds.push(vec![first | 0x80, 0, 0, 32, 0, 1, 9]);
        // So many pages that aren't there that a dump leaves some out.
        seeds.push([&[first][..], &[0, 0xc0, 3, 0, 60], &[0x55; 60]].concat());
        seeds.push(vec![first | 0x82, 0, 0, 32, 0, 1, 9]);
    }
    seeds
}

fn run(data: &[u8]) {
    let Some((&first, changes)) = data.split_first() else { return };
    let broken = first & 2 != 0;
    let kind = match first >> 2 & 3 {
        _ if broken => 0,
        // Dear: one in eight of those that ask for it.
        3 if first & 0x70 != 0x70 => 1,
        kind => usize::from(kind),
    };
    let base = &bases()[kind << 1 | usize::from(first & 1)];
    let (mut image, layout) = (base.image.clone(), &base.layout);
    apply(&mut image, layout, changes);
    if broken {
        image.break_block(u64::from(first >> 2) * BLOCK % layout.metadata_device_bytes);
    } else if first & 0x80 != 0 {
        another_size(&mut image, layout, first);
    }
    check(&mut image, layout, first & 0x10 != 0);
}

/// The disk under internal metadata has grown, or the metadata device has lost its end.
fn another_size(image: &mut Image, layout: &Layout, first: u8) {
    if layout.placement == Placement::Internal {
        image.resize(layout.metadata_device_bytes + (64 << 20));
        let _ = find_former_end(image);
    } else {
        image.resize(u64::from(first >> 4 & 7) * BLOCK);
    }
}

fn check(image: &mut Image, layout: &Layout, dumped: bool) {
    let _ = probe(image, layout.placement);
    if dumped {
        let _ = dump(image, layout.placement);
    }
    assert_eq!(image.writes(), 0, "looking changes nothing");
    let loaded = load(image, &identity(), layout.placement, layout.device_bytes);
    // Without a repair there is nothing that could be different the second time.
    if loaded.is_ok() && image.writes() > 0 {
        let again = load(image, &identity(), layout.placement, layout.device_bytes);
        assert_eq!(again, loaded, "loading repairs once and then finds the same");
    }
}

/// A change, taken apart.
struct Change<'a> {
    place: usize,
    how: u16,
    bytes: &'a [u8],
}

fn apply(image: &mut Image, layout: &Layout, mut changes: &[u8]) {
    while let [place, place_high, how, how_high, length, rest @ ..] = changes {
        let (bytes, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        let place = u16::from_le_bytes([*place, *place_high]);
        let change = Change { place: usize::from(place & 0x3fff), how: u16::from_le_bytes([*how, *how_high]), bytes };
        match place >> 14 {
            0 => patch(image, layout, &change),
            1 => transaction(image, layout, &change),
            2 => page(image, layout, &change),
            _ => summary(image, layout, &change),
        }
        changes = rest;
    }
}

/// Where the used blocks lie: superblocks, log, summary, pages.
fn blocks(layout: &Layout) -> [(u64, u32, Option<[u8; 4]>); 5] {
    let [a, b] = layout.superblock_offsets;
    [
        (a, 1, None),
        (b, 1, None),
        (layout.log_offset, layout.log_blocks, Some(*b"rpAL")),
        (layout.summary_offset, layout.summary_blocks, Some(*b"rpSM")),
        (layout.pages_offset, layout.pages, Some(*b"rpBM")),
    ]
}

/// Bytes over a block. In `how`, beyond the offset: 0x8000 leaves the checksum wrong, 0x4000 makes all sectors of one
/// write and both superblocks the same.
fn patch(image: &mut Image, layout: &Layout, change: &Change<'_>) {
    let regions = blocks(layout);
    let mut index = change.place % regions.iter().map(|region| region.1 as usize).sum::<usize>();
    for (region, (offset, count, magic)) in regions.iter().enumerate() {
        if index >= *count as usize {
            index -= *count as usize;
            continue;
        }
        let block = image.block_mut(offset + index as u64 * BLOCK);
        let at = usize::from(change.how) % META_BLOCK_SIZE;
        block[at..].iter_mut().zip(change.bytes).for_each(|(to, from)| *to = *from);
        let together = change.how & 0x4000 != 0;
        if change.how & 0x8000 == 0 {
            match magic {
                Some(magic) => seal_sectors(block, *magic, index as u64, together),
                None => seal_superblock(block),
            }
        }
        let copy = *block;
        if magic.is_none() && together {
            *image.block_mut(layout.superblock_offsets[1 - region]) = copy;
        }
        return;
    }
}

fn seal_superblock(block: &mut Block) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..8]);
    crc.update(&block[12..]);
    block[8..12].copy_from_slice(&crc.finalize().to_le_bytes());
}

/// Right checksums for all sectors; `together`: their heads too, after that of the first.
fn seal_sectors(block: &mut Block, magic: [u8; 4], index: u64, together: bool) {
    let (sectors, _) = block.as_chunks_mut::<512>();
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&sectors[0][8..16]);
    for (position, sector) in (index * 8..).zip(sectors) {
        if together {
            sector[..4].copy_from_slice(&magic);
            sector[8..16].copy_from_slice(&sequence);
            sector[16..24].copy_from_slice(&position.to_le_bytes());
            sector[24..32].copy_from_slice(&TAG.0.to_le_bytes());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&sector[..4]);
        crc.update(&sector[8..]);
        sector[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|number| u16::from_le_bytes(*number))
}

/// A transaction as the engine writes it. The low byte of `how` is its sequence, the high byte whether it is linked,
/// resets, has the right number of slots, and a whole window.
fn transaction(image: &mut Image, layout: &Layout, change: &Change<'_>) {
    let [sequence, flags] = change.how.to_le_bytes();
    let position = change.place as u32 % layout.log_blocks;
    let slots = layout.log_slots;
    let numbers = || (0..change.bytes.len() / 2).filter_map(|index| u16_at(change.bytes, 2 * index));
    let updates: Vec<_> = numbers()
        .skip(1)
        .zip(numbers().skip(2))
        .step_by(2)
        .map(|(slot, extent)| LogUpdate {
            slot: u32::from(slot),
            extent: (extent != u16::MAX).then(|| ExtentIndex(u32::from(extent))),
        })
        .collect();
    let context_first = u32::from(numbers().next().unwrap_or(0)) % if flags & 0x10 == 0 { slots } else { u32::MAX };
    let mut context = vec![SLOT_FREE; LOG_CONTEXT_ENTRIES.min(slots as usize)];
    for update in &updates {
        let at = (update.slot + slots).wrapping_sub(context_first) % slots;
        if let Some(entry) = context.get_mut(at as usize) {
            *entry = update.extent.map_or(SLOT_FREE, |extent| extent.0);
        }
    }
    if flags & 8 != 0 {
        context.truncate(change.bytes.len());
    }
    let sequence = u64::from(sequence);
    let transaction = Transaction {
        sequence,
        previous: if flags & 1 == 0 { sequence.wrapping_sub(1) } else { u64::from(flags >> 4) },
        reset: flags & 2 != 0,
        slots: slots + u32::from(flags & 4 != 0),
        updates,
        context_first,
        context,
    };
    *image.block_mut(layout.log_block_offset(position)) = *transaction.encode(TAG, position).0;
}

/// A page with these bits; the summary is another change's matter.
fn page(image: &mut Image, layout: &Layout, change: &Change<'_>) {
    let page = change.place as u32 % layout.pages;
    let mut bits = [0; PAGE_WORDS];
    let at = usize::from(change.how >> 8);
    bits.iter_mut()
        .skip(at)
        .zip(change.bytes)
        .for_each(|(word, byte)| *word = u64::from(*byte) * 0x0100_8040_2010_0804);
    *image.block_mut(layout.page_offset(page)) = *encode_page(TAG, page, u64::from(change.how & 0xff), &bits).0;
}

/// A block of the summary that says this of pages from some page on; of those before, that they are Clean.
fn summary(image: &mut Image, layout: &Layout, change: &Change<'_>) {
    let index = change.place as u32 % layout.summary_blocks;
    let clean = std::iter::repeat_n(PageState::Clean, usize::from(change.how >> 8) * 16);
    let state = |bits: u8| match bits & 3 {
        0 => PageState::Clean,
        1 => PageState::Mixed,
        _ => PageState::AllSet,
    };
    let said = change.bytes.iter().flat_map(|byte| (0..4).map(move |page| state(byte >> (page * 2))));
    let block = encode_summary_block(TAG, index, u64::from(change.how & 0xff), clean.chain(said));
    *image.block_mut(layout.summary_block_offset(index)) = *block.0;
}
