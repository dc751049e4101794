//! Ours against itself: what a load, a size or a number costs, beside the same without it.

mod attach;
mod bounded;
mod direct;
mod many;
mod per_node;
mod reconnect;
mod resync;
mod spread;

use serde::Serialize;

/// What is to be reached.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Bar {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Bar {
    /// Whether it is reached.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Bar::AtLeast(bar) => value >= bar,
            Bar::AtMost(bar) => value <= bar,
        }
    }
}

/// A figure of one run: a value a round, and what it is held against, measured in the same rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// A value a round.
    pub values: Vec<f64>,
    /// What it is held against, and a value a round: the bar is one of their ratio.
    pub against: Option<(String, Vec<f64>)>,
    /// What is to be reached.
    pub bar: Option<Bar>,
}

impl Figure {
    fn alone(name: impl Into<String>, unit: &'static str, bar: Option<Bar>) -> Figure {
        Figure { name: name.into(), unit, values: Vec::new(), against: None, bar }
    }

    fn against(
        name: impl Into<String>,
        against: impl Into<String>,
        unit: &'static str,
        bar: impl Into<Option<Bar>>,
    ) -> Figure {
        let against = Some((against.into(), Vec::new()));
        Figure { against, ..Figure::alone(name, unit, bar.into()) }
    }

    fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    fn add_pair(&mut self, value: f64, against: f64) {
        self.values.push(value);
        if let Some((_, values)) = &mut self.against {
            values.push(against);
        }
    }

    /// What the bar is of: the median of the rounds' ratios, or of the values.
    pub fn judged(&self) -> f64 {
        crate::report::median(match &self.against {
            Some((_, against)) => self.values.iter().zip(against).map(|(value, against)| value / against).collect(),
            None => self.values.clone(),
        })
    }
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds.
    pub rounds: usize,
    /// Seconds of load.
    pub seconds: u64,
}

/// A group of figures measured on the same nodes.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// Measures it.
    pub measure: fn(Effort) -> Vec<Figure>,
}

/// All of them.
pub const GROUPS: &[Group] = &[
    Group { name: "per-node", measure: per_node::measure },
    Group { name: "direct", measure: direct::measure },
    Group { name: "spread", measure: spread::measure },
    Group { name: "resync-beside-clients", measure: resync::measure },
    Group { name: "many", measure: many::measure },
    Group { name: "attach", measure: attach::measure },
    Group { name: "reconnect", measure: reconnect::measure },
    Group { name: "bounded", measure: bounded::measure },
];

/// What all of ours start from: disks in memory, metadata in files of their own.
pub fn in_memory(disk_bytes: u64) -> rep_tests::ClusterOptions {
    rep_tests::ClusterOptions {
        disk_bytes: [disk_bytes; 2],
        external_metadata: true,
        place: rep_tests::Place::Tmpfs,
        network: rep_tests::NetworkKind::Loopback,
        exclusive: true,
        ..rep_tests::ClusterOptions::default()
    }
}

fn export(node: &rep_tests::Node) -> crate::fio::Target {
    crate::fio::Target::Export(node.uri())
}

/// Words of a fio command line.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| format!("--{word}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_of_the_ratio_where_there_is_one() {
        let mut figure = Figure::against("a", "b", "s", Bar::AtMost(1.5));
        figure.add_pair(3.0, 2.0);
        figure.add_pair(8.0, 2.0);
        figure.add_pair(2.0, 2.0);
        assert_eq!(figure.judged(), 1.5);
        assert!(Bar::AtMost(1.5).is_met(1.5) && !Bar::AtMost(1.5).is_met(1.6));
        assert!(Bar::AtLeast(0.8).is_met(0.9) && !Bar::AtLeast(0.8).is_met(0.7));
        let mut alone = Figure::alone("a", "s", None);
        alone.add(4.0);
        assert_eq!(alone.judged(), 4.0);
    }
}
