//! Verbs that are one request to the daemon.

use crate::cli::{Command, ConnectArguments, Options};
use crate::target::Target;
use crate::{Failure, print_json};
use rep_control::api::{Verb, VerbAnswer, VerbRequest};

/// Asks for a verb that needs nothing more.
pub fn run(command: Command, options: &Options) -> Result<(), Failure> {
    match command.as_verb() {
        Some((target, verb, request)) => ask(&target, verb, request, options).map(|answer| tell(&answer, options)),
        // Every other command has its own function; `main` sends nothing else here.
        None => unreachable!("a command without a verb"),
    }
}

/// `connect`.
pub fn connect(arguments: &ConnectArguments, options: &Options) -> Result<(), Failure> {
    let request =
        VerbRequest { plan: arguments.plan, discard_my_data: arguments.discard_my_data, ..Default::default() };
    ask(&arguments.target, Verb::Connect, request, options).map(|answer| tell(&answer, options))
}

/// One request.
pub fn ask(target: &Target, verb: Verb, request: VerbRequest, options: &Options) -> Result<VerbAnswer, Failure> {
    let request = VerbRequest { volume: target.volume, ..request };
    Ok(options.client().verb(&target.resource, verb, &request, options.timeout)?)
}

fn tell(answer: &VerbAnswer, options: &Options) {
    if options.json {
        return print_json(answer);
    }
    if let Some(message) = &answer.message {
        println!("{message}");
    }
    for entry in answer.plan.iter().flatten() {
        println!("volume {}: {}", entry.volume, entry.sentence);
    }
}
