//! The replication engine: every decision of `repd`, and nothing else.
//!
//! Sans-IO: [`Event`]s in, [`Action`]s out, `next_timeout` for the clock. No socket, file, thread, clock or
//! randomness inside; it holds request ids and block ranges, never user data. The same code runs in `repd` and in the
//! simulator, so what is proven is what ships.

mod action;
mod activity_log;
mod bitmap_runs;
mod bitmap_store;
mod command;
mod config;
mod dirty_bitmap;
mod event;
mod idle_list;
mod page_set;
mod snapshot;
mod sync_decision;

pub use action::{Action, Notice, ReadInto, Why};
pub use command::{Command, CommandError, CommandOutcome, PlannedSync, Side};
pub use config::EngineConfig;
pub use event::{DiskSuccess, Event, Timestamp};
pub use snapshot::{Counters, IoSuspension, ResyncSnapshot, Snapshot, VolumeSnapshot};
pub use sync_decision::{SyncSide, decide_sync, explain};

/// The engine of one resource on one node. (Being written.)
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
}

impl Engine {
    /// An engine with nothing attached, StandAlone, Secondary.
    pub fn new(config: EngineConfig) -> Self {
        Engine { config }
    }

    /// Takes an event; appends what is to be done to `actions`.
    pub fn handle(&mut self, _now: Timestamp, _event: Event, _actions: &mut Vec<Action>) {
        unreachable!("being written")
    }

    /// When [`Event::Timeout`] is due; `None`: never, as things are.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// The state as operators see it.
    pub fn snapshot(&self, _now: Timestamp) -> Snapshot {
        unreachable!("being written")
    }

    /// Panics when an invariant doesn't hold. For tests and the simulator: after every event.
    pub fn assert_invariants(&self) {
        let _ = &self.config;
    }
}
