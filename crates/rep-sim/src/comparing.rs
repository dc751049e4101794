//! What is seen of resyncs that compare before they copy, for the counters.

use crate::counters::Sometimes;
use crate::rng::Rng;
use crate::world::World;
use rep_types::ByteRange;
use rep_wire::{ControlMessage, Message, features};

/// Ranges that are kept in mind; those whose connection went are forgotten in time.
const ASKED_MAX: usize = 64;
/// Per mille of the seeds in which one of the nodes is of a version that can't compare.
const OLD_VERSIONS: u32 = 80;

/// A range a target asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    by: usize,
    id: u64,
    volume: usize,
    range: ByteRange,
    meets_write: bool,
}

/// What both nodes of a seed's run offer.
pub(crate) fn features_of(seed: u64) -> u64 {
    if Rng::new(seed).fork(31).chance(OLD_VERSIONS) { 0 } else { features::ALL }
}

/// How many times as long as other reads those take whose digests are wanted: where it is long, clients' writes come
/// meanwhile.
pub(crate) fn slowness_of(seed: u64) -> u64 {
    Rng::new(seed).fork(32).pick(&[1, 1, 4, 30])
}

impl World {
    /// Whether both nodes of this run offer that.
    pub(crate) fn agreed_on(&self, feature: u64) -> bool {
        features_of(self.swarm.seed) & feature != 0
    }

    /// A node sends a message.
    pub(crate) fn note_comparison(&mut self, node: usize, message: &Message) {
        let Message::Control(message) = message else { return };
        match &**message {
            ControlMessage::ResyncCompare { id, volume, range, .. } => {
                if self.compared.len() == ASKED_MAX {
                    self.compared.remove(0);
                }
                let volume = volume.0 as usize;
                self.compared.push(Asked { by: node, id: id.0, volume, range: *range, meets_write: false });
            }
            ControlMessage::ResyncCompared { id, different } => {
                let asked = |asked: &Asked| asked.by == 1 - node && asked.id == id.0;
                let Some(at) = self.compared.iter().rposition(asked) else { return };
                let asked = self.compared.remove(at);
                let blocks = asked.range.blocks_touched().count as usize;
                let states = [
                    (different.len() < blocks, Sometimes::ComparedEqual),
                    (!different.is_empty(), Sometimes::ComparedDifferent),
                    (asked.meets_write, Sometimes::ComparedMeetsWrite),
                ];
                states.into_iter().filter(|(so, _)| *so).for_each(|(_, state)| self.seen(state));
            }
            _ => {}
        }
    }

    /// A client writes.
    pub(crate) fn write_meets_comparison(&mut self, volume: usize, range: ByteRange) {
        let met = |asked: &&mut Asked| asked.volume == volume && asked.range.overlaps(range);
        self.compared.iter_mut().filter(met).for_each(|asked| asked.meets_write = true);
    }
}
