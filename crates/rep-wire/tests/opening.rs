//! The opening: what two right ends agree on, and how each wrong one is named.

use proptest::prelude::*;
use rep_types::{NodeName, ResourceName};
use rep_wire::limits::OPENING_LENGTH_MAX;
use rep_wire::{
    Agreed, Message, Opening, OpeningConfig, OpeningError, OpeningRandom, OpeningSide, Parsed, Progress, RejectReason,
    Secret, TransferId,
};

fn resource(name: &str) -> ResourceName {
    ResourceName::new(name).expect("a name")
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn secret(bytes: &str) -> Option<Secret> {
    Some(Secret::new(bytes).expect("a secret"))
}

fn alpha() -> OpeningConfig {
    OpeningConfig::new(resource("vz"), node("alpha"), node("beta"), secret("s3cret"))
}

fn beta() -> OpeningConfig {
    OpeningConfig::new(resource("vz"), node("beta"), node("alpha"), secret("s3cret"))
}

fn random(byte: u8) -> OpeningRandom {
    OpeningRandom { nonce: [byte; 32], session: 1000 + u64::from(byte) }
}

fn dialer(config: OpeningConfig) -> Opening {
    Opening::new(OpeningSide::Dialer, config, random(1))
}

fn listener(config: OpeningConfig) -> Opening {
    Opening::new(OpeningSide::Listener, config, random(2))
}

/// How both ends came out, after everything was carried back and forth in pieces of that size.
struct Outcome {
    dialer: Result<Progress, OpeningError>,
    listener: Result<Progress, OpeningError>,
    to_dialer: Vec<u8>,
    to_listener: Vec<u8>,
}

fn run(dialer: &mut Opening, listener: &mut Opening, piece: usize) -> Outcome {
    let waiting = || Ok(Progress::Waiting);
    let mut outcome =
        Outcome { dialer: waiting(), listener: waiting(), to_dialer: Vec::new(), to_listener: Vec::new() };
    loop {
        let (forth, back) = (dialer.take_outgoing(), listener.take_outgoing());
        if forth.is_empty() && back.is_empty() {
            return outcome;
        }
        for (bytes, end, result) in
            [(&forth, &mut *listener, &mut outcome.listener), (&back, &mut *dialer, &mut outcome.dialer)]
        {
            for bytes in bytes.chunks(piece) {
                *result = end.receive(bytes).map(|received| received.progress);
            }
        }
        outcome.to_listener.extend(forth);
        outcome.to_dialer.extend(back);
    }
}

fn meet(a: OpeningConfig, b: OpeningConfig) -> Outcome {
    run(&mut dialer(a), &mut listener(b), usize::MAX)
}

#[track_caller]
fn agreed(result: &Result<Progress, OpeningError>) -> Agreed {
    match result {
        Ok(Progress::Open(agreed)) => *agreed,
        other => panic!("not open: {other:?}"),
    }
}

#[track_caller]
fn rejected_for(result: &Result<Progress, OpeningError>, reason: RejectReason) {
    match result {
        Err(OpeningError::Rejected { reason: found, .. }) => assert_eq!(*found, reason),
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn two_right_ends_agree_and_their_frames_fit() {
    let outcome = meet(alpha(), beta());
    let (a, b) = (agreed(&outcome.dialer), agreed(&outcome.listener));
    assert_eq!((a.session_to_peer, a.session_from_peer), (1002, 1001));
    assert_eq!((b.session_to_peer, b.session_from_peer), (1001, 1002));
    let (mut bytes, ping) = (Vec::new(), Message::Ping { id: TransferId(1) });
    a.writer().encode(&ping, 0, &mut bytes).expect("legal");
    assert!(matches!(b.reader().parse(&bytes), Ok(Parsed::Frame(frame)) if frame.message == ping));
    assert!(a.reader().parse(&bytes).is_err(), "a frame can't be sent back to its sender");
}

#[test]
fn the_opening_stands_in_pieces_of_any_size_and_within_its_limit() {
    for piece in 1..200 {
        let outcome = run(&mut dialer(alpha()), &mut listener(beta()), piece);
        agreed(&outcome.dialer);
        agreed(&outcome.listener);
        assert!(outcome.to_dialer.len() <= OPENING_LENGTH_MAX && outcome.to_listener.len() <= OPENING_LENGTH_MAX);
    }
}

#[test]
fn the_longest_names_fit() {
    let long = |letter: &str| letter.repeat(64);
    let a = OpeningConfig::new(resource(&long("r")), node(&long("a")), node(&long("b")), secret("x"));
    let b = OpeningConfig::new(resource(&long("r")), node(&long("b")), node(&long("a")), secret("x"));
    let outcome = meet(a, b);
    agreed(&outcome.dialer);
    agreed(&outcome.listener);
}

#[test]
fn frames_right_behind_the_proof_are_left_to_the_reader() {
    let (mut a, mut b) = (dialer(alpha()), listener(beta()));
    b.receive(&a.take_outgoing()).expect("a hello");
    a.receive(&b.take_outgoing()).expect("a hello");
    let received = b.receive(&a.take_outgoing()).expect("a proof");
    let Progress::Open(agreed) = received.progress else { panic!("not open") };
    let mut bytes = b.take_outgoing();
    let proof_length = bytes.len();
    agreed.writer().encode(&Message::Ping { id: TransferId(1) }, 0, &mut bytes).expect("legal");
    let received = a.receive(&bytes).expect("a proof and a frame");
    assert_eq!(received.consumed, proof_length);
    let Progress::Open(agreed) = received.progress else { panic!("not open") };
    assert!(matches!(agreed.reader().parse(&bytes[proof_length..]), Ok(Parsed::Frame(_))));
}

#[test]
fn without_a_secret_on_either_node_it_opens_too() {
    let open = |config: OpeningConfig| OpeningConfig { secret: None, ..config };
    let outcome = meet(open(alpha()), open(beta()));
    agreed(&outcome.dialer);
    agreed(&outcome.listener);
}

#[test]
fn a_wrong_secret_is_named_and_the_peer_learns_no_more() {
    let outcome = meet(alpha(), OpeningConfig { secret: secret("other"), ..beta() });
    assert_eq!(outcome.listener, Err(OpeningError::WrongSecret));
    rejected_for(&outcome.dialer, RejectReason::WrongSecret);
}

#[test]
fn a_secret_on_one_node_only_is_named_on_both() {
    let without = |config: OpeningConfig| OpeningConfig { secret: None, ..config };
    let outcome = meet(without(alpha()), beta());
    assert_eq!(outcome.listener, Err(OpeningError::PeerHasNoSecret));
    rejected_for(&outcome.dialer, RejectReason::SecretRequired);
    let outcome = meet(alpha(), without(beta()));
    assert_eq!(outcome.listener, Err(OpeningError::NoSecretHere));
    rejected_for(&outcome.dialer, RejectReason::NoSecretConfigured);
}

#[test]
fn another_resource_is_named() {
    let outcome = meet(alpha(), OpeningConfig { resource: resource("www"), ..beta() });
    let (theirs, ours) = (resource("vz"), resource("www"));
    assert_eq!(outcome.listener, Err(OpeningError::OtherResource { theirs, ours }));
    rejected_for(&outcome.dialer, RejectReason::OtherResource);
}

#[test]
fn another_node_is_named() {
    let outcome = meet(OpeningConfig { node: node("gamma"), ..alpha() }, beta());
    let (found, expected) = (node("gamma"), node("alpha"));
    assert_eq!(outcome.listener, Err(OpeningError::UnexpectedNode { found, expected }));
    rejected_for(&outcome.dialer, RejectReason::UnexpectedNode);
    let outcome = meet(OpeningConfig { peer: node("gamma"), ..alpha() }, beta());
    let (meant, ours) = (node("gamma"), node("beta"));
    assert_eq!(outcome.listener, Err(OpeningError::NotMeant { meant, ours }));
    rejected_for(&outcome.dialer, RejectReason::NotThatNode);
}

#[test]
fn the_newest_common_version_is_taken_and_none_in_common_is_named_with_both() {
    let spoken = |config: OpeningConfig, version_min, version_max| OpeningConfig { version_min, version_max, ..config };
    let outcome = meet(spoken(alpha(), 1, 5), spoken(beta(), 2, 3));
    assert_eq!((agreed(&outcome.dialer).version, agreed(&outcome.listener).version), (3, 3));
    let outcome = meet(spoken(alpha(), 1, 1), spoken(beta(), 2, 3));
    assert_eq!(outcome.listener, Err(OpeningError::VersionTooOld { peer_max: 1, own_min: 2 }));
    let reason = RejectReason::Version;
    assert_eq!(outcome.dialer, Err(OpeningError::Rejected { reason, versions: (2, 3) }));
    let outcome = meet(spoken(alpha(), 4, 5), spoken(beta(), 2, 3));
    assert_eq!(outcome.listener, Err(OpeningError::VersionTooNew { peer_min: 4, own_max: 3 }));
}

#[test]
fn only_features_of_both_are_agreed_on() {
    let offers = |config: OpeningConfig, features| OpeningConfig { features, ..config };
    let outcome = meet(offers(alpha(), 0b0110), offers(beta(), 0b1100));
    assert_eq!((agreed(&outcome.dialer).features, agreed(&outcome.listener).features), (0b0100, 0b0100));
}

#[test]
fn two_dialers_are_told_apart() {
    let (mut a, mut b) = (dialer(alpha()), dialer(beta()));
    let outcome = run(&mut a, &mut b, usize::MAX);
    assert!(outcome.dialer.is_err() && outcome.listener.is_err());
    assert_eq!(b.receive(&[]), Err(OpeningError::SameSide));
}

/// Someone without the secret sends an end's own bytes back to it.
#[test]
fn bytes_sent_back_open_nothing() {
    let (mut a, mut b) = (dialer(alpha()), listener(beta()));
    b.receive(&a.take_outgoing()).expect("a hello");
    a.receive(&b.take_outgoing()).expect("a hello");
    let proof = a.take_outgoing();
    assert_eq!(a.receive(&proof), Err(OpeningError::WrongSecret));
}

/// A recorded dialer's hello and proof are of no use against a listener with a new nonce.
#[test]
fn a_replayed_opening_opens_nothing() {
    let recorded = meet(alpha(), beta()).to_listener;
    let mut fresh = Opening::new(OpeningSide::Listener, beta(), random(3));
    assert_eq!(fresh.receive(&recorded), Err(OpeningError::WrongSecret));
}

#[test]
fn other_protocols_are_told_at_once_and_get_no_answer() {
    for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), b"N", b"REPF"] {
        let mut end = listener(beta());
        assert_eq!(end.receive(bytes), Err(OpeningError::NotOurProtocol));
        assert!(end.take_outgoing().is_empty());
    }
}

#[test]
fn a_listener_tells_strangers_nothing_before_their_hello_and_no_proof_before_theirs() {
    assert!(listener(beta()).take_outgoing().is_empty());
    let (mut a, mut b) = (dialer(alpha()), listener(beta()));
    b.receive(&a.take_outgoing()).expect("a hello");
    let hello = b.take_outgoing();
    // A hello and nothing behind it: its length is the envelope's.
    assert_eq!(hello.len(), 12 + usize::from(u16::from_le_bytes([hello[6], hello[7]])));
    assert_eq!(hello[4], 1);
}

#[test]
fn lengths_and_amounts_beyond_the_limit_are_refused() {
    let mut hello = dialer(alpha()).take_outgoing();
    hello[6..8].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(listener(beta()).receive(&hello), Err(OpeningError::TooLong));
}

#[test]
fn messages_out_of_turn_are_refused() {
    let recorded = meet(alpha(), beta()).to_listener;
    let hello_length = dialer(alpha()).take_outgoing().len();
    assert_eq!(listener(beta()).receive(&recorded[hello_length..]), Err(OpeningError::Unexpected));
    let twice = [&recorded[..hello_length], &recorded[..hello_length]].concat();
    assert_eq!(listener(beta()).receive(&twice), Err(OpeningError::Unexpected));
}

#[test]
fn an_error_is_final() {
    let mut end = listener(beta());
    assert!(end.receive(b"nonsense").is_err());
    assert_eq!(end.receive(&dialer(alpha()).take_outgoing()), Err(OpeningError::NotOurProtocol));
}

#[test]
fn the_secret_is_never_printed() {
    let printed = format!("{:?} {:?}", alpha(), dialer(alpha()));
    assert!(!printed.contains("s3cret") && !printed.contains("115, 51"), "{printed}");
}

#[test]
fn an_empty_secret_is_none_to_be_used() {
    assert!(Secret::new("").is_err());
}

proptest! {
    /// A damaged bit anywhere, in either direction: it never opens on the end that received it.
    #[test]
    fn any_damaged_bit_keeps_it_shut(position in any::<prop::sample::Index>(), bit in 0u32..8, forth in any::<bool>()) {
        let (mut a, mut b) = (dialer(alpha()), listener(beta()));
        let (mut to_listener, mut to_dialer) = (a.take_outgoing(), Vec::new());
        let whole = meet(alpha(), beta());
        let length = if forth { whole.to_listener.len() } else { whole.to_dialer.len() };
        let damaged = position.index(length);
        let (mut passed_forth, mut passed_back) = (0, 0);
        let mut progress = (Progress::Waiting, Progress::Waiting);
        loop {
            if forth && (passed_forth..passed_forth + to_listener.len()).contains(&damaged) {
                to_listener[damaged - passed_forth] ^= 1u8 << bit;
            }
            passed_forth += to_listener.len();
            let Ok(received) = b.receive(&to_listener) else { break };
            progress.1 = received.progress;
            to_dialer.clear();
            to_dialer.extend(b.take_outgoing());
            if !forth && (passed_back..passed_back + to_dialer.len()).contains(&damaged) {
                to_dialer[damaged - passed_back] ^= 1u8 << bit;
            }
            passed_back += to_dialer.len();
            let Ok(received) = a.receive(&to_dialer) else { break };
            progress.0 = received.progress;
            to_listener.clear();
            to_listener.extend(a.take_outgoing());
            if to_listener.is_empty() {
                break;
            }
        }
        let received = if forth { progress.1 } else { progress.0 };
        prop_assert_eq!(received, Progress::Waiting);
    }

    /// A hello that says anything at all, rightly sealed: no panic, and never open without the proof.
    #[test]
    fn sealed_hellos_of_any_kind_open_nothing(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let mut hello = dialer(alpha()).take_outgoing();
        for (position, value) in edits {
            let index = 12 + position.index(hello.len() - 12);
            hello[index] = value;
        }
        let sealed = [&hello[..8], &hello[12..]].concat();
        hello[8..12].copy_from_slice(&(rep_wire::PayloadSum::Crc32.of(&sealed) as u32).to_le_bytes());
        let mut end = listener(beta());
        if let Ok(received) = end.receive(&hello) {
            prop_assert_eq!(received.progress, Progress::Waiting);
        }
    }
}
