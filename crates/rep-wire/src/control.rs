//! The one place that turns control messages into bytes and back.
//!
//! bincode 2 in its standard configuration (little-endian varints), with the body's limit. The format is pinned by the
//! samples in `tests/golden`; another codec with the same bytes could stand here.

use crate::legal::BodyError;
use crate::limits::BODY_LENGTH_MAX;
use crate::message::ControlMessage;
use bincode::config::{Configuration, Limit, LittleEndian, Varint};

const CONFIG: Configuration<LittleEndian, Varint, Limit<BODY_LENGTH_MAX>> =
    bincode::config::standard().with_limit::<BODY_LENGTH_MAX>();

pub(crate) fn encode(message: &ControlMessage) -> Result<Vec<u8>, BodyError> {
    let bytes = bincode::serde::encode_to_vec(message, CONFIG).map_err(|_| BodyError::Malformed)?;
    if bytes.len() <= BODY_LENGTH_MAX { Ok(bytes) } else { Err(BodyError::TooLong) }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<ControlMessage, BodyError> {
    let (message, length) = bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|_| BodyError::Malformed)?;
    if length == bytes.len() { Ok(message) } else { Err(BodyError::WrongLength) }
}
