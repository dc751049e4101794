//! A split brain as JSON: in `status`, in `split-brain show` and in the event that tells of it, on both nodes the same.

use super::{format_bytes, format_time};
use serde::{Deserialize, Serialize};
use std::time::{Duration, UNIX_EPOCH};

/// The volumes of a resource that are in split brain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SplitBrainStatus {
    /// By number.
    pub volumes: Vec<SplitBrainVolume>,
}

/// A volume that went on apart on both nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SplitBrainVolume {
    /// Its number.
    pub number: u16,
    /// The rule of the decision table that found it.
    pub rule: String,
    /// Why it was left to the operator: `no-policy`, `policies-differ`, `two-primaries`, `no-victim`, `victim-is-primary` or
    /// `words-contradict`.
    pub unsettled: String,
    /// Both nodes, by name.
    pub nodes: Vec<ApartNode>,
}

/// One of the two nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApartNode {
    /// Its name.
    pub name: String,
    /// When it began to write alone, by its own clock, as RFC 3339; `None`: that isn't known.
    pub since: Option<String>,
    /// The same in milliseconds since 1970.
    pub since_unix_ms: Option<u64>,
    /// Whether it was Primary already when it lost the other.
    pub was_primary: bool,
    /// Bytes it wrote alone, in whole blocks.
    pub dirty_bytes: u64,
    /// Its newest generation.
    pub generation: String,
}

impl ApartNode {
    /// `since_unix_ms`: 0 where it isn't known.
    pub fn new(name: &str, since_unix_ms: u64, was_primary: bool, dirty_bytes: u64, generation: String) -> Self {
        let since_unix_ms = (since_unix_ms > 0).then_some(since_unix_ms);
        // What a peer claims may be any number.
        let at = since_unix_ms.and_then(|unix_ms| UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)));
        ApartNode {
            name: name.to_owned(),
            since: at.map(format_time),
            since_unix_ms,
            was_primary,
            dirty_bytes,
            generation,
        }
    }

    /// In one line.
    pub fn words(&self) -> String {
        format!(
            "{}: wrote {} alone since {}; newest generation {}",
            self.name,
            format_bytes(self.dirty_bytes),
            self.since.as_deref().unwrap_or("a moment that isn't known"),
            self.generation
        )
    }
}

impl SplitBrainVolume {
    /// Both nodes in one line.
    pub fn words(&self) -> String {
        self.nodes.iter().map(ApartNode::words).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_words() {
        let known = ApartNode::new("alpha", 951_782_400_007, true, 1 << 20, "0A".into());
        assert_eq!(known.words(), "alpha: wrote 1.00 MiB alone since 2000-02-29T00:00:00.007Z; newest generation 0A");
        let unknown = ApartNode::new("alpha", 0, true, 4096, "0A".into());
        assert_eq!((unknown.since.clone(), unknown.since_unix_ms), (None, None));
        assert!(unknown.words().contains("since a moment that isn't known"), "{}", unknown.words());
    }

    #[test]
    fn a_time_no_calendar_has_is_shown_all_the_same() {
        let told = ApartNode::new("beta", u64::MAX, false, 0, "0B".into());
        assert_eq!(told.since_unix_ms, Some(u64::MAX));
        assert!(!told.words().is_empty());
    }
}
