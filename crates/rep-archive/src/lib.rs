//! Archives: what the victim of a split brain held, in a file of its own; docs/ARCHIVE.md as code.
//!
//! ```text
//!  head (4096 bytes) │ record head (64), data │ record head, data │ … │ end record
//! ```
//!
//! - [`Writer`] writes one, and makes it count only when it is whole and stable.
//! - [`Archive`] is one that was read: its head and the order of its records hold together.
//! - [`View`] is the volume as the victim held it: an archive laid over a base.
//!
//! What it isn't: it doesn't know disks or daemons, and never decides what is saved.
//!
//! Architecture invariant: nothing in an archive is believed before its digest was compared; a damaged one is an error,
//! never other bytes and never a panic.

mod layout;
mod reader;
mod view;
mod writer;

pub use layout::{Head, LayoutError, Scope, VERSION};
pub use reader::{Archive, ReadError};
pub use view::{Base, View};
pub use writer::Writer;

/// How the files of archives end.
pub const EXTENSION: &str = "archive";
/// How the file of one that isn't whole yet ends; nothing but a crash leaves it behind.
pub const EXTENSION_PART: &str = "part";
/// The longest record, in bytes of data.
pub const RECORD_BYTES_MAX: u64 = 1 << 20;
/// The longest record of zeroes.
pub const ZEROES_BYTES_MAX: u64 = 1 << 40;
