//! The control interface as values: what travels as JSON over the control socket, for the daemon and for its callers.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status`, `GET /v1/status/RES` | [`Status`] |
//! | `GET /v1/events` | one [`Event`] a line, until the caller leaves |
//! | `GET /v1/resources/RES/detail` | [`Detail`] |
//! | `POST /v1/resources/RES/VERB` with a [`VerbRequest`] | [`VerbAnswer`] |
//! | `POST /v1/adjust` with an [`AdjustRequest`] | [`AdjustAnswer`] |
//!
//! Everything else than success is an [`ApiError`]. Fields are only ever added; a name keeps its sense.

mod adjust;
mod detail;
mod error;
mod event;
mod latency;
mod split_brain;
mod status;
mod units;
mod verb;

pub use adjust::{AdjustAnswer, AdjustRequest, ChangeKind, ResourceChange, SettingChange};
pub use detail::{DecisionDetail, Detail, GenerationsDetail, VerifyRunDetail, VerifyRunState, VolumeDetail};
pub use error::{ApiError, ConfigProblem, ErrorKind, ExitCode};
pub use event::{Event, format_time};
pub use latency::{Histogram, Histograms, LatencyStatus};
pub use split_brain::{ApartNode, SplitBrainStatus, SplitBrainVolume};
pub use status::{
    ComparedStatus, DriverStatus, ForwardingStatus, IoStatus, PacingStatus, PeerStatus, ResourceStatus, ResyncRole,
    ResyncStatus, Status, VerifyStatus, VolumeStatus,
};
pub use units::format_bytes;
pub use verb::{PlanEntry, Verb, VerbAnswer, VerbRequest, VerifiedVolume};

/// The largest body of a request, in bytes.
pub const REQUEST_BODY_LENGTH_MAX: usize = 64 << 10;
/// How long a verb may take when its caller doesn't say.
pub const VERB_TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// How long a verb may take at most.
pub const VERB_TIMEOUT_MS_MAX: u64 = 3_600_000;
