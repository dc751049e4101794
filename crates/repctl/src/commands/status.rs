//! `status`, once or again and again.

use crate::cli::{Options, StatusArguments};
use crate::view;
use crate::{Failure, print_json, terminal};
use rep_control::api::{ApiError, Status};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// The pause between two looks with `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

pub fn run(arguments: &StatusArguments, options: &Options) -> Result<(), Failure> {
    if arguments.watch {
        return watch(arguments, options);
    }
    let status = ask(arguments, options)?;
    if options.json {
        print_json(&status);
    } else {
        print(&view::status(&status, terminal::stdout_has_color()));
    }
    Ok(())
}

fn ask(arguments: &StatusArguments, options: &Options) -> Result<Status, ApiError> {
    let target = arguments.target.as_ref();
    let mut status = options.client().status(target.map(|target| target.resource.as_str()), options.timeout)?;
    if let Some(number) = target.and_then(|target| target.volume) {
        for resource in &mut status.resources {
            resource.volumes.retain(|volume| volume.number == number);
        }
    }
    Ok(status)
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
            Err(error) => format!("{}\n", error.sentence()),
        };
        first = false;
        let text = if clears { format!("\x1b[H\x1b[2J{text}") } else { text };
        if !print(&text) {
            return Ok(());
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

/// Prints; false when the reader left.
fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
