//! A client's requests and their replies.

use rep_nbd::{Command, Export, ExportId, Negotiated, Parsed, PendingReply, PieceAnswer, Request, Transmission};
use rep_types::{BLOCK_SIZE, ByteRange};
use std::hint::black_box;

fn request(command: Command) -> Request {
    Request { cookie: 4711, command, range: ByteRange::new(9 * BLOCK_SIZE, BLOCK_SIZE as u32) }
}

/// The bytes of a write's request, and its pieces; the payload is received elsewhere.
pub fn write_request() -> Box<dyn FnMut()> {
    let export = Export::new(ExportId(0), "micro", 1 << 30, 512).expect("a legal export");
    let negotiated = Negotiated { export: export.id(), structured: true, block_status: true };
    let mut transmission = Transmission::new(&export, &negotiated);
    let write = request(Command::Write { fua: false });
    let bytes = write.encode();
    Box::new(move || {
        let mut input = black_box(bytes.as_slice());
        let parsed = transmission.next(&mut input);
        let Parsed::Write(found) = parsed else { panic!("a write is {parsed:?}") };
        assert_eq!(transmission.take_over_payload(), found.range.length);
        assert!(found.pieces().all(|piece| piece == write.range), "it is one piece");
    })
}

fn reply(command: Command) -> Box<dyn FnMut()> {
    let request = request(command);
    Box::new(move || {
        let request = black_box(&request);
        let answer = PendingReply::new(request, true).piece_done(request.range, Ok(()));
        let (PieceAnswer::End(frame) | PieceAnswer::LastChunk(frame)) = answer else {
            panic!("one piece answers all of it: {answer:?}")
        };
        black_box(frame.encode().as_ref());
    })
}

/// The reply to a write.
pub fn write_reply() -> Box<dyn FnMut()> {
    reply(Command::Write { fua: false })
}

/// The head of the reply to a read.
pub fn read_reply() -> Box<dyn FnMut()> {
    reply(Command::Read { unfragmented: false })
}
