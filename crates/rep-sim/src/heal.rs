//! The end of a run: everything is healed, and then all must come to rest (I-L1), equal (I-B7) and right.
//!
//! ```text
//!  converge ──► a Primary reads every block clients used ──► demote, leave cleanly ──► compare the disks
//! ```

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::ClientOp;
use crate::swarm::{MS, SECOND};
use crate::truth::marks;
use crate::world::{Due, World};
use rep_engine::{Command, Side, Snapshot};
use rep_types::{ConnectionState, DiskState, ReplicationState, Role, SyncRefusal, SyncVerdict};
use std::time::Duration;

/// Healing rounds in which nothing is copied, before a run counts as stuck.
const ROUNDS_MAX: u32 = 60;
/// The same for all rounds: what is copied over and over again is no progress. All of two volumes takes sixty at the
/// slowest rates.
const ALL_ROUNDS_MAX: u32 = 240;
/// Between two rounds.
const ROUND: u64 = 10 * SECOND;
/// Rounds after which archives can be written again.
const ARCHIVES_FAIL_UNTIL: u32 = 12;
/// Rounds after which Primaries are demoted, in case one stands in the way.
const DEMOTE_AFTER: u32 = 8;

fn is_settled(snapshot: &Snapshot) -> bool {
    let volume_settled = |volume: &rep_engine::VolumeSnapshot| {
        volume.disk == DiskState::UpToDate
            && volume.peer_disk == DiskState::UpToDate
            && volume.replication == ReplicationState::Established
            && volume.out_of_sync_bytes == 0
            // What a disk was asked for while it hung comes back when it would have; until then it may be given up.
            && volume.disk_unanswered.is_none_or(|silent| silent < Duration::from_secs(1))
    };
    snapshot.connection == ConnectionState::Connected && snapshot.volumes.iter().all(volume_settled)
}

impl World {
    fn is_converged(&self) -> bool {
        self.clients.outstanding.is_empty()
            && (0..2).all(|node| self.snapshot(node).is_some_and(|snapshot| is_settled(&snapshot)))
    }

    /// A round of healing.
    pub(crate) fn heal(&mut self, round: u32) {
        if round == 0 {
            self.line(|| "heal".to_owned());
            self.operator.healing = true;
            self.mend_disks();
            self.network.muted_until = [0; 2];
            if self.mend_wire() {
                return self.after(ROUND, Due::Heal { round: 1 });
            }
            self.nodes.iter_mut().for_each(|node| node.down_until = 0);
        }
        // What can't be archived isn't given up: for a while a split brain stays one.
        self.operator.archives_mended |= round >= ARCHIVES_FAIL_UNTIL;
        if round > self.heal_progressed(round) + ROUNDS_MAX || round > ALL_ROUNDS_MAX {
            return self.stuck();
        }
        let stage = self.operator.heal_stage;
        match stage {
            0 if self.is_converged() && !self.has_planted() => self.grow_or_read(),
            0 => self.repair(round),
            1 if self.is_at_rest() && !self.is_converged() && !self.operator.heals_anew => {
                self.operator.heals_anew = true;
                self.operator.heal_stage = 0;
            }
            1 if self.is_at_rest() => self.judge_rest(),
            _ => {}
        }
        if !self.finished {
            let span = if self.operator.heal_stage == 0 { ROUND } else { SECOND };
            self.after(span, Due::Heal { round: round + 1 });
        }
    }

    /// The last round in which less was left to be copied than in the one before.
    fn heal_progressed(&mut self, round: u32) -> u32 {
        let out_of_sync = |snapshot: Snapshot| snapshot.volumes.iter().map(|volume| volume.out_of_sync_bytes).sum();
        let left = (0..2).map(|node| self.snapshot(node).map_or(0, out_of_sync)).sum();
        let (before, progressed) = self.operator.heal_progress;
        let progressed = if left < before { round } else { progressed };
        self.operator.heal_progress = (left, progressed);
        progressed
    }

    /// What has still to grow does; then comes the reading.
    fn grow_or_read(&mut self) {
        if !self.grow_at_end() {
            self.read_everything();
        }
    }

    /// Nothing is asked for, and nothing is on its way to a disk: marks that clear late have done so.
    fn is_at_rest(&self) -> bool {
        self.clients.outstanding.is_empty() && self.nodes.iter().all(|node| node.ops.is_empty())
    }

    fn stuck(&mut self) {
        let states: Vec<String> = (0..2).map(|node| format!("node {node}: {:?}", self.snapshot(node))).collect();
        let waiting: Vec<_> = self.clients.outstanding.iter().take(4).collect();
        let detail = format!("after the last fault the pair doesn't come to rest; waiting {waiting:?}; {states:?}");
        self.fail(Kind::Liveness, "I-L1", detail);
    }

    fn repair(&mut self, round: u32) {
        for node in 0..2 {
            self.start_node(node);
            for volume in 0..self.swarm.volumes {
                self.attach(node, volume);
            }
            self.resume(node, round >= DEMOTE_AFTER);
        }
        self.mend_planted();
        if round > 1 {
            self.mend_forwarding(round >= DEMOTE_AFTER);
        }
        if round > 0 && round.is_multiple_of(2) {
            (0..2).for_each(|node| self.mend_blocks(node));
        }
        let states = [0, 1].map(|node| self.snapshot(node).map(|snapshot| snapshot.connection));
        let apart = |state| matches!(state, Some(ConnectionState::SplitBrain | ConnectionState::UnrelatedData));
        if self.history.forked && states.into_iter().any(apart) {
            return self.resolve();
        }
        if self.history.forked
            && let Some(node) = self.has_a_size_of_its_own()
        {
            return self.start_over(node);
        }
        for (node, state) in states.into_iter().enumerate() {
            if state == Some(ConnectionState::StandAlone) || apart(state) {
                self.command(node, Command::Connect { discard_my_data: false });
            }
        }
        if round > 0 && (0..self.swarm.volumes).any(|volume| self.truth_just_created(volume)) {
            self.begin(0);
        }
        if round >= DEMOTE_AFTER {
            for node in (0..2).filter(|node| self.role(*node) == Role::Primary).collect::<Vec<_>>() {
                self.demote(node, false);
            }
        }
    }

    /// One that was installed anew went its own way, and made its volume larger than the other's can be, or of a size that isn't whole
    /// blocks there: nothing joins them but fresh metadata.
    fn has_a_size_of_its_own(&self) -> Option<usize> {
        let not_whole = |node: &usize| self.nodes[*node].volumes.iter().any(|volume| volume.not_whole_blocks);
        (0..2).find(|node| self.peer_is_too_small_for(*node)).or_else(|| (0..2).find(not_whole))
    }

    /// Whether a node stands alone because the other has no room for a volume of its.
    fn peer_is_too_small_for(&self, node: usize) -> bool {
        let refused = |volume: &rep_engine::VolumeSnapshot| {
            volume.last_decision.is_some_and(|last| last.verdict == SyncVerdict::Refuse(SyncRefusal::PeerDiskTooSmall))
        };
        self.snapshot(node).is_some_and(|snapshot| {
            snapshot.connection == ConnectionState::StandAlone && snapshot.volumes.iter().any(refused)
        })
    }

    /// `gives_up`: also what waits for data that don't come.
    fn resume(&mut self, node: usize, gives_up: bool) {
        let Some(snapshot) = self.snapshot(node) else { return };
        let waits_for_data = snapshot.io_suspended == Some(rep_engine::IoSuspension::NoData);
        if snapshot.io_suspended == Some(rep_engine::IoSuspension::Operator) || waits_for_data && gives_up {
            self.command(node, Command::SuspendIo { suspended: false });
        }
        for volume in snapshot.volumes {
            if matches!(volume.replication, ReplicationState::PausedSyncS | ReplicationState::PausedSyncT) {
                self.command(node, Command::PauseSync { volume: volume.number, paused: false });
            }
        }
    }

    /// A split brain is settled: one node's data are discarded.
    fn resolve(&mut self) {
        let victim = if self.role(1) == Role::Primary && self.role(0) != Role::Primary { 0 } else { 1 };
        self.line(|| format!("the data of node {victim} are discarded"));
        if self.snapshot(victim).is_some_and(|state| state.connection == ConnectionState::UnrelatedData) {
            // No word of the operator joins what has no common ancestor: fresh metadata do.
            return self.start_over(self.loses_least(victim));
        }
        // What waits there for the other to be fenced would keep the device open.
        if self.snapshot(victim).is_some_and(|state| state.io_suspended == Some(rep_engine::IoSuspension::Fencing)) {
            self.command(victim, Command::SuspendIo { suspended: false });
        }
        self.demote(victim, false);
        let survivor = 1 - victim;
        if self.swarm.one_word_heals {
            let command = Command::ResolveSplitBrain { keep: Side::Local };
            return self.after(2 * SECOND, Due::Command { node: survivor, command });
        }
        self.after(2 * SECOND, Due::Command { node: victim, command: Command::Connect { discard_my_data: true } });
        self.after(
            2 * SECOND + 100 * MS,
            Due::Command { node: survivor, command: Command::Connect { discard_my_data: false } },
        );
    }

    /// Who of the two is installed anew: not who has good data of every volume, if the other hasn't.
    fn loses_least(&self, victim: usize) -> usize {
        if self.is_whole(victim) && !self.is_whole(1 - victim) { 1 - victim } else { victim }
    }

    fn is_whole(&self, node: usize) -> bool {
        self.snapshot(node).is_some_and(|state| state.volumes.iter().all(|volume| volume.disk.is_consistent()))
    }

    /// A node is installed anew, and the other told to connect. If that one was being filled from the first, nobody has good data
    /// of that volume any more: the operator takes what there is.
    fn start_over(&mut self, victim: usize) {
        let survivor = 1 - victim;
        let command = if self.is_whole(survivor) {
            Command::Connect { discard_my_data: false }
        } else {
            self.operator.forced = true;
            Command::Promote { force: true }
        };
        self.reinstall(victim, 0);
        self.after(2 * SECOND, Due::Command { node: survivor, command });
    }

    /// Reads back, as clients, every block clients ever used.
    fn read_everything(&mut self) {
        let forwarder = (0..2).find(|node| self.forwards(*node)).filter(|_| self.dice.misc.chance(500));
        let Some(node) = (0..2).find(|node| self.role(*node) == Role::Primary) else {
            let node = self.dice.misc.below(2) as usize;
            return self.command(node, Command::Promote { force: false });
        };
        // Its device may be as small as before the volume grew.
        let sizes =
            |node: usize| self.nodes[node].volumes.iter().map(|volume| volume.exported.map(|offer| offer.size_bytes));
        let node = forwarder.filter(|forwarder| sizes(*forwarder).eq(sizes(node))).unwrap_or(node);
        let open = |volume: &crate::node::VolumeDisk| volume.exported.is_some() && volume.openers > 0;
        if !self.nodes[node].volumes.iter().all(open) {
            return (0..self.swarm.volumes).for_each(|volume| self.open_device(node, volume));
        }
        for volume in 0..self.swarm.volumes {
            let mut sectors = self.history.touched(volume).to_vec();
            sectors.sort_unstable();
            for (first, count) in runs(&sectors) {
                self.ask(node, volume, ClientOp::Read { first, count });
            }
            self.ask(node, volume, ClientOp::Flush);
        }
        self.operator.heal_stage = 1;
    }

    fn judge_rest(&mut self) {
        if self.clients.outstanding.is_empty() && self.operator.heal_stage == 1 {
            self.operator.heal_stage = 2;
            self.check_rest();
        }
        self.finished = true;
        self.seen(Sometimes::Healed);
    }

    fn check_rest(&mut self) {
        for volume in 0..self.swarm.volumes {
            let end = self.agreed_sectors(volume);
            let [a, b] = [0, 1].map(|node| &self.nodes[node].volumes[volume].data.cached()[..end]);
            if let Some(sector) = (0..a.len()).find(|sector| a[*sector] != b[*sector]) {
                let detail = format!("volume {volume} sector {sector}: {} and {}", a[sector], b[sector]);
                return self.fail(Kind::WrongData, "I-B7", format!("at rest the disks differ: {detail}"));
            }
            if !self.history.forked
                && let Some(sector) = self.misses(volume, a, |s, value| self.history.is_current(volume, s, value))
            {
                let detail = format!("at rest volume {volume} sector {sector} holds {}", a[sector as usize]);
                return self.fail(Kind::WrongData, "I-R2", detail);
            }
            self.check_rest_metadata(volume);
            (0..2).for_each(|node| self.check_former_place(node, volume));
        }
        for node in 0..2 {
            let held = self.nodes[node].payloads.held();
            if held > 0 {
                self.fail(Kind::Crash, "payload", format!("at rest node {node} holds {held} buffers"));
            }
        }
    }

    fn check_rest_metadata(&mut self, volume: usize) {
        let (Some(a), Some(b)) = (self.durable(0, volume), self.durable(1, volume)) else { return };
        let currents = [&a, &b].map(|loaded| loaded.superblock.generations.current);
        if currents[0] != currents[1] {
            self.fail(Kind::WrongData, "I-B7", format!("at rest the generations differ: {currents:?}"));
        }
        let sizes = [&a, &b].map(|loaded| loaded.superblock.agreed_bytes);
        if sizes[0] != sizes[1] {
            self.fail(Kind::WrongData, "R34", format!("at rest the sizes differ: {sizes:?}"));
        }
        self.check_blocks_at_rest(volume);
        let blocks = self.agreed_sectors(volume) as u64 / 8;
        // A block of the log that rotted, and stands now where one could have been written last, makes it unreadable.
        let readable = |(_, loaded): &(usize, std::rc::Rc<rep_meta::Loaded>)| !loaded.log.damaged;
        for (node, loaded) in [a, b].into_iter().enumerate().filter(readable) {
            let marked = (0..blocks).find(|block| {
                let hot = loaded.log.hot.contains(&rep_types::BlockIndex(*block).extent());
                !hot && marks(&loaded, *block)
            });
            if let Some(block) = marked {
                self.fail(Kind::WrongData, "I-B7", format!("at rest node {node} still marks block {block}"));
            }
        }
    }
}

/// Sorted sectors as runs of at most 64.
fn runs(sectors: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for sector in sectors {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == *sector && *count < 64 => *count += 1,
            _ => runs.push((*sector, 1)),
        }
    }
    runs
}
