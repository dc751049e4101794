//! New generations (R13, R15), and keeping everybody waiting until they are durable (R14).

use crate::Engine;
use crate::action::Notice;
use crate::volume::Recording;
use rep_meta::Divergence;
use rep_types::{GenerationId, Generations, Role};

/// Makes generation identifiers from the seed the engine was given: splitmix64, whose outputs over one seed never
/// repeat within 2^64 steps.
#[derive(Debug)]
pub(crate) struct GenerationSource {
    state: u64,
}

impl GenerationSource {
    pub fn new(seed: u64) -> Self {
        GenerationSource { state: seed }
    }

    pub fn make(&mut self) -> GenerationId {
        loop {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = GenerationId(z ^ (z >> 31));
            if id.is_real() {
                return id;
            }
        }
    }
}

/// What the generations become when writes begin that the peer lacks: the bitmap counts from the last shared
/// generation. When it counts already (a resync's end is in doubt), the replaced generation goes into the history.
pub(crate) fn advance(generations: &mut Generations, id: GenerationId) {
    if generations.bitmap.is_none() {
        generations.bitmap = generations.current;
    } else {
        generations.remember(generations.current);
    }
    generations.current = id;
}

/// What the generations become when the peer lacks nothing any more.
pub(crate) fn settle(generations: &mut Generations) {
    generations.remember(generations.bitmap);
    generations.bitmap = GenerationId::NONE;
}

impl Engine {
    /// Begins a generation because the peer will lack writes. Client I/O waits until it is durable.
    pub(crate) fn begin_generation(&mut self, index: usize) {
        let id = self.generations.make();
        let divergence = self.divergence();
        let volume = &mut self.volumes[index];
        if volume.recording.is_some() {
            return;
        }
        let Some(local) = &mut volume.local else { return };
        let ticket = local.update_superblock(|superblock| {
            if superblock.generations.bitmap.is_none() {
                superblock.divergence = divergence;
            }
            advance(&mut superblock.generations, id);
            superblock.finish_told = false;
        });
        self.begin_recording(index, Recording::Superblock(ticket));
    }

    /// What is noted when data begins to differ from the peer's now.
    pub(crate) fn divergence(&self) -> Divergence {
        let origin = self.config.clock_origin_unix_ms;
        let since_unix_ms = if origin == 0 { 0 } else { origin.saturating_add(self.now.0 / 1_000_000) };
        Divergence { since_unix_ms, as_primary: self.role == Role::Primary && !self.promoted_alone }
    }

    /// Holds client I/O and answers back until a loss is recorded.
    pub(crate) fn begin_recording(&mut self, index: usize, recording: Recording) {
        let replaced = self.volumes[index].recording.replace(recording);
        if replaced.is_none() {
            self.recording += 1;
            self.tell_suspension();
        }
    }

    /// Lets client I/O and held answers go when the loss is durable.
    pub(crate) fn end_recording(&mut self, index: usize) {
        if self.volumes[index].recording.take().is_some() {
            self.recording_ended();
        }
    }

    /// One reason less for answers to be held back.
    pub(crate) fn recording_ended(&mut self) {
        self.recording -= 1;
        if self.recording == 0 {
            self.tell_suspension();
            self.release_held();
            self.try_answer_peer_flush();
        }
        self.open_gate();
    }

    /// Tells operators when client I/O begins to wait, and when it goes on.
    pub(crate) fn tell_suspension(&mut self) {
        let suspended = self.answers_wait() || self.data_is_awaited() || self.forwards_wait();
        if std::mem::replace(&mut self.told_suspended, suspended) != suspended {
            self.notice(Notice::IoSuspended { suspended });
        }
    }

    /// Answers what was held back; what must still wait is held again.
    pub(crate) fn release_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        for held in &held {
            match held.key {
                Some(key) => self.end_operation(key, held.result),
                None => self.answer(held.requester, held.volume, held.result, held.payload),
            }
        }
    }

    /// Looks whether a recording has become durable.
    pub(crate) fn progress_recording(&mut self, index: usize) -> bool {
        let volume = &self.volumes[index];
        let done = match volume.recording {
            Some(Recording::Superblock(ticket)) => {
                volume.local.as_ref().is_none_or(|local| local.superblock_durable(ticket))
            }
            Some(Recording::Peer) | None => false,
        };
        if done {
            self.tell_new_generation(index);
            self.end_recording(index);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_counts_from_the_last_shared_generation() {
        let mut generations = Generations { current: GenerationId(10), ..Generations::JUST_CREATED };
        advance(&mut generations, GenerationId(11));
        assert_eq!((generations.current, generations.bitmap), (GenerationId(11), GenerationId(10)));
        advance(&mut generations, GenerationId(12));
        assert_eq!((generations.current, generations.bitmap), (GenerationId(12), GenerationId(10)));
        assert_eq!(generations.history[0], GenerationId(11));
        settle(&mut generations);
        assert_eq!((generations.bitmap, generations.history[0]), (GenerationId::NONE, GenerationId(10)));
    }

    #[test]
    fn identifiers_are_real_and_differ() {
        let mut source = GenerationSource::new(0);
        let made: std::collections::BTreeSet<_> = (0..1000).map(|_| source.make().0).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|id| GenerationId(*id).is_real()));
    }
}
