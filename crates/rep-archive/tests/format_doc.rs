//! `docs/ARCHIVE.md` against the bytes that are written.

const DOC: &str = include_str!("../../../docs/ARCHIVE.md");
const GOLDEN: &[u8] = include_bytes!("golden/version-1.archive");

/// Offset and size of a field, as the doc has them below this heading.
fn field(heading: &str, name: &str) -> std::ops::Range<usize> {
    let (_, text) = DOC.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let line =
        text.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{name}`"))).expect("the field");
    let numbers: Vec<usize> = line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
    numbers[0]..numbers[0] + numbers[1]
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn the_head_is_as_the_doc_says() {
    let at = |name| &GOLDEN[field("Head", name)];
    assert_eq!(at("magic"), b"REPDARCH");
    assert_eq!(number(at("version")), u64::from(rep_archive::VERSION));
    assert_eq!((number(at("scope")), number(at("volume"))), (2, 3));
    assert_eq!((number(at("created_unix_ms")), number(at("size_bytes"))), (1_767_323_045_678, 1536));
    assert_eq!((number(&at("generations")[..8]), number(&at("generations")[8..])), (0x1111_2222, 0x3333));
    assert_eq!(number(&at("survivor_generations")[..8]), 0x4444);
    for (name, value) in [("resource", "vz"), ("node", "beta"), ("survivor", "alpha")] {
        assert_eq!(std::str::from_utf8(at(name)).expect("a name").trim_end_matches('\0'), value);
    }
    let digest = field("Head", "digest");
    assert_eq!((digest.end, at("digest")), (4096, &blake3::hash(&GOLDEN[..digest.start]).as_bytes()[..]));
}

#[test]
fn the_records_are_as_the_doc_says() {
    let (mut position, mut seen, mut chain) = (4096, Vec::new(), blake3::Hasher::new());
    chain.update(&GOLDEN[..4096]);
    while position < GOLDEN.len() {
        let record = &GOLDEN[position..position + 64];
        let at = |name| &record[field("Records", name)];
        assert_eq!((at("magic"), number(at("reserved"))), (&b"RECD"[..], 0));
        let (kind, offset, length) = (number(at("kind")), number(at("offset")), number(at("length")));
        let data = if kind == 1 { &GOLDEN[position + 64..][..length as usize] } else { &[] };
        let chained = *chain.finalize().as_bytes();
        let covered = if kind == 3 { &chained[..] } else { data };
        let digest = blake3::hash(&[&record[..32], covered].concat());
        assert_eq!(at("digest"), &digest.as_bytes()[..]);
        chain.update(at("digest"));
        seen.push((kind, offset, length));
        position += 64 + data.len();
    }
    assert_eq!(seen, [(1, 0, 512), (2, 512, 512), (1, 1024, 512), (3, 3, 1536)]);
}
