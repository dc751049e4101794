//! The before-resync-target handler: it takes its time, and now and then says no. Nothing is overwritten before it has
//! said yes.

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::swarm::{MS, SECOND};
use crate::world::{Due, World};
use rep_engine::{Event, ResyncId};

/// The longest it takes.
const SLOWEST: u64 = 5 * SECOND;

impl World {
    /// A node's engine asks.
    pub(crate) fn resync_asked(&mut self, node: usize, volume: usize, id: ResyncId) {
        self.seen(Sometimes::ResyncAsked);
        let life = self.nodes[node].life;
        let span = self.dice.misc.span(MS, SLOWEST);
        self.after(span, Due::ResyncAnswered { node, life, volume, id });
    }

    /// The handler ends.
    pub(crate) fn resync_answered(&mut self, node: usize, life: u32, volume: usize, id: ResyncId) {
        if self.nodes[node].life != life || !self.nodes[node].is_up() {
            return;
        }
        let minds = self.swarm.asks_before_resync.unwrap_or_default();
        let allowed = self.operator.healing || !self.dice.misc.chance(minds);
        self.nodes[node].volumes[volume].resync_allowed |= allowed;
        self.feed(node, Event::ResyncAnswered { id, allowed });
    }

    /// A handshake begins anew: whatever was allowed before was for another resync.
    pub(crate) fn forget_permission(&mut self, node: usize, volume: usize) {
        self.nodes[node].volumes[volume].resync_allowed = false;
    }

    /// A resync overwrites a block.
    pub(crate) fn check_allowed(&mut self, node: usize, volume: usize) {
        if self.swarm.asks_before_resync.is_some() && !self.nodes[node].volumes[volume].resync_allowed {
            let detail =
                format!("node {node} volume {volume} takes resync data; the handler that may mind said nothing");
            self.fail(Kind::WrongData, "I-B5", detail);
        }
    }
}
