//! `resync`, and waiting for it with a progress bar.

use super::{verb, wait};
use crate::Failure;
use crate::cli::{Options, ResyncArguments};
use crate::output::{print_json, tell};
use crate::terminal::{bytes, seconds};
use indicatif::{ProgressBar, ProgressStyle};
use rep_control::api::{ApiError, ResourceStatus, Verb, VerbRequest, VolumeStatus};
use rep_types::{ConnectionState, DiskState, Refusal};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// In a pipe, a line this often.
const LINE_PAUSE: Duration = Duration::from_secs(5);

pub fn run(arguments: &ResyncArguments, options: &Options) -> Result<(), Failure> {
    let request = VerbRequest { full: arguments.full, from: arguments.from.clone(), ..Default::default() };
    let answer = verb::ask(&arguments.target, Verb::Resync, request, options)?;
    if arguments.wait {
        follow(&arguments.target.resource, options)?;
    }
    if options.json { print_json(&answer) } else { Ok(()) }
}

/// What of a resync is left, over all volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    pub total_bytes: u64,
    pub done_bytes: u64,
    pub rate_bytes_per_s: u64,
}

impl Progress {
    /// The progress of a resource; `None` while no resync runs.
    pub fn of(status: &ResourceStatus) -> Option<Progress> {
        let running: Vec<_> = status.volumes.iter().filter_map(|volume| volume.resync).collect();
        let sum = |part: fn(&rep_control::api::ResyncStatus) -> u64| running.iter().map(part).sum();
        (!running.is_empty()).then(|| Progress {
            total_bytes: sum(|resync| resync.total_bytes),
            done_bytes: sum(|resync| resync.done_bytes),
            rate_bytes_per_s: sum(|resync| resync.rate_bytes_per_s),
        })
    }

    fn words(&self) -> String {
        let left = self.total_bytes.saturating_sub(self.done_bytes);
        let eta = left.checked_div(self.rate_bytes_per_s).map_or("unknown".to_owned(), seconds);
        let (done, total, rate) = (bytes(self.done_bytes), bytes(self.total_bytes), bytes(self.rate_bytes_per_s));
        format!("{done} of {total}, {rate}/s, to go: {eta}")
    }
}

/// A progress bar on a terminal, a line now and then in a pipe.
pub struct ProgressView {
    what: &'static str,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl ProgressView {
    pub fn new(what: &'static str, quiet: bool) -> Self {
        let shows_bar = std::io::stderr().is_terminal() && !quiet;
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3} %  {msg}");
        let bar = style.ok().filter(|_| shows_bar).map(|style| {
            let bar = ProgressBar::new(0).with_prefix(what).with_style(style.progress_chars("=> "));
            bar.set_message("waiting for it to begin");
            bar
        });
        ProgressView { what, bar, last_line: Instant::now() }
    }

    pub fn show(&mut self, progress: &Progress) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(progress.total_bytes);
                bar.set_position(progress.done_bytes);
                bar.set_message(progress.words());
            }
            None if self.last_line.elapsed() >= LINE_PAUSE => {
                self.last_line = Instant::now();
                tell(format_args!("{}: {}", self.what, progress.words()));
            }
            None => {}
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// No link is wanted, or neither disk has data: the resync won't begin by itself.
fn waits_for_operator(status: &ResourceStatus) -> Option<Refusal> {
    let blank = |volume: &VolumeStatus| {
        (volume.disk, volume.peer_disk) == (DiskState::Inconsistent, DiskState::Inconsistent) && volume.resync.is_none()
    };
    match status.connection {
        ConnectionState::StandAlone => Some(Refusal::NotConnected),
        ConnectionState::Connected if status.volumes.iter().any(blank) => Some(Refusal::NoUpToDateDisk),
        _ => None,
    }
}

/// Waits until both replicas are identical; gives up when nothing has moved for `--timeout`.
pub fn follow(resource: &str, options: &Options) -> Result<(), ApiError> {
    let mut view = ProgressView::new("resync", options.json);
    let (mut moved, mut before) = (Instant::now(), None);
    loop {
        let status = wait::look(resource, options, Instant::now() + options.timeout)?;
        if wait::is_synced(&status) {
            view.finish();
            return Ok(());
        }
        if let Some(refusal) = wait::never_by_itself(&status).or_else(|| waits_for_operator(&status)) {
            let error = ApiError::refused(refusal, resource);
            return Err(ApiError { message: status.verdict, hint: None, ..error });
        }
        let progress = Progress::of(&status);
        if let Some(progress) = &progress {
            view.show(progress);
        }
        let now = progress.map(|progress| progress.done_bytes);
        if now != before {
            (moved, before) = (Instant::now(), now);
        }
        if moved.elapsed() >= options.timeout {
            let message =
                format!("the resync hasn't moved for {}: {}", seconds(options.timeout.as_secs()), status.verdict);
            return Err(ApiError::timed_out(message).with_hint("it goes on by itself once it can"));
        }
        std::thread::sleep(PAUSE);
    }
}
