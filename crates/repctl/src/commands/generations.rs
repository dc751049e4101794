//! `show-gi`: the generations of the data.

use super::status::no_such_volume;
use crate::Failure;
use crate::cli::Options;
use crate::output::{print, print_json};
use crate::target::Target;
use rep_control::api::{Detail, GenerationsDetail, VolumeDetail};

pub fn show(target: &Target, options: &Options) -> Result<(), Failure> {
    let mut detail = options.client().detail(&target.resource, options.timeout)?;
    if let Some(number) = target.volume {
        let known: Vec<_> = detail.volumes.iter().map(|volume| volume.number.to_string()).collect();
        detail.volumes.retain(|volume| volume.number == number);
        if detail.volumes.is_empty() {
            return Err(no_such_volume(&detail.name, number, &known).into());
        }
    }
    if options.json { print_json(&detail) } else { print(&text(&detail)) }
}

fn text(detail: &Detail) -> String {
    detail.volumes.iter().map(|volume| volume_text(detail, volume)).collect()
}

fn volume_text(detail: &Detail, volume: &VolumeDetail) -> String {
    let mut text = format!("{}/{}\n", detail.name, volume.number);
    text += &generations(&detail.node, "no disk", volume.generations.as_ref());
    text += &generations(&detail.peer, "not met since the resource came up", volume.peer_generations.as_ref());
    if let Some(decision) = &volume.last_decision {
        text += &format!("  last handshake: rule {}: {}\n", decision.rule, decision.verdict);
    }
    text
}

fn generations(node: &str, absent: &str, generations: Option<&GenerationsDetail>) -> String {
    let Some(generations) = generations else { return format!("  {node}: {absent}\n") };
    let bitmap = generations.bitmap.as_deref().unwrap_or("-");
    let history = if generations.history.is_empty() { "-".to_owned() } else { generations.history.join(" ") };
    format!("  {node}:\n    current {}\n    bitmap  {bitmap}\n    history {history}\n", generations.current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_nodes_are_shown() {
        let generations = GenerationsDetail { current: "0A".into(), bitmap: None, history: vec!["0B".into()] };
        let text = generations_pair(&generations);
        assert_eq!(text, "  alpha:\n    current 0A\n    bitmap  -\n    history 0B\n  beta: not met\n");
    }

    fn generations_pair(own: &GenerationsDetail) -> String {
        generations("alpha", "no disk", Some(own)) + &generations("beta", "not met", None)
    }
}
