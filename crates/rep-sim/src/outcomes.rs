//! What a command is answered is so: done, and it has happened; refused, and nothing of it happens afterwards. An operator, or a
//! cluster manager, goes by nothing else.
//!
//! A command whose time ran out says neither (`TimedOut`): what changes durable state goes on to its end.

use crate::failure::Kind;
use crate::world::World;
use rep_engine::{Command, CommandError, CommandOutcome, Notice, Snapshot};
use rep_types::{ConnectionState, DiskState, Refusal, Role, SplitBrainPolicies, SyncRule, SyncVerdict};

/// What a node's operator has been answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answered {
    /// The last promotion, or demotion, failed, and nothing has been told since that changes the role.
    role_stays: bool,
    /// One whose time ran out may change it at any time.
    role_is_open: bool,
    /// A word on a split brain has been given here, and counts still.
    word_counts: bool,
}

/// Whether a command may change the roles of both nodes.
fn changes_roles(command: &Command) -> bool {
    matches!(command, Command::Promote { .. } | Command::Demote | Command::Handover | Command::Shutdown)
}

fn is_word(command: &Command) -> bool {
    matches!(command, Command::ResolveSplitBrain { .. } | Command::Connect { discard_my_data: true })
}

impl World {
    /// A node is about to be told something.
    pub(crate) fn outcome_is_open(&mut self, node: usize, command: &Command) {
        if changes_roles(command) {
            self.operator.answered.iter_mut().for_each(|answered| answered.role_stays = false);
        }
        self.operator.answered[node].word_counts |= is_word(command);
    }

    /// A node's daemon has begun, and knows of nothing it was told before.
    pub(crate) fn nothing_is_answered(&mut self, node: usize) {
        self.operator.answered[node] = Answered::default();
    }

    /// A command has ended.
    pub(crate) fn check_outcome(
        &mut self,
        node: usize,
        command: &Command,
        result: &Result<CommandOutcome, CommandError>,
    ) {
        match result {
            Ok(_) => {
                if let Some(shown) = self.snapshot(node).filter(|shown| !has_happened(command, shown)) {
                    let detail = format!("node {node} calls {command:?} done: {shown:?}");
                    self.fail(Kind::WrongData, "I-C1", detail);
                }
            }
            Err(CommandError::TimedOut) => self.operator.answered[node].role_is_open |= changes_roles(command),
            Err(error) => {
                // Another that is under way may change it.
                let busy = *error == CommandError::Refused(Refusal::Busy);
                let mut others = self.operator.pending.values().filter_map(|pending| pending.command.as_ref());
                let open = busy
                    || others.any(changes_roles)
                    || self.operator.answered.iter().any(|answered| answered.role_is_open);
                let answered = &mut self.operator.answered[node];
                answered.role_stays |= !open && matches!(command, Command::Promote { .. } | Command::Demote);
                answered.word_counts &= !is_word(command);
            }
        }
    }

    /// An engine tells of a change.
    pub(crate) fn outcome_notice(&mut self, node: usize, notice: &Notice) {
        match notice {
            Notice::Role { to, .. } if self.operator.answered[node].role_stays => {
                let detail = format!("node {node} becomes {to:?}, which its operator was told has failed");
                self.fail(Kind::WrongData, "I-C1", detail);
            }
            Notice::Decided { decision, .. } => {
                let by_rule = matches!(decision.rule, SyncRule::SplitBrainBitmap | SyncRule::SplitBrainHistory);
                let settled = by_rule && !matches!(decision.verdict, SyncVerdict::Refuse(_));
                let counts = self.operator.answered.iter().any(|answered| answered.word_counts);
                let by_policy = self.swarm.split_brain != SplitBrainPolicies::default();
                if settled && !counts && !by_policy {
                    let detail = format!(
                        "node {node} settles a split brain by {decision:?}, and nobody has said whose data stay"
                    );
                    self.fail(Kind::WrongData, "I-G4", detail);
                }
            }
            _ => {}
        }
    }
}

/// Whether a node shows what a command was to bring about.
fn has_happened(command: &Command, shown: &Snapshot) -> bool {
    let volume = |number: &rep_types::VolumeNumber| shown.volumes.iter().find(|volume| volume.number == *number);
    match command {
        Command::Promote { .. } => shown.role == Role::Primary,
        Command::Demote => shown.role == Role::Secondary,
        Command::Handover => shown.role == Role::Secondary && shown.peer_role != Some(Role::Secondary),
        Command::Shutdown => {
            shown.role == Role::Secondary && shown.volumes.iter().all(|volume| volume.disk == DiskState::Diskless)
        }
        Command::Detach { volume: number, .. } => {
            volume(number).is_some_and(|volume| volume.disk == DiskState::Diskless)
        }
        Command::Disconnect { .. } => shown.connection == ConnectionState::StandAlone,
        Command::ResolveSplitBrain { .. } => shown.connection == ConnectionState::Connected,
        Command::Invalidate { volume: number }
        | Command::InvalidatePeer { volume: number }
        | Command::ResyncFull { volume: number, .. } => {
            volume(number).is_some_and(|volume| volume.replication.is_resync())
        }
        Command::Outdate { volume: number } => {
            volume(number).is_some_and(|volume| !matches!(volume.disk, DiskState::UpToDate | DiskState::Consistent))
        }
        _ => true,
    }
}
