//! `handover`: the role goes to the other node, and the device stays where it is open.
//!
//! ```text
//!   the one that gives              the one that takes
//!   handover
//!                                   start the unit
//!   stop the unit
//! ```
//! The daemons do the handover over their own connection. Only where systemd keeps this node Primary (`repd-primary@RESOURCE`, active), the
//! other node is reached by a command too, for its unit. The one here is stopped where nobody has the device open: to stop it
//! otherwise would unmount what requires it, which is what a handover is there to avoid.

use super::node::{Here, Node, There};
use super::run::{Act, Interruption, Plan, Step, StepReport};
use crate::Failure;
use crate::cli::{HandoverArguments, Options, SwitchoverArguments};
use crate::output::{print, print_json, tell};
use crate::systemd::{self, UnitState};
use rep_control::api::{ApiError, ResourceStatus};
use rep_types::{Refusal, Role};
use serde::Serialize;

/// What became of a handover.
#[derive(Serialize)]
struct Report<'a> {
    resource: &'a str,
    from: &'a str,
    to: &'a str,
    steps: Vec<StepReport>,
    /// Whether the device stays on the node that gave the role, and forwards.
    forwards: bool,
}

pub fn run(arguments: HandoverArguments, options: &Options) -> Result<(), Failure> {
    let HandoverArguments { target, reach } = arguments;
    let arguments = SwitchoverArguments { target, mount: None, reach };
    let here = Here::new(&arguments, options)?;
    let before = here.status()?;
    let there = There::new(&arguments, options, &before.peer.name)?;
    if before.role != Role::Primary {
        return Err(ApiError::refused(Refusal::NotPrimary, &before.name).into());
    }
    let units = [here.facts()?.unit, UnitState::Absent];
    // It is asked before anything is given away.
    let units = if units[0] == UnitState::Active { [units[0], there.facts()?.unit] } else { units };
    let open = is_open(&before);
    let plan = Plan { nodes: [&here, &there], steps: steps(units, open), interruption: Interruption::watch() };
    if !options.json {
        print(&format!("{}: {} gives, {} takes\n", before.name, here.name(), there.name()))?;
    }
    let steps = plan.carry_out(|line| if options.json { tell(line) } else { drop(print(&format!("{line}\n"))) })?;
    let forwards = here.status()?.forwarding.is_some();
    if options.json {
        let (resource, from, to) = (before.name.as_str(), here.name(), there.name());
        return print_json(&Report { resource, from, to, steps, forwards });
    }
    print(&format!(
        "{}: {} is Primary{}\n",
        before.name,
        there.name(),
        what_stays(&before, here.name(), open, forwards)
    ))?;
    if units[0] == UnitState::Active && open {
        let unit = systemd::primary_unit(&before.name);
        print(&format!(
            "{unit} stays active on {} for what uses the device; stop it when that has ended\n",
            here.name()
        ))?;
    }
    Ok(())
}

/// What is to be done, and by whom: 0 gives, 1 takes.
fn steps(units: [UnitState; 2], open: bool) -> Vec<Step> {
    let active = units[0] == UnitState::Active;
    let wanted = [
        (0, Act::Handover, true),
        (1, Act::StartUnit, active && units[1] != UnitState::Absent),
        (0, Act::StopUnit, active && !open),
    ];
    wanted.into_iter().filter(|(.., wanted)| *wanted).map(|(node, act, _)| Step { node, act }).collect()
}

fn is_open(status: &ResourceStatus) -> bool {
    status.volumes.iter().any(|volume| volume.open)
}

fn what_stays(status: &ResourceStatus, here: &str, open: bool, forwards: bool) -> String {
    match (open, forwards) {
        (true, true) => format!(
            "; the device stays open on {here}, and its requests are forwarded ('repctl status {}' shows them)",
            status.name
        ),
        (false, true) => format!("; nobody has the device open on {here}: it goes in a few seconds"),
        (_, false) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_go_along_where_they_can() {
        use UnitState::{Absent, Active, Inactive};
        let told = |units, open| steps(units, open).iter().map(|step| (step.node, step.act)).collect::<Vec<_>>();
        let (role, start, stop) = ((0, Act::Handover), (1, Act::StartUnit), (0, Act::StopUnit));
        assert_eq!(told([Absent, Absent], false), [role]);
        assert_eq!(told([Inactive, Inactive], false), [role]);
        assert_eq!(told([Active, Inactive], false), [role, start, stop]);
        assert_eq!(told([Active, Absent], false), [role, stop]);
        // What is mounted requires it.
        assert_eq!(told([Active, Inactive], true), [role, start]);
    }
}
