//! The replication engine: every decision of `repd`, and nothing else.
//!
//! Sans-IO: [`Event`]s in, [`Action`]s out, `next_timeout` for the clock. No socket, file, thread, clock or
//! randomness inside; it holds request ids and block ranges, never user data. The same code runs in `repd` and in the
//! simulator, so what is proven is what ships.

mod accept;
mod action;
mod activity_log;
mod attach;
pub mod benched;
mod bitmap_runs;
mod bitmap_store;
mod bits;
mod block_sizes;
mod caches;
mod clock;
mod command;
mod config;
mod dirty_bitmap;
mod disk_errors;
mod engine;
mod epoch;
mod event;
mod fencing;
mod flush_habit;
mod forward;
mod forwarded;
mod generation;
mod grant;
mod handover;
mod handshake;
mod hung_disk;
mod idle_list;
mod invalidate;
mod invariants;
mod joining;
mod latencies;
mod limits;
mod link;
mod local_disk;
mod loss;
mod metadata;
mod new_generation;
mod operation;
mod operator;
mod overlap;
mod page_set;
mod peer_requests;
mod peer_state;
mod plan;
mod relocation;
mod resize;
mod rest;
mod resync;
mod role;
mod shutdown;
mod slab;
mod snapshot;
mod split_brain;
mod stages;
mod starved;
mod status;
mod sync_decision;
mod verify;
mod volume;
mod write_path;

pub use action::{Action, ArchiveHead, ArchiveStep, Notice, Offer, ReadInto, Why};
pub use command::{Command, CommandError, CommandOutcome, PlannedSync, Side};
pub use config::{ArchiveScope, EngineConfig, Pace, Tunables};
pub use engine::Engine;
pub use event::{ArchiveError, DiskSuccess, DiskTraits, Event, FenceId, ResyncId, Timestamp};
pub use latencies::Latencies;
pub use resync::PacingSnapshot;
pub use snapshot::{
    ComparedSnapshot, Counters, FenceSnapshot, ForwardingSnapshot, IoSuspension, ResyncSnapshot, Snapshot, VerifyRun,
    VerifySnapshot, VerifyState, VolumeSnapshot,
};
pub use split_brain::{ApartSide, SplitBrainFacts};
pub use stages::StageLatencies;
pub use sync_decision::{SyncSide, Unsettled, decide_sync, explain, unsettled};
