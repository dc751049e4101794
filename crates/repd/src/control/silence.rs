//! This node's own disk when it doesn't answer, in words: who waits for it, and the command that ends the waiting.

use rep_engine::{Snapshot, VolumeSnapshot};
use rep_types::{ConnectionState, DiskState, Role};
use std::time::Duration;

/// A disk is told to be silent from here on: whole disks take less, also when they are busy.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// The volume as a command names it.
fn target(engine: &Snapshot, volume: &VolumeSnapshot, name: &str) -> String {
    if engine.volumes.len() == 1 { name.to_owned() } else { format!("{name}/{}", volume.number) }
}

/// A disk that has been silent for a while.
pub fn words(engine: &Snapshot, name: &str, peer: &str) -> Option<String> {
    let silent = |volume: &&VolumeSnapshot| volume.disk_unanswered.is_some_and(|silent| silent >= SILENT_AFTER);
    let volume = engine.volumes.iter().find(silent)?;
    let seconds = volume.disk_unanswered?.as_secs();
    let target = target(engine, volume, name);
    let connected = engine.connection == ConnectionState::Connected;
    let good_there = connected && volume.peer_disk == DiskState::UpToDate;
    Some(match (engine.role, good_there) {
        (Role::Primary, true) => format!(
            "clients wait: this disk hasn't answered for {seconds} s; run 'repctl detach {target}' and they go on at {peer}'s"
        ),
        (Role::Primary, false) => format!(
            "clients wait: this disk hasn't answered for {seconds} s, and no other good one is in reach; look at the kernel's \
             log; with 'repctl detach {target} --force' they get errors instead, or what on-no-data says"
        ),
        (Role::Secondary, _) if connected && engine.peer_role == Some(Role::Primary) => format!(
            "this disk hasn't answered for {seconds} s, and clients of {peer} wait for it; run 'repctl detach {target} \
             --force' and they go on"
        ),
        (Role::Secondary, _) => format!(
            "this disk hasn't answered for {seconds} s; look at the kernel's log; 'repctl detach {target} --force' lets go of \
             it"
        ),
    })
}

/// What a node without a disk is told to do about it.
pub fn attach_words(engine: &Snapshot, volume: &VolumeSnapshot, name: &str) -> String {
    let attach = format!("run 'repctl attach {}'", target(engine, volume, name));
    match volume.old_operations {
        0 => attach,
        left => format!(
            "{left} operations of the disk it let go of haven't come back from there yet; when they have, {attach}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::{engine, volume};

    fn said(role: Role, connection: ConnectionState, volume: VolumeSnapshot) -> Option<String> {
        let peer_role = (connection == ConnectionState::Connected).then_some(match role {
            Role::Primary => Role::Secondary,
            Role::Secondary => Role::Primary,
        });
        words(&Snapshot { peer_role, ..engine(role, connection, volume) }, "vz", "beta")
    }

    #[test]
    fn a_disk_that_is_only_busy_is_none_that_is_silent() {
        for unanswered in [None, Some(Duration::from_millis(2900))] {
            let busy = VolumeSnapshot { disk_unanswered: unanswered, ..volume() };
            assert_eq!(said(Role::Primary, ConnectionState::Connected, busy), None);
        }
    }

    #[test]
    fn a_silent_disk_is_told_with_the_command_that_ends_the_waiting() {
        let silent = VolumeSnapshot { disk_unanswered: Some(Duration::from_millis(12_345)), ..volume() };
        let alone = VolumeSnapshot { peer_disk: DiskState::DUnknown, ..silent.clone() };
        let told = [
            (
                said(Role::Primary, ConnectionState::Connected, silent.clone()),
                "run 'repctl detach vz' and they go on at beta's",
            ),
            (
                said(Role::Primary, ConnectionState::Connecting, alone.clone()),
                "'repctl detach vz --force' they get errors",
            ),
            (
                said(Role::Secondary, ConnectionState::Connected, silent),
                "run 'repctl detach vz --force' and they go on",
            ),
            (said(Role::Secondary, ConnectionState::Connecting, alone), "'repctl detach vz --force' lets go of it"),
        ];
        for (sentence, way_out) in told {
            let sentence = sentence.expect("it is told");
            assert!(sentence.contains("hasn't answered for 12 s") && sentence.contains(way_out), "{sentence}");
        }
    }

    #[test]
    fn of_several_volumes_the_one_is_named() {
        let silent = VolumeSnapshot { disk_unanswered: Some(Duration::from_secs(5)), ..volume() };
        let mut engine = engine(Role::Primary, ConnectionState::Connected, volume());
        engine.volumes.push(VolumeSnapshot { number: rep_types::VolumeNumber(1), ..silent });
        assert!(words(&engine, "vz", "beta").is_some_and(|told| told.contains("'repctl detach vz/1'")));
    }

    #[test]
    fn operations_that_are_still_out_are_told_before_the_attach() {
        let bare = VolumeSnapshot { disk: DiskState::Diskless, old_operations: 2, ..volume() };
        let engine = engine(Role::Primary, ConnectionState::Connected, bare);
        let told = attach_words(&engine, &engine.volumes[0], "vz");
        assert!(told.starts_with("2 operations") && told.ends_with("run 'repctl attach vz'"), "{told}");
    }
}
