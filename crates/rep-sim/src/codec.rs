//! Messages on the simulated link as bytes, made and read by the real codec (`rep-wire`), as `rep-peer` does for `repd`.
//!
//! The model holds one number for a sector; on the wire it is 512 bytes of it, over and over. A sector that arrives as
//! anything else becomes a number nobody ever wrote.

use rep_types::SECTOR_SIZE;
use rep_wire::{Agreed, BodyError, FrameError, FrameReader, FrameWriter, Message, Parsed, PayloadExpected};
use std::rc::Rc;

/// One number a sector.
pub type Content = Option<Rc<Vec<u32>>>;

/// Bytes of a sector.
const SECTOR: usize = SECTOR_SIZE as usize;
/// In the numbers of sectors that arrived broken.
const BROKEN: u32 = 0xb000_0000;

/// The two ends of one direction of a connection.
pub fn direction(session: u64, from: usize, features: u64) -> (FrameWriter, FrameReader) {
    let number = crate::rng::mix(session << 1 | from as u64);
    let agreed = Agreed {
        version: rep_wire::limits::PROTOCOL_VERSION_MAX,
        features,
        session_to_peer: number,
        session_from_peer: number,
    };
    (agreed.writer(), agreed.reader())
}

/// Appends a whole frame, payload included, to `out`. `scratch` is only kept for its memory.
pub fn encode(
    writer: &mut FrameWriter,
    message: &Message,
    content: Option<&[u32]>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    scratch.clear();
    for value in content.into_iter().flatten() {
        scratch.extend_from_slice([value.to_le_bytes(); SECTOR / 4].as_flattened());
    }
    writer.encode(message, writer.sums().of(scratch), out)?;
    out.extend_from_slice(scratch);
    Ok(())
}

fn value_of(sector: &[u8]) -> u32 {
    // One number over and over is what is the same when moved by the length of a number.
    if sector[4..] == sector[..sector.len() - 4] {
        return u32::from_le_bytes([sector[0], sector[1], sector[2], sector[3]]);
    }
    BROKEN | sector.iter().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))) >> 8
}

/// The receiving end of a direction: bytes in, whole and checked messages out.
#[derive(Debug)]
pub struct Receiver {
    reader: FrameReader,
    bytes: Vec<u8>,
    taken: usize,
    /// A frame whose payload isn't all there yet.
    partial: Option<(Message, PayloadExpected)>,
}

impl Receiver {
    /// Nothing received yet.
    pub fn new(reader: FrameReader) -> Self {
        Receiver { reader, bytes: Vec::new(), taken: 0, partial: None }
    }

    /// Takes what arrived; returns memory that is no longer used.
    pub fn take(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let taken = std::mem::take(&mut self.taken);
        if taken == self.bytes.len() {
            return std::mem::replace(&mut self.bytes, bytes);
        }
        self.bytes.drain(..taken);
        self.bytes.extend_from_slice(&bytes);
        bytes
    }

    /// Whether a part of a payload is there.
    pub fn is_filling(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether a frame has begun and not ended.
    pub fn is_within_frame(&self) -> bool {
        self.partial.is_some() || self.taken < self.bytes.len()
    }

    /// The next whole message; `None`: more must arrive. After an error nothing more may be asked.
    pub fn next(&mut self) -> Result<Option<(Message, Content)>, FrameError> {
        if self.partial.is_none() {
            let frame = match self.reader.parse(&self.bytes[self.taken..])? {
                Parsed::Incomplete { .. } => return Ok(None),
                Parsed::Frame(frame) => frame,
            };
            self.taken += frame.consumed;
            let Some(expected) = frame.payload else { return Ok(Some((frame.message, None))) };
            self.partial = Some((frame.message, expected));
        }
        let Some((message, expected)) = self.partial.take() else { return Ok(None) };
        let end = self.taken + expected.length as usize;
        let Some(payload) = self.bytes.get(self.taken..end) else {
            self.partial = Some((message, expected));
            return Ok(None);
        };
        expected.verify(payload)?;
        let content = payload.chunks(SECTOR).map(value_of).collect();
        self.taken = end;
        Ok(Some((message, Some(Rc::new(content)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rep_types::{ByteRange, VolumeNumber};
    use rep_wire::TransferId;

    fn write_frame(writer: &mut FrameWriter) -> Vec<u8> {
        let range = ByteRange::new(512, 1024);
        let message = Message::Write { id: TransferId(1), volume: VolumeNumber(0), range, durable: false };
        let mut bytes = Vec::new();
        encode(writer, &message, Some(&[7, 0]), &mut Vec::new(), &mut bytes).expect("legal");
        bytes
    }

    #[test]
    fn a_frame_in_pieces_becomes_one_message_with_its_content() {
        let (mut writer, reader) = direction(3, 1, rep_wire::features::ALL);
        let bytes = write_frame(&mut writer);
        for cut in [1, 50, bytes.len() - 1] {
            let mut receiver = Receiver::new(reader.clone());
            receiver.take(bytes[..cut].to_vec());
            assert_eq!(receiver.next(), Ok(None));
            assert!(receiver.is_within_frame());
            receiver.take(bytes[cut..].to_vec());
            let (message, content) = receiver.next().expect("sound").expect("whole");
            assert_eq!((message.payload_length(), content.as_deref()), (1024, Some(&vec![7, 0])));
            assert!(!receiver.is_within_frame());
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_an_error() {
        let (mut writer, reader) = direction(3, 1, rep_wire::features::ALL);
        let bytes = write_frame(&mut writer);
        for at in 0..bytes.len() {
            let mut receiver = Receiver::new(reader.clone());
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            receiver.take(changed);
            assert!(receiver.next().is_err(), "byte {at}");
        }
    }
}
