//! Two engines that keep each other busy: messages go to and fro, and nothing comes of them. Such a pair never comes to
//! rest, and a run of it would take until the last bound; seen early it is a livelock like any other (I-L1).

use crate::swarm::SECOND;
use rep_engine::Action;

/// So many messages without anything coming of them within [`WINDOW`] are a storm. Pings are a few hundred, and the runs of
/// a bitmap told at once some dozens.
const MESSAGES_MAX: u32 = 1_000;
const WINDOW: u64 = 60 * SECOND;

/// Watches what the engines ask for.
#[derive(Debug, Default)]
pub struct StormWatch {
    since: u64,
    messages: u32,
}

impl StormWatch {
    /// Notes an action of either node. Says whether this is a storm.
    pub fn note(&mut self, now: u64, action: &Action) -> bool {
        let comes_of_it = !matches!(action, Action::Send { .. } | Action::Release { .. });
        if comes_of_it || now > self.since + WINDOW {
            (self.since, self.messages) = (now, 0);
        }
        self.messages += 1;
        self.messages > MESSAGES_MAX
    }
}
