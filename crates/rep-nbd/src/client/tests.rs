use super::*;
use crate::fuzz::{cut, fuzz_client, receive_replies};
use crate::negotiation::Negotiation;
use crate::protocol::chunk;
use crate::reply::{Frame, chunk_header};
use proptest::prelude::*;

/// The cookies of `receive_replies`: two reads of 8192 bytes at 4096, a write, a flush, a block status.
const READ: u64 = 1;
const WRITE: u64 = 3;
const STATUS: u64 = 5;

fn data(offset: u64, bytes: &[u8], done: bool) -> Vec<u8> {
    let mut out = Vec::new();
    Frame::Data { cookie: READ, offset, length: bytes.len() as u32, done }.append_to(&mut out);
    out.extend_from_slice(bytes);
    out
}

fn frame(frame: Frame) -> Vec<u8> {
    frame.encode().as_ref().to_vec()
}

fn replies(structured: bool, bytes: &[u8]) -> Result<Vec<Completion>, ProtocolError> {
    let whole = receive_replies(structured, &[bytes]);
    for length in [1, 5, 27] {
        assert_eq!(whole, receive_replies(structured, &cut(bytes, &[length])));
    }
    whole
}

fn only(structured: bool, bytes: &[u8]) -> Completion {
    let mut completions = replies(structured, bytes).unwrap();
    assert_eq!(completions.len(), 1);
    completions.remove(0)
}

#[test]
fn chunks_come_in_any_order_and_holes_are_zeroes() {
    let hole = frame(Frame::Hole { cookie: READ, offset: 4096, length: 4096, done: true });
    let completion = only(true, &[data(8192, &[7; 4096], false), hole].concat());
    assert_eq!(completion.result, Ok(Outcome::Data([[0; 4096], [7; 4096]].concat())));

    let parts = [data(8192, &[2; 4096], false), data(4096, &[1; 4096], false), frame(Frame::Done { cookie: READ })];
    assert_eq!(only(true, &parts.concat()).result, Ok(Outcome::Data([[1; 4096], [2; 4096]].concat())));
}

#[test]
fn a_simple_read_brings_its_data() {
    let reply = [frame(Frame::Simple { cookie: READ, result: Ok(()) }), vec![3; 8192]].concat();
    assert_eq!(only(false, &reply).result, Ok(Outcome::Data(vec![3; 8192])));
}

#[test]
fn a_read_without_all_its_data_is_no_success() {
    let bytes = data(4096, &[1; 4096], true);
    assert_eq!(replies(true, &bytes), Err(ProtocolError::MissingData));
    assert_eq!(replies(true, &frame(Frame::Done { cookie: READ })), Err(ProtocolError::MissingData));
}

#[test]
fn data_twice_or_elsewhere_is_refused() {
    let stray = [
        [data(4096, &[1; 4096], false), data(8191, &[1; 512], false)].concat(),
        [data(8192, &[1; 4096], false), data(4096, &[1; 4097], false)].concat(),
        data(4095, &[1; 512], false),
        data(12288, &[1; 1], false),
        data(u64::MAX, &[1; 512], false),
        frame(Frame::Hole { cookie: READ, offset: 4096, length: u32::MAX, done: true }),
        frame(Frame::Hole { cookie: READ, offset: 4096, length: 0, done: true }),
    ];
    for bytes in stray {
        assert_eq!(replies(true, &bytes), Err(ProtocolError::StrayData));
    }
}

#[test]
fn an_error_chunk_fails_the_request_whatever_else_came() {
    let error =
        Frame::ErrorAt { cookie: READ, error: NbdError::Io, offset: 8192, message: "the disks failed the request" };
    let failure = only(true, &[data(4096, &[1; 4096], false), frame(error)].concat()).result.unwrap_err();
    assert_eq!((failure.error, failure.offset), (NbdError::Io, Some(8192)));
    assert_eq!(failure.to_string(), "input/output error: the disks failed the request");

    let mut first = chunk_header(chunk::ERROR, 0, WRITE, 6).to_vec();
    first.extend([0, 0, 0, 28, 0, 0]);
    let second = frame(Frame::Error { cookie: WRITE, error: NbdError::Io, message: "" });
    assert_eq!(only(true, &[first, second].concat()).result.unwrap_err().error, NbdError::NoSpace);

    let unknown_kind = [&chunk_header(0x9999, chunk::FLAG_DONE, WRITE, 6)[..], &[0, 0, 0, 28, 0, 0]].concat();
    assert_eq!(only(true, &unknown_kind).result.unwrap_err().error, NbdError::NoSpace);
}

#[test]
fn what_does_not_fit_is_refused() {
    let simple = |cookie| frame(Frame::Simple { cookie, result: Ok(()) });
    let chunk = |kind, flags, cookie, payload: &[u8]| {
        [&chunk_header(kind, flags, cookie, payload.len() as u32)[..], payload].concat()
    };
    let cases = [
        (simple(99), ProtocolError::UnknownCookie(99)),
        ([simple(WRITE), simple(WRITE)].concat(), ProtocolError::UnknownCookie(WRITE)),
        (simple(READ), ProtocolError::WrongReply),
        (simple(STATUS), ProtocolError::WrongReply),
        (vec![0; 16], ProtocolError::BadMagic(0)),
        (chunk(chunk::NONE, 0, WRITE, &[]), ProtocolError::Malformed),
        (chunk(chunk::OFFSET_DATA, 1, READ, &[0; 8]), ProtocolError::Malformed),
        (chunk(chunk::OFFSET_DATA, 1, WRITE, &[0; 9]), ProtocolError::WrongReply),
        (chunk(chunk::OFFSET_HOLE, 1, READ, &[0; 11]), ProtocolError::Malformed),
        (chunk(chunk::ERROR, 1, READ, &[0, 0, 0, 5, 0, 1]), ProtocolError::Malformed),
        (chunk(chunk::ERROR_OFFSET, 1, READ, &[0, 0, 0, 5, 0, 0]), ProtocolError::Malformed),
        (chunk(77, 1, READ, &[]), ProtocolError::Malformed),
        (chunk(chunk::BLOCK_STATUS, 1, STATUS, &[0, 0, 0, 1]), ProtocolError::Malformed),
        (chunk(chunk::BLOCK_STATUS, 1, STATUS, &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]), ProtocolError::WrongReply),
        (chunk(chunk::BLOCK_STATUS, 1, STATUS, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), ProtocolError::Malformed),
        (chunk_header(chunk::ERROR, 1, READ, u32::MAX).to_vec(), ProtocolError::TooLong(u32::MAX)),
    ];
    for (bytes, error) in cases {
        assert_eq!(replies(true, &bytes), Err(error), "{bytes:?}");
    }
    let structured = frame(Frame::Done { cookie: WRITE });
    assert_eq!(replies(false, &structured), Err(ProtocolError::BadMagic(0x668e_33ef)));
}

#[test]
fn a_server_of_another_kind_is_refused() {
    for greeting in [&b"NBDMAGICIHAVEOPT\0\0"[..], b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0", b"SSH-2.0-OpenSSH_9.2"]
    {
        let step = ClientHandshake::new(ClientOptions::new("")).receive(&mut &greeting[..], &mut Vec::new());
        assert_eq!(step, HandshakeStep::Failed(ProtocolError::BadGreeting.into()));
    }
}

/// An option reply's bytes.
fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    [option, kind, data.len() as u32].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn export_info() -> Vec<u8> {
    [&[0, 0], &512u64.to_be_bytes()[..], &[0, 1]].concat()
}

/// What a handshake comes to when the server refuses structured replies and then sends this.
fn handshake(replies: &[Vec<u8>]) -> (HandshakeStep, Vec<u8>, Vec<u8>) {
    let greeting = b"NBDMAGICIHAVEOPT\0\x01".to_vec();
    let bytes = [&[greeting, option_reply(8, 0x8000_0001, b"no")][..], replies].concat().concat();
    let (mut input, mut out) = (&bytes[..], Vec::new());
    let step = ClientHandshake::new(ClientOptions::new("x")).receive(&mut input, &mut out);
    (step, input.to_vec(), out)
}

#[test]
fn an_old_server_without_structured_replies_will_do() {
    let replies = [option_reply(7, 3, &export_info()), option_reply(7, 1, &[]), b"rest".to_vec()];
    let (step, left, sent) = handshake(&replies);
    let HandshakeStep::Done(welcome) = step else { panic!("{step:?}") };
    assert_eq!((welcome.size_bytes, welcome.flags, welcome.structured), (512, 1, false));
    assert_eq!(welcome.block_sizes, [512, 4096, 32 << 20]);
    assert_eq!(left, b"rest");
    assert_eq!(sent[..4], [0, 0, 0, 1], "only flags the server offered");
}

#[test]
fn a_handshake_that_makes_no_sense_fails() {
    let sizes = |min: u32, max: u32| {
        let data = [&[0, 3], &min.to_be_bytes()[..], &4096u32.to_be_bytes(), &max.to_be_bytes()].concat();
        option_reply(7, 3, &data)
    };
    let mut endless = option_reply(7, 3, &[]);
    endless[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    let malformed = ProtocolError::Malformed;
    let cases = [
        (sizes(0, 4096), malformed),
        (sizes(768, 4096), malformed),
        (sizes(4096, 512), malformed),
        (option_reply(7, 3, &export_info()[..11]), malformed),
        (option_reply(7, 3, b"\0"), malformed),
        (option_reply(7, 1, b""), malformed),
        (option_reply(7, 2, b""), malformed),
        (option_reply(6, 3, &export_info()), ProtocolError::UnexpectedOptionReply(6)),
        (endless, ProtocolError::TooLong(u32::MAX)),
        (vec![0; 20], ProtocolError::BadMagic(0)),
    ];
    for (reply, error) in cases {
        assert_eq!(handshake(std::slice::from_ref(&reply)).0, HandshakeStep::Failed(error.into()), "{reply:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_harm_nothing(data in prop::collection::vec(any::<u8>(), 0..500)) {
        fuzz_client(&data);
        fuzz_client(&[&data[..data.len().min(1)], &Negotiation::greeting()[..], &data].concat());
    }

    #[test]
    fn spoiled_replies_harm_nothing(
        spoil in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<u8>(), structured in any::<bool>(),
    ) {
        let parts = [
            vec![u8::from(!structured) | (length << 1)],
            data(8192, &[7; 4096], false),
            frame(Frame::Simple { cookie: WRITE, result: Err(NbdError::NoSpace) }),
            frame(Frame::Hole { cookie: READ, offset: 4096, length: 4096, done: true }),
            frame(Frame::Error { cookie: 2, error: NbdError::Io, message: "no" }),
        ];
        let mut bytes = parts.concat();
        for (at, byte) in spoil {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz_client(&bytes);
    }
}
