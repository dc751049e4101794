//! The table: medians, and medians of the rounds' ratios.

use crate::figures::{Bar, Effort, Figure};
use crate::fio::Sample;
use rep_tests::binaries::workspace_root;
use rep_tests::tools;
use serde_json::{Value, json};
use std::fmt::Write;

/// A line of the table with everything measured for it.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    contenders: Vec<&'static str>,
    /// What the first is to reach, as a part of the second's rate.
    pub bar: Option<f64>,
    /// For each contender, a sample a round.
    pub samples: Vec<Vec<Sample>>,
}

impl Row {
    /// A row nothing was measured for.
    pub fn new(name: &'static str, contenders: &[&'static str], bar: Option<f64>) -> Row {
        Row { name, contenders: contenders.to_vec(), bar, samples: vec![Vec::new(); contenders.len()] }
    }

    /// The median over the rounds.
    fn median(&self, contender: usize, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples[contender].iter().map(of).collect())
    }

    /// The median over the rounds of the first contender's rate by this one's.
    pub fn ratio(&self, contender: usize) -> f64 {
        let pairs = self.samples[0].iter().zip(&self.samples[contender]);
        median(pairs.map(|(ours, theirs)| ours.bytes_per_s / theirs.bytes_per_s).collect())
    }

    /// Who took part, ours first.
    pub fn contenders(&self) -> &[&'static str] {
        &self.contenders
    }

    fn is_copy(&self) -> bool {
        self.samples[0].iter().all(|sample| sample.requests == 0.0)
    }
}

/// The median; of none it isn't a number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The whole table, and where it was made.
#[derive(Clone, Debug)]
pub struct Report {
    rows: Vec<Row>,
    figures: Vec<Figure>,
    effort: Effort,
    commit: String,
    kernel: String,
    processor: String,
    processors: usize,
    date: String,
}

fn say(line: &str) -> String {
    tools::words(line).stdout.trim().to_owned()
}

fn commit() -> String {
    say(&format!("git -C {} describe --always --dirty", workspace_root().display()))
}

fn kernel() -> String {
    say("uname -sr")
}

/// Which tree this is, and of which kernel's machine.
pub fn origin() -> String {
    format!("{}, {}", commit(), kernel())
}

impl Report {
    /// Gathers what is to be known of the machine.
    pub fn new(rows: Vec<Row>, figures: Vec<Figure>, effort: Effort) -> Report {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        Report {
            rows,
            figures,
            effort,
            commit: commit(),
            kernel: kernel(),
            processor: model.trim_start_matches(['\t', ' ', ':']).to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            date: say("date -u +%Y-%m-%dT%H:%MZ"),
        }
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let side =
                |n: usize| json!({"contender": row.contenders[n], "ratio": row.ratio(n), "rounds": row.samples[n]});
            json!({"line": row.name, "bar": row.bar, "contenders": (0..row.samples.len()).map(side).collect::<Vec<_>>()})
        };
        json!({
            "commit": self.commit, "date": self.date, "kernel": self.kernel, "processor": self.processor,
            "processors": self.processors, "rounds": self.effort.rounds, "seconds": self.effort.seconds,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "figures": self.figures,
        })
    }

    /// The tables, for people.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Commit {}, {}, {} x {}, {}; {} rounds of {} s a line; medians.\n",
            self.commit,
            self.kernel,
            self.processors,
            self.processor,
            self.date,
            self.effort.rounds,
            self.effort.seconds
        );
        if !self.rows.is_empty() {
            text += "\n1 GiB volumes in memory, fio over NBD on a unix socket. `repd/it` is the median of the rounds' \
                     ratios of the rates, `bar` what that is to reach.\n\n\
                     | line | server | IOPS | MB/s | p50 µs | p99 µs | CPU s/GB | CPU s/100k | repd/it | bar |\n\
                     |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
            for row in &self.rows {
                for (number, contender) in row.contenders.iter().enumerate() {
                    let _ = writeln!(text, "| {} | {contender} | {} |", row.name, row.cells(number).join(" | "));
                }
            }
        }
        if !self.figures.is_empty() {
            text += "\n| repd | measured | beside | ratio | bar | |\n|---|--:|--:|--:|--:|---|\n";
            for figure in &self.figures {
                let _ = writeln!(text, "| {} |", figure_cells(figure).join(" | "));
            }
        }
        text
    }

    /// Writes all of it into `benches/results/`; returns where.
    pub fn write(&self, quick: bool, plot: bool) -> String {
        let folder = workspace_root().join("benches/results");
        std::fs::create_dir_all(&folder).expect("benches/results");
        let stem = if quick { "quick" } else { "full" };
        let json = serde_json::to_string_pretty(&self.json()).expect("numbers and strings");
        let mut files = vec![("json", json + "\n"), ("md", self.markdown())];
        if plot {
            files.push(("svg", crate::plot::svg(&self.rows)));
        }
        let mut written = Vec::new();
        for (extension, text) in files {
            let name = format!("{stem}.{extension}");
            std::fs::write(folder.join(&name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
            written.push(format!("benches/results/{name}"));
        }
        written.join(", ")
    }
}

/// A number with as many digits as say something.
fn number(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

fn figure_cells(figure: &Figure) -> Vec<String> {
    let judged = figure.judged();
    let with_unit = |values: &[f64]| format!("{} {}", number(median(values.to_vec())), figure.unit);
    let beside = figure.against.as_ref().map(|(name, values)| format!("{} ({name})", with_unit(values)));
    let bar = figure.bar.map(|bar| match bar {
        Bar::AtLeast(bar) => format!("≥ {bar}"),
        Bar::AtMost(bar) => format!("≤ {bar}"),
    });
    let verdict = figure.bar.map_or("", |bar| if bar.is_met(judged) { "reached" } else { "**not reached**" });
    let dash = || "-".to_owned();
    vec![
        figure.name.clone(),
        with_unit(&figure.values),
        beside.clone().unwrap_or_else(dash),
        beside.map_or_else(dash, |_| format!("{judged:.2}")),
        bar.unwrap_or_else(dash),
        verdict.to_owned(),
    ]
}

impl Row {
    fn cells(&self, contender: usize) -> Vec<String> {
        let median = |of: fn(&Sample) -> f64| self.median(contender, of);
        let requests = |text: String| if self.is_copy() { "-".to_owned() } else { text };
        vec![
            requests(format!("{:.0}", median(|s| s.iops))),
            format!("{:.0}", median(|s| s.bytes_per_s / 1e6)),
            requests(format!("{:.0}", median(|s| s.p50_us))),
            requests(format!("{:.0}", median(|s| s.p99_us))),
            format!("{:.2}", median(Sample::cpu_s_per_gb)),
            requests(format!("{:.2}", median(Sample::cpu_s_per_100k))),
            if contender == 0 { "-".to_owned() } else { format!("{:.2}", self.ratio(contender)) },
            self.bar.filter(|_| contender == 1).map_or("-".to_owned(), |bar| format!("{bar}")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_paired_rounds() {
        let sample = |rate: f64| Sample { bytes_per_s: rate, ..Sample::default() };
        let mut row = Row::new("line", &["ours", "theirs"], None);
        row.samples[0] = [10.0, 40.0, 90.0].map(sample).into();
        row.samples[1] = [10.0, 20.0, 30.0].map(sample).into();
        assert_eq!(row.ratio(1), 2.0);
        assert_eq!(row.median(1, |s| s.bytes_per_s), 20.0);
    }
}
