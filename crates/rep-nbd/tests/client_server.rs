//! The client against the server, in memory: both ends of the protocol in one thread, with the stream cut at will.
//!
//! ```text
//! BlockingClient --write--> [ Negotiation | Transmission ] --> disk (a Vec)
//!       ^                                                        |
//!       +--------read-------- replies <------ PendingReply ------+   (pieces answered newest first)
//! ```

use proptest::prelude::*;
use rep_nbd::blocking_client::{BlockingClient, ClientError, DEPTH_MAX};
use rep_nbd::client::{ClientOptions, HandshakeError, Outcome};
use rep_nbd::{
    Allocation, BlockStatusReply, Command, Export, ExportCatalog, ExportFeatures, ExportId, FastZero, Frame, NbdError,
    Negotiation, NegotiationStep, Parsed, PendingReply, PieceAnswer, Request, TlsPolicy, Transmission, protocol,
};
use rep_types::{ByteRange, IoError};
use std::collections::VecDeque;
use std::io::{self, Read, Write};

const SIZE: usize = 4 << 20;

/// A server on the other end of the client's stream.
#[derive(Debug)]
struct MemoryServer {
    catalog: ExportCatalog,
    negotiation: Negotiation,
    transmission: Option<Transmission>,
    disk: Vec<u8>,
    /// Reads of this sector fail.
    bad_sector: Option<u64>,
    /// The write whose payload is coming in.
    writing: Option<(Request, Vec<u8>)>,
    /// Requests not yet executed.
    queue: Vec<(Request, Vec<u8>)>,
    replies: VecDeque<u8>,
    /// The most bytes that cross the stream at once.
    cut: usize,
    over: bool,
    flushes: usize,
    /// The most requests that ever waited, and the most bytes of read data that were due when a payload came in.
    most_queued: usize,
    most_due: u64,
    /// How many more bytes may be written before the stream fails once.
    fails_after: Option<usize>,
}

impl MemoryServer {
    fn new(cut: usize) -> Self {
        let features = ExportFeatures { fast_zero: FastZero::Done, ..ExportFeatures::default() };
        let export = Export::new(ExportId(0), "vz", SIZE as u64, 512).unwrap().with_features(features);
        MemoryServer {
            catalog: ExportCatalog::new(vec![export], Some(ExportId(0))),
            negotiation: Negotiation::new(TlsPolicy::Off),
            transmission: None,
            disk: vec![0; SIZE],
            bad_sector: None,
            writing: None,
            queue: Vec::new(),
            replies: Negotiation::greeting().into_iter().collect(),
            cut,
            over: false,
            flushes: 0,
            most_queued: 0,
            most_due: 0,
            fails_after: None,
        }
    }

    fn receive(&mut self, mut input: &[u8]) {
        while self.transmission.is_none() && !self.over {
            let mut out = Vec::new();
            let step = self.negotiation.receive(&self.catalog, &mut input, &mut out);
            self.replies.extend(out);
            match step {
                NegotiationStep::NeedMore => return,
                NegotiationStep::Replied => {}
                NegotiationStep::Transmission(negotiated) => {
                    let export = self.catalog.get(negotiated.export).unwrap();
                    self.transmission = Some(Transmission::new(export, &negotiated));
                }
                other => panic!("{other:?}"),
            }
        }
        while let Some(transmission) = self.transmission.as_mut().filter(|_| !self.over) {
            match transmission.next(&mut input) {
                Parsed::NeedMore => return,
                Parsed::Request(request) => self.queue.push((request, Vec::new())),
                Parsed::Write(request) => self.writing = Some((request, Vec::new())),
                Parsed::Payload { bytes, remaining } => {
                    self.writing.as_mut().unwrap().1.extend_from_slice(bytes);
                    let reads = |request: &Request| matches!(request.command, Command::Read { .. });
                    let due = self.queue.iter().filter(|(request, _)| reads(request));
                    self.most_due = self.most_due.max(due.map(|(request, _)| u64::from(request.range.length)).sum());
                    if remaining == 0 {
                        self.queue.extend(self.writing.take());
                    }
                }
                Parsed::Reject { frame, .. } => self.send(frame),
                Parsed::Disconnect => self.over = true,
                Parsed::Broken(error) => panic!("{error}"),
            }
        }
    }

    fn send(&mut self, frame: Frame) {
        self.replies.extend(frame.encode().as_ref());
    }

    /// Executes everything queued, and answers the newest first.
    fn execute(&mut self) {
        let mut answers = Vec::new();
        self.most_queued = self.most_queued.max(self.queue.len());
        for (request, payload) in std::mem::take(&mut self.queue) {
            let pieces: Vec<(ByteRange, Result<(), IoError>)> =
                request.pieces().map(|piece| (piece, self.execute_piece(&request, piece, &payload))).collect();
            let data = self.disk[span(request.range)].to_vec();
            answers.push((request, pieces, data));
        }
        for (request, mut pieces, data) in answers.into_iter().rev() {
            if let Command::BlockStatus { .. } = request.command {
                self.block_status(&request);
                continue;
            }
            pieces.reverse();
            self.answer(&request, &pieces, &data);
        }
    }

    fn execute_piece(&mut self, request: &Request, piece: ByteRange, payload: &[u8]) -> Result<(), IoError> {
        match request.command {
            Command::Write { .. } => {
                let at = (piece.offset - request.range.offset) as usize;
                self.disk[span(piece)].copy_from_slice(&payload[at..at + piece.length as usize]);
            }
            Command::Trim { .. } | Command::WriteZeroes { .. } => self.disk[span(piece)].fill(0),
            Command::Read { .. } => {
                let bad = |sector: u64| piece.overlaps(ByteRange::new(sector * 512, 512));
                return if self.bad_sector.is_some_and(bad) { Err(IoError::Io) } else { Ok(()) };
            }
            Command::Flush => self.flushes += 1,
            Command::Cache | Command::BlockStatus { .. } => {}
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request, pieces: &[(ByteRange, Result<(), IoError>)], data: &[u8]) {
        let structured = self.transmission.as_ref().unwrap().structured();
        let mut pending = PendingReply::new(request, structured);
        for (piece, result) in pieces {
            let at = (piece.offset - request.range.offset) as usize;
            let of_piece = || &data[at..at + piece.length as usize];
            match pending.piece_done(*piece, *result) {
                PieceAnswer::Wait | PieceAnswer::Keep => {}
                PieceAnswer::End(frame) => self.send(frame),
                PieceAnswer::Chunk(frame) | PieceAnswer::LastChunk(frame) => {
                    self.send(frame);
                    self.replies.extend(of_piece());
                }
                PieceAnswer::ChunkAndEnd(frame, end) => {
                    self.send(frame);
                    self.replies.extend(of_piece());
                    self.send(end);
                }
                PieceAnswer::Joined(frame) => {
                    self.send(frame);
                    self.replies.extend(data);
                }
            }
        }
    }

    fn block_status(&mut self, request: &Request) {
        let mut reply = BlockStatusReply::new(request, 512);
        while let Some(offset) = reply.wanted() {
            let zero = self.disk[offset as usize..][..512].iter().all(|byte| *byte == 0);
            reply.push(offset, 512, if zero { Allocation::Hole } else { Allocation::Data });
        }
        let mut out = Vec::new();
        reply.append_to(&mut out);
        self.replies.extend(out);
    }
}

fn span(range: ByteRange) -> std::ops::Range<usize> {
    range.offset as usize..range.end() as usize
}

impl Write for MemoryServer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.over {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut length = bytes.len().min(self.cut);
        if let Some(left) = &mut self.fails_after {
            if *left == 0 {
                self.fails_after = None;
                return Err(io::ErrorKind::TimedOut.into());
            }
            length = length.min(*left);
            *left -= length;
        }
        self.receive(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for MemoryServer {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.execute();
        let length = bytes.len().min(self.cut).min(self.replies.len());
        assert!(length > 0 || self.over, "the client waits for nothing");
        for byte in &mut bytes[..length] {
            *byte = self.replies.pop_front().unwrap();
        }
        Ok(length)
    }
}

fn connect(server: MemoryServer, structured: bool) -> BlockingClient<MemoryServer> {
    let options = ClientOptions { structured, block_status: structured, ..ClientOptions::new("vz") };
    BlockingClient::connect(server, options).unwrap()
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|index| (index as u8).wrapping_mul(31).wrapping_add((index >> 8) as u8) ^ seed).collect()
}

#[test]
fn the_client_learns_what_the_server_offers() {
    let client = connect(MemoryServer::new(usize::MAX), true);
    let welcome = client.welcome();
    assert_eq!(client.size_bytes(), SIZE as u64);
    assert!(welcome.structured && welcome.has_volatile_cache() && welcome.allocation_context.is_some());
    assert!(welcome.offers(protocol::transmission_flag::SEND_DF | protocol::transmission_flag::CAN_MULTI_CONN));
    assert_eq!(welcome.block_sizes, [512, 4096, 64 << 20]);

    let plain = connect(MemoryServer::new(usize::MAX), false);
    assert!(!plain.welcome().structured && plain.welcome().allocation_context.is_none());
    assert!(!plain.welcome().offers(protocol::transmission_flag::SEND_DF));
}

#[test]
fn an_export_that_is_not_there_is_refused_in_words() {
    let refused = BlockingClient::connect(MemoryServer::new(3), ClientOptions::new("other"));
    let Err(ClientError::Handshake(HandshakeError::Refused { reply, message })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((reply, message.as_str()), (protocol::option_reply::ERR_UNKNOWN, "no such export"));
}

#[test]
fn what_is_written_is_read_back_however_the_stream_is_cut() {
    for (cut, structured) in [(usize::MAX, true), (usize::MAX, false), (1000, true), (7, false), (1, true)] {
        let length = if cut > 100 { 3 << 20 } else { 64 << 10 };
        let mut client = connect(MemoryServer::new(cut), structured);
        let data = pattern(length, 1);
        client.write(512, &data, false).unwrap();
        client.flush().unwrap();
        let mut back = vec![0; length];
        client.read(512, &mut back).unwrap();
        assert!(back == data);
        assert_eq!(client.stream().flushes, 1);
        client.trim(ByteRange::new(1024, 1024), false).unwrap();
        client.write_zeroes(ByteRange::new(4096, 512), true, true).unwrap();
        client.read(512, &mut back).unwrap();
        assert!(back[..512] == data[..512] && back[512..1536].iter().all(|byte| *byte == 0));
        assert!(back[3584..4096].iter().all(|byte| *byte == 0) && back[4096..] == data[4096..]);
    }
}

#[test]
fn illegal_requests_are_told_and_the_connection_goes_on() {
    for structured in [true, false] {
        let mut client = connect(MemoryServer::new(100), structured);
        let mut error_of = |offset, length: usize| match client.write(offset, &vec![1; length], false) {
            Err(ClientError::Request(failure)) => {
                assert_eq!(failure.message.is_empty(), !structured);
                failure.error
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(error_of(SIZE as u64 - 512, 1024), NbdError::NoSpace);
        assert_eq!(error_of(1, 512), NbdError::Invalid);
        client.write(0, &[1; 512], true).unwrap();
        let beyond = client.call(Command::Read { unfragmented: false }, ByteRange::new(SIZE as u64, 512));
        assert!(matches!(beyond, Err(ClientError::Request(failure)) if failure.error == NbdError::Invalid));
        client.flush().unwrap();
    }
}

#[test]
fn a_read_that_fails_midway_is_an_error_with_its_place() {
    for structured in [true, false] {
        let mut server = MemoryServer::new(1 << 16);
        server.bad_sector = Some((1 << 20) / 512 + 3);
        let mut client = connect(server, structured);
        let failed = client.read(0, &mut vec![0; 3 << 20]);
        let Err(ClientError::Request(failure)) = failed else { panic!("{failed:?}") };
        assert_eq!(failure.error, NbdError::Io);
        assert_eq!(failure.offset, structured.then_some(1 << 20));
        client.read(0, &mut vec![0; 1 << 20]).unwrap();
    }
}

#[test]
fn an_unfragmented_read_comes_whole() {
    let mut client = connect(MemoryServer::new(5000), true);
    let longest = rep_nbd::limits::UNFRAGMENTED_LENGTH_MAX;
    let data = pattern(longest as usize, 9);
    client.write(0, &data, false).unwrap();
    let unfragmented = Command::Read { unfragmented: true };
    let outcome = client.call(unfragmented, ByteRange::new(0, longest)).unwrap();
    assert!(outcome == Outcome::Data(data));

    // What one chunk can't hold is refused before any of it is promised, and the connection goes on.
    let refused = client.call(unfragmented, ByteRange::new(0, longest + 512));
    let Err(ClientError::Request(failure)) = refused else { panic!("{refused:?}") };
    assert_eq!(failure.error, NbdError::Overflow);
    client.read(0, &mut [0; 512]).unwrap();
}

#[test]
fn block_status_tells_holes() {
    let mut client = connect(MemoryServer::new(64), true);
    client.write(4096, &[1; 512], false).unwrap();
    let extents = client.block_status(ByteRange::new(0, 8192)).unwrap();
    assert_eq!(extents, [(4096, Allocation::Hole), (512, Allocation::Data), (3584, Allocation::Hole)]);

    let mut plain = connect(MemoryServer::new(64), false);
    assert!(plain.block_status(ByteRange::new(0, 8192)).is_err());
    plain.flush().unwrap();
}

#[test]
fn many_requests_in_flight_are_each_answered_once() {
    let mut client = connect(MemoryServer::new(10_000), true);
    let mut cookies = Vec::new();
    for index in 0..3 * DEPTH_MAX {
        cookies.push(client.submit_write(index as u64 * 4096, &pattern(4096, index as u8), index % 7 == 0).unwrap());
    }
    let mut answered = Vec::new();
    while let Some(completion) = client.reap().unwrap() {
        assert_eq!(completion.result, Ok(Outcome::Done));
        answered.push(completion.cookie);
    }
    answered.sort();
    assert_eq!(answered, cookies);
    assert_eq!(client.in_flight(), 0);

    let range = |index: usize| ByteRange::new(index as u64 * 4096, 4096);
    let asked: Vec<u64> = (0..DEPTH_MAX)
        .map(|index| client.submit(Command::Read { unfragmented: false }, range(index)).unwrap())
        .collect();
    client.submit_write(SIZE as u64 - 512, &[7; 512], false).unwrap();
    for (index, cookie) in asked.into_iter().enumerate() {
        assert!(client.wait(cookie).unwrap() == Outcome::Data(pattern(4096, index as u8)));
    }
    assert_eq!(client.in_flight(), 1);
}

#[test]
fn neither_end_waits_for_the_other_to_read() {
    let mut client = connect(MemoryServer::new(usize::MAX), true);
    client.set_depth(20);
    for round in 0..10 {
        for index in 0..8 {
            client.submit(Command::Read { unfragmented: false }, ByteRange::new(index << 16, 64 << 10)).unwrap();
        }
        client.submit_write(round << 18, &pattern(200 << 10, round as u8), false).unwrap();
    }
    while let Some(completion) = client.reap().unwrap() {
        completion.result.unwrap();
    }
    let server = client.stream();
    assert!(server.most_queued <= 20, "{} requests waited", server.most_queued);
    assert!(server.most_due <= 128 << 10, "{} bytes were due", server.most_due);

    let mut client = connect(MemoryServer::new(usize::MAX), true);
    client.set_depth(5);
    for _ in 0..100 {
        client.submit(Command::Flush, ByteRange::new(0, 0)).unwrap();
        assert!(client.in_flight() <= 5 + 100);
    }
    while client.reap().unwrap().is_some() {}
    assert_eq!(client.stream().most_queued, 5);
}

#[test]
fn nothing_is_sent_behind_a_request_that_was_cut_short() {
    let mut client = connect(MemoryServer::new(usize::MAX), true);
    client.stream_mut().fails_after = Some(1000);
    let error = client.write(0, &pattern(300 << 10, 1), false);
    assert!(matches!(error, Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
    // The stream works again, but what came next would be taken for the rest of the payload.
    assert!(matches!(client.write(0, &pattern(300 << 10, 2), false), Err(ClientError::Closed)));
    client.submit(Command::Flush, ByteRange::new(0, 0)).unwrap();
    assert!(matches!(client.send(), Err(ClientError::Closed)));
    assert!(client.stream().disk.iter().all(|byte| *byte == 0));
}

#[test]
fn leaving_is_clean() {
    let mut client = connect(MemoryServer::new(5), true);
    client.write(0, &[1; 512], false).unwrap();
    client.disconnect().unwrap();
}

#[test]
fn a_server_that_goes_away_is_closed_not_a_success() {
    let mut client = connect(MemoryServer::new(usize::MAX), true);
    let answered = client.submit_write(0, &[1; 512], false).unwrap();
    client.send().unwrap();
    client.stream_mut().execute();
    let lost = client.submit_write(0, &[2; 512], false).unwrap();
    client.stream_mut().over = true;
    // The answer that had left is still taken; the other request stays unanswered, however often one asks.
    assert_eq!(client.reap().unwrap().map(|completion| completion.cookie), Some(answered));
    assert!(matches!(client.reap(), Err(ClientError::Io(_) | ClientError::Closed)));
    assert!(matches!(client.wait(lost), Err(ClientError::Closed)));
    assert_eq!(client.in_flight(), 1);
}

#[test]
fn a_server_that_never_greets_is_closed() {
    let mut server = MemoryServer::new(usize::MAX);
    server.over = true;
    server.replies.clear();
    assert!(matches!(BlockingClient::connect(server, ClientOptions::new("")), Err(ClientError::Closed)));
}

#[derive(Clone, Debug)]
enum Step {
    Write { sector: usize, sectors: usize, seed: u8 },
    Zero { sector: usize, sectors: usize },
    Read { sector: usize, sectors: usize },
    Reap,
}

fn any_step() -> impl Strategy<Value = Step> {
    let place = (0usize..64, 1usize..64);
    prop_oneof![
        (place.clone(), any::<u8>()).prop_map(|((sector, sectors), seed)| Step::Write { sector, sectors, seed }),
        place.clone().prop_map(|(sector, sectors)| Step::Zero { sector, sectors }),
        place.prop_map(|(sector, sectors)| Step::Read { sector, sectors }),
        Just(Step::Reap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A model: what a read brings is what had been submitted before it, whatever is in flight and however the stream
    /// is cut (this server executes in the order requests come).
    #[test]
    fn a_pipelined_client_reads_what_it_wrote(
        steps in prop::collection::vec(any_step(), 1..40),
        cut in 1usize..5000, structured in any::<bool>(), depth in 1usize..20,
    ) {
        let mut client = connect(MemoryServer::new(cut), structured);
        client.set_depth(depth);
        let mut model = vec![0; SIZE];
        let mut expected = std::collections::HashMap::new();
        for step in steps {
            match step {
                Step::Write { sector, sectors, seed } => {
                    let data = pattern(sectors * 512, seed);
                    model[sector * 512..][..data.len()].copy_from_slice(&data);
                    expected.insert(client.submit_write(sector as u64 * 512, &data, false).unwrap(), Outcome::Done);
                }
                Step::Zero { sector, sectors } => {
                    let range = ByteRange::new(sector as u64 * 512, sectors as u32 * 512);
                    model[span(range)].fill(0);
                    let command = Command::WriteZeroes { no_hole: false, fast: true, fua: false };
                    expected.insert(client.submit(command, range).unwrap(), Outcome::Done);
                }
                Step::Read { sector, sectors } => {
                    let range = ByteRange::new(sector as u64 * 512, sectors as u32 * 512);
                    let outcome = Outcome::Data(model[span(range)].to_vec());
                    expected.insert(client.submit(Command::Read { unfragmented: false }, range).unwrap(), outcome);
                }
                Step::Reap => {
                    if let Some(completion) = client.reap().unwrap() {
                        prop_assert_eq!(completion.result.ok(), expected.remove(&completion.cookie));
                    }
                }
            }
        }
        while let Some(completion) = client.reap().unwrap() {
            prop_assert_eq!(completion.result.ok(), expected.remove(&completion.cookie));
        }
        prop_assert!(expected.is_empty());
    }
}
