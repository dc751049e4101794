//! A split brain in the interface's words, for the status, the details and the event: on both nodes the same.

use super::resource::Resource;
use rep_control::api::{ApartNode, SplitBrainStatus, SplitBrainVolume};
use rep_engine::{ApartSide, Snapshot, SplitBrainFacts, Unsettled};
use rep_types::{ConnectionState, VolumeNumber};

/// What the two nodes are called.
pub struct Names {
    /// This node.
    pub node: String,
    /// The other.
    pub peer: String,
}

impl Names {
    /// Those of a resource.
    pub fn of(resource: &Resource) -> Names {
        let node = resource.node.to_string();
        let peer = resource.config().peer_of(&node).map(|peer| peer.name.to_string()).unwrap_or_default();
        Names { node, peer }
    }
}

/// The volumes in split brain; `None` unless the nodes are.
pub fn status(engine: &Snapshot, names: &Names) -> Option<SplitBrainStatus> {
    let facts = engine.volumes.iter().filter_map(|of| Some(volume(of.number, of.split_brain.as_ref()?, names)));
    (engine.connection == ConnectionState::SplitBrain).then(|| SplitBrainStatus { volumes: facts.collect() })
}

/// One of them.
pub fn volume(number: VolumeNumber, facts: &SplitBrainFacts, names: &Names) -> SplitBrainVolume {
    let node = |name: &str, side: &ApartSide| {
        ApartNode::new(name, side.since_unix_ms, side.was_primary, side.dirty_bytes, side.generation.to_string())
    };
    let mut nodes = vec![node(&names.node, &facts.mine), node(&names.peer, &facts.peer)];
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    SplitBrainVolume { number: number.0, rule: facts.rule.to_string(), unsettled: facts.unsettled.to_string(), nodes }
}

/// Why no policy settled it, where somebody expected one to.
pub fn why(unsettled: Unsettled) -> Option<&'static str> {
    Some(match unsettled {
        Unsettled::NoPolicy => return None,
        Unsettled::PoliciesDiffer => {
            "no policy was applied, for the nodes told different ones: their configurations differ, or one of them had found \
             the split brain before, which then asks none; make them the same, then disconnect and connect both"
        }
        Unsettled::TwoPrimaries => "no policy was applied, for both were Primary when they met",
        Unsettled::NoVictim => "the policy could not tell whose data to give up",
        Unsettled::VictimIsPrimary => "a Primary's data would have been given up, which is never done",
        Unsettled::WordsContradict => "what was said on the two nodes contradicts",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::{engine, volume as in_sync};
    use rep_engine::VolumeSnapshot;
    use rep_types::{GenerationId, Role, SyncRule};

    fn facts() -> SplitBrainFacts {
        let side = |since_unix_ms, was_primary, dirty_bytes, generation| ApartSide {
            since_unix_ms,
            was_primary,
            dirty_bytes,
            generation: GenerationId(generation),
        };
        SplitBrainFacts {
            rule: SyncRule::SplitBrainBitmap,
            mine: side(1_000, true, 4096, 6),
            peer: side(0, false, 8192, 7),
            unsettled: Unsettled::PoliciesDiffer,
        }
    }

    #[test]
    fn both_nodes_tell_the_same() {
        let names = |node: &str, peer: &str| Names { node: node.into(), peer: peer.into() };
        let here = volume(VolumeNumber(0), &facts(), &names("alpha", "beta"));
        let (mine, peer) = (facts().peer, facts().mine);
        let there = volume(VolumeNumber(0), &SplitBrainFacts { mine, peer, ..facts() }, &names("beta", "alpha"));
        assert_eq!(here, there);
        let of = |node: &ApartNode| (node.name.clone(), node.since_unix_ms, node.was_primary, node.dirty_bytes);
        let nodes: Vec<_> = here.nodes.iter().map(of).collect();
        assert_eq!(nodes, [("alpha".into(), Some(1_000), true, 4096), ("beta".into(), None, false, 8192)]);
        assert_eq!((here.rule.as_str(), here.unsettled.as_str()), ("split-brain-bitmap", "policies-differ"));
    }

    #[test]
    fn it_is_told_while_it_lasts() {
        let names = Names { node: "alpha".into(), peer: "beta".into() };
        let apart = || VolumeSnapshot { split_brain: Some(facts()), ..in_sync() };
        let told = status(&engine(Role::Primary, ConnectionState::SplitBrain, apart()), &names);
        assert_eq!(told.map(|told| told.volumes.len()), Some(1));
        assert_eq!(status(&engine(Role::Primary, ConnectionState::StandAlone, apart()), &names), None);
    }
}
