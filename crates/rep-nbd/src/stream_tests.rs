use super::*;
use proptest::prelude::*;

const MIB: u32 = 1 << 20;

fn read(length: u32) -> Request {
    Request { cookie: 9, command: Command::Read { unfragmented: false }, range: ByteRange::new(4096, length) }
}

/// Answers the pieces in this order; the named one, if any, with an error. The buffers are the pieces themselves.
fn answered(length: u32, order: &[usize], failing: Option<usize>) -> Vec<StreamStep<ByteRange>> {
    let request = read(length);
    let pieces: Vec<ByteRange> = request.pieces().collect();
    let mut reply = StreamedReply::new(&request, false).expect("a long read");
    let mut steps = Vec::new();
    for (n, index) in order.iter().enumerate() {
        assert!(!reply.has_ended(), "before piece {n}");
        let result = if failing == Some(*index) { Err(IoError::Io) } else { Ok(()) };
        reply.piece_done(pieces[*index], result, pieces[*index], |step| steps.push(step));
    }
    assert!(reply.has_ended() && reply.early.is_empty());
    steps
}

fn head(result: Result<(), NbdError>) -> StreamStep<ByteRange> {
    StreamStep::Frame(Frame::Simple { cookie: 9, result })
}

#[test]
fn only_a_long_read_without_structured_replies_is_streamed() {
    assert!(StreamedReply::<()>::new(&read(MIB), false).is_none());
    assert!(StreamedReply::<()>::new(&read(MIB + 512), true).is_none());
    assert!(StreamedReply::<()>::new(&read(MIB + 512), false).is_some());
    let write = Request { command: Command::Write { fua: false }, ..read(2 * MIB) };
    assert!(StreamedReply::<()>::new(&write, false).is_none());
}

#[test]
fn what_comes_early_waits_for_its_turn() {
    let request = read(3 * MIB);
    let pieces: Vec<ByteRange> = request.pieces().collect();
    let expected =
        [head(Ok(())), StreamStep::Data(pieces[0]), StreamStep::Data(pieces[1]), StreamStep::Data(pieces[2])];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        assert_eq!(answered(3 * MIB, &order, None), expected, "{order:?}");
    }
}

#[test]
fn a_failure_before_the_head_is_told_when_all_is_answered() {
    let steps = answered(3 * MIB, &[1, 2, 0], Some(0));
    assert_eq!(steps.last(), Some(&head(Err(NbdError::Io))));
    assert!(steps[..3].iter().all(|step| matches!(step, StreamStep::Release(_))));
    assert_eq!(steps.len(), 4);
}

#[test]
fn a_failure_behind_the_head_ends_the_connection() {
    let steps = answered(3 * MIB, &[0, 1, 2], Some(1));
    let pieces: Vec<ByteRange> = read(3 * MIB).pieces().collect();
    let release = |n: usize| StreamStep::Release(pieces[n]);
    assert_eq!(steps, [head(Ok(())), StreamStep::Data(pieces[0]), release(1), StreamStep::HangUp, release(2)]);
}

proptest! {
    #[test]
    fn bytes_leave_in_order_and_every_buffer_comes_out_once(
        order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        failing in proptest::option::of(0..9_usize),
    ) {
        let length = 8 * MIB + 512;
        let steps = answered(length, &order, failing);
        let mut out: Vec<u64> = Vec::new();
        let mut next = 4096;
        let mut heads = 0;
        for step in &steps {
            match step {
                StreamStep::Frame(_) => heads += 1,
                StreamStep::Data(piece) => {
                    prop_assert_eq!((heads, piece.offset), (1, next));
                    next = piece.end();
                    out.push(piece.offset);
                }
                StreamStep::Release(piece) => out.push(piece.offset),
                StreamStep::HangUp => prop_assert!(heads == 1 && failing.is_some()),
            }
        }
        out.sort_unstable();
        let all: Vec<u64> = read(length).pieces().map(|piece| piece.offset).collect();
        prop_assert_eq!(out, all);
        prop_assert_eq!(next == 4096 + u64::from(length), failing.is_none());
        prop_assert_eq!(heads, 1);
    }
}
