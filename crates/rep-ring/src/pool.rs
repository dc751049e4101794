//! Aligned buffers for user data: bounded, counted by use, in zones that can't starve each other.
//!
//! ```text
//!  one mapping ── zone ─┬─ chunk (1 MiB) ── cut into slots of one size class: 4K 16K 64K 256K 1M
//!                       ├─ chunk (free)
//!                       └─ …
//! ```
//! A chunk takes the class of the first slot cut from it and becomes free again with the last. Memory is touched
//! only when it is first used. A [`SlotId`] carries a generation, so that a slot let go of twice is told at once.
//!
//! Invariants: a slot is free exactly when its uses are 0; a slot starts on a multiple of its size (4 KiB at
//! least), which direct I/O needs; the bytes of all chunks never exceed what the pool was made with.
//!
//! Why zones: a buffer of the peer's zone comes free by this node's disk alone, one of the clients' zone also by the
//! peer. With a zone each, clients that fill theirs never keep a peer's write (and the acknowledgements queued behind
//! it) from arriving, so nodes can't block each other. What is forwarded comes free by the peer's acknowledgement, which may be
//! queued behind more of it: its zone has a chunk for every write that may be unanswered, so it always arrives.

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

const CHUNK_BYTES: usize = 1 << 20;
const UNIT_BYTES: usize = 4096;
const UNITS_PER_CHUNK: usize = CHUNK_BYTES / UNIT_BYTES;
const CLASS_BYTES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// Bits of a [`SlotId`] that name the slot's first unit; the others are its generation.
const UNIT_BITS: u32 = 20;

/// A slot in use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SlotId(pub u32);

impl SlotId {
    fn unit(self) -> usize {
        (self.0 & ((1 << UNIT_BITS) - 1)) as usize
    }

    fn generation(self) -> u16 {
        (self.0 >> UNIT_BITS) as u16
    }
}

/// Whose data a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Zone {
    /// Writes and reads of clients.
    Client,
    /// What the peer sent.
    Peer,
    /// What is read from the local disk for the peer.
    Local,
    /// Metadata blocks on their way to the disk.
    Meta,
    /// What clients of the peer write, forwarded.
    Forwarded,
}

const ZONES: usize = 5;

/// How many bytes each zone has; rounded down to whole MiB, at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneBytes {
    /// Of [`Zone::Client`].
    pub client: usize,
    /// Of [`Zone::Peer`].
    pub peer: usize,
    /// Of [`Zone::Local`].
    pub local: usize,
    /// Of [`Zone::Meta`].
    pub meta: usize,
    /// Of [`Zone::Forwarded`].
    pub forwarded: usize,
}

/// Use of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolUse {
    /// Bytes in slots that are in use.
    pub used_bytes: usize,
    /// Bytes of the whole pool.
    pub total_bytes: usize,
}

#[derive(Clone, Copy, Default, Debug)]
struct Unit {
    uses: u16,
    generation: u16,
    length: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    class: u8,
    free_slots: u16,
    /// One bit a slot; set: free.
    free: [u64; UNITS_PER_CHUNK / 64],
    /// Place in the zone's list of chunks of this class that have a free slot.
    place: u16,
}

#[derive(Default, Debug)]
struct ZoneState {
    empty: Vec<u16>,
    partial: [Vec<u16>; CLASS_BYTES.len()],
    chunks: usize,
}

/// The pool.
pub struct Pool {
    memory: NonNull<libc::c_void>,
    bytes: usize,
    units: Vec<Unit>,
    chunks: Vec<Chunk>,
    chunk_zone: Vec<u8>,
    zones: [ZoneState; ZONES],
    used_bytes: usize,
    /// Chunks used for the first time since last asked.
    touched: Vec<u16>,
    is_touched: Vec<bool>,
}

fn class_of(length: usize) -> Option<usize> {
    CLASS_BYTES.iter().position(|bytes| length <= *bytes)
}

impl Pool {
    /// A pool of this many bytes a zone; 4 GiB in all at most. No memory is touched yet.
    pub fn new(zone_bytes: ZoneBytes) -> io::Result<Pool> {
        let ZoneBytes { client, peer, local, meta, forwarded } = zone_bytes;
        let counts = [client, peer, local, meta, forwarded].map(|bytes| (bytes / CHUNK_BYTES).max(1));
        let chunk_count = counts.iter().sum::<usize>();
        if chunk_count > (1 << UNIT_BITS) / UNITS_PER_CHUNK {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let bytes = chunk_count * CHUNK_BYTES;
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice conflicts with nothing.
        let memory = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }?;
        let mut pool = Pool {
            memory,
            bytes,
            units: vec![Unit::default(); bytes / UNIT_BYTES],
            chunks: vec![Chunk::default(); chunk_count],
            chunk_zone: Vec::with_capacity(chunk_count),
            zones: Default::default(),
            used_bytes: 0,
            touched: Vec::with_capacity(chunk_count),
            is_touched: vec![false; chunk_count],
        };
        for (zone, count) in counts.into_iter().enumerate() {
            let first = pool.chunk_zone.len();
            pool.chunk_zone.resize(first + count, zone as u8);
            pool.zones[zone].empty = (first..first + count).rev().map(|chunk| chunk as u16).collect();
            pool.zones[zone].chunks = count;
        }
        Ok(pool)
    }

    /// Takes a slot for `length` bytes (1 MiB at most), with one use. `None`: the zone has none left now.
    pub fn take(&mut self, zone: Zone, length: usize) -> Option<SlotId> {
        let class = class_of(length)?;
        let state = &mut self.zones[zone as usize];
        let chunk_index = match state.partial[class].last() {
            Some(chunk) => *chunk,
            None => self.open_chunk(zone, class)?,
        };
        let chunk = &mut self.chunks[usize::from(chunk_index)];
        let word = chunk.free.iter().position(|word| *word != 0)?;
        let slot_in_chunk = word * 64 + chunk.free[word].trailing_zeros() as usize;
        chunk.free[word] &= chunk.free[word] - 1;
        chunk.free_slots -= 1;
        if chunk.free_slots == 0 {
            self.zones[zone as usize].partial[class].pop();
        }
        let unit_index = usize::from(chunk_index) * UNITS_PER_CHUNK + slot_in_chunk * CLASS_BYTES[class] / UNIT_BYTES;
        let unit = &mut self.units[unit_index];
        debug_assert_eq!(unit.uses, 0);
        (unit.uses, unit.length) = (1, length as u32);
        self.used_bytes += CLASS_BYTES[class];
        Some(SlotId(u32::from(unit.generation) << UNIT_BITS | unit_index as u32))
    }

    fn open_chunk(&mut self, zone: Zone, class: usize) -> Option<u16> {
        let state = &mut self.zones[zone as usize];
        let index = state.empty.pop()?;
        state.partial[class].push(index);
        let slots = CHUNK_BYTES / CLASS_BYTES[class];
        let mut free = [0; UNITS_PER_CHUNK / 64];
        for slot in 0..slots {
            free[slot / 64] |= 1 << (slot % 64);
        }
        let place = (state.partial[class].len() - 1) as u16;
        self.chunks[usize::from(index)] = Chunk { class: class as u8, free_slots: slots as u16, free, place };
        if !std::mem::replace(&mut self.is_touched[usize::from(index)], true) {
            self.touched.push(index);
        }
        Some(index)
    }

    fn unit(&self, slot: SlotId) -> &Unit {
        let unit = &self.units[slot.unit()];
        assert!(unit.uses > 0 && unit.generation == slot.generation(), "a buffer that isn't in use: {slot:?}");
        unit
    }

    /// Counts one more use of a slot.
    pub fn retain(&mut self, slot: SlotId) {
        self.unit(slot);
        self.units[slot.unit()].uses += 1;
    }

    /// Ends one use of a slot; with the last the slot is free.
    pub fn release(&mut self, slot: SlotId) {
        self.unit(slot);
        let unit = &mut self.units[slot.unit()];
        unit.uses -= 1;
        if unit.uses == 0 {
            unit.generation = (unit.generation + 1) & ((1 << (u32::BITS - UNIT_BITS)) - 1);
            self.free(slot.unit());
        }
    }

    fn free(&mut self, unit: usize) {
        let chunk_index = unit / UNITS_PER_CHUNK;
        let state = &mut self.zones[usize::from(self.chunk_zone[chunk_index])];
        let chunk = &mut self.chunks[chunk_index];
        let class = usize::from(chunk.class);
        let slot = unit % UNITS_PER_CHUNK * UNIT_BYTES / CLASS_BYTES[class];
        chunk.free[slot / 64] |= 1 << (slot % 64);
        chunk.free_slots += 1;
        self.used_bytes -= CLASS_BYTES[class];
        let partial = &mut state.partial[class];
        if chunk.free_slots == 1 {
            chunk.place = partial.len() as u16;
            partial.push(chunk_index as u16);
        }
        if usize::from(chunk.free_slots) == CHUNK_BYTES / CLASS_BYTES[class] {
            let place = usize::from(chunk.place);
            partial.swap_remove(place);
            if let Some(moved) = partial.get(place) {
                self.chunks[usize::from(*moved)].place = place as u16;
            }
            state.empty.push(chunk_index as u16);
        }
    }

    /// The length a slot was taken for.
    pub fn length(&self, slot: SlotId) -> usize {
        self.unit(slot).length as usize
    }

    /// Where a slot's memory starts. What is done through the pointer is the caller's responsibility.
    pub fn start_of(&self, slot: SlotId) -> *mut u8 {
        self.unit(slot);
        self.memory.as_ptr().cast::<u8>().wrapping_add(slot.unit() * UNIT_BYTES)
    }

    /// The chunk a slot lies in: the index of its registered buffer.
    pub fn chunk_of(&self, slot: SlotId) -> u16 {
        (slot.unit() / UNITS_PER_CHUNK) as u16
    }

    /// Copies bytes into a slot.
    pub fn write(&mut self, slot: SlotId, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length(slot), "beyond the slot");
        // SAFETY: the slot is in use, so its memory is mapped; the length was checked; `bytes` can't lie in it, since
        // no safe reference into the pool outlives a call that borrows it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start_of(slot).add(offset), bytes.len()) }
    }

    /// A slot's bytes.
    ///
    /// # Safety
    /// No operation that writes to the slot may be with the kernel while the reference lives.
    pub unsafe fn bytes(&self, slot: SlotId) -> &[u8] {
        // SAFETY: the slot is in use, so its memory is mapped; nobody writes to it, by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start_of(slot), self.length(slot)) }
    }

    /// Copies one slot's bytes to another.
    ///
    /// # Safety
    /// No operation that writes to `from` or uses `to` may be with the kernel.
    pub unsafe fn copy(&mut self, from: SlotId, to: SlotId) {
        let length = self.length(from);
        assert!(from != to && length <= self.length(to), "the slot is too short");
        // SAFETY: both are in use and long enough; different slots don't overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.start_of(from), self.start_of(to), length) }
    }

    /// How much is in use.
    pub fn in_use(&self) -> PoolUse {
        PoolUse { used_bytes: self.used_bytes, total_bytes: self.bytes }
    }

    /// Bytes of a zone.
    pub fn zone_bytes(&self, zone: Zone) -> usize {
        self.zones[zone as usize].chunks * CHUNK_BYTES
    }

    /// How many chunks there are.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Says that the kernel uses no slot any more, so that the memory may go with the pool though slots are in use.
    ///
    /// # Safety
    /// It must be true, and stay so.
    pub unsafe fn is_at_rest(&mut self) {
        self.used_bytes = 0;
    }

    /// A chunk that was used for the first time since this was last asked, with its memory: to be registered.
    pub fn next_touched(&mut self) -> Option<(u16, *mut u8, usize)> {
        let chunk = self.touched.pop()?;
        let start = self.memory.as_ptr().cast::<u8>().wrapping_add(usize::from(chunk) * CHUNK_BYTES);
        Some((chunk, start, CHUNK_BYTES))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.used_bytes > 0 {
            // The kernel may still use a slot; the mapping goes with the process.
            return;
        }
        // SAFETY: the mapping is ours, and no slot is in use.
        let _ = unsafe { munmap(self.memory, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Pool {
        let mib = 1 << 20;
        Pool::new(ZoneBytes { client: 2 * mib, peer: mib, local: mib, meta: mib, forwarded: mib }).expect("memory")
    }

    #[test]
    fn a_zone_gives_what_it_has_and_no_more() {
        let mut pool = small();
        let slots: Vec<_> = std::iter::from_fn(|| pool.take(Zone::Client, 4096)).collect();
        assert_eq!(slots.len(), 512);
        assert!(pool.take(Zone::Peer, 1 << 20).is_some(), "another zone is untouched by it");
        for slot in &slots[..256] {
            pool.release(*slot);
        }
        assert!(pool.take(Zone::Client, 1 << 20).is_some(), "a chunk that came free takes another class");
        assert!(pool.take(Zone::Client, 1 << 20).is_none());
    }

    #[test]
    fn slots_never_overlap_and_are_aligned() {
        let mib = 1 << 20;
        let mut pool =
            Pool::new(ZoneBytes { client: 8 * mib, peer: 0, local: 0, meta: 0, forwarded: 0 }).expect("memory");
        let lengths = [4096, 16384, 512, 65536, 5000, 262_144, 100_000];
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for length in lengths.iter().cycle() {
            let Some(slot) = pool.take(Zone::Client, *length) else { break };
            let start = pool.start_of(slot) as usize;
            assert_eq!(start % 4096, 0);
            ranges.push((start, start + length));
        }
        assert!(ranges.len() > 10);
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }

    #[test]
    fn a_slot_is_free_with_its_last_use() {
        let mut pool = small();
        let slot = pool.take(Zone::Peer, 1 << 20).expect("a slot");
        pool.retain(slot);
        pool.release(slot);
        assert!(pool.take(Zone::Peer, 1).is_none());
        pool.release(slot);
        assert_eq!(pool.in_use().used_bytes, 0);
        assert!(pool.take(Zone::Peer, 1).is_some());
    }

    #[test]
    #[should_panic(expected = "isn't in use")]
    fn a_slot_released_twice_is_told() {
        let mut pool = small();
        let slot = pool.take(Zone::Client, 4096).expect("a slot");
        pool.release(slot);
        pool.take(Zone::Client, 4096).expect("the same place");
        pool.release(slot);
    }

    #[test]
    fn random_use_keeps_the_accounts() {
        let mut pool = small();
        let mut held = Vec::new();
        let mut random = 12345u64;
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let choice = (random >> 33) as usize;
            if choice.is_multiple_of(3) && !held.is_empty() {
                pool.release(held.swap_remove(choice % held.len()));
            } else if let Some(slot) = pool.take(Zone::Client, 1 << (choice % 21)) {
                held.push(slot);
            } else if let Some(slot) = held.pop() {
                pool.release(slot);
            }
        }
        held.into_iter().for_each(|slot| pool.release(slot));
        assert_eq!(pool.in_use().used_bytes, 0);
        assert_eq!(pool.zones[0].empty.len(), pool.zones[0].chunks);
        assert!(pool.take(Zone::Client, 1 << 20).is_some());
    }
}
