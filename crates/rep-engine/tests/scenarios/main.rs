//! Scenarios: bugs of the engine that were found (most by a seed of the simulator), each as the shortest order of
//! events that shows it. One test, one bug; its name says what must hold.

mod attach;
mod block_sizes;
mod caches;
mod compare;
mod demotion;
mod detach;
mod device_left;
mod fencing;
mod handover;
mod handshake;
mod hung_disk;
mod invalidate;
mod leave;
mod no_data;
mod pair;
mod pass_on;
mod permission;
mod promotion;
mod resize;
mod resync_end;
mod resync_order;
mod resync_pacing;
mod shows_sources;
mod split_brain;
mod verify;
mod write_through;
mod writes;
mod zero_runs;
