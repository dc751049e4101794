//! The operator's commands. What can be done or refused at once is; the rest becomes a transition: a list of steps,
//! one transition at a time, each step polled until it is done.

use crate::Engine;
use crate::action::{Action, Why};
use crate::command::{Command, CommandError, CommandOutcome, Side};
use crate::config::Tunables;
use crate::local_disk::{BitmapTicket, SuperblockTicket};
use crate::role::PromotionStage;
use rep_types::{CommandId, ConnectionState, DiskState, EpochNumber, LinkCause, Refusal, Role, VolumeNumber};
use rep_wire::{ControlMessage, OperatorWord, TransferId};
use std::collections::VecDeque;

/// A step of a transition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Become Primary.
    Promote(PromotionStage),
    /// Hand the role over to the peer.
    Handover(crate::handover::HandoverStage),
    /// Answer what is forwarded, as far as that goes, and take the device away.
    StopForwarding,
    /// Take no more client requests, and wait for those under way. `Settle` follows.
    Drain,
    /// Wait until everything that has completed by the end of this epoch is stable on both disks.
    Settle(EpochNumber),
    /// Make the end of being Primary durable.
    Demote(crate::role::DemotionStage),
    /// Leave the peer.
    Leave { asked: bool, force: bool },
    /// Let go of a disk, cleanly.
    Detach { index: usize, stage: crate::attach::DetachStage },
    /// Give this node's data up.
    Invalidate { index: usize, full: bool, ticket: Option<BitmapTicket> },
    /// Wait until a resync of this volume has begun.
    /// `told`: the peer was told to give its data up, and this ping followed that.
    AwaitResync { index: usize, told: Option<TransferId> },
    /// Start a generation on both nodes.
    NewGeneration { index: usize, state: crate::new_generation::NewGenerationState },
    /// Look whether the peer is really there before this node's data are marked Outdated.
    AskBeforeOutdate { index: usize, asked: bool },
    /// Wait until being Outdated is durable.
    Outdate { index: usize, ticket: SuperblockTicket },
    /// Wait until the two have met and joined, and the data given up are saved.
    AwaitConnection {
        /// They have met.
        met: bool,
    },
    /// Make the volume larger, leading.
    Resize { index: usize, stage: crate::resize::ResizeStage },
    /// All has been left: the last step of the daemon's end.
    End,
    /// Ask what a connection would do.
    Plan {
        /// The connection to go back to.
        before: ConnectionState,
        /// The operator's word that stood before, for the next handshake that counts.
        word_before: OperatorWord,
    },
}

/// How a step stands.
pub(crate) enum Progress {
    /// Waits.
    Waits,
    /// The step moved on but isn't done.
    Moved(Step),
    /// Done.
    Done,
    /// Failed: the transition ends.
    Failed(CommandError),
}

/// What is under way for an operator.
#[derive(Debug)]
pub(crate) struct Transition {
    pub id: CommandId,
    pub steps: VecDeque<Step>,
    pub outcome: CommandOutcome,
    /// The operator no longer waits.
    pub abandoned: bool,
    /// What it ends with all the same, once what it had begun is taken back.
    pub failure: Option<CommandError>,
    /// The peer waits for its end: it hands its role over.
    pub for_peer: bool,
}

pub(crate) type Answer = Result<CommandOutcome, CommandError>;

pub(crate) fn refused(refusal: Refusal) -> Option<Answer> {
    Some(Err(CommandError::Refused(refusal)))
}

pub(crate) fn done() -> Option<Answer> {
    Some(Ok(CommandOutcome::Done))
}

impl Engine {
    pub(crate) fn command(&mut self, id: CommandId, command: Command) {
        if let Some(answer) = self.run_command(id, command) {
            self.finish_command(id, answer);
        }
    }

    /// Runs a command; `None`: it goes on as a transition.
    fn run_command(&mut self, id: CommandId, command: Command) -> Option<Answer> {
        let volume = match &command {
            Command::Detach { volume, .. }
            | Command::Resync { volume }
            | Command::ResyncFull { volume, .. }
            | Command::PauseSync { volume, .. }
            | Command::Verify { volume, .. }
            | Command::StopVerify { volume }
            | Command::Invalidate { volume }
            | Command::InvalidatePeer { volume }
            | Command::Outdate { volume }
            | Command::Resize { volume, .. }
            | Command::NewGeneration { volume, .. } => Some(*volume),
            _ => None,
        };
        let index = match volume.map(|number| self.volume_index(number)) {
            Some(None) => return refused(Refusal::NoSuchVolume),
            Some(Some(index)) => index,
            None => 0,
        };
        match command {
            Command::Connect { discard_my_data: false } => self.connect(OperatorWord::None),
            Command::Connect { discard_my_data: true } => self.connect(OperatorWord::DiscardMine),
            Command::SuspendIo { suspended } => {
                if !suspended && !self.suspended {
                    self.waive_fence();
                    self.let_starved_fail();
                    self.let_forwards_fail();
                }
                self.suspended = suspended;
                self.open_gate();
                done()
            }
            Command::Verify { repair_from, .. } => self.verify_command(index, repair_from),
            Command::StopVerify { .. } => {
                self.stop_verify_command(index);
                done()
            }
            Command::PauseSync { volume, paused } => self.pause_sync(index, volume, paused),
            Command::Resync { .. } => self.resync_command(index),
            Command::Tune(to) => self.tune(to),
            Command::Detach { force: true, .. } => self.detach_at_once(index),
            // Of a Primary's nothing is waited for: this is how what hangs on it comes to an end.
            Command::Detach { .. } if self.role == Role::Primary => self.detach_command(id, index),
            _ if self.transition.is_some() => refused(Refusal::Busy),
            Command::Outdate { .. } => self.outdate(id, index),
            Command::Detach { .. } => self.detach_command(id, index),
            Command::Plan { discard_my_data } => self.plan_command(id, discard_my_data),
            Command::ResolveSplitBrain { keep } => self.resolve_split_brain(id, keep),
            Command::Disconnect { force } => self.disconnect(id, force),
            Command::Promote { force } => self.promote(id, force),
            Command::Demote => self.demote(id),
            Command::Handover => self.handover(id),
            Command::ResyncFull { from, .. } => self.resync_full(id, index, from),
            Command::Invalidate { .. } => self.invalidate(id, index),
            Command::InvalidatePeer { volume } => self.invalidate_peer(id, index, volume),
            Command::NewGeneration { clear_bitmap, .. } => self.new_generation(id, index, clear_bitmap),
            Command::Resize { assume_clean, .. } => self.resize_command(id, index, assume_clean),
            Command::Shutdown => self.shutdown(id),
        }
    }

    fn tune(&mut self, to: Tunables) -> Option<Answer> {
        self.config.tune(to);
        // What waits by the rate there was goes by the new one at once.
        let now = self.now;
        for volume in &mut self.volumes {
            if let Some(resync) = &mut volume.resync {
                resync.not_before = now;
            }
            if let Some(verify) = &mut volume.verify {
                verify.not_before = now;
            }
        }
        done()
    }

    pub(crate) fn begin_transition(&mut self, id: CommandId, steps: impl IntoIterator<Item = Step>) -> Option<Answer> {
        let steps = steps.into_iter().collect();
        self.transition = Some(Transition {
            id,
            steps,
            outcome: CommandOutcome::Done,
            abandoned: false,
            failure: None,
            for_peer: false,
        });
        None
    }

    /// The transition just begun is nobody's command.
    pub(crate) fn nobody_waits(&mut self) {
        if let Some(transition) = &mut self.transition {
            transition.abandoned = true;
        }
    }

    pub(crate) fn finish_command(&mut self, id: CommandId, result: Answer) {
        self.out.push(Action::CommandDone { id, result });
    }

    pub(crate) fn progress_transition(&mut self) -> bool {
        let Some(transition) = &self.transition else { return false };
        let Some(step) = transition.steps.front().cloned() else {
            return self.end_transition(None);
        };
        match self.poll_step(step) {
            Progress::Waits => false,
            Progress::Moved(step) => {
                if let Some(front) = self.transition.as_mut().and_then(|transition| transition.steps.front_mut()) {
                    *front = step;
                }
                true
            }
            Progress::Done => {
                if let Some(transition) = &mut self.transition {
                    transition.steps.pop_front();
                }
                true
            }
            Progress::Failed(error) => self.end_transition(Some(error)),
        }
    }

    pub(crate) fn end_transition(&mut self, error: Option<CommandError>) -> bool {
        let Some(transition) = self.transition.take() else { return false };
        if transition.for_peer && error.is_some() {
            self.takeover_failed();
        }
        let error = transition.failure.or(error);
        if !transition.abandoned {
            self.finish_command(transition.id, error.map_or(Ok(transition.outcome), Err));
        }
        true
    }

    fn poll_step(&mut self, step: Step) -> Progress {
        match step {
            Step::Promote(stage) => self.poll_promotion(stage),
            Step::Handover(stage) => self.poll_handover(stage),
            Step::StopForwarding => self.poll_stop_forwarding(),
            Step::Drain => match self.poll_drain() {
                Progress::Done => Progress::Moved(Step::Settle(self.close_what_completed())),
                progress => progress,
            },
            Step::Settle(until) => self.poll_settle(until),
            Step::Demote(stage) => self.poll_demotion(stage),
            Step::Leave { asked, force } => self.poll_leave(asked, force),
            Step::Detach { index, stage } => self.poll_detach(index, stage),
            Step::Invalidate { index, full, ticket } => self.poll_invalidate(index, full, ticket),
            Step::AwaitResync { index, .. } => self.poll_await_resync(index),
            Step::NewGeneration { index, state } => self.poll_new_generation(index, state),
            Step::Plan { .. } => Progress::Waits,
            Step::End => Progress::Done,
            Step::AskBeforeOutdate { index, asked } => self.poll_ask_before_outdate(index, asked),
            Step::Outdate { index, ticket } => self.poll_outdate(index, ticket),
            Step::Resize { index, stage } => self.poll_resize(index, stage),
            Step::AwaitConnection { met } => self.poll_await_connection(met),
        }
    }

    /// The operator's deadline has passed.
    pub(crate) fn command_abandoned(&mut self, id: CommandId) {
        let mut attaching = self.volumes.iter_mut().filter_map(|volume| volume.attaching.as_mut());
        if let Some(attaching) = attaching.find(|attaching| attaching.id == Some(id)) {
            attaching.id = None;
            return self.finish_command(id, Err(CommandError::TimedOut));
        }
        let Some(transition) = self.transition.as_mut().filter(|transition| transition.id == id) else { return };
        let step = transition.steps.front().cloned();
        transition.abandoned = true;
        self.finish_command(id, Err(CommandError::TimedOut));
        match step {
            // What only waits for others is given up; what changes durable state goes on to its end.
            Some(Step::Plan { before, word_before }) => self.end_plan(before, word_before),
            Some(
                Step::AwaitResync { .. }
                | Step::AskBeforeOutdate { .. }
                | Step::Resize { .. }
                | Step::Promote(PromotionStage::Ask { .. } | PromotionStage::Fence { .. }),
            ) => {
                self.transition = None;
            }
            Some(Step::AwaitConnection { .. }) => {
                self.transition = None;
                self.set_word(OperatorWord::None);
            }
            Some(Step::Leave { .. }) => self.force_leave(),
            Some(Step::Handover(stage)) if self.handover_abandoned(stage) => self.transition = None,
            // What it waits for is the disk it lets go of, which may never answer.
            Some(Step::Detach { .. }) => self.detaches_abandoned(),
            _ => {}
        }
    }

    fn force_leave(&mut self) {
        if let Some(Step::Leave { force, .. }) =
            self.transition.as_mut().and_then(|transition| transition.steps.front_mut())
        {
            *force = true;
        }
    }

    /// Whether a step is under way that the view depends on.
    pub(crate) fn transition_holds_view(&self) -> bool {
        let step = self.transition.as_ref().and_then(|transition| transition.steps.front());
        matches!(
            step,
            Some(
                Step::Promote(PromotionStage::Recording { .. })
                    | Step::Demote(_)
                    | Step::Invalidate { .. }
                    | Step::Outdate { .. }
                    | Step::Detach { .. }
                    | Step::NewGeneration { .. }
            )
        )
    }

    /// The connection went away under a transition.
    pub(crate) fn transition_loses_link(&mut self, _cause: LinkCause) {
        let step = self.transition.as_ref().and_then(|transition| transition.steps.front());
        if let Some(Step::AwaitResync { .. }) = step {
            self.end_transition(Some(CommandError::PeerLost));
        }
        (self.promotion_granted_until, self.promotion_asked_until) = (None, None);
        self.forwarding_goes_on();
    }

    // ---- resync ----

    fn pause_sync(&mut self, index: usize, volume: VolumeNumber, paused: bool) -> Option<Answer> {
        self.volumes[index].resync_paused_here = paused;
        self.show_resync(index, Why::Command);
        // During the first handshake the peer doesn't take it; when that has ended it is told anyway.
        if self.connection == ConnectionState::Connected {
            self.send(ControlMessage::PauseSync { volume, paused }, None);
        }
        done()
    }

    /// What this node's operator paused stays paused on a new connection, which knows nothing of it yet.
    pub(crate) fn tell_pauses(&mut self) {
        for index in 0..self.volumes.len() {
            if self.volumes[index].resync_paused_here {
                let volume = self.volumes[index].number;
                self.send(ControlMessage::PauseSync { volume, paused: true }, None);
            }
        }
    }

    pub(crate) fn peer_pauses(&mut self, number: VolumeNumber, paused: bool) {
        if let Some(index) = self.volume_index(number) {
            self.volumes[index].resync_paused_there = paused;
            self.show_resync(index, Why::Peer);
        }
    }

    fn resync_command(&mut self, index: usize) -> Option<Answer> {
        match self.connection {
            ConnectionState::SplitBrain => return refused(Refusal::SplitBrain),
            ConnectionState::UnrelatedData => return refused(Refusal::UnrelatedData),
            ConnectionState::StandAlone => return self.connect(OperatorWord::None),
            ConnectionState::Connecting | ConnectionState::Disconnecting => return refused(Refusal::NotConnected),
            ConnectionState::Connected => {}
        }
        let number = self.volumes[index].number;
        if self.volumes[index].resync_paused_here {
            self.pause_sync(index, number, false);
        }
        let volume = &self.volumes[index];
        if volume.local.is_none() {
            return refused(Refusal::Diskless);
        }
        if volume.resync.is_none() && volume.out_of_sync_blocks() > 0 {
            self.begin_handshake();
        }
        done()
    }

    fn resync_full(&mut self, id: CommandId, index: usize, from: Option<Side>) -> Option<Answer> {
        let volume = &self.volumes[index];
        let number = volume.number;
        let good = (volume.disk == DiskState::UpToDate, volume.peer_disk == DiskState::UpToDate);
        let from = from.or(match (good, self.role, self.peer_role) {
            ((true, false), ..) => Some(Side::Local),
            ((false, true), ..) => Some(Side::Peer),
            (_, Role::Primary, _) => Some(Side::Local),
            (_, _, Some(Role::Primary)) => Some(Side::Peer),
            _ => None,
        });
        match from {
            Some(Side::Local) => self.invalidate_peer(id, index, number),
            Some(Side::Peer) => self.invalidate(id, index),
            None => refused(Refusal::DirectionNeeded),
        }
    }
}
