//! What takes part in the comparison.

use crate::fio::Sample;

/// A server with an NBD export of [`crate::VOLUME_BYTES`] that stays up during the whole run.
pub trait Contender {
    /// Its name in the table.
    fn name(&self) -> &'static str;
    /// Its export.
    fn uri(&self) -> String;
    /// The processes whose time counts: all that serve, none that measure.
    fn processes(&self) -> Vec<u32>;
    /// Copies many megabytes from one of its disks to the other, the way it does that; only the rate and the time of
    /// its processes are meaningful in the answer.
    fn resync(&self) -> Sample;
}
