//! `events`: what happens, until interrupted.

use crate::Failure;
use crate::cli::Options;
use rep_control::api::ApiError;
use std::io::Write;

pub fn run(options: &Options) -> Result<(), Failure> {
    let events = options.client().events(options.timeout)?;
    let mut out = std::io::stdout().lock();
    for event in events {
        let event = event?;
        let line = if options.json { serde_json::to_string(&event).unwrap_or_default() } else { event.to_string() };
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
    let error = ApiError::failed("ConnectionLost", "the daemon ended");
    Err(error.with_hint("run 'repctl events' again when it is back").into())
}
