//! Disks of a node's own that hang: `disk-timeout`, in half of the seeds, and directed runs in which a disk hangs under load,
//! its operator lets go of it, gently or by force, and tries again and again to attach it while its past is still under way.
//!
//! What lands late on a disk that was attached too early the checks of reads and of the disks see. Judged here: a disk is given
//! up for its silence only with another good one in reach, and then it is given up; the rest of liveness is judged at the end,
//! and when a command is abandoned.

use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::{DiskFault, Node, Step};
use crate::rng::Rng;
use crate::swarm::{MS, SECOND, Swarm};
use crate::world::World;
use rep_engine::{Command, Event, Notice, VolumeSnapshot, Why};
use rep_types::{CommandId, ConnectionState, DiskState, Role};
use std::time::Duration;

/// Per mille of the seeds that have such runs.
const THEMED: u32 = 200;
/// Attempts to attach a disk that was let go of.
const ATTACHES: u32 = 5;

/// `disk-timeout` of a seed's nodes (ns), whose disks take `slowest` at the most while they are whole; 0: none.
pub fn timeout_of(seed: u64, slowest: u64) -> u64 {
    let mut rng = Rng::new(seed).fork(45);
    if rng.chance(500) { 0 } else { slowest + rng.span(2 * SECOND, 20 * SECOND) }
}

/// Puts disks that hang among a run's other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let mut rng = Rng::new(swarm.seed).fork(46);
    if !rng.chance(THEMED) {
        return;
    }
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    for _ in 0..rng.between(1, 5) {
        let (node, volume) = (rng.below(2) as Node, rng.below(swarm.volumes as u64) as usize);
        let hangs = rng.pick(&times);
        let least = if rng.chance(500) { swarm.disk_timeout } else { 0 };
        let for_ns = rng.span(least.max(10 * MS), 60 * SECOND);
        steps.push((hangs, Step::Disk { node, volume, fault: DiskFault::Hang { for_ns } }));
        if rng.chance(300) {
            // Nobody does anything about it, or `disk-timeout` does.
            continue;
        }
        let told = hangs + rng.below(for_ns);
        steps.push((
            told,
            if rng.chance(500) { Step::DetachAtOnce { node, volume } } else { Step::Detach { node, volume } },
        ));
        for _ in 0..ATTACHES {
            steps.push((told + rng.below(2 * for_ns), Step::Attach { node, volume }));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
}

impl World {
    /// Lets go of a disk as it is: also of the last good one, whose clients then get errors.
    pub(crate) fn detach_at_once(&mut self, node: usize, volume: usize) {
        if !self.nodes[node].is_up() || !self.nodes[node].volumes[volume].attached {
            return;
        }
        self.copy_troubled(volume);
        if self.nodes[node].in_flight(volume) > 0 {
            self.seen(Sometimes::DetachedByForce);
        }
        self.command(node, Command::Detach { volume: Self::number(volume), force: true });
    }

    /// A disk some of whose past is still under way is offered to the engine: it must say no.
    pub(crate) fn attach_early(&mut self, node: usize, volume: usize) {
        let Some(loaded) = self.readable_now(node, volume) else { return };
        self.nodes[node].volumes[volume].attached = true;
        let id = CommandId(self.next_attach(node, volume));
        let boot = self.nodes[node].boot;
        self.line(|| format!("node {node} attaches vol {volume} although its past is under way"));
        let (traits, left) = self.traits_of(node, volume);
        let volume = Self::number(volume);
        let event = Event::Attached { id, volume, loaded, boot, traits, left };
        self.feed(node, event);
    }

    /// A disk was given up for its silence.
    pub(crate) fn note_timed_out(&mut self, node: usize, notice: &Notice) {
        let Notice::Disk { volume, from, to: DiskState::Failed, why: Why::DiskTimeout } = notice else { return };
        self.seen(Sometimes::DiskTimedOut);
        let Some(snapshot) = self.snapshot(node) else { return };
        if snapshot.role == Role::Primary {
            self.seen(Sometimes::DiskTimedOutUnderPrimary);
        }
        let of = &snapshot.volumes[volume.0 as usize];
        // One that was ending has taken its leave in the same turn.
        let in_reach = matches!(snapshot.connection, ConnectionState::Connected | ConnectionState::Disconnecting);
        let elsewhere = in_reach && of.peer_disk == DiskState::UpToDate;
        if matches!(from, DiskState::UpToDate | DiskState::Consistent) && !elsewhere {
            let detail = format!("node {node} volume {volume} gives up a disk that hangs, the only good one in reach");
            self.fail(Kind::WrongData, "I-F1", detail);
        }
    }

    /// A disk that is silent for longer than `disk-timeout` beside a good one, and stays: no more than it takes to see that the
    /// other is good, and doesn't hang as well.
    pub(crate) fn check_silence(&mut self, node: usize, volumes: &[VolumeSnapshot], connected: bool) {
        if self.swarm.disk_timeout == 0 {
            return;
        }
        let limit = Duration::from_nanos(self.swarm.disk_timeout);
        for (index, volume) in volumes.iter().enumerate() {
            let silent = volume.disk_unanswered.is_some_and(|silent| silent > limit);
            let overdue = silent && connected && volume.peer_disk == DiskState::UpToDate;
            let since = &mut self.nodes[node].volumes[index].overdue_since;
            if !overdue {
                *since = None;
                continue;
            }
            let since = *since.get_or_insert(self.now);
            let patience = self.swarm.timeout * u64::from(self.swarm.ko_count) + 20 * SECOND;
            if self.now - since > patience {
                let detail =
                    format!("node {node} volume {index}: {:?} without an answer, and kept", volume.disk_unanswered);
                return self.fail(Kind::Liveness, "I-L2", detail);
            }
        }
    }
}
