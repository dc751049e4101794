//! `verify`: comparing both disks, and waiting for what it finds.
//!
//! What is waited for is one run, by its name: that it came to its end is read from the daemon, never guessed from there
//! being none under way. One that was stopped, whatever stopped it, has no result.

use super::resync::{self, Progress, ProgressView};
use super::{verb, wait};
use crate::Failure;
use crate::cli::{Options, VerifyArguments};
use crate::output::{print, print_json};
use crate::terminal::{bytes, seconds};
use rep_control::api::{
    ApiError, Detail, ErrorKind, ResourceStatus, Verb, VerbAnswer, VerbRequest, VerifiedVolume, VerifyRunState,
};
use rep_types::{ReplicationState, Role};
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

pub fn run(arguments: &VerifyArguments, options: &Options) -> Result<(), Failure> {
    if let Some(why) = elsewhere(arguments, options)? {
        return verb::tell(&VerbAnswer { message: Some(why), ..Default::default() }, options);
    }
    let request =
        VerbRequest { repair_from: arguments.repair_from.clone(), stop: arguments.stop, ..Default::default() };
    let answer = verb::ask(&arguments.target, Verb::Verify, request, options)?;
    if !arguments.wait {
        return if options.json { print_json(&answer) } else { Ok(()) };
    }
    let ended = follow(arguments, options)?;
    let message = judge(&ended, arguments)?;
    if arguments.repair_from.is_some() && ended.iter().any(|volume| volume.run.different_bytes > 0) {
        resync::follow(&arguments.target.resource, options)?;
    }
    let answer = VerbAnswer { verified: Some(ended), ..answer };
    if options.json { print_json(&answer) } else { print(&format!("{message}\n")) }
}

/// With `--on-one-node`: why it isn't this node that compares now.
fn elsewhere(arguments: &VerifyArguments, options: &Options) -> Result<Option<String>, ApiError> {
    if !arguments.on_one_node {
        return Ok(None);
    }
    let target = &arguments.target;
    let status = options.client().status(Some(&target.resource), options.timeout)?;
    let Some(resource) = status.resources.first() else { return Ok(None) };
    let peer = &resource.peer.name;
    let led = |volume: &rep_control::api::VolumeStatus| {
        volume.replication == ReplicationState::VerifyT && target.volume.is_none_or(|number| number == volume.number)
    };
    Ok(match (resource.role, resource.peer.role) {
        _ if resource.volumes.iter().any(led) => Some(format!("{peer} compares {target} already")),
        (Role::Primary, _) => None,
        (Role::Secondary, Some(Role::Primary)) => Some(format!("{peer} is Primary and compares {target}")),
        (Role::Secondary, _) if status.node < *peer => None,
        (Role::Secondary, _) => Some(format!("of two Secondaries {peer} compares {target}: its name sorts first")),
    })
}

/// Waits until no run that was asked for is under way, and says how they ended; gives up when nothing has moved for
/// `--timeout`.
fn follow(arguments: &VerifyArguments, options: &Options) -> Result<Vec<VerifiedVolume>, ApiError> {
    let resource = &arguments.target.resource;
    let mut view = ProgressView::new("verify", options.json);
    let mut began: Option<Vec<VerifiedVolume>> = None;
    let (mut moved, mut before) = (Instant::now(), 0);
    loop {
        let runs = runs(arguments, options)?;
        if began.as_ref().is_some_and(|began| !are_the_same(began, &runs)) {
            return Err(vanished(arguments));
        }
        if runs.iter().all(|volume| volume.run.state != VerifyRunState::Running) {
            view.finish();
            return Ok(runs);
        }
        let now: u64 = runs.iter().map(|volume| volume.run.compared_bytes).sum();
        if now != before {
            (moved, before) = (Instant::now(), now);
        }
        began.get_or_insert(runs);
        // What is shown meanwhile isn't what counts: whatever it was that went wrong, the next look tells.
        let status = wait::look(resource, options, Instant::now() + options.timeout);
        if let Some(progress) = status.as_ref().ok().and_then(progress) {
            view.show(&progress);
        }
        if moved.elapsed() >= options.timeout {
            let verdict = status.map_or_else(|error| error.message, |status| status.verdict);
            let message = format!("the verify hasn't moved for {}: {verdict}", seconds(options.timeout.as_secs()));
            return Err(ApiError::timed_out(message).with_hint("it goes on by itself once it can"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// How the wanted volumes' runs stand. What keeps that from being told ended them: a daemon that is gone knows nothing of
/// them any more.
fn runs(arguments: &VerifyArguments, options: &Options) -> Result<Vec<VerifiedVolume>, ApiError> {
    let detail = options.client().detail(&arguments.target.resource, options.timeout);
    let detail: Detail = detail.map_err(|error| match error.error {
        ErrorKind::TimedOut | ErrorKind::Usage => error,
        _ => ApiError { message: format!("{}: {}", vanished(arguments).message, error.message), ..vanished(arguments) },
    })?;
    let wanted = |number: u16| arguments.target.volume.is_none_or(|volume| volume == number);
    let volumes = detail.volumes.into_iter().filter(|volume| wanted(volume.number));
    let run = |volume: rep_control::api::VolumeDetail| {
        Some(VerifiedVolume { volume: volume.number, run: volume.verify_run? })
    };
    volumes.map(run).collect::<Option<Vec<_>>>().ok_or_else(|| vanished(arguments))
}

fn are_the_same(began: &[VerifiedVolume], now: &[VerifiedVolume]) -> bool {
    let names = |runs: &[VerifiedVolume]| runs.iter().map(|volume| (volume.volume, volume.run.run)).collect::<Vec<_>>();
    names(began) == names(now)
}

fn progress(status: &ResourceStatus) -> Option<Progress> {
    let running: Vec<_> = status.volumes.iter().filter_map(|volume| volume.verify).collect();
    let sum = |part: fn(&rep_control::api::VerifyStatus) -> u64| running.iter().map(part).sum();
    (!running.is_empty()).then(|| Progress {
        total_bytes: sum(|verify| verify.total_bytes),
        done_bytes: sum(|verify| verify.done_bytes),
        rate_bytes_per_s: sum(|verify| verify.rate_bytes_per_s),
    })
}

/// What runs that ended have to say, in one sentence; an error unless every block was compared and nothing differs now,
/// or soon will.
fn judge(ended: &[VerifiedVolume], arguments: &VerifyArguments) -> Result<String, ApiError> {
    if let Some(stopped) = ended.iter().find(|volume| volume.run.state != VerifyRunState::Completed) {
        return Err(interrupted(stopped, ended.len() > 1, arguments));
    }
    let sum = |part: fn(&VerifiedVolume) -> u64| ended.iter().map(part).sum::<u64>();
    let (different, marked) = (sum(|volume| volume.run.different_bytes), sum(|volume| volume.run.marked_bytes));
    if different == 0 {
        return Ok(format!("the disks are the same{}", where_it_went_on(ended)));
    }
    if arguments.repair_from.is_some() {
        return Ok(format!("{} differed and were made equal", bytes(different)));
    }
    if marked == 0 {
        return Ok(format!(
            "the disks are the same now: {} differed when they were compared and have been made equal since",
            bytes(different)
        ));
    }
    let mended = match different.saturating_sub(marked) {
        0 => String::new(),
        mended => format!("; {} more did and have been made equal since", bytes(mended)),
    };
    let message = format!(
        "{} differ between the two disks; they are marked out-of-sync{mended}{}",
        bytes(marked),
        where_it_went_on(ended)
    );
    let resource = &arguments.target.resource;
    let hint = format!(
        "to copy them from the node that is right: 'repctl verify {resource} --repair-from NODE', or 'repctl resync \
         {resource}', which copies from the Primary"
    );
    Err(ApiError::failed("DisksDiffer", message).with_hint(hint))
}

/// What wasn't compared this time, but before an interruption.
fn where_it_went_on(ended: &[VerifiedVolume]) -> String {
    let went_on = ended.iter().filter(|volume| volume.run.resumed_at_bytes > 0);
    let places: Vec<_> = went_on
        .map(|volume| match ended.len() {
            1 => bytes(volume.run.resumed_at_bytes),
            _ => format!("{} of volume {}", bytes(volume.run.resumed_at_bytes), volume.volume),
        })
        .collect();
    match places.is_empty() {
        true => String::new(),
        false => format!("; the first {} had been compared before an interruption", places.join(", ")),
    }
}

/// How it goes on after an interruption.
fn again(arguments: &VerifyArguments) -> String {
    let repair = arguments.repair_from.as_ref().map(|node| format!(" --repair-from {node}")).unwrap_or_default();
    format!("once the nodes are connected and in sync run 'repctl verify {}{repair} --wait' again", arguments.target)
}

/// It was stopped before its end.
fn interrupted(stopped: &VerifiedVolume, several: bool, arguments: &VerifyArguments) -> ApiError {
    let run = &stopped.run;
    let of = if several { format!(", volume {}", stopped.volume) } else { String::new() };
    let reason = run.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let found = match run.marked_bytes {
        0 => String::new(),
        marked => format!("; {} found to differ so far are marked out-of-sync", bytes(marked)),
    };
    let (place, hint) = match run.compared_bytes {
        0 => ("at its beginning".to_owned(), format!("{}: it begins anew", again(arguments))),
        compared => (
            format!("after {}", bytes(compared)),
            format!("{}: it goes on there, as long as this daemon lives", again(arguments)),
        ),
    };
    let target = &arguments.target;
    let message = format!(
        "the verify of {target}{of} was interrupted {place}{reason}; whether the disks are the same isn't known{found}"
    );
    ApiError::failed("VerifyInterrupted", message).with_hint(hint)
}

/// Nobody knows of it any more.
fn vanished(arguments: &VerifyArguments) -> ApiError {
    let message = format!(
        "the verify of {} ended without a result, and nothing of it is left: the daemon ended, or let go of a disk",
        arguments.target
    );
    ApiError::failed("VerifyInterrupted", message).with_hint(format!("{}: it begins anew", again(arguments)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser;
    use rep_control::api::VerifyRunDetail;

    fn arguments(line: &str) -> VerifyArguments {
        let parsed = Arguments::try_parse_from(line.split(' ')).expect("a command line");
        let Command::Verify(arguments) = parsed.command else { panic!("another verb") };
        arguments
    }

    fn ended(state: VerifyRunState, different_bytes: u64, marked_bytes: u64) -> Vec<VerifiedVolume> {
        let run = VerifyRunDetail {
            run: 1,
            state,
            reason: None,
            compared_bytes: 8 << 20,
            resumed_at_bytes: 0,
            different_bytes,
            marked_bytes,
        };
        vec![VerifiedVolume { volume: 0, run }]
    }

    fn judged(line: &str, ended: &[VerifiedVolume]) -> Result<String, (String, String)> {
        judge(ended, &arguments(line)).map_err(|error| (error.reason.clone(), error.message))
    }

    #[test]
    fn only_a_run_that_came_to_its_end_says_that_nothing_differs() {
        use VerifyRunState::*;
        let line = "repctl verify vz --wait";
        assert_eq!(judged(line, &ended(Completed, 0, 0)), Ok("the disks are the same".into()));
        for (line, state) in [(line, Stopped), (line, Running), ("repctl verify vz --wait --repair-from beta", Stopped)]
        {
            let (reason, message) = judged(line, &ended(state, 0, 0)).unwrap_err();
            assert_eq!(reason, "VerifyInterrupted");
            assert!(
                message.contains("interrupted after 8.00 MiB; whether the disks are the same isn't known"),
                "{message}"
            );
        }
        let mut stopped = ended(Stopped, 4096, 4096);
        stopped[0].run.reason = Some("the connection was lost: closed".into());
        let (_, message) = judged(line, &stopped).unwrap_err();
        assert!(message.contains("8.00 MiB (the connection was lost: closed);"), "{message}");
        assert!(message.ends_with("; 4.00 KiB found to differ so far are marked out-of-sync"), "{message}");
        let error = judge(&stopped, &arguments("repctl verify vz/0 --wait --repair-from beta")).unwrap_err();
        assert!(
            error
                .hint
                .is_some_and(|hint| hint.contains("'repctl verify vz/0 --repair-from beta --wait' again: it goes on"))
        );
    }

    #[test]
    fn what_has_been_made_equal_since_is_not_called_marked() {
        use VerifyRunState::Completed;
        let line = "repctl verify vz --wait";
        let (reason, message) = judged(line, &ended(Completed, 8192, 8192)).unwrap_err();
        assert_eq!(reason, "DisksDiffer");
        assert_eq!(message, "8.00 KiB differ between the two disks; they are marked out-of-sync");
        let (_, message) = judged(line, &ended(Completed, 8192, 4096)).unwrap_err();
        assert!(message.ends_with("out-of-sync; 4.00 KiB more did and have been made equal since"), "{message}");
        let mended = judged(line, &ended(Completed, 8192, 0)).expect("nothing differs now");
        assert!(mended.starts_with("the disks are the same now: 8.00 KiB differed"), "{mended}");
    }

    #[test]
    fn what_was_compared_before_an_interruption_is_told() {
        let mut ended = ended(VerifyRunState::Completed, 0, 0);
        ended[0].run.resumed_at_bytes = 2 << 20;
        assert_eq!(
            judged("repctl verify vz --wait", &ended),
            Ok("the disks are the same; the first 2.00 MiB had been compared before an interruption".into())
        );
    }
}
