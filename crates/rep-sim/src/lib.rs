//! The deterministic simulator: two engines, simulated disks, link, clients, operator and clock, on one thread.
//!
//! The engines are the ones that ship, over a second, simulated shell; what a seed does, it does again. A run is drawn
//! from its seed ([`swarm`], [`plan`]), plays in a [`world`], is judged all along ([`history`], `truth`, `checks`) and
//! ends by healing everything (`heal`).
//!
//! It is not a test of the real shell, of sockets or of the kernel: the torture of the real daemons is.

pub mod apart;
mod archive;
mod blocks;
mod caches;
mod checks;
mod client;
mod codec;
mod comparing;
pub mod counters;
pub mod crossed;
pub mod disk;
pub mod failure;
pub mod fence;
mod grow;
mod handover;
mod heal;
pub mod held;
pub mod history;
pub mod hung;
mod lifecycle;
mod link;
pub mod minimize;
mod network;
mod newer;
mod node;
mod operator;
mod outcomes;
mod owed;
mod pacing;
mod pass_on;
mod permission;
pub mod plan;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod rare;
pub mod rng;
mod rollback;
pub mod rot;
pub mod runner;
mod shell;
mod starved;
mod storage;
mod storm;
pub mod swarm;
pub mod theme;
pub mod thin;
pub mod trace;
mod truth;
pub mod verify;
pub mod wire;
pub mod world;

pub use failure::{Failure, Kind};
pub use plan::Plan;
pub use runner::{Outcome, run};
pub use swarm::{ShellBug, Swarm};
