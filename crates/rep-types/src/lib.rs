//! The vocabulary of `repd`: the words every other crate speaks. Read this crate first.
//!
//! Nothing here does anything; it names. Units (`ByteRange`, `BlockIndex`, …) are newtypes so that a byte is never
//! taken for a block; states are closed enums with questions as methods instead of an order; the words are DRBD's
//! (see the glossary in `ARCHITECTURE.md`).
//!
//! Architecture invariant: no I/O, no clock, no randomness, and no dependency on any other crate of the workspace.

mod calendar;
mod decision;
mod disk_policy;
mod error;
mod fencing;
mod generation;
mod left_device;
mod name;
pub mod planted;
mod range;
mod room;
mod split_brain;
mod state;
mod units;
mod zero_blocks;

pub use calendar::civil_date;
pub use decision::{ByBitmapOrFull, SyncDecision, SyncRefusal, SyncRule, SyncVerdict};
pub use disk_policy::{OnIoError, OnNoData};
pub use error::{IoError, LinkCause, Refusal};
pub use fencing::{FenceAnswer, Fencing};
pub use generation::{GENERATION_HISTORY_LENGTH, GenerationId, Generations};
pub use left_device::LeftDevice;
pub use name::{NameError, NodeName, ResourceName};
pub use range::{BlockRange, ByteRange};
pub use room::{Room, RoomLimit};
pub use split_brain::{AfterOnePrimary, AfterZeroPrimaries, SplitBrainPolicies};
pub use state::{ConnectionState, DiskState, ReplicationState, Role, ZeroMode};
pub use units::{
    BLOCK_SIZE, BlockIndex, CommandId, DIGEST_LENGTH, DigestKey, EXTENT_SIZE, EpochNumber, ExtentIndex, IoId,
    PayloadId, REQUEST_LENGTH_MAX, RequestId, SECTOR_SIZE, SessionId, VolumeNumber, ZERO_LENGTH_MAX,
};
pub use zero_blocks::{ZeroBlocks, ZeroRun, ZeroRuns};
