//! The pool, and its chunks as buffers registered with the ring, where a limit allows it.
//!
//! A chunk is registered when it is first used: the kernel pins its pages once and not at each operation, and what was
//! never needed is never pinned.

use super::limits::{FORWARDED_BYTES, META_BYTES};
use rep_ring::{Pool, Ring, SlotId, ZoneBytes};
use std::io;

pub(super) struct Buffers {
    pub pool: Pool,
    /// Of each chunk: whether it is registered.
    registered: Vec<bool>,
    enabled: bool,
}

impl Buffers {
    /// `bytes` in all: half for clients, a third for what the peer sends, the rest for what is read for the peer. What the peer's
    /// clients write, forwarded, has room beyond that, which takes memory only when it is first needed.
    pub fn new(bytes: usize, ring: &Ring) -> io::Result<Self> {
        let zones = ZoneBytes {
            client: bytes / 2,
            peer: bytes / 3,
            local: bytes / 6 - META_BYTES,
            meta: META_BYTES,
            forwarded: FORWARDED_BYTES,
        };
        let pool = Pool::new(zones)?;
        let enabled = ring.reserve_buffers(pool.chunk_count() as u32).is_ok();
        Ok(Buffers { registered: vec![false; pool.chunk_count()], pool, enabled })
    }

    /// Whether any buffer is registered.
    pub fn is_registered(&self) -> bool {
        self.registered.contains(&true)
    }

    /// The registered buffer a slot lies in.
    pub fn registered(&mut self, slot: SlotId, ring: &Ring) -> Option<u16> {
        if !self.enabled {
            return None;
        }
        while let Some((chunk, start, length)) = self.pool.next_touched() {
            // SAFETY: the pool's mapping outlives the ring: it is only unmapped when no slot is in use, and the kernel
            // holds on to the pages it has pinned.
            let result = unsafe { ring.register_buffer(u32::from(chunk), start, length) };
            self.registered[usize::from(chunk)] = result.is_ok();
            if result.is_err() {
                // The limit of locked memory is reached: what is registered stays, the rest goes without.
                self.enabled = self.registered.contains(&true);
                break;
            }
        }
        let chunk = self.pool.chunk_of(slot);
        self.registered[usize::from(chunk)].then_some(chunk)
    }
}
