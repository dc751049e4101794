//! What clients that live on are owed. Answered writes that no flush had covered are lost: with the cache of the peer, whose disk
//! was all their Primary had, or since that disk, or their Primary's own, failed a flush. The next FLUSH must not tell them that
//! those are stable (N2, I-D2); and where the peer's device is open too, clients of both are owed that, each by itself.

use crate::client::Outstanding;
use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::ClientOp;
use crate::world::World;
use rep_types::{DiskState, IoError, Role};

/// Clients of a node's device that may be told that writes of theirs are lost.
#[derive(Clone, Copy, Debug)]
pub struct Owed {
    /// Of the node; of those whose requests it forwards, of the Primary as well.
    lives: [u32; 2],
    /// Its requests were forwarded then: the word is the Primary's, and dies with it.
    forwarded: bool,
    since: u64,
    /// Something they were answered is gone, not by chance still there: they must be told.
    certain: bool,
}

impl Owed {
    /// Whether who would say the word to a node's clients is still there.
    fn lives_on(&self, node: usize, lives: [u32; 2]) -> bool {
        self.lives[node] == lives[node] && (!self.forwarded || self.lives == lives)
    }
}

/// What clients are owed, and have been told, of a volume.
#[derive(Clone, Copy, Default, Debug)]
pub struct Word {
    owed: Option<Owed>,
    /// When the FLUSH of theirs was asked that failed last: of whatever was answered before they have been told.
    told_of: Option<u64>,
    /// When a write was answered last.
    answered_at: u64,
    /// When the FLUSH of theirs was asked that was answered last.
    pub flushed_of: u64,
}

impl Word {
    /// Whether they have been told of all that was answered.
    fn is_told(&self) -> bool {
        self.told_of.is_some_and(|asked_at| asked_at > self.answered_at)
    }
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
        let certain = certain && shown.role == Role::Primary && shown.volumes[volume].disk != DiskState::UpToDate;
        self.owe(node, volume, certain);
    }

    /// A Primary's disk failed a flush and dropped what that was to make stable, with no other good copy.
    pub(crate) fn note_flush_lost(&mut self, node: usize, volume: usize, certain: bool) {
        let Some(shown) = self.snapshot(node).filter(|shown| shown.role == Role::Primary) else { return };
        let mine = &shown.volumes[volume];
        let certain = certain && mine.disk == DiskState::UpToDate && mine.peer_disk != DiskState::UpToDate;
        self.owe(node, volume, certain);
        if self.forwards(1 - node) {
            // Apart, what is gone may be of this node's clients alone.
            self.owe(1 - node, volume, certain && self.is_connected(node) && self.is_connected(1 - node));
        }
    }

    fn lives(&self) -> [u32; 2] {
        [0, 1].map(|node| self.nodes[node].life)
    }

    fn owe(&mut self, node: usize, volume: usize, certain: bool) {
        let (lives, since, forwarded) = (self.lives(), self.now, self.role(node) != Role::Primary);
        let word = &mut self.clients.words[volume][node];
        let before = word.owed.is_some_and(|before| before.certain && before.lives_on(node, lives));
        let certain = certain && !word.is_told() || before;
        word.owed = Some(Owed { lives, forwarded, since, certain });
    }

    /// A node's clients may be told of a loss that wasn't one: their Primary died and had gone on alone.
    pub(crate) fn loss_may_be_told(&mut self, node: usize) {
        let (lives, since, forwarded) = (self.lives(), self.now, false);
        for words in &mut self.clients.words {
            words[node].owed.get_or_insert(Owed { lives, forwarded, since, certain: false });
        }
    }

    /// Whether anybody must be told of a loss.
    pub(crate) fn is_owed(&self, volume: usize) -> bool {
        self.clients.words[volume].iter().any(|word| word.owed.is_some_and(|owed| owed.certain))
    }

    /// What seemed lost is all there: nobody need be told.
    pub(crate) fn loss_was_none(&mut self, volume: usize) {
        self.clients.words[volume]
            .iter_mut()
            .filter_map(|word| word.owed.as_mut())
            .for_each(|owed| owed.certain = false);
    }

    /// A node's clients went away of their own will: nobody is left to be told.
    pub(crate) fn forget_owed(&mut self, node: usize) {
        self.clients.words.iter_mut().for_each(|words| words[node].owed = None);
    }

    /// Whether a FLUSH may fail for what is owed to its clients.
    pub(crate) fn may_be_told(&self, asked: &Outstanding) -> bool {
        matches!(asked.op, ClientOp::Flush) && self.clients.words[asked.volume][asked.node].owed.is_some()
    }

    /// A request is answered: a FLUSH with an error if one is owed.
    pub(crate) fn check_owed(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        let now = self.now;
        let words = &mut self.clients.words[asked.volume];
        match asked.op {
            ClientOp::Flush => {
                let word = &mut words[asked.node];
                word.flushed_of = asked.at;
                if result.is_err() {
                    word.told_of = Some(asked.at);
                }
            }
            ClientOp::Write { .. } | ClientOp::Zero { .. } if result.is_ok() => {
                words.iter_mut().for_each(|word| word.answered_at = now);
            }
            _ => {}
        }
        let word = &mut words[asked.node];
        let heard = |owed: &Owed| asked.op == ClientOp::Flush && (result.is_err() || asked.at > owed.since);
        let Some(owed) = word.owed.filter(heard) else { return };
        // A FLUSH says nothing of what was answered since it was asked: another may have to.
        let rest = Owed { certain: false, ..owed };
        word.owed = (result.is_err() && !word.is_told()).then_some(rest);
        let lives = self.lives();
        if !owed.lives_on(asked.node, lives) || !owed.certain || self.history.forked {
            return;
        }
        if result.is_err() {
            return self.seen(if owed.forwarded { Sometimes::LossToldThere } else { Sometimes::LossTold });
        }
        let detail =
            format!("node {} answers a flush; what was answered before is lost, and it hasn't said so", asked.node);
        self.fail(Kind::WrongData, "I-D2", detail);
    }
}
