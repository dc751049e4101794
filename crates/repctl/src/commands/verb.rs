//! Verbs that are one request to the daemon.

use crate::Failure;
use crate::cli::{Command, ConnectArguments, Options};
use crate::output::{print, print_json};
use crate::target::Target;
use rep_control::api::{Verb, VerbAnswer, VerbRequest};

/// Asks for a verb that needs nothing more.
pub fn run(command: Command, options: &Options) -> Result<(), Failure> {
    match command.into_verb() {
        Some((target, verb, request)) => tell(&ask(&target, verb, request, options)?, options),
        // Every other command has its own function; `main` sends nothing else here.
        None => unreachable!("a command without a verb"),
    }
}

/// `connect`.
pub fn connect(arguments: &ConnectArguments, options: &Options) -> Result<(), Failure> {
    let request =
        VerbRequest { plan: arguments.plan, discard_my_data: arguments.discard_my_data, ..Default::default() };
    tell(&ask(&arguments.target, Verb::Connect, request, options)?, options)
}

/// One request.
pub fn ask(target: &Target, verb: Verb, request: VerbRequest, options: &Options) -> Result<VerbAnswer, Failure> {
    let request = VerbRequest { volume: target.volume, ..request };
    Ok(options.client().verb(&target.resource, verb, &request, options.timeout)?)
}

/// Says what there is to say.
pub fn tell(answer: &VerbAnswer, options: &Options) -> Result<(), Failure> {
    if options.json {
        return print_json(answer);
    }
    let message = answer.message.iter().map(|message| format!("{message}\n"));
    let plan = answer.plan.iter().flatten().map(|entry| format!("volume {}: {}\n", entry.volume, entry.sentence));
    print(&message.chain(plan).collect::<String>())
}
