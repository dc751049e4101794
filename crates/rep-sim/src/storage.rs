//! The simulated disks at work: operations are submitted, have their effect, and are reported, in any order.
//!
//! ```text
//!  submit ──── latency ──── effect (or fault) ──── a little later ──── report to the engine
//! ```

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::node::{DiskOp, OpKind};
use crate::swarm::{MS, ShellBug, US};
use crate::thin::Brought;
use crate::world::{Due, World};
use rep_engine::{DiskSuccess, Event};
use rep_types::{IoError, IoId, VolumeNumber};
use std::rc::Rc;

/// What a read returns that ran at the same time as a write of the same sectors.
const CLASHED: u32 = 0xdead_dead;

/// A digest for each block: different for different values.
fn digests_of(values: &[u32], salt: u64) -> Vec<u8> {
    let sectors = (rep_types::BLOCK_SIZE / rep_types::SECTOR_SIZE) as usize;
    let digest = |block: &[u32]| {
        let folded = block.iter().fold(salt, |sum, value| crate::rng::mix(sum ^ u64::from(*value)));
        [folded.to_le_bytes(), crate::rng::mix(folded).to_le_bytes()].concat()
    };
    values.chunks(sectors).flat_map(digest).collect()
}

impl World {
    /// Takes an operation from an engine.
    pub(crate) fn submit(&mut self, node: usize, io: IoId, volume: usize, mut kind: OpKind, brought: Brought) {
        if !self.nodes[node].volumes[volume].attached {
            let detail = format!("node {node} uses the disk of volume {volume} it let go of: {kind:?}");
            return self.fail(Kind::Crash, "boundary", detail);
        }
        if !self.check_submit(node, volume, &kind, brought.is_resync()) {
            return;
        }
        self.spoil_clashing_reads(node, volume, &mut kind);
        self.op_numbers += 1;
        let op = self.op_numbers;
        let digests = matches!(kind, OpKind::Read { digests: true, .. });
        let runs = self.run_out(node, volume, brought);
        let slowness = if digests { crate::comparing::slowness_of(self.swarm.seed) } else { runs };
        let latency = self.disk_latency(node, volume);
        // What hangs doesn't hang longer for it.
        let latency = latency + latency.min(20 * MS) * (slowness - 1);
        if matches!(kind, OpKind::Flush { covers_later: false }) && self.swarm.shell_bug != Some(ShellBug::FlushNothing)
        {
            self.nodes[node].volumes[volume].data.flush();
        }
        self.nodes[node].ops.insert(op, DiskOp { io, volume, kind, done: None, brought });
        self.after(latency, Due::DiskEffect { node, op });
    }

    /// A read beside a write of the same sectors returns anything: no harm if nobody uses it.
    fn spoil_clashing_reads(&mut self, node: usize, volume: usize, kind: &mut OpKind) {
        let Some(sectors) = kind.sectors() else { return };
        let writes = kind.writes_data();
        for op in self.nodes[node].ops.values_mut().filter(|op| op.volume == volume) {
            if !op.kind.sectors().is_some_and(|other| other.overlaps(sectors)) {
                continue;
            }
            let other_writes = op.kind.writes_data();
            match (&mut *kind, &mut op.kind) {
                (OpKind::Read { clashes, .. }, _) if other_writes => *clashes = true,
                (_, OpKind::Read { clashes, .. }) if writes => *clashes = true,
                _ => {}
            }
        }
    }

    fn disk_latency(&mut self, node: usize, volume: usize) -> u64 {
        let (low, high) = self.swarm.disk_latency;
        let rng = &mut self.dice.disk;
        let slow = if rng.chance(self.swarm.slow_rate) { rng.below(self.swarm.slow) } else { 0 };
        let hung = self.nodes[node].volumes[volume].faults.hangs_until.saturating_sub(self.now);
        rng.span(low, high) + slow + hung
    }

    /// The disk does an operation, or fails it.
    pub(crate) fn disk_effect(&mut self, node: usize, number: u64) {
        let Some(mut op) = self.nodes[node].ops.remove(&number) else { return };
        let hung = self.nodes[node].volumes[op.volume].faults.hangs_until;
        if hung > self.now {
            self.nodes[node].ops.insert(number, op);
            return self.at(hung, Due::DiskEffect { node, op: number });
        }
        let result = match self.fault(node, &op) {
            Some(error) => self.fail_op(node, &op, error),
            None => self.do_op(node, &mut op),
        };
        op.done = Some(result);
        let volume = op.volume;
        if let (OpKind::Read { sectors, values, digests: true, .. }, Ok(())) = (&op.kind, result) {
            self.digests_read(node, volume, *sectors, values);
        }
        let meta = match &op.kind {
            OpKind::Meta { offset, .. } => Some(*offset),
            _ => None,
        };
        self.nodes[node].ops.insert(number, op);
        if let Some(offset) = meta {
            self.meta_changed(node, volume, Some(offset));
        }
        if self.dice.disk.chance(500) {
            self.disk_report(node, number);
        } else {
            let later = self.dice.disk.span(US, MS);
            self.after(later, Due::DiskReport { node, op: number });
        }
    }

    fn fault(&mut self, node: usize, op: &DiskOp) -> Option<IoError> {
        let state = &mut self.nodes[node];
        state.ops_ended += u64::from(!self.operator.healing);
        let chosen = self.swarm.fails_nth == Some((node, state.ops_ended)) && !self.operator.healing;
        let faults = &mut state.volumes[op.volume].faults;
        let take = |count: &mut u32| {
            let some = *count > 0;
            *count -= u32::from(some);
            some
        };
        let fails = match op.kind {
            OpKind::Read { .. } => faults.reads_sticky || take(&mut faults.reads_once),
            OpKind::Write { .. } | OpKind::Zero { .. } => faults.writes_sticky || take(&mut faults.writes_once),
            OpKind::Flush { .. } => faults.writes_sticky || take(&mut faults.flushes_once),
            OpKind::Meta { .. } => faults.writes_sticky || take(&mut faults.metas_once),
        };
        (fails || chosen).then_some(IoError::Io)
    }

    /// A failed write may have landed in part; a failed fsync drops what it should have made stable.
    fn fail_op(&mut self, node: usize, op: &DiskOp, error: IoError) -> Result<(), IoError> {
        self.seen(Sometimes::DiskFault);
        self.copy_troubled(op.volume);
        self.disk_failed(node, op.volume);
        self.run_failed(op.brought);
        self.line(|| format!("node {node} vol {}: fault on {:?}", op.volume, op.io));
        match &op.kind {
            OpKind::Write { .. } | OpKind::Zero { .. } => self.land_partly(node, op),
            OpKind::Flush { .. } => {
                self.seen(Sometimes::FsyncFailed);
                let alone = self.role(node) == rep_types::Role::Primary && !self.is_connected(node);
                // Of its own dice: the others of a seed stay as they are.
                let shown = crate::rng::mix(self.now) & 1 == 0;
                let certain = self.lose_cache(node, op.volume, shown);
                self.note_flush_lost(node, op.volume, certain);
                if alone {
                    // The peer is gone and now this disk has failed: what no flush covered may be lost with it.
                    self.lose_all_unflushed(op.volume);
                }
            }
            OpKind::Meta { offset, block } => self.tear_meta(node, op.volume, *offset, block),
            OpKind::Read { .. } => {}
        }
        Err(error)
    }

    /// Of a data write, a random subset of sectors lands.
    pub(crate) fn land_partly(&mut self, node: usize, op: &DiskOp) {
        let Some(sectors) = op.kind.sectors().filter(|_| op.kind.writes_data()) else { return };
        let rng = &mut self.dice.disk;
        let rate = rng.pick(&[0, 500, 1000]);
        let data = &mut self.nodes[node].volumes[op.volume].data;
        for at in 0..sectors.count {
            if rng.chance(rate) {
                let value = match &op.kind {
                    OpKind::Write { values, .. } => values[at as usize],
                    _ => 0,
                };
                data.put((sectors.first + at) as usize, value, false, rng);
            }
        }
        self.seen(Sometimes::DataTorn);
    }

    /// Of a metadata block, a random subset of 512-byte sectors lands.
    pub(crate) fn tear_meta(&mut self, node: usize, volume: usize, offset: u64, block: &rep_meta::MetaBlock) {
        let rng = &mut self.dice.disk;
        let rate = rng.pick(&[0, 300, 700, 1000]);
        self.nodes[node].volumes[volume].meta.put_block(offset, &block.0, |_| rng.chance(rate));
        self.seen(Sometimes::MetaTorn);
        self.meta_changed(node, volume, Some(offset));
    }

    fn do_op(&mut self, node: usize, op: &mut DiskOp) -> Result<(), IoError> {
        let bug = self.swarm.shell_bug;
        let internal = self.swarm.internal_metadata;
        let rng = &mut self.dice.disk;
        let disk = &mut self.nodes[node].volumes[op.volume];
        match &mut op.kind {
            OpKind::Write { sectors, values, durable } => {
                if bug == Some(ShellBug::LoseWrite) && rng.chance(30) {
                    return Ok(());
                }
                let durable = *durable && bug != Some(ShellBug::IgnoreDurable);
                let beside = bug == Some(ShellBug::Misdirect) && rng.chance(30);
                if internal {
                    sectors.indices().for_each(|sector| disk.meta.overwrite(sector));
                }
                for (at, value) in values.iter().enumerate() {
                    let sector = (sectors.first as usize + at + usize::from(beside)) % disk.data.cached().len();
                    disk.data.put(sector, *value, durable, rng);
                }
            }
            OpKind::Zero { sectors, durable } => {
                for sector in sectors.indices() {
                    if internal {
                        disk.meta.overwrite(sector);
                    }
                    disk.data.put(sector, 0, *durable, rng);
                }
            }
            OpKind::Read { sectors, values, .. } => {
                let lost;
                (*values, lost) = disk.data.read(*sectors);
                if lost {
                    self.counters.seen(Sometimes::LostShown);
                }
                if bug == Some(ShellBug::StaleRead) && rng.chance(100) {
                    *values = disk.data.stable()[sectors.indices()].to_vec();
                }
            }
            OpKind::Flush { covers_later } => {
                if *covers_later && bug != Some(ShellBug::FlushNothing) {
                    disk.data.flush();
                }
            }
            OpKind::Meta { offset, block } => {
                if !disk.meta.contains(*offset) {
                    let detail = format!("node {node} writes metadata at {offset}, beyond its place");
                    self.fail(Kind::WrongData, "boundary", detail);
                } else if bug != Some(ShellBug::LoseMeta) || !rng.chance(100) {
                    disk.meta.put_block(*offset, &block.0, |_| true);
                }
            }
        }
        Ok(())
    }

    /// Tells the engine how an operation ended.
    pub(crate) fn disk_report(&mut self, node: usize, number: u64) {
        let Some(op) = self.nodes[node].ops.remove(&number) else { return };
        let Some(done) = op.done else { return };
        self.run_reported(op.brought, done.is_ok());
        let io = op.io;
        self.line(|| format!("node {node} <- {io:?} {done:?}"));
        let event = match op.kind {
            OpKind::Meta { .. } => Event::MetaDone { io, result: done },
            OpKind::Read { into, values, clashes, digests, .. } => {
                let values = if clashes { vec![CLASHED; values.len()] } else { values };
                if digests {
                    // Of a clash nobody is to make anything, so no two are the same.
                    let salt = if clashes { number } else { 0 };
                    Event::Digested { io, result: done.map(|()| digests_of(&values, salt)) }
                } else {
                    self.read_report(node, io, into, values, done)
                }
            }
            _ => Event::DiskDone { io, result: done.map(|()| DiskSuccess::default()) },
        };
        self.feed(node, event);
    }

    fn read_report(
        &mut self,
        node: usize,
        io: IoId,
        into: Option<rep_types::PayloadId>,
        values: Vec<u32>,
        done: Result<(), IoError>,
    ) -> Event {
        let zeroes = crate::thin::zeroes_of(&values);
        let success = match into {
            _ if done.is_err() => DiskSuccess::default(),
            Some(id) => {
                if let Some(payload) = self.nodes[node].payloads.get_mut(id) {
                    payload.sectors = Rc::new(values);
                }
                DiskSuccess::default()
            }
            None => DiskSuccess { payload: Some(self.give(node, Rc::new(values), false)), zeroes },
        };
        Event::DiskDone { io, result: done.map(|()| success) }
    }

    /// Loses the cache of a volume's disk, which may still show it. Whether something answered went with it.
    pub(crate) fn lose_cache(&mut self, node: usize, volume: usize, shown: bool) -> bool {
        let keep = self.swarm.keep;
        self.nodes[node].lost_cache_at = self.now;
        if self.nodes[node].volumes[volume].data.dirty_sectors().next().is_some() {
            self.seen(Sometimes::CacheLost);
        }
        let data = &mut self.nodes[node].volumes[volume].data;
        if shown {
            data.lose_unnoticed(keep, &mut self.dice.disk);
        } else {
            data.lose_cache(keep, &mut self.dice.disk);
        }
        self.cache_lost(node, volume)
    }

    /// The number of a volume as messages have it.
    pub(crate) fn number(volume: usize) -> VolumeNumber {
        VolumeNumber(volume as u16)
    }
}
