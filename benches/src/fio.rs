//! The lines of the table, measured by fio.

use crate::VOLUME_BYTES;
use crate::contender::Contender;
use rep_tests::tools;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// A line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Its name in the table.
    pub name: &'static str,
    pattern: &'static str,
    block: &'static str,
    depth: u32,
}

const fn line(name: &'static str, pattern: &'static str, block: &'static str, depth: u32) -> Line {
    Line { name, pattern, block, depth }
}

/// The lines.
pub const LINES: &[Line] = &[
    line("4k randwrite, depth 1", "randwrite", "4k", 1),
    line("4k randwrite, depth 32", "randwrite", "4k", 32),
    line("128k write, depth 8", "write", "128k", 8),
    line("1M write, depth 4", "write", "1M", 4),
    line("4k randread, depth 32", "randread", "4k", 32),
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

/// Writes the whole volume once, so that no line pays for first-time allocation.
pub fn fill(contender: &dyn Contender) {
    fio(&contender.uri(), &["--rw=write".to_owned(), "--bs=1M".to_owned(), "--iodepth=4".to_owned()], 300);
}

/// Measures a line.
pub fn run(uri: &str, line: &Line, seconds: u64) -> Sample {
    let arguments = [
        format!("--rw={}", line.pattern),
        format!("--bs={}", line.block),
        format!("--iodepth={}", line.depth),
        format!("--runtime={seconds}"),
        "--time_based".to_owned(),
    ];
    parse(&fio(uri, &arguments, seconds + 60))
}

fn fio(uri: &str, arguments: &[String], patience_s: u64) -> String {
    let mut line: Vec<String> =
        ["--name=bench", "--ioengine=nbd", "--output-format=json", "--randrepeat=0"].map(str::to_owned).into();
    line.push(format!("--uri={uri}"));
    line.push(format!("--size={VOLUME_BYTES}"));
    line.extend_from_slice(arguments);
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
