//! A device of the kernel's that an earlier daemon left behind, as the drivers find it and the engine is told.

/// What whoever has a device open that an earlier daemon left behind knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftDevice {
    /// Bytes of its logical blocks.
    pub block_bytes: u32,
    /// Whether it has a volatile cache: without one, no flushes come.
    pub volatile_cache: bool,
}
