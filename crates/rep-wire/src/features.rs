//! What a node offers beyond the protocol's version: additions an older node need not know, one bit each in the hello.
//! What both offer is used. `docs/PROTOCOL.md` repeats them; a test compares.

/// A resync's target may ask by digests what of a range differs: `ResyncCompare`, `ResyncCompared`.
pub const RESYNC_BY_DIGESTS: u64 = 1 << 0;

/// Everything this code offers.
pub const ALL: u64 = RESYNC_BY_DIGESTS;
