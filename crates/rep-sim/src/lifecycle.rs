//! A node's daemon starts, is killed, loses power with its node, ends cleanly, or is installed anew.

use crate::counters::Sometimes;
use crate::node::{DiskOp, Faults, OpKind};
use crate::swarm::{MS, SECOND};
use crate::world::{Due, World, new_boot, new_volume};
use rep_engine::{Command, Engine, EngineConfig, Offer};
use rep_meta::BootId;
use rep_types::LeftDevice;
use std::time::Duration;

impl World {
    fn engine_config(&mut self, node: usize) -> EngineConfig {
        let swarm = &self.swarm;
        EngineConfig {
            volumes: (0..swarm.volumes).map(Self::number).collect(),
            timeout: Duration::from_nanos(swarm.timeout),
            ping_interval: Duration::from_nanos(swarm.ping_interval),
            ping_timeout: Duration::from_nanos(swarm.ping_timeout),
            ko_count: swarm.ko_count,
            stable: swarm.stable,
            resync_rate_max: swarm.resync_rate_max,
            pace: swarm.pace,
            disk_timeout: Duration::from_nanos(swarm.disk_timeout),
            fencing: swarm.fence.fencing,
            on_no_data: swarm.on_no_data,
            on_io_error: swarm.on_io_error,
            asks_before_resync: swarm.asks_before_resync.is_some(),
            split_brain: swarm.split_brain,
            archive: swarm.archive,
            ..EngineConfig::new(node == 0, self.dice.life.bits())
        }
    }

    /// Starts a node's daemon: attach what has a disk, connect.
    pub(crate) fn start_node(&mut self, node: usize) {
        if self.nodes[node].is_up() || self.now < self.nodes[node].down_until {
            return;
        }
        self.nothing_is_answered(node);
        let config = self.engine_config(node);
        let state = &mut self.nodes[node];
        state.life += 1;
        state.engine = Some(Engine::new(config));
        state.timer = None;
        self.line(|| format!("node {node} starts"));
        for volume in 0..self.swarm.volumes {
            self.forget_unrecorded_loss(node, volume);
            self.attach(node, volume);
        }
        self.command(node, Command::Connect { discard_my_data: false });
    }

    /// A flush has failed, and so has the word of that in the metadata: a new daemon can't know. It opens the disk past the kernel's cache,
    /// so that it reads what is there.
    fn forget_unrecorded_loss(&mut self, node: usize, volume: usize) {
        let recorded = self.durable(node, volume).is_some_and(|loaded| {
            loaded.superblock.every_block || loaded.superblock.attached_boot == BootId::CACHE_LOST
        });
        if !recorded {
            self.nodes[node].volumes[volume].data.look_again();
        }
    }

    /// Kills a node's daemon; with `power`, its node loses power too.
    pub(crate) fn crash(&mut self, node: usize, power: bool, down_ns: u64) {
        let was_up = self.nodes[node].is_up();
        if !was_up && !power {
            return;
        }
        self.line(|| format!("node {node} {}", if power { "loses power" } else { "is killed" }));
        self.bury(node, power);
        self.check_coverage("a crash");
        self.nodes[node].down_until = self.now + down_ns;
        self.after(down_ns, Due::Restart { node });
    }

    fn bury(&mut self, node: usize, power: bool) {
        let told = !power;
        self.note_unsettled(node);
        self.note_handover_dies(node);
        self.apart_ends(node);
        self.drop_connections(node, told);
        self.orphan_requests(node);
        self.forget_commands(node);
        self.forget_victims(node);
        self.verify_forgets(node);
        let leaves = self.leaves_devices();
        let state = &mut self.nodes[node];
        state.engine = None;
        state.payloads.clear();
        state.wants_link = false;
        state.closing = false;
        for volume in &mut state.volumes {
            volume.attached = false;
            volume.overdue_since = None;
            volume.refused_alone = false;
            // Somebody has the device open, and waits for the next daemon.
            let left = volume
                .exported
                .map(|Offer { block_bytes, volatile_cache, .. }| LeftDevice { block_bytes, volatile_cache });
            volume.left = if power { None } else { left.filter(|_| leaves).or(volume.left) };
            volume.exported = None;
            volume.openers = 0;
        }
        let ops = std::mem::take(&mut state.ops);
        self.runs_cut(node, Sometimes::RunsDied);
        self.forget_runs(node);
        (0..self.swarm.volumes).for_each(|volume| self.disk_away(node, volume));
        for op in ops.into_values().filter(|op| op.done.is_none()) {
            if power { self.tear_op(node, &op) } else { self.land_or_not(node, op) }
        }
        if power {
            for volume in 0..self.swarm.volumes {
                self.lose_cache(node, volume, false);
            }
            self.nodes[node].boot = new_boot(&mut self.dice.life);
        }
    }

    /// The kernel finishes what had been submitted to it, and never sees the rest.
    fn land_or_not(&mut self, node: usize, op: DiskOp) {
        if !self.dice.disk.chance(500) {
            return;
        }
        match op.kind {
            OpKind::Write { .. } | OpKind::Zero { .. } => self.land_partly(node, &op),
            OpKind::Flush { .. } => self.nodes[node].volumes[op.volume].data.flush(),
            OpKind::Meta { offset, block } => {
                self.nodes[node].volumes[op.volume].meta.put_block(offset, &block.0, |_| true);
                self.meta_changed(node, op.volume, Some(offset));
            }
            OpKind::Read { .. } => {}
        }
    }

    fn tear_op(&mut self, node: usize, op: &DiskOp) {
        match &op.kind {
            OpKind::Meta { offset, block } => self.tear_meta(node, op.volume, *offset, block),
            _ => self.land_partly(node, op),
        }
    }

    /// Ends a daemon cleanly; the clients are told first.
    pub(crate) fn shutdown(&mut self, node: usize, down_ns: u64) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.nodes[node].closing = true;
        self.command(node, Command::Shutdown);
        let life = self.nodes[node].life;
        self.after(100 * MS, Due::ShutdownDone { node, life, down_ns });
    }

    /// The service manager waits for a clean end, and kills what doesn't come to one.
    pub(crate) fn shutdown_done(&mut self, node: usize, life: u32, down_ns: u64) {
        if !self.nodes[node].is_up() || self.nodes[node].life != life {
            return;
        }
        let ending =
            |pending: &crate::operator::Pending| pending.node == node && pending.command == Some(Command::Shutdown);
        if self.operator.pending.values().any(ending) || !self.nodes[node].ops.is_empty() {
            return self.after(100 * MS, Due::ShutdownDone { node, life, down_ns });
        }
        self.crash(node, false, down_ns);
    }

    /// A node's machine is replaced: empty disks, fresh metadata.
    pub(crate) fn reinstall(&mut self, node: usize, down_ns: u64) {
        self.seen(Sometimes::Reinstalled);
        // Nothing lands any more on disks that are thrown away.
        self.nodes[node].ops.clear();
        self.forget_runs(node);
        self.bury(node, false);
        self.line(|| format!("node {node} is installed anew"));
        for volume in 0..self.swarm.volumes {
            let old = &self.nodes[node].volumes[volume];
            let grown = old.device_bytes == old.geometry.after.device_bytes;
            self.nodes[node].volumes[volume] = new_volume(node, volume, &self.swarm, &mut self.dice, grown);
            self.nodes[node].volumes[volume].block_bytes = self.swarm.blocks.replaced[node];
            self.truth_reset(node, volume);
            self.knows_less(node, volume);
        }
        self.verify_meets_new_disks();
        self.spoil_image(node);
        self.apart_forgotten(node);
        self.nodes[node].boot = new_boot(&mut self.dice.life);
        self.nodes[node].down_until = self.now + down_ns;
        self.after(down_ns.max(SECOND / 100), Due::Restart { node });
    }

    /// Mends every disk.
    pub(crate) fn mend_disks(&mut self) {
        for state in &mut self.nodes {
            for volume in &mut state.volumes {
                volume.faults = Faults::default();
            }
        }
    }
}
