//! The fence device: what a fence-peer handler stands for. It is honest, but slow, and may fail to do anything.
//!
//! It has the peer outdated, or takes its node down; what it says it has seen. With it an operator may promote whenever
//! he likes: that no write is answered by two (I-G6) and that the survivor goes on only after the decision (I-G7) are the
//! engines' to see to.

use crate::client::Outstanding;
use crate::counters::Sometimes;
use crate::failure::Kind;
use crate::plan::{ClientOp, LinkFault};
use crate::swarm::{MS, SECOND, Swarm};
use crate::world::{Due, World};
use rep_engine::{Command, Event, FenceId, FenceSnapshot, IoSuspension, Notice, Snapshot};
use rep_meta::DataState;
use rep_types::{ConnectionState, DiskState, FenceAnswer, Fencing, IoError, Role};

/// Per mille of the losses upon which the other node is told to take over.
const RIVALS: u32 = 300;
/// Per mille of the handshakes whose last word is lost.
const LAST_WORDS_LOST: u32 = 100;
/// How long the device waits for an outdated peer to have recorded it.
const OUTDATE_TAKES: u64 = 2 * SECOND;

/// A run's fencing: what is configured, and per mille of the questions that come to nothing.
#[derive(Clone, Copy, Debug)]
pub struct FencePlan {
    /// As both nodes are configured.
    pub fencing: Fencing,
    /// Per mille.
    pub fails: u32,
    /// Of those that don't, per mille that take the node down.
    pub kills: u32,
    /// The longest the device takes.
    pub slowest: u64,
}

impl FencePlan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> FencePlan {
        let mut rng = crate::rng::Rng::new(seed).fork(21);
        FencePlan {
            fencing: rng.pick(&[
                Fencing::DontCare,
                Fencing::DontCare,
                Fencing::ResourceOnly,
                Fencing::ResourceAndStonith,
                Fencing::ResourceAndStonith,
            ]),
            fails: rng.pick(&[0, 0, 100, 500]),
            kills: rng.pick(&[0, 300, 1000]),
            slowest: rng.span(20 * MS, 40 * SECOND),
        }
    }
}

impl Swarm {
    fn fences(&self) -> bool {
        self.fence.fencing != Fencing::DontCare
    }
}

impl World {
    /// Whether fencing alone keeps the pair from going apart, so that the arbiter needn't.
    pub(crate) fn is_guarded(&self) -> bool {
        let stonith = self.swarm.fence.fencing == Fencing::ResourceAndStonith;
        stonith && !self.swarm.may_fork && !self.operator.fencing_overridden
    }

    /// A node's engine asks.
    pub(crate) fn fence_asked(&mut self, node: usize, id: FenceId) {
        self.seen(Sometimes::FenceAsked);
        self.check_fenced_for_something(node);
        let slowest = if self.operator.healing { 100 * MS } else { self.swarm.fence.slowest };
        let span = self.dice.misc.span(MS, slowest);
        let life = self.nodes[node].life;
        if self.is_guarded() && !self.operator.healing && self.dice.misc.chance(RIVALS) {
            // The cluster manager has lost sight of this node and has the other take over.
            let span = self.dice.misc.span(MS, 10 * SECOND);
            self.after(span, Due::Promote { node: 1 - node });
        }
        self.after(span, Due::FenceActs { node, life, id });
    }

    /// A peer whose engine closes the connection to begin anew lives: no Primary has it fenced for that, if both know how to say so. Who is
    /// being promoted asks whoever isn't there.
    fn check_fenced_for_something(&mut self, node: usize) {
        let says_so = self.agreed_on(rep_wire::features::BEGIN_ANEW);
        if says_so && self.network.hears_of_begin_anew == Some(node) && self.role(node) == Role::Primary {
            let detail = format!("node {node} has its peer fenced, which has closed their connection to begin anew");
            self.fail(Kind::Liveness, "F5", detail);
        }
    }

    fn still_asks(&self, node: usize, life: u32) -> bool {
        self.nodes[node].is_up() && self.nodes[node].life == life
    }

    /// The device does something about the peer.
    pub(crate) fn fence_acts(&mut self, node: usize, life: u32, id: FenceId) {
        if !self.still_asks(node, life) {
            return;
        }
        let peer = 1 - node;
        let healing = self.operator.healing;
        if !healing && self.dice.misc.chance(self.swarm.fence.fails) {
            let answer = self.dice.misc.pick(&[
                FenceAnswer::PeerUnreachable,
                FenceAnswer::PeerUnreachable,
                FenceAnswer::TimedOut,
                FenceAnswer::NoHandler,
                FenceAnswer::Broken,
            ]);
            return self.fence_answer(node, id, answer);
        }
        if !self.nodes[peer].is_up() || (!healing && self.dice.misc.chance(self.swarm.fence.kills)) {
            let down_ns = if healing { MS } else { self.dice.misc.span(10 * MS, 30 * SECOND) };
            if self.nodes[peer].is_up() {
                self.seen(Sometimes::FenceKilled);
                self.crash(peer, true, down_ns);
            }
            return self.fence_answer(node, id, FenceAnswer::PeerFenced);
        }
        if self.role(peer) == Role::Primary {
            return self.fence_answer(node, id, FenceAnswer::PeerPrimary);
        }
        for volume in 0..self.swarm.volumes {
            self.command(peer, Command::Outdate { volume: Self::number(volume) });
        }
        self.after(OUTDATE_TAKES, Due::FenceLooks { node, life, id });
    }

    /// Whether the peer has recorded that its data are old.
    pub(crate) fn fence_looks(&mut self, node: usize, life: u32, id: FenceId) {
        if !self.still_asks(node, life) {
            return;
        }
        let peer = 1 - node;
        let Some(shown) = self.snapshot(peer) else {
            return self.fence_answer(node, id, FenceAnswer::PeerUnreachable);
        };
        // One that isn't attached records nothing; a resource is promoted with all of its volumes, so one that has recorded it will do.
        let attached = || shown.volumes.iter().filter(|volume| volume.disk != DiskState::Diskless);
        let recorded = attached().next().is_some()
            && attached().all(|volume| {
                let loaded = self.durable(peer, usize::from(volume.number.0));
                loaded.is_some_and(|loaded| loaded.superblock.data != DataState::Consistent)
            });
        // Of several volumes one may be the target of a resync that was broken off, and keep that state.
        let shows = |these: &[DiskState]| attached().all(|volume| these.contains(&volume.disk));
        let answer = if shown.role == Role::Primary {
            FenceAnswer::PeerPrimary
        } else if recorded && shows(&[DiskState::Inconsistent]) {
            FenceAnswer::PeerInconsistent
        } else if recorded && shows(&[DiskState::Outdated, DiskState::Inconsistent]) {
            let all = attached().count() == self.swarm.volumes;
            self.seen(if all { Sometimes::FenceOutdated } else { Sometimes::FenceOutdatedInPart });
            FenceAnswer::PeerOutdated
        } else {
            FenceAnswer::PeerUnreachable
        };
        self.fence_answer(node, id, answer);
    }

    fn fence_answer(&mut self, node: usize, id: FenceId, answer: FenceAnswer) {
        self.line(|| format!("node {node} fence device: {answer:?}"));
        self.feed(node, Event::FenceAnswered { id, answer });
    }

    /// Why a node's peer could be promoted without it, or goes on already.
    fn peer_may_go_on(&self, node: usize) -> Option<String> {
        let shown = self.snapshot(1 - node)?;
        if shown.role == Role::Primary {
            return Some("is Primary".to_owned());
        }
        let apart = shown.connection != ConnectionState::Connected;
        let good = shown.volumes.iter().all(|volume| volume.disk == DiskState::UpToDate);
        (apart && good).then(|| "is good and apart".to_owned())
    }

    fn is_apart(&self, node: usize) -> bool {
        self.snapshot(node).is_some_and(|shown| shown.connection != ConnectionState::Connected)
    }

    /// A node became Primary: without its peer only when that can't go on (I-G7).
    pub(crate) fn check_promoted_alone(&mut self, node: usize, forced: bool) {
        if self.snapshot(node).is_some_and(|shown| shown.fence == Some(FenceSnapshot::Waived)) {
            self.operator.fencing_overridden = true;
        }
        if !self.swarm.fences() || forced || !self.is_apart(node) {
            return;
        }
        self.seen(Sometimes::PromotedAfterFence);
        if let Some(why) = self.peer_may_go_on(node).filter(|_| !self.history.forked) {
            self.fail(Kind::WrongData, "I-G7", format!("node {node} is promoted alone, its peer {why}"));
        }
    }

    /// A Primary without its peer answered a write: only when that can't go on (I-G6).
    pub(crate) fn check_answered_alone(&mut self, asked: &Outstanding, result: Result<(), IoError>) {
        let write = matches!(asked.op, ClientOp::Write { .. } | ClientOp::Zero { .. });
        // What a Secondary answers its Primary has: it only tells.
        let tells = self.role(asked.node) == Role::Secondary;
        if !write || tells || result.is_err() || !self.is_guarded() || !self.is_apart(asked.node) {
            return;
        }
        if let Some(why) = self.peer_may_go_on(asked.node) {
            let detail = format!("node {} answers {:?} alone, its peer {why}", asked.node, asked.op);
            self.fail(Kind::WrongData, "I-G6", detail);
        }
    }

    /// A node has joined; now and then its peer doesn't hear of it.
    fn lose_last_word(&mut self, node: usize) {
        let begun = !(0..self.swarm.volumes).any(|volume| self.truth_just_created(volume));
        let first = begun && self.swarm.fences() && !self.operator.healing && self.is_apart(1 - node);
        if first && self.dice.misc.chance(LAST_WORDS_LOST) {
            self.seen(Sometimes::LastWordLost);
            let for_ns = self.dice.misc.span(SECOND, 60 * SECOND);
            self.break_link(LinkFault::Reset, for_ns);
        }
    }

    /// Counts what engines tell of fencing.
    pub(crate) fn fence_notice(&mut self, node: usize, notice: &Notice) {
        match notice {
            Notice::FenceAnswered { answer } if !answer.is_safe() => self.seen(Sometimes::FenceFailed),
            Notice::Connection { to: ConnectionState::Connected, .. } => self.lose_last_word(node),
            Notice::PeerRejoined => self.seen(Sometimes::Unfenced),
            Notice::IoSuspended { suspended: true } => {
                let shown = self.snapshot(node);
                if shown.is_some_and(|shown| shown.io_suspended == Some(rep_engine::IoSuspension::Fencing)) {
                    self.seen(Sometimes::FenceHeld);
                }
            }
            _ => {}
        }
    }

    /// Whether a command would take upon the operator what he doesn't know: that the peer doesn't go on. In a split brain that
    /// isn't asked any more: what this node writes is in the data that are given up.
    pub(crate) fn would_waive(&self, node: usize, command: &Command) -> bool {
        let known = |shown: Snapshot| match shown.io_suspended {
            Some(IoSuspension::Operator | IoSuspension::NoData) => true,
            Some(IoSuspension::Fencing) => shown.connection == ConnectionState::SplitBrain && self.operator.healing,
            // Who forwards says nothing about its peer: what waits fails.
            Some(IoSuspension::Forwarding) => self.operator.healing,
            _ => false,
        };
        let resumes = *command == Command::SuspendIo { suspended: false };
        resumes && self.swarm.fences() && self.snapshot(node).is_some_and(|shown| !known(shown))
    }
}
