//! `repctl`: the operator's command. It asks the daemon over its control socket; only `create-md`, `dump-md` and
//! `config` work on disks and files themselves, because they must work without a daemon.
//!
//! Invariants: every verb ends by its deadline; every error is one sentence on stderr that says what to do next, and
//! an exit code of the contract.

mod cli;
mod commands;
mod demo;
mod metadata;
mod target;
mod terminal;
mod view;

use clap::Parser;
use cli::{Arguments, Command};
use rep_control::api::{ApiError, ExitCode};
use std::io::Write;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.options.json;
    match run(arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => failure.tell(json),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let options = &arguments.options;
    match arguments.command {
        Command::Demo(demo) => demo::run(&demo, options),
        Command::CreateMd(create) => metadata::create(&create, options),
        Command::DumpMd(dump) => metadata::dump(&dump, options),
        Command::Config(config) => commands::config::run(config, options),
        Command::Adjust(adjust) => commands::config::adjust(&adjust),
        Command::Status(status) => commands::status::run(&status, options),
        Command::Events => commands::events::run(options),
        Command::ShowGi(target) => commands::generations::show(&target.target, options),
        Command::SplitBrain(split_brain) => commands::split_brain::run(&split_brain, options),
        Command::Wait(wait) => commands::wait::run(&wait, options),
        Command::Resync(resync) => commands::resync::run(&resync, options),
        Command::Connect(connect) => commands::verb::connect(&connect, options),
        verb => commands::verb::run(verb, options),
    }
}

/// Why the program ends with another code than 0.
pub enum Failure {
    /// An error with its sentence.
    Error(Box<ApiError>),
    /// A configuration that doesn't hold, already worded.
    Config(String),
    /// Everything has been said; only the code is left.
    Code(ExitCode),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Error(Box::new(error))
    }
}

impl Failure {
    fn tell(self, json: bool) -> std::process::ExitCode {
        match self {
            Failure::Error(error) => {
                eprintln!("repctl: {}: {}", error.reason, error.sentence());
                if json {
                    print_json(&error);
                }
                error.exit_code.into()
            }
            Failure::Config(text) => {
                eprint!("{text}");
                (ExitCode::Config as u8).into()
            }
            Failure::Code(code) => (code as u8).into(),
        }
    }
}

/// Prints a value as one line of JSON. A reader that left is no error.
pub fn print_json(value: &impl serde::Serialize) {
    let text = serde_json::to_string(value).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{text}");
}
