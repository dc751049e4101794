//! Fixed layouts, each written once: the struct is the layout, and its fields are what the test compares with
//! `docs/PROTOCOL.md`. All numbers are little-endian, nothing is padded.

use rep_types::ZeroBlocks;
use std::mem::{offset_of, size_of};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A field of a layout, for the comparison with the documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its first byte.
    pub offset: usize,
    /// Its length in bytes.
    pub size: usize,
}

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// The layout's name and fields.
            pub const TABLE: (&'static str, &'static [Field]) = (
                stringify!($name),
                &[$(Field { name: stringify!($field), offset: offset_of!($name, $field), size: size_of::<$type>() },)*],
            );
        }
    };
}

layout! {
    /// Before every frame.
    FrameHeader {
        /// [`FRAME_MAGIC`].
        magic: [u8; 4],
        /// The protocol version both agreed on.
        version: U16,
        /// A [`crate::FrameKind`].
        kind: u8,
        /// None defined: 0.
        flags: u8,
        /// Bytes of body after the header.
        body_length: U32,
        /// Bytes of payload after the body.
        payload_length: U32,
        /// The number the receiver gave in its hello.
        session: U64,
        /// 1 for the first frame of a direction, then one more each.
        sequence: U64,
        /// The sum of the payload, its low half; 0 without one.
        payload_sum: U32,
        /// CRC-32 of the body; 0 without one.
        body_crc: U32,
        /// The high half of the payload's sum; 0 without one, and of a CRC.
        payload_sum_high: U32,
        /// CRC-32 of all before it.
        header_crc: U32,
    }
}

layout! {
    /// Body of the messages that name a range.
    RangeBody {
        /// The transfer.
        id: U64,
        /// First byte.
        offset: U64,
        /// Bytes.
        length: U32,
        /// The volume.
        volume: U16,
        /// How it becomes zeroes; 0 in other messages.
        mode: u8,
        /// 1: stable before the answer.
        durable: u8,
    }
}

layout! {
    /// Body of the answers.
    AnswerBody {
        /// The transfer.
        id: U64,
        /// Bytes of payload; 0 without.
        length: U32,
        /// 0, or an error's number.
        result: u8,
        /// 0.
        reserved: [u8; 3],
    }
}

layout! {
    /// Body of the messages that only name a transfer.
    IdBody {
        /// The transfer.
        id: U64,
    }
}

layout! {
    /// Body of the answer that leaves out zeroes.
    RunsBody {
        /// The transfer.
        id: U64,
        /// Bytes of the range answered.
        length: U32,
        /// 0.
        reserved: [u8; 4],
        /// One bit a block, the first in the lowest bit of the first byte.
        zeroes: [u8; ZeroBlocks::LENGTH],
    }
}

layout! {
    /// Before every message of the opening; the same in all protocol versions, for ever.
    OpeningEnvelope {
        /// [`OPENING_MAGIC`].
        magic: [u8; 4],
        /// 1 hello, 2 proof, 3 reject.
        kind: u8,
        /// 0.
        reserved: u8,
        /// Bytes of body after the envelope.
        length: U16,
        /// CRC-32 of the eight bytes before it and of the body.
        crc: U32,
    }
}

layout! {
    /// The hello's fixed part; resource, node and peer name follow. The first two fields never change.
    HelloBody {
        /// Oldest version spoken.
        version_min: U16,
        /// Newest version spoken.
        version_max: U16,
        /// 1: proof by the shared secret is demanded and given; 0: none.
        secret: u8,
        /// 0 dialer, 1 listener.
        side: u8,
        /// Bytes of the resource's name.
        resource_length: u8,
        /// Bytes of the sender's name.
        node_length: u8,
        /// Bytes of the name of the node the sender expects.
        peer_length: u8,
        /// 0.
        reserved: [u8; 3],
        /// Features offered, one bit each.
        features: U64,
        /// The session number frames to the sender must carry.
        session: U64,
        /// Random, new for each connection.
        nonce: [u8; 32],
    }
}

layout! {
    /// Body of a reject; the same in all protocol versions.
    RejectBody {
        /// The reason's number.
        reason: U16,
        /// Oldest version the sender speaks.
        version_min: U16,
        /// Newest version the sender speaks.
        version_max: U16,
    }
}

/// The first bytes of a frame.
pub const FRAME_MAGIC: [u8; 4] = *b"REPF";
/// The first bytes of an opening message.
pub const OPENING_MAGIC: [u8; 4] = *b"REPO";

/// Every layout, for the comparison with the documentation.
pub const TABLES: [(&str, &[Field]); 8] = [
    FrameHeader::TABLE,
    RangeBody::TABLE,
    AnswerBody::TABLE,
    IdBody::TABLE,
    RunsBody::TABLE,
    OpeningEnvelope::TABLE,
    HelloBody::TABLE,
    RejectBody::TABLE,
];

const _: () = assert!(size_of::<FrameHeader>() == crate::limits::HEADER_LENGTH);
const _: () = assert!(size_of::<RunsBody>() == crate::limits::HOT_BODY_LENGTH_MAX);
const _: () = assert!(size_of::<RangeBody>() <= crate::limits::HOT_BODY_LENGTH_MAX);
const _: () = assert!(size_of::<AnswerBody>() <= crate::limits::HOT_BODY_LENGTH_MAX);
