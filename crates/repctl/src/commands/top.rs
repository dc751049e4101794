//! `top`: where the time of requests goes, look after look.

use super::status::no_such_volume;
use crate::cli::{Options, TopArguments};
use crate::output::print;
use crate::terminal::{Color, bytes, length, paint};
use crate::view::{Cell, aligned};
use crate::{Failure, terminal};
use rep_control::api::{ApiError, Detail, Histogram, Histograms, IoStatus, LatencyStatus, ResourceStatus, format_time};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime};

/// The parts in the order a request goes through them, the whole of it first.
const STAGES: [&str; 8] = ["write", "queue", "log", "local", "sent", "peer", "flush", "read"];

/// What one look found of a resource.
struct Look {
    at: Instant,
    status: ResourceStatus,
    detail: Detail,
}

/// What happened between two looks.
#[derive(Debug, PartialEq, Serialize)]
struct Interval {
    resource: String,
    /// How long it was.
    seconds: f64,
    /// Of the link.
    link: BTreeMap<String, Rate>,
    volumes: Vec<VolumeInterval>,
}

#[derive(Debug, PartialEq, Serialize)]
struct VolumeInterval {
    number: u16,
    read_bytes_per_s: u64,
    written_bytes_per_s: u64,
    stages: BTreeMap<String, Rate>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Rate {
    per_s: f64,
    #[serde(flatten)]
    latency: LatencyStatus,
}

pub fn run(arguments: &TopArguments, options: &Options) -> Result<(), Failure> {
    let clears = std::io::stdout().is_terminal() && !options.json;
    let color = terminal::stdout_has_color();
    let mut before = looks(arguments, options)?;
    for shown in 1.. {
        std::thread::sleep(arguments.interval);
        let now = looks(arguments, options)?;
        let intervals: Vec<_> = now.iter().filter_map(|look| Some(interval(earlier(&before, look)?, look))).collect();
        if options.json {
            print(&(serde_json::to_string(&intervals).unwrap_or_default() + "\n"))?;
        } else {
            let text = now.iter().zip(&intervals).map(|(look, interval)| words(look, interval, color));
            let head = if clears { "\x1b[H\x1b[2J".to_owned() } else { format_time(SystemTime::now()) + "\n" };
            print(&(head + &text.collect::<Vec<_>>().join("\n")))?;
        }
        if arguments.count == Some(shown) {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

fn earlier<'a>(before: &'a [Look], now: &Look) -> Option<&'a Look> {
    before.iter().find(|look| look.status.name == now.status.name)
}

/// Resources that are down have no details, and are left out unless they were asked for by name.
fn looks(arguments: &TopArguments, options: &Options) -> Result<Vec<Look>, ApiError> {
    let target = arguments.target.as_ref();
    let client = options.client();
    let status = client.status(target.map(|target| target.resource.as_str()), options.timeout)?;
    let mut looks = Vec::new();
    for mut status in status.resources {
        let mut detail = match client.detail(&status.name, options.timeout) {
            Ok(detail) => detail,
            Err(_) if target.is_none() => continue,
            Err(error) => return Err(error),
        };
        if let Some(number) = target.and_then(|target| target.volume) {
            let known: Vec<_> = status.volumes.iter().map(|volume| volume.number.to_string()).collect();
            status.volumes.retain(|volume| volume.number == number);
            detail.volumes.retain(|volume| volume.number == number);
            if status.volumes.is_empty() {
                return Err(no_such_volume(&status.name, number, &known));
            }
        }
        looks.push(Look { at: Instant::now(), status, detail });
    }
    Ok(looks)
}

fn interval(before: &Look, now: &Look) -> Interval {
    let span = now.at.saturating_duration_since(before.at).max(Duration::from_millis(1));
    let io = |look: &Look, number: u16| {
        look.status
            .volumes
            .iter()
            .find(|volume| volume.number == number)
            .map_or(IoStatus::default(), |volume| volume.io)
    };
    let volumes = now.detail.volumes.iter().map(|volume| {
        let (earlier_io, now_io) = (io(before, volume.number), io(now, volume.number));
        let per_s = |earlier: u64, now: u64| (now.saturating_sub(earlier) as f64 / span.as_secs_f64()) as u64;
        let earlier = before.detail.volumes.iter().find(|earlier| earlier.number == volume.number);
        VolumeInterval {
            number: volume.number,
            read_bytes_per_s: per_s(earlier_io.read_bytes, now_io.read_bytes),
            written_bytes_per_s: per_s(earlier_io.written_bytes, now_io.written_bytes),
            stages: rates(earlier.map(|earlier| &earlier.latencies), &volume.latencies, span),
        }
    });
    Interval {
        resource: now.status.name.clone(),
        seconds: (span.as_secs_f64() * 1000.0).round() / 1000.0,
        link: rates(Some(&before.detail.latencies), &now.detail.latencies, span),
        volumes: volumes.collect(),
    }
}

fn rates(before: Option<&Histograms>, now: &Histograms, span: Duration) -> BTreeMap<String, Rate> {
    let none = Histogram::default();
    let rate = |name: &String, histogram: &Histogram| {
        let earlier = before.and_then(|before| before.get(name)).unwrap_or(&none);
        let latency = histogram.since(earlier).summary()?;
        Some(Rate { per_s: (latency.count as f64 / span.as_secs_f64() * 10.0).round() / 10.0, latency })
    };
    now.iter().filter_map(|(name, histogram)| Some((name.clone(), rate(name, histogram)?))).collect()
}

fn words(look: &Look, interval: &Interval, color: bool) -> String {
    let Look { status, detail, .. } = look;
    let mut text = format!(
        "{}: {} {}   {} {}   {}   in {:.1} s\n",
        paint(&status.name, Color::Strong, color),
        detail.node,
        status.role,
        status.peer.name,
        status.peer.role.map_or("role unknown".to_owned(), |role| role.to_string()),
        status.connection,
        interval.seconds
    );
    let titles = ["VOLUME", "PART", "PER SECOND", "P50", "P99", "MAX", "BYTES PER SECOND"];
    let mut rows: Vec<Vec<Cell>> = vec![titles.iter().map(|title| ((*title).to_owned(), Some(Color::Faint))).collect()];
    for volume in &interval.volumes {
        let moved = |stage: &str| match stage {
            "write" => bytes(volume.written_bytes_per_s),
            "read" => bytes(volume.read_bytes_per_s),
            _ => String::new(),
        };
        rows.extend(stage_rows(&volume.number.to_string(), &volume.stages, moved));
    }
    rows.extend(stage_rows("link", &interval.link, |_| String::new()));
    if rows.len() == 1 {
        return text + "  no requests\n";
    }
    text += &aligned(&rows, color);
    text
}

fn stage_rows(place: &str, stages: &BTreeMap<String, Rate>, moved: impl Fn(&str) -> String) -> Vec<Vec<Cell>> {
    let present = STAGES.iter().filter_map(|stage| Some((*stage, stages.get(*stage)?)));
    let row = |(stage, rate): (&str, &Rate)| {
        let LatencyStatus { p50_us, p99_us, max_us, .. } = rate.latency;
        let lengths = [p50_us, p99_us, max_us].map(|microseconds| length(Duration::from_micros(microseconds)));
        let [p50, p99, max] = lengths;
        let cells = [place.to_owned(), stage.to_owned(), format!("{:.0}", rate.per_s), p50, p99, max, moved(stage)];
        cells.map(|cell| (cell, None)).to_vec()
    };
    present.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = concat!(
        r#"{"name":"vz","role":"Primary","peer":{"name":"beta","role":"Secondary","address":"192.168.255.2:7788"},"#,
        r#""connection":"Connected","verdict":"in sync","safe_to_promote":true,"io_suspended":null,"#,
        r#""volumes":[{"number":0,"device":"/dev/ublkb0","size_bytes":1073741824,"open":true,"#,
        r#""disk":"UpToDate","peer_disk":"UpToDate","replication":"Established","out_of_sync_bytes":0,"#,
        r#""resync":null,"io":{"read_bytes":0,"written_bytes":WRITTEN,"sent_bytes":0,"received_bytes":0}}]}"#
    );
    const DETAIL: &str = concat!(
        r#"{"name":"vz","node":"alpha","peer":"beta","role":"Primary","connection":"Connected","link_problem":null,"#,
        r#""promotion_refused":null,"latencies":{"sent":[[4096,COUNT]]},"volumes":[{"number":0,"generations":null,"#,
        r#""peer_generations":null,"last_decision":null,"out_of_sync_bytes":0,"hot_extents":1,"hot_extents_max":2,"#,
        r#""resynced_bytes":0,"log_transactions":1,"clients":1,"exported":true,"export_problem":null,"direct_io":true,"#,
        r#""latencies":{"peer":[[81920,COUNT]],"write":[[98304,COUNT],[1572864,1]]}}]}"#
    );

    fn look(at: Instant, count: u64) -> Look {
        let filled =
            |text: &str| text.replace("COUNT", &count.to_string()).replace("WRITTEN", &(count * 4096).to_string());
        Look {
            at,
            status: serde_json::from_str(&filled(STATUS)).unwrap(),
            detail: serde_json::from_str(&filled(DETAIL)).unwrap(),
        }
    }

    #[test]
    fn two_looks_make_an_interval() {
        let began = Instant::now();
        let (before, now) = (look(began, 100), look(began + Duration::from_secs(2), 5100));
        let interval = interval(&before, &now);
        assert_eq!(interval.volumes[0].written_bytes_per_s, 2500 * 4096);
        assert_eq!(interval.volumes[0].stages["write"].latency.max_us, 99, "the slow one was before");
        insta::assert_snapshot!(words(&now, &interval, false));
        assert!(words(&now, &interval, true).contains('\x1b'));
    }

    #[test]
    fn nothing_that_happened_is_said() {
        let began = Instant::now();
        let interval = interval(&look(began, 5), &look(began + Duration::from_secs(1), 5));
        assert!(interval.link.is_empty() && interval.volumes[0].stages.is_empty());
        assert!(words(&look(began, 5), &interval, false).ends_with("no requests\n"));
    }
}
