//! Why an opening failed, here and as told to the peer.

use rep_types::{NodeName, ResourceName};

/// Why an opening failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are what the sentences name
pub enum OpeningError {
    /// What answers there is something else.
    #[error("what is at the other end doesn't speak this protocol")]
    NotOurProtocol,
    /// More bytes than any opening has.
    #[error("the opening is too long")]
    TooLong,
    /// A checksum is wrong.
    #[error("the opening was damaged on its way")]
    Damaged,
    /// It can't be read.
    #[error("the opening is malformed")]
    Malformed,
    /// A message out of turn.
    #[error("the peer sent a message out of turn")]
    Unexpected,
    /// The peer is too old for this node.
    #[error("the peer speaks protocol version {peer_max}, this node at least {own_min}: upgrade the peer")]
    VersionTooOld { peer_max: u16, own_min: u16 },
    /// The peer is too new for this node.
    #[error("the peer speaks at least protocol version {peer_min}, this node up to {own_max}: upgrade this node")]
    VersionTooNew { peer_min: u16, own_max: u16 },
    /// The peer is there for another resource.
    #[error("the peer's resource is '{theirs}', this node's is '{ours}': check the addresses in the configuration")]
    OtherResource { theirs: ResourceName, ours: ResourceName },
    /// Another node than expected is there.
    #[error("node '{found}' is at the other end, '{expected}' was expected: check the addresses in the configuration")]
    UnexpectedNode { found: NodeName, expected: NodeName },
    /// The peer means to talk to another node.
    #[error("the peer means to talk to node '{meant}', this is '{ours}': check the addresses in the configuration")]
    NotMeant { meant: NodeName, ours: NodeName },
    /// Both dialled or both listen.
    #[error("both ends take themselves for the same side of the connection")]
    SameSide,
    /// A secret is configured here only.
    #[error("the peer has no shared secret, this node has one: configure it on both")]
    PeerHasNoSecret,
    /// A secret is configured there only.
    #[error("the peer has a shared secret, this node has none: configure it on both")]
    NoSecretHere,
    /// The peer's proof is wrong.
    #[error("the peer's shared secret isn't this node's")]
    WrongSecret,
    /// The peer refused.
    #[error("the peer refused: {reason} (it speaks protocol versions {} to {})", versions.0, versions.1)]
    Rejected { reason: RejectReason, versions: (u16, u16) },
}

impl OpeningError {
    /// What the peer is told of it; nothing if it doesn't speak this protocol or ended the opening itself.
    pub(super) fn reason_for_peer(&self) -> Option<RejectReason> {
        Some(match self {
            Self::NotOurProtocol | Self::Rejected { .. } => return None,
            Self::TooLong | Self::Damaged | Self::Malformed | Self::Unexpected => RejectReason::Malformed,
            Self::VersionTooOld { .. } | Self::VersionTooNew { .. } => RejectReason::Version,
            Self::OtherResource { .. } => RejectReason::OtherResource,
            Self::UnexpectedNode { .. } => RejectReason::UnexpectedNode,
            Self::NotMeant { .. } => RejectReason::NotThatNode,
            Self::SameSide => RejectReason::SameSide,
            Self::PeerHasNoSecret => RejectReason::SecretRequired,
            Self::NoSecretHere => RejectReason::NoSecretConfigured,
            Self::WrongSecret => RejectReason::WrongSecret,
        })
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $sentence:literal;)*) => {
        /// What a node is told when it is refused. Of a wrong proof it learns nothing more than that.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
        #[repr(u16)]
        pub enum RejectReason {
            $(#[doc = $sentence] #[error($sentence)] $name = $number,)*
        }

        impl RejectReason {
            /// Every reason.
            pub const ALL: &'static [RejectReason] = &[$(RejectReason::$name,)*];

            /// The reason with this number; a number from a newer peer is `Other`.
            pub(super) fn from_number(number: u16) -> RejectReason {
                match number {
                    $($number => RejectReason::$name,)*
                    _ => RejectReason::Other,
                }
            }
        }
    };
}

reasons! {
    Other = 0, "for a reason this version doesn't know";
    Malformed = 1, "what it received was malformed";
    Version = 2, "no common protocol version";
    OtherResource = 3, "it is there for another resource";
    UnexpectedNode = 4, "it expects another node";
    NotThatNode = 5, "it isn't the node this one means";
    SameSide = 6, "both ends take themselves for the same side";
    SecretRequired = 7, "it has a shared secret and this node has none";
    NoSecretConfigured = 8, "it has no shared secret and this node has one";
    WrongSecret = 9, "the shared secrets differ";
}
