//! Frames of the peer link: what a mirrored 4 KiB write costs there, without its bytes, and the sum over these.

use rep_types::{BLOCK_SIZE, ByteRange, VolumeNumber};
use rep_wire::{FrameReader, FrameWriter, Message, Parsed, PayloadSum, TransferId};
use std::hint::black_box;

/// The protocol's version and the number of a session.
const LINK: (u16, u64) = (1, 0x5e55_1014);

fn write() -> Message {
    let range = ByteRange::new(5 * BLOCK_SIZE, BLOCK_SIZE as u32);
    Message::Write { id: TransferId(77), volume: VolumeNumber(0), range, durable: false }
}

fn ack() -> Message {
    Message::WriteAck { id: TransferId(77), result: Ok(()) }
}

fn encode(message: Message) -> Box<dyn FnMut()> {
    let (mut writer, mut out) = (FrameWriter::new(LINK.0, LINK.1, PayloadSum::Crc32), Vec::with_capacity(256));
    Box::new(move || {
        out.clear();
        let length = writer.encode(black_box(&message), 0x1234_5678, &mut out);
        assert_eq!(length, Ok(out.len()), "a legal message");
        black_box(&out);
    })
}

fn parse(message: Message) -> Box<dyn FnMut()> {
    let mut bytes = Vec::new();
    FrameWriter::new(LINK.0, LINK.1, PayloadSum::Crc32)
        .encode(&message, 0x1234_5678, &mut bytes)
        .expect("a legal message");
    // The same bytes again and again are the first frame of a connection.
    let fresh = FrameReader::new(LINK.0, LINK.1, PayloadSum::Crc32);
    Box::new(move || {
        let parsed = fresh.clone().parse(black_box(&bytes));
        let Ok(Parsed::Frame(frame)) = &parsed else { panic!("a whole frame is {parsed:?}") };
        assert_eq!(frame.consumed, bytes.len());
        black_box(frame);
    })
}

/// The frame of a write, without its payload.
pub fn write_encode() -> Box<dyn FnMut()> {
    encode(write())
}

/// The same, received.
pub fn write_parse() -> Box<dyn FnMut()> {
    parse(write())
}

/// The frame that answers it.
pub fn ack_encode() -> Box<dyn FnMut()> {
    encode(ack())
}

/// The same, received.
pub fn ack_parse() -> Box<dyn FnMut()> {
    parse(ack())
}

/// The CRC of a 4 KiB payload.
pub fn payload_crc_4k() -> Box<dyn FnMut()> {
    payload_sum_4k(PayloadSum::Crc32)
}

/// Its XXH64.
pub fn payload_xxh64_4k() -> Box<dyn FnMut()> {
    payload_sum_4k(PayloadSum::Xxh64)
}

fn payload_sum_4k(sums: PayloadSum) -> Box<dyn FnMut()> {
    let payload: Vec<u8> = (0..BLOCK_SIZE).map(|byte| (byte * 7 % 251) as u8).collect();
    let sum = sums.of(&payload);
    Box::new(move || assert_eq!(sums.of(black_box(&payload)), sum))
}
