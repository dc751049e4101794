//! The table of operations on a volume: what overlaps goes one after another (R7, R22, I-R6).
//!
//! Clients' reads and writes and the resync's locks stand here from their arrival to their end. An operation waits
//! for every earlier one it conflicts with; two conflict when they share a byte and not both only read. Waiting
//! follows the order of arrival, so there is no cycle and no starvation.
//!
//! Reads wait for writes as well. Else a read could return what an unanswered write put on our disk only, and
//! after a failover the volume would go back in time (I-R2, I-R3).
//!
//! The table is a vector sorted by offset. Entries are short (`length_max`), so a look-up scans a bounded
//! neighbourhood; insertion moves memory, which at some hundred entries is cheaper than a tree and never allocates.

use crate::slab::Key;
use rep_types::ByteRange;

#[derive(Clone, Copy, Debug)]
struct Entry {
    range: ByteRange,
    exclusive: bool,
    sequence: u64,
    key: Key,
}

/// The table.
#[derive(Debug)]
pub(crate) struct OverlapTable {
    entries: Vec<Entry>,
    next_sequence: u64,
    /// The longest entry, in bytes, since the table was last empty.
    length_max: u64,
}

impl OverlapTable {
    pub fn new() -> Self {
        OverlapTable { entries: Vec::with_capacity(256), next_sequence: 0, length_max: 0 }
    }

    fn first_candidate(&self, range: ByteRange) -> usize {
        let lowest = range.offset.saturating_sub(self.length_max);
        self.entries.partition_point(|entry| entry.range.offset < lowest)
    }

    /// Adds an operation; returns how many earlier ones it waits for.
    pub fn insert(&mut self, key: Key, range: ByteRange, exclusive: bool) -> u32 {
        self.length_max = self.length_max.max(u64::from(range.length));
        let mut blockers = 0;
        let mut position = self.first_candidate(range);
        while let Some(entry) = self.entries.get(position) {
            if entry.range.offset >= range.end() {
                break;
            }
            blockers += u32::from(entry.range.overlaps(range) && (exclusive || entry.exclusive));
            position += 1;
        }
        let place = self.entries.partition_point(|entry| entry.range.offset <= range.offset);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.entries.insert(place, Entry { range, exclusive, sequence, key });
        blockers
    }

    /// Takes an operation out; `unblocked` gets each later one that waited for it, in the order of their arrival.
    pub fn remove(&mut self, key: Key, range: ByteRange, unblocked: &mut Vec<Key>) {
        let mut position = self.entries.partition_point(|entry| entry.range.offset < range.offset);
        while self.entries.get(position).is_some_and(|entry| entry.key != key) {
            position += 1;
        }
        assert!(position < self.entries.len(), "the operation {key:?} at {range:?} is not in the table");
        let removed = self.entries.remove(position);
        let start = unblocked.len();
        let mut order: [(u64, Key); 32] = [(0, key); 32];
        let mut count = 0;
        for entry in &self.entries[self.first_candidate(range)..] {
            if entry.range.offset >= range.end() {
                break;
            }
            let conflict = entry.range.overlaps(range) && (entry.exclusive || removed.exclusive);
            if conflict && entry.sequence > removed.sequence {
                if count < order.len() {
                    order[count] = (entry.sequence, entry.key);
                }
                count += 1;
                unblocked.push(entry.key);
            }
        }
        // Hand them on oldest first. More than a few waiting on one range is rare; then the order by offset serves:
        // who starts is decided by the count of blockers, not by this order.
        if count <= order.len() {
            order[..count].sort_unstable_by_key(|(sequence, _)| *sequence);
            for (place, (_, key)) in unblocked[start..].iter_mut().zip(&order[..count]) {
                *place = *key;
            }
        }
        if self.entries.is_empty() {
            self.length_max = 0;
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Checks that the entries are sorted and the bound on their length holds.
    pub fn assert_invariants(&self) {
        assert!(
            self.entries.windows(2).all(|pair| pair[0].range.offset <= pair[1].range.offset),
            "overlap table unsorted"
        );
        assert!(
            self.entries.iter().all(|entry| u64::from(entry.range.length) <= self.length_max),
            "overlap table bound"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, length: u32) -> ByteRange {
        ByteRange::new(offset, length)
    }

    #[test]
    fn overlapping_writes_wait_in_order_of_arrival() {
        let mut table = OverlapTable::new();
        assert_eq!(table.insert(Key(1), range(0, 4096), true), 0);
        assert_eq!(table.insert(Key(2), range(0, 8192), true), 1);
        assert_eq!(table.insert(Key(3), range(512, 512), true), 2);
        assert_eq!(table.insert(Key(4), range(8192, 512), true), 0);
        let mut unblocked = Vec::new();
        table.remove(Key(1), range(0, 4096), &mut unblocked);
        assert_eq!(unblocked, [Key(2), Key(3)]);
        unblocked.clear();
        table.remove(Key(2), range(0, 8192), &mut unblocked);
        assert_eq!(unblocked, [Key(3)]);
        assert_eq!(table.len(), 2);
        table.assert_invariants();
    }

    #[test]
    fn reads_share_and_wait_only_for_writes() {
        let mut table = OverlapTable::new();
        assert_eq!(table.insert(Key(1), range(0, 4096), false), 0);
        assert_eq!(table.insert(Key(2), range(0, 4096), false), 0);
        assert_eq!(table.insert(Key(3), range(0, 4096), true), 2);
        assert_eq!(table.insert(Key(4), range(0, 4096), false), 1);
        let mut unblocked = Vec::new();
        table.remove(Key(1), range(0, 4096), &mut unblocked);
        assert_eq!(unblocked, [Key(3)]);
    }

    /// Against a naive model: an operation runs only when no earlier conflicting one is there.
    #[test]
    fn agrees_with_a_naive_model() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let mut table = OverlapTable::new();
        let mut live: Vec<(Key, ByteRange, bool, u32)> = Vec::new();
        for step in 0..20_000u64 {
            if live.len() < 40 && random(2) == 0 {
                let entry = (Key(step), range(random(64) * 512, (1 + random(16)) as u32 * 512), random(3) > 0);
                let expected = live
                    .iter()
                    .filter(|(_, other, exclusive, _)| other.overlaps(entry.1) && (*exclusive || entry.2))
                    .count() as u32;
                assert_eq!(table.insert(entry.0, entry.1, entry.2), expected);
                live.push((entry.0, entry.1, entry.2, expected));
            } else if let Some(at) = live.iter().position(|(_, _, _, blockers)| *blockers == 0) {
                let (key, range, exclusive, _) = live.remove(at);
                let mut unblocked = Vec::new();
                table.remove(key, range, &mut unblocked);
                for (other, other_range, other_exclusive, blockers) in &mut live {
                    let conflict = other_range.overlaps(range) && (*other_exclusive || exclusive) && *other > key;
                    assert_eq!(unblocked.contains(other), conflict);
                    *blockers -= u32::from(conflict);
                }
            }
            table.assert_invariants();
        }
    }
}
