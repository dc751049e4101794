//! The daemon ends: what is under way is answered, and everything left cleanly, in this order.

use crate::Engine;
use crate::attach::DetachStage;
use crate::command::{CommandError, CommandOutcome};
use crate::operator::Step;
use rep_types::{CommandId, Role};

impl Engine {
    pub(crate) fn shutdown(&mut self, id: CommandId) -> Option<Result<CommandOutcome, CommandError>> {
        let mut steps = Vec::new();
        if self.forwarding.is_some() {
            steps.push(Step::StopForwarding);
        }
        if self.role == Role::Primary {
            steps.extend(self.give_role_up());
        }
        steps.push(Step::Leave { asked: false, force: false });
        // A disk that is just coming may never do so: the others don't wait for it.
        let mut disks: Vec<usize> = (0..self.volumes.len()).collect();
        disks.sort_by_key(|&index| self.volumes[index].attaching.is_some());
        steps.extend(disks.into_iter().map(|index| Step::Detach { index, stage: DetachStage::Begin }));
        steps.push(Step::End);
        self.begin_transition(id, steps)
    }

    /// Whether everything is being left.
    pub(crate) fn is_ending(&self) -> bool {
        self.transition.as_ref().is_some_and(|transition| transition.steps.back() == Some(&Step::End))
    }
}
