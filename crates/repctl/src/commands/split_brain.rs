//! `split-brain`: who diverged and by how much; settling it.

use super::verb;
use crate::Failure;
use crate::cli::{Options, SplitBrainArguments, SplitBrainVerb};
use crate::output::{print, print_json};
use crate::terminal::bytes;
use rep_control::api::{Detail, Verb, VerbRequest, VolumeDetail};
use rep_types::ConnectionState;

pub fn run(arguments: &SplitBrainArguments, options: &Options) -> Result<(), Failure> {
    match &arguments.verb {
        SplitBrainVerb::Show => show(arguments, options),
        SplitBrainVerb::Resolve { keep } => {
            let request = VerbRequest { keep: Some(keep.clone()), ..Default::default() };
            verb::ask(&arguments.target, Verb::SplitBrainResolve, request, options).map(drop)
        }
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
         To keep the data of one node, run on the other one, whose changes are then lost:\n  \
         repctl secondary {0}; repctl connect {0} --discard-my-data\n\
         and on the one to keep: repctl connect {0}\n",
        detail.name, detail.node, detail.peer
    )
}

fn volume_text(detail: &Detail, volume: &VolumeDetail) -> String {
    let current = |generations: &Option<rep_control::api::GenerationsDetail>| {
        generations.as_ref().map_or("unknown".to_owned(), |generations| generations.current.clone())
    };
    let rule = volume.last_decision.as_ref().map_or("unknown", |decision| decision.rule.as_str());
    format!(
        "  volume {}: {} known here to differ; generation {} on {}, {} on {}; rule {rule}\n",
        volume.number,
        bytes(volume.out_of_sync_bytes),
        current(&volume.generations),
        detail.node,
        current(&volume.peer_generations),
        detail.peer
    )
}
