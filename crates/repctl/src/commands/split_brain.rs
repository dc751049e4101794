//! `split-brain`: who diverged and by how much; settling it.

use super::verb;
use crate::Failure;
use crate::cli::{Options, SplitBrainArguments, SplitBrainVerb};
use crate::output::{print, print_json};
use rep_control::api::{Detail, SplitBrainVolume, Verb, VerbRequest};
use rep_types::{ConnectionState, Refusal};

pub fn run(arguments: &SplitBrainArguments, options: &Options) -> Result<(), Failure> {
    match &arguments.verb {
        SplitBrainVerb::Show => show(arguments, options),
        SplitBrainVerb::Resolve { keep } => {
            let request = VerbRequest { keep: Some(keep.clone()), ..Default::default() };
            let answer = verb::ask(&arguments.target, Verb::SplitBrainResolve, request, options);
            answer.map(drop).map_err(|failure| with_next_step(failure, &arguments.target.resource, keep))
        }
    }
}

/// Still split brain after the word was given: the node whose data go is Primary, and only there that can be ended.
fn with_next_step(failure: Failure, resource: &str, keep: &str) -> Failure {
    match failure {
        Failure::Error(error) if error.reason == format!("{:?}", Refusal::SplitBrain) => {
            let hint = format!(
                "the node that isn't {keep} is Primary: run 'repctl secondary {resource}' there, then this again"
            );
            Failure::Error(Box::new(error.with_hint(hint)))
        }
        other => other,
    }
}

fn show(arguments: &SplitBrainArguments, options: &Options) -> Result<(), Failure> {
    let detail = options.client().detail(&arguments.target.resource, options.timeout)?;
    if options.json { print_json(&detail) } else { print(&text(&detail)) }
}

fn text(detail: &Detail) -> String {
    // One that left the other in a split brain, or looks for it anew, is in it still.
    if detail.connection != ConnectionState::SplitBrain && detail.split_brain.is_none() {
        return format!("{}: no split brain (connection: {})\n", detail.name, detail.connection);
    }
    let apart = detail.split_brain.as_ref().map(|apart| apart.volumes.as_slice()).unwrap_or_default();
    let volumes: String = apart.iter().map(volume_text).collect();
    format!(
        "{0}: split brain: {1} and {2} went on apart\n{volumes}\
         To keep one node's data, run on either of them: repctl split-brain {0} resolve --keep NODE\n\
         What the other wrote since is archived there first (see 'repctl archive list'), unless archive-dir is \"none\"; \
         if it is Primary, run 'repctl secondary {0}' there first.\n",
        detail.name, detail.node, detail.peer
    )
}

fn volume_text(volume: &SplitBrainVolume) -> String {
    let nodes: String = volume.nodes.iter().map(|node| format!("    {}\n", node.words())).collect();
    let (number, rule, unsettled) = (volume.number, &volume.rule, &volume.unsettled);
    format!("  volume {number}, by rule {rule}, left to you ({unsettled}):\n{nodes}")
}
