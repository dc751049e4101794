//! A split brain as operators see it: who went on since when, how much each wrote, and why no policy settled it (R38).
//!
//! Who gives way isn't decided here: that is `sync_decision`'s. What it decided, and what each side told of itself in that
//! handshake, is kept and shown until the nodes have joined. Until then nobody is promoted without force (decision 33).

use crate::Engine;
use crate::action::Notice;
use crate::sync_decision::Unsettled;
use crate::volume::Volume;
use rep_types::planted;
use rep_types::{
    BLOCK_SIZE, ConnectionState, GenerationId, Refusal, Role, SyncDecision, SyncRefusal, SyncRule, SyncVerdict,
    VolumeNumber,
};

/// One of two nodes that went on apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApartSide {
    /// When it began to write alone, by its own clock, in milliseconds since 1970; 0: that isn't known.
    pub since_unix_ms: u64,
    /// Whether it was Primary already when it lost the other.
    pub was_primary: bool,
    /// Bytes marked on its side: what it wrote alone, in whole blocks.
    pub dirty_bytes: u64,
    /// Its newest generation.
    pub generation: GenerationId,
}

/// What is known of a split brain of a volume. Of this node as it is, of the peer as of the last handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitBrainFacts {
    /// The rule that found it.
    pub rule: SyncRule,
    /// This node.
    pub mine: ApartSide,
    /// The other.
    pub peer: ApartSide,
    /// Why it was left to the operator.
    pub unsettled: Unsettled,
}

/// Whether this decision left a split brain as it is.
pub(crate) fn is_split_brain(decision: SyncDecision) -> bool {
    decision.verdict == SyncVerdict::Refuse(SyncRefusal::SplitBrain)
}

impl Volume {
    /// What is known of a split brain, while the last handshake ended in one.
    pub(crate) fn split_brain(&self) -> Option<SplitBrainFacts> {
        let decision = self.last_decision.filter(|decision| is_split_brain(*decision))?;
        let (own, told) = (self.local.as_ref()?.superblock(), self.peer_told?);
        Some(SplitBrainFacts {
            rule: decision.rule,
            mine: ApartSide {
                since_unix_ms: own.divergence.since_unix_ms,
                was_primary: own.divergence.as_primary,
                dirty_bytes: self.out_of_sync_blocks() * BLOCK_SIZE,
                generation: own.generations.current,
            },
            peer: ApartSide {
                since_unix_ms: told.divergence.since_unix_ms,
                was_primary: told.divergence.as_primary,
                dirty_bytes: told.out_of_sync_blocks * BLOCK_SIZE,
                generation: told.generations.current,
            },
            unsettled: self.unsettled?,
        })
    }
}

impl Engine {
    /// The connection's state has changed. That the nodes went apart holds until they have joined: who disconnects, or
    /// looks for the peer anew, has settled nothing by that.
    pub(crate) fn follow_apart(&mut self) {
        match self.connection {
            ConnectionState::SplitBrain if !self.apart => {
                self.apart = true;
                if self.role == Role::Secondary {
                    self.peer_went_on();
                }
            }
            ConnectionState::Connected => self.apart = false,
            _ => {}
        }
    }

    /// Why nobody is promoted without force: either copy lacks what the other's clients were told is safe, and the peer may be
    /// Primary at this moment. Who is Primary stays it.
    pub(crate) fn apart_refusal(&self, force: bool) -> Option<Refusal> {
        let refused = self.apart && !force && !planted!("split-brain-promotes");
        refused.then_some(Refusal::SplitBrain)
    }

    /// Whatever was known of the peer, it did go on: after a restart it must not make this disk pass for the newest (R28), nor
    /// stand for an answer of the fence-peer handler.
    ///
    /// A Primary keeps it: its clients go on with what they have, also over a restart of its daemon (R35).
    pub(crate) fn peer_went_on(&mut self) {
        for local in self.volumes.iter_mut().filter_map(|volume| volume.local.as_mut()) {
            if local.superblock().peer_outdated {
                local.update_superblock(|superblock| superblock.peer_outdated = false);
            }
        }
        self.fence_unsettles();
    }

    /// Keeps why volumes are left in split brain, as of the handshake that found it: the later meetings of nodes that know of
    /// it ask no policy.
    pub(crate) fn note_unsettled(&mut self, unsettled: &[(VolumeNumber, Option<Unsettled>)], asked: bool) {
        for (number, why) in unsettled {
            let Some(index) = self.volume_index(*number) else { continue };
            let known = self.volumes[index].unsettled.filter(|_| !asked && why.is_some());
            self.volumes[index].unsettled = known.or(*why);
        }
    }

    /// The nodes have just found that they went on apart.
    pub(crate) fn tell_split_brain(&mut self) {
        for index in 0..self.volumes.len() {
            let volume = self.volumes[index].number;
            if let Some(facts) = self.volumes[index].split_brain() {
                self.notice(Notice::SplitBrain { volume, facts });
            }
        }
    }
}
