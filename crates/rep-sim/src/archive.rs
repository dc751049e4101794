//! Archives of what a split brain's victim is about to lose, simulated; and what must be in them.
//!
//! Judged when the first byte of a victim's disk is overwritten: its archive must be finished, and laid over the
//! survivor's disk, as that was when the handshake decided, it must give the victim's, sector by sector (A2).

use crate::counters::Sometimes;
use crate::disk::Sectors;
use crate::failure::Kind;
use crate::world::{Due, World};
use rep_engine::{ArchiveError, ArchiveScope, ArchiveStep, Event};
use rep_types::{ByBitmapOrFull, IoId, SyncDecision, SyncRule, SyncVerdict};
use std::collections::BTreeMap;

/// A volume's archive.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    sectors: BTreeMap<u32, u32>,
    finished: bool,
}

/// A volume whose data are to be given up.
#[derive(Clone, Debug)]
pub struct Victim {
    own: Vec<u32>,
    survivors: Vec<u32>,
    archive: Archive,
}

/// A step under way.
#[derive(Clone, Copy, Debug)]
pub struct ArchiveOp {
    node: usize,
    life: u32,
    volume: usize,
    io: IoId,
    step: ArchiveStep,
}

impl World {
    /// A handshake decided: whether this node's data will go.
    pub(crate) fn note_victim(&mut self, node: usize, volume: usize, decision: SyncDecision) {
        let split = matches!(decision.rule, SyncRule::SplitBrainBitmap | SyncRule::SplitBrainHistory);
        let given_up = matches!(decision.verdict, SyncVerdict::Target(ByBitmapOrFull::ByBitmap | ByBitmapOrFull::Full));
        let content = |node: usize| self.nodes[node].volumes[volume].data.cached().to_vec();
        let victim = (split && given_up).then(|| Victim {
            own: content(node),
            survivors: content(1 - node),
            archive: Archive::default(),
        });
        self.victims[node][volume] = victim;
    }

    /// A node's daemon is gone: what wasn't finished of its archives goes with it.
    pub(crate) fn forget_victims(&mut self, node: usize) {
        self.victims[node].iter_mut().for_each(|victim| *victim = None);
    }

    /// An engine has something archived.
    pub(crate) fn archive(&mut self, node: usize, io: IoId, volume: usize, step: ArchiveStep) {
        if !self.nodes[node].volumes[volume].attached {
            return self.fail(Kind::Crash, "boundary", format!("node {node} archives a disk it let go of: {step:?}"));
        }
        let life = self.nodes[node].life;
        let (low, high) = self.swarm.disk_latency;
        let latency = self.dice.misc.span(low, high);
        self.after(latency, Due::ArchiveStep(ArchiveOp { node, life, volume, io, step }));
    }

    /// What there is of an archive goes.
    pub(crate) fn drop_archive(&mut self, node: usize, volume: usize) {
        self.seen(Sometimes::ArchiveDropped);
        self.victims[node][volume] = None;
    }

    /// A step of an archive ends.
    pub(crate) fn archive_step(&mut self, op: ArchiveOp) {
        let ArchiveOp { node, life, volume, io, step } = op;
        if self.nodes[node].life != life || !self.nodes[node].is_up() {
            return;
        }
        let fails = !self.operator.archives_mended && self.dice.misc.chance(self.swarm.archive_fails);
        let result = if fails { Err(ArchiveError::Archive) } else { Ok(()) };
        if fails {
            self.seen(Sometimes::ArchiveFailed);
        } else if let Some(victim) = &mut self.victims[node][volume] {
            let cached = self.nodes[node].volumes[volume].data.cached();
            match step {
                ArchiveStep::Begin(_) => victim.archive = Archive::default(),
                ArchiveStep::Copy(range) => {
                    let sectors = Sectors::of(range);
                    victim.archive.sectors.extend((sectors.first..).zip(cached[sectors.indices()].iter().copied()));
                }
                ArchiveStep::Finish => victim.archive.finished = true,
            }
        }
        self.feed(node, Event::Archived { io, result });
    }

    /// The first byte of a victim is about to be overwritten.
    pub(crate) fn check_archived(&mut self, node: usize, volume: usize) {
        let Some(victim) = self.victims[node][volume].take() else { return };
        if self.swarm.archive.is_none() {
            return;
        }
        if !victim.archive.finished {
            let detail = format!("node {node} volume {volume}: overwritten before it was archived");
            return self.fail(Kind::WrongData, "A1", detail);
        }
        self.seen(Sometimes::Archived);
        let base = match self.swarm.archive {
            Some(ArchiveScope::All) => None,
            _ => Some(&victim.survivors),
        };
        let restored = |sector: usize| {
            let archived = victim.archive.sectors.get(&(sector as u32)).copied();
            archived.or_else(|| base.map(|base| base[sector]))
        };
        let end = self.agreed_sectors(volume);
        if let Some(sector) = (0..end).find(|sector| restored(*sector) != Some(victim.own[*sector])) {
            let detail = format!(
                "node {node} volume {volume} sector {sector}: held {}, restored from its archive is {:?}",
                victim.own[sector],
                restored(sector)
            );
            self.fail(Kind::WrongData, "A2", detail);
        }
    }
}
