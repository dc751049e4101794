//! What is done when disks fail: the policies a resource's configuration names (R32).

/// What becomes of a disk that answers a read or a write with an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnIoError {
    /// It is let go of.
    #[default]
    Detach,
    /// While it is the only good copy in reach it is kept, and who asked hears of the error.
    PassOn,
}

/// What becomes of client I/O while no good data is in reach: the own disk gone, the peer or its disk too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnNoData {
    /// It is answered with an error.
    #[default]
    IoError,
    /// It waits until a disk or the peer is back, or the operator says that it may fail.
    SuspendIo,
}
