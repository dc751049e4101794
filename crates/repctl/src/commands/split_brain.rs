//! `split-brain`: who diverged and by how much; settling it.

use super::verb;
use crate::Failure;
use crate::cli::{Options, SplitBrainArguments, SplitBrainVerb};
use crate::output::{print, print_json};
use crate::terminal::bytes;
use rep_control::api::{Detail, Verb, VerbRequest, VolumeDetail, format_time};
use rep_types::{ConnectionState, Refusal};
use std::time::{Duration, UNIX_EPOCH};

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
    if detail.connection != ConnectionState::SplitBrain {
        return format!("{}: no split brain (connection: {})\n", detail.name, detail.connection);
    }
    let volumes: String = detail.volumes.iter().map(|volume| volume_text(detail, volume)).collect();
    format!(
        "{0}: split brain: {1} and {2} went on apart\n{volumes}\
         To keep one node's data, run on either of them: repctl split-brain {0} resolve --keep NODE\n\
         What the other wrote since is archived there first (see 'repctl archive list'), unless archive-dir is \"none\"; \
         if it is Primary, run 'repctl secondary {0}' there first.\n",
        detail.name, detail.node, detail.peer
    )
}

fn time(unix_ms: u64) -> String {
    format_time(UNIX_EPOCH + Duration::from_millis(unix_ms))
}

fn volume_text(detail: &Detail, volume: &VolumeDetail) -> String {
    let current = |generations: &Option<rep_control::api::GenerationsDetail>| {
        generations.as_ref().map_or("unknown".to_owned(), |generations| generations.current.clone())
    };
    let rule = volume.last_decision.as_ref().map_or("unknown", |decision| decision.rule.as_str());
    let side = |node: &str, wrote: u64, since: Option<u64>, generation: String| {
        let since = since.map_or("a moment that isn't known".to_owned(), time);
        format!("    {node}: wrote {} alone since {since}; newest generation {generation}\n", bytes(wrote))
    };
    let mine =
        side(&detail.node, volume.out_of_sync_bytes, volume.diverged_since_unix_ms, current(&volume.generations));
    let peers = side(
        &detail.peer,
        volume.peer_out_of_sync_bytes,
        volume.peer_diverged_since_unix_ms,
        current(&volume.peer_generations),
    );
    format!("  volume {}, by rule {rule}:\n{mine}{peers}", volume.number)
}
