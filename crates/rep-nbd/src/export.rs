//! What is offered: exports, what each can do, and the catalog a listening socket shows.

use crate::limits::{MIN_BLOCK_BYTES_MAX, PAYLOAD_LENGTH_MAX, PREFERRED_BLOCK_BYTES, STRING_LENGTH_MAX};
use crate::protocol::transmission_flag as flag;
use rep_types::SECTOR_SIZE;

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;

/// An export, named by the shell; what a negotiation chooses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExportId(pub u32);

/// Whether `WRITE_ZEROES` with the fast-zero flag is offered, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FastZero {
    /// Not offered; the flag is an illegal one.
    NotOffered,
    /// Offered, and refused with `ENOTSUP` at once: the disk may be as slow at zeroing as at writing.
    #[default]
    AlwaysRefused,
    /// Offered, and done: both disks zero by changing metadata alone.
    Done,
}

/// What an export can do. Reading, writing, `CACHE` and `WRITE_ZEROES` are always offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExportFeatures {
    /// Writes, trims and zeroes are refused with `EPERM`.
    pub read_only: bool,
    /// An answered write may be lost by a power cut until a flush: offers `FLUSH` and FUA. Durability "stable" has
    /// none; `FLUSH` and FUA are still obeyed there if a client sends them.
    pub volatile_cache: bool,
    /// `TRIM` is offered.
    pub trim: bool,
    /// Fast zeroing.
    pub fast_zero: FastZero,
    /// A flush on one connection covers writes answered on any (R4).
    pub multi_conn: bool,
    /// `BLOCK_STATUS` with `base:allocation` is offered.
    pub block_status: bool,
}

impl Default for ExportFeatures {
    /// What a mirrored volume of durability "std" offers.
    fn default() -> Self {
        ExportFeatures {
            read_only: false,
            volatile_cache: true,
            trim: true,
            fast_zero: FastZero::AlwaysRefused,
            multi_conn: true,
            block_status: true,
        }
    }
}

/// Why an export can't be offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExportError {
    /// A name or description is longer than the protocol allows.
    #[error("a name or description is longer than {STRING_LENGTH_MAX} bytes")]
    TooLong,
    /// The minimum block size isn't a power of two from 512 to 65536.
    #[error("the minimum block size {0} is not a power of two from 512 to 65536")]
    BadMinBlock(u32),
}

/// An export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    id: ExportId,
    name: String,
    alias: Option<String>,
    description: String,
    size_bytes: u64,
    min_block_bytes: u32,
    /// What it can do.
    pub features: ExportFeatures,
}

impl Export {
    /// An export of `size_bytes`, rounded down to whole minimum blocks (the backing device's logical block size).
    pub fn new(id: ExportId, name: &str, size_bytes: u64, min_block_bytes: u32) -> Result<Self, ExportError> {
        let legal = SECTOR_SIZE as u32..=MIN_BLOCK_BYTES_MAX;
        if !min_block_bytes.is_power_of_two() || !legal.contains(&min_block_bytes) {
            return Err(ExportError::BadMinBlock(min_block_bytes));
        }
        Ok(Export {
            id,
            name: checked(name)?,
            alias: None,
            description: String::new(),
            size_bytes: size_bytes - size_bytes % u64::from(min_block_bytes),
            min_block_bytes,
            features: ExportFeatures::default(),
        })
    }

    /// Adds a second name, not listed (`RESOURCE/0` beside `RESOURCE`).
    pub fn with_alias(mut self, alias: &str) -> Result<Self, ExportError> {
        self.alias = Some(checked(alias)?);
        Ok(self)
    }

    /// Adds words for humans.
    pub fn with_description(mut self, description: &str) -> Result<Self, ExportError> {
        self.description = checked(description)?;
        Ok(self)
    }

    /// Sets what it can do.
    pub fn with_features(mut self, features: ExportFeatures) -> Self {
        self.features = features;
        self
    }

    /// Its number.
    pub fn id(&self) -> ExportId {
        self.id
    }

    /// Its name, as listed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Words for humans; may be empty.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The smallest unit clients may address, in bytes.
    pub fn min_block_bytes(&self) -> u32 {
        self.min_block_bytes
    }

    /// Minimum, preferred and maximum block size, in bytes.
    pub fn block_sizes(&self) -> [u32; 3] {
        [self.min_block_bytes, self.min_block_bytes.max(PREFERRED_BLOCK_BYTES), PAYLOAD_LENGTH_MAX]
    }

    /// The transmission flags. `structured`: whether structured replies were negotiated, on which don't-fragment hangs.
    pub fn transmission_flags(&self, structured: bool) -> u16 {
        let features = &self.features;
        let when = |condition: bool, flags: u16| if condition { flags } else { 0 };
        flag::HAS_FLAGS
            | flag::SEND_WRITE_ZEROES
            | flag::SEND_CACHE
            | when(features.read_only, flag::READ_ONLY)
            | when(features.volatile_cache, flag::SEND_FLUSH | flag::SEND_FUA)
            | when(features.trim, flag::SEND_TRIM)
            | when(features.fast_zero != FastZero::NotOffered, flag::SEND_FAST_ZERO)
            | when(features.multi_conn, flag::CAN_MULTI_CONN)
            | when(structured, flag::SEND_DF)
    }

    fn answers_to(&self, name: &[u8]) -> bool {
        self.name.as_bytes() == name || self.alias.as_ref().is_some_and(|alias| alias.as_bytes() == name)
    }
}

fn checked(text: &str) -> Result<String, ExportError> {
    if text.len() > STRING_LENGTH_MAX { Err(ExportError::TooLong) } else { Ok(text.to_owned()) }
}

/// What a listening socket offers at this moment. A Secondary's is empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExportCatalog {
    exports: Vec<Export>,
    default: Option<ExportId>,
}

impl ExportCatalog {
    /// A catalog. `default` is what the empty name stands for.
    pub fn new(exports: Vec<Export>, default: Option<ExportId>) -> Self {
        ExportCatalog { exports, default }
    }

    /// The exports, in the order they are listed.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// The export of this number.
    pub fn get(&self, id: ExportId) -> Option<&Export> {
        self.exports.iter().find(|export| export.id == id)
    }

    /// The export of this name; the empty name is the default's.
    pub fn find(&self, name: &[u8]) -> Option<&Export> {
        match self.exports.iter().find(|export| export.answers_to(name)) {
            None if name.is_empty() => self.get(self.default?),
            found => found,
        }
    }
}
