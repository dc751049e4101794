//! Generic netlink as bytes: what the driver is told, and what it answers. Numbers are in the machine's own order.
//!
//! ```text
//!   length u32 · kind u16 · flags u16 · sequence u32 · port u32       every message
//!   command u8 · version u8 · 0 u16                                   generic netlink's
//!   (length u16 · attribute u16 · value, padded to 4) …               attributes; a nested one holds others
//! ```

/// The kind of messages to the register of families.
pub const CONTROL_FAMILY: u16 = 0x10;
/// The kind of an answer that is nothing but an error number; 0: done.
const KIND_ERROR: u16 = 2;

const FLAG_REQUEST: u16 = 1;
const FLAG_ACKNOWLEDGE: u16 = 4;
const FLAG_NESTED: u16 = 1 << 15;
const FLAG_NET_ORDER: u16 = 1 << 14;

const MESSAGE_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// Of the register of families.
pub mod control {
    pub const GET_FAMILY: u8 = 3;
    pub const VERSION: u8 = 1;
    pub const FAMILY_ID: u16 = 1;
    pub const FAMILY_NAME: u16 = 2;
}

/// Of the driver (`linux/nbd-netlink.h`).
pub mod nbd {
    pub const FAMILY: &str = "nbd";
    pub const VERSION: u8 = 1;

    pub const CONNECT: u8 = 1;
    pub const DISCONNECT: u8 = 2;
    pub const RECONFIGURE: u8 = 3;

    pub const INDEX: u16 = 1;
    pub const SIZE_BYTES: u16 = 2;
    pub const BLOCK_SIZE_BYTES: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const SERVER_FLAGS: u16 = 5;
    pub const CLIENT_FLAGS: u16 = 6;
    pub const SOCKETS: u16 = 7;
    pub const DEAD_CONN_TIMEOUT: u16 = 8;
    pub const BACKEND_IDENTIFIER: u16 = 10;
    /// In `SOCKETS`.
    pub const SOCK_ITEM: u16 = 1;
    /// In `SOCK_ITEM`.
    pub const SOCK_FD: u16 = 1;

    /// Of `CLIENT_FLAGS`: a device that is disconnected is removed.
    pub const DESTROY_ON_DISCONNECT: u64 = 1;
}

/// A request that is being written.
pub struct Message(Vec<u8>);

impl Message {
    /// A request that wants to be acknowledged.
    pub fn new(family: u16, command: u8, version: u8, sequence: u32) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]); // the length, known at the end
        bytes.extend_from_slice(&family.to_ne_bytes());
        bytes.extend_from_slice(&(FLAG_REQUEST | FLAG_ACKNOWLEDGE).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]); // the kernel knows the port
        bytes.extend_from_slice(&[command, version, 0, 0]);
        Message(bytes)
    }

    pub fn u32(self, attribute: u16, value: u32) -> Self {
        self.value(attribute, &value.to_ne_bytes())
    }

    pub fn u64(self, attribute: u16, value: u64) -> Self {
        self.value(attribute, &value.to_ne_bytes())
    }

    /// Text, with the zero byte the kernel's tools end it with.
    pub fn text(self, attribute: u16, text: &str) -> Self {
        let bytes: Vec<u8> = text.bytes().chain([0]).collect();
        self.value(attribute, &bytes)
    }

    /// An attribute that holds what `inner` writes.
    pub fn nested(mut self, attribute: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let at = self.begin(attribute | FLAG_NESTED);
        let mut message = inner(self);
        message.end(at);
        message
    }

    /// The bytes to send.
    pub fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }

    fn value(mut self, attribute: u16, value: &[u8]) -> Self {
        let at = self.begin(attribute);
        self.0.extend_from_slice(value);
        self.end(at);
        self
    }

    fn begin(&mut self, attribute: u16) -> usize {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&attribute.to_ne_bytes());
        at
    }

    fn end(&mut self, at: usize) {
        let length = (self.0.len() - at) as u16;
        self.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(aligned(self.0.len()), 0);
    }
}

/// One message of an answer.
#[derive(PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// The end of it: done, or the number of an error.
    Ended { sequence: u32, errno: i32 },
    /// Attributes.
    Data { sequence: u32, attributes: &'a [u8] },
}

/// Takes the messages of an answer apart; what can't be understood ends it.
pub fn answers(bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    pieces(bytes, |bytes| u32_at(bytes, 0).map(|length| length as usize)).map_while(answer)
}

fn answer(message: &[u8]) -> Option<Answer<'_>> {
    let sequence = u32_at(message, 8)?;
    let body = message.get(MESSAGE_HEADER..)?;
    if u16_at(message, 4)? == KIND_ERROR {
        // The kernel's errors are negative.
        return Some(Answer::Ended { sequence, errno: (u32_at(body, 0)? as i32).checked_neg()? });
    }
    Some(Answer::Data { sequence, attributes: body.get(GENERIC_HEADER..)? })
}

/// The value of an attribute, if it is there.
pub fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut all = pieces(attributes, |bytes| u16_at(bytes, 0).map(usize::from));
    let found = all.find(|bytes| u16_at(bytes, 2).is_some_and(|kind| kind & !(FLAG_NESTED | FLAG_NET_ORDER) == wanted));
    found?.get(ATTRIBUTE_HEADER..)
}

/// Pieces that each begin with their length, padded to four bytes.
fn pieces(mut bytes: &[u8], length: impl Fn(&[u8]) -> Option<usize>) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = length(bytes).filter(|length| *length >= ATTRIBUTE_HEADER)?;
        let piece = bytes.get(..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(piece)
    })
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The number at a place, if there is one.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_these_bytes() {
        let message = Message::new(0x1f, nbd::RECONFIGURE, nbd::VERSION, 7)
            .u32(nbd::INDEX, 16)
            .text(nbd::BACKEND_IDENTIFIER, "repd/a/vz/0")
            .nested(nbd::SOCKETS, |sockets| sockets.nested(nbd::SOCK_ITEM, |item| item.u32(nbd::SOCK_FD, 9)));
        #[rustfmt::skip]
        assert_eq!(message.finish(), [
            60, 0, 0, 0,  0x1f, 0,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0, // length, family, request and acknowledge, 7
            3, 1, 0, 0,                                             // reconfigure, version 1
            8, 0, 1, 0,  16, 0, 0, 0,                               // index 16
            16, 0, 10, 0,  b'r', b'e', b'p', b'd', b'/', b'a', b'/', b'v', b'z', b'/', b'0', 0,
            16, 0, 7, 0x80,  12, 0, 1, 0x80,  8, 0, 1, 0,  9, 0, 0, 0,
        ]);
    }

    #[test]
    fn a_value_is_padded_and_its_length_is_not() {
        let bytes = Message::new(0x10, 3, 1, 1).text(control::FAMILY_NAME, "nbdxy").u64(5, 1).finish();
        assert_eq!(bytes[20..32], [10, 0, 2, 0, b'n', b'b', b'd', b'x', b'y', 0, 0, 0]);
        assert_eq!(bytes[32..], [12, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[..4], [44, 0, 0, 0]);
    }

    #[test]
    fn an_answer_is_taken_apart() {
        #[rustfmt::skip]
        let bytes = [
            40, 0, 0, 0,  0x10, 0,  0, 0,  3, 0, 0, 0,  0, 0, 0, 0,   1, 2, 0, 0,
            8, 0, 2, 0, b'n', b'b', b'd', 0,   6, 0, 1, 0, 0x1f, 0, 0, 0,   0, 0, 0, 0,
            20, 0, 0, 0,  2, 0,  0, 0,  3, 0, 0, 0,  0, 0, 0, 0,  0xfe, 0xff, 0xff, 0xff,
        ];
        let found: Vec<_> = answers(&bytes).collect();
        let [Answer::Data { sequence: 3, attributes }, Answer::Ended { sequence: 3, errno: 2 }] = found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(attribute(attributes, control::FAMILY_ID), Some(&[0x1f, 0][..]));
        assert_eq!(attribute(attributes, control::FAMILY_NAME), Some(&b"nbd\0"[..]));
        assert_eq!(attribute(attributes, 9), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(bytes: Vec<u8>, wanted: u16) {
            let seen: usize = answers(&bytes).map(|answer| match answer {
                Answer::Data { attributes, .. } => attribute(attributes, wanted).map_or(0, <[u8]>::len),
                Answer::Ended { .. } => 4,
            }).sum();
            prop_assert!(seen <= bytes.len());
        }

        #[test]
        fn an_attribute_is_found_again(values: Vec<u32>, wanted in 0u16..8) {
            let message = values.iter().zip(0u16..).fold(Message::new(1, 1, 1, 1), |message, (value, n)| message.u32(n, *value));
            let bytes = message.finish();
            let found = attribute(&bytes[MESSAGE_HEADER + GENERIC_HEADER..], wanted);
            prop_assert_eq!(found.and_then(|bytes| u32_at(bytes, 0)), values.get(usize::from(wanted)).copied());
        }
    }
}
