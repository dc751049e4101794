//! Promotions of nodes in split brain: none without force, from when a node has found that both went on apart until they
//! have joined, also over a restart (decision 33).
//!
//! The operator tries it on, whatever the arbiter would say: it has to be refused.

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::node::OpKind;
use crate::world::World;
use rep_engine::{Command, Notice};
use rep_types::{ConnectionState, Refusal, Role};

/// What is known of the nodes.
#[derive(Debug, Default)]
pub struct Apart {
    /// The life of its daemon in which each last found a split brain, if it hasn't joined since.
    found: [Option<u32>; 2],
}

impl World {
    pub(crate) fn apart_notice(&mut self, node: usize, notice: &Notice) {
        match notice {
            Notice::Connection { to: ConnectionState::SplitBrain, .. } => {
                self.apart.found[node] = Some(self.nodes[node].life);
            }
            Notice::Connection { to: ConnectionState::Connected, .. } => self.apart.found[node] = None,
            _ => {}
        }
    }

    /// A node's daemon is gone. What its metadata say of the peer stays with a Primary, which goes on with its data (R35), and
    /// where the daemon died before it was taken back.
    pub(crate) fn apart_ends(&mut self, node: usize) {
        let writes = |op: &crate::node::DiskOp| matches!(op.kind, OpKind::Meta { .. });
        let half_way = self.nodes[node].ops.values().any(writes);
        if half_way || self.role(node) != Role::Secondary {
            self.apart.found[node] = None;
        }
    }

    /// A node's metadata are others than its daemon left.
    pub(crate) fn apart_forgotten(&mut self, node: usize) {
        self.apart.found[node] = None;
    }

    /// Tries to promote a node in split brain.
    pub(crate) fn promote_apart(&mut self, node: usize) -> bool {
        let tries = self.apart.found[node].is_some() && !self.is_connected(node);
        if tries {
            self.command(node, Command::Promote { force: false });
        }
        tries
    }

    /// A node became Primary.
    pub(crate) fn check_promoted_apart(&mut self, node: usize, forced: bool) {
        let Some(life) = self.apart.found[node] else { return };
        if !forced {
            let detail = format!("node {node} knows of a split brain and is promoted without force");
            self.fail(Kind::WrongData, "R38", detail);
        } else if life != self.nodes[node].life {
            // A daemon that died since knew of it by its disk alone, which was Consistent (R28): by force that is the newest.
            self.apart.found[node] = None;
        }
    }

    /// A promotion was refused.
    pub(crate) fn count_refused_promotion(&mut self, refusal: Refusal) {
        self.seen(Sometimes::PromoteRefused);
        if refusal == Refusal::SplitBrain {
            self.seen(Sometimes::PromoteRefusedApart);
        }
    }
}
