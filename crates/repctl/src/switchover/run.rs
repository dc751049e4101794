//! A row of steps, carried out or undone.

use super::node::Node;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rep_control::api::{ApiError, ErrorKind};
use serde::Serialize;
use std::time::Instant;

/// Whether somebody wants it to end. Ctrl-C and the like end no step in the middle: they wait until it is asked for them.
pub struct Interruption(Option<SignalFd>);

impl Interruption {
    /// From now on they wait. Called before any other thread starts, so that no thread takes them.
    pub fn watch() -> Self {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Interruption(signals.thread_block().and_then(|()| SignalFd::with_flags(&signals, flags)).ok())
    }

    fn came(&self) -> bool {
        self.0.as_ref().is_some_and(|signals| matches!(signals.read_signal(), Ok(Some(_))))
    }
}

/// What a node does. Doing it again does no harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    RemoveLinks,
    Unmount,
    Secondary,
    StopUnit,
    Primary,
    StartUnit,
    Mount,
    MakeLinks,
    /// The role goes to the other node, the device stays.
    Handover,
}

impl Act {
    /// What undoes it.
    fn opposite(self) -> Act {
        match self {
            Act::RemoveLinks => Act::MakeLinks,
            Act::Unmount => Act::Mount,
            Act::Secondary => Act::Primary,
            Act::StopUnit => Act::StartUnit,
            Act::Primary => Act::Secondary,
            Act::StartUnit => Act::StopUnit,
            Act::Mount => Act::Unmount,
            Act::MakeLinks => Act::RemoveLinks,
            Act::Handover => Act::Handover,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Act::RemoveLinks => "remove the links",
            Act::Unmount => "unmount",
            Act::Secondary => "secondary",
            Act::StopUnit => "stop the unit",
            Act::Primary => "primary",
            Act::StartUnit => "start the unit",
            Act::Mount => "mount",
            Act::MakeLinks => "make the links",
            Act::Handover => "handover",
        }
    }
}

/// A step: which of the two nodes does what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// 0 gives, 1 takes.
    pub node: usize,
    /// What it does.
    pub act: Act,
}

impl Step {
    /// What undoes it. A role that was handed over is handed back by the node that has it.
    fn opposite(self) -> Step {
        let node = if self.act == Act::Handover { 1 - self.node } else { self.node };
        Step { node, act: self.act.opposite() }
    }
}

/// What became of a step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StepReport {
    node: String,
    step: &'static str,
    took_ms: u64,
}

/// Steps and who takes them.
pub struct Plan<'a> {
    /// The one that gives, the one that takes.
    pub nodes: [&'a dyn Node; 2],
    /// In order.
    pub steps: Vec<Step>,
    /// Who may end it before its end.
    pub interruption: Interruption,
}

impl Plan<'_> {
    /// Takes each step and shows it. When one fails, those before it are undone, and the error says how far that came.
    pub fn carry_out(&self, mut show: impl FnMut(&str)) -> Result<Vec<StepReport>, ApiError> {
        let mut done = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            let taken = match self.interruption.came() {
                true => Err(ApiError::new(ErrorKind::Refused, "Interrupted", "interrupted before this step")),
                false => self.take(*step, &mut show),
            };
            match taken {
                Ok(report) => done.push(report),
                Err(error) => {
                    // Where it isn't known how far it came, it is undone as well.
                    let begun = usize::from(may_have_begun(*step, &error));
                    let back: Vec<_> = self.steps[..index + begun].iter().rev().copied().collect();
                    return Err(self.go_back(*step, error, &back, &mut show));
                }
            }
        }
        Ok(done)
    }

    fn take(&self, step: Step, show: &mut impl FnMut(&str)) -> Result<StepReport, ApiError> {
        let (node, begun) = (self.nodes[step.node], Instant::now());
        let result = node.act(step.act);
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = match &result {
            Ok(()) => format!("done in {took_ms} ms"),
            Err(error) => format!("FAILED: {}", error.message),
        };
        show(&format!("  {:<10} {:<17} {outcome}", node.name(), step.act.words()));
        result.map(|()| StepReport { node: node.name().to_owned(), step: step.act.words(), took_ms })
    }

    /// Undoes steps, given in the order they are to be undone, all that can be.
    fn go_back(&self, failed: Step, error: ApiError, steps: &[Step], show: &mut impl FnMut(&str)) -> ApiError {
        let what = format!("{} on {}: {}", failed.act.words(), self.nodes[failed.node].name(), error.message);
        if steps.is_empty() {
            // What became of a handover, it has said itself.
            let unchanged = if failed.act == Act::Handover { "" } else { "; nothing was changed" };
            return ApiError { message: format!("{what}{unchanged}"), ..error };
        }
        show("  undone:");
        let undone = |step: &Step| self.take(step.opposite(), show).err();
        let left: Vec<_> = steps.iter().filter_map(undone).map(|error| error.message).collect();
        if left.is_empty() {
            return ApiError { message: format!("{what}; all is as it was"), ..error };
        }
        let message = format!("{what}; and it could not all be undone: {}", left.join("; "));
        ApiError::failed("NotUndone", message).with_hint("see 'repctl status' on both nodes, and put it right by hand")
    }
}

/// Whether a step that failed may have changed something all the same. A handover that failed has said itself how things stand.
fn may_have_begun(step: Step, error: &ApiError) -> bool {
    step.act != Act::Handover && !matches!(error.error, ErrorKind::Refused | ErrorKind::Usage | ErrorKind::Config)
}

#[cfg(test)]
mod tests {
    use super::super::step::Facts;
    use super::*;
    use rep_control::api::ResourceStatus;
    use rep_types::Refusal;
    use std::cell::RefCell;

    /// Whether an act fails, by what it is and by how many were before.
    type Fails<'a> = &'a dyn Fn(Act, usize) -> Option<ApiError>;

    /// A node that notes what it does.
    struct Noting<'a> {
        name: &'static str,
        notes: &'a RefCell<Vec<String>>,
        fails: Fails<'a>,
    }

    impl Node for Noting<'_> {
        fn name(&self) -> &str {
            self.name
        }
        fn status(&self) -> Result<ResourceStatus, ApiError> {
            Err(ApiError::failed("Test", "not asked for"))
        }
        fn facts(&self) -> Result<Facts, ApiError> {
            Ok(Facts::default())
        }
        fn act(&self, act: Act) -> Result<(), ApiError> {
            let mut notes = self.notes.borrow_mut();
            let nth = notes.len();
            notes.push(format!("{} {act:?}", self.name));
            (self.fails)(act, nth).map_or(Ok(()), Err)
        }
    }

    fn carried_out(fails: Fails<'_>) -> (Vec<String>, Result<Vec<StepReport>, ApiError>, usize) {
        let notes = RefCell::default();
        let node = |name| Noting { name, notes: &notes, fails };
        let (from, to) = (node("a"), node("b"));
        let steps = ROW.map(|(node, act)| Step { node, act }).to_vec();
        let mut lines = 0;
        let result = Plan { nodes: [&from, &to], steps, interruption: Interruption(None) }.carry_out(|_| lines += 1);
        (notes.into_inner(), result, lines)
    }

    const ROW: [(usize, Act); 8] = [
        (0, Act::RemoveLinks),
        (0, Act::Unmount),
        (0, Act::Secondary),
        (0, Act::StopUnit),
        (1, Act::Primary),
        (1, Act::StartUnit),
        (1, Act::Mount),
        (1, Act::MakeLinks),
    ];
    const ALL: [&str; 8] = [
        "a RemoveLinks",
        "a Unmount",
        "a Secondary",
        "a StopUnit",
        "b Primary",
        "b StartUnit",
        "b Mount",
        "b MakeLinks",
    ];

    #[test]
    fn every_step_is_taken_in_order_and_shown() {
        let (notes, result, lines) = carried_out(&|_, _| None);
        assert_eq!((notes, result.unwrap().len(), lines), (ALL.map(str::to_owned).to_vec(), 8, 8));
    }

    #[test]
    fn wherever_it_fails_all_is_as_it_was() {
        let back = [
            "a MakeLinks",
            "a Mount",
            "a Primary",
            "a StartUnit",
            "b Secondary",
            "b StopUnit",
            "b Unmount",
            "b RemoveLinks",
        ];
        for (index, (_, failing)) in ROW.into_iter().enumerate() {
            let refused = |_, nth: usize| (nth == index).then(|| ApiError::refused(Refusal::Busy, "vz"));
            let failed = |_, nth: usize| (nth == index).then(|| ApiError::failed("MountFailed", "no"));
            for (undone, fails) in [(index, &refused as Fails<'_>), (index + 1, &failed)] {
                let (notes, result, _) = carried_out(fails);
                let expected: Vec<_> = ALL[..=index].iter().chain(back[..undone].iter().rev()).copied().collect();
                assert_eq!(notes, expected, "{failing:?}");
                let error = result.unwrap_err();
                assert_eq!(error.reason, if undone == index { "Busy" } else { "MountFailed" });
                assert!(error.message.contains(if undone == 0 { "nothing was changed" } else { "all is as it was" }));
            }
        }
    }

    /// The unit on the node that took the role doesn't start: that node hands the role back.
    #[test]
    fn a_role_that_was_handed_over_is_handed_back_by_who_has_it() {
        let notes = RefCell::default();
        let fails = |act, _: usize| (act == Act::StartUnit).then(|| ApiError::failed("UnitFailed", "no"));
        let node = |name| Noting { name, notes: &notes, fails: &fails };
        let (from, to) = (node("a"), node("b"));
        let steps = vec![Step { node: 0, act: Act::Handover }, Step { node: 1, act: Act::StartUnit }];
        let result = Plan { nodes: [&from, &to], steps, interruption: Interruption(None) }.carry_out(|_| {});
        assert!(result.unwrap_err().message.contains("all is as it was"));
        assert_eq!(notes.into_inner(), ["a Handover", "b StartUnit", "b StopUnit", "b Handover"]);
    }

    #[test]
    fn what_can_t_be_undone_is_said_and_the_rest_is_undone_all_the_same() {
        use Act::*;
        let fails = |act, _: usize| match act {
            Mount => Some(ApiError::failed("MountFailed", "a bad super block")),
            Primary => None,
            Secondary => None,
            _ => None,
        };
        let (notes, result, _) = carried_out(&fails);
        let error = result.unwrap_err();
        assert_eq!((error.reason.as_str(), error.exit_code), ("NotUndone", 1));
        assert!(error.message.contains("mount on b: a bad super block; and it could not all be undone"), "{error}");
        assert_eq!(notes.last().map(String::as_str), Some("a MakeLinks"));
    }
}
