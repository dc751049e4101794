//! The hello: who a node is and what it speaks.

use super::{OpeningConfig, OpeningError, OpeningRandom, OpeningSide};
use crate::layout::HelloBody;
use rep_types::{NodeName, ResourceName};
use zerocopy::{FromBytes, IntoBytes};

/// A hello, ours or the peer's.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    /// The body as it is sent: what the proofs cover.
    pub(super) bytes: Vec<u8>,
    pub(super) has_secret: bool,
    pub(super) side: OpeningSide,
    pub(super) resource: ResourceName,
    /// The sender.
    pub(super) node: NodeName,
    /// The node the sender means.
    pub(super) peer: NodeName,
    pub(super) features: u64,
    pub(super) session: u64,
}

impl Hello {
    pub(super) fn of(side: OpeningSide, config: &OpeningConfig, random: OpeningRandom) -> Hello {
        let names = [config.resource.as_str(), config.node.as_str(), config.peer.as_str()];
        // A name is at most 64 bytes long.
        let [resource_length, node_length, peer_length] = names.map(|name| name.len() as u8);
        let body = HelloBody {
            version_min: config.version_min.into(),
            version_max: config.version_max.into(),
            secret: config.secret.is_some().into(),
            side: side_number(side),
            resource_length,
            node_length,
            peer_length,
            reserved: [0; 3],
            features: config.features.into(),
            session: random.session.into(),
            nonce: random.nonce,
        };
        Hello {
            bytes: [body.as_bytes(), names.concat().as_bytes()].concat(),
            has_secret: config.secret.is_some(),
            side,
            resource: config.resource.clone(),
            node: config.node.clone(),
            peer: config.peer.clone(),
            features: config.features,
            session: random.session,
        }
    }

    /// The versions a hello names, in whatever version it is written itself.
    pub(super) fn versions(body: &[u8]) -> Result<(u16, u16), OpeningError> {
        let (min, rest) = take_u16(body).ok_or(OpeningError::Malformed)?;
        let (max, _) = take_u16(rest).ok_or(OpeningError::Malformed)?;
        if min <= max { Ok((min, max)) } else { Err(OpeningError::Malformed) }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Hello, OpeningError> {
        let (body, names) = HelloBody::read_from_prefix(bytes).map_err(|_| OpeningError::Malformed)?;
        let (resource, names) = take_name(names, body.resource_length)?;
        let (node, names) = take_name(names, body.node_length)?;
        let (peer, rest) = take_name(names, body.peer_length)?;
        if !rest.is_empty() || body.reserved != [0; 3] {
            return Err(OpeningError::Malformed);
        }
        Ok(Hello {
            bytes: bytes.to_vec(),
            has_secret: flag(body.secret)?,
            side: if flag(body.side)? { OpeningSide::Listener } else { OpeningSide::Dialer },
            resource: ResourceName::new(resource).map_err(|_| OpeningError::Malformed)?,
            node: NodeName::new(node).map_err(|_| OpeningError::Malformed)?,
            peer: NodeName::new(peer).map_err(|_| OpeningError::Malformed)?,
            features: body.features.get(),
            session: body.session.get(),
        })
    }
}

fn side_number(side: OpeningSide) -> u8 {
    match side {
        OpeningSide::Dialer => 0,
        OpeningSide::Listener => 1,
    }
}

fn flag(number: u8) -> Result<bool, OpeningError> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(OpeningError::Malformed),
    }
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u16::from_le_bytes(*number), rest))
}

fn take_name(bytes: &[u8], length: u8) -> Result<(&str, &[u8]), OpeningError> {
    let (name, rest) = bytes.split_at_checked(usize::from(length)).ok_or(OpeningError::Malformed)?;
    let name = std::str::from_utf8(name).map_err(|_| OpeningError::Malformed)?;
    Ok((name, rest))
}
