//! What the scenarios in `tests/scenarios/` are written with: two real daemons, the links between them, a client that
//! keeps a ledger, and the tools a user would use.
//!
//! It knows the product only from outside: the command line, the JSON, the exit codes, the sockets. Nothing of the
//! workspace's crates is linked in, so a mistake there can't hide itself here.
//!
//! Rules a scenario can rely on:
//! - whatever it started is gone when it ends, also when it panics: daemons, mounts, loop devices, namespaces
//! - it fails on a WARN or ERROR in a daemon's log that it didn't list
//! - it waits by asking again until a deadline, never by sleeping and hoping
//! - [`slots`] limit how many run at once, across processes, so `cargo test` and `nextest` behave the same

pub mod binaries;
pub mod cluster;
pub mod compare;
pub mod config;
pub mod events;
pub mod faulty_disk;
pub mod ledger;
pub mod load;
pub mod logs;
pub mod loop_disk;
pub mod mount;
pub mod nbd;
pub mod net;
pub mod node;
pub mod process;
pub mod random;
pub mod scratch;
pub mod slots;
pub mod status;
pub mod tools;
pub mod wait;

pub use cluster::{Cluster, ClusterOptions, Place};
pub use events::Events;
pub use ledger::Ledger;
pub use net::{Cut, NetworkKind};
pub use node::Node;
pub use wait::until;
