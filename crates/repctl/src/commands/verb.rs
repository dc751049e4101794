//! Verbs that are one request to the daemon.

use crate::Failure;
use crate::cli::{Command, ConnectArguments, Options};
use crate::output::{self, print, print_json};
use crate::target::Target;
use rep_control::api::{Verb, VerbAnswer, VerbRequest};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// A verb that takes longer says what it waits for.
const SOON: Duration = Duration::from_secs(2);
/// How long the daemon may take to say why something waits, or was refused.
pub const QUESTION_PATIENCE: Duration = Duration::from_secs(1);

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
    let (done, under_way) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if !options.json && under_way.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
                tell_what_is_waited_for(target, verb, options);
            }
        });
        let answer = options.client().verb(&target.resource, verb, &request, options.timeout);
        drop(done);
        Ok(answer?)
    })
}

fn tell_what_is_waited_for(target: &Target, verb: Verb, options: &Options) {
    let status = options.client().status(Some(&target.resource), QUESTION_PATIENCE).ok();
    let verdict = status.and_then(|status| status.resources.into_iter().next()).map(|resource| resource.verdict);
    let verdict = verdict.map_or(String::new(), |verdict| format!(" ({verdict})"));
    let most = options.timeout.as_secs();
    output::tell(format_args!("{verb} {}: not done yet, waiting for at most {most} s{verdict}", target.resource));
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
