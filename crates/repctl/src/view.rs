//! The status for people: a heading a resource, a line a volume.

use crate::terminal::{Color, bytes, paint, seconds};
use rep_control::api::{
    DecisionDetail, ResourceStatus, ResyncStatus, SplitBrainStatus, Status, VerifyStatus, VolumeStatus,
};
use rep_types::{ConnectionState, DiskState, ReplicationState, Role};

/// The whole state.
pub fn status(status: &Status, color: bool) -> String {
    if status.resources.is_empty() {
        return format!("{}: no resources\n", status.node);
    }
    let resources: Vec<_> = status.resources.iter().map(|one| resource(&status.node, one, color)).collect();
    resources.join("\n")
}

fn resource(node: &str, status: &ResourceStatus, color: bool) -> String {
    let verdict = paint(&status.verdict, verdict_color(status), color);
    let mut text = format!("{}: {verdict}\n", paint(&status.name, Color::Strong, color));
    let role = status.peer.role.map_or("role unknown".to_owned(), |role| role.to_string());
    let connection = paint(&status.connection.to_string(), connection_color(status.connection), color);
    text += &format!("  {node} {}   {} {role} ({})   {connection}", status.role, status.peer.name, status.peer.address);
    if let Some(why) = &status.io_suspended {
        text += &format!("   {}", paint(&format!("client I/O waits: {why}"), Color::Bad, color));
    }
    text += "\n";
    text += &table(&status.volumes, status.role, color);
    text += &devices(&status.volumes, status.role);
    for volume in &status.volumes {
        if let Some(resync) = &volume.resync {
            text += &resync_line(volume.number, resync);
        }
        if let Some(verify) = &volume.verify {
            text += &verify_line(volume.number, verify);
        }
    }
    text += &status.split_brain.as_ref().map_or(String::new(), |apart| split_brain(apart, status.volumes.len()));
    text += &decisions(&status.volumes);
    if let Some(why) = status.promotion_refused.as_ref().filter(|_| status.role == Role::Secondary) {
        text += &format!("  not to be promoted now: {why}\n");
    }
    text
}

/// Which volume a line is about, where that isn't plain.
fn numbered(number: u16, volumes: usize) -> String {
    if volumes == 1 { String::new() } else { format!("volume {number} ") }
}

/// What is offered to clients and by which driver, a line a volume of a Primary.
fn devices(volumes: &[VolumeStatus], role: Role) -> String {
    if role != Role::Primary {
        return String::new();
    }
    let line = |volume: &VolumeStatus| {
        let words = device(volume)?;
        Some(format!("  device: {}{words}\n", numbered(volume.number, volumes.len())))
    };
    volumes.iter().filter_map(line).collect()
}

fn device(volume: &VolumeStatus) -> Option<String> {
    let driver = volume.driver.as_ref();
    let mut words: Vec<String> = driver.map(|driver| driver.name.clone()).into_iter().collect();
    words.extend(volume.block_bytes.map(|block| format!("blocks of {block} bytes")));
    words.extend(volume.discards.map(|offered| if offered { "discards" } else { "no discards" }.to_owned()));
    words.extend(
        volume.volatile_cache.map(|volatile| if volatile { "flushes" } else { "no flushes needed" }.to_owned()),
    );
    words.extend(
        driver.map(|driver| if driver.grows { "grows while open" } else { "keeps its size while open" }.to_owned()),
    );
    words.extend(
        driver.map(|driver| if driver.memory_locked { "memory locked" } else { "memory not locked" }.to_owned()),
    );
    words.extend(driver.filter(|driver| !driver.memory_reserve).map(|_| "no memory in reserve".to_owned()));
    let features = driver.filter(|driver| !driver.features.is_empty());
    let features = features.map_or(String::new(), |driver| format!("; the driver has {}", driver.features.join(", ")));
    (!words.is_empty()).then(|| words.join(", ") + &features)
}

/// Who went on since when, a line a node.
fn split_brain(apart: &SplitBrainStatus, volumes: usize) -> String {
    let lines = apart.volumes.iter().flat_map(|of| of.nodes.iter().map(move |node| (of.number, node)));
    lines.map(|(number, node)| format!("  split brain: {}{}\n", numbered(number, volumes), node.words())).collect()
}

/// What the last handshake decided, once for volumes of which it decided the same.
fn decisions(volumes: &[VolumeStatus]) -> String {
    let line = |which: &str, decision: &DecisionDetail| {
        format!("  last handshake: {which}rule {}: {}\n", decision.rule, decision.sentence)
    };
    let decided = volumes.iter().filter_map(|volume| Some((volume.number, volume.last_decision.as_ref()?)));
    match volumes.first().and_then(|first| first.last_decision.as_ref()) {
        Some(first) if volumes.iter().all(|volume| volume.last_decision.as_ref() == Some(first)) => line("", first),
        _ => decided.map(|(number, decision)| line(&numbered(number, volumes.len()), decision)).collect(),
    }
}

fn resync_line(number: u16, resync: &ResyncStatus) -> String {
    let eta = resync.eta_s.map_or("unknown".to_owned(), seconds);
    format!(
        "  volume {number} resync {}  {} of {}, {}/s, to go: {eta}\n",
        bar(resync.percent()),
        bytes(resync.done_bytes),
        bytes(resync.total_bytes),
        bytes(resync.rate_bytes_per_s)
    )
}

fn verify_line(number: u16, verify: &VerifyStatus) -> String {
    let eta = verify.eta_s.map_or("unknown".to_owned(), seconds);
    let pace = match verify.halted {
        true => "halted".to_owned(),
        false => format!("{}/s, to go: {eta}", bytes(verify.rate_bytes_per_s)),
    };
    let differ = match verify.different_bytes {
        0 => String::new(),
        different => format!(", {} differ", bytes(different)),
    };
    format!(
        "  volume {number} verify {}  {} of {}, {pace}{differ}\n",
        bar(verify.percent()),
        bytes(verify.done_bytes),
        bytes(verify.total_bytes)
    )
}

fn bar(percent: u64) -> String {
    let filled = (percent.min(100) * 30 / 100) as usize;
    format!("[{}{}] {percent} %", "=".repeat(filled), " ".repeat(30 - filled))
}

/// A cell and its colour.
pub type Cell = (String, Option<Color>);

fn table(volumes: &[VolumeStatus], role: Role, color: bool) -> String {
    let header = ["VOLUME", "SIZE", "DISK", "PEER DISK", "REPLICATION", "OUT-OF-SYNC", "OPEN", "DEVICE"];
    let mut rows: Vec<Vec<Cell>> = vec![header.iter().map(|title| ((*title).to_owned(), Some(Color::Faint))).collect()];
    rows.extend(volumes.iter().map(|volume| row(volume, role)));
    aligned(&rows, color)
}

/// Rows of the same number of cells, in columns.
pub fn aligned(rows: &[Vec<Cell>], color: bool) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].0.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    rows.iter().map(|row| line(row, &widths, color)).collect()
}

fn line(row: &[Cell], widths: &[usize], color: bool) -> String {
    let mut text = String::from("  ");
    for (index, ((cell, cell_color), width)) in row.iter().zip(widths).enumerate() {
        let padding = if index + 1 == row.len() { 0 } else { width - cell.chars().count() + 2 };
        text += &cell_color.map_or_else(|| cell.clone(), |cell_color| paint(cell, cell_color, color));
        text += &" ".repeat(padding);
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn row(volume: &VolumeStatus, role: Role) -> Vec<Cell> {
    let out_of_sync = if volume.out_of_sync_bytes == 0 { Color::Good } else { Color::Middling };
    let size = if volume.size_bytes == 0 { "-".to_owned() } else { bytes(volume.size_bytes) };
    let open = match (role, volume.open) {
        (_, true) => "yes",
        (Role::Primary, false) => "no",
        (Role::Secondary, false) => "-",
    };
    vec![
        (volume.number.to_string(), None),
        (size, None),
        (volume.disk.to_string(), Some(disk_color(volume.disk))),
        (volume.peer_disk.to_string(), Some(disk_color(volume.peer_disk))),
        (volume.replication.to_string(), Some(replication_color(volume.replication))),
        (bytes(volume.out_of_sync_bytes), Some(out_of_sync)),
        (open.to_owned(), None),
        (volume.device.clone(), None),
    ]
}

fn verdict_color(status: &ResourceStatus) -> Color {
    let resyncs = status.volumes.iter().any(|volume| volume.replication.is_resync());
    match status.connection {
        ConnectionState::Connected if status.verdict == "in sync" => Color::Good,
        _ if resyncs => Color::Middling,
        ConnectionState::SplitBrain | ConnectionState::UnrelatedData => Color::Bad,
        _ => Color::Middling,
    }
}

fn connection_color(connection: ConnectionState) -> Color {
    match connection {
        ConnectionState::Connected => Color::Good,
        ConnectionState::SplitBrain | ConnectionState::UnrelatedData => Color::Bad,
        _ => Color::Middling,
    }
}

fn disk_color(disk: DiskState) -> Color {
    match disk {
        DiskState::UpToDate => Color::Good,
        DiskState::Failed | DiskState::Diskless => Color::Bad,
        _ => Color::Middling,
    }
}

fn replication_color(replication: ReplicationState) -> Color {
    if replication == ReplicationState::Established { Color::Good } else { Color::Middling }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rep_control::api::{ApartNode, DriverStatus, SplitBrainVolume};

    const STATUS: &str = concat!(
        r#"{"node":"alpha","version":"0.1.0","resources":[{"name":"vz","role":"Primary","#,
        r#""peer":{"name":"beta","role":null,"address":"192.168.255.2:7788"},"#,
        r#""connection":"Connecting","verdict":"peer not reachable: connection refused (192.168.255.2:7788)","#,
        r#""safe_to_promote":true,"io_suspended":null,"#,
        r#""volumes":[{"number":0,"device":"nbd:unix:/run/repd/vz.sock","size_bytes":1073741824,"open":true,"#,
        r#""disk":"UpToDate","peer_disk":"DUnknown","replication":"Off","out_of_sync_bytes":1048576,"#,
        r#""resync":{"role":"SyncSource","total_bytes":100,"done_bytes":42,"rate_bytes_per_s":7,"eta_s":9},"#,
        r#""io":{"read_bytes":0,"written_bytes":0,"sent_bytes":0,"received_bytes":0}}]}]}"#
    );

    #[test]
    fn the_view_in_a_pipe() {
        let parsed: Status = serde_json::from_str(STATUS).unwrap();
        insta::assert_snapshot!(status(&parsed, false));
        assert!(!status(&parsed, false).contains('\x1b'));
        assert!(status(&parsed, true).contains('\x1b'));
    }

    #[test]
    fn a_verify_s_progress() {
        let line = |rate_bytes_per_s, different_bytes, halted| {
            let (total_bytes, done_bytes, eta_s) = (200 << 20, 84 << 20, (rate_bytes_per_s > 0).then_some(65));
            verify_line(0, &VerifyStatus { total_bytes, done_bytes, different_bytes, rate_bytes_per_s, eta_s, halted })
        };
        let bar = "  volume 0 verify [============                  ] 42 %  84.0 MiB of 200 MiB, ";
        assert_eq!(line(2 << 20, 0, false), format!("{bar}2.00 MiB/s, to go: 1:05 min\n"));
        assert_eq!(line(2 << 20, 4096, true), format!("{bar}halted, 4.00 KiB differ\n"));
    }

    fn parsed() -> Status {
        serde_json::from_str(STATUS).unwrap()
    }

    fn decided(rule: &str) -> Option<DecisionDetail> {
        let (verdict, sentence) = ("nothing to copy".into(), "both disks are equal".into());
        Some(DecisionDetail { rule: rule.into(), verdict, sentence })
    }

    #[test]
    fn the_rule_is_told_once_for_volumes_that_agree() {
        let mut parsed = parsed();
        let resource = &mut parsed.resources[0];
        resource.volumes[0].last_decision = decided("both-off");
        resource.volumes.push(VolumeStatus { number: 1, ..resource.volumes[0].clone() });
        let lines = |parsed: &Status| {
            let text = status(parsed, false);
            text.lines().filter(|line| line.contains("last handshake")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&parsed), ["  last handshake: rule both-off: both disks are equal"]);
        parsed.resources[0].volumes[1].last_decision = decided("no-disk");
        assert_eq!(
            lines(&parsed),
            [
                "  last handshake: volume 0 rule both-off: both disks are equal",
                "  last handshake: volume 1 rule no-disk: both disks are equal"
            ]
        );
        parsed.resources[0].volumes[0].last_decision = None;
        assert_eq!(lines(&parsed), ["  last handshake: volume 1 rule no-disk: both disks are equal"]);
    }

    #[test]
    fn what_is_offered_is_told_with_the_driver_and_what_that_has() {
        let mut parsed = parsed();
        let lines = |parsed: &Status| {
            let text = status(parsed, false);
            text.lines().filter(|line| line.contains("device:")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(lines(&parsed).is_empty(), "an older daemon doesn't tell");
        let volume = &mut parsed.resources[0].volumes[0];
        (volume.block_bytes, volume.discards) = (Some(4096), Some(false));
        assert_eq!(lines(&parsed), ["  device: blocks of 4096 bytes, no discards"]);
        parsed.resources[0].volumes[0].volatile_cache = Some(false);
        assert_eq!(lines(&parsed), ["  device: blocks of 4096 bytes, no discards, no flushes needed"]);
        parsed.resources[0].volumes[0].volatile_cache = Some(true);
        let features = ["USER_RECOVERY", "USER_COPY"].map(str::to_owned).to_vec();
        let driver =
            DriverStatus { name: "ublk".into(), features, grows: false, memory_locked: true, memory_reserve: true };
        parsed.resources[0].volumes[0].driver = Some(driver);
        assert_eq!(
            lines(&parsed),
            ["  device: ublk, blocks of 4096 bytes, no discards, flushes, keeps its size while open, memory locked; \
              the driver has USER_RECOVERY, USER_COPY"]
        );
        let driver = parsed.resources[0].volumes[0].driver.as_mut().unwrap();
        (driver.memory_reserve, driver.features) = (false, Vec::new());
        assert!(lines(&parsed)[0].ends_with("memory locked, no memory in reserve"), "{:?}", lines(&parsed));
        parsed.resources[0].role = Role::Secondary;
        assert!(lines(&parsed).is_empty(), "there is no device");
    }

    #[test]
    fn why_a_secondary_is_not_to_be_promoted_is_told() {
        let mut parsed = parsed();
        parsed.resources[0].promotion_refused = Some("the peer is Primary".into());
        assert!(!status(&parsed, false).contains("not to be promoted"), "it is Primary");
        parsed.resources[0].role = Role::Secondary;
        assert!(status(&parsed, false).contains("  not to be promoted now: the peer is Primary\n"));
    }

    #[test]
    fn a_split_brain_is_told_with_both_sides() {
        let mut parsed = parsed();
        let node = |name: &str, bytes| ApartNode::new(name, 951_782_400_007, true, bytes, "0A".into());
        let (nodes, unsettled) = (vec![node("alpha", 4096), node("beta", 8192)], "no-policy".into());
        let volumes = vec![SplitBrainVolume { number: 0, rule: "split-brain-bitmap".into(), unsettled, nodes }];
        parsed.resources[0].split_brain = Some(SplitBrainStatus { volumes });
        let text = status(&parsed, false);
        for line in [
            "  split brain: alpha: wrote 4.00 KiB alone since 2000-02-29T00:00:00.007Z; newest generation 0A\n",
            "  split brain: beta: wrote 8.00 KiB alone since 2000-02-29T00:00:00.007Z; newest generation 0A\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
