//! How a device that was left behind is known again.

use std::fmt;

/// What a device is of, as a number the driver keeps with it: nothing on disk says which device is whose, so nothing
/// can disagree with the kernel. FNV-1a, 64 bit, over the names; it never changes, else an upgrade would lose devices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Of a volume as this node has it.
    pub fn new(resource: &str, node: &str, volume: u16) -> Self {
        let volume = volume.to_string();
        let fields = ["repd", resource, node, &volume];
        let bytes = fields.iter().flat_map(|field| field.bytes().chain([0]));
        Fingerprint(
            bytes
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)),
        )
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_forever() {
        assert_eq!(Fingerprint::new("vz", "alpha", 0).to_string(), "d790f6ce6f328460");
    }

    #[test]
    fn names_that_run_together_differ() {
        assert_ne!(Fingerprint::new("ab", "c", 1), Fingerprint::new("a", "bc", 1));
        assert_ne!(Fingerprint::new("a", "b", 1), Fingerprint::new("a", "b", 2));
    }
}
