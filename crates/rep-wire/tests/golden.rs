//! The bytes of each kind of message, decoded for ever: `tests/golden/NAME.hex` is the first frame of a connection.
//!
//! To add a file for a new message: `REPD_GOLDEN_WRITE=1 cargo test -p rep-wire --test golden`. A file that exists is
//! never written again: what it says is the protocol.

#![allow(clippy::disallowed_methods)] // the golden files are files; the crate itself touches none

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::{control_samples, frame_of, parse_first, payload_of, samples};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(16).map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

#[test]
fn every_message_is_encoded_to_its_golden_bytes_and_decoded_from_them() {
    let write = std::env::var_os("REPD_GOLDEN_WRITE").is_some();
    for (name, message) in samples() {
        let path = folder().join(name).with_extension("hex");
        if write && !path.exists() {
            std::fs::write(&path, hex(&frame_of(&message))).expect("a writable folder");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(hex(&frame_of(&message)), golden, "{name}: the bytes changed");
        let frame = parse_first(&unhex(&golden));
        assert_eq!(frame.message, message, "{name}");
        assert_eq!(frame.consumed, unhex(&golden).len(), "{name}");
        if let Some(expected) = frame.payload {
            expected.verify(&payload_of(&message)).expect("the sample's payload");
        }
    }
}

#[test]
fn every_golden_file_has_its_sample() {
    let names: BTreeSet<_> = samples().into_iter().map(|(name, _)| format!("{name}.hex")).collect();
    let files = std::fs::read_dir(folder()).expect("the golden folder");
    let files: BTreeSet<_> =
        files.map(|file| file.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(names, files);
}

/// The number of a control message is its place in the enum: inserting one anywhere but at the end breaks the protocol.
#[test]
fn control_messages_are_numbered_in_order() {
    for (number, (name, message)) in control_samples().into_iter().enumerate() {
        let frame = frame_of(&message.into());
        assert_eq!(usize::from(frame[rep_wire::limits::HEADER_LENGTH]), number, "{name}");
    }
}
