//! `docs/PROTOCOL.md` says what the code does: layouts, numbers, limits, examples.

mod support;

use rep_types::{BlockIndex, BlockRange, IoError, ZeroMode};
use rep_wire::{FrameKind, LAYOUT_TABLES, Message, RejectReason, encode_runs, limits};
use std::collections::{BTreeMap, BTreeSet};
use support::{control_samples, frame_of, hot_samples};

const DOCUMENT: &str = include_str!("../../../docs/PROTOCOL.md");

/// The rows of the table with this header row, each cell without its spaces and backquotes.
fn table_after(heading: &str, header: &str) -> Vec<Vec<String>> {
    let section = DOCUMENT.split_once(heading).unwrap_or_else(|| panic!("no '{heading}'")).1;
    let table = section.split_once(header).unwrap_or_else(|| panic!("no table '{header}' after '{heading}'")).1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

fn number<T: std::str::FromStr>(cell: &str) -> T {
    cell.parse().unwrap_or_else(|_| panic!("'{cell}' isn't a number"))
}

#[test]
fn layouts_are_as_documented() {
    for (name, fields) in LAYOUT_TABLES {
        let rows = table_after(&format!("### {name}\n"), "| offset | size | field | meaning |");
        let documented: Vec<_> = rows.iter().map(|row| (number(&row[0]), number(&row[1]), row[2].as_str())).collect();
        let coded: Vec<_> = fields.iter().map(|field| (field.offset, field.size, field.name)).collect();
        assert_eq!(documented, coded, "{name}");
    }
}

#[test]
fn limits_are_as_documented() {
    let documented: BTreeMap<String, usize> = table_after("## Limits", "| limit | value |")
        .into_iter()
        .map(|row| (row[0].clone(), number(&row[1])))
        .collect();
    let coded = [
        ("PROTOCOL_VERSION_MIN", usize::from(limits::PROTOCOL_VERSION_MIN)),
        ("PROTOCOL_VERSION_MAX", usize::from(limits::PROTOCOL_VERSION_MAX)),
        ("HEADER_LENGTH", limits::HEADER_LENGTH),
        ("BODY_LENGTH_MAX", limits::BODY_LENGTH_MAX),
        ("HOT_BODY_LENGTH_MAX", limits::HOT_BODY_LENGTH_MAX),
        ("PAYLOAD_LENGTH_MAX", limits::PAYLOAD_LENGTH_MAX as usize),
        ("VOLUMES_MAX", limits::VOLUMES_MAX),
        ("RUNS_LENGTH_MAX", limits::RUNS_LENGTH_MAX),
        ("FORWARD_WINDOW", limits::FORWARD_WINDOW as usize),
        ("FORWARD_WRITES_MAX", limits::FORWARD_WRITES_MAX),
        ("OPENING_BODY_LENGTH_MAX", limits::OPENING_BODY_LENGTH_MAX),
        ("OPENING_LENGTH_MAX", limits::OPENING_LENGTH_MAX),
    ];
    assert_eq!(documented, coded.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
}

#[test]
fn features_are_as_documented() {
    let rows = table_after("### HelloBody", "| bit | feature | what it adds |");
    let documented: Vec<(u64, String)> = rows.iter().map(|row| (1 << number::<u32>(&row[0]), row[1].clone())).collect();
    let offered = [
        (rep_wire::features::RESYNC_BY_DIGESTS, "RESYNC_BY_DIGESTS".to_owned()),
        (rep_wire::features::REPAIR_WORD, "REPAIR_WORD".to_owned()),
        (rep_wire::features::HANDOVER, "HANDOVER".to_owned()),
        (rep_wire::features::DISK_LIMITS, "DISK_LIMITS".to_owned()),
        (rep_wire::features::RESYNC_RUNS, "RESYNC_RUNS".to_owned()),
        (rep_wire::features::DISK_CACHES, "DISK_CACHES".to_owned()),
        (rep_wire::features::PAYLOAD_XXH64, "PAYLOAD_XXH64".to_owned()),
        (rep_wire::features::BEGIN_ANEW, "BEGIN_ANEW".to_owned()),
    ];
    assert_eq!(documented, offered);
    assert_eq!(documented.iter().map(|(bit, _)| bit).sum::<u64>(), rep_wire::features::ALL);
}

#[test]
fn kinds_bodies_and_payloads_are_as_documented() {
    let rows = table_after("### Kinds", "| number | message | body | payload | from → to |");
    let documented: Vec<(u8, String)> = rows.iter().map(|row| (number(&row[0]), row[1].clone())).collect();
    let coded: Vec<(u8, String)> = FrameKind::ALL.iter().map(|kind| (*kind as u8, format!("{kind:?}"))).collect();
    assert_eq!(documented, coded);
    let sizes: BTreeMap<_, _> = LAYOUT_TABLES
        .iter()
        .map(|(name, fields)| (*name, fields.iter().map(|field| field.size).sum::<usize>()))
        .collect();
    for (name, message) in hot_samples() {
        let frame = frame_of(&message);
        let row = rows.iter().find(|row| number::<u8>(&row[0]) == frame[6]).expect("a documented kind");
        let variant = format!("{message:?}");
        assert_eq!(variant.split([' ', '{']).next(), Some(row[1].as_str()), "{name}");
        assert_eq!(frame.len() - limits::HEADER_LENGTH, sizes[row[2].as_str()], "{name}");
        let payload = if matches!(message, Message::ResyncRuns { .. }) { "the other blocks" } else { "length bytes" };
        assert!(message.payload_length() == 0 || row[3] == payload, "{name}");
    }
}

#[test]
fn control_messages_are_numbered_as_documented() {
    let rows = table_after("## Control messages", "| number | message | from → to | when |");
    let documented: Vec<(u8, String)> = rows.iter().map(|row| (number(&row[0]), row[1].clone())).collect();
    let coded: Vec<(u8, String)> = control_samples()
        .into_iter()
        .map(|(_, message)| {
            let variant = format!("{message:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
            (frame_of(&message.into())[limits::HEADER_LENGTH], variant)
        })
        .collect();
    assert_eq!(documented, coded);
}

#[test]
fn results_and_zero_modes_are_numbered_as_documented() {
    let id = rep_wire::TransferId(0);
    let result_number = |result| frame_of(&Message::WriteAck { id, result })[limits::HEADER_LENGTH + 12];
    let rows = table_after("### AnswerBody", "| result | name |");
    let documented: Vec<(u8, String)> = rows.iter().map(|row| (number(&row[0]), row[1].clone())).collect();
    let errors = [IoError::Io, IoError::NoSpace, IoError::Invalid, IoError::NotPrimary, IoError::Unsupported];
    let coded = errors.map(|error| (result_number(Err(error)), format!("{error:?}")));
    assert_eq!(documented, [[(result_number(Ok(())), "success".to_owned())].as_slice(), &coded].concat());

    let (volume, range) = (rep_types::VolumeNumber(0), rep_types::ByteRange::new(0, 512));
    let mode_number =
        |mode| frame_of(&Message::Zero { id, volume, range, mode, durable: false })[limits::HEADER_LENGTH + 22];
    let rows = table_after("### RangeBody", "| mode | name | meaning |");
    let documented: Vec<(u8, String)> = rows.iter().map(|row| (number(&row[0]), row[1].clone())).collect();
    let modes = [ZeroMode::Discard, ZeroMode::ZeroMayUnmap, ZeroMode::ZeroNoUnmap];
    assert_eq!(documented, modes.map(|mode| (mode_number(mode), format!("{mode:?}"))));
}

#[test]
fn reject_reasons_are_numbered_as_documented() {
    let rows = table_after("### RejectBody", "| reason | name | meaning |");
    let documented: BTreeSet<(u16, String)> = rows.iter().map(|row| (number(&row[0]), row[1].clone())).collect();
    let coded = RejectReason::ALL.iter().map(|reason| (*reason as u16, format!("{reason:?}"))).collect();
    assert_eq!(documented, coded);
}

#[test]
fn the_examples_of_bitmap_runs_are_right() {
    let rows = table_after("### Bitmap runs", "| blocks out-of-sync, from 10 on | runs |");
    let sets = [vec![], vec![BlockRange::new(10, 2)], vec![BlockRange::new(10, 2), BlockRange::new(212, 1)]];
    assert_eq!(rows.len(), sets.len());
    for (row, set) in rows.iter().zip(sets) {
        let (runs, _) = encode_runs(BlockIndex(10), set);
        let hex: Vec<String> = runs.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(row[1], hex.join(" "));
    }
}
