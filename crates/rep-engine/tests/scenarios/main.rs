//! Scenarios: bugs of the engine that were found (most by a seed of the simulator), each as the shortest order of
//! events that shows it. One test, one bug; its name says what must hold.

mod attach;
mod compare;
mod detach;
mod fencing;
mod handshake;
mod leave;
mod no_data;
mod pair;
mod promotion;
mod resize;
mod resync_order;
mod verify;
mod writes;
