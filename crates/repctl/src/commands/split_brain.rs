//! `split-brain`: who diverged and by how much; settling it.

use super::verb;
use crate::Failure;
use crate::cli::{Options, SplitBrainArguments, SplitBrainVerb};
use crate::output::{print, print_json};
use rep_control::api::{Detail, SplitBrainStatus, SplitBrainVolume, Verb, VerbRequest};
use rep_types::{ConnectionState, Refusal};

pub fn run(arguments: &SplitBrainArguments, options: &Options) -> Result<(), Failure> {
    match &arguments.verb {
        SplitBrainVerb::Show => show(arguments, options),
        SplitBrainVerb::Resolve { keep } => {
            let request = VerbRequest { keep: Some(keep.clone()), ..Default::default() };
            let answer = verb::ask(&arguments.target, Verb::SplitBrainResolve, request, options);
            answer.map(drop).map_err(|failure| with_next_step(failure, &arguments.target.resource, keep, options))
        }
    }
}

/// Still split brain after the word was given: the daemon knows why.
fn with_next_step(failure: Failure, resource: &str, keep: &str, options: &Options) -> Failure {
    match failure {
        Failure::Error(error) if error.is_refusal(Refusal::SplitBrain) => {
            let detail = options.client().detail(resource, verb::QUESTION_PATIENCE).ok();
            match detail.and_then(|detail| next_step(&detail.split_brain?, resource, keep)) {
                Some(hint) => Failure::Error(Box::new(error.with_hint(hint))),
                None => Failure::Error(error),
            }
        }
        other => other,
    }
}

fn next_step(apart: &SplitBrainStatus, resource: &str, keep: &str) -> Option<String> {
    let left_by = |reason: &str| apart.volumes.iter().any(|volume| volume.unsettled == reason);
    if left_by("victim-is-primary") {
        return Some(format!(
            "the node that isn't {keep} is Primary: run 'repctl secondary {resource}' there, then this again"
        ));
    }
    left_by("words-contradict").then(|| {
        format!("the other node was told something else at the same time: run 'repctl split-brain {resource} resolve --keep NODE' on one of them only")
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_follows_from_why_it_was_not_settled() {
        let hint = |unsettled: &str| {
            let (rule, unsettled) = ("split-brain-bitmap".into(), unsettled.into());
            let volumes = vec![SplitBrainVolume { number: 0, rule, unsettled, nodes: Vec::new() }];
            next_step(&SplitBrainStatus { volumes }, "vz", "alpha")
        };
        assert!(hint("victim-is-primary").is_some_and(|hint| hint.contains("run 'repctl secondary vz' there")));
        assert!(hint("words-contradict").is_some_and(|hint| hint.contains("on one of them only")));
        assert_eq!(hint("no-policy"), None);
    }
}
