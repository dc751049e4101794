//! What clients that live on are owed: their Primary had nothing but its peer's disk, whose cache died with answered writes
//! that no flush had covered. The next FLUSH must not tell them that those are stable (N2, I-D2).

use crate::client::Outstanding;
use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::ClientOp;
use crate::world::World;
use rep_types::{DiskState, IoError, Role};

/// Clients of a volume that may be told that writes of theirs are lost.
#[derive(Clone, Copy, Debug)]
pub struct Owed {
    node: usize,
    life: u32,
    since: u64,
    /// Something they were answered is gone, not by chance still there: they must be told.
    certain: bool,
}

impl World {
    /// A node's cache died, and maybe the only copy of something that was answered with it.
    pub(crate) fn note_owed(&mut self, died: usize, volume: usize, certain: bool) {
        let node = 1 - died;
        let Some(shown) = self.snapshot(node) else { return };
        if shown.role != Role::Primary && shown.forwarding.is_none() {
            return;
        }
        // A disk of its own may still go, and come back. What is gone may be of clients of the node that died, and nobody of this
        // one's need be told of that.
        let certain = certain
            && shown.role == Role::Primary
            && shown.volumes[volume].disk != DiskState::UpToDate
            && !self.clients.told[volume];
        let life = self.nodes[node].life;
        let before = self.clients.owed[volume].filter(|owed| (owed.node, owed.life) == (node, life));
        let certain = certain || before.is_some_and(|owed| owed.certain);
        self.clients.owed[volume] = Some(Owed { node, life, since: self.now, certain });
    }

    /// A node's clients may be told of a loss that wasn't one: their Primary died and had gone on alone.
    pub(crate) fn loss_may_be_told(&mut self, node: usize) {
        let (life, since) = (self.nodes[node].life, self.now);
        for owed in self.clients.owed.iter_mut().filter(|owed| owed.is_none()) {
            *owed = Some(Owed { node, life, since, certain: false });
        }
    }

    /// A node's clients went away of their own will: nobody is left to be told.
    pub(crate) fn forget_owed(&mut self, node: usize) {
        self.clients.owed.iter_mut().for_each(|owed| *owed = owed.filter(|owed| owed.node != node));
    }

    /// Whether a FLUSH may fail for what is owed to its clients.
    pub(crate) fn may_be_told(&self, asked: &Outstanding) -> bool {
        let owed = self.clients.owed[asked.volume];
        matches!(asked.op, ClientOp::Flush) && owed.is_some_and(|owed| owed.node == asked.node)
    }

    /// A request is answered: a FLUSH with an error if one is owed.
    pub(crate) fn check_owed(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        match asked.op {
            ClientOp::Flush => self.clients.told[asked.volume] |= result.is_err(),
            ClientOp::Write { .. } | ClientOp::Zero { .. } => self.clients.told[asked.volume] &= result.is_err(),
            ClientOp::Read { .. } => {}
        }
        let owed = self.clients.owed[asked.volume].filter(|_| self.may_be_told(asked));
        let Some(owed) = owed.filter(|owed| result.is_err() || asked.at > owed.since) else { return };
        self.clients.owed[asked.volume] = None;
        if self.nodes[owed.node].life != owed.life || !owed.certain || self.history.forked {
            return;
        }
        if result.is_err() {
            return self.seen(Sometimes::LossTold);
        }
        let detail = format!("node {} answers a flush; the only cache with answered writes had died", asked.node);
        self.fail(Kind::WrongData, "I-D2", detail);
    }
}
