//! Completions for shells and manual pages, made from the command line itself.

use crate::Failure;
use crate::cli::{Arguments, CompletionsArguments, ManArguments};
use crate::output::print;
use clap::CommandFactory;
use rep_control::api::ApiError;
use std::path::Path;

/// Prints a shell's completions.
pub fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "repctl", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Prints the manual page, or writes one for each verb into a directory.
pub fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        ApiError::failed("CannotWrite", format!("{} can't be written: {error}", path.display()))
            .with_hint("name another directory")
    };
    match &arguments.directory {
        Some(directory) => {
            clap_mangen::generate_to(Arguments::command(), directory).map_err(|error| failed(directory, error))?;
            Ok(())
        }
        None => {
            let mut text = Vec::new();
            let page = clap_mangen::Man::new(Arguments::command());
            page.render(&mut text).map_err(|error| failed(Path::new("stdout"), error))?;
            print(&String::from_utf8_lossy(&text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_and_every_verb_is_served() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "repctl", &mut text);
            assert!(String::from_utf8(text).unwrap().contains("split-brain"), "{shell}");
        }
        let directory = tempfile::tempdir().unwrap();
        let arguments = ManArguments { directory: Some(directory.path().to_owned()) };
        assert!(man(&arguments).is_ok());
        for page in ["repctl.1", "repctl-primary.1", "repctl-create-md.1"] {
            let text = std::fs::read_to_string(directory.path().join(page)).unwrap();
            assert!(text.contains(".TH"), "{page}");
        }
    }
}
