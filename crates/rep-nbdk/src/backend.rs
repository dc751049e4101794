//! How a device that was left behind is known again.

use std::fmt;

/// What a device is of, as text the driver keeps with it and shows in `/sys/block/nbdN/backend`: nothing on disk says which
/// device is whose, so nothing can disagree with the kernel. It never changes, else an upgrade would lose devices.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Backend(String);

impl Backend {
    /// Of a volume as this node has it. Names hold no `/`.
    pub fn new(resource: &str, node: &str, volume: u16) -> Self {
        Backend(format!("repd/{node}/{resource}/{volume}"))
    }

    /// As the driver keeps it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_forever() {
        assert_eq!(Backend::new("vz", "alpha", 0).as_str(), "repd/alpha/vz/0");
    }
}
