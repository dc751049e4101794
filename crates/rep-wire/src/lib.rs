//! The peer protocol: messages as values, frames as bytes, and the proof that opens a connection.
//!
//! `docs/PROTOCOL.md` is the specification; a test compares it with this code. Everything here is a pure function of
//! bytes: no socket, no clock, no randomness. The way of a connection: an [`Opening`] to [`Agreed`], whose
//! [`FrameWriter`] and [`FrameReader`] turn [`Message`]s into frames and back.
//!
//! Invariants: no byte from outside panics; nothing is allocated by a length from the wire beyond `limits`; hot
//! messages cost no allocation in either direction; what is accepted when received is exactly what may be sent.

mod control;
pub mod features;
mod frame;
mod fuzz;
mod hot;
mod kind;
mod layout;
mod legal;
pub mod limits;
mod message;
mod opening;
mod payload_sum;
mod runs;
mod view;

pub use frame::{Frame, FrameError, FrameReader, FrameWriter, Parsed, PayloadExpected};
pub use fuzz::{fuzz_control, fuzz_frames, fuzz_opening, fuzz_opening_side, fuzz_runs, fuzzed_sums};
pub use kind::FrameKind;
pub use layout::{Field, TABLES as LAYOUT_TABLES};
pub use legal::BodyError;
pub use message::{
    ControlMessage, HandoverRefusal, HandoverStep, Message, ResizeAnswer, ResizeRefusal, ResizeStep, TransferId,
};
pub use opening::{
    Agreed, Opening, OpeningConfig, OpeningError, OpeningRandom, OpeningSide, Progress, Received, RejectReason, Secret,
    SecretError,
};
pub use payload_sum::PayloadSum;
pub use runs::{RunsError, RunsReader, RunsWriter, decode_runs, encode_runs};
pub use view::{BLOCKS_ARE_KNOWN, DISK_DISCARDS, DISK_WITHOUT_CACHE, NodeView, OperatorWord, PriorEnd, VolumeView};
