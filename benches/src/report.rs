//! The table: medians, and medians of the rounds' ratios.

use crate::fio::Sample;
use rep_tests::binaries::workspace_root;
use rep_tests::tools;
use serde_json::{Value, json};
use std::fmt::Write;

/// A line of the table with everything measured for it.
#[derive(Clone, Debug)]
pub struct Row {
    name: &'static str,
    contenders: Vec<&'static str>,
    /// For each contender, a sample a round.
    pub samples: Vec<Vec<Sample>>,
}

impl Row {
    /// A row nothing was measured for.
    pub fn new(name: &'static str, contenders: &[&'static str]) -> Row {
        Row { name, contenders: contenders.to_vec(), samples: vec![Vec::new(); contenders.len()] }
    }

    /// The median over the rounds.
    fn median(&self, contender: usize, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples[contender].iter().map(of).collect())
    }

    /// The median over the rounds of the first contender's rate by this one's.
    fn ratio(&self, contender: usize) -> f64 {
        let pairs = self.samples[0].iter().zip(&self.samples[contender]);
        median(pairs.map(|(ours, theirs)| ours.bytes_per_s / theirs.bytes_per_s).collect())
    }

    fn is_copy(&self) -> bool {
        self.samples[0].iter().all(|sample| sample.requests == 0.0)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
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
    rounds: usize,
    seconds: u64,
    commit: String,
    kernel: String,
    processor: String,
    processors: usize,
    date: String,
}

impl Report {
    /// Gathers what is to be known of the machine.
    pub fn new(rows: Vec<Row>, rounds: usize, seconds: u64) -> Report {
        let say = |line: &str| tools::words(line).stdout.trim().to_owned();
        let root = workspace_root();
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        Report {
            rows,
            rounds,
            seconds,
            commit: say(&format!("git -C {} describe --always --dirty", root.display())),
            kernel: say("uname -sr"),
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
            json!({"line": row.name, "contenders": (0..row.samples.len()).map(side).collect::<Vec<_>>()})
        };
        json!({
            "commit": self.commit, "date": self.date, "kernel": self.kernel, "processor": self.processor,
            "processors": self.processors, "rounds": self.rounds, "seconds": self.seconds,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// The table, for people.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Commit {}, {}, {} x {}, {}; {} rounds of {} s a line, 1 GiB volumes in memory, fio over NBD on a unix \
             socket; medians. `repd/it` is the median of the rounds' ratios of the rates.\n\n\
             | line | server | IOPS | MB/s | p50 µs | p99 µs | CPU s/GB | CPU s/100k | repd/it |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
            self.commit, self.kernel, self.processors, self.processor, self.date, self.rounds, self.seconds
        );
        for row in &self.rows {
            for (number, contender) in row.contenders.iter().enumerate() {
                let _ = writeln!(text, "| {} | {contender} | {} |", row.name, row.cells(number).join(" | "));
            }
        }
        text
    }

    /// Writes both into `benches/results/`; returns where.
    pub fn write(&self, quick: bool) -> String {
        let folder = workspace_root().join("benches/results");
        std::fs::create_dir_all(&folder).expect("benches/results");
        let stem = if quick { "quick" } else { "full" };
        let json = serde_json::to_string_pretty(&self.json()).expect("numbers and strings");
        std::fs::write(folder.join(format!("{stem}.json")), json + "\n").expect("the JSON");
        std::fs::write(folder.join(format!("{stem}.md")), self.markdown()).expect("the table");
        format!("benches/results/{stem}.json, benches/results/{stem}.md")
    }
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
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_paired_rounds() {
        let sample = |rate: f64| Sample { bytes_per_s: rate, ..Sample::default() };
        let mut row = Row::new("line", &["ours", "theirs"]);
        row.samples[0] = [10.0, 40.0, 90.0].map(sample).into();
        row.samples[1] = [10.0, 20.0, 30.0].map(sample).into();
        assert_eq!(row.ratio(1), 2.0);
        assert_eq!(row.median(1, |s| s.bytes_per_s), 20.0);
    }
}
