//! Generation identifiers: the history of a volume's data. *Generation* is history, *epoch* is ordering.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How many past generations a volume remembers.
pub const GENERATION_HISTORY_LENGTH: usize = 8;

/// One generation of a volume's data: a random number, or one of two marks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct GenerationId(pub u64);

impl GenerationId {
    /// No generation.
    pub const NONE: GenerationId = GenerationId(0);
    /// Metadata that was just created and has seen no data.
    pub const JUST_CREATED: GenerationId = GenerationId(1);

    /// Whether this is a real generation, made by a Primary.
    pub fn is_real(self) -> bool {
        self.0 > 1
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// The generations of a volume: what it holds now, since when the peer lacks something, and what it held before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Generations {
    /// The generation of the data.
    pub current: GenerationId,
    /// The generation the bitmap counts from: the last one shared with the peer. `NONE` while the peer lacks nothing.
    pub bitmap: GenerationId,
    /// Past generations, newest first, `NONE` where empty.
    pub history: [GenerationId; GENERATION_HISTORY_LENGTH],
}

impl Generations {
    /// The generations of metadata just created.
    pub const JUST_CREATED: Generations = Generations {
        current: GenerationId::JUST_CREATED,
        bitmap: GenerationId::NONE,
        history: [GenerationId::NONE; GENERATION_HISTORY_LENGTH],
    };

    /// Puts a generation on top of the history; the oldest falls out. Marks and repeats are left out.
    pub fn remember(&mut self, id: GenerationId) {
        if !id.is_real() || self.history.contains(&id) {
            return;
        }
        self.history.rotate_right(1);
        self.history[0] = id;
    }

    /// Whether a real generation stands in the history.
    pub fn remembers(&self, id: GenerationId) -> bool {
        id.is_real() && self.history.contains(&id)
    }
}

impl Default for Generations {
    fn default() -> Self {
        Self::JUST_CREATED
    }
}
