//! Directed runs of pairs with two volumes: the Primary's disk of one goes and comes back, and while the handshake for it is
//! under way, the peer's disk of the other does, under load.
//!
//! What the Primary has told of the other volume must hold until both have decided by it (R17). Whether it does, the
//! engine's invariants and the check of handshakes that find nothing to do see; here such moments are made, which
//! ordinary seeds meet once in tens of thousands.

use crate::counters::Sometimes;
use crate::plan::{ClientOp, Step};
use crate::rng::Rng;
use crate::swarm::{MS, Swarm};
use crate::world::{Due, World};
use rep_engine::Command;
use rep_types::{DiskState, Role, VolumeNumber};
use rep_wire::{ControlMessage, Message};

/// Per mille of the seeds with two volumes that have it.
const THEMED: u32 = 300;
/// Writes around the moment at which the peer's disk goes.
const WRITES: u32 = 8;

/// Two disks that go and come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crossed {
    /// The volume whose disk the Primary lets go of; the peer lets go of the other's.
    volume: usize,
    /// When the Primary's is back.
    back_ns: u64,
    /// When the peer's goes, and when it is back.
    peer_ns: [u64; 2],
}

fn has(swarm: &Swarm) -> Option<Rng> {
    let mut rng = Rng::new(swarm.seed).fork(41);
    (swarm.volumes == 2 && rng.chance(THEMED)).then_some(rng)
}

/// Gives a swarm what it takes, if its seed is one of those.
pub fn draw(swarm: &mut Swarm) {
    let Some(mut rng) = has(swarm) else { return };
    swarm.part_nodes(&mut rng, (5 * MS, 20 * MS));
}

/// Puts them among a run's other steps.
pub(crate) fn add(steps: &mut Vec<(u64, Step)>, swarm: &Swarm) {
    let Some(mut rng) = has(swarm).map(|rng| rng.fork(1)) else { return };
    let times: Vec<u64> = steps.iter().map(|(at, _)| *at).collect();
    let link = swarm.link_latency.1;
    for _ in 0..rng.between(10, 30) {
        let (at, volume) = (rng.pick(&times), rng.below(2) as usize);
        let back_ns = rng.span(2 * link, 300 * MS);
        let goes = back_ns - link + rng.below(2 * link);
        steps
            .push((at, Step::Crossed(Crossed { volume, back_ns, peer_ns: [goes, goes + rng.span(2 * MS, 2 * link)] })));
        for _ in 0..WRITES {
            let first = rng.pick(&swarm.focus_blocks) * 8;
            let write = ClientOp::Write { first, count: 8, fua: false };
            let when = at + goes - link + rng.below(2 * link);
            steps.push((when, Step::Client { volume: 1 - volume, client: rng.below(3) as u32, op: write }));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
}

impl World {
    /// Both disks go, one after the other.
    pub(crate) fn cross(&mut self, step: Crossed) {
        let Some(node) = (0..2).find(|node| self.role(*node) == Role::Primary) else { return };
        let (mine, other) = (step.volume, 1 - step.volume);
        self.command(node, Command::Detach { volume: Self::number(mine), force: false });
        self.after(step.back_ns, Due::Attach { node, volume: mine });
        let node = 1 - node;
        self.after(
            step.peer_ns[0],
            Due::Command { node, command: Command::Detach { volume: Self::number(other), force: false } },
        );
        self.after(step.peer_ns[1], Due::Attach { node, volume: other });
    }

    /// Whether a message tells of a disk that is gone.
    pub(crate) fn tells_of_lost_disk(message: &Message) -> bool {
        let gone = |(_, disk): &(VolumeNumber, DiskState)| !disk.takes_writes();
        matches!(message, Message::Control(control)
            if matches!(&**control, ControlMessage::State { disks, .. } if disks.iter().any(gone)))
    }

    /// Such a message has been taken: it ended the connection if it came in the middle of a handshake.
    pub(crate) fn note_lost_disk(&mut self, node: usize, session: u64) {
        if self.network.session_of_engine(node) != Some(session) {
            self.seen(Sometimes::PeerDiskLostInHandshake);
        }
    }
}
