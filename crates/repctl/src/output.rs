//! What is said on stdout and stderr. A reader that left ends the program quietly; a full file system under stdout is an
//! error, for whoever reads the output would take a part for the whole. stderr is for people: what can't be said there
//! is dropped.

use crate::Failure;
use rep_control::api::{ApiError, ExitCode};
use std::fmt::Display;
use std::io::{self, Write};

/// Prints to stdout, as it is.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(failure)
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| failure(error.into()))?;
    print(&(text + "\n"))
}

/// Says a line on stderr.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::Code(ExitCode::Done);
    }
    let message = format!("the answer could not be written to stdout: {error}");
    ApiError::failed("OutputFailed", message).with_hint("what the verb did is done; see 'repctl status'").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is_one() {
        assert!(matches!(failure(io::ErrorKind::BrokenPipe.into()), Failure::Code(ExitCode::Done)));
        let Failure::Error(error) = failure(io::ErrorKind::StorageFull.into()) else { panic!("another failure") };
        assert_eq!((error.reason.as_str(), error.exit_code), ("OutputFailed", 1));
    }
}
