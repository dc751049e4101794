use super::*;
use crate::fields::Fields;
use Allocation::{Data, Hole, Zero};
use proptest::prelude::*;
use rep_types::ByteRange;

fn request(offset: u64, length: u32, one: bool) -> Request {
    Request { cookie: 7, command: Command::BlockStatus { one }, range: ByteRange::new(offset, length) }
}

fn descriptors(reply: BlockStatusReply) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    reply.append_to(&mut out);
    let (head, payload) = out.split_at(24);
    let length = (out.len() - 20) as u32;
    let expected = [&chunk_header(chunk::BLOCK_STATUS, chunk::FLAG_DONE, 7, length)[..], &[0, 0, 0, 1]].concat();
    assert_eq!(head, expected);
    let mut fields = Fields(payload);
    let mut descriptors = Vec::new();
    while !fields.is_empty() {
        descriptors.push((fields.u32().unwrap(), fields.u32().unwrap()));
    }
    descriptors
}

fn reply(min_block: u32, request: Request, stretches: &[(u64, u64, Allocation)]) -> Vec<(u32, u32)> {
    let mut reply = BlockStatusReply::new(&request, min_block);
    for (offset, length, what) in stretches {
        reply.push(*offset, *length, *what);
    }
    descriptors(reply)
}

#[test]
fn stretches_become_descriptors() {
    let told = [(0, 4096, Data), (4096, 4096, Hole), (8192, 4096, Zero), (12288, 4096, Data)];
    assert_eq!(reply(512, request(0, 16384, false), &told), [(4096, 0), (4096, 3), (4096, 2), (4096, 0)]);
}

#[test]
fn equal_neighbours_are_joined_and_edges_cut() {
    let told = [(0, 8192, Hole), (8192, 8192, Hole), (16384, 1 << 40, Data)];
    assert_eq!(reply(512, request(4096, 16384, false), &told), [(12288, 3), (4096, 0)]);
}

#[test]
fn one_descriptor_if_one_is_wanted() {
    let told = [(0, 4096, Data), (4096, 4096, Hole), (8192, 8192, Data)];
    assert_eq!(reply(512, request(0, 16384, true), &told), [(4096, 0)]);
    assert_eq!(reply(512, request(4096, 12288, true), &told), [(4096, 3)]);
    let joined = [(0, 4096, Hole), (4096, 4096, Hole)];
    assert_eq!(reply(512, request(0, 8192, true), &joined), [(8192, 3)]);
}

#[test]
fn a_full_reply_takes_nothing_more() {
    let told = [(0, 4096, Hole), (4097, 12287, Hole)];
    assert_eq!(reply(4096, request(0, 16384, true), &told), [(4096, 3)]);
}

#[test]
fn nothing_told_counts_as_data() {
    assert_eq!(reply(512, request(512, u32::MAX - 511, false), &[]), [(u32::MAX - 511, 0)]);
    assert_eq!(reply(512, request(0, 512, true), &[]), [(512, 0)]);
}

#[test]
fn what_is_not_a_whole_block_of_zeroes_is_data() {
    let told = [(0, 1000, Data), (1000, 9000, Hole), (10000, 6384, Data)];
    assert_eq!(reply(4096, request(0, 16384, false), &told), [(4096, 0), (4096, 3), (8192, 0)]);
    assert_eq!(reply(4096, request(0, 8192, false), &[(100, 4000, Hole)]), [(8192, 0)]);
}

#[test]
fn a_gap_between_stretches_is_data() {
    assert_eq!(reply(512, request(0, 8192, false), &[(4096, 4096, Hole)]), [(4096, 0), (4096, 3)]);
}

#[test]
fn a_reply_is_capped_and_says_so() {
    let mut reply = BlockStatusReply::new(&request(0, 1 << 30, false), 512);
    let mut pushed = 0;
    while let Some(offset) = reply.wanted() {
        let what = if pushed % 2 == 0 { Data } else { Hole };
        reply.push(offset, 512, what);
        pushed += 1;
    }
    assert_eq!(pushed, BLOCK_STATUS_DESCRIPTORS_MAX + 1, "the one too many is refused");
    assert_eq!(descriptors(reply).len(), BLOCK_STATUS_DESCRIPTORS_MAX);
}

#[test]
fn offsets_near_the_largest_do_no_harm() {
    let range = request(u64::MAX - 4095, 2048, false);
    let told = [(u64::MAX - 4095, u64::MAX, Hole), (u64::MAX, u64::MAX, Data), (0, u64::MAX, Data)];
    assert_eq!(reply(512, range, &told), [(2048, 3)]);
}

proptest! {
    /// Whatever is told in whatever order: whole blocks, never empty, inside the range, neighbours differ, and zeroes
    /// only where zeroes were told.
    #[test]
    fn replies_are_always_legal(
        first in 0u64..8, blocks in 1u32..16, one in any::<bool>(),
        told in prop::collection::vec((0u64..90_000, 0u64..30_000, 0usize..3), 0..12),
    ) {
        let range = request(first * 4096, blocks * 4096, one);
        let told: Vec<_> = told.into_iter().map(|(o, l, k)| (o, l, [Data, Zero, Hole][k])).collect();
        let descriptors = reply(4096, range, &told);
        let mut at = range.range.offset;
        for (index, (length, flags)) in descriptors.iter().enumerate() {
            prop_assert!(*length > 0 && length.is_multiple_of(4096));
            prop_assert!(index == 0 || descriptors[index - 1].1 != *flags);
            if *flags != 0 {
                let zero = |byte: u64| told.iter().any(|(o, l, k)| *k != Data && (*o..*o + *l).contains(&byte));
                prop_assert!((at..at + u64::from(*length)).step_by(512).all(zero));
            }
            at += u64::from(*length);
        }
        prop_assert!(!descriptors.is_empty() && at <= range.range.end());
        prop_assert!(!one || descriptors.len() == 1);
    }
}
