//! A transaction of the activity log: one block of the ring.
//!
//! A transaction changes up to 256 slots (a slot now holds that extent, or none) and repeats a window of the slot
//! table as it stands afterwards. The window moves on by its length with each transaction, so that a whole turn of
//! the ring, less one block, always holds the whole table: the block that is being overwritten is never needed.
//!
//! ```text
//! content: | header 32 B | 256 slots (u16) | 256 extents (u32) | 568 extents of the window (u32) |
//! ```

use crate::MetaBlock;
use crate::sealed::{BLOCK_CONTENT, DeviceTag, Kind, Seal, seal_block};
use rep_types::ExtentIndex;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The most slots one transaction changes.
pub const LOG_UPDATES_MAX: usize = 256;
/// Slots whose content one transaction repeats.
pub const LOG_CONTEXT_ENTRIES: usize = 568;
/// In the place of an extent: the slot holds none.
pub const SLOT_FREE: u32 = u32::MAX;

/// A slot's new content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogUpdate {
    /// Which slot.
    pub slot: u32,
    /// What it holds now; `None`: nothing.
    pub extent: Option<ExtentIndex>,
}

/// A transaction as a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Names this transaction; larger than any tried before it.
    pub sequence: u64,
    /// The sequence of the transaction in the ring's block before.
    pub previous: u64,
    /// Whether every slot was freed before the updates: nothing older matters.
    pub reset: bool,
    /// Slots of the log.
    pub slots: u32,
    /// What changes; at most [`LOG_UPDATES_MAX`].
    pub updates: Vec<LogUpdate>,
    /// First slot of the window.
    pub context_first: u32,
    /// Content of the window's slots after the updates, going on from slot 0 after the last; at most
    /// [`LOG_CONTEXT_ENTRIES`] and never more than there are slots. [`SLOT_FREE`] where there is none.
    pub context: Vec<u32>,
}

/// The bytes of a transaction.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct TransactionContent {
    pub(crate) previous: U64,
    pub(crate) slots: U32,
    pub(crate) context_first: U32,
    pub(crate) context_count: U16,
    pub(crate) update_count: U16,
    pub(crate) flags: U32,
    pub(crate) reserved: [u8; 8],
    pub(crate) update_slots: [U16; LOG_UPDATES_MAX],
    pub(crate) update_extents: [U32; LOG_UPDATES_MAX],
    pub(crate) context: [U32; LOG_CONTEXT_ENTRIES],
}

const _: () = assert!(size_of::<TransactionContent>() == BLOCK_CONTENT);

/// In `flags`: the transaction frees every slot first.
const FLAG_RESET: u32 = 1;

impl Transaction {
    /// The transaction as the block at that position of the ring.
    pub fn encode(&self, tag: DeviceTag, position: u32) -> MetaBlock {
        assert!(self.updates.len() <= LOG_UPDATES_MAX, "{} updates", self.updates.len());
        assert!(self.context.len() <= LOG_CONTEXT_ENTRIES, "{} context entries", self.context.len());
        let mut content = TransactionContent {
            previous: U64::new(self.previous),
            slots: U32::new(self.slots),
            context_first: U32::new(self.context_first),
            context_count: U16::new(self.context.len() as u16),
            update_count: U16::new(self.updates.len() as u16),
            flags: U32::new(if self.reset { FLAG_RESET } else { 0 }),
            reserved: [0; 8],
            update_slots: [U16::ZERO; LOG_UPDATES_MAX],
            update_extents: [U32::ZERO; LOG_UPDATES_MAX],
            context: [U32::ZERO; LOG_CONTEXT_ENTRIES],
        };
        for (index, update) in self.updates.iter().enumerate() {
            content.update_slots[index] = U16::new(update.slot as u16);
            content.update_extents[index] = U32::new(update.extent.map_or(SLOT_FREE, |extent| extent.0));
        }
        for (to, from) in content.context.iter_mut().zip(&self.context) {
            *to = U32::new(*from);
        }
        let bytes: &[u8; BLOCK_CONTENT] = zerocopy::transmute_ref!(&content);
        seal_block(Seal { kind: Kind::Log, tag, block: position, sequence: self.sequence }, bytes)
    }

    /// Decodes the content of a whole block; `None` when a number in it can't be.
    pub(crate) fn decode(sequence: u64, content: &[u8; BLOCK_CONTENT], slots: u32, extents: u32) -> Option<Self> {
        let content: &TransactionContent = zerocopy::transmute_ref!(content);
        let updates = content.updates(slots, extents)?;
        let (first, count) = (content.context_first.get(), usize::from(content.context_count.get()));
        let context: Vec<u32> = content.context.get(..count)?.iter().map(|extent| extent.get()).collect();
        let legal = content.slots.get() == slots
            && first < slots
            && count <= slots as usize
            && context.iter().all(|extent| *extent == SLOT_FREE || *extent < extents);
        legal.then_some(Transaction {
            sequence,
            previous: content.previous.get(),
            reset: content.flags.get() & FLAG_RESET != 0,
            slots,
            updates,
            context_first: first,
            context,
        })
    }

    /// The slots of the window, with their content.
    pub fn window(&self) -> impl Iterator<Item = (u32, u32)> {
        let slots = u64::from(self.slots);
        let first = u64::from(self.context_first);
        self.context.iter().zip(0u64..).map(move |(extent, index)| (((first + index) % slots) as u32, *extent))
    }
}

impl TransactionContent {
    fn updates(&self, slots: u32, extents: u32) -> Option<Vec<LogUpdate>> {
        let count = usize::from(self.update_count.get());
        let pairs = self.update_slots.get(..count)?.iter().zip(self.update_extents.get(..count)?);
        pairs
            .map(|(slot, extent)| {
                let slot = u32::from(slot.get());
                let extent = match extent.get() {
                    SLOT_FREE => None,
                    extent if extent < extents => Some(ExtentIndex(extent)),
                    _ => return None,
                };
                (slot < slots).then_some(LogUpdate { slot, extent })
            })
            .collect()
    }
}
