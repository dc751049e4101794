//! `switchover`: the two nodes change their roles, and a mounted file system goes along.
//!
//! ```text
//!   the one that gives              the one that takes
//!   remove the links
//!   unmount
//!   secondary
//!   stop the unit
//!                                   primary
//!                                   start the unit
//!                                   mount
//!                                   make the links
//! ```
//! The unit is `repd-primary@RESOURCE`, where systemd has it and it is active. Left active on a node that isn't Primary any more, it
//! would be taken for done by whatever requires it, and the next `systemctl start` of a mount there would promote nothing.
//!
//! Every step can be done again without harm, and has an opposite. When one fails, the opposites of those that were done
//! follow in reverse order: what was so is so again, or it is said what isn't. Nothing is begun before both nodes have
//! answered and agree that it can go well.
//!
//! The other node is reached by a command in front of `repctl` (`--via`, by default ssh): there the very same program
//! does that node's steps. Why not through the daemons: decision 22.

mod handover;
mod node;
mod run;
mod step;

pub use handover::run as run_handover;
pub use step::{link_error, links_of, run as run_step};

use crate::Failure;
use crate::cli::{Options, SwitchoverArguments};
use crate::output::{print, print_json, tell};
use crate::systemd::UnitState;
use node::{Here, Node, There};
use rep_control::api::{ApiError, ErrorKind, ResourceStatus, VolumeStatus};
use rep_types::{ConnectionState, DiskState, Refusal, Role};
use run::{Act, Interruption, Plan, Step};
use serde::Serialize;
use step::Facts;

/// What became of a switchover.
#[derive(Serialize)]
struct Report<'a> {
    resource: &'a str,
    from: &'a str,
    to: &'a str,
    steps: Vec<run::StepReport>,
}

pub fn run(arguments: &SwitchoverArguments, options: &Options) -> Result<(), Failure> {
    let here = Here::new(arguments, options)?;
    let status = here.status()?;
    // Whoever is Primary: two that went apart have no roles to change.
    if let Some(refusal) = crate::commands::wait::never_by_itself(&status) {
        return Err(ApiError::refused(refusal, &status.name).into());
    }
    let there = There::new(arguments, options, &status.peer.name)?;
    let (from, to): (&dyn Node, &dyn Node) = match (status.role, status.peer.role) {
        (Role::Primary, _) => (&here, &there),
        (Role::Secondary, Some(Role::Primary)) => (&there, &here),
        (Role::Secondary, _) => return Err(nobody_is_primary(&status).into()),
    };
    refuse_unless_in_sync(&status)?;
    // Both answer, before anything is taken from anybody.
    let facts = [from.facts()?, to.facts()?];
    refuse_mounted(to, facts[1], arguments)?;
    let plan = Plan { nodes: [from, to], steps: steps(arguments, facts), interruption: Interruption::watch() };
    if !options.json {
        print(&format!("{}: {} gives, {} takes\n", status.name, from.name(), to.name()))?;
    }
    let steps = plan.carry_out(|line| if options.json { tell(line) } else { drop(print(&format!("{line}\n"))) })?;
    if options.json {
        return print_json(&Report { resource: &status.name, from: from.name(), to: to.name(), steps });
    }
    print(&format!("{}: {} is Primary\n", status.name, to.name()))
}

/// What is to be done, and by whom: 0 gives, 1 takes.
fn steps(arguments: &SwitchoverArguments, facts: [Facts; 2]) -> Vec<Step> {
    let mount = arguments.mount.is_some();
    let unit = facts[0].unit == UnitState::Active;
    let wanted = [
        (0, Act::RemoveLinks, mount && facts[0].links > 0),
        (0, Act::Unmount, mount && facts[0].mounted),
        (0, Act::Secondary, true),
        (0, Act::StopUnit, unit),
        (1, Act::Primary, true),
        (1, Act::StartUnit, unit && facts[1].unit != UnitState::Absent),
        (1, Act::Mount, mount),
        (1, Act::MakeLinks, mount && facts[1].links > 0),
    ];
    wanted.into_iter().filter(|(.., wanted)| *wanted).map(|(node, act, _)| Step { node, act }).collect()
}

fn nobody_is_primary(status: &ResourceStatus) -> ApiError {
    let message = format!("neither node of {} is known to be Primary, so nothing can be switched over", status.name);
    ApiError::new(ErrorKind::Refused, "NobodyIsPrimary", message)
        .with_hint(format!("run 'repctl primary {}' on the node that shall be", status.name))
}

/// The one that takes must have all there is, and it must be in sync afterwards, too.
fn refuse_unless_in_sync(status: &ResourceStatus) -> Result<(), ApiError> {
    let name = &status.name;
    let hint = format!("'repctl wait {name} synced' waits until it can be done");
    let refused = |what: String| ApiError::new(ErrorKind::Refused, "NotInSync", what).with_hint(hint.clone());
    if status.connection != ConnectionState::Connected {
        return Err(refused(format!("{name} isn't connected: {}", status.verdict)));
    }
    if let Some(why) = &status.io_suspended {
        return Err(refused(format!("client I/O of {name} is suspended: {why}")));
    }
    let behind =
        |volume: &&VolumeStatus| [volume.disk, volume.peer_disk].iter().any(|disk| *disk != DiskState::UpToDate);
    match status.volumes.iter().find(behind) {
        Some(volume) => Err(refused(format!("volume {} of {name} isn't in sync: {}", volume.number, status.verdict))),
        None => Ok(()),
    }
}

fn refuse_mounted(to: &dyn Node, facts: Facts, arguments: &SwitchoverArguments) -> Result<(), ApiError> {
    if !facts.mounted {
        return Ok(());
    }
    let place = arguments.mount.as_deref().unwrap_or(std::path::Path::new("/")).display();
    let message = format!("{place} on {} is a mount already, though that node is Secondary", to.name());
    let error = ApiError::refused(Refusal::DeviceIsOpen, &arguments.target.resource);
    Err(ApiError { message, ..error }.with_hint(format!("see what it is and unmount it there: 'findmnt {place}'")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn only_what_is_there_is_taken_down_and_put_up() {
        let arguments = |words: &[&str]| {
            let parsed = crate::cli::Arguments::try_parse_from([&["repctl", "switchover", "vz"], words].concat());
            let crate::cli::Command::Switchover(arguments) = parsed.unwrap().command else { panic!("another verb") };
            arguments
        };
        let told = |words: &[&str], from: Facts, to: Facts| -> Vec<_> {
            steps(&arguments(words), [from, to]).iter().map(|step| (step.node, step.act)).collect()
        };
        let none = Facts::default();
        assert_eq!(told(&[], none, none), [(0, Act::Secondary), (1, Act::Primary)]);
        let mount = ["--mount", "/vz"];
        assert_eq!(told(&mount, none, none), [(0, Act::Secondary), (1, Act::Primary), (1, Act::Mount)]);
        let from = Facts { mounted: true, links: 2, unit: UnitState::Active };
        let to = Facts { mounted: false, links: 2, unit: UnitState::Inactive };
        let all = told(&mount, from, to);
        assert_eq!(all.len(), 8);
        assert_eq!((all[0], all[7]), ((0, Act::RemoveLinks), (1, Act::MakeLinks)));
        // The unit goes along where it is active, and where the other has it; one that stands idle stays as it is.
        let unit = |unit| Facts { unit, ..none };
        let (absent, idle, active) = (unit(UnitState::Absent), unit(UnitState::Inactive), unit(UnitState::Active));
        let both = [(0, Act::Secondary), (0, Act::StopUnit), (1, Act::Primary), (1, Act::StartUnit)];
        assert_eq!(told(&[], active, idle), both);
        assert_eq!(told(&[], active, absent), both[..3]);
        assert_eq!(told(&[], idle, active), [(0, Act::Secondary), (1, Act::Primary)]);
    }
}
