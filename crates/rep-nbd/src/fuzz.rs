//! Entry points for fuzzers and property tests: bytes from a stranger, cut anywhere.
//!
//! Each returns what came of the bytes, so that two ways of cutting the same bytes can be compared, and asserts the
//! modules' invariants on the way. They panic when one doesn't hold and never otherwise.

use crate::client::{ClientHandshake, ClientOptions, ClientSession, Completion, HandshakeStep, ProtocolError, Welcome};
use crate::export::{Export, ExportCatalog, ExportFeatures, ExportId, FastZero};
use crate::limits::{OPTION_DATA_MAX, PAYLOAD_LENGTH_MAX};
use crate::negotiation::{Negotiated, Negotiation, NegotiationStep, TlsPolicy};
use crate::request::{Command, Request};
use crate::transmission::{Parsed, Transmission};
use rep_types::ByteRange;

/// The catalog fuzzers negotiate with: a default export, and one with larger blocks.
pub fn catalog() -> ExportCatalog {
    let first = Export::new(ExportId(0), "vz", 1 << 20, 512).and_then(|export| export.with_alias("vz/0"));
    let second = Export::new(ExportId(1), "vz/1", 3 << 30, 4096).and_then(|export| export.with_description("second"));
    ExportCatalog::new(first.into_iter().chain(second).collect(), Some(ExportId(0)))
}

/// How the bytes are cut: pieces of these lengths, in turn (0 counts as 1).
pub fn cut<'a>(mut bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while !bytes.is_empty() {
        let length = lengths.next().map_or(bytes.len(), |length| usize::from(*length).max(1));
        let (head, tail) = bytes.split_at(length.min(bytes.len()));
        pieces.push(head);
        bytes = tail;
    }
    pieces
}

/// What came of a negotiation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NegotiationTrace {
    /// Every step but `NeedMore`.
    pub steps: Vec<NegotiationStep>,
    /// What the server sent.
    pub sent: Vec<u8>,
    /// What was left for the transmission.
    pub left: Vec<u8>,
}

/// Feeds pieces to a negotiation until it ends or they do.
pub fn negotiate(catalog: &ExportCatalog, tls: TlsPolicy, pieces: &[&[u8]]) -> NegotiationTrace {
    let mut negotiation = Negotiation::new(tls);
    let mut trace = NegotiationTrace { steps: Vec::new(), sent: Vec::new(), left: Vec::new() };
    for piece in pieces {
        let mut input = *piece;
        while !negotiation.is_over() {
            let before = trace.sent.len();
            let step = negotiation.receive(catalog, &mut input, &mut trace.sent);
            assert!(trace.sent.len() - before <= 2 * OPTION_DATA_MAX, "one option's reply is bounded");
            assert!(negotiation.kept_bytes() <= OPTION_DATA_MAX, "what is kept is bounded");
            if step == NegotiationStep::NeedMore {
                assert!(input.is_empty(), "NeedMore only when all input is taken");
                break;
            }
            trace.steps.push(step);
        }
        trace.left.extend_from_slice(input);
    }
    trace
}

/// Fuzz target: the first byte chooses policy and cut, the rest is what a client sends.
pub fn fuzz_negotiation(data: &[u8]) {
    let Some((config, bytes)) = data.split_first() else { return };
    let catalog = if config & 1 == 0 { catalog() } else { ExportCatalog::default() };
    let whole = negotiate(&catalog, TlsPolicy::Off, &[bytes]);
    assert_eq!(whole, negotiate(&catalog, TlsPolicy::Off, &cut(bytes, &[config >> 1])));
    negotiate(&catalog, TlsPolicy::Required, &cut(bytes, &[config >> 1]));
}

/// One thing out of a request stream; a payload counts as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamItem {
    /// A request without payload.
    Request(Request),
    /// A write with as much of its payload as came.
    Write(Request, Vec<u8>),
    /// A refusal, as it is sent.
    Reject(Vec<u8>),
    /// The client left.
    Disconnect,
    /// The stream broke.
    Broken,
}

/// Feeds pieces to a transmission until it ends or they do.
pub fn transmit(transmission: &mut Transmission, export: &Export, pieces: &[&[u8]]) -> Vec<StreamItem> {
    let mut items = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while !transmission.is_over() {
            match transmission.next(&mut input) {
                Parsed::NeedMore => {
                    assert!(input.is_empty(), "NeedMore only when all input is taken");
                    break;
                }
                Parsed::Request(request) => {
                    assert_legal(&request, export);
                    items.push(StreamItem::Request(request));
                }
                Parsed::Write(request) => {
                    assert_legal(&request, export);
                    assert_eq!(transmission.payload_remaining(), request.range.length);
                    items.push(StreamItem::Write(request, Vec::new()));
                }
                Parsed::Payload { bytes, remaining } => {
                    let Some(StreamItem::Write(request, payload)) = items.last_mut() else {
                        panic!("a payload follows its write");
                    };
                    payload.extend_from_slice(bytes);
                    assert_eq!(payload.len() + remaining as usize, request.range.length as usize);
                }
                Parsed::Reject { frame, .. } => items.push(StreamItem::Reject(frame.encode().as_ref().to_vec())),
                Parsed::Disconnect => items.push(StreamItem::Disconnect),
                Parsed::Broken(_) => items.push(StreamItem::Broken),
            }
        }
    }
    items
}

fn assert_legal(request: &Request, export: &Export) {
    let (range, block) = (request.range, u64::from(export.min_block_bytes()));
    if request.command == Command::Flush {
        assert_eq!(range, ByteRange::new(0, 0));
        return;
    }
    assert!(range.is_legal(export.size_bytes()), "inside the export, on sectors, not empty");
    assert!(range.offset.is_multiple_of(block) && u64::from(range.length).is_multiple_of(block), "on blocks");
    if matches!(request.command, Command::Read { .. } | Command::Write { .. }) {
        assert!(range.length <= PAYLOAD_LENGTH_MAX, "not too long");
    }
    let pieces = request.pieces();
    assert_eq!(pieces.len(), pieces.count());
    assert_eq!(pieces.map(|piece| u64::from(piece.length)).sum::<u64>(), u64::from(range.length));
}

/// Fuzz target: the first two bytes choose export and cut, the rest is what a client sends.
pub fn fuzz_transmission(data: &[u8]) {
    let [config, length, bytes @ ..] = data else { return };
    let bit = |index: u32| config & (1 << index) != 0;
    let catalog = catalog();
    let Some(export) = catalog.get(ExportId(u32::from(bit(0)))) else { return };
    let fast_zero = if bit(1) { FastZero::Done } else { FastZero::AlwaysRefused };
    let features = ExportFeatures { fast_zero, read_only: bit(2), trim: !bit(3), ..ExportFeatures::default() };
    let export = export.clone().with_features(features);
    let negotiated = Negotiated { export: export.id(), structured: bit(4), block_status: bit(4) && bit(5) };
    let run = |pieces: &[&[u8]]| {
        let mut transmission = Transmission::new(&export, &negotiated);
        if bit(6) {
            transmission.stop();
        }
        transmit(&mut transmission, &export, pieces)
    };
    assert_eq!(run(&[bytes]), run(&cut(bytes, &[*length])));
}

/// Feeds pieces to a client that waits for one of every kind of answer.
pub fn receive_replies(structured: bool, pieces: &[&[u8]]) -> Result<Vec<Completion>, ProtocolError> {
    let allocation_context = structured.then_some(1);
    let block_sizes = [512, 4096, PAYLOAD_LENGTH_MAX];
    let welcome = Welcome { size_bytes: 1 << 20, flags: 1, block_sizes, structured, allocation_context };
    let mut session = ClientSession::new(&welcome);
    let range = ByteRange::new(4096, 8192);
    let mut sent = Vec::new();
    for unfragmented in [false, true] {
        session.request(Command::Read { unfragmented }, range, &mut sent);
    }
    session.request(Command::Write { fua: false }, range, &mut sent);
    session.request(Command::Flush, ByteRange::new(0, 0), &mut sent);
    session.request(Command::BlockStatus { one: false }, range, &mut sent);
    let mut completions = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while let Some(completion) = session.receive(&mut input)? {
            completions.push(completion);
        }
        assert!(input.is_empty(), "no completion only when all input is taken");
    }
    Ok(completions)
}

/// Fuzz target: the first byte chooses the cut and whether replies are structured, the rest is what a server sends.
pub fn fuzz_client(data: &[u8]) {
    let Some((config, bytes)) = data.split_first() else { return };
    let (structured, length) = (config & 1 == 0, config >> 1);
    assert_eq!(receive_replies(structured, &[bytes]), receive_replies(structured, &cut(bytes, &[length])));
    let handshake = |pieces: &[&[u8]]| {
        let (mut handshake, mut sent) = (ClientHandshake::new(ClientOptions::new("vz")), Vec::new());
        for piece in pieces {
            let mut input = *piece;
            match handshake.receive(&mut input, &mut sent) {
                HandshakeStep::NeedMore => assert!(input.is_empty(), "NeedMore only when all input is taken"),
                over => return (Some(over), sent),
            }
        }
        (None, sent)
    };
    assert_eq!(handshake(&[bytes]), handshake(&cut(bytes, &[length])));
}
