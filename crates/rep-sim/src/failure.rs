//! How a run ends when it doesn't end well.

/// The three ways a run fails; each has an exit code of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A panic or an assertion of the product: a crash.
    Crash,
    /// Something didn't end after all faults had.
    Liveness,
    /// Data was lost, stale or wrong, or would be.
    WrongData,
}

impl Kind {
    /// The exit code of the program.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Crash => 20,
            Kind::Liveness => 21,
            Kind::WrongData => 22,
        }
    }
}

/// A violated invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// The invariant's name (I-…).
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}: {}", self.kind, self.invariant, self.detail)
    }
}
