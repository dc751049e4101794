//! What was written where, and what must therefore be there: at least what a flush has covered, at most what was sent.

use super::pattern;
use rep_types::BLOCK_SIZE;
use std::collections::BTreeSet;

/// A block's account, in versions.
#[derive(Clone, Copy, Default, Debug)]
struct Entry {
    /// The newest sent.
    sent: u32,
    /// The newest that a flush has covered.
    flushed: u32,
}

/// The ledger.
pub struct Ledger {
    blocks: Vec<Entry>,
    unflushed: BTreeSet<u64>,
    touched: BTreeSet<u64>,
}

/// What a verification found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Blocks that hold what they must.
    pub blocks: u64,
    /// Of them, blocks that a flush had covered.
    pub flushed_blocks: u64,
}

impl Ledger {
    /// Nothing written yet.
    pub fn new(size_bytes: u64) -> Self {
        let blocks = vec![Entry::default(); (size_bytes / BLOCK_SIZE) as usize];
        Ledger { blocks, unflushed: BTreeSet::new(), touched: BTreeSet::new() }
    }

    /// A block is about to be sent: its new version.
    pub fn send(&mut self, block: u64) -> u32 {
        self.unflushed.insert(block);
        self.touched.insert(block);
        let entry = &mut self.blocks[block as usize];
        entry.sent += 1;
        entry.sent
    }

    /// A flush was answered; nothing had been in flight.
    pub fn flushed(&mut self) {
        for block in std::mem::take(&mut self.unflushed) {
            let entry = &mut self.blocks[block as usize];
            entry.flushed = entry.sent;
        }
    }

    /// Blocks sent since the last flush.
    pub fn unflushed(&self) -> &BTreeSet<u64> {
        &self.unflushed
    }

    /// Begins a new count of touched blocks.
    pub fn forget_touched(&mut self) {
        self.touched.clear();
    }

    /// Blocks sent since [`Ledger::forget_touched`].
    pub fn touched(&self) -> &BTreeSet<u64> {
        &self.touched
    }

    /// Checks a block; what is seen once must stay.
    pub fn verify(&mut self, block: u64, data: &[u8], verified: &mut Verified) -> Result<(), String> {
        let entry = &mut self.blocks[block as usize];
        let Some((low, high)) = pattern::versions(block, data) else {
            return Err(format!("block {block} holds something that was never written there"));
        };
        if low < entry.flushed {
            return Err(format!(
                "block {block} went back to version {low}, though a flush had covered {}",
                entry.flushed
            ));
        }
        if high > entry.sent {
            return Err(format!("block {block} is of version {high}, which was never sent (newest: {})", entry.sent));
        }
        verified.blocks += 1;
        verified.flushed_blocks += u64::from(entry.flushed > 0);
        entry.flushed = low;
        // A newer version that was sent but isn't here was lost with the node that had it: no flush covers it any more.
        self.unflushed.remove(&block);
        Ok(())
    }

    /// Blocks of the volume.
    pub fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_data(block: u64, version: u32) -> Vec<u8> {
        let mut data = vec![0; BLOCK_SIZE as usize];
        if version > 0 {
            pattern::fill(block, version, &mut data);
        }
        data
    }

    #[test]
    fn lost_and_invented_writes_are_found() {
        let mut ledger = Ledger::new(16 * BLOCK_SIZE);
        let mut verified = Verified::default();
        assert_eq!((ledger.send(3), ledger.send(3)), (1, 2));
        assert!(ledger.verify(3, &block_data(3, 0), &mut verified).is_ok(), "not flushed: it may be lost");
        assert_eq!((ledger.send(3), ledger.send(3)), (3, 4));
        ledger.flushed();
        assert_eq!((ledger.send(3), ledger.send(3)), (5, 6));
        assert!(ledger.verify(3, &block_data(3, 3), &mut verified).is_err(), "flushed, yet lost");
        assert!(ledger.verify(3, &block_data(3, 7), &mut verified).is_err(), "never sent");
        assert!(ledger.verify(3, &block_data(4, 5), &mut verified).is_err(), "another place");
        assert!(ledger.verify(3, &block_data(3, 5), &mut verified).is_ok());
        assert!(ledger.verify(3, &block_data(3, 4), &mut verified).is_err(), "seen once, then gone");
    }

    #[test]
    fn what_a_crash_took_is_not_covered_by_a_later_flush() {
        let mut ledger = Ledger::new(16 * BLOCK_SIZE);
        let mut verified = Verified::default();
        ledger.send(3);
        ledger.flushed();
        ledger.send(3);
        ledger.verify(3, &block_data(3, 1), &mut verified).unwrap();
        ledger.flushed();
        ledger.verify(3, &block_data(3, 1), &mut verified).unwrap();
    }
}
