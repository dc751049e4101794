use super::*;

const COOKIE: u64 = 0x0102_0304_0506_0708;

/// The bytes every frame must have for ever: the protocol's, not ours.
#[test]
fn frames_have_the_protocols_bytes() {
    let (cookie, error, offset) = (COOKIE, NbdError::Io, 0x1122_3344_5566_7788);
    let golden: [(Frame, &[u8]); 7] = [
        (Frame::Simple { cookie, result: Ok(()) }, b"\x67\x44\x66\x98\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08"),
        (
            Frame::Simple { cookie, result: Err(NbdError::Shutdown) },
            b"\x67\x44\x66\x98\0\0\0\x6c\x01\x02\x03\x04\x05\x06\x07\x08",
        ),
        (
            Frame::Data { cookie, offset, length: 512, done: true },
            b"\x66\x8e\x33\xef\0\x01\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\x02\x08\x11\x22\x33\x44\x55\x66\x77\x88",
        ),
        (
            Frame::Hole { cookie, offset, length: 512, done: false },
            b"\x66\x8e\x33\xef\0\0\0\x02\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x0c\x11\x22\x33\x44\x55\x66\x77\x88\0\0\x02\0",
        ),
        (Frame::Done { cookie }, b"\x66\x8e\x33\xef\0\x01\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0"),
        (
            Frame::Error { cookie, error, message: "no" },
            b"\x66\x8e\x33\xef\0\x01\x80\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x08\0\0\0\x05\0\x02no",
        ),
        (
            Frame::ErrorAt { cookie, error, offset, message: "" },
            b"\x66\x8e\x33\xef\0\x01\x80\x02\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x0e\0\0\0\x05\0\0\x11\x22\x33\x44\x55\x66\x77\x88",
        ),
    ];
    for (frame, bytes) in golden {
        assert_eq!(frame.encode().as_ref(), bytes, "{frame:?}");
        let mut out = b"before".to_vec();
        frame.append_to(&mut out);
        assert_eq!(out, [b"before", bytes].concat());
    }
}

#[test]
fn a_message_too_long_is_cut_between_characters() {
    let long = "aäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöüäöü";
    assert!(long.len() > ERROR_MESSAGE_LENGTH_MAX && !long.is_char_boundary(ERROR_MESSAGE_LENGTH_MAX));
    let frame = Frame::ErrorAt { cookie: 1, error: NbdError::Io, offset: 2, message: long };
    let bytes = frame.encode();
    let bytes = bytes.as_ref();
    assert_eq!(bytes.len(), FRAME_LENGTH_MAX - 1);
    assert!(std::str::from_utf8(&bytes[26..bytes.len() - 8]).is_ok());
    assert_eq!(u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) as usize, bytes.len() - 20);
}

#[test]
fn every_error_has_its_number() {
    use NbdError as E;
    let all = [
        (E::NotPermitted, 1),
        (E::Io, 5),
        (E::NoMemory, 12),
        (E::Invalid, 22),
        (E::NoSpace, 28),
        (E::Overflow, 75),
        (E::NotSupported, 95),
        (E::Shutdown, 108),
    ];
    for (error, number) in all {
        assert_eq!((error.number(), E::from_number(number)), (number, error));
    }
    assert_eq!(E::from_number(4711), E::Invalid);
}
