//! `status`, once or again and again.

use crate::cli::{Options, StatusArguments};
use crate::output::{print, print_json};
use crate::view;
use crate::{Failure, terminal};
use rep_control::api::{ApiError, ErrorKind, Status, format_time};
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

/// The pause between two looks with `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

pub fn run(arguments: &StatusArguments, options: &Options) -> Result<(), Failure> {
    if arguments.watch {
        return watch(arguments, options);
    }
    let status = ask(arguments, options)?;
    if options.json { print_json(&status) } else { print(&view::status(&status, terminal::stdout_has_color())) }
}

fn ask(arguments: &StatusArguments, options: &Options) -> Result<Status, ApiError> {
    let target = arguments.target.as_ref();
    let mut status = options.client().status(target.map(|target| target.resource.as_str()), options.timeout)?;
    if let Some(number) = target.and_then(|target| target.volume) {
        for resource in &mut status.resources {
            let known: Vec<_> = resource.volumes.iter().map(|volume| volume.number.to_string()).collect();
            resource.volumes.retain(|volume| volume.number == number);
            if resource.volumes.is_empty() {
                return Err(no_such_volume(&resource.name, number, &known));
            }
        }
    }
    Ok(status)
}

/// The error about a volume that isn't there.
pub fn no_such_volume(resource: &str, number: u16, known: &[String]) -> ApiError {
    ApiError::new(ErrorKind::Refused, "NoSuchVolume", format!("{resource} has no volume {number}"))
        .with_hint(format!("it has: {}", known.join(", ")))
}

/// Shows the state until interrupted. A daemon that goes away is shown as such: it may come back.
fn watch(arguments: &StatusArguments, options: &Options) -> Result<(), Failure> {
    let clears = std::io::stdout().is_terminal() && !options.json;
    let mut first = true;
    loop {
        let text = match ask(arguments, options) {
            Ok(status) if options.json => serde_json::to_string(&status).unwrap_or_default() + "\n",
            Ok(status) => view::status(&status, terminal::stdout_has_color()),
            Err(error) if first => return Err(error.into()),
            Err(error) if options.json => serde_json::to_string(&error).unwrap_or_default() + "\n",
            Err(error) => format!("{}\n", error.sentence()),
        };
        let text = match (clears, options.json) {
            (true, _) => format!("\x1b[H\x1b[2J{text}"),
            // In a pipe one look must be told from the next.
            (false, false) => format!("{}{}\n{text}", if first { "" } else { "\n" }, format_time(SystemTime::now())),
            (false, true) => text,
        };
        first = false;
        print(&text)?;
        std::thread::sleep(WATCH_PAUSE);
    }
}
