//! `repctl`: the operator's command. It asks the daemon over its control socket; only `create-md`, `dump-md`,
//! `archive` and `config` work on disks and files themselves, because they must work without a daemon.
//!
//! Invariants: every verb ends by its deadline; every error is one sentence on stderr that says what to do next, and
//! an exit code of the contract; with `--json` stdout is JSON and nothing else, also when something went wrong.

mod archive;
mod cli;
mod commands;
mod demo;
mod links;
mod metadata;
mod mounting;
mod output;
mod program;
mod switchover;
mod systemd;
mod target;
mod terminal;
mod view;

use clap::Parser;
use cli::{Arguments, Command};
use output::{print_json, tell};
use rep_control::api::{ApiError, ExitCode};
use rep_control::config::ConfigErrors;

fn main() -> std::process::ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misuse(&error),
    };
    let json = arguments.options.json;
    match run(arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => failure.tell(json),
    }
}

/// Help and version, which were asked for, and arguments that make no sense.
fn misuse(error: &clap::Error) -> std::process::ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return std::process::ExitCode::SUCCESS;
    }
    // The arguments weren't understood, so whether JSON is wanted can only be looked for.
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let paragraph: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
        let message = paragraph.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let _ = print_json(&ApiError::usage("BadUsage", message).with_hint("see 'repctl --help'"));
    }
    (ExitCode::Usage as u8).into()
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let options = &arguments.options;
    match arguments.command {
        Command::Demo(demo) => demo::run(&demo, options),
        Command::CreateMd(create) => metadata::create(&create, options),
        Command::DumpMd(dump) => metadata::dump(&dump, options),
        Command::Config(config) => commands::config::run(config, options),
        Command::Archive(archive) => archive::run(&archive, options),
        Command::Primary(primary) => commands::primary::run(&primary, options),
        Command::Switchover(switchover) => switchover::run(&switchover, options),
        Command::Handover(handover) => switchover::run_handover(handover, options),
        Command::SwitchoverStep(step) => switchover::run_step(&step, options),
        Command::Links(links) => commands::links::run(&links, options),
        Command::DeviceName(device) => commands::device_name::run(&device),
        Command::Adjust(adjust) => commands::adjust::run(&adjust, options),
        Command::Verify(verify) => commands::verify::run(&verify, options),
        Command::Status(status) => commands::status::run(&status, options),
        Command::Top(top) => commands::top::run(&top, options),
        Command::Events(events) => commands::events::run(&events, options),
        Command::ShowGi(target) => commands::generations::show(&target.target, options),
        Command::SplitBrain(split_brain) => commands::split_brain::run(&split_brain, options),
        Command::Wait(wait) => commands::wait::run(&wait, options),
        Command::Resync(resync) => commands::resync::run(&resync, options),
        Command::Connect(connect) => commands::verb::connect(&connect, options),
        Command::Completions(completions) => commands::documents::completions(&completions),
        Command::Man(man) => commands::documents::man(&man),
        verb => commands::verb::run(verb, options),
    }
}

/// Why the program ends with another code than 0, or early.
pub enum Failure {
    /// An error with its sentence.
    Error(Box<ApiError>),
    /// A configuration that doesn't hold.
    Config(ConfigErrors),
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
        let error = match self {
            Failure::Error(error) => {
                error.problems.iter().for_each(|problem| tell(problem_words(problem)));
                tell(format_args!("repctl: {}: {}", error.reason, error.sentence()));
                *error
            }
            Failure::Config(errors) => {
                tell(errors.render(terminal::stderr_has_color()).trim_end());
                ApiError::from(&errors)
            }
            Failure::Code(code) => return (code as u8).into(),
        };
        if json {
            let _ = print_json(&error);
        }
        error.exit_code.into()
    }
}

/// A problem of a configuration the daemon read: file, line, what, and what is expected.
fn problem_words(problem: &rep_control::api::ConfigProblem) -> String {
    let place = match (&problem.file, problem.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        _ => String::new(),
    };
    let more = problem.expected.iter().chain(&problem.help).map(|more| format!("; {more}"));
    format!("{place}{}: {}{}", problem.severity, problem.message, more.collect::<String>())
}
