//! The hot pure pieces as workloads, each written once: criterion measures their time (`cargo bench -p rep-micro`), and
//! `cargo xtask instructions` counts their instructions, which are the same every time and may be judged by a test.
//!
//! A workload is ready to run when it has been made, its table filled and its buffers grown: what is measured is the
//! steady state. It asserts that it does what it says, so that nobody measures a refusal.

mod pair;
mod workloads;

pub use workloads::{WORKLOADS, Workload};
