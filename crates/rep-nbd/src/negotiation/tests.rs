use super::*;
use crate::fuzz::{NegotiationTrace, catalog, cut, fuzz_negotiation, negotiate};
use crate::limits::{META_QUERIES_MAX, STRING_LENGTH_MAX};
use crate::protocol::{
    BASE_ALLOCATION, BASE_ALLOCATION_ID, info, option as number, option_reply as reply, transmission_flag as flag,
};
use crate::testing::{
    FLAGS, OptionReply, context_data, info_data, negotiate_options, negotiate_with, option, option_replies, string,
};
use proptest::prelude::*;

fn go(name: &[u8]) -> Vec<u8> {
    option(number::GO, &info_data(name, &[]))
}

fn structured() -> Vec<u8> {
    option(number::STRUCTURED_REPLY, &[])
}

fn set_context(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    option(number::SET_META_CONTEXT, &context_data(name, queries))
}

/// The only reply to these options after whatever came before them, and that the connection goes on.
fn sole_reply(options: &[Vec<u8>]) -> OptionReply {
    let trace = negotiate_options(options);
    assert_eq!(trace.steps.last(), Some(&NegotiationStep::Replied));
    let mut replies = option_replies(&trace.sent);
    replies.retain(|reply| reply.option != number::STRUCTURED_REPLY || options.len() == 1);
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

fn transmission(trace: &NegotiationTrace) -> Negotiated {
    match trace.steps.last() {
        Some(NegotiationStep::Transmission(negotiated)) => *negotiated,
        other => panic!("no transmission but {other:?}"),
    }
}

fn failure(trace: &NegotiationTrace) -> NegotiationError {
    match trace.steps.last() {
        Some(NegotiationStep::Failed(error)) => *error,
        other => panic!("no failure but {other:?}"),
    }
}

#[test]
fn the_greeting_offers_fixed_newstyle_without_zeroes() {
    assert_eq!(&Negotiation::greeting(), b"NBDMAGICIHAVEOPT\x00\x03");
}

#[test]
fn unknown_client_flags_end_the_connection() {
    let trace = negotiate(&catalog(), TlsPolicy::Off, &[&[0, 0, 0, 7]]);
    assert_eq!(failure(&trace), NegotiationError::UnknownFlags(7));
    assert!(trace.sent.is_empty());
}

#[test]
fn a_wrong_magic_ends_the_connection() {
    let trace = negotiate_options(&[b"IHAVEOPX\0\0\0\x03\0\0\0\0".to_vec()]);
    assert_eq!(failure(&trace), NegotiationError::BadMagic(u64::from_be_bytes(*b"IHAVEOPX")));
}

#[test]
fn export_name_sends_size_and_flags_with_or_without_zeroes() {
    let request = option(number::EXPORT_NAME, b"vz");
    let without = negotiate_options(std::slice::from_ref(&request));
    assert_eq!(transmission(&without), Negotiated { export: ExportId(0), structured: false, block_status: false });
    assert_eq!(without.sent.len(), 10);
    assert_eq!(without.sent[..8], (1u64 << 20).to_be_bytes());

    let with = negotiate(&catalog(), TlsPolicy::Off, &[&[0, 0, 0, 1], &request]);
    assert_eq!(with.sent.len(), 134);
    assert_eq!(with.sent[..10], without.sent[..]);
    assert!(with.sent[10..].iter().all(|byte| *byte == 0));
}

#[test]
fn export_name_of_nothing_hangs_up() {
    for name in [b"nothing".to_vec(), vec![b'x'; 5000], vec![b'x'; OPTION_DATA_MAX + 1]] {
        let trace = negotiate_options(&[option(number::EXPORT_NAME, &name)]);
        assert_eq!(failure(&trace), NegotiationError::UnknownExport);
        assert!(trace.sent.is_empty());
    }
}

#[test]
fn every_name_of_an_export_finds_it() {
    for (name, id) in [(&b"vz"[..], 0), (b"vz/0", 0), (b"", 0), (b"vz/1", 1)] {
        assert_eq!(transmission(&negotiate_options(&[go(name)])).export, ExportId(id));
        assert_eq!(transmission(&negotiate_options(&[option(number::EXPORT_NAME, name)])).export, ExportId(id));
    }
}

#[test]
fn go_tells_what_was_asked_for() {
    let wanted = [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE, 77, info::NAME];
    let trace = negotiate_options(&[option(number::GO, &info_data(b"vz/1", &wanted))]);
    assert_eq!(transmission(&trace).export, ExportId(1));
    let replies = option_replies(&trace.sent);
    let datas: Vec<&[u8]> = replies.iter().map(|reply| reply.data.as_slice()).collect();
    let expected_flags = flag::HAS_FLAGS
        | flag::SEND_FLUSH
        | flag::SEND_FUA
        | flag::SEND_TRIM
        | flag::SEND_WRITE_ZEROES
        | flag::CAN_MULTI_CONN
        | flag::SEND_CACHE
        | flag::SEND_FAST_ZERO;
    let export = [&[0, 0], &(3u64 << 30).to_be_bytes()[..], &expected_flags.to_be_bytes()].concat();
    let sizes = b"\0\x03\0\0\x10\0\0\0\x10\0\x04\0\0\0";
    assert_eq!(datas, [&export[..], sizes, b"\0\x01vz/1", b"\0\x02second", b""]);
    assert!(replies[..4].iter().all(|reply| reply.kind == reply::INFO));
    assert_eq!(replies[4].kind, reply::ACK);
}

#[test]
fn info_tells_the_same_and_goes_on() {
    let data = info_data(b"vz", &[info::NAME]);
    let (info, go) = (option(number::INFO, &data), option(number::GO, &data));
    let trace = negotiate_options(&[info, go]);
    let replies = option_replies(&trace.sent);
    let (asked, gone) = replies.split_at(replies.len() / 2);
    assert_eq!(asked.len(), gone.len());
    for (asked, gone) in asked.iter().zip(gone) {
        assert_eq!((asked.option, gone.option), (number::INFO, number::GO));
        assert_eq!((asked.kind, &asked.data), (gone.kind, &gone.data));
    }
    assert_eq!(transmission(&trace).export, ExportId(0));
}

#[test]
fn dont_fragment_is_offered_with_structured_replies_only() {
    for (options, offered) in [(vec![go(b"")], false), (vec![structured(), go(b"")], true)] {
        let trace = negotiate_options(&options);
        assert_eq!(transmission(&trace).structured, offered);
        let replies = option_replies(&trace.sent);
        let export = replies.iter().find(|reply| reply.kind == reply::INFO).unwrap();
        let flags = u16::from_be_bytes([export.data[10], export.data[11]]);
        assert_eq!(flags & flag::SEND_DF != 0, offered);
    }
}

#[test]
fn an_unknown_export_is_refused_and_the_connection_goes_on() {
    for kind in [number::INFO, number::GO] {
        let refused = sole_reply(&[option(kind, &info_data(b"other", &[]))]);
        assert_eq!((refused.option, refused.kind), (kind, reply::ERR_UNKNOWN));
    }
    let trace = negotiate_options(&[go(b"other"), go(b"vz")]);
    assert_eq!(transmission(&trace).export, ExportId(0));
}

#[test]
fn a_secondary_exports_nothing_and_says_why() {
    let empty = ExportCatalog::default();
    let trace = negotiate_with(&empty, TlsPolicy::Off, &[option(number::LIST, &[]), go(b"")]);
    let replies = option_replies(&trace.sent);
    assert_eq!(replies[0], OptionReply { option: number::LIST, kind: reply::ACK, data: Vec::new() });
    assert_eq!(replies[1].kind, reply::ERR_UNKNOWN);
    assert!(String::from_utf8_lossy(&replies[1].data).contains("not Primary"));
}

#[test]
fn names_of_every_length_are_answered() {
    for length in 0..=5000usize {
        let refused = option_replies(&negotiate_options(&[go(&vec![b'x'; length])]).sent);
        let expected = match length {
            0 => reply::INFO,
            1..=STRING_LENGTH_MAX => reply::ERR_UNKNOWN,
            _ => reply::ERR_INVALID,
        };
        assert_eq!(refused[0].kind, expected, "length {length}");
    }
}

#[test]
fn malformed_info_is_invalid() {
    let good = info_data(b"vz", &[info::NAME]);
    let mut cases: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    cases.push([&good[..], &[0]].concat());
    cases.push([&0xffff_ffff_u32.to_be_bytes()[..], b"vz\0\0"].concat());
    cases.push([&string(b"vz")[..], &[0xff, 0xff, 0, 0]].concat());
    for data in cases {
        let refused = sole_reply(&[option(number::GO, &data)]);
        assert_eq!(refused.kind, reply::ERR_INVALID, "{data:?}");
    }
}

#[test]
fn list_names_every_export_with_its_description() {
    let trace = negotiate_options(&[option(number::LIST, &[])]);
    let replies = option_replies(&trace.sent);
    assert_eq!(replies.len(), 3);
    assert_eq!((replies[0].kind, &replies[0].data[..]), (reply::SERVER, &b"\0\0\0\x02vz"[..]));
    assert_eq!((replies[1].kind, &replies[1].data[..]), (reply::SERVER, &b"\0\0\0\x04vz/1second"[..]));
    assert_eq!((replies[2].kind, &replies[2].data[..]), (reply::ACK, &b""[..]));
}

#[test]
fn options_without_data_refuse_data() {
    for kind in [number::LIST, number::STRUCTURED_REPLY] {
        assert_eq!(sole_reply(&[option(kind, b"x")]).kind, reply::ERR_INVALID);
    }
    let trace = negotiate_options(&[option(number::STRUCTURED_REPLY, b"x"), go(b"")]);
    assert!(!transmission(&trace).structured);
}

#[test]
fn abort_is_acknowledged_even_with_data() {
    for data in [&b""[..], b"so long"] {
        let trace = negotiate_options(&[option(number::ABORT, data), go(b"")]);
        assert_eq!(trace.steps, [NegotiationStep::Aborted]);
        assert_eq!(option_replies(&trace.sent)[0].kind, reply::ACK);
        assert_eq!(trace.left, go(b""));
    }
}

#[test]
fn unsupported_and_unknown_options_are_refused() {
    for kind in [0, 4, number::STARTTLS, number::EXTENDED_HEADERS, 12, 0x7fff_ffff, u32::MAX] {
        for data in [&b""[..], &[7; 3000]] {
            let refused = sole_reply(&[option(kind, data)]);
            assert_eq!((refused.option, refused.kind), (kind, reply::ERR_UNSUP));
        }
    }
}

#[test]
fn an_option_too_long_to_look_at_is_skipped() {
    let refused = sole_reply(&[option(number::GO, &vec![0; OPTION_DATA_MAX + 1])]);
    assert_eq!((refused.option, refused.kind), (number::GO, reply::ERR_TOO_BIG));
    let trace = negotiate_options(&[option(99, &vec![0; 100_000]), go(b"vz")]);
    assert_eq!(transmission(&trace).export, ExportId(0));
}

#[test]
fn an_option_longer_than_the_budget_ends_the_connection() {
    let mut endless = option(number::GO, &[]);
    endless[12..16].copy_from_slice(&0xffff_ffff_u32.to_be_bytes());
    let trace = negotiate_options(&[endless]);
    assert_eq!(failure(&trace), NegotiationError::TooManyBytes);
    assert!(trace.sent.is_empty());
}

#[test]
fn an_option_that_cannot_fit_the_budget_fails_before_its_data() {
    let header = |length: u32| {
        let mut header = option(number::GO, &[]);
        header[12..16].copy_from_slice(&length.to_be_bytes());
        negotiate_options(&[header])
    };
    let rest = NEGOTIATION_BYTES_MAX - FLAGS.len() as u32 - OPTION_HEADER_LENGTH as u32;
    assert_eq!(failure(&header(rest + 1)), NegotiationError::TooManyBytes);
    assert!(header(rest).steps.is_empty(), "this one is waited for");
}

#[test]
fn a_flood_of_options_ends_the_connection() {
    let trace = negotiate_options(&vec![option(number::INFO, &info_data(b"", &[])); OPTIONS_MAX as usize + 1]);
    assert_eq!(failure(&trace), NegotiationError::TooManyOptions);
    assert_eq!(trace.steps.len(), OPTIONS_MAX as usize + 1);

    let trace = negotiate_options(&vec![option(99, &vec![0; 8000]); OPTIONS_MAX as usize]);
    assert_eq!(failure(&trace), NegotiationError::TooManyBytes);
    assert!((trace.steps.len() as u32 - 1) * 8000 <= NEGOTIATION_BYTES_MAX);
}

#[test]
fn nothing_is_taken_after_the_end() {
    let mut negotiation = Negotiation::new(TlsPolicy::Off);
    let bytes = [&FLAGS[..], &go(b""), b"the transmission's"].concat();
    let (mut input, mut out) = (&bytes[..], Vec::new());
    let step = negotiation.receive(&catalog(), &mut input, &mut out);
    assert!(matches!(step, NegotiationStep::Transmission(_)) && negotiation.is_over());
    assert_eq!(input, b"the transmission's");
    let step = negotiation.receive(&catalog(), &mut input, &mut out);
    assert_eq!(step, NegotiationStep::Failed(NegotiationError::Ended));
    assert_eq!(input, b"the transmission's");
}

#[test]
fn contexts_need_structured_replies() {
    for kind in [number::LIST_META_CONTEXT, number::SET_META_CONTEXT] {
        let data = context_data(b"vz", &[BASE_ALLOCATION.as_bytes()]);
        assert_eq!(sole_reply(&[option(kind, &data)]).kind, reply::ERR_INVALID);
    }
}

#[test]
fn listing_contexts_knows_wildcards() {
    let listed = |queries: &[&[u8]]| {
        let ask = option(number::LIST_META_CONTEXT, &context_data(b"vz", queries));
        let replies = option_replies(&negotiate_options(&[structured(), ask, go(b"vz")]).sent);
        let contexts = replies.iter().filter(|reply| reply.kind == reply::META_CONTEXT);
        contexts.map(|reply| reply.data.clone()).collect::<Vec<_>>()
    };
    let one = vec![b"\0\0\0\0base:allocation".to_vec()];
    assert_eq!(listed(&[]), one);
    assert_eq!(listed(&[b"base:"]), one);
    assert_eq!(listed(&[b"base:allocation", b"base:", b"base:allocation"]), one);
    assert_eq!(listed(&[b"qemu:dirty-bitmap:x", b"base:other", b"base", b""]), Vec::<Vec<u8>>::new());
}

#[test]
fn a_context_is_set_for_its_export_only() {
    let block_status = |options: &[Vec<u8>]| transmission(&negotiate_options(options)).block_status;
    let allocation = BASE_ALLOCATION.as_bytes();
    assert!(block_status(&[structured(), set_context(b"vz", &[allocation]), go(b"vz")]));
    assert!(block_status(&[structured(), set_context(b"vz/0", &[b"x-y:z", allocation]), go(b"")]));
    assert!(!block_status(&[structured(), go(b"vz")]));
    assert!(!block_status(&[structured(), set_context(b"vz", &[allocation]), go(b"vz/1")]));
    assert!(!block_status(&[structured(), set_context(b"vz", &[]), go(b"vz")]));
    assert!(!block_status(&[structured(), set_context(b"vz", &[b"base:"]), go(b"vz")]));
}

#[test]
fn the_last_setting_of_contexts_counts_even_if_it_failed() {
    let good = set_context(b"vz", &[BASE_ALLOCATION.as_bytes()]);
    let bad = [
        set_context(b"nothing", &[BASE_ALLOCATION.as_bytes()]),
        set_context(b"vz", &[b"base:other"]),
        option(number::SET_META_CONTEXT, b"rubbish"),
        option(number::SET_META_CONTEXT, &vec![0; OPTION_DATA_MAX + 1]),
    ];
    for bad in bad {
        let trace = negotiate_options(&[structured(), good.clone(), bad, go(b"vz")]);
        assert!(!transmission(&trace).block_status);
    }
}

#[test]
fn setting_a_context_tells_its_number() {
    let trace = negotiate_options(&[structured(), set_context(b"vz", &[BASE_ALLOCATION.as_bytes()])]);
    let replies = option_replies(&trace.sent);
    assert_eq!(replies[1].kind, reply::META_CONTEXT);
    assert_eq!(replies[1].data, [&BASE_ALLOCATION_ID.to_be_bytes(), BASE_ALLOCATION.as_bytes()].concat());
    assert_eq!((replies[2].kind, replies[2].data.len()), (reply::ACK, 0));
}

#[test]
fn malformed_contexts_are_invalid() {
    let good = context_data(b"vz", &[b"base:allocation", b"x-y:z"]);
    let mut cases: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    cases.push([&good[..], &[0]].concat());
    cases.push(context_data(&[b'x'; STRING_LENGTH_MAX + 1], &[]));
    cases.push(context_data(b"vz", &[&[b'x'; STRING_LENGTH_MAX + 1]]));
    for data in cases {
        let refused = sole_reply(&[structured(), option(number::LIST_META_CONTEXT, &data)]);
        assert_eq!(refused.kind, reply::ERR_INVALID, "{} bytes", data.len());
    }
    let many = context_data(b"vz", &vec![&b"a:b"[..]; META_QUERIES_MAX as usize + 1]);
    assert_eq!(sole_reply(&[structured(), option(number::SET_META_CONTEXT, &many)]).kind, reply::ERR_TOO_BIG);
    let unknown = context_data(b"nothing", &[]);
    assert_eq!(sole_reply(&[structured(), option(number::SET_META_CONTEXT, &unknown)]).kind, reply::ERR_UNKNOWN);
}

#[test]
fn where_tls_is_a_must_nothing_else_is_answered() {
    let catalog = catalog();
    let with = |options: &[Vec<u8>]| negotiate_with(&catalog, TlsPolicy::Required, options);
    let everything = (1..=12).filter(|kind| ![number::EXPORT_NAME, number::ABORT, number::STARTTLS].contains(kind));
    for kind in everything {
        let replies = option_replies(&with(&[option(kind, &[])]).sent);
        assert_eq!((replies.len(), replies[0].kind), (1, reply::ERR_TLS_REQD), "option {kind}");
    }
    assert_eq!(with(&[option(number::ABORT, &[])]).steps, [NegotiationStep::Aborted]);
    assert_eq!(failure(&with(&[option(number::EXPORT_NAME, b"vz")])), NegotiationError::TlsRequired);
    let data = option_replies(&with(&[option(number::STARTTLS, b"x")]).sent);
    assert_eq!(data[0].kind, reply::ERR_INVALID);
}

#[test]
fn starting_tls_is_acknowledged_once_and_opens_the_rest() {
    let start = option(number::STARTTLS, &[]);
    let options = [start.clone(), start, structured(), go(b"vz")];
    let trace = negotiate_with(&catalog(), TlsPolicy::Required, &options);
    assert_eq!(trace.steps[0], NegotiationStep::StartTls);
    let replies = option_replies(&trace.sent);
    assert_eq!((replies[0].kind, replies[1].kind), (reply::ACK, reply::ERR_INVALID));
    assert!(transmission(&trace).structured);
}

#[test]
fn the_clients_flags_outlive_tls() {
    let options = [option(number::STARTTLS, &[]), option(number::EXPORT_NAME, b"vz")];
    let trace = negotiate_with(&catalog(), TlsPolicy::Required, &options);
    assert_eq!(trace.sent.len(), 20 + 10, "no zeroes, as agreed on before");
}

#[test]
fn clear_text_behind_starttls_ends_the_connection() {
    let together = [option(number::STARTTLS, &[]), go(b"vz")].concat();
    let trace = negotiate_with(&catalog(), TlsPolicy::Required, &[together]);
    assert_eq!(failure(&trace), NegotiationError::ClearTextAfterStartTls);
}

#[test]
fn a_negotiation_cut_off_at_any_byte_just_waits() {
    let whole = [&FLAGS[..], &structured(), &set_context(b"vz", &[b"base:allocation"]), &go(b"vz")].concat();
    for length in 0..whole.len() {
        let trace = negotiate(&catalog(), TlsPolicy::Off, &[&whole[..length]]);
        assert!(trace.steps.iter().all(|step| *step == NegotiationStep::Replied), "cut at {length}");
    }
}

/// Options as a client might send them, right or nearly.
fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just(b"vz".to_vec()), Just(Vec::new()), Just(b"vz/1".to_vec()), any::<Vec<u8>>()];
    let query = prop_oneof![Just(b"base:allocation".to_vec()), Just(b"base:".to_vec()), any::<Vec<u8>>()];
    prop_oneof![
        (0u32..13, any::<Vec<u8>>()).prop_map(|(kind, data)| option(kind, &data)),
        (any::<u32>(), 0usize..40_000).prop_map(|(kind, length)| option(kind, &vec![0; length])),
        (6u32..8, name.clone(), any::<Vec<u16>>())
            .prop_map(|(kind, name, wanted)| option(kind, &info_data(&name, &wanted))),
        (9u32..11, name, prop::collection::vec(query, 0..5)).prop_map(|(kind, name, queries)| {
            option(kind, &context_data(&name, &queries.iter().map(Vec::as_slice).collect::<Vec<_>>()))
        }),
        Just(structured()),
    ]
}

proptest! {
    #[test]
    fn what_comes_of_a_stream_does_not_depend_on_how_it_is_cut(
        options in prop::collection::vec(any_option(), 0..12),
        spoil in any::<Option<(u16, u8)>>(),
        cuts in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let mut bytes = [&FLAGS[..], &options.concat()].concat();
        if let Some((at, byte)) = spoil {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let whole = negotiate(&catalog(), TlsPolicy::Off, &[&bytes]);
        prop_assert_eq!(whole, negotiate(&catalog(), TlsPolicy::Off, &cut(&bytes, &cuts)));
    }

    #[test]
    fn arbitrary_bytes_harm_nothing(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz_negotiation(&data);
        fuzz_negotiation(&[&data[..data.len().min(1)], &FLAGS[..], &data].concat());
    }
}
