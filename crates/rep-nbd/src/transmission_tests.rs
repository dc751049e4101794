use super::*;
use crate::error::NbdError;
use crate::export::{ExportFeatures, ExportId};
use crate::fuzz::{StreamItem, cut, fuzz_transmission, transmit};
use crate::testing::{export, raw_request};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;

fn negotiated(structured: bool) -> Negotiated {
    Negotiated { export: ExportId(0), structured, block_status: structured }
}

fn transmission(structured: bool) -> Transmission {
    Transmission::new(&export(0), &negotiated(structured))
}

/// The only thing that comes of a request without payload, on an export with these features.
fn outcome(features: ExportFeatures, structured: bool, bytes: &[u8]) -> Result<Request, RequestFault> {
    let export = export(0).with_features(features);
    let mut transmission = Transmission::new(&export, &negotiated(structured));
    let mut input = bytes;
    let parsed = transmission.next(&mut input);
    assert!(input.is_empty() && !transmission.is_over());
    match parsed {
        Parsed::Request(request) | Parsed::Write(request) => Ok(request),
        Parsed::Reject { fault, frame } => {
            assert_eq!(frame_error(&frame), fault.error());
            Err(fault)
        }
        other => panic!("{other:?}"),
    }
}

fn frame_error(frame: &Frame) -> NbdError {
    match frame {
        Frame::Simple { cookie: 7, result: Err(error) } | Frame::Error { cookie: 7, error, .. } => *error,
        other => panic!("{other:?}"),
    }
}

fn fault(command: u16, flags: u16, offset: u64, length: u32) -> Option<RequestFault> {
    let mut bytes = raw_request(command, flags, 7, offset, length);
    if command == command::WRITE {
        bytes.extend(vec![0; length as usize]);
    }
    let simple = outcome_of(false, &bytes);
    assert_eq!(simple, outcome_of(true, &bytes), "the same fault whatever the reply's style");
    simple
}

fn outcome_of(structured: bool, bytes: &[u8]) -> Option<RequestFault> {
    let mut transmission = transmission(structured);
    let mut input = bytes;
    loop {
        match transmission.next(&mut input) {
            Parsed::Reject { fault, .. } => {
                assert!(input.is_empty(), "the payload is drained before the answer");
                return Some(fault);
            }
            Parsed::NeedMore => return None,
            Parsed::Disconnect | Parsed::Broken(_) => panic!("the connection must live"),
            Parsed::Request(_) | Parsed::Write(_) | Parsed::Payload { .. } => {}
        }
    }
}

#[test]
fn every_command_comes_out_as_it_was_sent() {
    let commands = [
        Command::Read { unfragmented: false },
        Command::Read { unfragmented: true },
        Command::Write { fua: false },
        Command::Write { fua: true },
        Command::Trim { fua: false },
        Command::Trim { fua: true },
        Command::Cache,
        Command::WriteZeroes { no_hole: false, fast: false, fua: false },
        Command::WriteZeroes { no_hole: true, fast: false, fua: true },
        Command::WriteZeroes { no_hole: true, fast: true, fua: false },
        Command::BlockStatus { one: false },
        Command::BlockStatus { one: true },
    ];
    let features = ExportFeatures { fast_zero: FastZero::Done, ..ExportFeatures::default() };
    for command in commands {
        let request = Request { cookie: u64::MAX - 1, command, range: ByteRange::new(512, 1024) };
        assert_eq!(outcome(features, true, &request.encode()), Ok(request));
    }
    let flush = Request { cookie: 0, command: Command::Flush, range: ByteRange::new(0, 0) };
    assert_eq!(outcome(features, true, &flush.encode()), Ok(flush));
}

#[test]
fn fua_is_legal_on_every_command() {
    for number in [command::READ, command::TRIM, command::CACHE, command::WRITE_ZEROES] {
        assert_eq!(fault(number, flag::FUA, 0, 512), None);
    }
    assert_eq!(fault(command::FLUSH, flag::FUA, 0, 0), None);
    let status = raw_request(command::BLOCK_STATUS, flag::FUA, 7, 0, 512);
    assert_eq!(outcome_of(true, &status), None);
}

#[test]
fn unknown_commands_are_invalid() {
    for number in [8, 9, 255, 0x8000, u16::MAX] {
        assert_eq!(fault(number, 0, 0, 512), Some(RequestFault::UnknownCommand));
    }
    assert_eq!(RequestFault::UnknownCommand.error(), NbdError::Invalid);
}

#[test]
fn flags_are_legal_only_where_they_belong() {
    let all = [command::READ, command::WRITE, command::TRIM, command::CACHE, command::WRITE_ZEROES];
    for number in all {
        for bit in 1..16 {
            let belongs = number == command::WRITE_ZEROES && [flag::NO_HOLE, flag::FAST_ZERO].contains(&(1 << bit));
            let dont_fragment = number == command::READ && 1 << bit == flag::DF;
            if !belongs && !dont_fragment {
                assert_eq!(fault(number, 1 << bit, 0, 512), Some(RequestFault::BadFlags), "{number} {bit}");
            }
        }
    }
    assert_eq!(RequestFault::BadFlags.error(), NbdError::Invalid);
}

#[test]
fn dont_fragment_needs_structured_replies() {
    let bytes = raw_request(command::READ, flag::DF, 7, 0, 512);
    assert_eq!(outcome_of(false, &bytes), Some(RequestFault::BadFlags));
    assert_eq!(outcome_of(true, &bytes), None);
}

#[test]
fn a_range_past_the_end_is_refused() {
    let past = [(SIZE, 512), (SIZE - 512, 1024), (0, SIZE as u32 + 512), (u64::MAX - 511, 512), (u64::MAX, u32::MAX)];
    for (offset, length) in past {
        for number in [command::READ, command::TRIM, command::CACHE] {
            assert_eq!(fault(number, 0, offset, length), Some(RequestFault::BeyondEnd));
        }
        assert_eq!(fault(command::WRITE_ZEROES, 0, offset, length), Some(RequestFault::WriteBeyondEnd));
        let status = raw_request(command::BLOCK_STATUS, 0, 7, offset, length);
        assert_eq!(outcome_of(true, &status), Some(RequestFault::BeyondEnd));
    }
    assert_eq!(fault(command::WRITE, 0, SIZE - 512, 1024), Some(RequestFault::WriteBeyondEnd));
    assert_eq!(RequestFault::BeyondEnd.error(), NbdError::Invalid);
    assert_eq!(RequestFault::WriteBeyondEnd.error(), NbdError::NoSpace);
    assert_eq!(fault(command::READ, 0, SIZE - 512, 512), None);
}

#[test]
fn unaligned_ranges_are_refused() {
    for number in [command::READ, command::WRITE, command::TRIM, command::CACHE, command::WRITE_ZEROES] {
        for (offset, length) in [(1, 512), (0, 511), (0, 513), (256, 256)] {
            assert_eq!(fault(number, 0, offset, length), Some(RequestFault::Unaligned));
        }
    }
    let bytes = raw_request(command::READ, 0, 7, 512, 4096);
    let large_blocks = Transmission::new(&export(1), &negotiated(false)).next(&mut &bytes[..]);
    assert!(matches!(large_blocks, Parsed::Reject { fault: RequestFault::Unaligned, .. }));
}

#[test]
fn empty_ranges_are_refused() {
    for number in [command::READ, command::WRITE, command::TRIM, command::CACHE, command::WRITE_ZEROES] {
        assert_eq!(fault(number, 0, 0, 0), Some(RequestFault::ZeroLength));
        assert_eq!(fault(number, 0, SIZE, 0), Some(RequestFault::ZeroLength));
    }
}

#[test]
fn a_flush_has_no_range() {
    assert_eq!(fault(command::FLUSH, 0, 512, 0), Some(RequestFault::ReservedNotZero));
    assert_eq!(fault(command::FLUSH, 0, 0, 512), Some(RequestFault::ReservedNotZero));
}

#[test]
fn only_data_has_a_longest_length() {
    let length = PAYLOAD_LENGTH_MAX + 4096;
    let run = |number: u16, flags: u16| {
        let mut transmission = Transmission::new(&export(1), &negotiated(true));
        match transmission.next(&mut &raw_request(number, flags, 7, 0, length)[..]) {
            Parsed::Reject { fault, .. } => Some(fault),
            Parsed::Request(_) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(command::READ, 0), Some(RequestFault::TooLong));
    assert_eq!(run(command::READ, flag::DF), Some(RequestFault::TooLongUnfragmented));
    for number in [command::TRIM, command::WRITE_ZEROES, command::CACHE, command::BLOCK_STATUS] {
        assert_eq!(run(number, 0), None);
    }
    let unfragmented = |length: u32| {
        let mut transmission = Transmission::new(&export(1), &negotiated(true));
        match transmission.next(&mut &raw_request(command::READ, flag::DF, 7, 0, length)[..]) {
            Parsed::Reject { fault, .. } => Some(fault),
            _ => None,
        }
    };
    assert_eq!(unfragmented(UNFRAGMENTED_LENGTH_MAX), None);
    assert_eq!(unfragmented(UNFRAGMENTED_LENGTH_MAX + 4096), Some(RequestFault::TooLongUnfragmented));
    assert_eq!(RequestFault::TooLong.error(), NbdError::Invalid);
    assert_eq!(RequestFault::TooLongUnfragmented.error(), NbdError::Overflow);
}

#[test]
fn a_write_that_is_too_long_is_drained_and_the_next_request_understood() {
    for length in [PAYLOAD_LENGTH_MAX + 4096, u32::MAX] {
        let mut transmission = Transmission::new(&export(1), &negotiated(true));
        assert_eq!(transmission.next(&mut &raw_request(command::WRITE, 0, 7, 0, length)[..]), Parsed::NeedMore);
        assert_eq!((transmission.drain_remaining(), transmission.payload_remaining()), (length, 0));
        let chunk = [0x25; 1 << 16];
        let mut left = length;
        while left > 1 << 16 {
            assert_eq!(transmission.next(&mut &chunk[..]), Parsed::NeedMore);
            left -= 1 << 16;
        }
        let tail = [&vec![0; left as usize][..], &raw_request(command::FLUSH, 0, 8, 0, 0)].concat();
        let mut input = &tail[..];
        let rejected = transmission.next(&mut input);
        assert!(matches!(rejected, Parsed::Reject { frame: Frame::Error { cookie: 7, .. }, .. }), "{rejected:?}");
        assert!(matches!(transmission.next(&mut input), Parsed::Request(Request { cookie: 8, .. })));
    }
}

#[test]
fn a_read_only_export_refuses_writes() {
    let features = ExportFeatures { read_only: true, ..ExportFeatures::default() };
    for number in [command::TRIM, command::WRITE_ZEROES] {
        let bytes = raw_request(number, 0, 7, 0, 512);
        assert_eq!(outcome(features, true, &bytes), Err(RequestFault::ReadOnly));
    }
    let write = [raw_request(command::WRITE, 0, 7, 0, 512), vec![0; 512]].concat();
    assert_eq!(outcome(features, true, &write), Err(RequestFault::ReadOnly));
    assert!(outcome(features, true, &raw_request(command::READ, 0, 7, 0, 512)).is_ok());
    assert_eq!(RequestFault::ReadOnly.error(), NbdError::NotPermitted);
}

#[test]
fn what_is_not_offered_is_refused() {
    let features = ExportFeatures { trim: false, fast_zero: FastZero::NotOffered, ..ExportFeatures::default() };
    let refused = |number, flags| outcome(features, true, &raw_request(number, flags, 7, 0, 512)).err();
    assert_eq!(refused(command::TRIM, 0), Some(RequestFault::NotOffered));
    assert_eq!(refused(command::WRITE_ZEROES, flag::FAST_ZERO), Some(RequestFault::BadFlags));
    assert_eq!(refused(command::WRITE_ZEROES, flag::NO_HOLE), None);
    let status = raw_request(command::BLOCK_STATUS, 0, 7, 0, 512);
    assert_eq!(outcome_of(false, &status), Some(RequestFault::NoContext));
}

#[test]
fn a_fast_zero_is_refused_at_once_where_it_would_be_slow() {
    assert_eq!(fault(command::WRITE_ZEROES, flag::FAST_ZERO, 0, 512), Some(RequestFault::NotFast));
    assert_eq!(RequestFault::NotFast.error(), NbdError::NotSupported);
    assert_eq!(fault(command::WRITE_ZEROES, flag::FAST_ZERO, SIZE, 512), Some(RequestFault::WriteBeyondEnd));
}

#[test]
fn after_a_demotion_everything_is_refused_and_the_connection_lives() {
    let mut transmission = transmission(false);
    transmission.stop();
    let write = [raw_request(command::WRITE, 0, 7, 0, 512), vec![0; 512]].concat();
    for bytes in [raw_request(command::READ, 0, 7, 0, 512), write, raw_request(command::FLUSH, 0, 7, 0, 0)] {
        let mut input = &bytes[..];
        let parsed = transmission.next(&mut input);
        let frame = Frame::Simple { cookie: 7, result: Err(NbdError::Shutdown) };
        assert_eq!(parsed, Parsed::Reject { fault: RequestFault::Stopping, frame });
        assert!(input.is_empty());
    }
    assert_eq!(transmission.next(&mut &raw_request(command::DISC, 0, 7, 0, 0)[..]), Parsed::Disconnect);
}

#[test]
fn a_demotion_in_the_middle_of_a_payload_keeps_the_stream_in_step() {
    let mut transmission = transmission(false);
    let bytes = [raw_request(command::WRITE, 0, 7, 0, 1024), vec![1; 100]].concat();
    let mut input = &bytes[..];
    assert!(matches!(transmission.next(&mut input), Parsed::Write(_)));
    assert!(matches!(transmission.next(&mut input), Parsed::Payload { remaining: 924, .. }));
    transmission.stop();
    let rest = [vec![1; 924], raw_request(command::READ, 0, 7, 0, 512)].concat();
    let mut input = &rest[..];
    assert!(matches!(transmission.next(&mut input), Parsed::Payload { remaining: 0, .. }));
    assert!(matches!(transmission.next(&mut input), Parsed::Reject { fault: RequestFault::Stopping, .. }));
}

#[test]
fn a_wrong_magic_ends_the_connection_for_good() {
    let mut transmission = transmission(true);
    let mut bytes = raw_request(command::READ, 0, 7, 0, 512);
    bytes[0] ^= 1;
    let broken = Parsed::Broken(TransmissionError::BadMagic(0x2460_9513));
    assert_eq!(transmission.next(&mut &bytes[..]), broken);
    let good = raw_request(command::READ, 0, 7, 0, 512);
    let mut input = &good[..];
    assert_eq!(transmission.next(&mut input), broken);
    assert_eq!(input.len(), good.len(), "nothing is taken any more");
}

#[test]
fn a_disconnect_ends_the_stream_whatever_its_fields_say() {
    let bytes = [raw_request(command::DISC, 0xffff, 7, 9, 9), raw_request(command::READ, 0, 7, 0, 512)].concat();
    let mut transmission = transmission(true);
    let mut input = &bytes[..];
    assert_eq!(transmission.next(&mut input), Parsed::Disconnect);
    assert_eq!(transmission.next(&mut input), Parsed::Disconnect);
    assert_eq!(input.len(), REQUEST_LENGTH);
}

#[test]
fn a_payload_may_be_received_past_the_parser() {
    let mut transmission = transmission(false);
    let start = [raw_request(command::WRITE, 0, 7, 0, 4096), vec![1; 96]].concat();
    let mut input = &start[..];
    assert!(matches!(transmission.next(&mut input), Parsed::Write(_)));
    assert!(matches!(transmission.next(&mut input), Parsed::Payload { remaining: 4000, .. }));
    assert_eq!(transmission.next(&mut input), Parsed::NeedMore);
    assert_eq!(transmission.payload_received(3000), 1000);
    assert_eq!(transmission.payload_remaining(), 1000);
    assert_eq!(transmission.payload_received(1000), 0);
    assert!(matches!(transmission.next(&mut &raw_request(command::FLUSH, 0, 8, 0, 0)[..]), Parsed::Request(_)));
}

#[test]
fn a_payload_may_be_taken_over_as_a_whole() {
    let mut transmission = transmission(false);
    assert_eq!(transmission.take_over_payload(), 0);
    transmission.next(&mut &raw_request(command::WRITE, 0, 7, 0, 4096)[..]);
    assert_eq!((transmission.take_over_payload(), transmission.take_over_payload()), (4096, 0));
    assert!(matches!(transmission.next(&mut &raw_request(command::FLUSH, 0, 8, 0, 0)[..]), Parsed::Request(_)));
}

#[test]
fn a_drain_may_be_received_past_the_parser() {
    let mut transmission = transmission(false);
    assert_eq!(transmission.next(&mut &raw_request(command::WRITE, 0, 7, 1, 4096)[..]), Parsed::NeedMore);
    assert_eq!(transmission.payload_received(4096), 0);
    let rejected = transmission.next(&mut &[][..]);
    assert!(matches!(rejected, Parsed::Reject { fault: RequestFault::Unaligned, .. }));
}

#[test]
#[should_panic(expected = "more payload was received than is due")]
fn receiving_too_much_past_the_parser_is_the_shells_mistake() {
    let mut transmission = transmission(false);
    transmission.next(&mut &raw_request(command::WRITE, 0, 7, 0, 512)[..]);
    transmission.payload_received(513);
}

#[test]
fn a_resized_volume_has_new_bounds() {
    let mut transmission = transmission(false);
    transmission.resize(2 * SIZE + 100);
    let read = |offset| raw_request(command::READ, 0, 7, offset, 512);
    assert!(matches!(transmission.next(&mut &read(2 * SIZE - 512)[..]), Parsed::Request(_)));
    assert!(matches!(transmission.next(&mut &read(2 * SIZE)[..]), Parsed::Reject { .. }));
}

/// Requests as clients send them, right or nearly.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![(0u64..2100).prop_map(|sector| sector * 512), any::<u64>()];
    let length = prop_oneof![(0u32..6).prop_map(|sectors| sectors * 512), 0u32..3000];
    (0u16..10, prop_oneof![Just(0u16), 0u16..64], any::<u64>(), offset, length).prop_map(
        |(command, flags, cookie, offset, length)| {
            let mut bytes = raw_request(command, flags, cookie, offset, length);
            if command == command::WRITE {
                bytes.extend((0..length).map(|index| index as u8));
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn what_comes_of_a_stream_does_not_depend_on_how_it_is_cut(
        requests in prop::collection::vec(any_request(), 0..12),
        structured in any::<bool>(),
        cuts in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let bytes = requests.concat();
        let whole = transmit(&mut transmission(structured), &export(0), &[&bytes]);
        prop_assert_eq!(&whole, &transmit(&mut transmission(structured), &export(0), &cut(&bytes, &cuts)));
        let left_early = whole.contains(&StreamItem::Disconnect);
        prop_assert!(left_early || whole.len() == requests.len(), "every request is answered for");
    }

    #[test]
    fn arbitrary_bytes_harm_nothing(data in prop::collection::vec(any::<u8>(), 0..500)) {
        fuzz_transmission(&data);
        let magic = REQUEST_MAGIC.to_be_bytes();
        fuzz_transmission(&[&data[..data.len().min(2)], &magic[..], &data].concat());
    }
}
