//! What is done when disks fail: the policies a resource's configuration names (R32).

/// What becomes of client I/O while no good data is in reach: the own disk gone, the peer or its disk too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnNoData {
    /// It is answered with an error.
    #[default]
    IoError,
    /// It waits until a disk or the peer is back, or the operator says that it may fail.
    SuspendIo,
}
