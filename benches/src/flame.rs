//! Where the processors' time goes: a flame graph of each node under one line of the table, kept under `docs/flame`.
//!
//! Samples by the clock, with the kernel's functions: three quarters of the time are spent there. The widths are parts of the
//! samples of that node, and no more exact than a few hundred of them make them.

use crate::contender::Contender;
use crate::fio::{self, LINES, Target};
use crate::ours::Ours;
use crate::{VOLUME_BYTES, report};
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;
use rep_tests::binaries::workspace_root;
use rep_tests::scratch::{Place, Scratch};
use rep_tests::tools;
use std::time::Duration;

/// What is drawn.
const LINE: &str = "4k randwrite, depth 32";
/// Samples a second, a prime: so they don't fall into step with a timer.
const SAMPLES_PER_S: u32 = 997;
/// Fewer say nothing.
const SAMPLES_MIN: usize = 500;
/// The narrowest frame that is drawn, in percent.
const NARROWEST_PERCENT: f64 = 0.3;
/// What is to be told of a sample: without its period, by which it would be weighed.
const FIELDS: &str = "comm,tid,time,event,ip,sym,dso";
/// The nodes, as `Ours` has them.
const NODES: [&str; 2] = ["primary", "secondary"];

/// Measures and draws; returns where the pictures are.
pub fn draw(seconds: u64) -> Result<Vec<String>, String> {
    let line = LINES.iter().find(|line| line.name == LINE).ok_or("the table has no such line")?;
    let ours = Ours::start();
    let target = Target::Export(ours.uri());
    fio::fill(&target, VOLUME_BYTES);
    let scratch = Scratch::new(Place::Disk);
    let data = scratch.path().join("perf.data").display().to_string();
    let processes = ours.processes();
    let load = fio::start(&target, &line.load(), &scratch.path().join("fio.log"));
    let pids = processes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let record = format!(
        "perf record --quiet -F {SAMPLES_PER_S} -e cpu-clock --call-graph dwarf -p {pids} -o {data} -- sleep {seconds}"
    );
    let recorded = tools::words_within(&record, Duration::from_secs(seconds + 30));
    drop(load);
    recorded.ok();
    let folder = workspace_root().join("docs/flame");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut written = Vec::new();
    for (node, pid) in NODES.iter().zip(processes) {
        let script = format!("perf script --no-inline -F {FIELDS} -i {data} --pid {pid}");
        let script = tools::words_within(&script, Duration::from_secs(300)).ok();
        let picture = picture(&script, &format!("{node}: {LINE} ({})", report::origin()))?;
        let name = format!("{node}-4k-randwrite-32.svg");
        std::fs::write(folder.join(&name), picture).map_err(|e| format!("{name}: {e}"))?;
        written.push(format!("docs/flame/{name}"));
    }
    Ok(written)
}

/// The picture of what `perf script` told.
fn picture(script: &str, title: &str) -> Result<String, String> {
    let mut folded = Vec::new();
    Folder::default().collapse(script.as_bytes(), &mut folded).map_err(|e| format!("perf's samples: {e}"))?;
    let folded = String::from_utf8_lossy(&folded);
    let samples: usize = folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum();
    if samples < SAMPLES_MIN {
        return Err(format!("{title}: {samples} samples, {SAMPLES_MIN} at least are needed: is the daemon idle?"));
    }
    let mut options = flamegraph::Options::default();
    options.title = title.to_owned();
    options.subtitle = Some(format!("{samples} samples by the clock"));
    options.count_name = "samples".to_owned();
    options.min_width = NARROWEST_PERCENT;
    options.deterministic = true;
    options.no_javascript = true;
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut picture).map_err(|e| format!("{title}: {e}"))?;
    Ok(without_program(&String::from_utf8_lossy(&picture)))
}

/// A picture, and nobody's program: the names of frames are its tooltips.
fn without_program(svg: &str) -> String {
    let program = svg.split_once("<script").and_then(|(before, rest)| Some((before, rest.split_once("</script>")?.1)));
    program.map_or_else(|| svg.to_owned(), |(before, after)| format!("{before}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `perf script` prints it.
    const SAMPLE: &str = "data-vz  1193  1234.567890: cpu-clock:pppH: \n\
                          \tffffffff81e00010 tcp_sendmsg+0x10 ([kernel.kallsyms])\n\
                          \t      55d0c0ffee rep_peer::port::turn+0x1e (/usr/bin/repd)\n\n";

    #[test]
    fn a_frame_for_each_function_that_was_seen() {
        let svg = picture(&SAMPLE.repeat(SAMPLES_MIN), "Primary").expect("a picture");
        assert!(svg.contains("tcp_sendmsg") && svg.contains("rep_peer::port::turn"), "{svg}");
        assert!(svg.contains(&format!("{SAMPLES_MIN} samples")), "{svg}");
        assert!(!svg.contains("script"), "{svg}");
    }

    #[test]
    fn too_few_samples_are_no_picture() {
        let few = picture(SAMPLE, "Primary").expect_err("too few");
        assert!(few.contains("1 samples"), "{few}");
        assert!(picture("", "Primary").is_err());
    }
}
