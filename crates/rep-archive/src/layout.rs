//! Bytes of an archive, little-endian. docs/ARCHIVE.md tells the same in words, and a test compares the two.

use crate::{RECORD_BYTES_MAX, ZEROES_BYTES_MAX};
use rep_types::{NodeName, ResourceName, SECTOR_SIZE, VolumeNumber};

/// The version of the format.
pub const VERSION: u32 = 1;
/// Bytes of the head.
pub(crate) const HEAD_LENGTH: usize = 4096;
/// Bytes of a record's head.
pub(crate) const RECORD_LENGTH: usize = 64;

const MAGIC: &[u8; 8] = b"REPDARCH";
const RECORD_MAGIC: u32 = 0x4443_4552;
const DIGEST_AT: usize = HEAD_LENGTH - 32;
const NAMES_AT: [usize; 3] = [128, 192, 256];
const NAME_LENGTH_MAX: usize = 64;

/// What an archive holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The blocks in which the two nodes could differ.
    Differing,
    /// Every block.
    All,
}

/// What stands at the beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Whose volume it was.
    pub resource: ResourceName,
    /// Which.
    pub volume: VolumeNumber,
    /// The node whose data these are.
    pub node: NodeName,
    /// The node whose data stayed.
    pub survivor: NodeName,
    /// When it was begun, in milliseconds since 1970, by the node's clock.
    pub created_unix_ms: u64,
    /// Bytes of the volume.
    pub size_bytes: u64,
    /// What is in it.
    pub scope: Scope,
    /// Current and bitmap generation of the data.
    pub generations: [u64; 2],
    /// Current and bitmap generation of the survivor's data.
    pub survivor_generations: [u64; 2],
}

/// A record's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordHead {
    pub kind: RecordKind,
    pub digest: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RecordKind {
    /// `length` bytes follow; they belong at `offset`.
    Data { offset: u64, length: u64 },
    /// Zeroes belong there; nothing follows.
    Zeroes { offset: u64, length: u64 },
    /// The end: so many records came before, with so many bytes of the volume.
    End { records: u64, bytes: u64 },
}

/// Why bytes aren't a head or a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LayoutError {
    /// Not the magic.
    #[error("it is no archive of repd")]
    NotAnArchive,
    /// Another version.
    #[error("it has version {0} of the format; this program knows {VERSION}")]
    Version(u32),
    /// The digest isn't that of the bytes.
    #[error("its head is damaged")]
    HeadDamaged,
    /// A record isn't one.
    #[error("a record is damaged")]
    RecordDamaged,
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD_LENGTH] {
        let mut bytes = [0; HEAD_LENGTH];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        bytes[12] = match self.scope {
            Scope::Differing => 1,
            Scope::All => 2,
        };
        put(&mut bytes, 14, &self.volume.0.to_le_bytes());
        let numbers = [self.created_unix_ms, self.size_bytes];
        let numbers = numbers.into_iter().chain(self.generations).chain(self.survivor_generations);
        for (index, number) in numbers.enumerate() {
            put(&mut bytes, 16 + 8 * index, &number.to_le_bytes());
        }
        let names = [self.resource.as_str(), self.node.as_str(), self.survivor.as_str()];
        for (at, name) in NAMES_AT.into_iter().zip(names) {
            put(&mut bytes, at, name.as_bytes());
        }
        let digest = *blake3::hash(&bytes[..DIGEST_AT]).as_bytes();
        put(&mut bytes, DIGEST_AT, &digest);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEAD_LENGTH]) -> Result<Head, LayoutError> {
        if &bytes[..8] != MAGIC {
            return Err(LayoutError::NotAnArchive);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(LayoutError::Version(version));
        }
        if blake3::hash(&bytes[..DIGEST_AT]).as_bytes()[..] != bytes[DIGEST_AT..] {
            return Err(LayoutError::HeadDamaged);
        }
        let damaged = LayoutError::HeadDamaged;
        let name = |at: usize| {
            let field = &bytes[at..at + NAME_LENGTH_MAX];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(NAME_LENGTH_MAX);
            String::from_utf8(field[..end].to_vec()).map_err(|_| damaged)
        };
        let node = |at: usize| NodeName::new(name(at)?).map_err(|_| damaged);
        let number = |index: usize| u64_at(bytes, 16 + 8 * index);
        Ok(Head {
            resource: ResourceName::new(name(NAMES_AT[0])?).map_err(|_| damaged)?,
            volume: VolumeNumber(u16::from_le_bytes([bytes[14], bytes[15]])),
            node: node(NAMES_AT[1])?,
            survivor: node(NAMES_AT[2])?,
            created_unix_ms: number(0),
            size_bytes: Some(number(1)).filter(|size| size.is_multiple_of(SECTOR_SIZE)).ok_or(damaged)?,
            scope: match bytes[12] {
                1 => Scope::Differing,
                2 => Scope::All,
                _ => return Err(damaged),
            },
            generations: [number(2), number(3)],
            survivor_generations: [number(4), number(5)],
        })
    }
}

impl RecordKind {
    /// Bytes that follow the head.
    pub fn data_length(self) -> u64 {
        match self {
            RecordKind::Data { length, .. } => length,
            RecordKind::Zeroes { .. } | RecordKind::End { .. } => 0,
        }
    }

    /// The head's first half.
    fn encode(self) -> [u8; 32] {
        let (kind, first, second) = match self {
            RecordKind::Data { offset, length } => (1u32, offset, length),
            RecordKind::Zeroes { offset, length } => (2, offset, length),
            RecordKind::End { records, bytes } => (3, records, bytes),
        };
        let mut bytes = [0; 32];
        put(&mut bytes, 0, &RECORD_MAGIC.to_le_bytes());
        put(&mut bytes, 4, &kind.to_le_bytes());
        put(&mut bytes, 8, &first.to_le_bytes());
        put(&mut bytes, 16, &second.to_le_bytes());
        bytes
    }

    /// The digest of a record: of its head's first half and the data; for the end, of all digests before.
    pub fn digest(self, data: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.encode()).update(data);
        *hasher.finalize().as_bytes()
    }
}

impl RecordHead {
    pub fn new(kind: RecordKind, data: &[u8]) -> Self {
        RecordHead { kind, digest: kind.digest(data) }
    }

    pub fn encode(&self) -> [u8; RECORD_LENGTH] {
        let mut bytes = [0; RECORD_LENGTH];
        put(&mut bytes, 0, &self.kind.encode());
        put(&mut bytes, 32, &self.digest);
        bytes
    }

    /// Reads a head; its digest isn't compared yet.
    pub fn decode(bytes: &[u8; RECORD_LENGTH]) -> Result<RecordHead, LayoutError> {
        let (first, second) = (u64_at(bytes, 8), u64_at(bytes, 16));
        let legal = |length_max: u64| {
            let whole = first.is_multiple_of(SECTOR_SIZE) && second.is_multiple_of(SECTOR_SIZE);
            whole && second > 0 && second <= length_max && first.checked_add(second).is_some()
        };
        let kind = match u32_at(bytes, 4) {
            1 if legal(RECORD_BYTES_MAX) => RecordKind::Data { offset: first, length: second },
            2 if legal(ZEROES_BYTES_MAX) => RecordKind::Zeroes { offset: first, length: second },
            3 => RecordKind::End { records: first, bytes: second },
            _ => return Err(LayoutError::RecordDamaged),
        };
        if u32_at(bytes, 0) != RECORD_MAGIC || u64_at(bytes, 24) != 0 {
            return Err(LayoutError::RecordDamaged);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[32..]);
        Ok(RecordHead { kind, digest })
    }
}
