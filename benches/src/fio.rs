//! The lines of the table, measured by fio.

use crate::VOLUME_BYTES;
use rep_tests::process::Running;
use rep_tests::tools;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Its name in the table.
    pub name: &'static str,
    pattern: &'static str,
    block: &'static str,
    depth: u32,
    /// What ours is to reach, as a part of the unmirrored server's rate.
    pub bar: f64,
}

const fn line(name: &'static str, pattern: &'static str, block: &'static str, depth: u32, bar: f64) -> Line {
    Line { name, pattern, block, depth, bar }
}

/// The lines.
pub const LINES: &[Line] = &[
    line("4k randwrite, depth 1", "randwrite", "4k", 1, 0.6),
    line("4k randwrite, depth 32", "randwrite", "4k", 32, 1.2),
    line("128k write, depth 8", "write", "128k", 8, 0.5),
    line("1M write, depth 4", "write", "1M", 4, 0.5),
    line("4k randread, depth 32", "randread", "4k", 32, 1.0),
];

/// What one contender did on one line in one round.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Sample {
    /// Requests a second.
    pub iops: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
    /// Half of the requests were answered within this, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 were.
    pub p99_us: f64,
    /// Requests, in all.
    pub requests: f64,
    /// Bytes, in all.
    pub bytes: f64,
    /// Seconds that all server processes spent on it.
    pub cpu_s: f64,
}

impl Sample {
    /// Processor seconds per GB (10^9 bytes).
    pub fn cpu_s_per_gb(&self) -> f64 {
        self.cpu_s / (self.bytes / 1e9)
    }

    /// Processor seconds per 100,000 requests.
    pub fn cpu_s_per_100k(&self) -> f64 {
        self.cpu_s / (self.requests / 1e5)
    }
}

/// What fio works on.
#[derive(Clone, Debug)]
pub enum Target {
    /// An NBD export, by its URI.
    Export(String),
    /// A file, past the page cache, by `io_uring`.
    DirectFile(PathBuf),
}

impl Target {
    fn arguments(&self) -> Vec<String> {
        match self {
            Target::Export(uri) => vec!["--ioengine=nbd".to_owned(), format!("--uri={uri}")],
            Target::DirectFile(path) => {
                vec![
                    "--ioengine=io_uring".to_owned(),
                    "--direct=1".to_owned(),
                    format!("--filename={}", path.display()),
                ]
            }
        }
    }
}

/// Writes the first `bytes` once, so that no line pays for first-time allocation.
pub fn fill(target: &Target, bytes: u64) {
    once(target, &["--rw=write".to_owned(), "--bs=1M".to_owned(), "--iodepth=4".to_owned(), format!("--size={bytes}")]);
}

impl Line {
    /// What fio is told.
    pub fn load(&self) -> Vec<String> {
        vec![
            format!("--rw={}", self.pattern),
            format!("--bs={}", self.block),
            format!("--iodepth={}", self.depth),
            format!("--size={VOLUME_BYTES}"),
        ]
    }
}

/// Measures a line of the table.
pub fn run(target: &Target, line: &Line, seconds: u64) -> Sample {
    measure(std::slice::from_ref(target), &line.load(), seconds)
}

/// Measures one load on several targets at once, for so many seconds; the answer is their sum.
pub fn measure(targets: &[Target], load: &[String], seconds: u64) -> Sample {
    let mut arguments: Vec<String> =
        ["--time_based", "--group_reporting"].map(str::to_owned).into_iter().chain(load.iter().cloned()).collect();
    arguments.push(format!("--runtime={seconds}"));
    for (number, target) in targets.iter().enumerate() {
        arguments.push(format!("--name=target{number}"));
        arguments.extend(target.arguments());
    }
    parse(&fio(&arguments, seconds + 60))
}

/// Runs a load once through.
pub fn once(target: &Target, load: &[String]) {
    let job = vec!["--name=bench".to_owned()];
    fio(&[job, target.arguments(), load.to_vec()].concat(), 300);
}

/// A load that runs until it is dropped.
pub fn start(target: &Target, load: &[String], log: &Path) -> Running {
    let mut fio = tools::server("fio");
    // Without a process of its own the job ends with the fio that is killed.
    fio.args(["--name=bench", "--thread", "--time_based", "--runtime=900"]).args(target.arguments()).args(load);
    Running::start(fio, "fio", log)
}

fn fio(arguments: &[String], patience_s: u64) -> String {
    let head = ["--output-format=json", "--randrepeat=0"].map(str::to_owned);
    let line: Vec<String> = head.into_iter().chain(arguments.iter().cloned()).collect();
    tools::run("fio", &line, Duration::from_secs(patience_s)).ok()
}

/// fio prints lines of its own before the JSON.
fn parse(output: &str) -> Sample {
    let json = output.find('{').map_or("", |at| &output[at..]);
    let value: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("fio's JSON: {e}\n{output}"));
    let job = &value["jobs"][0];
    let side = if job["write"]["total_ios"].as_f64() > Some(0.0) { &job["write"] } else { &job["read"] };
    let number =
        |value: &Value| value.as_f64().unwrap_or_else(|| panic!("a number is missing in fio's JSON:\n{output}"));
    let percentile = |name: &str| number(&side["clat_ns"]["percentile"][name]) / 1000.0;
    Sample {
        iops: number(&side["iops"]),
        bytes_per_s: number(&side["bw_bytes"]),
        p50_us: percentile("50.000000"),
        p99_us: percentile("99.000000"),
        requests: number(&side["total_ios"]),
        bytes: number(&side["io_bytes"]),
        cpu_s: 0.0,
    }
}
