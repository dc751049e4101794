use super::*;
use proptest::prelude::*;

const MIB: u32 = 1 << 20;

fn request(command: Command, length: u32) -> Request {
    Request { cookie: 7, command, range: ByteRange::new(8192, length) }
}

const READ: Command = Command::Read { unfragmented: false };
const READ_WHOLE: Command = Command::Read { unfragmented: true };

fn data(piece: ByteRange, done: bool) -> Frame {
    Frame::Data { cookie: 7, offset: piece.offset, length: piece.length, done }
}

fn ok_frame() -> Frame {
    Frame::Simple { cookie: 7, result: Ok(()) }
}

#[test]
fn requests_are_cut_where_the_engine_wants_it() {
    let lengths = |command, length| request(command, length).pieces().map(|piece| piece.length).collect::<Vec<_>>();
    assert_eq!(lengths(READ, 4096), [4096]);
    assert_eq!(lengths(Command::Write { fua: true }, 2 * MIB + 512), [MIB, MIB, 512]);
    assert_eq!(lengths(Command::Trim { fua: false }, 9 * MIB), [4 * MIB, 4 * MIB, MIB]);
    assert_eq!(lengths(Command::Flush, 0), [0]);
    assert_eq!(lengths(Command::BlockStatus { one: false }, u32::MAX), [u32::MAX]);
    let zeroes = request(Command::WriteZeroes { no_hole: false, fast: false, fua: false }, u32::MAX - 511);
    assert_eq!(zeroes.pieces().len(), 1024);
    assert_eq!(zeroes.pieces().last().map(ByteRange::end), Some(zeroes.range.end()));
}

#[test]
fn a_small_write_is_answered_at_once() {
    for structured in [false, true] {
        let write = request(Command::Write { fua: false }, 4096);
        let mut pending = PendingReply::new(&write, structured);
        assert_eq!(pending.piece_done(write.range, Ok(())), PieceAnswer::End(ok_frame()));
    }
}

#[test]
fn a_small_structured_read_is_one_last_chunk() {
    let read = request(READ, 4096);
    let mut pending = PendingReply::new(&read, true);
    assert_eq!(pending.piece_done(read.range, Ok(())), PieceAnswer::LastChunk(data(read.range, true)));
}

#[test]
fn a_long_structured_read_sends_its_pieces_as_they_come() {
    let read = request(READ, 3 * MIB);
    let pieces: Vec<ByteRange> = read.pieces().collect();
    let mut pending = PendingReply::new(&read, true);
    assert_eq!(pending.piece_done(pieces[2], Ok(())), PieceAnswer::Chunk(data(pieces[2], false)));
    assert_eq!(pending.piece_done(pieces[0], Ok(())), PieceAnswer::Chunk(data(pieces[0], false)));
    assert_eq!(pending.piece_done(pieces[1], Ok(())), PieceAnswer::LastChunk(data(pieces[1], true)));
}

#[test]
fn a_read_in_one_chunk_waits_for_all_pieces() {
    let simple = (READ, false, ok_frame());
    let whole = (READ_WHOLE, true, data(ByteRange::new(8192, 2 * MIB), true));
    for (command, structured, frame) in [simple, whole] {
        let read = request(command, 2 * MIB);
        let pieces: Vec<ByteRange> = read.pieces().collect();
        let mut pending = PendingReply::new(&read, structured);
        assert_eq!(pending.piece_done(pieces[1], Ok(())), PieceAnswer::Keep);
        assert_eq!(pending.piece_done(pieces[0], Ok(())), PieceAnswer::Joined(frame));
    }
}

#[test]
fn a_structured_read_that_fails_midway_ends_with_the_place() {
    let read = request(READ, 3 * MIB);
    let pieces: Vec<ByteRange> = read.pieces().collect();
    let expected =
        |offset| Frame::ErrorAt { cookie: 7, error: NbdError::Io, offset, message: "the disks failed the request" };

    let mut pending = PendingReply::new(&read, true);
    assert_eq!(pending.piece_done(pieces[2], Err(IoError::Io)), PieceAnswer::Wait);
    assert!(pending.failed());
    assert_eq!(pending.piece_done(pieces[1], Err(IoError::Io)), PieceAnswer::Wait);
    let last = pending.piece_done(pieces[0], Ok(()));
    assert_eq!(last, PieceAnswer::ChunkAndEnd(data(pieces[0], false), expected(pieces[1].offset)));

    let mut pending = PendingReply::new(&read, true);
    assert_eq!(pending.piece_done(pieces[0], Ok(())), PieceAnswer::Chunk(data(pieces[0], false)));
    assert_eq!(pending.piece_done(pieces[2], Ok(())), PieceAnswer::Chunk(data(pieces[2], false)));
    let last = pending.piece_done(pieces[1], Err(IoError::Io));
    assert_eq!(last, PieceAnswer::End(expected(pieces[1].offset)));
}

#[test]
fn a_joined_read_that_fails_sends_no_data() {
    for order in [[0, 1], [1, 0]] {
        let read = request(READ, 2 * MIB);
        let pieces: Vec<ByteRange> = read.pieces().collect();
        let mut pending = PendingReply::new(&read, false);
        assert_eq!(pending.piece_done(pieces[order[0]], Err(IoError::Io)), PieceAnswer::Wait);
        let end = pending.piece_done(pieces[order[1]], Ok(()));
        assert_eq!(end, PieceAnswer::End(Frame::Simple { cookie: 7, result: Err(NbdError::Io) }));

        let mut pending = PendingReply::new(&read, false);
        assert_eq!(pending.piece_done(pieces[order[0]], Ok(())), PieceAnswer::Keep);
        let end = pending.piece_done(pieces[order[1]], Err(IoError::NotPrimary));
        assert_eq!(end, PieceAnswer::End(Frame::Simple { cookie: 7, result: Err(NbdError::Shutdown) }));
    }
}

#[test]
fn a_failed_write_has_words_where_the_client_can_take_them() {
    let write = request(Command::Write { fua: false }, 2 * MIB);
    for structured in [false, true] {
        let mut pending = PendingReply::new(&write, structured);
        let mut answers = write.pieces().map(|piece| pending.piece_done(piece, Err(IoError::NoSpace)));
        assert_eq!(answers.next(), Some(PieceAnswer::Wait));
        let (cookie, error) = (7, NbdError::NoSpace);
        let expected = match structured {
            true => Frame::Error { cookie, error, message: "the disk is full" },
            false => Frame::Simple { cookie, result: Err(error) },
        };
        assert_eq!(answers.next(), Some(PieceAnswer::End(expected)));
    }
}

#[test]
fn only_a_fast_zero_may_be_unsupported() {
    for (fast, error) in [(true, NbdError::NotSupported), (false, NbdError::Invalid)] {
        let zeroes = request(Command::WriteZeroes { no_hole: false, fast, fua: false }, 4096);
        let mut pending = PendingReply::new(&zeroes, false);
        let end = pending.piece_done(zeroes.range, Err(IoError::Unsupported));
        assert_eq!(end, PieceAnswer::End(Frame::Simple { cookie: 7, result: Err(error) }));
    }
}

#[test]
#[should_panic(expected = "every piece is answered once")]
fn answering_a_piece_twice_is_the_shells_mistake() {
    let write = request(Command::Flush, 0);
    let mut pending = PendingReply::new(&write, false);
    pending.piece_done(write.range, Ok(()));
    pending.piece_done(write.range, Ok(()));
}

proptest! {
    /// Whatever the order and the failures: one last frame, at the last piece; data at most once; an error iff a
    /// piece failed.
    #[test]
    fn a_reply_ends_once_and_fails_if_a_piece_did(
        results in prop::collection::vec(any::<bool>(), 1..8),
        order in any::<prop::sample::Index>(),
        style in 0usize..3,
    ) {
        let (command, structured) = [(READ, true), (READ_WHOLE, true), (READ, false)][style];
        let read = request(command, results.len() as u32 * MIB);
        let mut pieces: Vec<(ByteRange, bool)> = read.pieces().zip(results.iter().copied()).collect();
        let count = pieces.len();
        pieces.rotate_left(order.index(count));
        let mut pending = PendingReply::new(&read, structured);
        let mut sent = 0;
        for (index, (piece, good)) in pieces.iter().enumerate() {
            let answer = pending.piece_done(*piece, if *good { Ok(()) } else { Err(IoError::Io) });
            prop_assert_eq!(answer.ends(), index + 1 == count);
            let fails = |frame: Frame| matches!(frame, Frame::ErrorAt { .. } | Frame::Simple { result: Err(_), .. });
            match answer {
                PieceAnswer::Chunk(_) | PieceAnswer::LastChunk(_) => sent += piece.length,
                PieceAnswer::ChunkAndEnd(_, end) => {
                    sent += piece.length;
                    prop_assert!(fails(end));
                }
                PieceAnswer::Joined(_) => sent += read.range.length,
                PieceAnswer::End(frame) => prop_assert!(fails(frame)),
                PieceAnswer::Wait | PieceAnswer::Keep => {}
            }
        }
        let good = results.iter().filter(|good| **good).count() as u32;
        let all_good = good as usize == count;
        let expected = if style == 0 { good * MIB } else if all_good { read.range.length } else { 0 };
        prop_assert_eq!(sent, expected);
    }
}
