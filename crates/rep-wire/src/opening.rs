//! The opening of a connection: who is there, which protocol, and the proof of the shared secret in both directions.
//!
//! ```text
//!   dialer                                   listener
//!     | --- hello(names, versions, nonce) ---> |    nothing is told to whoever dials another resource or speaks
//!     | <-- hello(names, versions, nonce) ---- |    another protocol but the reason
//!     | --- proof("dialer", both hellos) ----> |    the dialer proves first: a stranger who dials learns no proof
//!     | <-- proof("listener", both hellos) --- |
//!     |            frames from here on         |
//! ```
//!
//! A proof is an HMAC-SHA256 with the shared secret over the sender's side and both hellos as they were sent, so it is
//! bound to both nonces, both names, the resource, the versions, the features and the session numbers, and can't be
//! sent back. Without a secret on either node the proofs are empty; with one on just one node the connection is
//! refused by name.
//!
//! Sans-IO: bytes in, bytes out, randomness from the caller. Allocates nothing by a length from the wire and takes at
//! most `OPENING_LENGTH_MAX` bytes before the proof. The caller sets the deadline, sends what
//! [`Opening::take_outgoing`] gives, also after an error (the reason for the peer), and closes then.

mod error;
mod hello;
mod proof;

pub use error::{OpeningError, RejectReason};
pub use proof::{Secret, SecretError};

use crate::frame::{FrameReader, FrameWriter};
use crate::layout::{OPENING_MAGIC, OpeningEnvelope, RejectBody};
use crate::limits::{OPENING_BODY_LENGTH_MAX, OPENING_LENGTH_MAX, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN};
use crate::payload_sum::PayloadSum;
use hello::Hello;
use proof::Proofs;
use rep_types::{NodeName, ResourceName};
use std::mem::size_of;
use zerocopy::{FromBytes, IntoBytes};

const ENVELOPE_LENGTH: usize = size_of::<OpeningEnvelope>();
/// Bytes of the envelope its CRC covers.
const ENVELOPE_CHECKED: usize = std::mem::offset_of!(OpeningEnvelope, crc);

/// Which end of a connection this node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpeningSide {
    /// It made the connection.
    Dialer,
    /// It took it.
    Listener,
}

impl OpeningSide {
    fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// Kinds of opening messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum OpeningKind {
    Hello = 1,
    Proof = 2,
    Reject = 3,
}

/// What a node brings to an opening.
#[derive(Clone, Debug)]
pub struct OpeningConfig {
    /// The resource the connection is for.
    pub resource: ResourceName,
    /// This node.
    pub node: NodeName,
    /// The node that must be at the other end.
    pub peer: NodeName,
    /// The shared secret, if any is configured.
    pub secret: Option<Secret>,
    /// Features this node offers, one bit each (see [`crate::features`]).
    pub features: u64,
    /// Oldest protocol version spoken.
    pub version_min: u16,
    /// Newest protocol version spoken.
    pub version_max: u16,
}

impl OpeningConfig {
    /// Everything this code speaks.
    pub fn new(resource: ResourceName, node: NodeName, peer: NodeName, secret: Option<Secret>) -> Self {
        OpeningConfig {
            resource,
            node,
            peer,
            secret,
            features: crate::features::ALL,
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
        }
    }
}

/// Randomness for one opening; never used twice.
#[derive(Clone, Copy)]
pub struct OpeningRandom {
    /// The nonce.
    pub nonce: [u8; 32],
    /// The session number frames to this node must carry.
    pub session: u64,
}

/// What both ends agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The protocol version: the newest both speak.
    pub version: u16,
    /// The features both offered.
    pub features: u64,
    /// The session number the peer named, for frames to it.
    pub session_to_peer: u64,
    /// The session number this node named, for frames from the peer.
    pub session_from_peer: u64,
}

impl Agreed {
    /// Makes this node's frames.
    pub fn writer(self) -> FrameWriter {
        FrameWriter::new(self.version, self.session_to_peer, PayloadSum::agreed(self.features))
    }

    /// Reads the peer's frames.
    pub fn reader(self) -> FrameReader {
        FrameReader::new(self.version, self.session_from_peer, PayloadSum::agreed(self.features))
    }
}

/// How far an opening is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The peer's next message is awaited.
    Waiting,
    /// It stands: once the outgoing bytes are sent, frames follow in both directions.
    Open(Agreed),
}

/// What [`Opening::receive`] made of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// How many of them belonged to the opening; all, unless it is open: what lies behind is the first frame.
    pub consumed: usize,
    /// How far it is now.
    pub progress: Progress,
}

/// Both sides go the same way:
///
/// ```text
///   dialer:    AwaitHello --hello--> AwaitProof --proof--> Open      any state --error, reject--> Failed
///   listener:  AwaitHello --hello--> AwaitProof --proof--> Open
/// ```
#[derive(Clone, Debug)]
enum State {
    AwaitHello,
    AwaitProof { agreed: Agreed, proofs: Proofs },
    Open(Agreed),
    Failed(OpeningError),
}

/// Bytes taken, and the message they completed.
struct Taken {
    length: usize,
    message: Option<(OpeningKind, Vec<u8>)>,
}

/// One end of a connection while it opens.
#[derive(Debug)]
pub struct Opening {
    side: OpeningSide,
    config: OpeningConfig,
    own_hello: Hello,
    state: State,
    /// The message being received; never longer than an envelope and the longest body.
    partial: Vec<u8>,
    received: usize,
    outgoing: Vec<u8>,
}

impl Opening {
    /// An opening; a dialer's first bytes are ready to be taken.
    pub fn new(side: OpeningSide, config: OpeningConfig, random: OpeningRandom) -> Self {
        let own_hello = Hello::of(side, &config, random);
        let partial = Vec::with_capacity(ENVELOPE_LENGTH + OPENING_BODY_LENGTH_MAX);
        let state = State::AwaitHello;
        let mut opening = Opening { side, config, own_hello, state, partial, received: 0, outgoing: Vec::new() };
        if side == OpeningSide::Dialer {
            opening.send_hello();
        }
        opening
    }

    /// The bytes to send next; empty when there are none.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// Takes received bytes, in whatever pieces. An error is final: the peer's reason is in the outgoing bytes, then the
    /// connection is to be closed.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Received, OpeningError> {
        let mut consumed = 0;
        loop {
            match &self.state {
                State::Open(agreed) => return Ok(Received { consumed, progress: Progress::Open(*agreed) }),
                State::Failed(error) => return Err(error.clone()),
                State::AwaitHello | State::AwaitProof { .. } => {}
            }
            match self.take_message(&bytes[consumed..]) {
                Ok(Taken { length, message: Some((kind, body)) }) => {
                    consumed += length;
                    self.handle(kind, &body).or_else(|error| self.fail(error))?;
                }
                Ok(Taken { length, message: None }) => {
                    return Ok(Received { consumed: consumed + length, progress: Progress::Waiting });
                }
                Err(error) => self.fail(error)?,
            }
        }
    }

    /// Collects one message; `None` while it isn't whole.
    fn take_message(&mut self, bytes: &[u8]) -> Result<Taken, OpeningError> {
        let mut length = self.fill(bytes, ENVELOPE_LENGTH)?;
        let Ok((envelope, _)) = OpeningEnvelope::read_from_prefix(&self.partial) else {
            check_magic(&self.partial)?;
            return Ok(Taken { length, message: None });
        };
        let kind = check_envelope(&envelope)?;
        let whole = ENVELOPE_LENGTH + usize::from(envelope.length.get());
        length += self.fill(&bytes[length..], whole)?;
        if self.partial.len() < whole {
            return Ok(Taken { length, message: None });
        }
        let body = self.partial[ENVELOPE_LENGTH..].to_vec();
        if envelope.crc.get() != message_crc(&self.partial[..ENVELOPE_CHECKED], &body) {
            return Err(OpeningError::Damaged);
        }
        self.partial.clear();
        Ok(Taken { length, message: Some((kind, body)) })
    }

    /// Moves bytes into `partial` until that is `length` long.
    fn fill(&mut self, bytes: &[u8], length: usize) -> Result<usize, OpeningError> {
        let wanted = length.saturating_sub(self.partial.len()).min(bytes.len());
        if self.received + wanted > OPENING_LENGTH_MAX {
            return Err(OpeningError::TooLong);
        }
        self.received += wanted;
        self.partial.extend_from_slice(&bytes[..wanted]);
        Ok(wanted)
    }

    fn handle(&mut self, kind: OpeningKind, body: &[u8]) -> Result<(), OpeningError> {
        match (kind, &self.state) {
            (OpeningKind::Reject, _) => Err(decode_reject(body)?),
            (OpeningKind::Hello, State::AwaitHello) => self.handle_hello(body),
            (OpeningKind::Proof, State::AwaitProof { agreed, proofs }) => {
                proofs.verify(self.side.other(), body)?;
                let (agreed, own_proof) = (*agreed, proofs.make(self.side));
                if self.side == OpeningSide::Listener {
                    self.send(OpeningKind::Proof, &own_proof);
                }
                self.state = State::Open(agreed);
                Ok(())
            }
            _ => Err(OpeningError::Unexpected),
        }
    }

    fn handle_hello(&mut self, body: &[u8]) -> Result<(), OpeningError> {
        let version = self.agree_on_version(Hello::versions(body)?)?;
        let peer = Hello::decode(body)?;
        self.check_hello(&peer)?;
        let agreed = Agreed {
            version,
            features: self.config.features & peer.features,
            session_to_peer: peer.session,
            session_from_peer: self.own_hello.session,
        };
        let proofs = Proofs::new(self.config.secret.clone(), self.side, &self.own_hello, &peer);
        match self.side {
            OpeningSide::Dialer => self.send(OpeningKind::Proof, &proofs.make(self.side)),
            OpeningSide::Listener => self.send_hello(),
        }
        self.state = State::AwaitProof { agreed, proofs };
        Ok(())
    }

    /// The newest version both speak.
    fn agree_on_version(&self, (peer_min, peer_max): (u16, u16)) -> Result<u16, OpeningError> {
        let (own_min, own_max) = (self.config.version_min, self.config.version_max);
        if peer_max < own_min {
            Err(OpeningError::VersionTooOld { peer_max, own_min })
        } else if peer_min > own_max {
            Err(OpeningError::VersionTooNew { peer_min, own_max })
        } else {
            Ok(peer_max.min(own_max))
        }
    }

    fn check_hello(&self, peer: &Hello) -> Result<(), OpeningError> {
        if peer.resource != self.config.resource {
            return Err(OpeningError::OtherResource {
                theirs: peer.resource.clone(),
                ours: self.config.resource.clone(),
            });
        }
        if peer.node != self.config.peer {
            return Err(OpeningError::UnexpectedNode { found: peer.node.clone(), expected: self.config.peer.clone() });
        }
        if peer.peer != self.config.node {
            return Err(OpeningError::NotMeant { meant: peer.peer.clone(), ours: self.config.node.clone() });
        }
        if peer.side == self.side {
            return Err(OpeningError::SameSide);
        }
        match (peer.has_secret, self.config.secret.is_some()) {
            (false, true) => Err(OpeningError::PeerHasNoSecret),
            (true, false) => Err(OpeningError::NoSecretHere),
            _ => Ok(()),
        }
    }

    fn send_hello(&mut self) {
        let body = self.own_hello.bytes.clone();
        self.send(OpeningKind::Hello, &body);
    }

    fn send(&mut self, kind: OpeningKind, body: &[u8]) {
        let mut envelope = OpeningEnvelope {
            magic: OPENING_MAGIC,
            kind: kind as u8,
            reserved: 0,
            length: (body.len() as u16).into(),
            crc: 0.into(),
        };
        envelope.crc = message_crc(&envelope.as_bytes()[..ENVELOPE_CHECKED], body).into();
        self.outgoing.extend_from_slice(envelope.as_bytes());
        self.outgoing.extend_from_slice(body);
    }

    /// Ends the opening; tells the peer why, unless it doesn't speak this protocol or has ended it itself.
    fn fail(&mut self, error: OpeningError) -> Result<(), OpeningError> {
        if let Some(reason) = error.reason_for_peer() {
            let body = RejectBody {
                reason: (reason as u16).into(),
                version_min: self.config.version_min.into(),
                version_max: self.config.version_max.into(),
            };
            self.send(OpeningKind::Reject, body.as_bytes());
        }
        self.state = State::Failed(error.clone());
        Err(error)
    }
}

fn check_magic(bytes: &[u8]) -> Result<(), OpeningError> {
    let length = bytes.len().min(OPENING_MAGIC.len());
    if bytes[..length] == OPENING_MAGIC[..length] { Ok(()) } else { Err(OpeningError::NotOurProtocol) }
}

fn check_envelope(envelope: &OpeningEnvelope) -> Result<OpeningKind, OpeningError> {
    check_magic(&envelope.magic)?;
    if usize::from(envelope.length.get()) > OPENING_BODY_LENGTH_MAX {
        return Err(OpeningError::TooLong);
    }
    match (envelope.kind, envelope.reserved) {
        (1, 0) => Ok(OpeningKind::Hello),
        (2, 0) => Ok(OpeningKind::Proof),
        (3, 0) => Ok(OpeningKind::Reject),
        _ => Err(OpeningError::Malformed),
    }
}

fn message_crc(envelope: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(envelope);
    hasher.update(body);
    hasher.finalize()
}

/// The error a reject stands for; itself an error if it can't be read.
fn decode_reject(body: &[u8]) -> Result<OpeningError, OpeningError> {
    let (reject, _) = RejectBody::read_from_prefix(body).map_err(|_| OpeningError::Malformed)?;
    let reason = RejectReason::from_number(reject.reason.get());
    Ok(OpeningError::Rejected { reason, versions: (reject.version_min.get(), reject.version_max.get()) })
}
