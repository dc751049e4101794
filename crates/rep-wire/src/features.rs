//! What a node offers beyond the protocol's version: additions an older node need not know, one bit each in the hello.
//! What both offer is used. `docs/PROTOCOL.md` repeats them; a test compares.

/// A resync's target may ask by digests what of a range differs: `ResyncCompare`, `ResyncCompared`.
pub const RESYNC_BY_DIGESTS: u64 = 1 << 0;

/// A view may say from which side is to be repaired what a verify found: `RepairMine`, `RepairPeers`.
pub const REPAIR_WORD: u64 = 1 << 1;

/// The Primary role may be handed over while the device is open, whose requests are then forwarded: `Handover` and all
/// `Forward…` messages.
pub const HANDOVER: u64 = 1 << 2;

/// A view says whether a disk discards, and of a volume's logical blocks whether clients know them; a decision may refuse a disk for these:
/// `PeerBlocksTooLarge`, `BlocksTooLarge`.
pub const DISK_LIMITS: u64 = 1 << 3;

/// A resync's source may leave out the zeroes within a range: `ResyncRuns`.
pub const RESYNC_RUNS: u64 = 1 << 4;

/// A view says whether a disk has a volatile cache.
pub const DISK_CACHES: u64 = 1 << 5;

/// Payloads are summed by XXH64 instead of CRC-32: offered by a node whose processor does that faster.
pub const PAYLOAD_XXH64: u64 = 1 << 6;

/// A node that closes the connection to begin anew says so before: `BeginAnew`.
pub const BEGIN_ANEW: u64 = 1 << 7;

/// Everything this code can offer.
pub const ALL: u64 =
    RESYNC_BY_DIGESTS | REPAIR_WORD | HANDOVER | DISK_LIMITS | RESYNC_RUNS | DISK_CACHES | PAYLOAD_XXH64 | BEGIN_ANEW;
